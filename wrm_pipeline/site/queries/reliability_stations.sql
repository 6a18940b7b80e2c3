-- Each station over the trailing window, the one with the most penalty minutes first.
WITH bounds AS (
    SELECT min(window_start) AS first_date, max(window_end) AS last_date FROM mart_station_reliability
),
observed AS (
    SELECT
        station_id,
        sum(round(minutes_observed * 60000)::BIGINT) AS ms,
        sum(round(minutes_empty * 60000)::BIGINT) AS empty_ms,
        sum(round(minutes_full * 60000)::BIGINT) AS full_ms,
        sum(round(minutes_service * 60000)::BIGINT) AS service_ms
    FROM fct_station_hour
    WHERE local_date BETWEEN (SELECT first_date FROM bounds) AND (SELECT last_date FROM bounds)
        AND regexp_full_match(station_id, '[0-9]{1,20}')
    GROUP BY station_id
),
counted AS (
    SELECT
        station_id,
        sum(outages_empty) AS outages_empty,
        sum(outages_full) AS outages_full,
        sum(round(penalty_minutes * 60000)::BIGINT) AS penalty_ms
    FROM mv_daily_aggregates
    WHERE local_date BETWEEN (SELECT first_date FROM bounds) AND (SELECT last_date FROM bounds)
    GROUP BY station_id
),
longest AS (
    SELECT station_id, max(minutes) AS minutes
    FROM fct_station_outage
    WHERE ended_at > (SELECT first_date::TIMESTAMP AT TIME ZONE 'Europe/Warsaw' FROM bounds)
    GROUP BY station_id
),
station AS (
    SELECT station_id, arg_max(name, version) AS name, arg_max(total_docks, version) AS docks
    FROM dim_station
    GROUP BY station_id
)
SELECT
    station_id AS id,
    station.name,
    station.docks,
    round(observed.ms / 60000, 1) AS minutes,
    round(observed.empty_ms / nullif(observed.ms, 0), 4) AS empty,
    round(observed.full_ms / nullif(observed.ms, 0), 4) AS full,
    round(observed.service_ms / nullif(observed.ms, 0), 4) AS service,
    coalesce(counted.outages_empty, 0) AS outages_empty,
    coalesce(counted.outages_full, 0) AS outages_full,
    round(coalesce(counted.penalty_ms, 0) / 60000, 1) AS penalty_minutes,
    round(longest.minutes, 1) AS longest_minutes
FROM observed
JOIN station USING (station_id)
LEFT JOIN counted USING (station_id)
LEFT JOIN longest USING (station_id)
ORDER BY coalesce(counted.penalty_ms, 0) DESC, station_id::HUGEINT, station_id

-- A station's date of the city's clock: what its hours add up to, and the episodes that ended on it.
-- Sources: fct_station_hour, fct_station_outage (of the two UTC days that the date lies in).
WITH hours AS (
    SELECT
        *,
        -- Milliseconds: sums of integers do not depend on their order.
        round(60000 * minutes_observed)::BIGINT AS observed_ms,
        round(60000 * minutes_empty)::BIGINT AS empty_ms,
        round(60000 * minutes_full)::BIGINT AS full_ms,
        round(60000 * minutes_service)::BIGINT AS service_ms
    FROM fct_station_hour
    WHERE local_date = getvariable('local_date')
),
summed AS (
    SELECT
        station_id,
        arg_max(station_key, hour_start) AS station_key,
        sum(observed_ms) AS observed_ms,
        sum(round(10000 * bikes_mean)::HUGEINT * observed_ms) AS bikes_e4_ms,
        min(bikes_low) AS bikes_low,
        max(bikes_high) AS bikes_high,
        sum(empty_ms) AS empty_ms,
        sum(full_ms) AS full_ms,
        sum(service_ms) AS service_ms,
        sum(inflow) AS inflow,
        sum(outflow) AS outflow
    FROM hours
    GROUP BY station_id
),
-- By its end: the episode that begins on a date and ends days later is not known in the date's two UTC days.
outages AS (
    SELECT
        station_id,
        count(*) FILTER (kind = 'empty') AS outages_empty,
        count(*) FILTER (kind = 'full') AS outages_full,
        sum(round(60000 * penalty_minutes)::BIGINT) AS penalty_ms
    FROM fct_station_outage
    WHERE NOT is_open AND local(ended_at)::DATE = getvariable('local_date')
    GROUP BY station_id
)
SELECT
    getvariable('local_date') AS local_date,
    station_id,
    station_key,
    minutes(observed_ms) AS minutes_observed,
    round(bikes_e4_ms / observed_ms / 10000, 4) AS bikes_mean,
    bikes_low,
    bikes_high,
    minutes(empty_ms) AS minutes_empty,
    minutes(full_ms) AS minutes_full,
    round(service_ms / observed_ms, 4) AS service_level,
    inflow::BIGINT AS inflow,
    outflow::BIGINT AS outflow,
    coalesce(outages_empty, 0)::INTEGER AS outages_empty,
    coalesce(outages_full, 0)::INTEGER AS outages_full,
    minutes(coalesce(penalty_ms, 0)) AS penalty_minutes
FROM summed
LEFT JOIN outages USING (station_id)
WHERE observed_ms > 0
ORDER BY local_date, station_id

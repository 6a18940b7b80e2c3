-- Episodes that are open, and those of at least 30 minutes that began in the newest 7 local days; open ones first, then
-- the longest. `total` counts those of any length.
WITH newest AS (
    SELECT *, count(*) OVER () AS total
    FROM fct_station_outage
    WHERE local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 7 OR is_open
),
station AS (
    SELECT station_id, arg_max(name, version) AS name
    FROM dim_station
    GROUP BY station_id
)
SELECT
    total,
    station_id AS id,
    coalesce(station.name, station_id) AS name,
    kind,
    epoch_ms(newest.started_at) // 1000 AS started_at,
    epoch_ms(ended_at) // 1000 AS ended_at,
    round(newest.minutes, 1) AS minutes,
    round(penalty_minutes, 1) AS penalty_minutes,
    is_open,
    start_known,
    end_known
FROM newest
LEFT JOIN station USING (station_id)
WHERE newest.minutes >= 30 OR is_open
ORDER BY is_open DESC, newest.minutes DESC, newest.started_at, station_id, kind
LIMIT 500

-- The newest 90 local days of each station.
SELECT
    station_id,
    local_date AS date,
    round(minutes_observed, 1) AS minutes_observed,
    round(minutes_empty, 1) AS minutes_empty,
    round(minutes_full, 1) AS minutes_full,
    round(service_level, 4) AS service,
    inflow,
    outflow,
    round(penalty_minutes, 1) AS penalty_minutes
FROM mv_daily_aggregates
WHERE local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 90
ORDER BY station_id, local_date

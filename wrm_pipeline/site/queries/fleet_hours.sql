-- The whole system in the hours that are over, of the newest 14 local days.
SELECT
    epoch_ms(hour_start) // 1000 AS t,
    round(bikes_at_stations, 2) AS at_stations,
    round(bikes_free_in_zone, 2) AS free_in_zone,
    round(bikes_off_zone, 2) AS off_zone,
    inflow,
    outflow,
    sampling_interval_s,
    round(stations_empty, 2) AS stations_empty,
    round(stations_full, 2) AS stations_full,
    round(minutes_service_share, 4) AS service,
    round(minutes_observed, 1) AS minutes_observed
FROM mart_system_hour
WHERE local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 14
    AND hour_end <= (SELECT newest_snapshot_at FROM marts_built)
    AND minutes_observed > 0
ORDER BY hour_start

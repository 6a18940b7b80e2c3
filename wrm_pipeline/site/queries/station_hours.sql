-- The hours of each station that are over, of the newest 14 local days.
SELECT
    station_id,
    epoch_ms(hour_start) // 1000 AS t,
    bikes_p10 AS p10,
    bikes_p50 AS p50,
    bikes_p90 AS p90,
    round(bikes_mean, 2) AS mean,
    bikes_low AS low,
    bikes_high AS high,
    total_docks AS docks
FROM fct_station_hour
WHERE local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 14
    AND hour_end <= (SELECT newest_snapshot_at FROM marts_built)
    AND minutes_observed > 0
ORDER BY station_id, hour_start

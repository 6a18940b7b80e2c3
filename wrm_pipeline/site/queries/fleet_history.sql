-- The whole system in the hours that are over, all there are. They are sampled before they are shown.
SELECT
    epoch_ms(hour_start) // 1000 AS t,
    round(bikes_at_stations, 2) AS at_stations,
    round(bikes_free_in_zone, 2) AS free_in_zone,
    round(stations_empty, 2) AS stations_empty,
    round(stations_full, 2) AS stations_full
FROM mart_system_hour
WHERE hour_end <= (SELECT newest_snapshot_at FROM marts_built) AND minutes_observed > 0
ORDER BY hour_start

-- The typical week of each station.
SELECT
    station_id,
    day_class,
    local_hour AS hour,
    days,
    round(bikes_p10, 2) AS p10,
    round(bikes_p50, 2) AS p50,
    round(bikes_p90, 2) AS p90,
    round(bikes_mean, 2) AS mean,
    round(share_empty, 4) AS empty,
    round(share_full, 4) AS full,
    round(share_service, 4) AS service
FROM mart_station_reliability
ORDER BY station_id, list_position(['workday', 'saturday', 'sunday_or_holiday'], day_class), local_hour

-- What each station was called, where it stood and how many docks it had, newest first.
SELECT
    station_id,
    station_key AS key,
    version,
    name,
    previous_name,
    total_docks AS docks,
    round(lat, 5) AS lat,
    round(lon, 5) AS lon,
    epoch_ms(valid_from) // 1000 AS valid_from,
    epoch_ms(valid_to) // 1000 AS valid_to,
    change,
    reused,
    round(moved_m, 1) AS moved_m
FROM dim_station
ORDER BY station_id, version DESC

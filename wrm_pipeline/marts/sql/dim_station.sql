-- Type 2 dimension of the stations: one row a version of a station, as known at the end of the newest day.
-- Source: newest_state_station_version.
SELECT
    station_key,
    station_id,
    version,
    name,
    previous_name,
    lat,
    lon,
    total_docks,
    valid_from,
    valid_to,
    is_current,
    change,
    reused,
    moved_m,
    last_seen_at
FROM newest_state_station_version
ORDER BY station_key

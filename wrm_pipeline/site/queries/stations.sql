-- Every station there ever was, as its last version has it. Ids that could not be part of a file's name are left out.
SELECT
    station_id AS id,
    arg_max(name, version) AS name,
    arg_max(total_docks, version) AS docks,
    bool_or(is_current) AS is_current,
    list_distinct(list(name) || list(previous_name)) AS names,
    epoch_ms(max(last_seen_at)) // 1000 AS last_seen_at,
    round(arg_max(lat, version), 5) AS lat,
    round(arg_max(lon, version), 5) AS lon,
    epoch_ms(min(valid_from)) // 1000 AS first_seen_at
FROM dim_station
WHERE regexp_full_match(station_id, '[0-9]{1,20}')
GROUP BY station_id
ORDER BY station_id::HUGEINT, station_id

-- The newest row of each station, with what it means: free docks, fill, and whether a bike or a dock can be had.
-- Sources: newest_state_station (all columns of enhanced), newest_state_station_version for the key.
WITH newest_version AS (
    SELECT station_id, arg_max(station_key, version) AS station_key
    FROM newest_state_station_version
    GROUP BY station_id
)
SELECT
    station.station_id,
    name,
    timestamp,
    gmt_local_diff_sec,
    gmt_servertime_diff_sec,
    lat,
    lon,
    bikes,
    spaces,
    installed,
    locked,
    temporary,
    total_docks,
    givesbonus_acceptspedelecs_fbbattlevel,
    pedelecs,
    gives_bonus,
    battery_level,
    s3_source_key,
    file_timestamp,
    record_type,
    date,
    in_service_area,
    quality_flags,
    station_key,
    greatest(total_docks - bikes, 0) AS docks_free,
    round(bikes / nullif(total_docks, 0), 4) AS fill,
    CASE
        WHEN total_docks = 0 THEN 'no_docks'
        WHEN bikes > total_docks THEN 'overfull'
        WHEN bikes = total_docks THEN 'full'
        WHEN bikes = 0 THEN 'empty'
        WHEN bikes < 2 THEN 'low'
        ELSE 'ok'
    END AS state,
    file_timestamp = getvariable('newest_snapshot_at') AS in_newest_snapshot
FROM newest_state_station AS station
JOIN newest_version USING (station_id)
ORDER BY station.station_id

-- Each station's newest row up to the end of the day, as enhanced has it. A station that was not seen for
-- `forget_after_days` days is let go.
-- Sources: enhanced, state_station of the day before.
WITH newest AS (
    SELECT station_id, max(file_timestamp) AS file_timestamp
    FROM enhanced
    WHERE record_type = 'station'
    GROUP BY station_id
),
latest AS (
    SELECT enhanced.*
    FROM enhanced
    JOIN newest USING (station_id, file_timestamp)
    UNION ALL BY NAME
    SELECT previous_state_station.*
    FROM previous_state_station
    ANTI JOIN newest USING (station_id)
)
SELECT
    station_id,
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
    quality_flags
FROM latest
WHERE file_timestamp
    >= getvariable('day_end') - to_days(getvariable('state_station.forget_after_days')::INTEGER)
ORDER BY station_id

-- Type 2 history of the stations: all versions of all of them as known at the end of the day.
-- A row of a station is held against the version it is in: another name, a place more than moved_over_m from the
-- version's, or another number of docks begins a new version. A version closes once closed_after whole snapshots in a
-- row came without the station; a snapshot is whole if it holds whole_share of the day's median number of stations.
-- Sources: the station rows of `enhanced`, and the history at the end of the newest earlier day.
WITH RECURSIVE station_row AS (
    SELECT station_id, file_timestamp, name, lat, lon, total_docks
    FROM enhanced
    WHERE record_type = 'station'
),
judged AS (
    SELECT
        file_timestamp,
        count(*) >= getvariable('state_station_version.whole_share') * median(count(*)) OVER () AS is_whole
    FROM station_row
    GROUP BY file_timestamp
),
-- Whole snapshots of the day up to each snapshot and with it, and the time of the first one after it.
snapshot AS (
    SELECT
        file_timestamp,
        is_whole::INTEGER AS is_whole,
        (count(*) FILTER (is_whole) OVER (ORDER BY file_timestamp))::INTEGER AS whole_until,
        min(file_timestamp) FILTER (is_whole) OVER (
            ORDER BY file_timestamp ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS next_whole_at
    FROM judged
),
whole AS (
    SELECT count(*)::INTEGER AS snapshots, min(file_timestamp) AS first_at FROM snapshot WHERE is_whole = 1
),
earlier AS (
    SELECT * FROM previous_state_station_version
),
carried AS (
    SELECT * FROM earlier QUALIFY row_number() OVER (PARTITION BY station_id ORDER BY version DESC) = 1
),
-- Each row beside the station's row before it on this day.
stepped AS (
    SELECT
        station_row.*,
        is_whole,
        whole_until,
        lag(file_timestamp) OVER steps AS before_at,
        lag(name) OVER steps AS before_name,
        lag(lat) OVER steps AS before_lat,
        lag(lon) OVER steps AS before_lon,
        lag(total_docks) OVER steps AS before_docks,
        lag(whole_until) OVER steps AS before_whole_until,
        lag(next_whole_at) OVER steps AS before_next_whole_at
    FROM station_row
    JOIN snapshot USING (file_timestamp)
    WINDOW steps AS (PARTITION BY station_id ORDER BY file_timestamp)
),
missing AS (
    SELECT
        stepped.*,
        -- Whole snapshots between the two rows, and the first of them.
        whole_until - is_whole - coalesce(before_whole_until, 0)
            + if(before_at IS NULL, coalesce(carried.missed, 0), 0) AS missed_before,
        if(before_at IS NULL, coalesce(carried.missing_since, whole.first_at), before_next_whole_at) AS missing_before
    FROM stepped
    LEFT JOIN carried USING (station_id)
    CROSS JOIN whole
),
-- The few rows at which a version can begin: a row equal to the one before it cannot.
point AS (
    SELECT *, row_number() OVER (PARTITION BY station_id ORDER BY file_timestamp) AS place
    FROM missing
    WHERE
        before_at IS NULL
        OR name <> before_name
        OR lat <> before_lat
        OR lon <> before_lon
        OR total_docks <> before_docks
        OR missed_before >= getvariable('state_station_version.closed_after')
),
history AS (
    SELECT
        point.station_id,
        0::BIGINT AS place,
        coalesce(version, 0) AS version,
        carried.name,
        carried.previous_name,
        carried.lat,
        carried.lon,
        carried.total_docks,
        carried.valid_from,
        carried.valid_to AS closed_at,
        NULL::VARCHAR AS change,
        false AS reused,
        NULL::DOUBLE AS moved_m,
        NULL::TIMESTAMPTZ AS before_closed_at,
        NULL::TIMESTAMPTZ AS before_seen_at
    FROM point
    LEFT JOIN carried USING (station_id)
    WHERE place = 1
    UNION ALL
    SELECT
        station_id,
        new_place,
        version + is_new::INTEGER,
        if(is_new, new_name, name),
        if(renamed, name, previous_name),
        if(is_new, new_lat, lat),
        if(is_new, new_lon, lon),
        if(is_new, new_docks, total_docks),
        if(is_new, file_timestamp, valid_from),
        NULL,
        if(is_new, if(version = 0, 'first', concat_ws(
            '+',
            if(reopened, 'reopened', NULL),
            if(renamed, 'renamed', NULL),
            if(moved, 'moved', NULL),
            if(other_docks, 'docks', NULL)
        )), NULL),
        renamed AND metres > getvariable('state_station_version.reused_over_m'),
        if(is_new, metres, NULL),
        if(reopened, coalesce(closed_at, missing_before), NULL),
        before_at
    FROM (
        SELECT
            history.*,
            point.place AS new_place,
            point.name AS new_name,
            point.lat AS new_lat,
            point.lon AS new_lon,
            point.total_docks AS new_docks,
            point.file_timestamp,
            point.before_at,
            point.missing_before,
            -- The macro takes a missing place for the other side of the Earth.
            if(history.version = 0, NULL, distance_m(history.lat, history.lon, point.lat, point.lon)) AS metres,
            history.version > 0 AND (
                history.closed_at IS NOT NULL
                OR point.missed_before >= getvariable('state_station_version.closed_after')
            ) AS reopened,
            coalesce(history.name <> point.name, false) AS renamed,
            coalesce(metres > getvariable('state_station_version.moved_over_m'), false) AS moved,
            coalesce(history.total_docks <> point.total_docks, false) AS other_docks,
            history.version = 0 OR reopened OR renamed OR moved OR other_docks AS is_new
        FROM history
        JOIN point ON point.station_id = history.station_id AND point.place = history.place + 1
    )
),
version_row AS (
    SELECT
        station_id, version, name, previous_name, lat, lon, total_docks, valid_from, valid_to, change, reused, moved_m,
        last_seen_at, missed, missing_since, NULL::TIMESTAMPTZ AS before_closed_at, NULL::TIMESTAMPTZ AS before_seen_at
    FROM earlier
    UNION ALL
    SELECT
        station_id, version, name, previous_name, lat, lon, total_docks, valid_from, NULL, change, reused, moved_m,
        NULL, 0, NULL, before_closed_at, before_seen_at
    FROM history
    WHERE change IS NOT NULL
),
last_row AS (
    SELECT station_id, last_at, whole_until, next_whole_at
    FROM (SELECT station_id, max(file_timestamp) AS last_at FROM station_row GROUP BY station_id)
    JOIN snapshot ON file_timestamp = last_at
),
followed AS (
    SELECT
        version_row.*,
        last_at,
        lead(valid_from) OVER versions AS next_from,
        lead(before_closed_at) OVER versions AS next_closed_at,
        lead(before_seen_at) OVER versions AS next_seen_at,
        next_from IS NULL AND valid_to IS NULL AS was_open,
        if(last_at IS NULL, missed, 0) + whole.snapshots - coalesce(whole_until, 0) AS missed_now,
        if(last_at IS NULL, coalesce(missing_since, whole.first_at), next_whole_at) AS missing_since_now,
        was_open AND missed_now >= getvariable('state_station_version.closed_after') AS closes
    FROM version_row
    LEFT JOIN last_row USING (station_id)
    CROSS JOIN whole
    WINDOW versions AS (PARTITION BY station_id ORDER BY version)
)
SELECT
    station_id || '-' || version AS station_key,
    station_id,
    version,
    name,
    previous_name,
    lat,
    lon,
    total_docks,
    valid_from,
    if(closes, missing_since_now, coalesce(valid_to, next_closed_at, next_from)) AS valid_to,
    was_open AND NOT closes AS is_current,
    change,
    reused,
    round(moved_m, 1) AS moved_m,
    if(next_from IS NULL, coalesce(last_at, last_seen_at), coalesce(next_seen_at, last_seen_at)) AS last_seen_at,
    if(is_current, missed_now, 0) AS missed,
    if(is_current, missing_since_now, NULL) AS missing_since
FROM followed
ORDER BY station_id, version

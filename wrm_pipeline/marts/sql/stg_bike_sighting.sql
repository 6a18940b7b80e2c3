-- Free-standing bikes, one row a bike and snapshot, each held against the bike's sighting before it.
-- A move ends in a sighting when the bike was absent from at least one snapshot since the sighting before, or when
-- its place is another one. Snapshots without rows are no snapshots. Sightings more than 60 days apart are no pair: the
-- bike counts as seen for the first time, as it does when it was forgotten (state_bike).
-- From: enhanced, previous_state_bike.
WITH snapshot AS (
    SELECT file_timestamp AS snapshot_at, row_number() OVER (ORDER BY file_timestamp) AS number
    FROM (SELECT DISTINCT file_timestamp FROM enhanced)
),
sighting AS (
    SELECT
        station_id AS bike_id, number, snapshot_at, lat, lon, in_service_area, battery_level,
        NULL::TIMESTAMP WITH TIME ZONE AS carried_since
    FROM enhanced
    JOIN snapshot ON snapshot_at = file_timestamp
    WHERE record_type = 'bike'
    UNION ALL
    -- Number 0 is the last snapshot before the day's first one; what was missing from it was absent.
    SELECT
        bike_id, CASE WHEN in_newest_snapshot THEN 0 ELSE -1 END, last_seen_at, lat, lon, in_service_area,
        battery_level, standing_since
    FROM previous_state_bike
),
neighbours AS (
    SELECT
        *,
        lag(number) OVER by_time AS previous_number,
        lag(snapshot_at) OVER by_time AS previous_at,
        lag(lat) OVER by_time AS previous_lat,
        lag(lon) OVER by_time AS previous_lon,
        lag(in_service_area) OVER by_time AS previous_in_service_area,
        lead(number) OVER by_time IS NULL AS is_last
    FROM sighting
    WINDOW by_time AS (PARTITION BY bike_id ORDER BY number)
),
paired AS (
    SELECT
        *,
        epoch_ms(snapshot_at) - epoch_ms(previous_at) AS apart_ms,
        coalesce(apart_ms <= getvariable('state_bike.forget_after_days') * 86400000::BIGINT, false) AS has_previous,
        number - previous_number > 1 AS was_absent,
        has_previous AND (was_absent OR lat <> previous_lat OR lon <> previous_lon) AS is_move
    FROM neighbours
),
measured AS (
    SELECT *, CASE WHEN is_move THEN distance_m(previous_lat, previous_lon, lat, lon) END AS distance_m
    FROM paired
),
judged AS (
    SELECT
        *,
        distance_m * 3600 / apart_ms AS speed_kmh,  -- metres a millisecond
        CASE
            WHEN NOT is_move THEN NULL
            WHEN NOT (in_service_area AND previous_in_service_area) THEN 'off_zone'
            WHEN speed_kmh > getvariable('fct_bike_move.reassigned_above_kmh') THEN 'reassignment'
            WHEN distance_m >= getvariable('fct_bike_move.moved_from_m') THEN 'candidate_trip'
            WHEN was_absent THEN 'aborted'
            ELSE 'jitter'
        END AS kind
    FROM measured
),
standing AS (
    -- A bike stands since its last move other than jitter, or since it was first seen.
    SELECT
        *,
        max(CASE WHEN carried_since IS NOT NULL THEN carried_since
                 WHEN NOT has_previous OR kind <> 'jitter' THEN snapshot_at END)
            OVER (PARTITION BY bike_id ORDER BY number ROWS UNBOUNDED PRECEDING) AS standing_since
    FROM judged
)
SELECT
    bike_id, snapshot_at, lat, lon, in_service_area, battery_level, standing_since, is_last, kind, distance_m,
    speed_kmh,
    CASE WHEN is_move THEN previous_at END AS from_seen_at,
    CASE WHEN is_move THEN previous_lat END AS from_lat,
    CASE WHEN is_move THEN previous_lon END AS from_lon
FROM standing
WHERE number > 0
ORDER BY bike_id, snapshot_at

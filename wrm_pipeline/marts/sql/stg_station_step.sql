-- A station's rows of the day, each with its neighbours and the time for which it speaks.
--
-- A row covers the time from its snapshot to the station's next row, at most `covers_intervals` polling intervals; what
-- lies beyond is unobserved. The station's newest row before the day is carried in and covers the day's beginning in
-- the same way. All is clipped to the UTC day, so a carried row may cover nothing (covers_from = covers_to).
-- Sources: enhanced, state_station of the day before.
WITH station_row AS (
    SELECT station_id, file_timestamp AS snapshot_at, bikes, total_docks, false AS carried
    FROM enhanced
    WHERE record_type = 'station'
    UNION ALL
    SELECT station_id, file_timestamp AS snapshot_at, bikes, total_docks, true AS carried
    FROM previous_state_station
),
neighboured AS (
    SELECT
        *,
        lag(snapshot_at) OVER of_station AS previous_at,
        lag(bikes) OVER of_station AS previous_bikes,
        lead(snapshot_at) OVER of_station AS next_at,
        snapshot_at + to_seconds(
            getvariable('stg_station_step.covers_intervals')::BIGINT * getvariable('interval_s')
        ) AS known_until
    FROM station_row
    WINDOW of_station AS (PARTITION BY station_id ORDER BY snapshot_at)
)
SELECT
    station_id,
    snapshot_at,
    bikes,
    total_docks,
    previous_at,
    previous_bikes,
    greatest(snapshot_at, getvariable('day_start')) AS covers_from,
    -- least() passes over a null: the newest row has no next.
    greatest(least(next_at, known_until, getvariable('day_end')), getvariable('day_start')) AS covers_to,
    carried,
    coalesce(next_at > known_until, true) AS gap_follows
FROM neighboured
ORDER BY station_id, snapshot_at

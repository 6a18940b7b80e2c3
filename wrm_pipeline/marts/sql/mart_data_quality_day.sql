-- How complete and how clean a UTC day is: snapshots and what they cover, rows and what became of them, warnings.
-- A snapshot covers the time to the next one, at most two intervals; the last one before the day covers its beginning
-- in the same way. On the newest day the span looked at ends with the newest snapshot.
-- Sources: `enhanced`, `source` (one row a raw object), previous_state_station.
WITH snapshot AS (
    SELECT DISTINCT file_timestamp AS snapshot_at FROM enhanced
),
day AS (
    SELECT
        getvariable('day_start') AS start_at,
        count(*) AS snapshots,
        min(snapshot_at) AS first_at,
        max(snapshot_at) AS last_at,
        if(getvariable('is_newest_day'), coalesce(last_at, start_at), getvariable('day_end')) AS until_at,
        epoch_ms(until_at) - epoch_ms(start_at) AS span_ms
    FROM snapshot
),
-- From each snapshot to the next: ms covered, ms without a snapshot. A step from before the day begins at its start.
step AS (
    SELECT
        epoch_ms(coalesce(lead(snapshot_at) OVER (ORDER BY snapshot_at), until_at)) AS next_ms,
        next_ms - greatest(epoch_ms(snapshot_at), epoch_ms(start_at)) AS gap_ms,
        greatest(
            least(next_ms, epoch_ms(snapshot_at) + 2000 * getvariable('interval_s')) - greatest(epoch_ms(snapshot_at), epoch_ms(start_at)), 0
        ) AS covered_ms
    FROM (
        SELECT snapshot_at FROM snapshot
        UNION ALL
        -- Without one, as if it had been long ago.
        SELECT coalesce(max(file_timestamp), TIMESTAMPTZ '1970-01-01 00:00:00+00') FROM previous_state_station
    )
    CROSS JOIN day
),
covered AS (
    SELECT sum(covered_ms) AS covered_ms, max(gap_ms) AS longest_gap_ms FROM step
),
fate AS (
    SELECT
        sum("rows")::BIGINT AS rows_raw,
        sum(kept)::BIGINT AS rows_kept,
        sum(dead)::BIGINT AS rows_dead,
        sum(duplicates)::BIGINT AS rows_duplicate,
        count(fault) AS faulty_files
    FROM source
),
records AS (
    SELECT
        count(*) AS "rows",
        count(DISTINCT station_id) FILTER (record_type = 'station') AS stations,
        count(DISTINCT station_id) FILTER (record_type = 'bike') AS bikes
    FROM enhanced
),
flag AS (
    SELECT unnest(quality_flags) AS name, "rows"
    FROM (SELECT quality_flags, count(*) AS "rows" FROM enhanced GROUP BY quality_flags)
)
SELECT
    getvariable('day') AS utc_date,
    snapshots::INTEGER AS snapshots,
    (span_ms // (1000 * getvariable('interval_s')))::INTEGER AS snapshots_expected,
    -- A newest day whose only snapshot came at midnight is covered up to it.
    if(span_ms = 0, least(snapshots, 1), round(covered_ms / span_ms, 4)) AS coverage,
    minutes(longest_gap_ms) AS longest_gap_minutes,
    first_at AS first_snapshot_at,
    last_at AS last_snapshot_at,
    -- Days of older deployments have no account of their raw objects: the rows are what is known.
    coalesce(rows_raw, "rows") AS rows_raw,
    coalesce(rows_kept, "rows") AS rows_kept,
    coalesce(rows_dead, 0) AS rows_dead,
    coalesce(rows_duplicate, 0) AS rows_duplicate,
    round(coalesce(rows_dead / nullif(rows_raw, 0), 0), 4) AS dead_share,
    faulty_files::INTEGER AS faulty_files,
    stations::INTEGER AS stations,
    bikes::INTEGER AS bikes,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'overfull') AS flag_overfull,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'racks_out_of_use') AS flag_racks_out_of_use,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'zero_docks') AS flag_zero_docks,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'off_zone') AS flag_off_zone,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'stale_row_time') AS flag_stale_row_time,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'future_row_time') AS flag_future_row_time,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'non_monotonic_time') AS flag_non_monotonic_time,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'battery_out_of_range') AS flag_battery_out_of_range,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'name_changed') AS flag_name_changed,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'moved') AS flag_moved,
    (SELECT coalesce(sum("rows"), 0)::BIGINT FROM flag WHERE name = 'unknown_record_type') AS flag_unknown_record_type
FROM day
CROSS JOIN covered
CROSS JOIN fate
CROSS JOIN records
ORDER BY utc_date

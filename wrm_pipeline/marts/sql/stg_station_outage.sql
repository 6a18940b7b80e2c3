-- Episodes in which a station had no bikes (`empty`) or no free dock (`full`): gaps and islands over its covering rows.
--
-- An episode is broken where two rows do not touch, that is where one covers no time up to the next: nobody saw what
-- the station was like between them. One that reached the end of the day before goes on when the carried row does.
-- When the day before is missing, it ends with that earlier day, its end unknown: what the last row covers past
-- midnight belongs to a day that is not built.
-- Penalty: what lies after the first `penalty_after_min` minutes and between `penalty_from_hour` and
-- `penalty_until_hour` of the city's clock. That window of a local date lies inside the UTC day of the same date (the
-- city is one or two hours ahead, its clock changes at 01:00 UTC), so each day adds its own part.
-- Sources: stg_station_step, state_outage of the day before.
WITH step AS (
    SELECT
        *,
        CASE WHEN bikes = 0 THEN 'empty' WHEN total_docks > 0 AND bikes >= total_docks THEN 'full' END AS kind
    FROM stg_station_step
),
compared AS (
    SELECT
        *,
        coalesce(NOT lag(gap_follows) OVER of_station, false) AS touches,
        lag(kind) OVER of_station AS kind_before
    FROM step
    WINDOW of_station AS (PARTITION BY station_id ORDER BY snapshot_at)
),
numbered AS (
    SELECT
        *,
        count(*) FILTER (NOT touches OR kind IS DISTINCT FROM kind_before) OVER (
            PARTITION BY station_id ORDER BY snapshot_at
        ) AS run
    FROM compared
),
run AS (
    SELECT
        station_id,
        any_value(kind) AS kind,
        min(covers_from) AS started_at,
        max(covers_to) AS ended_at,
        bool_or(touches AND kind IS DISTINCT FROM kind_before) AS start_known,
        NOT arg_max(gap_follows, snapshot_at) AS end_known,
        bool_or(carried) AS carried
    FROM numbered
    WHERE kind IS NOT NULL
    GROUP BY station_id, run
),
episode AS (
    SELECT
        run.station_id,
        run.kind,
        coalesce(earlier.started_at, run.started_at) AS started_at,
        -- A carried row that covers nothing of this day adds nothing to what was known.
        CASE WHEN run.ended_at > run.started_at THEN run.ended_at ELSE earlier.ended_at END AS ended_at,
        coalesce(earlier.start_known, run.start_known) AS start_known,
        run.end_known,
        coalesce(earlier.penalty_ms, 0) AS penalty_ms
    FROM run
    LEFT JOIN previous_state_outage AS earlier
        ON run.carried AND earlier.station_id = run.station_id AND earlier.kind = run.kind
    -- Otherwise a carried row whose episode was over within its own day.
    WHERE earlier.station_id IS NOT NULL OR run.ended_at > run.started_at
)
SELECT
    station_id,
    kind,
    started_at,
    ended_at,
    start_known,
    end_known,
    penalty_ms + greatest(
        0,
        least(
            epoch_ms(ended_at),
            epoch_ms((
                getvariable('day') + to_hours(getvariable('stg_station_outage.penalty_until_hour')::INTEGER)
            ) AT TIME ZONE 'Europe/Warsaw')
        ) - greatest(
            epoch_ms(started_at) + getvariable('stg_station_outage.penalty_after_min')::BIGINT * 60000,
            epoch_ms((
                getvariable('day') + to_hours(getvariable('stg_station_outage.penalty_from_hour')::INTEGER)
            ) AT TIME ZONE 'Europe/Warsaw')
        )
    ) AS penalty_ms
FROM episode
ORDER BY station_id, started_at

-- The fleet by the local date: the means of mart_system_hour weighted by the minutes that each hour was observed, and
-- the moves that ended on the date. A date of which nothing was observed has no row.
-- From: mart_system_hour, fct_bike_move.
WITH hour AS (
    -- Snapshots come at whole seconds, so a mean times its seconds (3,600 at most) was a whole number, and its four
    -- decimals are enough to find that again: the error is below 0.2. So these sums are exact.
    SELECT
        local_date,
        round(minutes_observed * 60)::BIGINT AS seconds,
        round(bikes_at_stations * seconds)::BIGINT AS at_stations,
        round(bikes_free_in_zone * seconds)::BIGINT AS free_in_zone,
        round(bikes_off_zone * seconds)::BIGINT AS off_zone,
        round(battery_low * seconds)::BIGINT AS low,
        round(battery_unknown * seconds)::BIGINT AS unknown,
        round(idle_14_days * seconds)::BIGINT AS idle
    FROM mart_system_hour
    WHERE local_date = getvariable('local_date')
),
fleet AS (
    SELECT
        local_date,
        round(sum(seconds) / 60, 4) AS minutes_observed,
        round(sum(at_stations) / sum(seconds), 4) AS bikes_at_stations,
        round(sum(free_in_zone) / sum(seconds), 4) AS bikes_free_in_zone,
        round(sum(off_zone) / sum(seconds), 4) AS bikes_off_zone,
        round(sum(low) / sum(seconds), 4) AS battery_low,
        round(sum(unknown) / sum(seconds), 4) AS battery_unknown,
        round(sum(idle) / sum(seconds), 4) AS idle_14_days
    FROM hour
    GROUP BY local_date
),
move AS (
    SELECT
        count(*) FILTER (kind = 'candidate_trip')::INTEGER AS candidate_trips,
        count(*) FILTER (kind = 'off_zone')::INTEGER AS moves_off_zone,
        count(*) FILTER (kind = 'reassignment')::INTEGER AS moves_reassignment,
        count(*) FILTER (kind = 'aborted')::INTEGER AS moves_aborted,
        count(*) FILTER (kind = 'jitter')::INTEGER AS moves_jitter
    FROM fct_bike_move
    WHERE local_date = getvariable('local_date')
)
SELECT
    local_date,
    minutes_observed,
    bikes_at_stations,
    bikes_free_in_zone,
    bikes_off_zone,
    round(bikes_at_stations + bikes_free_in_zone + bikes_off_zone, 4) AS bikes_total,
    battery_low,
    battery_unknown,
    idle_14_days,
    candidate_trips,
    moves_off_zone,
    moves_reassignment,
    moves_aborted,
    moves_jitter
FROM fleet, move
ORDER BY local_date

-- The fleet of each local day.
SELECT
    local_date AS date,
    round(minutes_observed, 1) AS minutes_observed,
    round(bikes_at_stations, 2) AS at_stations,
    round(bikes_free_in_zone, 2) AS free_in_zone,
    round(bikes_off_zone, 2) AS off_zone,
    round(bikes_total, 2) AS total,
    round(battery_low, 2) AS battery_low,
    round(battery_unknown, 2) AS battery_unknown,
    round(idle_14_days, 2) AS idle_14_days,
    candidate_trips AS candidate_trip,
    moves_off_zone AS off_zone_moves,
    moves_reassignment AS reassignment,
    moves_aborted AS aborted,
    moves_jitter AS jitter
FROM fct_fleet_day
ORDER BY local_date

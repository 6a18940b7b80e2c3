-- The hours of each station that are over, all there are, in no order, which would take longer than all the rest: a year
-- of a city is 2 million rows. `hour` counts from 1970. They are sampled before they are shown.
SELECT
    station_id,
    (epoch_ms(hour_start) // 3600000)::INTEGER AS hour,
    bikes_p10 AS p10,
    bikes_p50 AS p50,
    bikes_p90 AS p90
FROM fct_station_hour
WHERE hour_end <= (SELECT newest_snapshot_at FROM marts_built) AND minutes_observed > 0

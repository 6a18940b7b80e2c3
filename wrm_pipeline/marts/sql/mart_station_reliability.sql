-- How often a station ran empty, full or served both ways over the 28 dates up to the newest, by day class and hour of
-- the city's clock. Shares are of the minutes observed; P10, P50 and P90 are over the hours' means.
-- Sources: fct_station_hour, dim_date.
WITH bounds AS (
    SELECT
        local(getvariable('newest_snapshot_at'))::DATE AS window_end,
        window_end - (getvariable('mart_station_reliability.days') - 1)::INTEGER AS window_start
),
-- Milliseconds and ten-thousandths of a bike: sums of integers do not depend on their order.
hours AS (
    SELECT
        station_id,
        local_date,
        local_hour,
        bikes_mean,
        round(60000 * minutes_observed)::BIGINT AS observed_ms,
        round(60000 * minutes_empty)::BIGINT AS empty_ms,
        round(60000 * minutes_full)::BIGINT AS full_ms,
        round(60000 * minutes_service)::BIGINT AS service_ms,
        round(10000 * bikes_mean)::BIGINT AS bikes_e4
    FROM fct_station_hour
    WHERE
        local_date BETWEEN (SELECT window_start FROM bounds) AND (SELECT window_end FROM bounds)
        AND minutes_observed > 0
),
summed AS (
    SELECT
        station_id,
        day_class,
        local_hour,
        count(DISTINCT local_date) AS days,
        sum(observed_ms) AS observed_ms,
        sum(empty_ms) AS empty_ms,
        sum(full_ms) AS full_ms,
        sum(service_ms) AS service_ms,
        sum(bikes_e4::HUGEINT * observed_ms) AS bikes_e4_ms,
        quantile_cont(bikes_mean, [0.1, 0.5, 0.9]) AS quantiles
    FROM hours
    JOIN dim_date ON dim_date.date = hours.local_date
    GROUP BY station_id, day_class, local_hour
)
SELECT
    station_id,
    day_class,
    local_hour,
    days::INTEGER AS days,
    minutes(observed_ms) AS minutes_observed,
    round(empty_ms / observed_ms, 4) AS share_empty,
    round(full_ms / observed_ms, 4) AS share_full,
    round(service_ms / observed_ms, 4) AS share_service,
    round(bikes_e4_ms / observed_ms / 10000, 4) AS bikes_mean,
    round(quantiles[1], 4) AS bikes_p10,
    round(quantiles[2], 4) AS bikes_p50,
    round(quantiles[3], 4) AS bikes_p90,
    window_start,
    window_end
FROM summed
CROSS JOIN bounds
ORDER BY station_id, day_class, local_hour

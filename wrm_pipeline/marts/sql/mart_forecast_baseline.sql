-- Bikes 15, 30 and 60 minutes ahead by two methods that anything better must beat, and how far each was off.
-- persistence: what is there now. seasonal_naive: the mean of the same weekday and hour (city's clock) of the four weeks
-- before. Both are tested on the same quarter hours of the newest seven full UTC days, those where both forecasts and
-- the truth exist; each forecast knows only what came before its origin.
-- Sources: fct_station_quarter, newest_state_station.
WITH bounds AS (
    SELECT
        getvariable('newest_day')::TIMESTAMP AT TIME ZONE 'UTC' AS test_until,
        test_until - to_days(7) AS test_from,
        -- An hour more: in UTC a clock change moves what was four weeks before.
        test_from - to_days(28) - to_hours(1) AS history_from,
        getvariable('newest_snapshot_at') AS made_at
),
horizon AS (
    SELECT unnest([15, 30, 60]) AS horizon_min
),
recent AS (
    SELECT station_id, quarter_start, bikes
    FROM fct_station_quarter
    WHERE quarter_start >= (SELECT history_from FROM bounds)
),
-- The hour of the city's clock, for each quarter hour once.
clock AS (
    SELECT quarter_start, date_trunc('hour', local(quarter_start)) AS local_hour
    FROM (SELECT DISTINCT quarter_start FROM recent)
),
-- Materialized, as `outcome` is: otherwise the planner joins by station alone first, and has 30 million rows to sift.
quarter AS MATERIALIZED (
    SELECT station_id, quarter_start, bikes, local_hour
    FROM recent
    JOIN clock USING (quarter_start)
),
hourly AS (
    SELECT station_id, local_hour, sum(bikes) AS bikes, count(*) AS quarters
    FROM quarter
    GROUP BY station_id, local_hour
),
-- In ten-thousandths of a bike: sums of integers do not depend on their order.
seasonal AS (
    SELECT
        station_id,
        local_hour + to_days(7 * week) AS local_hour,
        round(10000 * sum(bikes) / sum(quarters))::BIGINT AS forecast_e4
    FROM hourly
    CROSS JOIN (SELECT unnest([1, 2, 3, 4]) AS week)
    WHERE local_hour + to_days(7 * week) BETWEEN
        (SELECT local(test_from) FROM bounds) AND (SELECT local(made_at + to_hours(1)) FROM bounds)
    GROUP BY ALL
),
-- The truth of a quarter hour and its seasonal forecast, by the origins from which it was forecast.
outcome AS MATERIALIZED (
    SELECT
        station_id,
        horizon_min,
        quarter_start - to_minutes(horizon_min) AS quarter_start,
        bikes,
        forecast_e4
    FROM quarter
    JOIN seasonal USING (station_id, local_hour)
    CROSS JOIN horizon
    WHERE quarter_start >= (SELECT test_from FROM bounds)
),
tested AS (
    SELECT
        station_id,
        horizon_min,
        quarter_start,
        10000 * abs(origin.bikes - outcome.bikes)::BIGINT AS persistence_e4,
        abs(forecast_e4 - 10000 * outcome.bikes::BIGINT) AS seasonal_e4
    FROM quarter AS origin
    JOIN outcome USING (station_id, quarter_start)
    WHERE quarter_start >= (SELECT test_from FROM bounds) AND quarter_start < (SELECT test_until FROM bounds)
),
by_station AS (
    SELECT
        station_id,
        horizon_min,
        count(*) AS tests,
        sum(persistence_e4) AS persistence_sum,
        sum(persistence_e4::HUGEINT * persistence_e4) AS persistence_squares,
        sum(seasonal_e4) AS seasonal_sum,
        sum(seasonal_e4::HUGEINT * seasonal_e4) AS seasonal_squares,
        min(quarter_start) AS test_start,
        max(quarter_start) AS test_end
    FROM tested
    GROUP BY station_id, horizon_min
),
errors AS (
    SELECT
        coalesce(station_id, '*') AS station_id,
        horizon_min,
        sum(tests)::BIGINT AS tests,
        sum(persistence_sum) AS persistence_sum,
        sum(persistence_squares) AS persistence_squares,
        sum(seasonal_sum) AS seasonal_sum,
        sum(seasonal_squares) AS seasonal_squares,
        min(test_start) AS test_start,
        max(test_end) AS test_end
    FROM by_station
    GROUP BY GROUPING SETS ((station_id, horizon_min), (horizon_min))
),
method AS (
    SELECT
        station_id,
        horizon_min,
        unnest([
            {'method': 'persistence', 'total': persistence_sum, 'squares': persistence_squares},
            {'method': 'seasonal_naive', 'total': seasonal_sum, 'squares': seasonal_squares}
        ], recursive := true),
        persistence_sum,
        tests,
        test_start,
        test_end
    FROM errors
),
-- What each station will have, as far as it is known. A station not seen for an hour is unknown.
target AS (
    SELECT
        station_id,
        horizon_min,
        made_at + to_minutes(horizon_min) AS for_time,
        date_trunc('hour', local(for_time)) AS local_hour,
        if(file_timestamp >= made_at - to_hours(1), bikes::DOUBLE, NULL) AS bikes_now
    FROM newest_state_station
    CROSS JOIN horizon
    CROSS JOIN bounds
),
forecast AS (
    SELECT station_id, horizon_min, 'persistence' AS method, bikes_now AS forecast_bikes FROM target
    UNION ALL
    SELECT station_id, horizon_min, 'seasonal_naive', forecast_e4 / 10000
    FROM target
    LEFT JOIN seasonal USING (station_id, local_hour)
    UNION ALL
    SELECT '*', horizon_min, unnest(['persistence', 'seasonal_naive']), NULL FROM horizon
)
SELECT
    forecast.station_id,
    forecast.horizon_min,
    forecast.method,
    made_at,
    made_at + to_minutes(forecast.horizon_min) AS for_time,
    forecast_bikes,
    coalesce(tests, 0) AS tests,
    round(total / 10000 / tests, 4) AS mae,
    round(sqrt(squares / 100000000 / tests), 4) AS rmse,
    round(1 - total / nullif(persistence_sum, 0), 4) AS skill,
    test_start,
    test_end
FROM forecast
CROSS JOIN bounds
LEFT JOIN method USING (station_id, horizon_min, method)
ORDER BY forecast.station_id, forecast.horizon_min, forecast.method

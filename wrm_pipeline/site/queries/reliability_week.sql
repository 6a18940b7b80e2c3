-- All stations by weekday and local hour over the trailing window; a public holiday counts as a Sunday. Minutes are added
-- up as the whole milliseconds that they are: such sums depend on no order.
WITH observed AS (
    SELECT
        CASE WHEN day.is_holiday THEN 7 ELSE day.weekday END AS weekday,
        hour.local_hour AS hour,
        hour.local_date,
        round(hour.minutes_observed * 60000)::BIGINT AS ms,
        round(hour.minutes_empty * 60000)::BIGINT AS empty_ms,
        round(hour.minutes_full * 60000)::BIGINT AS full_ms,
        round(hour.minutes_service * 60000)::BIGINT AS service_ms
    FROM fct_station_hour AS hour
    JOIN dim_date AS day ON day.date = hour.local_date
    WHERE hour.minutes_observed > 0
        AND hour.local_date BETWEEN (SELECT min(window_start) FROM mart_station_reliability)
            AND (SELECT max(window_end) FROM mart_station_reliability)
)
SELECT
    weekday,
    hour,
    count(DISTINCT local_date) AS days,
    round(sum(ms) / 60000, 1) AS minutes,
    round(sum(empty_ms) / sum(ms), 4) AS empty,
    round(sum(full_ms) / sum(ms), 4) AS full,
    round(sum(service_ms) / sum(ms), 4) AS service
FROM observed
GROUP BY weekday, hour
ORDER BY weekday, hour

-- Flows of a typical day: means of the hours of the trailing 28 local days with at least 45 minutes observed.
SELECT
    day.day_class,
    hour.local_hour AS hour,
    count(*) AS hours,
    round(sum(hour.inflow) / count(*), 2) AS inflow,
    round(sum(hour.outflow) / count(*), 2) AS outflow,
    round(sum(hour.candidate_trips) / count(*), 2) AS candidate_trips
FROM mart_system_hour AS hour
JOIN dim_date AS day ON day.date = hour.local_date
WHERE hour.local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 28
    AND hour.hour_end <= (SELECT newest_snapshot_at FROM marts_built)
    AND hour.minutes_observed >= 45
GROUP BY day.day_class, hour.local_hour
ORDER BY list_position(['workday', 'saturday', 'sunday_or_holiday'], day.day_class), hour.local_hour

-- Dates of the city's clock (Europe/Warsaw), from the first day of data to the end of the year of the newest one.
-- Sources: the bounds of the data, and `holiday` (Polish public holidays).
WITH calendar AS (
    SELECT generate_series::DATE AS date
    FROM generate_series(
        getvariable('first_day')::TIMESTAMP,
        -- The city's clock is ahead of UTC: the last hours of a UTC day belong to the next date.
        make_date(year(getvariable('newest_day') + 1), 12, 31)::TIMESTAMP,
        INTERVAL 1 DAY
    )
),
midnight AS (
    SELECT
        date,
        date::TIMESTAMP AT TIME ZONE 'Europe/Warsaw' AS utc_start,
        (date + 1)::TIMESTAMP AT TIME ZONE 'Europe/Warsaw' AS utc_end
    FROM calendar
)
SELECT
    date,
    year(date)::INTEGER AS year,
    month(date)::INTEGER AS month,
    day(date)::INTEGER AS day,
    weekofyear(date)::INTEGER AS iso_week,
    isodow(date)::INTEGER AS weekday,
    dayname(date) AS weekday_name,
    CASE
        WHEN name_pl IS NOT NULL OR isodow(date) = 7 THEN 'sunday_or_holiday'
        WHEN isodow(date) = 6 THEN 'saturday'
        ELSE 'workday'
    END AS day_class,
    name_pl IS NOT NULL AS is_holiday,
    name_pl AS holiday_pl,
    name_en AS holiday_en,
    date_diff('hour', utc_start, utc_end)::INTEGER AS hours,
    utc_start,
    utc_end
FROM midnight
LEFT JOIN holiday USING (date)
ORDER BY date

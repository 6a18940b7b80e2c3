-- Bikes at a station at each quarter of an hour of the UTC day: those of the row that covers the instant (a row covers
-- its first instant and not its last).
-- Source: stg_station_step.
WITH covering AS (
    SELECT station_id, bikes, epoch_ms(covers_from) AS from_ms, epoch_ms(covers_to) AS to_ms
    FROM stg_station_step
),
covered AS (
    SELECT station_id, bikes, unnest(range((from_ms + 899999) // 900000 * 900000, to_ms, 900000)) AS quarter_ms
    FROM covering
)
SELECT station_id, make_timestamptz(quarter_ms * 1000) AS quarter_start, bikes
FROM covered
ORDER BY station_id, quarter_start

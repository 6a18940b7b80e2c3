-- What lies outside the city on the newest day. Hundredths of bikes: their sum depends on no order.
SELECT
    max(utc_date) AS utc_date,
    count(*) FILTER (NOT inside) AS cells,
    coalesce(sum(round(bikes_mean * 100)::BIGINT) FILTER (NOT inside), 0) / 100 AS bikes
FROM (
    SELECT
        utc_date,
        bikes_mean,
        grid_lat BETWEEN 51.0 AND 51.2 AND grid_lon BETWEEN 16.8 AND 17.2 AS inside
    FROM mart_density_grid
    WHERE utc_date = (SELECT max(utc_date) FROM mart_density_grid) AND cell_kind = '250m'
)

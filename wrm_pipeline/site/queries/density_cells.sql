-- The grid of 250 m on the newest day, as far as it lies in the city.
SELECT
    round(grid_lat, 5) AS lat,
    round(grid_lon, 5) AS lon,
    stations,
    round(station_bikes_mean, 2) AS station_bikes,
    round(free_bikes_mean, 2) AS free_bikes,
    round(bikes_per_km2, 2) AS per_km2
FROM mart_density_grid
WHERE utc_date = (SELECT max(utc_date) FROM mart_density_grid)
    AND cell_kind = '250m'
    AND grid_lat BETWEEN 51.0 AND 51.2
    AND grid_lon BETWEEN 16.8 AND 17.2
    AND (stations > 0 OR bikes_per_km2 > 0)
ORDER BY grid_lat, grid_lon

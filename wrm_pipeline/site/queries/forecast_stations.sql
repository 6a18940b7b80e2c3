-- The forecasts of each station.
SELECT
    station_id,
    horizon_min,
    method,
    epoch_ms(for_time) // 1000 AS for_time,
    round(forecast_bikes, 2) AS bikes,
    round(mae, 2) AS mae,
    round(skill, 4) AS skill,
    tests
FROM mart_forecast_baseline
WHERE station_id <> '*'
ORDER BY station_id, horizon_min, method

-- How good the forecasts are over all stations.
SELECT
    horizon_min,
    method,
    tests,
    round(mae, 2) AS mae,
    round(rmse, 2) AS rmse,
    round(skill, 4) AS skill,
    epoch_ms(test_start) // 1000 AS test_start,
    epoch_ms(test_end) // 1000 AS test_end
FROM mart_forecast_baseline
WHERE station_id = '*'
ORDER BY horizon_min, method

-- When the forecasts were made.
SELECT epoch_ms(max(made_at)) // 1000 AS made_at
FROM mart_forecast_baseline

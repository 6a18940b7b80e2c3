-- What the database was made from, in one row: nulls as long as there is no data.
SELECT
    epoch_ms(newest_snapshot_at) // 1000 AS newest_snapshot_at,
    (SELECT epoch_ms(min(first_snapshot_at)) // 1000 FROM mart_data_quality_day) AS first_snapshot_at,
    first_day,
    newest_day,
    (SELECT count(*) FROM mart_data_quality_day WHERE snapshots > 0) AS days,
    (SELECT count(*) FROM mv_station_latest) AS stations
FROM marts_built

-- What became of each UTC day's snapshots and rows.
SELECT
    utc_date,
    snapshots,
    snapshots_expected,
    round(coverage, 4) AS coverage,
    round(longest_gap_minutes, 1) AS longest_gap_minutes,
    rows_raw,
    rows_kept,
    rows_dead,
    rows_duplicate,
    round(dead_share, 4) AS dead_share,
    faulty_files,
    stations,
    bikes
FROM mart_data_quality_day
ORDER BY utc_date

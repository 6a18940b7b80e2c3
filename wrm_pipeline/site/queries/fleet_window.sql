-- The trailing 28 local days, and the time between two snapshots in them: the median of the hours' medians.
WITH newest AS (
    SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE AS local_date
    FROM marts_built
    WHERE newest_snapshot_at IS NOT NULL
)
SELECT
    newest.local_date - 27 AS start,
    newest.local_date AS "end",
    (
        SELECT quantile_disc(sampling_interval_s, 0.5) FROM mart_system_hour WHERE local_date > newest.local_date - 28
    ) AS sampling_interval_s
FROM newest

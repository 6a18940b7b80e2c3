-- Moves of free bikes in the trailing 28 local days, by kind.
WITH recent AS (
    SELECT *
    FROM fct_bike_move
    WHERE local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 28
)
SELECT
    kind,
    count(move_id) AS count,
    round(quantile_cont(minutes, 0.5), 1) AS minutes_p50,
    round(quantile_cont(distance_m, 0.5), 1) AS distance_m_p50,
    round(quantile_cont(speed_kmh, 0.5), 2) AS speed_kmh_p50
FROM (
    VALUES (1, 'candidate_trip'), (2, 'aborted'), (3, 'jitter'), (4, 'reassignment'), (5, 'off_zone')
) AS kinds(place, kind)
LEFT JOIN recent USING (kind)
GROUP BY place, kind
ORDER BY place

-- The local dates that the trailing tables cover.
SELECT min(window_start) AS start, max(window_end) AS "end", max(window_end) - min(window_start) + 1 AS days
FROM mart_station_reliability

-- Every station as the newest snapshot that has it shows it, and since when it has been empty or full.
WITH open_episode AS (
    SELECT station_id, max(started_at) AS since, arg_max(start_known, started_at) AS since_known
    FROM fct_station_outage
    WHERE is_open
    GROUP BY station_id
)
SELECT
    latest.station_id AS id,
    latest.name,
    round(latest.lat, 5) AS lat,
    round(latest.lon, 5) AS lon,
    latest.bikes,
    latest.total_docks AS docks,
    latest.pedelecs,
    latest.state,
    epoch_ms(latest.file_timestamp) // 1000 AS seen_at,
    latest.in_newest_snapshot AS in_newest,
    epoch_ms(open_episode.since) // 1000 AS since,
    open_episode.since_known
FROM mv_station_latest AS latest
LEFT JOIN open_episode USING (station_id)
ORDER BY try_cast(latest.station_id AS HUGEINT) NULLS LAST, latest.station_id

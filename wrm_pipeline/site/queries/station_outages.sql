-- Episodes of each station that began in the newest 90 local days, newest first, at most 100 a station.
SELECT
    station_id,
    count(*) OVER (PARTITION BY station_id) AS total,
    kind,
    epoch_ms(started_at) // 1000 AS started_at,
    epoch_ms(ended_at) // 1000 AS ended_at,
    round(minutes, 1) AS minutes,
    round(penalty_minutes, 1) AS penalty_minutes,
    is_open,
    start_known,
    end_known
FROM fct_station_outage
WHERE local_date > (SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built) - 90 OR is_open
QUALIFY row_number() OVER (PARTITION BY station_id ORDER BY fct_station_outage.started_at DESC, kind) <= 100
ORDER BY station_id, started_at DESC, kind

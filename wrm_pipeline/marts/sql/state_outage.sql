-- Episodes that reach the end of the UTC day and may go on in the next one.
-- Source: stg_station_outage.
SELECT station_id, kind, started_at, ended_at, start_known, penalty_ms
FROM stg_station_outage
WHERE ended_at = getvariable('day_end')
ORDER BY station_id

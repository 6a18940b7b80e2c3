-- Episodes in which a station was empty or full, each on the UTC day in which it ended, with its whole length. Those
-- that still cover the newest snapshot are open; they are listed on the newest day alone. One that reached midnight
-- before a missing day is listed on the next day that there is.
-- Sources: stg_station_outage, stg_station_step (the newest snapshot), state_station_version.
WITH episode AS (
    SELECT
        *,
        getvariable('is_newest_day') AND ended_at > (SELECT max(snapshot_at) FROM stg_station_step) AS is_open
    FROM stg_station_outage
    WHERE ended_at < getvariable('day_end') OR getvariable('is_newest_day')
)
SELECT
    episode.station_id,
    version.station_key,
    episode.kind,
    episode.started_at,
    episode.ended_at,
    local(episode.started_at)::DATE AS local_date,
    minutes(epoch_ms(episode.ended_at) - epoch_ms(episode.started_at)) AS minutes,
    minutes(episode.penalty_ms) AS penalty_minutes,
    episode.is_open,
    episode.start_known,
    episode.end_known
FROM episode
ASOF LEFT JOIN state_station_version AS version
    ON episode.station_id = version.station_id AND episode.started_at >= version.valid_from
ORDER BY episode.station_id, episode.started_at

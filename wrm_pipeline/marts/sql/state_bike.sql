-- Where and when each bike was last seen, at the end of the day. One that was unseen for 60 days is forgotten: any
-- later sighting is more than that apart, and no pair.
-- From: stg_bike_sighting, enhanced, previous_state_bike.
WITH newest AS (
    SELECT max(file_timestamp) AS snapshot_at FROM enhanced
)
SELECT
    bike_id, sighting.snapshot_at AS last_seen_at, lat, lon, in_service_area, battery_level, standing_since,
    sighting.snapshot_at = newest.snapshot_at AS in_newest_snapshot
FROM stg_bike_sighting AS sighting, newest
WHERE is_last
UNION ALL
SELECT
    bike_id, last_seen_at, lat, lon, in_service_area, battery_level, standing_since,
    -- A day without a snapshot changes nothing.
    in_newest_snapshot AND newest.snapshot_at IS NULL
FROM previous_state_bike AS before, newest
WHERE NOT EXISTS (FROM stg_bike_sighting AS sighting WHERE sighting.bike_id = before.bike_id)
    AND epoch_ms(getvariable('day_end')) - epoch_ms(last_seen_at)
        <= getvariable('state_bike.forget_after_days') * 86400000::BIGINT
ORDER BY bike_id

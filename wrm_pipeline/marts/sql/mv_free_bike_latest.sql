-- The free-standing bikes of the newest snapshot that has rows: where they stand, and nothing that says which they are.
-- A poll that failed since then does not make them go away.
-- From: newest_state_bike.
SELECT lat, lon, battery_level, in_service_area, last_seen_at AS snapshot_at
FROM newest_state_bike
WHERE in_newest_snapshot
ORDER BY lat, lon, battery_level, in_service_area

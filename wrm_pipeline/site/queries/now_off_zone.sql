-- How many free bikes stand outside the service area. Where, is nobody's business but the operator's.
SELECT count(*) AS off_zone
FROM mv_free_bike_latest
WHERE NOT in_service_area

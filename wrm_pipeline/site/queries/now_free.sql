-- Free bikes in the service area.
SELECT round(lat, 5) AS lat, round(lon, 5) AS lon, battery_level AS battery
FROM mv_free_bike_latest
WHERE in_service_area
ORDER BY ALL

-- Bikes and stations in cells of equal area, of 250 m and of 1000 m2. Means are weighted by the time that a snapshot of
-- the day covers: to the next one, at most two intervals, cut at the end of the day. Stations count wherever they are,
-- free bikes inside the service area only. Places are few and rows many: what a place had is added up first.
-- From: enhanced.
WITH snapshot AS (
    SELECT
        file_timestamp,
        epoch_ms(least(
            lead(file_timestamp) OVER (ORDER BY file_timestamp),
            file_timestamp
                + to_seconds(getvariable('stg_station_step.covers_intervals')::BIGINT * getvariable('interval_s')),
            getvariable('day_end')
        )) - epoch_ms(file_timestamp) AS ms,
        lead(file_timestamp) OVER (ORDER BY file_timestamp) IS NULL AS is_newest
    FROM (SELECT DISTINCT file_timestamp FROM enhanced)
),
place AS (
    SELECT
        CASE WHEN record_type = 'station' THEN station_id END AS station_id,
        lat,
        lon,
        sum(CASE WHEN record_type = 'station' THEN bikes * ms ELSE 0 END) AS station_bike_ms,
        sum(CASE WHEN record_type = 'bike' THEN ms ELSE 0 END) AS free_bike_ms,
        sum(CASE WHEN record_type = 'station' AND is_newest THEN bikes ELSE 0 END) AS newest_station_bikes,
        bool_or(record_type = 'station' AND is_newest) AS has_newest_station,
        count(*) FILTER (record_type = 'bike' AND is_newest) AS newest_free_bikes
    FROM enhanced
    JOIN snapshot USING (file_timestamp)
    WHERE record_type = 'station' OR (record_type = 'bike' AND in_service_area)
    GROUP BY ALL
),
size AS (
    FROM (VALUES ('250m', 250.0::DOUBLE), ('1000m2', sqrt(1000.0))) AS sizes(cell_kind, side)
),
placed AS (
    SELECT *, grid_index(grid_x(lon), side) AS column_index, grid_index(grid_y(lat), side) AS row_index
    FROM place, size
),
cell AS (
    SELECT
        cell_kind,
        side,
        column_index,
        row_index,
        count(DISTINCT station_id) AS stations,
        sum(station_bike_ms) AS station_bike_ms,
        sum(free_bike_ms) AS free_bike_ms,
        sum(newest_station_bikes) AS newest_station_bikes,
        count(*) FILTER (has_newest_station) AS newest_stations,
        sum(newest_free_bikes) AS newest_free_bikes
    FROM placed
    GROUP BY cell_kind, side, column_index, row_index
),
observed AS (
    SELECT sum(ms) AS ms FROM snapshot
)
SELECT
    getvariable('day') AS utc_date,
    cell_kind,
    grid_cell(cell_kind, column_index, row_index) AS cell,
    grid_centre_lat(row_index, side) AS grid_lat,
    grid_centre_lon(column_index, side) AS grid_lon,
    stations::INTEGER AS stations,
    round(station_bike_ms / ms, 4) AS station_bikes_mean,
    round(free_bike_ms / ms, 4) AS free_bikes_mean,
    round((station_bike_ms + free_bike_ms) / ms, 4) AS bikes_mean,
    round((station_bike_ms + free_bike_ms) / ms / (side * side) * 1e6, 4) AS bikes_per_km2,
    round((station_bike_ms + free_bike_ms) / ms / (side * side) * 1e3, 6) AS density_per_1000m2,
    (newest_station_bikes + newest_free_bikes)::BIGINT AS bike_count,
    newest_stations::INTEGER AS station_count,
    newest_free_bikes::INTEGER AS mobile_bike_count
FROM cell, observed
ORDER BY cell_kind, cell

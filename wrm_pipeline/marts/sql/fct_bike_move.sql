-- Moves of free-standing bikes: pairs of consecutive sightings of one bike between which it was absent, or whose places
-- differ. Neither columns nor order tell which bike it was: the id is a pseudonym that serves for one move alone, and
-- places are centres of 250 m cells.
-- From: stg_bike_sighting.
WITH move AS (
    SELECT
        *,
        grid_index(grid_x(from_lon), 250) AS from_column,
        grid_index(grid_y(from_lat), 250) AS from_row,
        grid_index(grid_x(lon), 250) AS to_column,
        grid_index(grid_y(lat), 250) AS to_row
    FROM stg_bike_sighting
    WHERE kind IS NOT NULL
)
SELECT
    pseudonym(concat(bike_id, '|', epoch_ms(snapshot_at) // 1000)) AS move_id,
    kind,
    from_seen_at,
    snapshot_at AS to_seen_at,
    round(minutes(epoch_ms(snapshot_at) - epoch_ms(from_seen_at)), 4) AS minutes,
    round(distance_m, 1) AS distance_m,
    round(speed_kmh, 2) AS speed_kmh,
    grid_cell('250m', from_column, from_row) AS from_cell,
    grid_cell('250m', to_column, to_row) AS to_cell,
    grid_centre_lat(from_row, 250) AS from_lat,
    grid_centre_lon(from_column, 250) AS from_lon,
    grid_centre_lat(to_row, 250) AS to_lat,
    grid_centre_lon(to_column, 250) AS to_lon,
    local(snapshot_at)::DATE AS local_date,
    hour(local(snapshot_at))::INTEGER AS local_hour
FROM move
ORDER BY to_seen_at, move_id

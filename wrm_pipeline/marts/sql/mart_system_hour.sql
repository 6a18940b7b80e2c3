-- The whole system by the hour. Means are weighted by the time that a snapshot covers: to the next one, at most two
-- intervals, split at the hours of the day. The last snapshot of the day before covers the beginning.
-- Flows, minutes of service, and empty and full stations are those of fct_station_hour, added up.
-- From: enhanced, stg_bike_sighting, fct_station_hour, fct_bike_move, previous_state_bike, previous_state_station.
WITH hour AS (
    SELECT hour_start, hour_start + INTERVAL 1 HOUR AS hour_end
    FROM range(getvariable('day_start'), getvariable('day_end'), INTERVAL 1 HOUR) AS hours(hour_start)
),
snapshot AS (
    SELECT
        snapshot_at,
        epoch_ms(snapshot_at) - epoch_ms(lag(snapshot_at) OVER (ORDER BY snapshot_at)) AS after_ms,
        least(
            lead(snapshot_at) OVER (ORDER BY snapshot_at),
            snapshot_at
                + to_seconds(getvariable('stg_station_step.covers_intervals')::BIGINT * getvariable('interval_s'))
        ) AS covers_to
    FROM (
        SELECT DISTINCT file_timestamp AS snapshot_at FROM enhanced
        UNION ALL
        -- The carried one: a snapshot has stations or bikes, and greatest() passes over a null.
        SELECT greatest(
            (SELECT max(last_seen_at) FROM previous_state_bike),
            (SELECT max(file_timestamp) FROM previous_state_station)
        )
    )
    WHERE snapshot_at IS NOT NULL
),
free_bike AS (
    SELECT snapshot_at, in_service_area, battery_level, standing_since FROM stg_bike_sighting
    UNION ALL
    -- What was last seen before the carried snapshot meets no snapshot below.
    SELECT last_seen_at, in_service_area, battery_level, standing_since FROM previous_state_bike
),
fleet AS (
    SELECT
        snapshot_at,
        count(*) FILTER (in_service_area) AS in_zone,
        count(*) FILTER (NOT in_service_area) AS off_zone,
        count(*) FILTER (
            in_service_area AND battery_level BETWEEN 0 AND getvariable('mart_system_hour.battery_low_to')
        ) AS battery_low,
        count(*) FILTER (in_service_area AND coalesce(battery_level, -1) < 0) AS battery_unknown,
        count(*) FILTER (
            in_service_area AND epoch_ms(snapshot_at) - epoch_ms(standing_since)
                >= getvariable('mart_system_hour.idle_after_days') * 86400000::BIGINT
        ) AS idle
    FROM free_bike
    GROUP BY ALL
),
station AS (
    SELECT file_timestamp AS snapshot_at, sum(bikes) AS bikes FROM enhanced WHERE record_type = 'station' GROUP BY ALL
    UNION ALL
    SELECT file_timestamp, sum(bikes) FROM previous_state_station GROUP BY ALL
),
piece AS (
    SELECT
        hour_start,
        epoch_ms(least(covers_to, hour_end)) - epoch_ms(greatest(snapshot_at, hour_start)) AS ms,
        coalesce(bikes, 0) AS at_stations,
        coalesce(in_zone, 0) AS in_zone,
        coalesce(off_zone, 0) AS off_zone,
        coalesce(battery_low, 0) AS battery_low,
        coalesce(battery_unknown, 0) AS battery_unknown,
        coalesce(idle, 0) AS idle
    FROM snapshot
    JOIN hour ON snapshot_at < hour_end AND covers_to > hour_start
    LEFT JOIN fleet USING (snapshot_at)
    LEFT JOIN station USING (snapshot_at)
),
mean AS (
    SELECT
        hour_start,
        sum(ms) AS ms,
        round(sum(at_stations * ms) / sum(ms), 4) AS bikes_at_stations,
        round(sum(in_zone * ms) / sum(ms), 4) AS bikes_free_in_zone,
        round(sum(off_zone * ms) / sum(ms), 4) AS bikes_off_zone,
        round(sum(battery_low * ms) / sum(ms), 4) AS battery_low,
        round(sum(battery_unknown * ms) / sum(ms), 4) AS battery_unknown,
        round(sum(idle * ms) / sum(ms), 4) AS idle_14_days
    FROM piece
    GROUP BY hour_start
),
received AS (
    -- The carried snapshot is in an hour of another day, and meets no hour below.
    SELECT
        date_trunc('hour', snapshot_at) AS hour_start,
        count(*) AS snapshots,
        quantile_disc(after_ms, 0.5)
            FILTER (after_ms <= getvariable('fct_station_hour.flow_within_s')::BIGINT * 1000) AS after_ms
    FROM snapshot
    GROUP BY ALL
),
station_hour AS (
    -- Minutes back to the whole milliseconds that they are: sums of these depend on no order.
    SELECT
        hour_start,
        count(*) AS stations,
        sum(round(minutes_observed * 60000)::BIGINT) AS observed_ms,
        sum(round(minutes_empty * 60000)::BIGINT) AS empty_ms,
        sum(round(minutes_full * 60000)::BIGINT) AS full_ms,
        sum(round(minutes_service * 60000)::BIGINT) AS service_ms,
        sum(inflow) AS inflow,
        sum(outflow) AS outflow
    FROM fct_station_hour
    GROUP BY hour_start
),
move AS (
    SELECT
        date_trunc('hour', to_seen_at) AS hour_start,
        count(*) FILTER (kind = 'candidate_trip') AS candidate_trips,
        count(*) FILTER (kind <> 'candidate_trip') AS moves_other
    FROM fct_bike_move
    GROUP BY ALL
)
SELECT
    hour_start,
    hour_end,
    local(hour_start)::DATE AS local_date,
    hour(local(hour_start))::INTEGER AS local_hour,
    ((epoch_ms(local(hour_start)) - epoch_ms(hour_start)) // 3600000)::INTEGER AS utc_offset_h,
    coalesce(snapshots, 0)::INTEGER AS snapshots,
    round(minutes(ms), 4) AS minutes_observed,
    coalesce(stations, 0)::INTEGER AS stations,
    bikes_at_stations,
    bikes_free_in_zone,
    bikes_off_zone,
    battery_low,
    battery_unknown,
    idle_14_days,
    round(coalesce(empty_ms, 0) / ms, 4) AS stations_empty,
    round(coalesce(full_ms, 0) / ms, 4) AS stations_full,
    round(service_ms / nullif(observed_ms, 0), 4) AS minutes_service_share,
    coalesce(inflow, 0)::BIGINT AS inflow,
    coalesce(outflow, 0)::BIGINT AS outflow,
    (after_ms // 1000)::INTEGER AS sampling_interval_s,
    coalesce(candidate_trips, 0)::INTEGER AS candidate_trips,
    coalesce(moves_other, 0)::INTEGER AS moves_other
FROM mean
JOIN hour USING (hour_start)
LEFT JOIN received USING (hour_start)
LEFT JOIN station_hour USING (hour_start)
LEFT JOIN move USING (hour_start)
ORDER BY hour_start

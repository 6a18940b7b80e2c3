-- What a station was like in an hour: bikes at its first and last observed instant, highest, lowest, mean and
-- percentiles weighted by time, minutes in each state, and flows.
--
-- Rows are weighted by the time they cover, split at the hours. Every row covers some of its own hour: snapshots carry
-- whole seconds and no station stands twice in one, so the next row is at least a second away. So an hour with a
-- snapshot has observed time, and an hour without a covering row is not listed.
-- P10/P50/P90: the smallest number of bikes whose share of the observed time, with that of all smaller ones, reaches
-- the percentage (inverse of the empirical distribution function; Hyndman and Fan 1996, type 1).
-- Flows: sums of falls (outflow) and rises (inflow) between consecutive rows at most `flow_within_s` apart, counted in
-- the hour of the later row. Lower bounds: what comes and goes between two snapshots is not seen.
-- Sources: stg_station_step, state_station_version.
WITH covering AS (
    SELECT
        station_id,
        snapshot_at,
        epoch_ms(snapshot_at) AS snapshot_ms,
        epoch_ms(snapshot_at) - epoch_ms(previous_at) AS since_previous_ms,
        bikes,
        previous_bikes,
        total_docks,
        epoch_ms(covers_from) AS from_ms,
        epoch_ms(covers_to) AS to_ms
    FROM stg_station_step
    WHERE covers_to > covers_from
),
-- One row for each hour that a row covers part of.
split AS (
    SELECT *, unnest(range(from_ms - from_ms % 3600000, to_ms, 3600000)) AS hour_ms
    FROM covering
),
piece AS (
    SELECT
        *,
        greatest(from_ms, hour_ms) AS piece_from_ms,
        least(to_ms, hour_ms + 3600000) - greatest(from_ms, hour_ms) AS ms,
        -- Its own hour: neither a carried row's nor the next hour into which it reaches.
        snapshot_ms >= hour_ms AS own_hour,
        snapshot_ms >= hour_ms
            AND since_previous_ms <= getvariable('fct_station_hour.flow_within_s')::BIGINT * 1000 AS shows_flow
    FROM split
),
hour AS (
    SELECT
        station_id,
        hour_ms,
        max(snapshot_at) AS last_at,
        count(*) FILTER (own_hour) AS snapshots,
        sum(ms) AS observed_ms,
        arg_min(bikes, piece_from_ms) AS bikes_open,
        max(bikes) AS bikes_high,
        min(bikes) AS bikes_low,
        arg_max(bikes, piece_from_ms) AS bikes_close,
        sum(bikes * ms) AS bikes_ms,
        arg_max(total_docks, piece_from_ms) AS total_docks,
        coalesce(sum(ms) FILTER (bikes = 0), 0) AS empty_ms,
        coalesce(sum(ms) FILTER (total_docks > 0 AND bikes >= total_docks), 0) AS full_ms,
        coalesce(sum(ms) FILTER (bikes >= 2 AND total_docks - bikes >= 2), 0) AS service_ms,
        coalesce(sum((bikes - total_docks) * ms) FILTER (total_docks > 0 AND bikes > total_docks), 0) AS overfull_ms,
        coalesce(sum(greatest(bikes - previous_bikes, 0)) FILTER (shows_flow), 0) AS inflow,
        coalesce(sum(greatest(previous_bikes - bikes, 0)) FILTER (shows_flow), 0) AS outflow,
        quantile_disc(since_previous_ms // 1000, 0.5) FILTER (shows_flow) AS sampling_interval_s
    FROM piece
    GROUP BY station_id, hour_ms
),
held AS (
    SELECT station_id, hour_ms, bikes, sum(ms)::BIGINT AS ms
    FROM piece
    GROUP BY station_id, hour_ms, bikes
),
reached AS (
    SELECT
        station_id,
        hour_ms,
        bikes,
        100 * sum(ms) OVER (PARTITION BY station_id, hour_ms ORDER BY bikes) AS up_to_ms,
        sum(ms) OVER (PARTITION BY station_id, hour_ms) AS all_ms
    FROM held
),
percentile AS (
    SELECT
        station_id,
        hour_ms,
        min(bikes) FILTER (up_to_ms >= 10 * all_ms) AS bikes_p10,
        min(bikes) FILTER (up_to_ms >= 50 * all_ms) AS bikes_p50,
        min(bikes) FILTER (up_to_ms >= 90 * all_ms) AS bikes_p90
    FROM reached
    GROUP BY station_id, hour_ms
),
dated AS (
    SELECT
        *,
        make_timestamptz(hour_ms * 1000) AS hour_start,
        make_timestamptz((hour_ms + 3600000) * 1000) AS hour_end,
        local(make_timestamptz(hour_ms * 1000)) AS local_start
    FROM hour
    JOIN percentile USING (station_id, hour_ms)
)
SELECT
    dated.station_id,
    version.station_key,
    dated.hour_start,
    dated.hour_end,
    dated.local_start::DATE AS local_date,
    hour(dated.local_start)::INTEGER AS local_hour,
    ((epoch_ms(dated.local_start) - dated.hour_ms) // 3600000)::INTEGER AS utc_offset_h,
    dated.snapshots::INTEGER AS snapshots,
    minutes(dated.observed_ms) AS minutes_observed,
    dated.bikes_open,
    dated.bikes_high,
    dated.bikes_low,
    dated.bikes_close,
    round(dated.bikes_ms / dated.observed_ms, 4) AS bikes_mean,
    dated.bikes_p10,
    dated.bikes_p50,
    dated.bikes_p90,
    dated.total_docks,
    minutes(dated.empty_ms) AS minutes_empty,
    minutes(dated.full_ms) AS minutes_full,
    minutes(dated.service_ms) AS minutes_service,
    minutes(dated.overfull_ms) AS overfull_bike_minutes,
    dated.inflow::BIGINT AS inflow,
    dated.outflow::BIGINT AS outflow,
    dated.sampling_interval_s::INTEGER AS sampling_interval_s
FROM dated
ASOF LEFT JOIN state_station_version AS version
    ON dated.station_id = version.station_id AND dated.last_at >= version.valid_from
ORDER BY dated.station_id, dated.hour_start

-- How many rows of each UTC day carry which warning.
SELECT
    flag_overfull AS overfull,
    flag_racks_out_of_use AS racks_out_of_use,
    flag_zero_docks AS zero_docks,
    flag_off_zone AS off_zone,
    flag_stale_row_time AS stale_row_time,
    flag_future_row_time AS future_row_time,
    flag_non_monotonic_time AS non_monotonic_time,
    flag_battery_out_of_range AS battery_out_of_range,
    flag_name_changed AS name_changed,
    flag_moved AS moved,
    flag_unknown_record_type AS unknown_record_type
FROM mart_data_quality_day
ORDER BY utc_date

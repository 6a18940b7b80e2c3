"""The jobs. All run in one process: a snapshot's work takes less time than starting a second one."""

from dagster import AssetSelection, define_asset_job, in_process_executor

# Runs with one value of this tag wait for each other; dagster.yaml sets the limit.
SERIAL_TAG = "wrm/serial"

wrm_stations_ingest_job = define_asset_job(
    "wrm_stations_ingest_job",
    selection=AssetSelection.assets("wrm_stations_raw_data"),
    description="Fetch what the feed shows now and keep it in raw.",
    executor_def=in_process_executor,
    tags={SERIAL_TAG: "ingest"},
)

wrm_stations_processing_job = define_asset_job(
    "wrm_stations_processing_job",
    selection=AssetSelection.assets(
        "wrm_stations_processed_data_all", "wrm_stations_enhanced_data_all", "wrm_stations_dlq"
    ),
    description="Bring processed and enhanced of a day up to date with raw, and report its dead letters.",
    executor_def=in_process_executor,
)

wrm_stations_quality_job = define_asset_job(
    "wrm_stations_quality_job",
    selection=AssetSelection.assets("wrm_stations_anomalies", "wrm_stations_profile"),
    description="Look for anomalies in a day, and profile it; the day must pass its blocking checks.",
    executor_def=in_process_executor,
)

"""The jobs. All run in one process: a snapshot's work takes less time than starting a second one."""

from dagster import AssetSelection, define_asset_job, in_process_executor

from wrm_pipeline.telemetry import logs, traces

# Runs with one value of this tag wait for each other; dagster.yaml sets the limit.
SERIAL_TAG = "wrm/serial"


def run_tags(correlation_id: str | None) -> dict[str, str]:
    """Return the tags by which a run's log lines and spans go on from what asked for it."""
    tags = {logs.CORRELATION_TAG: correlation_id, traces.TRACEPARENT_TAG: traces.traceparent()}
    return {name: value for name, value in tags.items() if value is not None}


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

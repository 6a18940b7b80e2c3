"""The job that brings the marts and the site up to date, and the sensor that runs it after enhanced has changed."""

from dataclasses import dataclass
from typing import Final

from dagster import (
    AssetKey,
    AssetSelection,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    EventLogRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    define_asset_job,
    in_process_executor,
    sensor,
)

from wrm_pipeline.assets.marts import MARTS_GROUP
from wrm_pipeline.automation.jobs import SERIAL_TAG, run_tags
from wrm_pipeline.contracts.vocabulary import ENHANCED
from wrm_pipeline.telemetry import logs, traces

# A run that waits or is at work will see what enhanced holds now, or be followed by one that does.
_AT_WORK: Final = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)

wrm_stations_marts_job = define_asset_job(
    "wrm_stations_marts_job",
    # What is made from the marts, such as the site, comes with them.
    selection=AssetSelection.groups(MARTS_GROUP).downstream(),
    description="Bring the marts, the DuckDB file and the site up to date with enhanced.",
    executor_def=in_process_executor,
    tags={SERIAL_TAG: "marts"},
)


@dataclass(frozen=True)
class Decision:
    """Run for the materialization with this storage id, or a reason for not running."""

    storage_id: int | None
    reason: str = ""


def decide(cursor: str | None, newest: int | None, at_work: int) -> Decision:
    """Decide from what was run for, enhanced's newest materialization, and how many marts runs have not ended.

    A reason leaves the cursor where it is, so what came while a run was at work is run for after it.
    """
    if newest is None:
        return Decision(None, f"{ENHANCED} has not been materialized yet.")
    if cursor == str(newest):
        return Decision(None, "The marts were run for the newest materialization of enhanced.")
    if at_work:
        return Decision(None, "A run of the marts is queued or in progress; the next one is asked for after it.")
    return Decision(newest)


@sensor(
    job=wrm_stations_marts_job,
    minimum_interval_seconds=10,
    default_status=DefaultSensorStatus.RUNNING,
    description="Asks for one run of the marts when enhanced has been materialized since the last one was asked for.",
)
def wrm_stations_marts_sensor(context: SensorEvaluationContext) -> SensorResult | SkipReason:
    """Ask the instance for enhanced's newest materialization and for runs at work: two small queries."""
    instance = context.instance
    enhanced = _newest_materialization(instance)
    decision = decide(context.cursor, enhanced.storage_id if enhanced else None, _runs_at_work(instance))
    if enhanced is None or decision.storage_id is None:
        return SkipReason(decision.reason)
    run = instance.get_run_by_id(enhanced.run_id)
    made_by = run.tags if run is not None else {}
    with traces.tick("wrm_stations_marts_sensor", made_by.get(traces.TRACEPARENT_TAG)):
        tags = run_tags(made_by.get(logs.CORRELATION_TAG))
    return SensorResult(
        run_requests=[RunRequest(run_key=f"enhanced:{decision.storage_id}", tags=tags)],
        cursor=str(decision.storage_id),
    )


def _newest_materialization(instance: DagsterInstance) -> EventLogRecord | None:
    """Return enhanced's newest materialization, of whichever day."""
    records = instance.get_asset_records([AssetKey(ENHANCED)])
    return records[0].asset_entry.last_materialization_record if records else None


def _runs_at_work(instance: DagsterInstance) -> int:
    return instance.get_runs_count(RunsFilter(job_name=wrm_stations_marts_job.name, statuses=_AT_WORK))

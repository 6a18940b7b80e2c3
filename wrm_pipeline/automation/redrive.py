"""The job that redrives dead letters, and the sensor that has the days it rebuilt checked and reported.

The job writes days of the lake, which is no asset's work: each day it rebuilt goes through the processing job once
more, which finds it up to date, and materializes, checks and reports it as any other.
"""

import datetime as dt
from typing import Final

from dagster import (
    Config,
    DagsterEventType,
    DagsterRunStatus,
    DefaultSensorStatus,
    Failure,
    MetadataValue,
    OpExecutionContext,
    RunRequest,
    RunStatusSensorContext,
    SkipReason,
    in_process_executor,
    job,
    op,
    run_status_sensor,
)
from pydantic import Field

from wrm_pipeline.assets.common import step
from wrm_pipeline.assets.metadata import markdown_table
from wrm_pipeline.assets.partitions import daily_partitions
from wrm_pipeline.automation.jobs import SERIAL_TAG, wrm_stations_processing_job
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.lake.dead_letters import Stage
from wrm_pipeline.layers.redrive import DayRedriven, Redriven, redrive
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline.layers.waiting import Select
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource

REBUILT_DAYS: Final = "rebuilt_days"
# A letter of what a redrive sets aside again names the asset whose build it was.
_ASSET: Final = "wrm_stations_enhanced_data_all"
_SHOWN_UNREADABLE: Final = 20


class RedriveConfig(Config):
    """What to redrive; everything that waits when left as it is."""

    days: list[str] = Field(default=[], description="UTC days, as YYYY-MM-DD; empty: all")
    rule: str | None = Field(default=None, description="Only letters with a record that broke this rule")
    stage: str | None = Field(default=None, description="Only letters of this stage: raw, processed or enhanced")

    def chosen(self) -> tuple[Select, list[dt.date] | None]:
        """Return which letters, and of which days, None meaning all.

        Raises:
            LayerError: a day or the stage is none.
        """
        try:
            stage = None if self.stage is None else Stage(self.stage)
            days = [dt.date.fromisoformat(day) for day in self.days]
        except ValueError as error:
            raise LayerError(
                f"The run's configuration names no day or stage: {error}. Give days as YYYY-MM-DD, and as stage one "
                f"of {', '.join(Stage)}."
            ) from None
        return Select(rule=self.rule, stage=stage), days or None


@op
def redrive_dead_letters(
    context: OpExecutionContext,
    config: RedriveConfig,
    object_store: ObjectStoreResource,
    feed: FeedResource,
    metrics: MetricsResource,
) -> None:
    """Judge what waits again, by today's code and contracts."""

    def progress(done: int, of: int, day: DayRedriven) -> None:
        context.log.info("%d of %d days (%d %%), %s", done, of, 100 * done // of, _in_words(day))

    with step(context, metrics, object_store):
        select, days = config.chosen()
        found = redrive(
            object_store.lake,
            feed.format,
            active_contracts().enhanced,
            Provenance(run_id=context.run_id, asset=_ASSET),
            select=select,
            days=days,
            progress=progress,
        )
    for reason in found.unreadable:
        context.log.warning("%s. It is left as it is.", reason)
    if found.total("given_up"):
        context.log.error("%d dead letters are given up on; see `wrm dlq list`.", found.total("given_up"))
    context.add_output_metadata(
        {
            "days": len(found.days),
            "letters_reprocessed": found.total("reprocessed"),
            "letters_rejected_again": found.total("rejected"),
            "letters_given_up": found.total("given_up"),
            "rows_joined": found.total("rows_joined"),
            "unreadable_letters": len(found.unreadable),
            REBUILT_DAYS: " ".join(day.day.isoformat() for day in found.days if day.rebuilt),
            "by_day": MetadataValue.md(_table(found)),
            "unreadable": MetadataValue.md(
                markdown_table(["letters that cannot be read"], ([x] for x in found.unreadable[:_SHOWN_UNREADABLE]))
            ),
        }
    )
    if found.failures:
        reasons = "\n".join(f"{day}: {reason}" for day, reason in found.failures.items())
        raise Failure(
            description=f"{len(found.failures)} of {len(found.days)} days could not be redriven; the next redrive goes "
            f"on with them.\n{reasons}",
            allow_retries=False,
        )


def _in_words(day: DayRedriven) -> str:
    if day.failure is not None:
        return f"{day.day}: failed: {day.failure}"
    return (
        f"{day.day}: {day.reprocessed} letters reprocessed, {day.rejected} rejected again, of which {day.given_up} are "
        f"given up on; {day.rows_joined} rows joined"
    )


def _table(found: Redriven) -> str:
    if not found.days:
        return "No dead letter waited."
    return markdown_table(
        ["day (UTC)", "reprocessed", "rejected again", "given up on", "rows joined", "failure"],
        ([x.day, x.reprocessed, x.rejected, x.given_up, x.rows_joined, x.failure or ""] for x in found.days),
    )


@job(executor_def=in_process_executor, tags={SERIAL_TAG: "redrive"})
def reprocess_dlq_job() -> None:
    """Rebuild each day whose dead letters wait, with today's code and contracts; what passes now joins its day."""
    redrive_dead_letters()


@run_status_sensor(
    run_status=DagsterRunStatus.SUCCESS,
    monitored_jobs=[reprocess_dlq_job],
    request_job=wrm_stations_processing_job,
    default_status=DefaultSensorStatus.RUNNING,
    description="Has each day that a redrive rebuilt materialized, checked and reported.",
)
def wrm_stations_redriven_sensor(context: RunStatusSensorContext) -> list[RunRequest] | SkipReason:
    """Ask for one processing run a rebuilt day."""
    run_id = context.dagster_run.run_id
    entries = context.instance.all_logs(run_id, of_type=DagsterEventType.STEP_OUTPUT)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    days = [day for event in events for day in str(event.step_output_data.metadata[REBUILT_DAYS].value).split()]
    partitions = [day for day in days if daily_partitions.has_partition_key(day)]
    if not partitions:
        return SkipReason("The redrive rebuilt no day.")
    return [RunRequest(run_key=f"redriven:{run_id}:{day}", partition_key=day) for day in partitions]

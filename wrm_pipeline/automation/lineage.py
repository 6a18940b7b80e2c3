"""The sensor that stores the lineage of each run that has ended, however it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DefaultSensorStatus,
    RunStatusChangeRecordsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from wrm_pipeline.lake.object_store import StoreError
from wrm_pipeline.operations.lineage import publish_lineage
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import load_settings

# Some 0.1 s each; and as many as are looked at when the sensor begins on an instance that has run for long.
RUNS_PER_TICK: Final = 25
_ENDINGS: Final[
    tuple[
        Literal[DagsterEventType.RUN_SUCCESS],
        Literal[DagsterEventType.RUN_FAILURE],
        Literal[DagsterEventType.RUN_CANCELED],
    ]
] = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)


@dataclass(frozen=True)
class Ended:
    """A run that has ended, and the storage id of the event that says so."""

    storage_id: int
    run_id: str


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Stores the lineage of each run that has ended under lineage/ in the lake.",
)
def wrm_lineage_sensor(
    context: SensorEvaluationContext, object_store: ObjectStoreResource
) -> SensorResult | SkipReason:
    """Publish in the order in which runs ended. What cannot be stored is tried again; twice does no harm.

    A sensor of its own rather than one on run status: that one goes on after an error, and the run would be lost.
    """
    settings = load_settings()
    if not settings.wrm_lineage:
        return SkipReason("WRM_LINEAGE is false.")
    ended = ended_runs(context.instance, context.cursor)
    done, published, problem = context.cursor, 0, ""
    for run in ended:
        try:
            published += publish_lineage(object_store.lake, context.instance, run.run_id, settings) is not None
        except StoreError as error:
            problem = f" The next one is tried again: {error}"
            break
        done = str(run.storage_id)
    said = f"Stored the lineage of {published} of {len(ended)} runs that have ended.{problem}"
    return SensorResult(skip_reason=said if ended else "No run has ended since.", cursor=done)


def ended_runs(instance: DagsterInstance, cursor: str | None) -> Sequence[Ended]:
    """Return the runs that ended after a cursor, oldest first, so many at a time; without one, the newest."""
    found: list[Ended] = []
    after = int(cursor) if cursor is not None and cursor.isdecimal() else None
    for ending in _ENDINGS:
        changes = instance.fetch_run_status_changes(
            RunStatusChangeRecordsFilter(ending, after_storage_id=after),
            limit=RUNS_PER_TICK,
            ascending=after is not None,
        )
        found += [Ended(record.storage_id, record.event_log_entry.run_id) for record in changes.records]
    found.sort(key=lambda run: run.storage_id)
    return found[-RUNS_PER_TICK:] if after is None else found[:RUNS_PER_TICK]

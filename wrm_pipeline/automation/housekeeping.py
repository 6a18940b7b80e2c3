"""Forgetting runs: at a poll in five minutes Dagster's storage grows by some 0.5 GB a day, and nothing else purges it.

What Dagster knows of assets and partitions comes from the events of runs. So the newest run of each job and partition
stays, and the newest one that succeeded: an asset shows its newest materialization and checks, however old.
"""

import datetime as dt
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    OpExecutionContext,
    RunRecord,
    RunsFilter,
    in_process_executor,
    job,
    op,
)

from wrm_pipeline.automation.jobs import SERIAL_TAG
from wrm_pipeline.settings import load_settings

_ENDED: Final = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
_SAME_WORK: Final = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
_PAGE: Final = 500
# Some 20 ms each with SQLite; what is left comes the next night.
RUNS_PER_NIGHT: Final = 10_000


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended; `work` is the same for runs that do the same: job, partitions, assets."""

    run_id: str
    work: Hashable
    succeeded: bool
    ended_at: dt.datetime


def superseded(runs: Iterable[EndedRun], before: dt.datetime) -> Iterator[str]:
    """Yield the ids of runs that ended before a time and have a newer one of the same work; `runs` come newest first.

    The newest run of a work stays, and the newest that succeeded.
    """
    ended: set[Hashable] = set()
    succeeded: set[Hashable] = set()
    for run in runs:
        is_newest = run.work not in ended or (run.succeeded and run.work not in succeeded)
        ended.add(run.work)
        if run.succeeded:
            succeeded.add(run.work)
        if not is_newest and run.ended_at < before:
            yield run.run_id


def ended_runs(instance: DagsterInstance) -> Iterator[EndedRun]:
    """Yield the runs that have ended, newest first, a page at a time."""
    cursor: str | None = None
    while True:
        page = instance.get_run_records(RunsFilter(statuses=list(_ENDED)), limit=_PAGE, cursor=cursor)
        yield from map(_ended, page)
        if len(page) < _PAGE:
            return
        cursor = page[-1].dagster_run.run_id


def _ended(record: RunRecord) -> EndedRun:
    run = record.dagster_run
    ended_at = record.update_timestamp.replace(tzinfo=dt.UTC)
    if record.end_time is not None:
        ended_at = dt.datetime.fromtimestamp(record.end_time, dt.UTC)
    return EndedRun(run.run_id, _work(run), run.status is DagsterRunStatus.SUCCESS, ended_at)


def _work(run: DagsterRun) -> Hashable:
    assets = frozenset(run.asset_selection or ())
    return run.job_name, assets, tuple(run.tags.get(name) for name in _SAME_WORK)


@op
def forget_superseded_runs(context: OpExecutionContext) -> None:
    """Delete runs that ended more than WRM_RUNS_KEPT_DAYS days ago, with their events and what they printed."""
    instance, kept = context.instance, dt.timedelta(days=load_settings().wrm_runs_kept_days)
    # All at once before the first is deleted: paging goes by the runs that are there.
    old = list(superseded(ended_runs(instance), dt.datetime.now(dt.UTC) - kept))
    due = old[-RUNS_PER_NIGHT:]  # the oldest
    for number, run_id in enumerate(due, 1):
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        if number % _PAGE == 0:
            context.log.info("%d of %d runs forgotten (%d %%)", number, len(due), 100 * number // len(due))
    context.add_output_metadata({"forgotten": len(due), "left_for_the_next_night": len(old) - len(due)})


@job(executor_def=in_process_executor, tags={SERIAL_TAG: "housekeeping"})
def wrm_housekeeping_job() -> None:
    """Delete from Dagster's storage the runs that newer ones have superseded."""
    forget_superseded_runs()

"""Forgetting runs: which ones, and that what Dagster knows of assets and partitions stays."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.automation.housekeeping import EndedRun, ended_runs, superseded, wrm_housekeeping_job
from wrm_pipeline_tests.fixtures.dagster import QUIET

NOW = dt.datetime(2026, 5, 12, 5, 7, tzinfo=dt.UTC)
BEFORE = NOW - dt.timedelta(days=7)


def ended(run_id: str, work: str, days_ago: float, *, succeeded: bool = True) -> EndedRun:
    return EndedRun(run_id, work, succeeded, NOW - dt.timedelta(days=days_ago))


def forgotten(*runs: EndedRun) -> list[str]:
    return list(superseded(runs, BEFORE))


def test_an_old_run_is_forgotten_when_a_newer_one_did_the_same() -> None:
    assert forgotten(ended("new", "a", 1), ended("old", "a", 8), ended("other", "b", 9)) == ["old"]


def test_a_run_younger_than_the_limit_stays() -> None:
    assert forgotten(ended("new", "a", 1), ended("younger", "a", 6.9), ended("old", "a", 7.1)) == ["old"]


def test_the_newest_success_stays_under_newer_failures_and_so_does_the_newest_failure() -> None:
    runs = [
        ended("failed", "a", 8, succeeded=False),
        ended("failed before", "a", 9, succeeded=False),
        ended("succeeded", "a", 10),
        ended("succeeded before", "a", 11),
    ]
    assert forgotten(*runs) == ["failed before", "succeeded before"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 30)), max_size=30))
def test_whatever_happened_each_work_keeps_its_newest_run_and_its_newest_success(
    found: list[tuple[str, bool, float]],
) -> None:
    runs = [
        ended(str(at), work, days, succeeded=good)
        for at, (work, good, days) in enumerate(sorted(found, key=lambda run: run[2]))
    ]
    gone = set(superseded(runs, BEFORE))

    for work in {run.work for run in runs}:
        same = [run for run in runs if run.work == work]
        assert same[0].run_id not in gone
        good = [run for run in same if run.succeeded]
        assert not good or good[0].run_id not in gone
        keepers = {same[0].run_id, *(run.run_id for run in good[:1])}
        assert {run.run_id for run in same if run.ended_at < BEFORE} - keepers == gone & {run.run_id for run in same}


days = dg.StaticPartitionsDefinition(["2025-05-11", "2025-05-12"])


@dg.asset(partitions_def=days)
def made() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 1})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that stores what a server's does."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as found:
        yield found


def make(instance: dg.DagsterInstance, day: str) -> str:
    return dg.materialize([made], instance=instance, partition_key=day, run_config=QUIET).run_id


def test_runs_of_the_same_job_and_partition_are_the_same_work(instance: dg.DagsterInstance) -> None:
    ids = [make(instance, day) for day in ("2025-05-11", "2025-05-12", "2025-05-12")]

    runs = list(ended_runs(instance))

    assert [run.run_id for run in runs] == ids[::-1]
    assert runs[0].work == runs[1].work != runs[2].work
    assert list(superseded(runs, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))) == [ids[1]]


def test_the_job_forgets_old_runs_and_no_partition_is_missing_afterwards(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (make(instance, day) for day in ("2025-05-11", "2025-05-11", "2025-05-12"))
    folder = Path(instance.storage_directory())
    assert (folder / first / "compute_logs").is_dir()
    aged = dt.datetime.now(dt.UTC) - dt.timedelta(days=8)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]  # of SQLite and PostgreSQL
        connection.exec_driver_sql("UPDATE runs SET end_time = ?", (aged.timestamp(),))

    result = wrm_housekeeping_job.execute_in_process(instance=instance, run_config=QUIET)

    assert result.success
    left = {run.run_id for run in instance.get_runs()}
    assert left == {second, third, result.run_id}
    assert not (folder / first / "compute_logs").exists()
    assert (folder / second / "compute_logs").is_dir()
    assert instance.get_materialized_partitions(made.key) == {"2025-05-11", "2025-05-12"}
    (output,) = [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_OUTPUT]
    assert output.step_output_data.metadata["forgotten"].value == 1

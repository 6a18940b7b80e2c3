"""What is counted from Dagster's storages: right across processes, restarts, deleted runs and `kill -9`."""

import datetime as dt
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.events import AssetCheckEvaluationPlanned, EngineEventData
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.types import DaemonHeartbeat

from wrm_pipeline.operations.event_log import AssetFigures, CheckFigures, EventLog
from wrm_pipeline_tests.fixtures.dagster import QUIET
from wrm_pipeline_tests.fixtures.servers import wait_until

# Of a process of its own, so not of this package: what it imports is what it takes to start.
JOBS = """
import os, pathlib, sys, threading
import dagster as dg

@dg.op
def succeed(): ...

@dg.op
def fail():
    raise dg.Failure("on purpose", allow_retries=False)

@dg.op
def stay():
    folder = pathlib.Path(__file__).parent
    marker = folder / f"{os.getpid()}.tmp"
    marker.touch()
    marker.rename(folder / f"{os.getpid()}.pid")
    threading.Event().wait(600)

@dg.job(executor_def=dg.in_process_executor)
def good(): succeed()

@dg.job(executor_def=dg.in_process_executor)
def bad(): fail()

@dg.job(executor_def=dg.in_process_executor)
def long(): stay()

defs = dg.Definitions(jobs=[good, bad, long])

if __name__ == "__main__":
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
        for job, times in zip(sys.argv[2::2], sys.argv[3::2]):
            for _ in range(int(times)):
                globals()[job].execute_in_process(instance=instance, raise_on_error=False, run_config=quiet)
"""
T0 = dt.datetime(2025, 5, 12, 8, 0, tzinfo=dt.UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "exporter.json"


def add_runs(
    instance: dg.DagsterInstance, count: int, *, status: str = "SUCCESS", after: int = 0, job: str = "j", **columns: Any
) -> None:
    """Write rows as Dagster does; run n is created n seconds after 8:00 UTC and takes 2 s."""
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    with storage.connect() as connection:
        for number in range(after, after + count):
            created = T0 + dt.timedelta(seconds=number)
            started = created.timestamp()
            values = {
                "run_id": f"run-{number}",
                "pipeline_name": job,
                "status": status,
                "run_body": "{}",
                "create_timestamp": created.replace(tzinfo=None),
                "start_time": started,
                "end_time": started + 2,
            } | columns
            connection.execute(RUNS.insert().values(values))


RUNS = sa.table(
    "runs",
    *(sa.column(name) for name in ("id", "run_id", "pipeline_name", "status", "run_body", "start_time", "end_time")),
    sa.column("create_timestamp", sa.DateTime),
)


def change_runs(instance: dg.DagsterInstance, statement: Any) -> None:
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    with storage.connect() as connection:
        connection.execute(statement)


def ends(log: EventLog, job: str = "j") -> tuple[int, int, int]:
    """Return how often a job succeeded, failed, and was canceled."""
    runs = log.read().runs
    return runs[job, "success"], runs[job, "failure"], runs[job, "canceled"]


@contextmanager
def code_server(instance: dg.DagsterInstance, jobs: Path) -> Iterator[WorkspaceProcessContext]:
    """Serve the jobs as `dagster dev` does, for runs that Dagster launches."""
    target = PythonFileTarget(str(jobs), attribute=None, working_directory=None, location_name="jobs")
    with WorkspaceProcessContext(instance, target) as workspace:
        yield workspace


def launch(workspace: WorkspaceProcessContext, job: str) -> str:
    request = workspace.create_request_context()
    (repository,) = request.get_code_location("jobs").get_repositories().values()
    remote = repository.get_full_job(job)
    run = create_run_for_test(
        workspace.instance,
        job_name=job,
        remote_job_origin=remote.get_remote_origin(),
        job_code_origin=remote.get_python_origin(),
    )
    workspace.instance.launch_run(run.run_id, request)
    return run.run_id


def test_counters_say_so_after_50_runs_10_failed_and_3_killed(tmp_path: Path) -> None:
    """In processes of their own, two killed where nobody looks after them and one that a code server launched."""
    jobs, home = tmp_path / "jobs.py", tmp_path / "home"
    jobs.write_text(JOBS)
    home.mkdir()
    with ExitStack() as parts:
        instance = parts.enter_context(dg.DagsterInstance.from_config(str(home)))
        log = EventLog(instance, home / "exporter.json")
        assert not log.read().runs

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, str(jobs), str(home), *arguments])
            parts.callback(process.wait)
            parts.callback(process.kill)
            return process

        def kill_new(before: set[Path], count: int) -> None:
            wait_until(lambda: len(set(tmp_path.glob("*.pid")) - before) == count, within_s=60)
            for marker in set(tmp_path.glob("*.pid")) - before:
                os.kill(int(marker.stem), signal.SIGKILL)

        start("long", "1")
        start("long", "1")
        launched = launch(parts.enter_context(code_server(instance, jobs)), "long")
        wait_until(lambda: len(set(tmp_path.glob("*.pid"))) == 3, within_s=60)
        at_work = log.read()
        kill_new(set(), 3)
        workers = [start("good", "20", "bad", "5"), start("good", "17", "bad", "5")]
        assert [worker.wait(120) for worker in workers] == [0, 0]
        wait_until(lambda: instance.get_run_by_id(launched).is_failure, within_s=30)  # type: ignore[union-attr]

        figures = log.read()

        assert at_work.active == {"long": 3}
        assert figures.runs == {
            ("good", "success"): 37,
            ("good", "failure"): 0,
            ("good", "canceled"): 0,
            ("bad", "success"): 0,
            ("bad", "failure"): 10,
            ("bad", "canceled"): 0,
            ("long", "success"): 0,
            ("long", "failure"): 3,
            ("long", "canceled"): 0,
        }
        assert figures.active == {"bad": 0, "good": 0, "long": 0}
        assert sum(figures.durations["good"].counts) == 37
        # A process that starts now, with the file or without it, comes to the same.
        again = EventLog(instance, home / "exporter.json").read()
        anew = EventLog(instance, tmp_path / "other.json").read()
        assert again.runs == anew.runs == figures.runs


def test_a_second_reading_reads_what_is_new_however_long_the_history_is(
    instance: dg.DagsterInstance, state: Path
) -> None:
    costs = []
    for count, after in ((100, 0), (6000, 100)):
        add_runs(instance, count, after=after)
        log = EventLog(instance, state.with_name(f"{count}.json"))
        log.read()
        before = log.rows_read
        add_runs(instance, 3, after=10_000 + after)

        assert ends(log) == (after + count + 3 + (3 if after else 0), 0, 0)
        costs.append(log.rows_read - before)
        change_runs(instance, RUNS.delete().where(RUNS.c.run_id.in_([f"run-{n}" for n in range(10_000, 10_103)])))
        if not after:
            add_runs(instance, 3, after=9_000)

    # The new ones, and the 50 that come into sight again; two sums over the checks.
    assert costs == [53, 53]


def test_a_run_is_counted_when_it_ends_once(instance: dg.DagsterInstance, state: Path) -> None:
    log = EventLog(instance, state)
    add_runs(instance, 1, status="QUEUED", end_time=None)
    seen = [ends(log)]
    for status in ("STARTED", "SUCCESS", "SUCCESS"):
        change_runs(instance, RUNS.update().values(status=status, end_time=T0.timestamp() + 7))
        seen.append(ends(log))

    assert seen == [(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)]
    durations = log.read().durations["j"]
    assert (durations.sum_s, sum(durations.counts), durations.counts[3]) == (7.0, 1, 1)


def test_runs_that_never_started_have_no_duration(instance: dg.DagsterInstance, state: Path) -> None:
    add_runs(instance, 1, status="CANCELED", start_time=None)

    figures = EventLog(instance, state).read()

    assert figures.runs["j", "canceled"] == 1
    assert figures.durations == {}


def test_neither_a_restart_nor_deleted_runs_make_a_counter_fall(instance: dg.DagsterInstance, state: Path) -> None:
    add_runs(instance, 120)
    add_runs(instance, 5, status="FAILURE", after=120)
    assert ends(EventLog(instance, state)) == (120, 5, 0)
    change_runs(instance, RUNS.delete().where(RUNS.c.id <= 100))

    assert ends(EventLog(instance, state)) == (120, 5, 0)
    add_runs(instance, 1, after=125)
    assert ends(EventLog(instance, state)) == (121, 5, 0)


@pytest.mark.parametrize("left", [120, 60, 0])
def test_ids_of_deleted_runs_that_are_given_to_new_ones_hide_none(
    instance: dg.DagsterInstance, state: Path, left: int
) -> None:
    """SQLite numbers on from the highest id there is, so that the newest runs' ids come back."""
    log = EventLog(instance, state)
    add_runs(instance, 125)
    assert ends(log) == (125, 0, 0)
    change_runs(instance, RUNS.delete().where(RUNS.c.id > left))
    add_runs(instance, 10, after=1000)

    assert ends(log) == (135, 0, 0)
    assert ends(log) == (135, 0, 0)
    add_runs(instance, 1, after=2000)
    assert ends(log) == (136, 0, 0)


def test_a_run_that_shows_late_is_counted(instance: dg.DagsterInstance, state: Path) -> None:
    """PostgreSQL gives ids before transactions end."""
    log = EventLog(instance, state)
    add_runs(instance, 1, after=1, id=7)
    assert ends(log) == (1, 0, 0)
    add_runs(instance, 1, after=0, id=6)

    assert ends(log) == (2, 0, 0)
    assert ends(log) == (2, 0, 0)


def test_a_lost_file_means_counting_what_is_still_there(instance: dg.DagsterInstance, state: Path) -> None:
    add_runs(instance, 10)
    EventLog(instance, state).read()
    state.unlink()

    assert ends(EventLog(instance, state)) == (10, 0, 0)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 0, "buckets": []}', '{"version": 1, "buckets": [1.0]}'])
def test_a_damaged_file_is_said_and_counted_anew(
    instance: dg.DagsterInstance, state: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_runs(instance, 10)
    state.write_text(damage)

    with caplog.at_level(logging.WARNING):
        assert ends(EventLog(instance, state)) == (10, 0, 0)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(state) in caplog.text


def test_a_file_of_another_storage_is_not_continued(instance: dg.DagsterInstance, state: Path) -> None:
    add_runs(instance, 10)
    EventLog(instance, state).read()
    with dg.DagsterInstance.ephemeral() as other:
        add_runs(other, 2)

        assert ends(EventLog(other, state)) == (2, 0, 0)


def test_a_disk_that_takes_no_file_is_said_and_stops_nothing(
    instance: dg.DagsterInstance, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_runs(instance, 1)
    log = EventLog(instance, tmp_path / "no such folder" / "exporter.json")

    with caplog.at_level(logging.WARNING):
        assert ends(log) == (1, 0, 0)
        log.read()

    assert len(caplog.records) == 1


def test_the_file_is_written_when_something_has_changed(instance: dg.DagsterInstance, state: Path) -> None:
    log = EventLog(instance, state)
    add_runs(instance, 1)
    log.read()
    written = state.stat().st_mtime_ns, state.stat().st_ino
    log.read()
    assert (state.stat().st_mtime_ns, state.stat().st_ino) == written
    assert list(state.parent.glob("exporter.json.*")) == []
    assert json.loads(state.read_text())["ended"] == {"j": {"success": 1, "failure": 0, "canceled": 0}}


def started(instance: dg.DagsterInstance, *, pid: int, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """Leave a run as a process does that has begun its steps and is gone."""
    run = create_run_for_test(instance, job_name="j", status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.report_engine_event("begun", run, EngineEventData.in_process(pid))
    return run


def gone_pid() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_whose_process_is_there_is_at_work(instance: dg.DagsterInstance, state: Path) -> None:
    started(instance, pid=os.getpid())

    figures = EventLog(instance, state).read()

    assert figures.active == {"j": 1}
    assert figures.runs["j", "failure"] == 0


def test_a_number_that_a_later_process_was_given_is_no_sign_of_life(instance: dg.DagsterInstance, state: Path) -> None:
    run = create_run_for_test(instance, job_name="j", status=dg.DagsterRunStatus.STARTED)
    long_ago = dg.EventLogEntry(
        error_info=None,
        level=10,
        user_message="",
        run_id=run.run_id,
        timestamp=1.0,
        job_name="j",
        dagster_event=dg.DagsterEvent(
            "ENGINE_EVENT",
            "j",
            event_specific_data=EngineEventData.in_process(os.getpid()),
        ),
    )
    instance.store_event(long_ago)

    assert ends(EventLog(instance, state)) == (0, 1, 0)


def test_a_run_that_died_is_counted_once_whatever_dagster_makes_of_it_later(
    instance: dg.DagsterInstance, state: Path
) -> None:
    run = started(instance, pid=gone_pid())
    log = EventLog(instance, state)
    assert ends(log) == (0, 1, 0)
    instance.report_run_failed(run)

    assert ends(log) == (0, 1, 0)
    assert ends(EventLog(instance, state)) == (0, 1, 0)


def test_a_run_that_ends_while_its_process_is_looked_for_has_not_died(
    instance: dg.DagsterInstance, state: Path
) -> None:
    """Its status was read before the end, and its process is gone after it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = started(instance, pid=process.pid)
        log = EventLog(instance, state)
        assert ends(log) == (0, 0, 0)
        process.kill()
    instance.report_run_canceled(run)
    assert log._runs is not None
    log._find_dead(log._runs)

    assert ends(log) == (0, 0, 1)


def test_a_process_of_another_machine_is_not_missed_here(instance: dg.DagsterInstance, state: Path) -> None:
    started(instance, pid=gone_pid(), tags={".dagster/grpc_info": json.dumps({"host": "code-server", "port": 4000})})

    figures = EventLog(instance, state).read()

    assert figures.active == {"j": 1}


def test_the_queue_is_counted_and_its_oldest_run_known(instance: dg.DagsterInstance, state: Path) -> None:
    log = EventLog(instance, state)
    assert (log.read().queued, log.read().oldest_queued_at) == (0, None)
    add_runs(instance, 3, status="QUEUED", after=10, start_time=None, end_time=None)

    figures = log.read()

    assert figures.queued == 3
    assert figures.oldest_queued_at == T0.timestamp() + 10


@dg.asset(
    name="a",
    partitions_def=dg.StaticPartitionsDefinition(["one", "two"]),
    check_specs=[dg.AssetCheckSpec("few", asset="a"), dg.AssetCheckSpec("many", asset="a")],
    config_schema={"rows": int, "passed": bool},
)
def checked(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
    given = context.op_execution_context.op_config
    yield dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": given["rows"],
            "null_percentage": dg.MetadataValue.json({"battery": 12.5, "name": 0}),
        },
        check_results=[
            dg.AssetCheckResult(check_name="few", passed=given["passed"], severity=dg.AssetCheckSeverity.WARN),
            dg.AssetCheckResult(check_name="many", passed=True),
        ],
    )


def materialize(instance: dg.DagsterInstance, partition: str, *, rows: int, passed: bool) -> None:
    config = {"ops": {"a": {"config": {"rows": rows, "passed": passed}}}} | QUIET
    assert dg.materialize([checked], instance=instance, partition_key=partition, run_config=config).success


def test_assets_and_checks_are_those_of_the_newest_run_of_any_partition(
    instance: dg.DagsterInstance, state: Path
) -> None:
    log = EventLog(instance, state)
    materialize(instance, "two", rows=7, passed=True)
    first = log.read()
    materialize(instance, "one", rows=5, passed=False)
    second = log.read()

    assert first.checks == {("a", "few"): CheckFigures(True, "WARN"), ("a", "many"): CheckFigures(True, "ERROR")}
    assert second.checks["a", "few"] == CheckFigures(False, "WARN")
    newest = instance.get_latest_materialization_event(dg.AssetKey("a"))
    assert newest is not None
    assert (first.assets["a"].rows, first.assets["a"].null_percentage) == (7, {"battery": 12.5, "name": 0.0})
    assert second.assets == {"a": AssetFigures(newest.timestamp, 5, {"battery": 12.5, "name": 0.0}, None)}
    assert EventLog(instance, state).read() == second


def test_assets_and_checks_are_read_when_they_have_changed(instance: dg.DagsterInstance, state: Path) -> None:
    log = EventLog(instance, state)
    materialize(instance, "one", rows=5, passed=True)
    log.read()
    before = log.rows_read
    log.read()
    # The run, and the version of the asset.
    assert log.rows_read - before == 2


def test_a_wiped_asset_is_no_longer_shown(instance: dg.DagsterInstance, state: Path) -> None:
    log = EventLog(instance, state)
    materialize(instance, "one", rows=5, passed=True)
    assert set(log.read().assets) == {"a"}
    instance.wipe_assets([dg.AssetKey("a")])

    assert log.read().assets == {}


def test_a_check_that_was_planned_before_the_last_reading_is_read_when_it_is_evaluated(
    instance: dg.DagsterInstance, state: Path
) -> None:
    log = EventLog(instance, state)
    run = create_run_for_test(instance, job_name="j")
    planned = dg.DagsterEvent(
        "ASSET_CHECK_EVALUATION_PLANNED",
        "j",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=dg.AssetKey("a"), check_name="late"),
    )
    instance.report_dagster_event(planned, run.run_id)
    assert log.read().checks == {}
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("a"), check_name="late", passed=False, metadata={}, severity=dg.AssetCheckSeverity.ERROR
    )
    instance.report_dagster_event(
        dg.DagsterEvent("ASSET_CHECK_EVALUATION", "j", event_specific_data=evaluation), run.run_id
    )

    assert log.read().checks == {("a", "late"): CheckFigures(False, "ERROR")}


def test_only_daemons_that_the_instance_needs_are_shown(tmp_path: Path, state: Path) -> None:
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for kind in ("SENSOR", "ONE_OF_AN_OLDER_VERSION"):
            instance.add_daemon_heartbeat(DaemonHeartbeat(timestamp=1.5, daemon_type=kind, daemon_id="d"))

        assert EventLog(instance, state).read().heartbeats == {"SENSOR": 1.5}

"""A scrape of the exporter while Dagster's storages hold 100,000 runs, with a run that is new to each scrape."""

import datetime as dt
import sqlite3
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from bench.results import Report, Samples, Target, WrongResultError, say
from wrm_pipeline.operations.event_log import EventLog
from wrm_pipeline.operations.exporter import Exporter, Source, Sources
from wrm_pipeline.operations.server import MetricsServer

RUNS = 100_000
SCRAPES = 31
LIMIT_S = 0.3
# Of the runs; a poll makes one asset, a run of processing four with their checks.
_MATERIALIZING = 5
_FAILING = 10
_BATCH = 5_000
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# The columns that are all a run has, besides its body, and what both storages call them.
_RUN_COLUMNS = (
    "run_id, snapshot_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, start_time, end_time"
)
_EVENT_COLUMNS = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
_CHECK_COLUMNS = (
    "asset_key, check_name, run_id, execution_status, evaluation_event, evaluation_event_timestamp, "
    "evaluation_event_storage_id"
)


@dg.asset(check_specs=[dg.AssetCheckSpec("unique", asset="measured")])
def measured() -> Iterator[dg.MaterializeResult[Any]]:
    """Something with the metadata that a day has."""
    nulls = {f"column_{number}": 0.5 for number in range(24)}
    yield dg.MaterializeResult(
        metadata={"dagster/partition_row_count": 215_424, "null_percentage": dg.MetadataValue.json(nulls)},
        check_results=[dg.AssetCheckResult(passed=True)],
    )


def measure_scrape() -> Report:
    """Fill a SQLite instance, start the exporter on it, and time whole HTTP requests for its page."""
    with tempfile.TemporaryDirectory(prefix="wrm-bench-scrape-") as directory:
        home = Path(directory)
        (home / "dagster.yaml").touch()
        with dg.DagsterInstance.from_config(directory) as instance:
            if not dg.materialize([measured], instance=instance, run_config=_QUIET).success:
                raise WrongResultError("the run that all others are copied from failed")
            say(f"Scrape, filling the event log with {RUNS:,} runs")
            storage = _Storage(home)
            storage.copy_runs(RUNS - 1)
            return _measure(instance, storage)


def _measure(instance: dg.DagsterInstance, storage: "_Storage") -> Report:
    log = EventLog(instance, storage.home / "exporter.json")
    started = time.perf_counter()
    log.read()
    counted = Samples(f"first count of {RUNS:,} runs, once in an exporter's life", "s", [time.perf_counter() - started])
    seconds: list[float] = []
    rows: list[float] = []
    with _serving(log) as url:
        say(f"Scrape, {SCRAPES} times")
        for number in range(SCRAPES + 1):
            storage.copy_runs(1)
            before = log.rows_read
            started = time.perf_counter()
            with urllib.request.urlopen(url) as answer:  # noqa: S310 - loopback
                page = answer.read().decode()
            took = time.perf_counter() - started
            ended = sum(
                float(line.rpartition(" ")[2])
                for line in page.splitlines()
                if line.startswith("dagster_pipeline_runs_total")
            )
            if ended != RUNS + number + 1:
                raise WrongResultError(f"scrape {number} counts {ended:,.0f} runs instead of {RUNS + number + 1:,}")
            if number:  # the first one warms up
                seconds.append(took)
                rows.append(log.rows_read - before)
    scrapes = Samples(f"scrape of the exporter, {RUNS:,} runs in the event log", "s", seconds)
    slowest = Samples("the slowest of these scrapes", "s", [max(seconds)])
    read = Samples("rows that a scrape reads", "rows", rows)
    return Report(
        samples=[counted, scrapes, slowest, read],
        targets=[Target(f"scrape with {RUNS:,} runs, the slowest", slowest, LIMIT_S)],
    )


@contextmanager
def _serving(log: EventLog) -> Iterator[str]:
    source = Source("event_log", log.read, every_s=3600)
    source.start()
    source.refresh(60)
    sources = Sources(source, None)
    exporter = Exporter(sources, [Path("/")], "raw")
    with MetricsServer(exporter.registry(), sources, list, {}) as server:
        yield f"{server.url}/metrics"
    source.close()


class _Storage:
    """The SQLite files of an instance, filled with copies of its first run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._runs = home / "history" / "runs.db"
        self._events = home / "history" / "runs" / "index.db"
        self._made = 0
        with closing(sqlite3.connect(self._runs)) as runs, closing(sqlite3.connect(self._events)) as events:
            (self._run,) = runs.execute(f"SELECT {_RUN_COLUMNS} FROM runs").fetchall()  # noqa: S608 - our own columns
            found = events.execute(f"SELECT {_EVENT_COLUMNS} FROM event_logs").fetchall()  # noqa: S608 - the same
            self._of_run = [event for event in found if event[2].startswith(("PIPELINE", "RUN"))]
            self._of_assets = [event for event in found if event not in self._of_run]
            self._checks = events.execute(f"SELECT {_CHECK_COLUMNS} FROM asset_check_executions").fetchall()  # noqa: S608

    def copy_runs(self, count: int) -> None:
        """Add runs, with their events, five minutes after one another."""
        for first in range(0, count, _BATCH):
            self._copy_batch(min(_BATCH, count - first))

    def _copy_batch(self, count: int) -> None:
        numbers = range(self._made, self._made + count)
        ids = {number: str(uuid.UUID(int=number)) for number in numbers}
        self._made += count
        with closing(sqlite3.connect(self._runs)) as runs, runs:
            _insert(runs, "runs", _RUN_COLUMNS, [self._run_row(number, ids[number]) for number in numbers])
        with closing(sqlite3.connect(self._events)) as events, events:
            rows = [
                (ids[number], event.replace(self._run[0], ids[number]), *rest)
                for number in numbers
                for _, event, *rest in (*self._of_run, *(() if number % _MATERIALIZING else self._of_assets))
            ]
            _insert(events, "event_logs", _EVENT_COLUMNS, rows)
            checks = [
                (asset, name, ids[number], *rest)
                for number in numbers
                if not number % _MATERIALIZING
                for asset, name, _, *rest in self._checks
            ]
            _insert(events, "asset_check_executions", _CHECK_COLUMNS, checks)

    def _run_row(self, number: int, run_id: str) -> tuple[Any, ...]:
        old_id, snapshot, _, status, body, *_ = self._run
        at = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5 * (number - RUNS))
        job = ("ingest", "processing", "marts")[number % 3]
        status = status if number % _FAILING else "FAILURE"
        written = at.replace(tzinfo=None).isoformat(" ", "microseconds")
        body = body.replace(old_id, run_id)
        return run_id, snapshot, job, status, body, written, written, at.timestamp(), at.timestamp() + number % 40


def _insert(database: sqlite3.Connection, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(columns.split(",")))
    database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608 - our own names

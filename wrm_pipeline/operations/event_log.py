"""What Dagster's storages know, read so that a second reading costs what is new, however long the history is.

Counters are of all runs ever seen to end. They are kept in a small file too, so that neither a restart nor runs that
are deleted make them fall; without the file all runs that the storage still has are counted again.

Runs that nobody sees die. A run that Dagster launched has a code server that notices within a second when its process
is killed, and marks it as failed. Nobody does that for the process of `dagster job execute`, `dagster asset
materialize` or `wrm run`, nor when the code server dies with its runs: such a run stays STARTED for ever
(DefaultRunLauncher has no health check, so run monitoring looks at its age alone). Here it counts as a failure when
the process that the event log names is gone from this machine, its status is still the same after that, and it is
known to have run here: the storage is SQLite, which is a folder of this machine, or the process was seen alive before.
"""

import datetime as dt
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import sqlalchemy as sa
from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    EventLogEntry,
    deserialize_value,
)

from wrm_pipeline.settings import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
    from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

_log = logging.getLogger(__name__)

ENDED: Final = {
    DagsterRunStatus.SUCCESS.value: "success",
    DagsterRunStatus.FAILURE.value: "failure",
    DagsterRunStatus.CANCELED.value: "canceled",
}
AT_WORK: Final = frozenset(
    {DagsterRunStatus.STARTING.value, DagsterRunStatus.STARTED.value, DagsterRunStatus.CANCELING.value}
)
# Upper bounds in seconds: an ingest takes 2, a day 5 to 30, a year's backfill minutes.
BUCKETS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
# Transactions of PostgreSQL may become visible in another order than that of their ids.
_OVERLAP: Final = 50
_PAGE_ROWS: Final = 5000
_IDS_AT_ONCE: Final = 500
# A check that was planned so many checks ago and never evaluated will not be.
_PLANNED_CHECKS: Final = 2000
# A process starts before it says so; the clock of /proc counts in hundredths from the boot on, which is known to 1 s.
_CLOCK_SLACK_S: Final = 2.0
_GRPC_TAG: Final = ".dagster/grpc_info"
_STATE_VERSION: Final = 1

_RUNS: Final = sa.table(
    "runs",
    sa.column("id", sa.BigInteger),
    sa.column("run_id", sa.String),
    sa.column("pipeline_name", sa.Text),
    sa.column("status", sa.String),
    sa.column("create_timestamp", sa.DateTime),
    sa.column("start_time", sa.Float),
    sa.column("end_time", sa.Float),
)
_ASSETS: Final = sa.table(
    "asset_keys",
    sa.column("asset_key", sa.Text),
    sa.column("last_run_id", sa.String),
    sa.column("last_materialization_timestamp", sa.DateTime),
    sa.column("wipe_timestamp", sa.DateTime),
)
_CHECKS: Final = sa.table(
    "asset_check_executions",
    sa.column("id", sa.BigInteger),
    sa.column("asset_key", sa.Text),
    sa.column("check_name", sa.Text),
    sa.column("execution_status", sa.String),
    sa.column("evaluation_event", sa.Text),
)
_EVALUATED: Final = ("SUCCEEDED", "FAILED")
_PLANNED: Final = "PLANNED"


class UnknownStorageError(RuntimeError):
    """The instance keeps its runs in something other than SQL."""


@dataclass
class Durations:
    """A histogram of seconds: how many runs fell into each bucket of `BUCKETS` (the last is beyond), and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a run."""
        self.counts[next((at for at, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))] += 1
        self.sum_s += seconds


@dataclass(frozen=True)
class AssetFigures:
    """An asset's newest materialization: Unix time, rows (None when it has no number of rows), percent of nulls.

    `repeated_at` is the Unix time of a fetch that found what was there already, None when it found something new.
    """

    materialized_at: float
    rows: int | None
    null_percentage: Mapping[str, float]
    repeated_at: float | None


@dataclass(frozen=True)
class CheckFigures:
    """A check's newest evaluation; `severity` is WARN or ERROR."""

    passed: bool
    severity: str


@dataclass(frozen=True)
class EventLogFigures:
    """What the storages know at a moment. Times are Unix seconds.

    `runs` counts ended runs by job and how they ended, `durations` those of them that had started, by job; `active`
    counts runs at work by job, every job that is known being in it; `checks` are by asset and name.
    """

    runs: Mapping[tuple[str, str], int]
    durations: Mapping[str, Durations]
    active: Mapping[str, int]
    queued: int
    oldest_queued_at: float | None
    assets: Mapping[str, AssetFigures]
    checks: Mapping[tuple[str, str], CheckFigures]
    heartbeats: Mapping[str, float]


@dataclass
class _OpenRun:
    """A run that has not ended, as it was last seen, and the process that does it, once that is known."""

    run_id: str
    job: str
    status: str
    created_at: float
    pid: int | None = None
    pid_at: float = 0.0
    seen_alive: bool = False


@dataclass
class _Runs:
    """All that must outlive this process: what was counted, and up to where."""

    storage: str
    last_id: int = 0
    floor: int = 0
    newest_created_at: float = 0.0
    tail: dict[int, str] = field(default_factory=dict)
    open: dict[int, _OpenRun] = field(default_factory=dict)
    ended: dict[str, dict[str, int]] = field(default_factory=dict)
    durations: dict[str, Durations] = field(default_factory=dict)

    def count(self, job: str, status: str, seconds: float | None) -> None:
        counts = self.ended.setdefault(job, dict.fromkeys(ENDED.values(), 0))
        counts[status] += 1
        if seconds is not None:
            self.durations.setdefault(job, Durations()).add(max(0.0, seconds))

    def as_json(self) -> str:
        return json.dumps({"version": _STATE_VERSION, "buckets": BUCKETS, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else, or of another version.
        """
        document = json.loads(text)
        if (document.pop("version"), document.pop("buckets")) != (_STATE_VERSION, list(BUCKETS)):
            raise ValueError("it is of another version")
        return cls(
            **document
            | {
                "tail": {int(number): run_id for number, run_id in document["tail"].items()},
                "open": {int(number): _OpenRun(**run) for number, run in document["open"].items()},
                "durations": {job: Durations(**found) for job, found in document["durations"].items()},
            }
        )


class EventLog:
    """Reads an instance's storages, again and again; for one thread at a time.

    Args:
        instance: whose storages they are.
        state_path: where counters are kept; replaced as a whole, and before a reading is handed out.

    Attributes:
        rows_read: rows that all readings so far have taken from the storages.
    """

    def __init__(self, instance: DagsterInstance, state_path: Path) -> None:
        self.rows_read = 0
        self._instance = instance
        self._state_path = state_path
        self._runs: _Runs | None = None
        self._saved = ""
        self._assets: dict[str, AssetFigures] = {}
        self._asset_versions: dict[str, tuple[Any, ...]] = {}
        self._checks: dict[tuple[str, str], CheckFigures] = {}
        self._planned_checks: set[int] = set()
        self._last_check_id: int | None = None

    def read(self) -> EventLogFigures:
        """Read what is new and return all that is known.

        Raises:
            Exception: a storage does not answer; what was counted stays.
        """
        if self._runs is None:
            self._runs = self._saved_runs(_run_storage(self._instance).get_run_storage_id())
        runs = self._runs
        self._read_ends(runs)
        self._read_new(runs)
        self._find_dead(runs)
        self._save(runs)
        self._read_assets()
        self._read_checks()
        required = set(self._instance.get_required_daemon_types())
        beats = self._instance.get_daemon_heartbeats()
        waiting = [run for run in runs.open.values() if run.status == DagsterRunStatus.QUEUED.value]
        jobs = {*runs.ended, *(run.job for run in runs.open.values())}
        at_work = Counter(run.job for run in runs.open.values() if run.status in AT_WORK)
        return EventLogFigures(
            runs={(job, end): runs.ended.get(job, {}).get(end, 0) for job in sorted(jobs) for end in ENDED.values()},
            durations={job: Durations(list(d.counts), d.sum_s) for job, d in sorted(runs.durations.items())},
            active={job: at_work[job] for job in sorted(jobs)},
            queued=len(waiting),
            oldest_queued_at=min((run.created_at for run in waiting), default=None),
            assets=dict(sorted(self._assets.items())),
            checks=dict(sorted(self._checks.items())),
            heartbeats={kind: beat.timestamp for kind, beat in sorted(beats.items()) if kind in required},
        )

    def _saved_runs(self, storage: str) -> _Runs:
        try:
            runs = _Runs.from_json(self._state_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return _Runs(storage)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be used (%s): runs are counted anew.", self._state_path, error)
            return _Runs(storage)
        # Counters of another storage, which lay in this folder before, are not continued.
        return runs if runs.storage == storage else _Runs(storage)

    def _save(self, runs: _Runs) -> None:
        text = runs.as_json()
        if text == self._saved:
            return
        beside = self._state_path.with_name(f"{self._state_path.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._state_path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            _log.warning("%s cannot be written (%s): counters may fall after a restart.", self._state_path, error)
        self._saved = text

    def _rows(self, query: Any, *, of_events: bool = False) -> Sequence[Any]:
        """Run a query on the runs, or on the events that are kept across runs."""
        with self._connection(of_events=of_events) as connection:
            rows: Sequence[Any] = connection.execute(query).all()
        self.rows_read += len(rows)
        return rows

    def _connection(self, *, of_events: bool) -> Any:
        if of_events:
            return _event_storage(self._instance).index_connection()
        return _run_storage(self._instance).connect()

    def _read_ends(self, runs: _Runs) -> None:
        """Look at the runs again that had not ended."""
        for ids in _batches(sorted(runs.open)):
            found = {row.id: row for row in self._rows(_select_runs().where(_RUNS.c.id.in_(ids)))}
            for number in ids:
                row = found.get(number)
                if row is None or row.run_id != runs.open[number].run_id:
                    del runs.open[number]  # deleted, however it would have ended
                else:
                    self._note(runs, row)

    def _read_new(self, runs: _Runs) -> None:
        """Read the runs that came since, and those with lower ids that only show now."""
        rows = self._rows_after(max(runs.floor, runs.last_id - _OVERLAP))
        newest_seen = runs.tail.get(runs.last_id)
        if newest_seen is not None and not any((row.id, row.run_id) == (runs.last_id, newest_seen) for row in rows):
            # The newest runs were deleted, and SQLite gives their ids to new ones: what is new is told by its time.
            newest = dt.datetime.fromtimestamp(runs.newest_created_at, dt.UTC).replace(tzinfo=None)
            older = sa.select(sa.func.max(_RUNS.c.id)).where(_RUNS.c.create_timestamp <= newest)
            runs.last_id = runs.floor = self._rows(older)[0][0] or 0
            runs.tail = {}
            rows = self._rows_after(runs.floor)
        while rows:
            for row in rows:
                if runs.tail.get(row.id) != row.run_id:
                    runs.tail[row.id] = row.run_id
                    self._note(runs, row)
            runs.last_id = max(runs.last_id, rows[-1].id)
            runs.tail = {number: run for number, run in runs.tail.items() if number > runs.last_id - _OVERLAP}
            rows = self._rows_after(runs.last_id) if len(rows) == _PAGE_ROWS else ()

    def _rows_after(self, number: int) -> Sequence[Any]:
        return self._rows(_select_runs().where(_RUNS.c.id > number).order_by(_RUNS.c.id).limit(_PAGE_ROWS))

    def _note(self, runs: _Runs, row: Any) -> None:
        """Count a run that has ended, and remember one that has not."""
        end = ENDED.get(row.status)
        created_at = row.create_timestamp.replace(tzinfo=dt.UTC).timestamp()
        runs.newest_created_at = max(runs.newest_created_at, created_at)
        if end is not None:
            took = row.end_time - row.start_time if row.start_time and row.end_time else None
            runs.count(row.pipeline_name, end, took)
            runs.open.pop(row.id, None)
        elif row.id in runs.open:
            runs.open[row.id].status = row.status
        else:
            runs.open[row.id] = _OpenRun(row.run_id, row.pipeline_name, row.status, created_at)

    def _find_dead(self, runs: _Runs) -> None:
        """Count the runs whose process is gone; see the module's docstring."""
        for number, run in list(runs.open.items()):
            if run.status not in AT_WORK:
                continue
            if run.pid is None:
                run.pid, run.pid_at = self._process_of(run.run_id)
            if run.pid is None:
                continue
            if _is_alive(run.pid, run.pid_at):
                run.seen_alive = True
            elif self._died_here(run):
                runs.count(run.job, ENDED[DagsterRunStatus.FAILURE.value], None)
                del runs.open[number]

    def _died_here(self, run: _OpenRun) -> bool:
        """Tell whether a run whose process is not there was on this machine and did not end in the meantime."""
        now = self._instance.get_run_by_id(run.run_id)
        if now is None or now.is_finished:
            return False  # the next reading sees it
        if run.seen_alive:
            return True
        server = json.loads(now.tags.get(_GRPC_TAG, "{}"))
        if "socket" not in server and server.get("host", "localhost") not in LOOPBACK_HOSTS:
            return False
        with self._connection(of_events=False) as connection:
            return bool(connection.dialect.name == "sqlite")

    def _process_of(self, run_id: str) -> tuple[int | None, float]:
        """Return the process that does a run, and when it said so: the first one that the run's log names."""
        events = self._instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=10).records
        self.rows_read += len(events)
        for record in events:
            event = record.event_log_entry.dagster_event
            pid = event.engine_event_data.metadata.get("pid") if event is not None else None
            if pid is not None and str(pid.value).isdigit():
                return int(str(pid.value)), record.event_log_entry.timestamp
        return None, 0.0

    def _read_assets(self) -> None:
        """Read the newest materialization of the assets that have another one than at the last reading."""
        versions = {
            row.asset_key: (row.last_run_id, row.last_materialization_timestamp, row.wipe_timestamp)
            for row in self._rows(sa.select(_ASSETS), of_events=True)
        }
        changed = [
            key
            for text, version in versions.items()
            if self._asset_versions.get(text) != version and (key := AssetKey.from_db_string(text)) is not None
        ]
        gone = [AssetKey.from_db_string(text) for text in self._asset_versions.keys() - versions.keys()]
        for key in (*changed, *gone):
            self._assets.pop(key.to_user_string() if key is not None else "", None)
        for record in self._instance.get_asset_records(changed) if changed else ():
            self.rows_read += 1
            entry = record.asset_entry.last_materialization
            if entry is not None and entry.asset_materialization is not None:
                self._assets[record.asset_entry.asset_key.to_user_string()] = _asset_figures(entry)
        self._asset_versions = versions

    def _read_checks(self) -> None:
        """Read the evaluations that came since; the first time, the newest one of each check."""
        columns = sa.select(_CHECKS)
        if self._last_check_id is None:
            newest = (
                sa.select(sa.func.max(_CHECKS.c.id))
                .where(_CHECKS.c.execution_status.in_(_EVALUATED))
                .group_by(_CHECKS.c.asset_key, _CHECKS.c.check_name)
            )
            last = self._rows(sa.select(sa.func.max(_CHECKS.c.id)), of_events=True)[0][0] or 0
            rows = self._rows(columns.where(_CHECKS.c.id.in_(newest)), of_events=True)
            recent = sa.select(_CHECKS.c.id).where(
                _CHECKS.c.id > last - _PLANNED_CHECKS, _CHECKS.c.execution_status == _PLANNED
            )
            self._planned_checks = {row.id for row in self._rows(recent, of_events=True)}
            self._last_check_id = last
        else:
            rows = self._rows(columns.where(_CHECKS.c.id > self._last_check_id), of_events=True)
            for ids in _batches(sorted(self._planned_checks)):
                known = columns.where(_CHECKS.c.id.in_(ids), _CHECKS.c.execution_status != _PLANNED)
                rows = [*rows, *self._rows(known, of_events=True)]
        for row in sorted(rows, key=lambda row: int(row.id)):
            self._last_check_id = max(self._last_check_id, row.id)
            if row.execution_status == _PLANNED:
                self._planned_checks.add(row.id)
                continue
            self._planned_checks.discard(row.id)
            key = AssetKey.from_db_string(row.asset_key)
            if key is not None and row.execution_status in _EVALUATED:
                self._checks[key.to_user_string(), row.check_name] = _check_figures(row)
        first = self._last_check_id - _PLANNED_CHECKS
        self._planned_checks = {number for number in self._planned_checks if number > first}


def _run_storage(instance: DagsterInstance) -> "SqlRunStorage":
    from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

    found: SqlRunStorage = _unwrapped(instance.run_storage, "run_storage", SqlRunStorage)
    return found


def _event_storage(instance: DagsterInstance) -> "SqlEventLogStorage":
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    found: SqlEventLogStorage = _unwrapped(instance.event_log_storage, "event_log_storage", SqlEventLogStorage)
    return found


def _unwrapped(storage: Any, part: str, kind: type[Any]) -> Any:
    """Return the storage that runs SQL: an instance with one `storage` in dagster.yaml wraps its parts."""
    inside = getattr(getattr(storage, "_storage", None), part, storage)
    if not isinstance(inside, kind):
        raise UnknownStorageError(
            f"Dagster's {part} is {type(storage).__name__}, which is no SQL storage; use SQLite or PostgreSQL."
        )
    return inside


def _select_runs() -> Any:
    return sa.select(_RUNS)


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[at : at + _IDS_AT_ONCE] for at in range(0, len(ids), _IDS_AT_ONCE))


def _asset_figures(entry: EventLogEntry) -> AssetFigures:
    materialization = entry.asset_materialization
    metadata = {name: value.value for name, value in materialization.metadata.items()} if materialization else {}
    rows = metadata.get("dagster/partition_row_count", metadata.get("dagster/row_count"))
    nulls = metadata.get("null_percentage")
    found_again = metadata.get("fetched_at") if metadata.get("duplicate") else None
    return AssetFigures(
        materialized_at=entry.timestamp,
        rows=rows if isinstance(rows, int) else None,
        null_percentage=_numbers(nulls.items()) if isinstance(nulls, Mapping) else {},
        repeated_at=found_again if isinstance(found_again, float) else None,
    )


def _numbers(items: Iterable[tuple[object, object]]) -> dict[str, float]:
    return {str(name): float(value) for name, value in items if isinstance(value, int | float)}


def _check_figures(row: Any) -> CheckFigures:
    event = deserialize_value(row.evaluation_event, EventLogEntry).dagster_event
    severity = event.asset_check_evaluation_data.severity.value if event is not None else "ERROR"
    return CheckFigures(row.execution_status == "SUCCEEDED", severity)


def _is_alive(pid: int, known_since: float) -> bool:
    """Tell whether the process that said at a time that it had this number is still at work."""
    try:
        # The name of the command is in brackets and may hold anything; what follows the last one is numbers.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    started_at = _boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    # A later process has been given the number of one that is gone; Z has ended and waits to be looked after.
    return fields[0] not in "ZX" and started_at <= known_since + _CLOCK_SLACK_S


def _boot_time() -> float:
    lines = Path("/proc/stat").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))

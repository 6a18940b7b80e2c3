"""The marts as they lie in the lake: what changed in enhanced is computed again, day after day, and nothing else.

A day's tables are a function of its rows and of the states at the end of the day before. When a day changes, those
after it are computed again only as far as the states they are given change. What the index does not know, or knows
otherwise than it lies in the lake, is made again.
"""

import datetime as dt
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.day_object import parquet_bytes
from wrm_pipeline.lake.keys import Layer, day_of
from wrm_pipeline.lake.lake import PARQUET, Lake, StoredDay
from wrm_pipeline.lake.object_store import ObjectInfo
from wrm_pipeline.layers.mart_index import IndexedDay, MartIndex, Stored, read_index, write_index
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.layers.trust import MissingDayError, UntrustedDayError, require_trusted
from wrm_pipeline.marts.catalogue import SQL_FOLDER, Grain, catalogue, published
from wrm_pipeline.marts.connection import clear_store_errors, connect, quoted, use_lake
from wrm_pipeline.marts.database import Built, Draft, drafting, is_made_from
from wrm_pipeline.marts.engine import (
    SOURCE_SCHEMA,
    day_tables,
    local_day_tables,
    prepare,
    states,
    whole_tables,
)
from wrm_pipeline.settings import Settings
from wrm_pipeline.telemetry.traces import span
from wrm_pipeline.transform.schema import ENHANCED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Raise it whenever code, rather than SQL or a spec, makes other tables of the same days.
MARTS_CODE_VERSION: Final = "1"
# Days done, days to do, and the day that comes next.
Progress = Callable[[int, int, dt.date], None]

# The digest of no states at all, which the first day is given.
NOTHING_GIVEN: Final = ""
# Dates of a catalogue without days: dim_date has to begin and end somewhere.
_NO_DAY: Final = dt.date(2025, 1, 1)
_ONE_DAY: Final = dt.timedelta(days=1)
# Small requests that do not wait for each other.
_AT_ONCE: Final = 8
# Days looked at while one is computed: more would only wait in memory, at some 40 MB each.
_AHEAD: Final = 2
_DAYS_A_CONNECTION: Final = 16
# A day that is replaced while it is read is read again, so often.
_ATTEMPTS: Final = 3


class DayKeepsChangingError(LayerError):
    """A day of enhanced was replaced in every attempt to read it."""


@dataclass(frozen=True)
class TableReport:
    """A table after a build: all its rows; objects written now, and their bytes; a digest of all it is made of."""

    name: str
    rows: int
    written: int
    size: int
    version: str
    uri: str


@dataclass(frozen=True)
class MartsReport:
    """What a build did: UTC days computed, days that checks keep out and why, and the published tables."""

    days: tuple[dt.date, ...]
    refused: Mapping[dt.date, str]
    tables: Mapping[str, TableReport]


def build_marts(
    lake: Lake, contracts: Contracts, settings: Settings, progress: Progress = lambda *_: None
) -> MartsReport:
    """Bring all tables in the lake, and the DuckDB file, up to date with enhanced.

    Args:
        lake: the lake.
        contracts: they say which days may be used, and the nominal time between two snapshots.
        settings: the key for pseudonyms, the path of the DuckDB file, and the store for DuckDB.
        progress: called before each day that is computed.

    Raises:
        SettingsError: no key for pseudonyms is set.
        StoreError: the store does not answer. The file stays as it was, and the next build makes the rest good.
        LayerError: a day was replaced again and again while it was read.
    """
    key, store = settings.require_pseudonym_key(), settings.require_store()
    index = read_index(lake, _days_code(key, contracts))

    def open_connection() -> "DuckDBPyConnection":
        connection = connect()
        prepare(connection, key)
        use_lake(connection, store)
        return connection

    with open_connection() as connection, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="marts") as pool:
        build = _Build(lake, contracts, connection, pool, index, open_connection)
        build.run(settings.wrm_duckdb_path, progress)
        return build.report()


def _days_code(pseudonym_key: bytes, contracts: Contracts) -> str:
    """Return a digest of all, but for the days themselves, that decides about what is made of a day."""
    import duckdb

    made_by = f"{MARTS_CODE_VERSION} {duckdb.__version__} {pa.__version__} {contracts.raw.interval_s}"
    digest = hashlib.sha256(made_by.encode())
    # Another key makes other pseudonyms. It is not to be found from the index, so it is hashed with words of its own.
    digest.update(hashlib.sha256(b"version of the marts\0" + pseudonym_key).digest())
    for path in sorted(SQL_FOLDER.glob("macros*.sql")):
        digest.update(path.read_bytes())
    for mart in catalogue().values():
        if mart.grain is not Grain.TABLE:
            deciding = [mart.name, mart.grain, sorted(mart.parameters.items()), list(mart.types.items()), mart.sql]
            digest.update(json.dumps(deciding).encode())
    return digest.hexdigest()


def _tables_code() -> str:
    """Return a digest of all that decides about whole tables, and of what is said of any table in the DuckDB file."""
    digest = hashlib.sha256(f"{MARTS_CODE_VERSION} {version('holidays')}".encode())
    for mart in catalogue().values():
        said = [mart.name, mart.description["en"], [column.model_dump(mode="json") for column in mart.columns]]
        deciding = [sorted(mart.parameters.items()), mart.sql] if mart.grain is Grain.TABLE else []
        digest.update(json.dumps([said, deciding]).encode())
    return digest.hexdigest()


class _Build:
    """One pass over the lake, from the index as it lies there to the index as it should be."""

    def __init__(
        self,
        lake: Lake,
        contracts: Contracts,
        connection: "DuckDBPyConnection",
        pool: ThreadPoolExecutor,
        index: MartIndex,
        open_connection: Callable[[], "DuckDBPyConnection"],
    ) -> None:
        self.lake = lake
        self.contracts = contracts
        self.connection = connection
        self.open_connection = open_connection
        # Computes days; another one after some, see `_renew`.
        self.days_connection = connection
        self.pool = pool
        self.index = index
        self.interval_s = int(contracts.raw.interval_s)
        # A file that says other things of its tables is of no use.
        self.began_with = index.digest if index.tables_code == _tables_code() else ""
        self.refused: dict[dt.date, str] = {}
        self.computed: list[dt.date] = []
        self.written: dict[str, list[Stored]] = {}
        self.enhanced = self._days_of_enhanced()
        roots = (lake.keys.marts_root, lake.keys.state_root)
        # What lies there, and of it what is as the index has it.
        with span("list") as listed:
            self.lying = {info.key: info.etag for root in roots for info in lake.store.list(root)}
            listed.add(objects=len(self.lying))
        self.whole = {key for key, each in index.objects(lake.keys).items() if self.lying.get(key) == each.etag}

    def run(self, path: Path, progress: Progress) -> None:
        """Make what is not as it should be."""
        newest, judged = self._newest()
        stale = self._stale(newest)
        if not stale and self._rest_is_whole() and is_made_from(path, self.began_with):
            return
        with drafting(self.connection, path, self.began_with) as (draft, is_copy):
            if not is_copy:
                self._fill(draft)
            changed = self._days(draft, newest, stale, judged, progress)
            with span("local days"):
                self._local_days(draft, changed)
            with span("whole tables"):
                self._whole_tables(draft)
            self.index.tables_code = _tables_code()
            write_index(self.lake, self.index)
            pattern = f"{self.lake.keys.layer_root(Layer.ENHANCED)}*/all_enhanced.parquet"
            draft.finish(self._built(), self.lake.store.uri(pattern) if self.enhanced else None)
        known = self.index.objects(self.lake.keys)
        for key in self.lying:
            if key not in known and key != self.lake.keys.mart_index:
                self.lake.store.delete(key)

    def _rest_is_whole(self) -> bool:
        """Tell whether no day is gone, and all tables of local days and of everything are as the index has them."""
        index, keys = self.index, self.lake.keys
        tables = {mart.name for mart in catalogue().values() if mart.grain is Grain.TABLE}
        rest = [keys.mart_local_day(name, day) for day, found in index.local_days.items() for name in found]
        return (
            all(day in self.enhanced for day in index.days)
            and tables == set(index.tables)
            and self.whole.issuperset([*rest, *map(keys.mart, tables)])
        )

    def report(self) -> MartsReport:
        """Return what was done."""
        tables = {}
        for mart in published():
            stored, written = self.index.of_table(mart.name), self.written.get(mart.name, [])
            tables[mart.name] = TableReport(
                name=mart.name,
                rows=sum(each.rows for each in stored),
                written=len(written),
                size=sum(each.size for each in written),
                version=hashlib.sha256("".join(each.sha256 for each in stored).encode()).hexdigest(),
                uri=self.lake.store.uri(self.lake.keys.mart_root(mart.name)),
            )
        return MartsReport(tuple(self.computed), self.refused, tables)

    def _days_of_enhanced(self) -> dict[dt.date, str]:
        """Return the ETag of each day of enhanced, in order."""
        keys = self.lake.keys
        found = {}
        for info in self.lake.store.list(keys.layer_root(Layer.ENHANCED)):
            day = day_of(info.key)
            if day is not None and info.key == keys.layer_object(Layer.ENHANCED, day):
                found[day] = info.etag
        return dict(sorted(found.items()))

    def _newest(self) -> tuple[dt.date | None, StoredDay | None]:
        """Return the newest day that may be used, and the day itself when it had to be looked at."""
        for day in reversed(self.enhanced):
            entry = self.index.days.get(day)
            if entry is not None and entry.enhanced == self.enhanced[day]:
                return day, None
            stored = self._trusted(day)
            if stored is not None:
                return day, stored
        return None, None

    def _stale(self, newest: dt.date | None) -> list[dt.date]:
        """Return the days that have to be looked at; what changes in them may yet reach days after them."""
        stale, given = [], NOTHING_GIVEN
        for day in self.enhanced:
            entry = self.index.days.get(day)
            if not self._is_current(day, given, is_newest=day == newest):
                stale.append(day)
            given = given if entry is None else entry.states
        return stale

    def _trusted(self, day: dt.date) -> StoredDay | None:
        """Return a day that passes its checks; of another one, remember why it does not."""
        try:
            with span("validate"):
                stored = require_trusted(self.lake, self.contracts, day)
        except UntrustedDayError as error:
            self.refused[day] = str(error)
            return None
        except MissingDayError:  # deleted since it was listed
            return None
        self.refused.pop(day, None)
        return stored

    def _days(
        self, draft: Draft, newest: dt.date | None, stale: list[dt.date], judged: StoredDay | None, progress: Progress
    ) -> set[dt.date]:
        """Compute the days that changed, in order; return them and those that are no more."""
        changed = {day for day in self.index.days if day not in self.enhanced or day in self.refused}
        before: dt.date | None = None
        given, states_before = NOTHING_GIVEN, dict[str, pa.Table]()
        with ThreadPoolExecutor(1, thread_name_prefix="trust") as judge:
            # One day is judged while another is computed.
            ahead = deque(day for day in stale if day != newest and day not in self.refused)
            judging: dict[dt.date, Future[StoredDay | None]] = {}
            for day in self.enhanced:
                is_newest = day == newest
                if self._is_current(day, given, is_newest=is_newest):
                    before, given, states_before = day, self.index.days[day].states, {}
                    continue
                if day in self.refused:
                    continue
                while ahead and len(judging) < _AHEAD:
                    following = ahead.popleft()
                    judging[following] = judge.submit(copy_context().run, self._trusted, following)
                waiting = judging.pop(day, None)
                stored = judged if is_newest and judged else waiting.result() if waiting else self._trusted(day)
                if stored is None:
                    changed.add(day)
                    continue
                progress(len(self.computed), max(len(stale), len(self.computed) + 1), day)
                if before is not None and not states_before:
                    states_before = self._read_states(before)
                if self.computed and len(self.computed) % _DAYS_A_CONNECTION == 0:
                    self._renew()
                entry, states_before = self._compute(draft, stored, given, states_before, is_newest=is_newest)
                self.index.days[day] = entry
                before, given = day, entry.states
                changed.add(day)
                self.computed.append(day)
        self._close_days_connection()
        for day in changed - set(self.computed):
            self._drop(draft, day)
        return changed

    def _renew(self) -> None:
        """Compute the next days with a new connection: what one keeps of days gone by grows by 10 MB a day."""
        self._close_days_connection()
        self.days_connection = self.open_connection()

    def _close_days_connection(self) -> None:
        if self.days_connection is not self.connection:
            self.days_connection.close()
            self.days_connection = self.connection

    def _is_current(self, day: dt.date, given: str, *, is_newest: bool) -> bool:
        """Tell whether nothing about a day has changed: its rows, the states it is given, and what was made of them."""
        entry = self.index.days.get(day)
        return (
            entry is not None
            and (entry.enhanced, entry.given, entry.is_newest) == (self.enhanced[day], given, is_newest)
            and all(self._day_key(name, day) in self.whole for name in entry.objects)
        )

    def _compute(
        self, draft: Draft, stored: StoredDay, given: str, previous: Mapping[str, pa.Table], *, is_newest: bool
    ) -> tuple[IndexedDay, dict[str, pa.Table]]:
        """Compute and store a day's tables; return its entry in the index, and its states."""
        day = stored.manifest.day
        with span("get", rows=stored.rows.num_rows):
            stored = self._load(stored)
        self.days_connection.register("source", _sources(stored))
        try:
            with span("compute") as computing:
                tables = day_tables(
                    self.days_connection, day, interval_s=self.interval_s, previous=previous, is_newest=is_newest
                )
                computing.add(rows=sum(rows.num_rows for rows in tables.values()))
        finally:
            self.days_connection.unregister("source")
        entry = self.index.days.get(day)
        known = entry.objects if entry is not None else {}
        handed_on = {mart.name for mart in states()}

        def put(name: str) -> Stored:
            # The next run, and the whole tables, begin with the newest states.
            read_again = is_newest and name in handed_on
            return self._put(self._day_key(name, day), tables[name], known.get(name), read_again=read_again)

        with span("write") as writing:
            objects = dict(zip(tables, self.pool.map(put, tables), strict=True))
            writing.add(objects=len(objects), bytes=sum(each.size for each in objects.values()))
        with draft.together():
            for name, rows in tables.items():
                if catalogue()[name].grain is Grain.DAY:
                    draft.put(catalogue()[name], rows, day=day)
        states_after = {name: tables[name] for name in sorted(handed_on)}
        newest_snapshot = self.days_connection.execute("SELECT max(file_timestamp) FROM enhanced").fetchone()
        computed = IndexedDay(
            enhanced=stored.info.etag,
            given=given,
            is_newest=is_newest,
            states=_digest(objects[name].sha256 for name in states_after),
            newest_snapshot_at=newest_snapshot[0] if newest_snapshot else None,
            objects=objects,
        )
        return computed, states_after

    def _load(self, stored: StoredDay) -> StoredDay:
        """Let DuckDB read a day's rows from the lake into `enhanced`; return the day as it was then.

        Raises:
            DayKeepsChangingError: it was replaced in every attempt.
        """
        day, key = stored.manifest.day, stored.info.key
        columns = ", ".join(ENHANCED.names)
        for _ in range(_ATTEMPTS):
            with clear_store_errors(self.lake.store.uri(key)):
                self.days_connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE enhanced AS SELECT {columns} "  # noqa: S608 - our own names
                    f"FROM read_parquet({quoted(self.lake.store.uri(key))}, hive_partitioning = false)"
                )
            now = self.lake.store.head(key)
            if now is not None and now.etag == stored.info.etag:
                return stored
            stored = require_trusted(self.lake, self.contracts, day)
        raise DayKeepsChangingError(f"Enhanced of {day} was replaced while it was read, {_ATTEMPTS} times. Run again.")

    def _read_states(self, day: dt.date) -> dict[str, pa.Table]:
        """Read what a day handed on."""
        objects = self.index.days[day].objects
        # The index has what the listing has, or what has just been written.
        found = {
            name: ObjectInfo(self._day_key(name, day), objects[name].size, objects[name].etag, None, {})
            for name in (mart.name for mart in states())
        }
        bodies = self.pool.map(lambda info: self.lake.store.get(info).body, found.values())
        return {
            name: pq.ParquetFile(pa.BufferReader(body)).read().cast(catalogue()[name].schema)
            for name, body in zip(found, bodies, strict=True)
        }

    def _drop(self, draft: Draft, day: dt.date) -> None:
        """Take a day out of the index and the draft; its objects are removed once the index no longer has them."""
        self.index.days.pop(day, None)
        for mart in catalogue().values():
            if mart.grain is Grain.DAY:
                draft.drop(mart, day)

    def _local_days(self, draft: Draft, changed: set[dt.date]) -> None:
        """Compute the local dates that changed UTC days reach into, and those whose objects are damaged or gone."""
        index = self.index
        marts = [mart for mart in catalogue().values() if mart.grain is Grain.LOCAL_DAY]
        wanted = {day + more for day in changed for more in (dt.timedelta(), _ONE_DAY)}
        wanted |= {
            day
            for day, found in index.local_days.items()
            if any(self.lake.keys.mart_local_day(name, day) not in self.whole for name in found)
        }
        for local_date in sorted(wanted):
            tables = local_day_tables(self.connection, local_date, stored=draft.stored)
            known = index.local_days.pop(local_date, {})
            objects = {
                name: self._put(self.lake.keys.mart_local_day(name, local_date), rows, known.get(name))
                for name, rows in tables.items()
                if rows.num_rows
            }
            with draft.together():
                for mart in marts:
                    draft.put(mart, tables[mart.name], day=local_date)
            if objects:
                index.local_days[local_date] = objects

    def _whole_tables(self, draft: Draft) -> None:
        """Compute the tables that are made of all there is."""
        days = self.index.days
        if not days:
            newest_states: dict[str, pa.Table] = {}
            first, newest = _NO_DAY, _NO_DAY
        else:
            first, newest = min(days), max(days)
            newest_states = self._read_states(newest)
        tables = whole_tables(
            self.connection,
            newest_states,
            stored=draft.stored,
            first_day=first,
            newest_day=newest,
            newest_snapshot_at=self.index.newest_snapshot_at,
        )
        for name, rows in tables.items():
            self.index.tables[name] = self._put(self.lake.keys.mart(name), rows, self.index.tables.get(name))
        with draft.together():
            for name, rows in tables.items():
                draft.put(catalogue()[name], rows)

    def _put(self, key: str, rows: pa.Table, known: Stored | None, *, read_again: bool = False) -> Stored:
        """Store a table's rows, unless the same bytes lie there."""
        body = parquet_bytes(rows, {})
        sha256 = hashlib.sha256(body).hexdigest()
        if known is not None and known.sha256 == sha256 and key in self.whole:
            return known
        by: Literal["listing"] | None = "listing" if read_again else None
        info = self.lake.store.put(key, body, content_type=PARQUET, read_again_by=by)
        stored = Stored(info.etag, sha256, rows.num_rows, len(body))
        self.whole.add(key)
        table = key.rpartition("/")[2].removesuffix(".parquet")
        self.written.setdefault(table, []).append(stored)
        return stored

    def _fill(self, draft: Draft) -> None:
        """Fill a new draft with what lies in the lake and is as the index has it; the rest is computed next."""
        index, uri, keys = self.index, self.lake.store.uri, self.lake.keys
        for mart in catalogue().values():
            if mart.grain is Grain.DAY:
                found = [self._day_key(mart.name, day) for day in sorted(index.days)]
            elif mart.grain is Grain.LOCAL_DAY:
                found = [keys.mart_local_day(mart.name, day) for day in sorted(index.local_days)]
            else:
                continue
            draft.load(mart, [uri(key) for key in found if key in self.whole])

    def _day_key(self, table: str, day: dt.date) -> str:
        return self.lake.keys.mart_day(table, day, published=catalogue()[table].published)

    def _built(self) -> Built:
        days = self.index.days
        return Built(
            index=self.index.digest,
            first_day=min(days, default=None),
            newest_day=max(days, default=None),
            newest_snapshot_at=self.index.newest_snapshot_at,
        )


def _sources(stored: StoredDay) -> pa.Table:
    """Return what a day's manifest says of its raw objects, as SQL sees it."""
    rows = [{name: getattr(source, name) for name in SOURCE_SCHEMA.names} for source in stored.manifest.sources]
    return pa.Table.from_pylist(rows, schema=SOURCE_SCHEMA)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()

"""From an object of the lake back to the raw objects it was made from, as the lake itself records it.

The index of the marts, the manifests in the Parquet files and the listings say what was read and what lies there now;
where the two differ, that is said. Runs are found in the lineage events, where there are any.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import pyarrow.parquet as pq
from pyarrow import ArrowException, BufferReader, schema

from wrm_pipeline.contracts.vocabulary import ENHANCED, PROCESSED
from wrm_pipeline.lake.day_object import Manifest, Source, UnreadableDayError, decode
from wrm_pipeline.lake.keys import Layer, day_of, snapshot_time
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import SHA256_KEY, CorruptObject, ObjectInfo, ObjectNotFound
from wrm_pipeline.layers.mart_index import IndexedDay, MartIndex, Stored
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.marts.catalogue import Grain, catalogue
from wrm_pipeline.transform.schema import ENHANCED as ENHANCED_SCHEMA
from wrm_pipeline.transform.schema import PROCESSED as PROCESSED_SCHEMA

# Small requests that do not wait for each other.
_AT_ONCE: Final = 8
# A run is published within a minute of its end; in that time some twenty others may be as well.
_EVENT_FILES: Final = 20
# Times of objects carry whole seconds.
_CLOCK: Final = dt.timedelta(seconds=1)
_ONE_DAY: Final = dt.timedelta(days=1)
_ONE_COLUMN: Final = {
    Layer.PROCESSED: schema([PROCESSED_SCHEMA.field("station_id")]),
    Layer.ENHANCED: schema([ENHANCED_SCHEMA.field("station_id")]),
}
_LAYERS: Final = {
    "processed": Layer.PROCESSED,
    PROCESSED: Layer.PROCESSED,
    "enhanced": Layer.ENHANCED,
    ENHANCED: Layer.ENHANCED,
}
_DATE: Final = re.compile(r"(?:dt=|date=)?(\d{4}-\d{2}-\d{2})")
_HELP: Final = (
    "Give a key such as enhanced/all/dt=2025-05-12/all_enhanced.parquet, an s3:// address, or a table with its day, "
    "such as: fct_station_hour 2025-05-12. `wrm marts` lists the tables."
)


class LineageKeyError(LayerError):
    """What was asked for is no object that this lake knows the making of; the sentence says what to ask for."""


class State(StrEnum):
    """How what lies in the lake compares with what is recorded of it."""

    AS_RECORDED = "as recorded"
    STALE = "stale"  # it is another one by now
    MISSING = "missing"
    DAMAGED = "damaged"
    NEW = "new"  # it came since, and is in nothing yet
    NOT_RECORDED = "not recorded"  # nothing says what it should be


@dataclass(frozen=True)
class Node:
    """An object, and what it was made from.

    Attributes:
        kind: raw, processed, enhanced, anomalies, profile, or the name of a table.
        recorded: the ETag that is recorded where it was read, or written.
        stored: the ETag of what lies there; None when nothing does.
        at: of raw, the time of the snapshot; of others, when it was last written. UTC.
        fault: why a raw object was set aside.
        runs: ids of the Dagster runs that wrote it as it lies there, as far as lineage events tell.
        note: a sentence, when there is something to say.
    """

    kind: str
    key: str
    state: State
    recorded: str | None = None
    stored: str | None = None
    size: int | None = None
    at: dt.datetime | None = None
    rows: int | None = None
    sha256: str | None = None
    fault: str | None = None
    code_version: str | None = None
    runs: tuple[str, ...] = ()
    note: str = ""
    inputs: tuple["Node", ...] = field(default=())

    def all(self) -> "Iterator[Node]":
        """Yield it and all below it."""
        yield self
        for each in self.inputs:
            yield from each.all()


@dataclass(frozen=True)
class _Output:
    """A dataset that a run wrote, by its lineage: the run began at `began`, and reported it at `at`."""

    name: str
    version: str | None
    run_id: str
    began: dt.datetime
    at: dt.datetime


def walk(lake: Lake, key: str, partition: str | None = None) -> Node:
    """Return an object with all it was made from, back to raw.

    Args:
        lake: the lake.
        key: a key, with or without the lake's prefix, an s3:// address, or a table, also as `table/dt=2025-05-12`.
        partition: the day of a table, when the key does not have it.

    Raises:
        LineageKeyError: there is no such thing.
        StoreError: the store does not answer.
    """
    return _Walk(lake).node(key, partition)


class _Walk:
    """One walk; what several nodes need is read once."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.keys = lake.keys
        self.index = self._read_index()
        self._events: dict[str, list[_Output]] = {}
        self._listed: dict[dt.datetime, list[str]] = {}

    def node(self, given: str, partition: str | None) -> Node:
        key, table, day = self._asked(given, partition)
        if table is not None:
            return self._table(table, day)
        found = self._of_key(key)
        if found is None:
            raise LineageKeyError(f"Nothing is known about the making of {key!r}. {_HELP}")
        if found.state is State.MISSING and found.recorded is None:
            raise LineageKeyError(f"There is no object {self.lake.store.uri(key)}. {_HELP}")
        return found

    def _asked(self, given: str, partition: str | None) -> tuple[str, str | None, dt.date | None]:
        """Return a complete key, or a table and its day."""
        text = given.strip()
        if text.startswith("s3://"):
            bucket, _, text = text.removeprefix("s3://").partition("/")
            if bucket != self.lake.store.bucket:
                raise LineageKeyError(
                    f"{given} lies in the bucket {bucket}; this lake is {self.lake.store.bucket}. Check BUCKET_NAME."
                )
        name, _, rest = text.rstrip("/").partition("/")
        known = name in _LAYERS or name in catalogue()
        day = _day(partition if partition is not None else rest) if known and (partition or rest) else None
        if known and (not rest or day is not None):
            if name in _LAYERS:
                if day is None:
                    raise LineageKeyError(f"{name} has a day in each object; say which: wrm lineage {name} 2025-05-12")
                return self.keys.layer_object(_LAYERS[name], day), None, None
            return "", name, day
        if partition is not None:
            raise LineageKeyError(f"There is no table {given!r}, and a key has no partition beside it. {_HELP}")
        return (text if text.startswith(self.keys.prefix) else f"{self.keys.prefix}{text}"), None, None

    def _of_key(self, key: str) -> Node | None:
        if key.startswith(self.keys.raw_root) and snapshot_time(key) is not None:
            return self._raw_alone(key)
        day = day_of(key)
        if day is not None:
            of_day: dict[str, Callable[[], Node]] = {
                self.keys.layer_object(Layer.ENHANCED, day): lambda: self._enhanced(day, None),
                self.keys.layer_object(Layer.PROCESSED, day): lambda: self._processed(day, None),
                self.keys.anomalies(day): lambda: self._anomalies(key),
                self.keys.profile(day): lambda: self._profile(key),
                self.keys.profile_page(day): lambda: self._profile(key),
            }
            if key in of_day:
                return of_day[key]()
        folder, _, rest = key.removeprefix(self.keys.prefix).partition("/")
        table, _, inside = rest.partition("/")
        if folder in {"marts", "state"} and table in catalogue():
            named = _day(inside.partition("/")[0])
            if self._table_key(table, named) == key:
                return self._table(table, named)
        return None

    # Tables

    def _table_key(self, table: str, day: dt.date | None) -> str | None:
        mart = catalogue()[table]
        if mart.grain in {Grain.DAY, Grain.STATE} and day is not None:
            return self.keys.mart_day(table, day, published=mart.published)
        if mart.grain is Grain.LOCAL_DAY and day is not None:
            return self.keys.mart_local_day(table, day)
        return self.keys.mart(table) if mart.grain is Grain.TABLE and day is None else None

    def _table(self, table: str, day: dt.date | None) -> Node:
        mart, index = catalogue()[table], self.index
        if mart.grain is Grain.STAGING:
            raise LineageKeyError(f"{table} is made while a day is computed, and not kept. {_HELP}")
        key = self._table_key(table, day)
        if key is None:
            by = {Grain.LOCAL_DAY: "date of the city's clock"}.get(mart.grain, "UTC day")
            raise LineageKeyError(
                f"{table} is one object; ask for it without a day."
                if mart.grain is Grain.TABLE
                else f"{table} has an object a {by}; say which: wrm lineage {table} 2025-05-12"
            )
        if index is None:
            raise LineageKeyError(
                f"{self.lake.store.uri(self.keys.mart_index)}, which says what the tables were made from, is not there "
                "or damaged. Run wrm_stations_marts_job; it makes it."
            )
        if mart.grain is Grain.TABLE or day is None:
            found = index.tables.get(table)
        elif mart.grain is Grain.LOCAL_DAY:
            found = index.local_days.get(day, {}).get(table)
        else:
            found = index.days[day].objects.get(table) if day in index.days else None
        if found is None:
            days = sorted(index.local_days if mart.grain is Grain.LOCAL_DAY else index.days)
            has = f"It has {days[0]} to {days[-1]}." if days else "It has no day yet."
            raise LineageKeyError(f"{table} holds nothing for {day or 'the lake'}. {has} See `wrm status`.")
        return self._of_index(table, key, found, index.code, self._made_from(mart.grain, index, table, day))

    def _made_from(self, grain: Grain, index: MartIndex, table: str, day: dt.date | None) -> tuple[Node, ...]:
        if grain is Grain.TABLE or day is None:
            # Back to each day of enhanced only: a year has 105,000 raw objects behind them.
            return tuple(self._listed_enhanced(index))
        if grain is not Grain.LOCAL_DAY:
            return (*self._states_before(index, day), self._enhanced(day, index.days[day].enhanced))
        # Local midnight lies one or two hours before that of UTC, so a local date begins in the UTC day before it.
        days = [each for each in (day - _ONE_DAY, day) if each in index.days]
        through = [
            self._of_index(name, self.keys.mart_day(name, each, published=catalogue()[name].published), stored)
            for each in days
            for name, stored in sorted(index.days[each].objects.items())
            if name in catalogue()[table].needs
        ]
        return (*through, *(self._enhanced(each, index.days[each].enhanced) for each in days))

    def _states_before(self, index: MartIndex, day: dt.date) -> Iterator[Node]:
        """Yield what the day before handed on, as one node; the first day was handed nothing."""
        before = max((each for each in index.days if each < day), default=None)
        if before is None:
            return
        handed: IndexedDay = index.days[before]
        given = index.days[day].given
        yield Node(
            kind="states",
            key=f"{self.keys.state_root}state_*/dt={before}/",
            state=State.AS_RECORDED if handed.states == given else State.STALE,
            recorded=given,
            stored=handed.states,
            note=f"what was known at the end of {before}, from that day and all before it; "
            f"go on with: wrm lineage state_station {before}",
        )

    def _of_index(
        self, table: str, key: str, found: Stored, code: str | None = None, inputs: Sequence[Node] = ()
    ) -> Node:
        info = self.lake.store.head(key)
        node = self._judged(table, key, found.etag, info)
        note = "" if node.state is State.AS_RECORDED else "Run wrm_stations_marts_job; it makes the object again."
        late = [each for each in inputs if each.state is State.STALE]
        if late and not note:
            note = "What it was made from has changed since: wrm_stations_marts_job brings it up to date."
        return replace(
            node,
            rows=found.rows,
            sha256=found.sha256,
            code_version=code,
            note=note,
            runs=self._runs(self.keys.mart_root(table).rstrip("/") if table in catalogue() else key, None, info),
            inputs=tuple(inputs),
        )

    def _listed_enhanced(self, index: MartIndex) -> Iterator[Node]:
        stored = {info.key: info for info in self.lake.store.list(self.keys.layer_root(Layer.ENHANCED))}
        for day, entry in sorted(index.days.items()):
            key = self.keys.layer_object(Layer.ENHANCED, day)
            yield self._judged("enhanced", key, entry.enhanced, stored.get(key))

    # Days

    def _enhanced(self, day: dt.date, recorded: str | None) -> Node:
        node, manifest = self._day(Layer.ENHANCED, day, recorded)
        if manifest is None:
            return node
        return replace(node, inputs=(self._processed(day, manifest),))

    def _processed(self, day: dt.date, downstream: Manifest | None) -> Node:
        """Return a day of processed and its raw objects; `downstream` is the manifest of the enhanced made from it."""
        node, manifest = self._day(Layer.PROCESSED, day, None)
        note = node.note
        if downstream is not None:
            if manifest is None:
                note = "Gone since; the raw objects below are those that the manifest of enhanced names."
            elif manifest.inputs() == downstream.inputs():
                node = replace(node, state=State.AS_RECORDED)
            else:
                node = replace(node, state=State.STALE)
                note = (
                    f"It holds {len(manifest.sources)} raw objects, and enhanced was made from "
                    f"{len(downstream.sources)}: wrm_stations_processing_job brings enhanced up to date."
                )
        sources = manifest or downstream
        raw = tuple(self._raw(day, sources.sources)) if sources is not None else ()
        late = sum(each.state is not State.AS_RECORDED for each in raw)
        if late and not note:
            note = f"Raw objects not as they were read: {late}. wrm_stations_processing_job brings it up to date."
        return replace(node, note=note, inputs=raw)

    def _day(self, layer: Layer, day: dt.date, recorded: str | None) -> tuple[Node, Manifest | None]:
        key = self.keys.layer_object(layer, day)
        try:
            stored = self.lake.store.get(key)
            _, manifest = decode(stored.body, _ONE_COLUMN[layer])
        except ObjectNotFound:
            return self._judged(str(layer), key, recorded, None), None
        except (CorruptObject, UnreadableDayError):
            remedy = "It cannot be read: wrm_stations_processing_job builds it anew from raw."
            return Node(str(layer), key, State.DAMAGED, recorded, note=remedy), None
        node = self._judged(str(layer), key, recorded, stored.info)
        return (
            replace(
                node,
                rows=manifest.total("kept"),
                code_version=manifest.code_version,
                runs=self._runs(key, stored.info.etag, stored.info),
            ),
            manifest,
        )

    def _raw(self, day: dt.date, sources: Sequence[Source]) -> Iterator[Node]:
        """Yield the raw objects that a manifest names, and those that came since, in the order of time."""
        listed = {info.key: info for info in self.lake.raw_listing(day)}
        known = {source.key: source for source in sources}
        keys = sorted({*listed, *known})
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lineage") as pool:
            heads = pool.map(lambda key: self.lake.store.head(key) if key in listed else None, keys)
            for key, head in zip(keys, heads, strict=True):
                source = known.get(key)
                node = self._judged("raw", key, source.etag if source else None, head)
                if source is None:
                    node = replace(node, state=State.NEW, note="It came since.")
                yield replace(
                    node,
                    at=snapshot_time(key) or node.at,
                    rows=source.rows if source else None,
                    fault=source.fault if source else None,
                )

    def _raw_alone(self, key: str) -> Node:
        info = self.lake.store.head(key)
        node = self._judged("raw", key, None, info)
        note = "What the feed sent then." if info is not None else ""
        runs = self._runs(key, None, info)
        return replace(node, at=snapshot_time(key), runs=runs, note=note)

    # What is derived from days

    def _anomalies(self, key: str) -> Node:
        try:
            stored = self.lake.store.get(key)
            recorded = (pq.ParquetFile(BufferReader(stored.body)).metadata.metadata or {}).get(b"wrm_inputs")
        except ObjectNotFound:
            return self._judged("anomalies", key, None, None)
        except (CorruptObject, ArrowException, OSError):
            return Node("anomalies", key, State.DAMAGED, note="It cannot be read: materialize the day again.")
        return self._derived("anomalies", key, stored.info, recorded and recorded.decode())

    def _profile(self, key: str) -> Node:
        info = self.lake.store.head(key)
        if info is None:
            return self._judged("profile", key, None, None)
        return self._derived("profile", key, info, info.metadata.get("inputs"))

    def _derived(self, kind: str, key: str, info: ObjectInfo, recorded: str | bytes | None) -> Node:
        """Return something made from its own day of enhanced and days before it, as it records itself."""
        document: dict[str, Any] = json.loads(recorded) if recorded else {"enhanced": {}}
        own = day_of(key)
        days = {dt.date.fromisoformat(day): etag for day, etag in document["enhanced"].items()}
        before = {day: etag for day, etag in days.items() if day != own}
        stored = {layer_key: self.lake.store.head(layer_key) for layer_key in map(self._enhanced_key, before)}
        past = [
            self._judged("enhanced", self._enhanced_key(day), etag, stored[self._enhanced_key(day)])
            for day, etag in sorted(before.items())
        ]
        mine = [self._enhanced(own, days[own])] if own is not None and own in days else []
        node = self._judged(kind, key, None, info)
        stale = any(each.state is State.STALE for each in (*past, *mine))
        return replace(
            node,
            code_version=document.get("code_version"),
            runs=self._runs(key, info.etag, info),
            note="What it was made from has changed since: materialize the day again." if stale else "",
            inputs=(*past, *mine),
        )

    def _enhanced_key(self, day: dt.date) -> str:
        return self.keys.layer_object(Layer.ENHANCED, day)

    # What all share

    def _judged(self, kind: str, key: str, recorded: str | None, info: ObjectInfo | None) -> Node:
        if info is None:
            return Node(kind, key, State.MISSING, recorded, note="There is no such object.")
        state = State.NOT_RECORDED if recorded is None else State.AS_RECORDED if recorded == info.etag else State.STALE
        return Node(
            kind,
            key,
            state,
            recorded,
            info.etag,
            size=info.size,
            at=info.last_modified,
            sha256=info.metadata.get(SHA256_KEY),
            note="It was written anew since." if state is State.STALE else "",
        )

    def _read_index(self) -> MartIndex | None:
        try:
            return MartIndex.from_json(self.lake.store.get(self.keys.mart_index).body)
        except (ObjectNotFound, CorruptObject, ValueError, KeyError, TypeError):
            return None

    def _runs(self, name: str, version: str | None, info: ObjectInfo | None) -> tuple[str, ...]:
        """Return the run that wrote an object as it lies there: it had begun by then, and reported it after that.

        Only a version that is given must be the one that the run says it wrote.
        """
        if info is None or info.last_modified is None:
            return ()
        written = info.last_modified
        return tuple(
            dict.fromkeys(
                output.run_id
                for event_key in self._event_files(written)
                for output in self._outputs(event_key)
                if output.name == name
                and version in {None, output.version}
                and output.began < written + _CLOCK
                and written <= output.at
            )
        )

    def _event_files(self, written: dt.datetime) -> Iterable[str]:
        """Return the first lineage objects published after a time, of runs that began on its day or before."""
        if written not in self._listed:
            found = [
                info
                for day in (written.date() - _ONE_DAY, written.date())
                for info in self.lake.store.list(self.keys.lineage_day(day))
                if info.last_modified is not None and info.last_modified >= written - _CLOCK
            ]
            found.sort(key=lambda info: (info.last_modified or written, info.key))
            self._listed[written] = [info.key for info in found[:_EVENT_FILES]]
        return self._listed[written]

    def _outputs(self, event_key: str) -> list[_Output]:
        """Return what a run's lineage says it wrote."""
        if event_key not in self._events:
            lines = self.lake.store.get(event_key).body.splitlines()
            self._events[event_key] = [
                _Output(
                    name=output["name"],
                    version=output["facets"].get("version", {}).get("datasetVersion"),
                    run_id=event["run"]["facets"]["parent"]["run"]["runId"],
                    began=dt.datetime.fromisoformat(event["run"]["facets"]["wrm_run"]["began"]),
                    at=dt.datetime.fromisoformat(event["eventTime"]),
                )
                for event in map(json.loads, lines)
                for output in event.get("outputs", ())
            ]
        return self._events[event_key]


def _day(text: str) -> dt.date | None:
    match = _DATE.fullmatch(text)
    try:
        return dt.date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None

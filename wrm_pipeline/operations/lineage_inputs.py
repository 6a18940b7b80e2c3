"""What each asset of a run was made from, with versions: what the run's event log says, completed from the lake.

By the time it is asked, the lake may have moved on. A version is named only when what lies there shows that it is the
one that was read; otherwise the dataset is named without one, and a sentence says why.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from pyarrow import ArrowException, BufferReader, schema

from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED, RAW
from wrm_pipeline.lake.day_object import inputs_digest, listing_inputs
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectNotFound
from wrm_pipeline.layers.mart_index import MartIndex
from wrm_pipeline.marts.catalogue import catalogue
from wrm_pipeline.marts.document import sources
from wrm_pipeline.transform.schema import PROCESSED as PROCESSED_SCHEMA

DUCKDB: Final = "wrm_stations_duckdb"
SITE: Final = "wrm_station_site"
ANOMALIES: Final = "wrm_stations_anomalies"
PROFILE: Final = "wrm_stations_profile"

# A backfill of a year has 105,000 raw objects, of which a hundred megabytes of events would tell nothing that the
# manifests in the lake do not: of more days than these a day's raw objects are one dataset with one version.
_DAYS_WITH_EACH_OBJECT: Final = 7
_A_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Made:
    """A materialization as the event log has it; `version` is the ETag of what was stored where there is one."""

    asset: str
    partition: str | None
    at: dt.datetime
    metadata: Mapping[str, Any]
    version: str | None
    code_version: str | None

    @property
    def day(self) -> dt.date | None:
        """The UTC day of a daily asset."""
        try:
            return dt.date.fromisoformat(self.partition or "")
        except ValueError:
            return None

    @property
    def uri(self) -> str | None:
        """Where it lies."""
        return self.metadata.get("dagster/uri")


@dataclass(frozen=True)
class Dataset:
    """A dataset as OpenLineage names it: namespace and name, and its version where it is known."""

    namespace: str
    name: str
    version: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What a materialization was made from; `note` says what is not known of it, or left out."""

    datasets: tuple[Dataset, ...]
    note: str = ""


def dataset(uri: str, version: str | None = None) -> Dataset:
    """Return the dataset at an address: s3://bucket and key, https://host and path, or file and path."""
    parts = urlsplit(uri)
    if not parts.scheme:
        return Dataset("file", uri, version)
    path = uri.removeprefix(f"{parts.scheme}://{parts.netloc}")
    return Dataset(f"{parts.scheme}://{parts.netloc}", path.strip("/") if parts.scheme == "s3" else path, version)


class RunInputs:
    """The inputs of the materializations of one run."""

    def __init__(self, lake: Lake, made: Iterable[Made]) -> None:
        self.lake = lake
        self.made = {(each.asset, each.partition): each for each in made}
        self.days = len({partition for asset, partition in self.made if asset == PROCESSED})
        self._index: MartIndex | None = None
        self._by_asset: Mapping[str, Callable[[Made], Inputs]] = {
            RAW: self._of_raw,
            PROCESSED: self._of_processed,
            ENHANCED: self._of_enhanced,
            DEAD_LETTERS: self._of_dead_letters,
            ANOMALIES: self._of_anomalies,
            PROFILE: self._of_profile,
            DUCKDB: lambda _: self._tables(mart.name for mart in catalogue().values() if mart.published),
            SITE: lambda _: self._tables([*(m.name for m in catalogue().values() if m.published), DUCKDB]),
        }

    def of(self, made: Made) -> Inputs:
        """Return what a materialization of the run was made from."""
        if made.asset in self._by_asset:
            return self._by_asset[made.asset](made)
        if made.asset in catalogue():
            return self._of_mart(made)
        return Inputs((), "What this asset is made from is not known here.")

    def _of_raw(self, made: Made) -> Inputs:
        feed = made.metadata.get("feed")
        return Inputs((dataset(str(feed)),)) if feed else Inputs((), "The feed's address is not recorded.")

    def _of_processed(self, made: Made) -> Inputs:
        if made.day is None:
            return _no_day(made)
        keys, store = self.lake.keys, self.lake.store
        head = store.head(keys.layer_object(Layer.PROCESSED, made.day))
        as_made = head is not None and head.etag == made.version
        folder = store.uri(keys.raw_day(made.day))
        if self.days > _DAYS_WITH_EACH_OBJECT:
            version = head.metadata.get("inputs-sha256") if head is not None and as_made else None
            return Inputs(
                (dataset(folder, version),),
                "Raw objects are not named one by one in a run over so many days; the manifest in the day's Parquet "
                f"object names them{', of which the version is a digest' if version else ''}.",
            )
        if as_made:
            return self._raw_objects(folder, self._manifest_inputs(made.day))
        # Built anew since. Raw objects are written once, so those it was made from still lie there.
        newest = str(made.metadata.get("newest_input", ""))
        listed = listing_inputs(info for info in self.lake.raw_listing(made.day) if info.key <= newest)
        if listed and len(listed) == made.metadata.get("inputs"):
            return self._raw_objects(folder, listed)
        return Inputs(
            (dataset(folder),),
            "The day was built anew since, and raw does not hold the same objects any more: which they were is not "
            "known.",
        )

    def _manifest_inputs(self, day: dt.date) -> dict[str, str]:
        # One column: what is wanted is the manifest.
        stored = self.lake.read_day(Layer.PROCESSED, day, schema([PROCESSED_SCHEMA.field("station_id")]))
        return stored.manifest.inputs() if stored is not None else {}

    def _raw_objects(self, folder: str, inputs: Mapping[str, str]) -> Inputs:
        uri = self.lake.store.uri
        objects = (dataset(uri(key), etag) for key, etag in sorted(inputs.items()))
        return Inputs((dataset(folder, inputs_digest(inputs.items())), *objects))

    def _of_enhanced(self, made: Made) -> Inputs:
        if made.day is None:
            return _no_day(made)
        keys, store = self.lake.keys, self.lake.store
        key = keys.layer_object(Layer.PROCESSED, made.day)
        processed = self.made.get((PROCESSED, made.partition))
        if processed is not None and _same_sources(processed, made):
            return Inputs((dataset(store.uri(key), processed.version),))
        # A snapshot came between the two steps, or enhanced was built alone: it has brought processed up to date.
        own, upstream = store.head(keys.layer_object(Layer.ENHANCED, made.day)), store.head(key)
        digests = {info.metadata.get("inputs-sha256", info.key) for info in (own, upstream) if info is not None}
        if own is not None and upstream is not None and own.etag == made.version and len(digests) == 1:
            return Inputs((dataset(store.uri(key), upstream.etag),))
        return Inputs((dataset(store.uri(key)),), "The day was built anew since: which version it was is not known.")

    def _of_dead_letters(self, made: Made) -> Inputs:
        if made.day is None:
            return _no_day(made)
        keys = {
            name: self.lake.keys.layer_object(layer, made.day)
            for name, layer in ((PROCESSED, Layer.PROCESSED), (ENHANCED, Layer.ENHANCED))
        }
        built = {name: each for name in keys if (each := self.made.get((name, made.partition))) is not None}
        versions = {name: each.version for name, each in built.items()}
        return Inputs(
            tuple(dataset(self.lake.store.uri(key), versions.get(name)) for name, key in keys.items()),
            "A report of the letters that lie there; these datasets' builds write them.",
        )

    def _of_anomalies(self, made: Made) -> Inputs:
        if made.day is None:
            return _no_day(made)
        try:
            stored = self.lake.store.get(self.lake.keys.anomalies(made.day))
            recorded = (pq.ParquetFile(BufferReader(stored.body)).metadata.metadata or {}).get(b"wrm_inputs")
        except (ObjectNotFound, ArrowException, OSError):
            return self._enhanced_of(made, None)
        return self._enhanced_of(made, recorded.decode() if recorded and stored.info.etag == made.version else None)

    def _of_profile(self, made: Made) -> Inputs:
        if made.day is None:
            return _no_day(made)
        head = self.lake.store.head(self.lake.keys.profile(made.day))
        return self._enhanced_of(made, head.metadata.get("inputs") if head and head.etag == made.version else None)

    def _enhanced_of(self, made: Made, recorded: str | None) -> Inputs:
        """Return the days of enhanced that an object records, else that of its own day."""
        if recorded is None:
            days: dict[str, str | None] = {made.partition or "": None}
            note = "It was made anew since: which versions of which days before it were read is not known."
        else:
            days, note = dict(json.loads(recorded)["enhanced"]), ""
        return Inputs(tuple(self._enhanced(dt.date.fromisoformat(day), etag) for day, etag in days.items()), note)

    def _of_mart(self, made: Made) -> Inputs:
        names = sources(catalogue(), made.asset)
        tables = self._tables(name for name in names if name != ENHANCED)
        if ENHANCED not in names:
            return tables
        database = self.made.get((DUCKDB, None))
        said = database.metadata if database is not None else {}
        days = sorted({dt.date.fromisoformat(day) for day in _A_DAY.findall(str(said.get("days", "")))})
        index, notes = self._index_of_run(), []
        left_out = int(said.get("days_computed", 0)) - len(days)
        if left_out > 0:
            notes.append(f"{left_out} days before these were computed as well.")
        notes.append(
            "Named are the days that this run computed; the rows of other days are as earlier runs made them."
            if days
            else "No day of enhanced had changed, so none was read."
        )
        if days and index is None:
            notes.append("The tables were made anew since: which versions of these days were read is not known.")
        known = {day: entry.enhanced for day, entry in index.days.items()} if index is not None else {}
        return Inputs((*tables.datasets, *(self._enhanced(day, known.get(day)) for day in days)), " ".join(notes))

    def _tables(self, names: Iterable[str]) -> Inputs:
        """Return tables, and the DuckDB file, in the versions that the run made before."""
        found: list[Dataset] = []
        left_out: list[str] = []
        for name in names:
            made = self.made.get((name, None))
            if made is not None and made.uri:
                found.append(dataset(made.uri, made.version))
            elif name in catalogue():
                found.append(dataset(self.lake.store.uri(self.lake.keys.mart_root(name))))
                left_out.append(name)
        note = f"Not made by this run, so of no known version: {', '.join(left_out)}." if left_out else ""
        return Inputs(tuple(found), note)

    def _index_of_run(self) -> MartIndex | None:
        """Return the index of the marts when it is the one that the run left: all tables have the run's versions."""
        if self._index is None:
            try:
                self._index = MartIndex.from_json(self.lake.store.get(self.lake.keys.mart_index).body)
            except (ObjectNotFound, ValueError, KeyError, TypeError):
                return None
        index = self._index
        versions = {name: made.version for (name, _), made in self.made.items() if name in catalogue()}
        return index if all(table_version(index, name) == version for name, version in versions.items()) else None

    def _enhanced(self, day: dt.date, etag: str | None) -> Dataset:
        return dataset(self.lake.store.uri(self.lake.keys.layer_object(Layer.ENHANCED, day)), etag)


def table_version(index: MartIndex, name: str) -> str:
    """Return the version of a table as its materialization carries it: a digest of all its objects."""
    return hashlib.sha256("".join(each.sha256 for each in index.of_table(name)).encode()).hexdigest()


def _same_sources(one: Made, other: Made) -> bool:
    return all(one.metadata.get(name) == other.metadata.get(name) for name in ("inputs", "newest_input"))


def _no_day(made: Made) -> Inputs:
    return Inputs((), f"No day is recorded for this materialization of {made.asset}.")

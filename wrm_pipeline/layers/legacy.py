"""Processed objects of older deployments, whose names end in a timestamp and which hold the whole day so far each.

They are read only for days whose raw objects are gone. Battery levels are lost in them: they stored the overloaded
column as true/false, so its text is empty here for bikes.
"""

import datetime as dt
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wrm_pipeline.contracts.model import Column, Contract
from wrm_pipeline.feed.base import Reject
from wrm_pipeline.lake.day_object import Manifest, Source
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.transform.classify import split_overloaded
from wrm_pipeline.transform.distinct import map_distinct
from wrm_pipeline.transform.names import normalise_name
from wrm_pipeline.transform.schema import PROCESSED

LEGACY_CODE_VERSION = "legacy"
_OVERLOADED = "givesbonus_acceptspedelecs_fbbattlevel"
_DERIVED = ("gives_bonus", "battery_level")


@dataclass(frozen=True)
class OlderDay:
    """A day read from an older deployment's objects; `sha256` is by their keys.

    `source_keys` and `lines` say of each row which object it came from, and its 1-based position there.
    """

    rows: pa.Table
    source_keys: Sequence[str]
    lines: np.ndarray
    manifest: Manifest
    rejects: tuple[Reject, ...]
    sha256: Mapping[str, str]


def read_older_deployment(lake: Lake, contract: Contract, day: dt.date) -> OlderDay | None:
    """Return the day's rows, each sighting once, or None when an older deployment left nothing.

    A sighting is a (station_id, file_timestamp). The newest object comes first; a row of an older object that repeats
    it in every column is a duplicate, one that differs is a reject, whose line is its 1-based position in its object.

    Raises:
        LayerError: an object cannot be read as processed data.
    """
    objects = lake.legacy_objects(Layer.PROCESSED, day)[::-1]
    if not objects:
        return None
    tables = [_as_processed(stored.info.key, stored.body, contract.column("battery_level")) for stored in objects]
    rows = pa.concat_tables(tables).combine_chunks()
    origin = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    starts = np.cumsum([0, *(table.num_rows for table in tables)])
    keep, conflicting = _sightings(rows)
    rejects = tuple(
        Reject(
            source_key=objects[int(origin[index])].info.key,
            line=index - int(starts[origin[index]]) + 1,
            row=row_as_json(rows, index),
            rule="conflicting_id",
            message="another object holds this station at this time with other values",
        )
        for index in np.flatnonzero(conflicting).tolist()
    )

    def per_object(mask: np.ndarray) -> list[int]:
        counts: list[int] = np.bincount(origin[mask], minlength=len(objects)).tolist()
        return counts

    counts = zip(objects, per_object(keep), per_object(conflicting), per_object(~keep & ~conflicting), strict=True)
    sources = tuple(
        Source(stored.info.key, stored.info.etag, kept + dead + duplicates, kept, dead, duplicates)
        for stored, kept, dead, duplicates in counts
    )
    kept_rows = rows.filter(pa.array(keep))
    order = pc.sort_indices(kept_rows, sort_keys=[("file_timestamp", "ascending"), ("station_id", "ascending")])
    (place,) = np.nonzero(keep)
    place = place[order.to_numpy()]
    return OlderDay(
        rows=kept_rows.take(order).combine_chunks(),
        source_keys=[objects[index].info.key for index in origin[place].tolist()],
        lines=place - starts[origin[place]] + 1,
        manifest=Manifest(Layer.PROCESSED, day, LEGACY_CODE_VERSION, tuple(sorted(sources, key=lambda s: s.key))),
        rejects=rejects,
        sha256={stored.info.key: stored.sha256 for stored in objects},
    )


def row_as_json(rows: pa.Table, index: int) -> bytes:
    """Return one row as JSON: these rows have no text as received."""
    return json.dumps(rows.slice(index, 1).to_pylist()[0], default=str, ensure_ascii=False).encode()


def _sightings(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Masks: the first row of each sighting, and later rows that differ from it."""
    seen: dict[tuple[str, int], int] = {}
    keep, conflicting = np.zeros(rows.num_rows, dtype=bool), np.zeros(rows.num_rows, dtype=bool)
    columns = [rows.column(name).to_pylist() for name in rows.column_names]
    ids, times = rows.column("station_id").to_pylist(), rows.column("file_timestamp").cast(pa.int64()).to_pylist()
    for index, sighting in enumerate(zip(ids, times, strict=True)):
        first = seen.setdefault(sighting, index)
        keep[index] = first == index
        conflicting[index] = any(column[first] != column[index] for column in columns)
    return keep, conflicting


def _as_processed(key: str, body: bytes, battery: Column) -> pa.Table:
    """Bring an older deployment's columns to today's schema; its naive times are UTC."""
    try:
        table = pq.ParquetFile(io.BytesIO(body)).read()
        columns = {
            name: table.column(name).combine_chunks()
            for name in PROCESSED.names
            if name not in {*_DERIVED, _OVERLOADED}
        }
        columns["name"] = map_distinct(columns["name"], normalise_name, pa.string())
        published = table.column(_OVERLOADED).combine_chunks()
        columns[_OVERLOADED] = pc.if_else(
            pc.starts_with(columns["station_id"], "fb"), "", pc.if_else(published.cast(pa.bool_()), "true", "false")
        )
        columns["gives_bonus"], columns["battery_level"] = split_overloaded(
            columns[_OVERLOADED], columns["station_id"], columns["name"], battery
        )
        for name in ("timestamp", "file_timestamp"):
            microseconds = columns[name].cast(pa.timestamp("us", columns[name].type.tz), safe=False)
            columns[name] = microseconds.cast(pa.int64()).cast(PROCESSED.field(name).type)
        return pa.table(
            {name: columns[name].cast(PROCESSED.field(name).type) for name in PROCESSED.names}, schema=PROCESSED
        )
    except (pa.ArrowException, KeyError, OSError) as error:
        raise LayerError(f"{key}, written by an older deployment, cannot be read as processed data: {error}") from error

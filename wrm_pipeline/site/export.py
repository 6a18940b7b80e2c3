"""The data of the site's pages: queries on the DuckDB file, one SQL file each in queries/, put into JSON files.

Times are epoch seconds UTC, dates are of the city's clock unless their name begins with `utc_`. Nothing here knows the
clock: the same database gives the same bytes. How files get to the store is not in here.
"""

import datetime as dt
import functools
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.marts.connection import connect
from wrm_pipeline.site.sampling import sample
from wrm_pipeline.transform.zone import LOCAL_ZONE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The names of columns, and a list of values for each: shorter than a list of objects, and quicker to read.
Columns = dict[str, list[Any]]
_Arrays = dict[str, NDArray[Any]]

_QUERIES: Final = Path(__file__).parent / "queries"
_HOUR_S: Final = 3600
# More than a screen has pixels for, and a tenth of a year's hours.
_POINTS: Final = 1000
# A name of the feed may have 64 kB.
_LONGEST_NAME: Final = 200
_NAMES: Final = frozenset({"name", "previous_name"})
# Cells of mart_density_grid are 250 m wide and high, on the sphere and around the parallel of sql/macros_grid.sql.
_CELL_M: Final = 250
_EARTH_RADIUS_M: Final = 6_371_008.8
_CELL_LATITUDE: Final = 51.1
# What JSON has too.
_AS_THEY_ARE: Final = frozenset({int, str, bool, type(None)})


@dataclass(frozen=True)
class LakeFacts:
    """What the page on data shows of the lake itself, each None when it was not read.

    Attributes:
        letters: rule, rows, newest_utc_date.
        checks: utc_date, layer, name, passed, blocks, summary.
        not_in_marts: utc_date, reason.
    """

    letters: Columns | None = None
    checks: Columns | None = None
    not_in_marts: Columns | None = None


@functools.cache
def queries() -> Mapping[str, str]:
    """Return the SQL of each query behind the site, by name; read once."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(_QUERIES.glob("*.sql"))}


def empty_database() -> "DuckDBPyConnection":
    """Return a database as it is before there is anything in the lake: every published table without rows."""
    connection = connect()
    for mart in published():
        columns = ", ".join(f'"{name}" {kind}' for name, kind in mart.types.items())
        connection.execute(f"CREATE TABLE {mart.name} ({columns})")
    connection.execute(
        "CREATE TABLE marts_built (first_day DATE, newest_day DATE, newest_snapshot_at TIMESTAMP WITH TIME ZONE)"
    )
    return connection


def export(
    connection: "DuckDBPyConnection", *, interval_s: int, code_version: str, facts: LakeFacts
) -> dict[str, bytes]:
    """Return the files of site/data/ but for downloads.json, by their path under site/data/.

    Args:
        connection: to a database of the marts, with its clock in UTC; only read from.
        interval_s: the nominal time between two snapshots in seconds.
        code_version: of what makes the data.
        facts: what the database does not know.
    """
    documents: dict[str, Any] = {
        "meta.json": _meta(connection, interval_s, code_version),
        "now.json": _now(connection),
        "forecast.json": _forecast(connection),
        "reliability.json": _reliability(connection),
        "fleet.json": _fleet(connection),
        "density.json": _density(connection),
        "quality.json": _quality(connection, facts),
    }
    stations = _query(connection, "stations")
    documents["stations.json"] = {"stations": _picker(stations)}
    files = {path: as_json(document) for path, document in documents.items()}
    for document in _stations(connection, stations):
        files[f"stations/{document['id']}.json"] = as_json(document)
    return files


def as_json(document: Any) -> bytes:
    """Return a document as it is sent: compact, UTF-8, keys in their order, no NaN."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _meta(connection: "DuckDBPyConnection", interval_s: int, code_version: str) -> dict[str, Any]:
    built = _one(connection, "built")
    return {
        "schema": 1,
        "time_zone": LOCAL_ZONE.key,
        "interval_s": interval_s,
        "newest_snapshot_at": built.get("newest_snapshot_at"),
        "first_snapshot_at": built.get("first_snapshot_at"),
        "first_utc_day": built.get("first_day"),
        "newest_utc_day": built.get("newest_day"),
        "days": built.get("days", 0),
        "stations": built.get("stations", 0),
        "code_version": code_version,
    }


def _now(connection: "DuckDBPyConnection") -> dict[str, Any]:
    return {
        "snapshot_at": _one(connection, "built").get("newest_snapshot_at"),
        "stations": _query(connection, "now_stations"),
        "free": _query(connection, "now_free"),
        **_one(connection, "now_off_zone"),
    }


def _forecast(connection: "DuckDBPyConnection") -> dict[str, Any]:
    names, rows = _fetch(connection, "forecast_stations")
    return {
        **_one(connection, "forecast_made"),
        "system": _query(connection, "forecast_system"),
        "stations": {station: _columns(names[1:], of_station) for station, of_station in _by_station(rows)},
    }


def _reliability(connection: "DuckDBPyConnection") -> dict[str, Any]:
    episodes = _query(connection, "reliability_episodes")
    totals = episodes.pop("total")
    window = _one(connection, "window")
    return {
        "window": window if window["start"] is not None else None,
        "week": _query(connection, "reliability_week"),
        "stations": _query(connection, "reliability_stations"),
        "episodes_days": 7,
        "episodes_total": totals[0] if totals else 0,
        "episodes": episodes,
    }


def _fleet(connection: "DuckDBPyConnection") -> dict[str, Any]:
    window = _one(connection, "fleet_window")
    history = connection.execute(queries()["fleet_history"]).to_arrow_table()
    hours = {name: history.column(name).to_numpy() for name in history.column_names}
    return {
        "days": _query(connection, "fleet_days"),
        "hours": _broken_at_gaps(_query(connection, "fleet_hours")),
        "all": _history(hours, ["at_stations", "free_in_zone", "stations_empty"]),
        "profile": _query(connection, "fleet_profile"),
        "sampling_interval_s": window.get("sampling_interval_s"),
        "window": {"start": window["start"], "end": window["end"]} if window else None,
        "moves": _query(connection, "fleet_moves"),
    }


def _density(connection: "DuckDBPyConnection") -> dict[str, Any]:
    outside = _one(connection, "density_outside")
    angle = math.degrees(_CELL_M / _EARTH_RADIUS_M)
    return {
        "utc_date": outside.pop("utc_date"),
        "cell_m": _CELL_M,
        "d_lat": round(angle, 7),
        "d_lon": round(angle / math.cos(math.radians(_CELL_LATITUDE)), 7),
        "cells": _query(connection, "density_cells"),
        "outside": outside,
    }


def _quality(connection: "DuckDBPyConnection", facts: LakeFacts) -> dict[str, Any]:
    return {
        "days": _query(connection, "quality_days"),
        "flags": _query(connection, "quality_flags"),
        "letters": facts.letters,
        "checks": facts.checks,
        "not_in_marts": facts.not_in_marts,
    }


def _picker(stations: Columns) -> Columns:
    """Return what the list of all stations shows of the query's columns."""
    former = [
        sorted({_shortened(name) for name in names if name is not None} - {current})
        for names, current in zip(stations["names"], stations["name"], strict=True)
    ]
    shown = {name: stations[name] for name in ("id", "name", "docks", "is_current")}
    return {**shown, "previous_names": former, "last_seen_at": stations["last_seen_at"]}


def _stations(connection: "DuckDBPyConnection", stations: Columns) -> Iterator[dict[str, Any]]:
    """Yield the document of each station. Each query is asked once, for all of them."""
    window = _one(connection, "window")
    pieces = {
        name: _PieceByStation(connection, f"station_{name}")
        for name in ("hours", "typical", "days", "versions", "outages")
    }
    histories = _histories(connection)
    nothing = {name: np.zeros(0, dtype=np.int64) for name in ("t", "p10", "p50", "p90")}
    for place, station in enumerate(stations["id"]):
        versions = pieces["versions"].of(station)
        outages = pieces["outages"].of(station)
        totals = outages.pop("total")
        yield {
            "id": station,
            **{name: stations[name][place] for name in _OF_STATION},
            "hours": _broken_at_gaps(pieces["hours"].of(station)),
            "all": _history(histories.get(station, nothing), ["p10", "p50", "p90"]),
            "typical": pieces["typical"].of(station),
            "window": {"start": window["start"], "end": window["end"]} if window["start"] is not None else None,
            "days": pieces["days"].of(station),
            "versions": [dict(zip(versions, row, strict=True)) for row in zip(*versions.values(), strict=True)],
            "outages_total": totals[0] if totals else 0,
            "outages": outages,
        }


_OF_STATION: Final = ("name", "lat", "lon", "docks", "is_current", "first_seen_at", "last_seen_at")


class _PieceByStation:
    """The rows of a query whose first column is a station's id, by that id."""

    def __init__(self, connection: "DuckDBPyConnection", query: str) -> None:
        names, rows = _fetch(connection, query)
        self._names = names[1:]
        self._rows = dict(_by_station(rows))

    def of(self, station: str) -> Columns:
        """Return a station's rows, without its id."""
        return _columns(self._names, self._rows.get(station, []))


def _histories(connection: "DuckDBPyConnection") -> dict[str, _Arrays]:
    """Return the history of each station, in order of time."""
    table = connection.execute(queries()["station_history"]).to_arrow_table()
    ids = table.column("station_id").combine_chunks().dictionary_encode()
    codes, hours = ids.indices.to_numpy(), table.column("hour").to_numpy()
    order = np.lexsort((hours, codes))
    ordered = {name: table.column(name).to_numpy()[order] for name in ("p10", "p50", "p90")}
    ordered = {"t": hours[order].astype(np.int64) * _HOUR_S, **ordered}
    bounds = np.searchsorted(codes[order], np.arange(len(ids.dictionary) + 1))
    return {
        station: {name: values[start:end] for name, values in ordered.items()}
        for station, (start, end) in zip(ids.dictionary.to_pylist(), itertools.pairwise(bounds), strict=True)
    }


def _history(hours: _Arrays, sampled_on: Sequence[str]) -> dict[str, Any]:
    """Return hours, sampled on some of their columns, with a row of nulls where hours are missing between two rows."""
    times = hours["t"]
    kept = sample(times, [hours[name] for name in sampled_on], _POINTS, step=_HOUR_S)
    # The row before each gap, and how many gaps there are before each row that is kept.
    gaps = np.flatnonzero(np.diff(times) > _HOUR_S)
    passed = np.searchsorted(gaps, kept)
    # Of the gaps between two kept rows, the first one breaks the line.
    breaks = np.flatnonzero(np.diff(passed))
    beginnings = times[gaps[passed[breaks]]] + _HOUR_S
    columns = {
        name: _insert(values[kept].tolist(), breaks + 1, beginnings.tolist() if name == "t" else None)
        for name, values in hours.items()
    }
    return {"points": len(times), "shown": len(kept), "columns": columns}


def _broken_at_gaps(hours: Columns) -> Columns:
    """Return hours with a row of nulls at the beginning of each gap between them."""
    times = hours["t"]
    places = [place for place in range(1, len(times)) if times[place] - times[place - 1] > _HOUR_S]
    beginnings = [times[place - 1] + _HOUR_S for place in places]
    return {name: _insert(values, places, beginnings if name == "t" else None) for name, values in hours.items()}


def _insert(values: list[Any], places: Iterable[int], new: Sequence[int] | None) -> list[Any]:
    """Return plain values with new ones, by default nulls, before those at some places."""
    longer = _plain_all(values)
    for number, place in enumerate(places):
        longer.insert(place + number, None if new is None else new[number])
    return longer


def _query(connection: "DuckDBPyConnection", name: str) -> Columns:
    return _columns(*_fetch(connection, name))


def _one(connection: "DuckDBPyConnection", name: str) -> dict[str, Any]:
    """Return the only row of a query; nothing when there is none."""
    names, rows = _fetch(connection, name)
    return dict(zip(names, map(_plain, rows[0]), strict=True)) if rows else {}


def _fetch(connection: "DuckDBPyConnection", name: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    cursor = connection.execute(queries()[name])
    return [column[0] for column in cursor.description or ()], cursor.fetchall()


def _by_station(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Yield rows that are ordered by their first column by it, without it."""
    for station, of_station in itertools.groupby(rows, key=lambda row: row[0]):
        yield station, [row[1:] for row in of_station]


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    values = zip(*rows, strict=True) if rows else ((),) * len(names)
    return {
        name: [value and _shortened(value) for value in column] if name in _NAMES else _plain_all(column)
        for name, column in zip(names, values, strict=True)
    }


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _plain_all(values: Sequence[Any]) -> list[Any]:
    """Return values as JSON has them. Most columns are integers and texts, and so are already."""
    return list(values if _AS_THEY_ARE.issuperset(map(type, values)) else map(_plain, values))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: no NaN, a date as text, and 12 rather than 12.0, which is shorter."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    return value.isoformat() if isinstance(value, dt.date) else value

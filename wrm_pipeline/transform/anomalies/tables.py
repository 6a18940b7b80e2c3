"""The tables of anomaly detection: a day reduced to station-hours, and what a finding looks like.

Here is also the local clock, since every method speaks of hours as people in Wrocław live them. How something is judged
is not here.
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wrm_pipeline.transform.zone import LOCAL_ZONE

HOUR_US: Final = 3_600_000_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UTC: Final = pa.timestamp("us", tz="UTC")

# Two snapshots further apart than this are no step: after an outage, what changed meanwhile is no pace. Half an hour is
# the coarsest cadence at which an hour has steps at all.
MAX_STEP_US: Final = 1_800_000_000


class Method(StrEnum):
    """How an anomaly was found."""

    ROBUST_Z = "robust_z"
    ISOLATION_FOREST = "isolation_forest"
    FLAT = "flat_while_neighbours_move"
    JUMP = "jump"
    VANISHED = "vanished"


ANOMALY_SCHEMA: Final = pa.schema(
    [
        pa.field("station_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("hour_start", _UTC),  # UTC; null when it is about the whole day
        pa.field("method", pa.string(), nullable=False),  # a `Method`
        pa.field("score", pa.float64()),  # in the unit of the method; null when it gives none
        pa.field("why", pa.string(), nullable=False),
        pa.field("bikes", pa.float64()),  # mean of the hour; after a jump, the new count; null when there is none
        pa.field("total_docks", pa.int32()),  # null for a station that was not there all day
    ]
)

# What each column of a finding means, for people.
MEANINGS: Final = {
    "station_id": "Id of the station in the feed",
    "name": "Its normalised name",
    "hour_start": "Beginning of the hour it is about, UTC; null when it is about the whole day",
    "method": "How it was found: robust_z, isolation_forest, flat_while_neighbours_move, jump or vanished",
    "score": "How odd, in the unit of the method; null when the method gives none",
    "why": "Why, in words, with local times",
    "bikes": "Mean bikes of the hour; after a jump, the new count",
    "total_docks": "Docks of the station; null when it was not there all day",
}

STATION_HOURS: Final = pa.schema(
    [
        pa.field("station_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # the last one of the hour, as all that is no number
        pa.field("hour_start", _UTC, nullable=False),
        pa.field("lat", pa.float64(), nullable=False),
        pa.field("lon", pa.float64(), nullable=False),
        pa.field("total_docks", pa.int32(), nullable=False),
        pa.field("bikes", pa.float64(), nullable=False),  # mean over the hour's snapshots
        pa.field("volatility", pa.float64(), nullable=False),  # standard deviation over them, bikes
        pa.field(
            "steps", pa.int32(), nullable=False
        ),  # pairs of consecutive snapshots of which the later is in the hour
        pa.field("changes", pa.int32(), nullable=False),  # steps in which the count changed
        pa.field("moved", pa.int32(), nullable=False),  # sum of all changes without their signs, bikes
    ]
)


@dataclass(frozen=True)
class Finding:
    """One row of `ANOMALY_SCHEMA`; `hour_us` is microseconds since 1970, UTC."""

    station_id: str
    name: str
    hour_us: int | None
    method: Method
    score: float | None
    why: str
    bikes: float | None
    total_docks: int | None


@dataclass(frozen=True)
class StationRows:
    """A day's station rows as arrays of one length, ordered by station id, then by snapshot.

    Attributes:
        ids: the distinct station ids, sorted; `station` indexes it.
        time_us: `file_timestamp`, microseconds since 1970, UTC.
        delta: change of `bikes` since the station's previous row of the day; 0 where `gap_us` is -1.
        gap_us: microseconds since that row; -1 for a station's first row of the day.
    """

    ids: tuple[str, ...]
    station: np.ndarray
    time_us: np.ndarray
    bikes: np.ndarray
    delta: np.ndarray
    gap_us: np.ndarray
    table: pa.Table

    @classmethod
    def of(cls, day_rows: pa.Table) -> "StationRows":
        """Take the station rows out of a day of enhanced rows, in any order."""
        stations = pc.equal(day_rows.column("record_type"), "station")
        columns = ["station_id", "name", "file_timestamp", "bikes", "total_docks", "lat", "lon"]
        table = day_rows.select(columns).filter(stations).combine_chunks()
        encoded = column(table, "station_id").dictionary_encode()
        ids = encoded.dictionary.to_pylist()
        ranks = np.empty(len(ids), dtype=np.int64)
        ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
        station = ranks[encoded.indices.to_numpy()]
        time_us = numbers(table, "file_timestamp")
        order = np.lexsort((time_us, station))
        station, time_us = station[order], time_us[order]
        bikes = numbers(table, "bikes")[order].astype(np.int64)
        delta, gap_us = np.zeros(len(order), dtype=np.int64), np.full(len(order), -1, dtype=np.int64)
        same = np.flatnonzero(station[1:] == station[:-1]) + 1
        delta[same], gap_us[same] = bikes[same] - bikes[same - 1], time_us[same] - time_us[same - 1]
        return cls(tuple(sorted(ids)), station, time_us, bikes, delta, gap_us, table.take(pa.array(order)))


def station_hours(day_rows: pa.Table) -> pa.Table:
    """Reduce a day of enhanced rows to one row a station and UTC hour; a full day gives some 5,600 of 215,000 rows.

    Only the columns station_id, name, file_timestamp, bikes, total_docks, lat, lon and record_type are read, and only
    stations are kept.

    Returns:
        A table in `STATION_HOURS`, ordered by station id, then by hour.
    """
    return reduce_to_hours(StationRows.of(day_rows))


def reduce_to_hours(rows: StationRows) -> pa.Table:
    """Reduce station rows to one row a station and UTC hour, in `STATION_HOURS`."""
    if not rows.ids:
        return STATION_HOURS.empty_table()
    hour = rows.time_us // HOUR_US
    new = np.r_[True, (np.diff(rows.station) != 0) | (np.diff(hour) != 0)]
    starts = np.flatnonzero(new)
    lasts = np.r_[starts[1:], len(hour)] - 1
    counts = lasts - starts + 1

    def summed(values: np.ndarray) -> np.ndarray:
        total: np.ndarray = np.add.reduceat(values, starts)
        return total

    is_step = (rows.gap_us > 0) & (rows.gap_us <= MAX_STEP_US)
    step_size = np.where(is_step, np.abs(rows.delta), 0)
    mean = summed(rows.bikes) / counts
    variance = summed(rows.bikes**2) / counts - mean**2
    last_rows = rows.table.take(pa.array(lasts))
    columns = {
        **{name: last_rows.column(name) for name in ("station_id", "name", "lat", "lon", "total_docks")},
        "hour_start": pa.array(hour[starts] * HOUR_US).cast(_UTC),
        "bikes": mean,
        "volatility": np.sqrt(np.maximum(variance, 0.0)),
        "steps": summed(is_step.astype(np.int32)),
        "changes": summed((step_size > 0).astype(np.int32)),
        "moved": summed(step_size).astype(np.int32),
    }
    return pa.table([columns[name] for name in STATION_HOURS.names], schema=STATION_HOURS)


def findings_table(findings: list[Finding]) -> pa.Table:
    """Return findings in `ANOMALY_SCHEMA`, ordered by hour (whole days last), station, method and reason."""
    ordered = sorted(findings, key=lambda f: (f.hour_us is None, f.hour_us or 0, f.station_id, f.method, f.why))
    names = {"hour_start": "hour_us"}
    columns = [[getattr(f, names.get(field.name, field.name)) for f in ordered] for field in ANOMALY_SCHEMA]
    return pa.table(
        [pa.array(values, type=field.type) for values, field in zip(columns, ANOMALY_SCHEMA, strict=True)],
        schema=ANOMALY_SCHEMA,
    )


def column(table: pa.Table, name: str) -> pa.Array:
    """Return a column of a table as one array."""
    return table.column(name).combine_chunks()


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column without nulls as numpy; a time as microseconds since 1970, UTC."""
    values = table.column(name)
    found: np.ndarray = (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_numpy()
    return found


def local_clock(hours_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the local weekday (Monday is 0) and the local hour of day for each UTC hour; habits follow the clock."""
    distinct, place = np.unique(hours_us, return_inverse=True)
    local = [local_time(hour) for hour in distinct.tolist()]
    weekdays = np.array([time.weekday() for time in local], dtype=np.int64)
    hours = np.array([time.hour for time in local], dtype=np.int64)
    return weekdays[place], hours[place]


def local_time(time_us: int) -> dt.datetime:
    """Return microseconds since 1970 (UTC) as local time."""
    return (_EPOCH + dt.timedelta(microseconds=time_us)).astimezone(LOCAL_ZONE)


def local_span(start_us: int, end_us: int) -> str:
    """Return a span of time in the local clock with its zone, such as 08:00 to 09:00 (Europe/Warsaw), with a dash."""
    return f"{local_time(start_us):%H:%M}\u2013{local_time(end_us):%H:%M} ({LOCAL_ZONE.key})"


def amount(value: float) -> str:
    """Return a number that is not negative as people write it: one decimal, none when it is 0."""
    return f"{value:.1f}".removesuffix(".0")

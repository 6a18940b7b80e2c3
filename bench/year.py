"""A simulated year of enhanced days in a lake of its own, made once and kept: 105,000 snapshots, 78 million rows.

A day follows from the seed and the date alone, by hashing, so that any day can be made again and midnight is no break.
Under raw lie objects of one byte each, so that listings cost what they cost; the days' manifests record these. There is
no processed: marts do not read it.
"""

import contextlib
import datetime as dt
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

from bench.many_objects import fill
from bench.results import say
from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.feed.catalogue import CENTRE, Station, stations_on
from wrm_pipeline.lake.day_object import Manifest, Source, recorded_code_version
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.layers.enhanced import code_version
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION
from wrm_pipeline.settings import LOCAL_DIRECTORY, StoreSettings
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.schema import PROCESSED
from wrm_pipeline.transform.zone import LOCAL_ZONE

# Raise it whenever the same day comes out with other rows: the kept year is then made anew.
VERSION: Final = 1
FIRST_DAY: Final = dt.date(2025, 1, 1)
DAYS: Final = 365
YEAR_DIRECTORY: Final = LOCAL_DIRECTORY / "bench-year"

_SEED: Final = 2025
_PROCESSES: Final = 2
_EVERY: Final = dt.timedelta(minutes=5)
_SERVER_ZONE: Final = ZoneInfo("Europe/London")
_SATURDAY: Final = 5

# Snapshots that never came: one of 500; 40 minutes in one day of ten; six hours once.
_LOST_SHARE: Final = 0.002
_OUTAGE_SHARE: Final = 0.1
_OUTAGE_SNAPSHOTS: Final = 8
_LONG_GAP: Final = (dt.datetime(2025, 5, 14, 6, 2, tzinfo=dt.UTC), dt.datetime(2025, 5, 14, 12, 2, tzinfo=dt.UTC))

# The catalogue renames stations, opens and closes some; these two things it never does.
_MOVED: Final = (15010, dt.date(2025, 6, 17), 0.0045)  # 500 m to the north
_MORE_DOCKS: Final = (15020, dt.date(2025, 9, 2), 6)

# By local hour: the share of a day's rides that is done, and how far the tide that fills work places is in.
_HOURS: Final = (0.0, 5.0, 6.0, 7.0, 9.0, 13.0, 15.0, 17.0, 18.5, 21.0, 22.0, 24.0)
_RIDES_DONE: Final = (0.0, 0.03, 0.06, 0.10, 0.27, 0.45, 0.55, 0.72, 0.84, 0.94, 0.96, 1.0)
_WEEKDAY_TIDE: Final = (0.0, 0.0, 0.0, 0.35, 1.0, 0.95, 0.9, 0.35, 0.0, -0.2, -0.1, 0.0)
_WEEKEND_TIDE: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.45, 0.43, 0.4, 0.3, 0.1, 0.0, 0.0)

# Free-standing bikes: 600 in the city, of which three quarters stand somewhere; 55 in the depot of another city.
_CITY_BIKES: Final = 600
_DEPOT_BIKES: Final = 55
_DEPOT: Final = (52.28, 21.01)
_FIRST_CITY_BIKE: Final = 602_000
_FIRST_DEPOT_BIKE: Final = 590_000
# A bike is taken every 3 to 24 hours of riding time; one of twenty is left alone for weeks.
_TURN_DAYS: Final = (3 / 24, 1.0)
_IDLE_SHARE: Final = 0.05
_IDLE_TURN_DAYS: Final = 30.0
_LEAST_STANDING: Final = 0.5  # of a turn; the rest it is ridden, or stands at a station
_ELECTRIC_SHARE: Final = 0.3


@contextlib.contextmanager
def open_year(directory: Path = YEAR_DIRECTORY) -> Iterator[LocalStore]:
    """Start the server that holds the year, making the year first when there is none of this version.

    Of what else lies in the directory nothing is touched.
    """
    kept, stamp = directory / "simulated-year", directory / "simulated-year.json"
    expected = {"version": VERSION, "first_day": FIRST_DAY.isoformat(), "days": DAYS, "code": _code_version()}
    made = stamp.exists() and json.loads(stamp.read_text()) == expected
    if not made:
        shutil.rmtree(kept, ignore_errors=True)
    with LocalStore(kept) as server:
        if not made:
            say(f"Making a simulated year in {kept}, which takes some minutes; it is kept and used again")
            fill_lake(server.settings(), year_days())
            stamp.write_text(json.dumps(expected))
        yield server


def year_days() -> list[dt.date]:
    """Return the UTC days of the year, in order."""
    return [FIRST_DAY + dt.timedelta(days=number) for number in range(DAYS)]


def fill_lake(settings: StoreSettings, days: Sequence[dt.date]) -> None:
    """Store the raw objects and the enhanced object of some days."""
    keys = LakeKeys(settings.prefix)
    fill(settings, [keys.raw(time) for day in days for time in snapshot_times(day)])
    batches = [(settings, days[start : start + 5]) for start in range(0, len(days), 5)]
    with (
        ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("Enhanced days", total=len(days))
        for stored in pool.map(_store_days, batches):
            progress.advance(bar, stored)


def store_day(lake: Lake, day: dt.date, snapshots: int | None = None) -> int:
    """Store a day of enhanced with its first snapshots, or all; return the rows. Raw must hold just those snapshots."""
    rows = day_rows(lake.keys, day, snapshots)
    counts = np.unique(rows.column("file_timestamp").cast(pa.int64()).to_numpy(), return_counts=True)[1].tolist()
    listing = lake.raw_listing(day)
    sources = [
        Source(key=info.key, etag=info.etag, rows=count, kept=count)
        for info, count in zip(listing, counts, strict=True)
    ]
    lake.write_day(rows, Manifest(Layer.ENHANCED, day, _code_version(), tuple(sources)))
    return int(rows.num_rows)


def day_rows(keys: LakeKeys, day: dt.date, snapshots: int | None = None) -> pa.Table:
    """Return a UTC day's rows of enhanced, of its first snapshots or of all; the same day always has the same rows."""
    times = snapshot_times(day)[:snapshots]
    blocks = [
        _rows_of_local_date(keys, local_date, list(block))
        for local_date, block in groupby(times, key=lambda time: time.astimezone(LOCAL_ZONE).date())
    ]
    return enhance(pa.concat_tables(blocks), day, packaged_contracts().enhanced).rows


def snapshot_times(day: dt.date) -> list[dt.datetime]:
    """Return the UTC times of a day's snapshots: every five minutes and up to three seconds, some missing."""
    numbers, ordinal = np.arange(288), day.toordinal()
    lost = _chance("lost", ordinal, numbers) < _LOST_SHARE
    if _chance("outage", ordinal)[()] < _OUTAGE_SHARE:
        first = int(280 * _chance("outage begins", ordinal)[()])
        lost[first : first + _OUTAGE_SNAPSHOTS] = True
    late_s = (4 * _chance("late", ordinal, numbers)).astype(int).tolist()
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    times = (
        midnight + number * _EVERY + dt.timedelta(seconds=late_s[number]) for number in np.flatnonzero(~lost).tolist()
    )
    return [time for time in times if not _LONG_GAP[0] <= time < _LONG_GAP[1]]


def _store_days(batch: tuple[StoreSettings, Sequence[dt.date]]) -> int:
    settings, days = batch
    with ObjectStore(settings) as store:
        lake = Lake(store, LakeKeys(settings.prefix))
        for day in days:
            store_day(lake, day)
    return len(days)


@lru_cache(maxsize=1)
def _code_version() -> str:
    contracts = packaged_contracts()
    return code_version(contracts.enhanced, recorded_code_version(PROCESSED_CODE_VERSION, contracts.processed.stamp))


def _rows_of_local_date(keys: LakeKeys, local_date: dt.date, times: list[dt.datetime]) -> pa.Table:
    """Return processed rows of snapshots of one local date, snapshot by snapshot: stations, then bikes."""
    stations = _stations(local_date)
    clock = _Clock(local_date, times)
    parts = [_station_cells(stations, clock), _city_bike_cells(clock), _depot_cells(clock)]
    cells = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    # Row by row, without the bikes that stand nowhere at the moment.
    shown = cells.pop("shown")
    flat = {name: values[shown] for name, values in cells.items()}
    snapshot, _ = np.nonzero(shown)
    return _table(keys, stations, clock, snapshot, flat)


class _Clock:
    """The snapshots of a local date: `us` are their times, `done` the local days' worth of rides done by then.

    The share of the day that is over stands for the hour: the days of 23 and 25 hours have no jump then.
    """

    def __init__(self, local_date: dt.date, times: list[dt.datetime]) -> None:
        begin, end = (
            dt.datetime.combine(local_date + dt.timedelta(days=later), dt.time(), LOCAL_ZONE).timestamp()
            for later in (0, 1)
        )
        self.times = times
        self.ordinal = local_date.toordinal()
        self.us = np.array([round(time.timestamp() * 1e6) for time in times], dtype=np.int64)[:, None]
        hours = 24 * (self.us / 1e6 - begin) / (end - begin)
        weekend = local_date.weekday() >= _SATURDAY
        self.tide = np.interp(hours, _HOURS, _WEEKEND_TIDE if weekend else _WEEKDAY_TIDE)
        self.done = self.ordinal + np.interp(hours, _HOURS, _RIDES_DONE)

    def behind_gmt_s(self, zone: ZoneInfo) -> np.ndarray:
        """GMT minus local time at each snapshot."""
        offsets = (time.astimezone(zone).utcoffset() or dt.timedelta() for time in self.times)
        return np.array([-offset.total_seconds() for offset in offsets], dtype=np.int32)


Cells = dict[str, np.ndarray]


def _stations(local_date: dt.date) -> list[Station]:
    return [_changed(station, local_date) for station in stations_on(_SEED, local_date)]


def _changed(station: Station, local_date: dt.date) -> Station:
    if station.id == _MOVED[0] and local_date >= _MOVED[1]:
        return replace(station, lat=round(station.lat + _MOVED[2], 6))
    if station.id == _MORE_DOCKS[0] and local_date >= _MORE_DOCKS[1]:
        return replace(station, docks=station.docks + _MORE_DOCKS[2])
    return station


def _station_cells(stations: list[Station], clock: _Clock) -> Cells:
    def column(name: str) -> np.ndarray:
        return np.array([[getattr(station, name) for station in stations]])

    ids, docks = column("id"), column("docks")
    days = 0.3 * _noise("days", ids, 2 * clock.done)
    minutes = 1.6 * _noise(
        "minutes", ids, 80 * clock.done
    )  # 80 turning points a day: 5 departures a minute, as recorded
    share = column("fill") + days + 0.35 * column("pull") * clock.tide
    bikes = np.maximum(0, np.round(np.maximum(docks, 4) * share + minutes)).astype(np.int32)
    pedelecs = np.minimum(bikes, (1.15 * _chance("pedelecs", ids, clock.ordinal)).astype(np.int32))
    return _cells(
        bikes.shape,
        shown=True,
        id=ids,
        code=np.arange(len(stations)),
        lat=column("lat"),
        lon=column("lon"),
        bikes=bikes,
        spaces=np.maximum(1, docks - column("broken") - bikes),  # the feed never says 0
        docks=docks,
        battery=np.where(_chance("bonus", ids) < 0.02, _TRUE, _FALSE),
        pedelecs=pedelecs,
    )


def _city_bike_cells(clock: _Clock) -> Cells:
    ids = np.arange(_FIRST_CITY_BIKE, _FIRST_CITY_BIKE + _CITY_BIKES)[None, :]
    least, most = _TURN_DAYS
    days = np.where(
        _chance("idle", ids) < _IDLE_SHARE, _IDLE_TURN_DAYS, least * (most / least) ** _chance("turn length", ids)
    )
    turns = clock.done / days + _chance("phase", ids)
    turn = np.floor(turns).astype(np.int64)
    spent = turns - turn
    # Where it stands during a turn; in the second half of some turns the satellites see it a few metres away.
    spread = 0.045 * np.sqrt(-2 * np.log(1 - _chance("far", ids, turn)))
    angle = 2 * np.pi * _chance("angle", ids, turn)
    wobble = np.where((_chance("wobbles", ids, turn) < 0.1) & (spent > 0.3), 0.0002, 0.0)
    lat = np.clip(CENTRE[0] + 0.5 * spread * np.sin(angle), 51.01, 51.19) + wobble
    lon = np.clip(CENTRE[1] + spread * np.cos(angle), 16.81, 17.19)
    electric = _chance("electric", ids) < _ELECTRIC_SHARE
    battery = np.where(electric, (100 * _chance("battery", ids, turn) * (1 - 0.1 * spent)).astype(np.int32), -1)
    return _bikes(ids, lat, lon, battery, shown=spent < _LEAST_STANDING + 0.5 * _chance("stands", ids, turn))


def _depot_cells(clock: _Clock) -> Cells:
    places = np.arange(_DEPOT_BIKES)[None, :]
    # A bike stays three to nine weeks, then another takes its place.
    stay = clock.ordinal // (21 + 42 * _chance("stay", places)).astype(np.int64)
    ids = _FIRST_DEPOT_BIKE + places + _DEPOT_BIKES * (stay % 100)
    lat = _DEPOT[0] + 0.002 * (_chance("depot lat", ids) - 0.5)
    lon = _DEPOT[1] + 0.002 * (_chance("depot lon", ids) - 0.5)
    return _bikes(ids, lat, lon, np.array(-1), shown=np.ones((len(clock.times), 1), dtype=bool))


def _bikes(ids: np.ndarray, lat: np.ndarray, lon: np.ndarray, battery: np.ndarray, *, shown: np.ndarray) -> Cells:
    shape = np.broadcast_shapes(ids.shape, shown.shape)
    return _cells(
        shape,
        shown=shown,
        id=ids,
        code=-1,
        lat=np.round(lat, 6),
        lon=np.round(lon, 6),
        bikes=1,
        spaces=0,
        docks=1,
        battery=battery,
        pedelecs=(battery >= 0).astype(np.int32),
    )


def _cells(shape: tuple[int, ...], **values: np.ndarray | int | bool) -> Cells:
    return {name: np.broadcast_to(value, shape) for name, value in values.items()}


# The overloaded column: battery levels from -1 to 100 are themselves, a station's texts come behind them.
_FALSE, _TRUE = 101, 102
_OVERLOADED: Final = pa.array([*map(str, range(101)), "false", "true", "-1"])  # index -1 is the last


def _table(keys: LakeKeys, stations: list[Station], clock: _Clock, snapshot: np.ndarray, flat: Cells) -> pa.Table:
    is_station = flat["code"] >= 0
    distinct, place = np.unique(flat["id"] * 2 + is_station, return_inverse=True)
    names = {station.id: " ".join(station.name.replace("&amp;", "&").split()) for station in stations}
    ids, labels = [], []
    for number, kind in zip((distinct // 2).tolist(), (distinct % 2).tolist(), strict=True):
        ids.append(str(number) if kind else f"fb{number}")
        labels.append(names[number] if kind else f"BIKE {number}")
    index = pa.array(place)
    # Rows of a snapshot are 100 to 300 microseconds apart; the last of them is as old as the snapshot.
    step_us = 100 + (200 * _chance("row", clock.ordinal, np.arange(len(snapshot)))).astype(np.int64)
    since_us = np.cumsum(step_us)
    last_us = since_us[np.searchsorted(snapshot, np.arange(len(clock.times)), side="right") - 1]
    own_us = clock.us[snapshot, 0] - last_us[snapshot] + since_us
    battery = flat["battery"]
    no_level = is_station | (battery < 0)
    never = pa.array(np.zeros(len(snapshot), dtype=bool))
    columns = {
        "station_id": pa.array(ids).take(index),
        "name": pa.array(labels).take(index),
        "timestamp": pa.array(own_us).cast(PROCESSED.field("timestamp").type),
        "gmt_local_diff_sec": pa.array(clock.behind_gmt_s(LOCAL_ZONE)[snapshot]),
        "gmt_servertime_diff_sec": pa.array(clock.behind_gmt_s(_SERVER_ZONE)[snapshot]),
        "lat": pa.array(flat["lat"]),
        "lon": pa.array(flat["lon"]),
        "bikes": pa.array(flat["bikes"], pa.int32()),
        "spaces": pa.array(flat["spaces"], pa.int32()),
        "installed": pc.invert(never),
        "locked": never,
        "temporary": pa.array(~is_station),
        "total_docks": pa.array(flat["docks"], pa.int32()),
        "givesbonus_acceptspedelecs_fbbattlevel": _OVERLOADED.take(pa.array(battery % len(_OVERLOADED))),
        "pedelecs": pa.array(flat["pedelecs"], pa.int32()),
        "gives_bonus": pa.array(battery == _TRUE, mask=~is_station),
        "battery_level": pa.array(battery.astype(np.int32), mask=no_level),
        "s3_source_key": pa.array([keys.raw(time) for time in clock.times]).take(pa.array(snapshot)),
        "file_timestamp": pa.array(clock.us[snapshot, 0]).cast(PROCESSED.field("file_timestamp").type),
    }
    return pa.table(columns, schema=PROCESSED)


def _noise(what: str, ids: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return numbers in (-1, 1) that wander with x: a new random target at each whole x, a straight line between."""
    left = np.floor(x).astype(np.int64)
    a, b = _chance(what, ids, left), _chance(what, ids, left + 1)
    wandering: np.ndarray = 2 * (a + (b - a) * (x - left)) - 1
    return wandering


def _chance(what: str, *parts: np.ndarray | int) -> np.ndarray:
    """Return numbers in [0, 1) that follow from the seed, a word and whole numbers alone (splitmix64, Steele 2014)."""
    mixed = _mix(np.array(int.from_bytes(what.encode()[:8].ljust(8, b"\0")) ^ (_SEED + 7919 * len(what)), np.uint64))
    for part in parts:
        mixed = _mix(mixed ^ np.asarray(part).astype(np.uint64))
    numbers: np.ndarray = (mixed >> np.uint64(11)) / 2.0**53
    return numbers


def _mix(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed

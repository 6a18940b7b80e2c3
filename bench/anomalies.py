"""Anomalies: do they find what was done to simulated weeks, better than the plain way.

The plain way is scikit-learn's isolation forest on the bike count alone, told to call 1 % an anomaly. Both judge the
same days, hour by hour and station by station, and are held against what was injected. The seeds here are to report on:
the constants in `wrm_pipeline/transform/anomalies` were chosen on others, 101 and 102.
"""

import datetime as dt
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.results import Report, Samples, Target, say
from bench.snapshots import SNAPSHOTS
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.transform.anomalies import find_anomalies
from wrm_pipeline.transform.anomalies.tables import HOUR_US, station_hours
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.zone import LOCAL_ZONE

SEEDS = (1, 2, 3)
HISTORY_DAYS = 28
JUDGED_DAYS = 7
EVENTS_OF_A_KIND = 2  # a day: with six kinds some 60 station-hours of 5,600, about the 1 % that the plain way looks for
FIRST_DAY = dt.date(2025, 6, 2)

_EVERY = dt.timedelta(minutes=5)
_COLUMNS = ("station_id", "name", "file_timestamp", "bikes", "total_docks", "lat", "lon", "record_type")
# A way that finds nothing counts as finding one in a thousand, so that there is something to compare with.
_LEAST_SHARE = 0.1

StationHours = set[tuple[str, int]]


def measure_anomalies(seeds: Sequence[int] = SEEDS) -> Report:
    """Compare precision and recall on simulated weeks."""
    report = Report()
    for seed in seeds:
        report.extend(_compare(seed))
    return report


def day_of(times: Sequence[dt.datetime], bodies: Sequence[bytes]) -> pa.Table:
    """Return enhanced rows of a day's snapshots: the columns that anomalies are found by."""
    contracts = packaged_contracts()
    sent = [Snapshot(f"raw/{at:%H%M%S}.txt", at, body) for at, body in zip(times, bodies, strict=True)]
    parsed = BikeShareMap(contracts.processed).parse(sent)
    return enhance(parsed.rows, times[0].date(), contracts.enhanced).rows.select(_COLUMNS)


class Counts(NamedTuple):
    """A simulated day's station counts: one row a station, one column a snapshot; -1 where the station is missing."""

    ids: list[str]
    times_us: np.ndarray
    bikes: np.ndarray


class Injected(NamedTuple):
    """A day to which something was done, and what: the station-hours it shows in, by kind."""

    rows: pa.Table
    truth: dict[str, StationHours]


def inject(rows: pa.Table, seed: int, day: dt.date) -> Injected:
    """Do known things to some stations of a simulated day.

    A station-hour is true if a count in it, or the step to it, is another than it would have been. A vanished station
    is true in the hour in which it is missed first.
    """
    rows = rows.filter(pc.equal(rows.column("record_type"), "station"))
    before = _counts(rows)
    after = before.bikes.copy()
    chance = random.Random(f"{seed}:{day}")
    stations = chance.sample(range(len(before.ids)), len(before.ids))
    truth: dict[str, StationHours] = {}
    for kind, change in _KINDS.items():
        truth[kind] = set()
        done = 0
        while done < EVENTS_OF_A_KIND:
            station = stations.pop()
            changed = change(before.bikes[station], _local_hours(before.times_us), chance)
            if changed is None:
                continue
            after[station] = changed
            hours = _shown_in(before.bikes[station], changed, before.times_us)
            truth[kind] |= {(before.ids[station], hour) for hour in (hours[:1] if kind == "vanished" else hours)}
            done += 1
    return Injected(_with_counts(rows, before, after), truth)


def _counts(rows: pa.Table) -> Counts:
    encoded = rows.column("station_id").combine_chunks().dictionary_encode()
    times_us, place = np.unique(rows.column("file_timestamp").cast(pa.int64()).to_numpy(), return_inverse=True)
    bikes = np.full((len(encoded.dictionary), len(times_us)), -1)
    bikes[encoded.indices.to_numpy(), place] = rows.column("bikes").to_numpy()
    return Counts(encoded.dictionary.to_pylist(), times_us, bikes)


def _with_counts(rows: pa.Table, before: Counts, after: np.ndarray) -> pa.Table:
    station = pc.index_in(rows.column("station_id"), pa.array(before.ids)).to_numpy()
    place = np.searchsorted(before.times_us, rows.column("file_timestamp").cast(pa.int64()).to_numpy())
    bikes = after[station, place]
    changed = rows.set_column(rows.schema.get_field_index("bikes"), "bikes", pa.array(bikes, pa.int32()))
    return changed.filter(pa.array(bikes >= 0))


def _local_hours(times_us: np.ndarray) -> np.ndarray:
    return np.array([_time(int(at)).astimezone(LOCAL_ZONE).hour for at in times_us])


def _time(time_us: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)


def _shown_in(before: np.ndarray, after: np.ndarray, times_us: np.ndarray) -> list[int]:
    other = (before != after) | (np.diff(before, prepend=before[0]) != np.diff(after, prepend=before[0]))
    return sorted({int(at) // HOUR_US * HOUR_US for at in times_us[other]})


def _begin(hours: np.ndarray, chance: random.Random, first: int, last: int) -> int:
    """A snapshot between two local hours, somewhere in the hour."""
    return int(np.flatnonzero(hours == chance.randint(first, last))[0]) + chance.randrange(12)


def _stuck(bikes: np.ndarray, hours: np.ndarray, chance: random.Random) -> np.ndarray | None:
    """The count stays what it is for five to nine hours of the day."""
    start = _begin(hours, chance, 7, 12)
    changed = bikes.copy()
    changed[start : start + chance.randint(60, 108)] = bikes[start]
    return changed


def _moved_by_van(bikes: np.ndarray, hours: np.ndarray, chance: random.Random) -> np.ndarray | None:
    """Six to twelve bikes come or go at once; riders even it out in three hours."""
    start, by = _begin(hours, chance, 6, 19), chance.choice((-1, 1)) * chance.randint(6, 12)
    if bikes[start] + by < 0:
        return None
    changed = bikes.copy()
    part = slice(start, start + 36)
    evened = np.round(by * np.linspace(1, 0, 36)).astype(np.int64)
    changed[part] = np.maximum(bikes[part] + evened[: len(bikes[part])], 0)
    return changed


def _emptied(bikes: np.ndarray, hours: np.ndarray, chance: random.Random) -> np.ndarray | None:
    """No bike for two to four hours, at a station and an hour with five or more."""
    start = _begin(hours, chance, 5, 19)
    part = slice(start, start + chance.randint(24, 48))
    if bikes[part].min() < 5:
        return None
    changed = bikes.copy()
    changed[part] = 0
    return changed


def _overfilled(bikes: np.ndarray, hours: np.ndarray, chance: random.Random) -> np.ndarray | None:
    """One bike more at each snapshot, up to eight to fifteen more than there would be, for two to four hours."""
    start, most = _begin(hours, chance, 5, 19), chance.randint(8, 15)
    changed = bikes.copy()
    part = changed[start : start + chance.randint(24, 48)]
    part += np.minimum(np.arange(1, len(part) + 1), most)
    return changed


def _restless(bikes: np.ndarray, hours: np.ndarray, chance: random.Random) -> np.ndarray | None:
    """A faulty sensor: three bikes more in every other snapshot, for one to three hours."""
    start = _begin(hours, chance, 0, 20)
    changed = bikes.copy()
    changed[start : start + chance.randint(12, 36) : 2] += 3
    return changed


def _vanished(bikes: np.ndarray, hours: np.ndarray, chance: random.Random) -> np.ndarray | None:
    """No row from some time of the day on."""
    changed = bikes.copy()
    changed[_begin(hours, chance, 6, 20) :] = -1
    return changed


_KINDS: dict[str, Callable[[np.ndarray, np.ndarray, random.Random], np.ndarray | None]] = {
    "stuck": _stuck,
    "moved by van": _moved_by_van,
    "emptied": _emptied,
    "overfilled": _overfilled,
    "restless": _restless,
    "vanished": _vanished,
}


def simulate(seed: int, day: dt.date) -> pa.Table:
    """Return the made-up city's day, as polled every five minutes."""
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    times = [midnight + number * _EVERY for number in range(SNAPSHOTS)]
    return day_of(times, [snapshot(seed, at) for at in times])


def _simulate_reduced(seed: int, day: dt.date) -> pa.Table:
    return station_hours(simulate(seed, day))


def found_by_us(rows: pa.Table, history: Sequence[pa.Table]) -> StationHours:
    """Return the station-hours of all findings, whatever the method."""
    found = find_anomalies(rows, history).rows
    hours = found.column("hour_start").cast(pa.int64()).to_pylist()
    return {
        (s, hour) for s, hour in zip(found.column("station_id").to_pylist(), hours, strict=True) if hour is not None
    }


def found_plainly(learn_from: pa.Table, judged: pa.Table) -> StationHours:
    """Return what an isolation forest on the mean bike count calls an anomaly."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(contamination=0.01, random_state=0).fit(
        learn_from.select(["bikes"]).to_pandas().to_numpy()
    )
    odd = judged.filter(pa.array(forest.predict(judged.select(["bikes"]).to_pandas().to_numpy()) == -1))
    hours = odd.column("hour_start").cast(pa.int64()).to_pylist()
    return set(zip(odd.column("station_id").to_pylist(), hours, strict=True))


class _Score:
    """How one way did over some days."""

    def __init__(self) -> None:
        self.hits, self.found, self.true = 0, 0, 0
        self.hits_by_kind: Counter[str] = Counter()
        self.true_by_kind: Counter[str] = Counter()

    def add(self, found: StationHours, truth: dict[str, StationHours]) -> None:
        everything = set().union(*truth.values())
        self.hits += len(found & everything)
        self.found += len(found)
        self.true += len(everything)
        for kind, hours in truth.items():
            self.hits_by_kind[kind] += len(found & hours)
            self.true_by_kind[kind] += len(hours)

    @property
    def precision(self) -> float:
        return 100 * self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return 100 * self.hits / self.true

    def __str__(self) -> str:
        kinds = ", ".join(f"{k} {self.hits_by_kind[k]}/{self.true_by_kind[k]}" for k in self.true_by_kind)
        return (
            f"precision {self.precision:.1f} % ({self.hits} of {self.found}), recall {self.recall:.1f} % "
            f"({self.hits} of {self.true}: {kinds})"
        )


def _compare(seed: int) -> Report:
    """Judge a week after four weeks; what was done to the week's earlier days is in the later ones' history."""
    say(f"Anomalies, seed {seed}: simulating {HISTORY_DAYS + JUDGED_DAYS} days")
    days = [FIRST_DAY + dt.timedelta(days=number) for number in range(HISTORY_DAYS + JUDGED_DAYS)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        history = list(pool.map(partial(_simulate_reduced, seed), days[:HISTORY_DAYS]))
        judged = list(pool.map(partial(simulate, seed), days[HISTORY_DAYS:]))
    ours, by_day, by_history = _Score(), _Score(), _Score()
    for day, rows in zip(days[HISTORY_DAYS:], judged, strict=True):
        changed = inject(rows, seed, day)
        hours = station_hours(changed.rows)
        ours.add(found_by_us(changed.rows, history), changed.truth)
        by_day.add(found_plainly(hours, hours), changed.truth)
        by_history.add(found_plainly(pa.concat_tables(history), hours), changed.truth)
        history = [*history[1:], hours]
    report = Report(
        notes={
            f"anomalies, seed {seed}, ours": str(ours),
            f"anomalies, seed {seed}, plain, learnt from the day": str(by_day),
            f"anomalies, seed {seed}, plain, learnt from four weeks": str(by_history),
        }
    )
    for measure in ("precision", "recall"):
        plain = max(getattr(by_day, measure), getattr(by_history, measure), _LEAST_SHARE)
        us = Samples(f"anomalies: {measure}, seed {seed}", "%", [getattr(ours, measure)])
        them = Samples(f"anomalies, plain way: {measure}, seed {seed}", "%", [plain])
        report.samples += [us, them]
        report.targets.append(Target(f"anomalies: {measure}, seed {seed}", us, 1.0, them, at_least=True))
    return report

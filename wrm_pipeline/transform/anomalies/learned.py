"""What a station-hour is held against: the station's own history. Robust z-score and isolation forest.

Rules that need no history beyond "does it usually move" are in `trade`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wrm_pipeline.transform.anomalies.tables import (
    HOUR_US,
    Finding,
    Method,
    amount,
    column,
    local_clock,
    local_span,
    numbers,
)

# MAD x 1.4826 estimates the standard deviation of a normal distribution (1 / 0.6745, its upper quartile): Rousseeuw and
# Croux, "Alternatives to the Median Absolute Deviation", JASA 88 (1993). Beyond 3.5 a value is called an outlier:
# Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993), whose score 0.6745 (x - median) / MAD is.
MAD_TO_SIGMA: Final = 1.4826
Z_LIMIT: Final = 3.5
# A station that never varies at an hour has a MAD of 0, and four values often have one near 0 by chance. One bike is
# the least that a count can vary by: with it, nothing under 3.5 x 1.4826 = 5.2 bikes from the usual is reported.
MAD_FLOOR_BIKES: Final = 1.0
# An hour of the week has one value a week. The wider buckets take five, a working week: in the
# simulated city three days called 57 of a day's 5,600 station-hours odd that were not, five 26, and four weeks one.
HOUR_OF_WEEK_WEEKS: Final = 2
WIDE_BUCKET_VALUES: Final = 5

_DAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_SATURDAY: Final = 5

# One hour in a thousand of the history is odder than the limit: six of a day's 5,600.
FOREST_SHARE: Final = 0.001
FOREST_TREES: Final = 100
# Of four weeks' 158,000, by chance: all of them find about the same in three times as long. Each tree takes all 20,000;
# with the usual 256 its branches end before they part the odd from the very odd, and half as many are found.
FOREST_TRAINING_ROWS: Final = 20_000
_LEAST_TRAINING_ROWS: Final = 100
# An hour with less than two steps has no pace and no volatility.
_LEAST_STEPS: Final = 2
_SMALL_STATION_DOCKS: Final = 4  # fill of a station with 0 docks, or of one where a single bike were a third


@dataclass(frozen=True)
class Hours:
    """Station-hours as arrays of one length, in the local clock.

    Attributes:
        station: index into a list of ids that the day and its history share.
        weekday: 0 is Monday.
        hour: local hour of day.
    """

    table: pa.Table
    station: np.ndarray
    hour_us: np.ndarray
    weekday: np.ndarray
    hour: np.ndarray
    bikes: np.ndarray
    changes: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, ids: Sequence[str]) -> "Hours":
        """Take the rows of a table in `STATION_HOURS` whose station is one of `ids`."""
        station = pc.index_in(column(table, "station_id"), pa.array(ids, type=pa.string()))
        table, station = table.filter(station.is_valid()), station.drop_null()
        hour_us = numbers(table, "hour_start")
        weekday, hour = local_clock(hour_us)
        counts = (numbers(table, name) for name in ("bikes", "changes", "steps"))
        return cls(table, station.to_numpy().astype(np.int64), hour_us, weekday, hour, *counts)

    @property
    def weekend(self) -> np.ndarray:
        """1 on a Saturday or Sunday, else 0."""
        return (self.weekday >= _SATURDAY).astype(np.int64)

    def __len__(self) -> int:
        return len(self.station)

    def finding(self, at: int, method: Method, score: float, why: str) -> Finding:
        """Return a finding about the station-hour at a position."""
        row = {name: self.table.column(name)[at].as_py() for name in ("station_id", "name", "total_docks")}
        hour_us, bikes = int(self.hour_us[at]), float(self.bikes[at])
        return Finding(**row, hour_us=hour_us, method=method, score=score, why=why, bikes=bikes)

    def span(self, at: int) -> str:
        """Return the local hour at a position, in words."""
        return local_span(int(self.hour_us[at]), int(self.hour_us[at]) + HOUR_US)


def hour_of_week(hours: Hours) -> np.ndarray:
    """Return one number for each station, local weekday and local hour."""
    bucket: np.ndarray = (hours.station * 7 + hours.weekday) * 24 + hours.hour
    return bucket


def hour_of_day_class(hours: Hours) -> np.ndarray:
    """Return one number for each station, weekday or weekend, and local hour."""
    bucket: np.ndarray = (hours.station * 2 + hours.weekend) * 24 + hours.hour
    return bucket


def hour_of_day(hours: Hours) -> np.ndarray:
    """Return one number for each station and local hour."""
    bucket: np.ndarray = hours.station * 24 + hours.hour
    return bucket


def bucket_medians(buckets: np.ndarray, values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the median of the values of each bucket 0..size-1 (NaN for an empty one), and how many it holds."""
    counts = np.bincount(buckets, minlength=size)
    ordered = np.append(values[np.lexsort((values, buckets))], np.nan)  # the last is what an empty bucket points at
    starts = np.cumsum(counts) - counts
    low = np.where(counts > 0, starts + (counts - 1) // 2, -1)
    high = np.where(counts > 0, starts + counts // 2, -1)
    return (ordered[low] + ordered[high]) / 2, counts


class _Baseline(NamedTuple):
    """For each station-hour of the day: median, MAD and number of the earlier values in its bucket."""

    median: np.ndarray
    mad: np.ndarray
    values: np.ndarray


def _baseline(day_buckets: np.ndarray, history_buckets: np.ndarray, bikes: np.ndarray) -> _Baseline:
    size = int(max(day_buckets.max(initial=-1), history_buckets.max(initial=-1))) + 1
    medians, counts = bucket_medians(history_buckets, bikes, size)
    mads, _ = bucket_medians(history_buckets, np.abs(bikes - medians[history_buckets]), size)
    return _Baseline(medians[day_buckets], mads[day_buckets], counts[day_buckets])


def robust_z(day: Hours, history: Hours) -> tuple[list[Finding], list[str]]:
    """Hold the mean count of each station-hour against the station's own history; the score is z, negative for too few.

    z = (x - median) / (1.4826 MAD) over the narrowest bucket that holds enough values: the hour of the week, weekdays
    or weekends at that hour, the hour of the day. That of a few values is often near 0 by chance, so the MAD is not
    taken to be less than that of like days, than what is usual at the station over all hours, and than one bike.

    Returns:
        Findings where |z| > `Z_LIMIT`, and what the operator must know about the baseline.
    """
    if not len(history):
        return [], [f"{_history_of(0)}: no robust z-score"]
    week, like, any_day = (
        _baseline(bucket(day), bucket(history), history.bikes)
        for bucket in (hour_of_week, hour_of_day_class, hour_of_day)
    )
    by_week = week.values >= HOUR_OF_WEEK_WEEKS
    by_class = ~by_week & (like.values >= WIDE_BUCKET_VALUES)
    by_hour = ~by_week & ~by_class & (any_day.values >= WIDE_BUCKET_VALUES)
    chosen = [by_week, by_class, by_hour]
    median = np.select(chosen, [week.median, like.median, any_day.median], np.nan)
    mad = np.select(chosen, [np.fmax(week.mad, like.mad), like.mad, any_day.mad], np.nan)
    mad = np.maximum(np.fmax(mad, _usual_mad(history, day.station)), MAD_FLOOR_BIKES)
    z = (day.bikes - median) / (MAD_TO_SIGMA * mad)
    findings = []
    for at in np.flatnonzero(np.abs(z) > Z_LIMIT).tolist():
        if by_week[at]:
            usual = f"on {_DAYS[day.weekday[at]]} at this hour (median of {week.values[at]} weeks)"
        elif by_class[at]:
            kind = "weekends" if day.weekend[at] else "weekdays"
            usual = f"on {kind} at this hour (median of {like.values[at]} days)"
        else:
            usual = f"at this hour (median of {any_day.values[at]} days)"
        why = f"{amount(day.bikes[at])} bikes on average at {day.span(at)}; usually {amount(median[at])} {usual}"
        findings.append(day.finding(at, Method.ROBUST_Z, float(z[at]), why))
    return findings, _baseline_notes(day, history, by_week, by_class, by_hour)


def _usual_mad(history: Hours, station: np.ndarray) -> np.ndarray:
    """Return for each station given the median over its earlier hours of the MAD by hour of the day; NaN if unknown."""
    buckets, size = hour_of_day(history), int(max(history.station.max(), station.max())) + 1
    mads = _baseline(buckets, buckets, history.bikes).mad
    usual: np.ndarray = bucket_medians(history.station, mads, size)[0][station]
    return usual


def _baseline_notes(
    day: Hours, history: Hours, by_week: np.ndarray, by_class: np.ndarray, by_hour: np.ndarray
) -> list[str]:
    notes = []
    seen = np.isin(day.station, history.station)
    if seen.any() and not by_week.any():
        wide = ((by_class, "weekdays or weekends by hour"), (by_hour, "the hour of the day"))
        used = " and ".join(word for mask, word in wide if mask.any())
        notes.append(
            f"{_history_of(_days(history))} is too short for a baseline by hour of the week, which "
            f"needs {HOUR_OF_WEEK_WEEKS} weeks" + (f": {used} used instead" if used else "")
        )
    without = ~(by_week | by_class | by_hour)
    unknown = without & ~seen
    if unknown.any():
        notes.append(f"{_stations(day, unknown)} never seen before: no robust z-score")
    sparse = without & ~unknown
    if sparse.any():
        hours = f"{sparse.sum()} station-hour{'s' if sparse.sum() > 1 else ''}"
        notes.append(
            f"no robust z-score for {hours} with fewer than {WIDE_BUCKET_VALUES} earlier days at their hour "
            f"({_stations(day, sparse)})"
        )
    return notes


def _days(history: Hours) -> int:
    return len(np.unique(history.hour_us // (24 * HOUR_US)))


def _history_of(days: int) -> str:
    return f"history of {days} day{'' if days == 1 else 's'}" if days else "no history"


def _stations(day: Hours, mask: np.ndarray) -> str:
    """Return "3 stations (15001, 15002, …)": at most five by name."""
    ids = sorted(set(day.table.column("station_id").filter(pa.array(mask)).to_pylist()))
    shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
    return f"{len(ids)} station{'s' if len(ids) > 1 else ''} ({shown})"


def isolation_forest(day: Hours, history: Hours) -> tuple[list[Finding], list[str]]:
    """Find station-hours whose pace, fill, flatness and volatility are odd taken together.

    Each of the four is taken as its difference from the station's own median at that local hour (with fewer than five
    days of history: from its median over the day), because a busy station's pace or an overfull one's fill is no
    anomaly. The forest (Liu, Ting and Zhou, "Isolation Forest", ICDM 2008; scikit-learn) learns from the history, or
    else from the day. The score is that paper's: near 1 odd, below 0.5 ordinary.

    Returns:
        Findings beyond the `FOREST_SHARE` of the hours learnt from, and what the operator must know.
    """
    days = _days(history)
    own = days < WIDE_BUCKET_VALUES
    known = day if own else history
    measures, known_measures = _measures(day), _measures(known)
    # Over the day, not by hour, when it learns from the day: that has each hour once.
    buckets, known_buckets = (hours.station if own else hour_of_day(hours) for hours in (day, known))
    usual, deviations = _against_usual(buckets, measures, known_buckets, known_measures)
    _, learnt = _against_usual(known_buckets, known_measures, known_buckets, known_measures)
    judged = np.flatnonzero(np.isfinite(deviations).all(axis=1))
    learnt = learnt[np.isfinite(learnt).all(axis=1)]
    if len(learnt) < _LEAST_TRAINING_ROWS or not len(judged):
        why_not = (
            f"no isolation forest: {len(judged)} station-hours to judge and {len(learnt)} to learn from, of at least "
            f"{_LEAST_TRAINING_ROWS}; an hour needs {_LEAST_STEPS} steps between snapshots"
        )
        return [], [why_not]
    from sklearn.ensemble import IsolationForest

    if len(learnt) > FOREST_TRAINING_ROWS:  # not every eighth, say: these would be the same three hours of every day
        learnt = np.random.default_rng(0).choice(learnt, FOREST_TRAINING_ROWS, replace=False)
    forest = IsolationForest(
        n_estimators=FOREST_TREES,
        max_samples=len(learnt),
        contamination=FOREST_SHARE,
        random_state=0,
        n_jobs=None,
    ).fit(learnt)
    scores = -forest.score_samples(deviations[judged])
    odd = scores > -forest.offset_
    findings = []
    for at, score in zip(judged[odd].tolist(), scores[odd].tolist(), strict=True):
        pace, fill, flat, volatility = measures[at]
        usual_pace, usual_fill, usual_flat, usual_volatility = usual[at]
        why = (
            f"odd taken together at {day.span(at)}: {amount(pace)} bikes moved a step (usually {amount(usual_pace)}), "
            f"{fill:.0%} full (usually {usual_fill:.0%}), {flat:.0%} of steps without change "
            f"(usually {usual_flat:.0%}), count varied by ±{amount(volatility)} (usually ±{amount(usual_volatility)})"
        )
        findings.append(day.finding(at, Method.ISOLATION_FOREST, score, why))
    return findings, [f"{_history_of(days)}: the isolation forest learnt from the day itself"] if own else []


def _measures(hours: Hours) -> np.ndarray:
    """Return pace (change per step), fill, flatness and volatility, a row a station-hour; NaN with too few steps."""
    steps = np.where(hours.steps >= _LEAST_STEPS, hours.steps, np.nan)
    docks = np.maximum(numbers(hours.table, "total_docks"), _SMALL_STATION_DOCKS)
    measures: np.ndarray = np.column_stack(
        [
            numbers(hours.table, "moved") / steps,
            hours.bikes / docks,
            1 - hours.changes / steps,
            numbers(hours.table, "volatility"),
        ]
    )
    return measures


def _against_usual(
    buckets: np.ndarray, measures: np.ndarray, known_buckets: np.ndarray, known_measures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the usual measures of each row's bucket and the differences from them; NaN where too little is known."""
    usable = np.isfinite(known_measures).all(axis=1)
    size = int(max(buckets.max(initial=-1), known_buckets.max(initial=-1))) + 1
    usual = np.empty_like(measures)
    for place in range(measures.shape[1]):
        medians, counts = bucket_medians(known_buckets[usable], known_measures[usable, place], size)
        usual[:, place] = np.where(counts >= WIDE_BUCKET_VALUES, medians, np.nan)[buckets]
    return usual, measures - usual

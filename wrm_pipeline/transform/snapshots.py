"""The rules for snapshots: each judges the polls of a day as wholes, by the name that the contract of raw knows it by.

A finding touches no row; what it means for the day is said in `quality`.
"""

import datetime as dt
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wrm_pipeline.contracts.model import Rule
from wrm_pipeline.transform.zone import LOCAL_ZONE

# All that is asked of the day before.
BEFORE_COLUMNS: Final = ("file_timestamp", "record_type")
# A median of fewer counts is no habit to hold a snapshot against.
_FEWEST_BEFORE: Final = 3
# Times, and what follows from them; all other columns are the state of the city.
_NOT_STATE: Final = frozenset(
    {
        "timestamp",
        "gmt_local_diff_sec",
        "gmt_servertime_diff_sec",
        "s3_source_key",
        "file_timestamp",
        "date",
        "quality_flags",
    }
)
# Two snapshots are compared column by column up to the first that differs, which is most often one of these.
_CHANGES_MOST: Final = ("bikes", "spaces", "station_id")


@dataclass(frozen=True)
class SnapshotFinding:
    """What a rule found: when (UTC), why in words, and the times of the day's snapshots that it is about.

    The time is that of the first of these; a gap at the end of the day has none, and is found when it ends.
    """

    time: dt.datetime
    rule: str
    message: str
    snapshots: tuple[dt.datetime, ...] = ()


class Snapshots:
    """The snapshots of a day that have rows, in the order of time, and what is known of those before them.

    Attributes:
        day: the UTC day.
        until: up to when snapshots can have come: now, or the end of the day.
        times: the UTC time of each snapshot.
        stations: how many stations each one has.
        times_before: the times of the day before's snapshots.
        stations_before: how many stations each of those has.
    """

    def __init__(self, rows: pa.Table, before: pa.Table | None, day: dt.date, until: dt.datetime) -> None:
        self._rows = _in_order(rows).combine_chunks()
        self.day = day
        self.until = until
        self.times, self.stations, self._starts = _snapshots(self._rows)
        self.times_before, self.stations_before, _ = (
            _snapshots(_in_order(before)) if before is not None else ([], [], np.zeros(1, np.int64))
        )

    @cached_property
    def unchanged(self) -> list[bool]:
        """Whether each snapshot shows the same state as the one before it on this day."""
        columns = [name for name in self._rows.column_names if name not in _NOT_STATE]
        state = self._rows.select(sorted(columns, key=lambda name: name not in _CHANGES_MOST))
        pieces = [state.slice(start, end - start) for start, end in pairwise(self._starts.tolist())]
        same = (one.num_rows == other.num_rows and one.equals(other) for one, other in pairwise(pieces))
        return [False, *same] if pieces else []


def _in_order(rows: pa.Table) -> pa.Table:
    # A stored day is in order; sorting it once more would take as long as all rules together.
    times = rows.column("file_timestamp").cast(pa.int64()).to_numpy()
    return rows if (times[1:] >= times[:-1]).all() else rows.sort_by("file_timestamp")


def _snapshots(rows: pa.Table) -> tuple[list[dt.datetime], list[int], np.ndarray]:
    """Return times, numbers of stations, and the position of each snapshot's first row, with the end behind them."""
    times = rows.column("file_timestamp").cast(pa.int64()).to_numpy()
    starts = np.concatenate(([0], np.flatnonzero(np.diff(times)) + 1, [len(times)])) if len(times) else np.zeros(1, int)
    stations = np.cumsum(pc.equal(rows.column("record_type"), "station").to_numpy())
    counts = np.diff(np.concatenate(([0], stations))[starts])
    found = rows.column("file_timestamp").take(pa.array(starts[:-1])).to_pylist()
    return [time.astimezone(dt.UTC) for time in found], counts.tolist(), starts


def judge_snapshots(
    rows: pa.Table, before: pa.Table | None, rules: Iterable[Rule], *, day: dt.date, until: dt.datetime
) -> list[SnapshotFinding]:
    """Judge a day's snapshots by the snapshot rules of a contract.

    A snapshot that has no rows left, since all of them were bad, is none here: it covers nothing.

    Args:
        rows: rows of enhanced of the day.
        before: those of the day before, of which `BEFORE_COLUMNS` are enough; None when there are none.
        rules: rules of scope snapshot.
        day: the UTC day.
        until: up to when snapshots can have come, aware: now, or the end of the day.

    Returns:
        What was found, in the order of time, then of the rules.
    """
    snapshots = Snapshots(rows, before, day, until)
    found = [finding for rule in rules for finding in SNAPSHOT_RULES[rule.name](snapshots, rule)]
    return sorted(found, key=lambda finding: finding.time)


def _partial_snapshot(snapshots: Snapshots, rule: Rule) -> Iterator[SnapshotFinding]:
    share, window = rule.arguments["share_below"], int(rule.arguments["window"])
    counts = [*snapshots.stations_before[-window:], *snapshots.stations]
    first = len(counts) - len(snapshots.stations)
    for at, time in enumerate(snapshots.times, first):
        earlier = counts[max(0, at - window) : at]
        if len(earlier) < _FEWEST_BEFORE:
            continue
        median = statistics.median(earlier)
        if counts[at] < share * median:
            message = (
                f"{counts[at]} stations, {100 * counts[at] / median:.0f} % of {median:g}, "
                f"the median of the {len(earlier)} snapshots before it"
            )
            yield SnapshotFinding(time, rule.name, message, (time,))


def _frozen_feed(snapshots: Snapshots, rule: Rule) -> Iterator[SnapshotFinding]:
    hours = range(int(rule.arguments["from_hour"]), int(rule.arguments["to_hour"]))
    polls = [
        (time, unchanged and time.astimezone(LOCAL_ZONE).hour in hours)
        for time, unchanged in zip(snapshots.times, snapshots.unchanged, strict=True)
    ]
    for is_frozen, group in groupby(polls, key=lambda poll: poll[1]):
        times = tuple(time for time, _ in group)
        if is_frozen and len(times) >= rule.arguments["polls"]:
            message = (
                f"nothing but timestamps changed in {len(times)} polls in a row, {_utc(times[0])} to {_utc(times[-1])}"
            )
            yield SnapshotFinding(times[0], rule.name, message, times)


def _late_snapshot(snapshots: Snapshots, rule: Rule) -> Iterator[SnapshotFinding]:
    for earlier, time in pairwise([*snapshots.times_before[-1:], *snapshots.times]):
        after_s = (time - earlier).total_seconds()
        if after_s > rule.arguments["after_s"]:
            message = f"it came {_span(after_s)} after the one before it, {_utc(earlier)}"
            yield SnapshotFinding(time, rule.name, message, (time,))


def _coverage_gap(snapshots: Snapshots, rule: Rule) -> Iterator[SnapshotFinding]:
    # Where nothing is known of the day before, what is missing begins with the day.
    midnight = dt.datetime.combine(snapshots.day, dt.time(), dt.UTC)
    begin = snapshots.times_before[-1] if snapshots.times_before else midnight
    ends = [*((time, (time,)) for time in snapshots.times), (snapshots.until, ())]
    for (earlier, _), (time, about) in pairwise([(begin, ()), *ends]):
        after_s = (time - earlier).total_seconds()
        if after_s > rule.arguments["after_s"]:
            message = f"nothing came for {_span(after_s)}, from {_utc(earlier)} to {_utc(time)}"
            yield SnapshotFinding(time, rule.name, message, about)


def _utc(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    """Return a duration to the second, such as `7:31` or `1:05:00`, with its unit."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


SnapshotRule = Callable[[Snapshots, Rule], Iterator[SnapshotFinding]]
SNAPSHOT_RULES: Final[Mapping[str, SnapshotRule]] = {
    "partial_snapshot": _partial_snapshot,
    "frozen_feed": _frozen_feed,
    "late_snapshot": _late_snapshot,
    "coverage_gap": _coverage_gap,
}

"""The profile of a day of enhanced rows: what each column holds, and how far it drifted from the week before.

Pure: tables in, a `DayProfile` out, which `to_json` writes. How it looks on a page is in `reports`.
"""

import dataclasses
import datetime as dt
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Raise it when a reader of the JSON must change.
JSON_VERSION: Final = 1
TRAILING_DAYS: Final = 7
TOP_VALUES: Final = 10
QUANTILES: Final = (1, 5, 25, 50, 75, 95, 99)

# Siddiqi, Intelligent Credit Scoring (2nd ed., Wiley 2017), p. 369, after Lewis, An Introduction to Credit Scoring
# (1994): conventions of practice, not a test of significance.
STABLE_BELOW: Final = 0.1
DRIFTED_ABOVE: Final = 0.25

# A value of these names one thing, and things come and go: most bikes of a week stand in no other week's rows, and a
# source key is new with every snapshot. The index would be high every day and say nothing.
IDENTIFIERS: Final = frozenset({"station_id", "name", "s3_source_key"})

# An empty bin has no logarithm. A share below one row in 10,000 counts as that on both sides, so that equal
# distributions still give exactly 0 and a handful of rows moves nothing.
_SMALLEST_SHARE: Final = 1e-4
# Counts of up to 20 values are compared value by value; deciles would throw most of them together.
_MOST_NUMBERS_AS_CATEGORIES: Final = 20
_MOST_CATEGORIES: Final = 50
# Points that a day keeps of a column: an error of at most 1/1024 in a share of that day, and some 100 kB a day.
_MOST_POINTS: Final = 1_024
_BINS: Final = 30
# One snapshot left out makes the distance to the next twice the usual one.
_GAP_RATIO: Final = 1.5

_DAY: Final = dt.timedelta(days=1)
_HOUR_US: Final = 3_600_000_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")

Point: TypeAlias = int | float | dt.datetime | dt.date
Value: TypeAlias = Point | bool | str


@dataclass(frozen=True)
class ValueCount:
    """A value and the rows that hold it. A list is its items joined by ` + `, an empty list an empty text."""

    value: Value
    rows: int


@dataclass(frozen=True)
class Histogram:
    """Rows between neighbouring edges: n + 1 rising edges, n counts; each bin holds its lower edge, the last one both.

    Edges are in the column's unit; those of times are UTC. A column of one value has that value as both edges.
    """

    edges: tuple[Point, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class BinShare:
    """A bin of the drift: shares (0 to 1) of all rows, nulls included, of the trailing week and of the day."""

    label: str
    week: float
    day: float


@dataclass(frozen=True)
class Drift:
    """A column against the trailing week.

    `psi` is the population stability index, rounded to six digits, `band` is `stable`, `shifted` or `drifted`. Where
    there is none both are None, `reason` is a sentence that says why, and `bins` is empty.
    """

    psi: float | None
    band: str | None
    reason: str
    bins: tuple[BinShare, ...]


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a day.

    `nulls` counts rows without a value, or with a number that is not finite; `distinct` counts values. `minimum`,
    `maximum`, `quantiles` (`p1` to `p99`, values that occur: nearest rank) and `histogram` are for numbers and times
    (UTC), `mean` for numbers, `true_share` (0 to 1, of the rows with a value) for booleans; all are None or empty for
    other columns and where there is no value. `top` holds the most frequent values, most frequent first.
    `memory_bytes` is what the column takes as one plain Arrow array, however it was encoded and chunked.
    """

    name: str
    type: str
    rows: int
    nulls: int
    distinct: int
    minimum: Point | None
    maximum: Point | None
    mean: float | None
    quantiles: Mapping[str, Point]
    true_share: float | None
    top: tuple[ValueCount, ...]
    histogram: Histogram | None
    memory_bytes: int
    drift: Drift


@dataclass(frozen=True)
class SnapshotRows:
    """A snapshot: its time (UTC) and its rows."""

    time: dt.datetime
    rows: int


@dataclass(frozen=True)
class Gap:
    """A time without snapshots, from one to the next or to the day's edge: over 1.5 times the median distance. UTC."""

    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True)
class DayProfile:
    """A UTC day: its columns in the order of the table, and what a reader should know about it.

    `flags` counts the rows with each quality flag, most frequent first; `unflagged_rows` have none. `trailing_days` are
    the days that drift is measured against.
    """

    day: dt.date
    rows: int
    snapshots: tuple[SnapshotRows, ...]
    gaps: tuple[Gap, ...]
    record_types: tuple[ValueCount, ...]
    flags: tuple[ValueCount, ...]
    unflagged_rows: int
    trailing_days: tuple[dt.date, ...]
    notes: tuple[str, ...]
    memory_bytes: int
    columns: tuple[ColumnProfile, ...]


@dataclass(frozen=True)
class Distribution:
    """How often each value occurs; `others` are rows whose values were too rare to keep, `nulls` rows without one."""

    values: tuple[int | float | bool | str, ...]
    counts: tuple[int, ...]
    nulls: int
    others: int = 0

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts) + self.nulls + self.others


@dataclass(frozen=True)
class Summary:
    """What a day contributes to the reference of later days: the distribution of each column that can drift."""

    day: dt.date
    rows: int
    columns: Mapping[str, Distribution]


def summarise(rows: pa.Table, day: dt.date) -> Summary:
    """Return what a day of enhanced rows contributes to the reference of later days.

    Only the columns for which `can_drift` holds are looked at; the table need not have the others. A column of up to
    1,024 values is kept exactly. Of more numbers, neighbours are joined under the largest of them; of more texts, the
    rarest are joined.
    """
    fields = [field for field in rows.schema if can_drift(field)]
    columns = {field.name: _compressed(_count(rows.column(field.name))) for field in fields}
    return Summary(day, rows.num_rows, columns)


def can_drift(field: pa.Field) -> bool:
    """Tell whether a column is compared with the trailing week: all are but identifiers and times."""
    return _why_not_compared(field) is None


def profile_day(rows: pa.Table, day: dt.date, trailing: Sequence[Summary]) -> DayProfile:
    """Profile a day of enhanced rows.

    Args:
        rows: the day's rows, with the columns of enhanced; text may be dictionary-encoded.
        day: the UTC day.
        trailing: summaries of the seven days before, in any order; days that are missing or empty are named in a note.

    Raises:
        ValueError: a summary is of another day, or two are of the same.
    """
    week = _trailing_week(day, trailing)
    snapshots = _snapshots(rows)
    columns = tuple(_profile_column(rows.column(field.name), field, day, week) for field in rows.schema)
    flags = rows.column("quality_flags")
    return DayProfile(
        day=day,
        rows=rows.num_rows,
        snapshots=snapshots,
        gaps=_gaps(snapshots, day),
        record_types=_most_frequent(_count(rows.column("record_type"))),
        flags=_most_frequent(_count(pc.list_flatten(flags)), limit=None),
        unflagged_rows=int(pc.sum(pc.equal(pc.list_value_length(flags), 0)).as_py() or 0),
        trailing_days=tuple(summary.day for summary in week),
        notes=_notes(rows.num_rows, len(snapshots), day, week),
        memory_bytes=sum(column.memory_bytes for column in columns),
        columns=columns,
    )


def to_json(profile: DayProfile) -> bytes:
    """Return a profile as JSON: UTF-8, keys in the order of the dataclasses, times in ISO 8601 UTC, a final newline."""
    document = {"version": JSON_VERSION, **dataclasses.asdict(profile)}
    return (json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1, default=_json_time) + "\n").encode()


def population_stability_index(week: Sequence[float], day: Sequence[float]) -> float:
    """Return the population stability index of two distributions over the same bins, each given as shares (0 to 1).

    The sum of `(day - week) * ln(day / week)` over the bins (Siddiqi, Intelligent Credit Scoring, 2nd ed., 2017,
    p. 369); the same as Jeffreys' divergence. Shares below 0.0001 count as 0.0001, so an empty bin stays finite. Never
    negative; 0 for equal shares; the same when the two change places.
    """
    floored = [(max(a, _SMALLEST_SHARE), max(b, _SMALLEST_SHARE)) for a, b in zip(week, day, strict=True)]
    return math.fsum((b - a) * math.log(b / a) for a, b in floored)


def band(psi: float) -> str:
    """Return the band of a population stability index: `stable`, `shifted` (from 0.1) or `drifted` (over 0.25)."""
    if psi < STABLE_BELOW:
        return "stable"
    return "shifted" if psi <= DRIFTED_ABOVE else "drifted"


@dataclass(frozen=True)
class _Words:
    """The distinct texts or booleans of a column, sorted, and how often each occurs."""

    values: tuple[bool | str, ...]
    counts: np.ndarray
    nulls: int

    def value(self, position: int) -> Value:
        return self.values[position]


@dataclass(frozen=True)
class _Numbers:
    """The distinct numbers of a column, rising, as int64 or float64, and how often each occurs.

    Times are microseconds or days since 1970; `restore` makes a number a value of the column again.
    """

    values: np.ndarray
    counts: np.ndarray
    nulls: int
    restore: Callable[[Any], Point]

    def value(self, position: int) -> Value:
        return self.restore(self.values[position])


_Counted: TypeAlias = _Words | _Numbers


def _count(column: pa.ChunkedArray) -> _Counted:
    kind = column.type
    if pa.types.is_list(kind):
        column = pc.binary_join(column, " + ")
    elif pa.types.is_dictionary(kind):
        column = column.unify_dictionaries()
    elif pa.types.is_floating(kind):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    elif pa.types.is_timestamp(kind):
        column = column.cast(_UTC_MICROSECONDS).cast(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    found = column.drop_null().value_counts()
    values, counts = found.field("values"), found.field("counts").to_numpy()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
        ordered = dict(sorted(zip(values.to_pylist(), counts.tolist(), strict=True)))
        return _Words(tuple(ordered), np.array(list(ordered.values()), dtype=np.int64), column.null_count)
    # Adding 0 makes -0.0 the 0.0 that it equals.
    numbers = values.to_numpy().astype(np.float64 if pa.types.is_floating(kind) else np.int64) + 0
    distinct, totals = _merged(numbers, counts)
    return _Numbers(distinct, totals, column.null_count, _restorer(kind))


def _merged(numbers: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort numbers and add up the counts of equal ones."""
    distinct, group = np.unique(numbers, return_inverse=True)
    return distinct, _totals(group, counts, len(distinct))


def _totals(group: np.ndarray, counts: np.ndarray, groups: int) -> np.ndarray:
    # bincount adds up floats; counts of rows lie far below 2**53, where these are exact.
    return np.bincount(group, weights=counts, minlength=groups).astype(np.int64)


def _restorer(kind: pa.DataType) -> Callable[[Any], Point]:
    if pa.types.is_timestamp(kind):
        return lambda number: _EPOCH + dt.timedelta(microseconds=int(number))
    if pa.types.is_date32(kind):
        return lambda number: _EPOCH.date() + dt.timedelta(days=int(number))
    return lambda number: number.item()


def _profile_column(column: pa.ChunkedArray, field: pa.Field, day: dt.date, week: Sequence[Summary]) -> ColumnProfile:
    counted = _count(column)
    profile = ColumnProfile(
        name=field.name,
        type=_type_name(field.type),
        rows=len(column),
        nulls=counted.nulls,
        distinct=len(counted.counts),
        minimum=None,
        maximum=None,
        mean=None,
        quantiles={},
        true_share=None,
        top=_most_frequent(counted),
        histogram=None,
        memory_bytes=_plain_bytes(column),
        drift=_drift(counted, field, week),
    )
    with_value = len(column) - counted.nulls
    if not with_value:
        return profile
    if isinstance(counted, _Numbers):
        numbers, counts, restore = counted.values, counted.counts, counted.restore
        ranked = _at_ranks(numbers, counts, QUANTILES)
        return dataclasses.replace(
            profile,
            minimum=restore(numbers[0]),
            maximum=restore(numbers[-1]),
            mean=None if pa.types.is_temporal(field.type) else math.fsum((numbers * counts).tolist()) / with_value,
            quantiles={f"p{percent}": restore(number) for percent, number in zip(QUANTILES, ranked, strict=True)},
            histogram=_histogram(counted, field.type, day),
        )
    if pa.types.is_boolean(field.type):
        true_rows = dict(zip(counted.values, counted.counts.tolist(), strict=True)).get(True, 0)
        return dataclasses.replace(profile, true_share=true_rows / with_value)
    return profile


def _plain_bytes(column: pa.ChunkedArray) -> int:
    """Buffers of a column as one plain array; its own `nbytes` also depends on how the table came to be."""
    kind, rows = column.type, len(column)
    validity = -(-rows // 8) if column.null_count else 0
    if pa.types.is_list(kind):
        return validity + 4 * (rows + 1) + _plain_bytes(pc.list_flatten(column))
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        lengths = pc.binary_length(column.cast(pa.string()))
        return validity + 4 * (rows + 1) + int(pc.sum(lengths).as_py() or 0)
    return validity + -(-rows * int(kind.bit_width) // 8)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return str(kind.value_type)
    return f"list<{kind.value_type}>" if pa.types.is_list(kind) else str(kind)


def _most_frequent(counted: _Counted, limit: int | None = TOP_VALUES) -> tuple[ValueCount, ...]:
    """The most frequent values; of equally frequent ones the smaller first."""
    order = np.argsort(-counted.counts, kind="stable")[:limit].tolist()
    return tuple(ValueCount(counted.value(position), int(counted.counts[position])) for position in order)


def _at_ranks(numbers: np.ndarray, counts: np.ndarray, percents: Sequence[int]) -> np.ndarray:
    """The smallest number that at least so many percent of the rows do not exceed: Hyndman and Fan's first definition.

    The American Statistician 50 (1996), pp. 361-365. In whole numbers, so that no rank is off by one.
    """
    cumulative = np.cumsum(counts)
    ranks = -(-np.array(percents) * cumulative[-1] // 100)
    at_ranks: np.ndarray = numbers[np.searchsorted(cumulative, ranks, side="left")]
    return at_ranks


def _histogram(counted: _Numbers, kind: pa.DataType, day: dt.date) -> Histogram:
    low, high = counted.values[0], counted.values[-1]
    if low == high:
        edges = np.array([low, high])
    elif pa.types.is_floating(kind):
        edges = np.linspace(low, high, _BINS + 1)
    elif (hours := _hours(kind, day)) is not None and hours[0] <= low and high < hours[-1]:
        edges = hours
    else:
        width = -(-(int(high) - int(low) + 1) // _BINS)
        edges = np.arange(int(low), int(high) + width + 1, width)
    counts, _ = np.histogram(counted.values, bins=edges, weights=counted.counts)
    return Histogram(tuple(map(counted.restore, edges)), tuple(counts.astype(np.int64).tolist()))


def _hours(kind: pa.DataType, day: dt.date) -> np.ndarray | None:
    """The edges of a day's 24 hours in the numbers of a timestamp column."""
    if not pa.types.is_timestamp(kind):
        return None
    midnight = (day - _EPOCH.date()).days * 24 * _HOUR_US
    return midnight + np.arange(25) * _HOUR_US


def _compressed(counted: _Counted) -> Distribution:
    counts = counted.counts
    if isinstance(counted, _Words):
        kept = sorted(np.argsort(-counts, kind="stable")[:_MOST_POINTS].tolist())
        others = int(counts.sum() - counts[kept].sum())
        return Distribution(tuple(counted.values[i] for i in kept), tuple(counts[kept].tolist()), counted.nulls, others)
    numbers = counted.values
    if len(numbers) > _MOST_POINTS:
        # Groups of equally many rows, each under its largest number: the share at or below that is exact.
        before = np.cumsum(counts) - counts
        group = before * _MOST_POINTS // counts.sum()
        last = np.flatnonzero(np.diff(group, append=_MOST_POINTS))
        _, group = np.unique(group, return_inverse=True)
        numbers, counts = numbers[last], _totals(group, counts, len(last))
    return Distribution(tuple(numbers.tolist()), tuple(counts.tolist()), counted.nulls)


def _why_not_compared(field: pa.Field) -> str | None:
    if field.name in IDENTIFIERS:
        return "Names of single things come and go: no two days hold the same."
    if pa.types.is_temporal(field.type):
        return "Times are other ones every day."
    return None


def _drift(counted: _Counted, field: pa.Field, week: Sequence[Summary]) -> Drift:
    reason = _why_not_compared(field)
    if reason is not None:
        return Drift(None, None, reason, ())
    reference = [summary.columns[field.name] for summary in week if field.name in summary.columns]
    if not sum(distribution.rows for distribution in reference):
        return Drift(None, None, "The trailing week holds nothing to compare with.", ())
    if not counted.counts.sum() + counted.nulls:
        return Drift(None, None, "The day has no rows.", ())
    found = _number_bins(counted, reference) if isinstance(counted, _Numbers) else _word_bins(counted, reference)
    nulls = _Bin("no value", sum(distribution.nulls for distribution in reference), counted.nulls)
    bins = [each for each in [*found, nulls] if each.week or each.day]
    week_rows, day_rows = sum(each.week for each in bins), sum(each.day for each in bins)
    # Two samples of one population have an index of (bins - 1) * (1/n + 1/m) on average: Yurdakul and Naranjo,
    # Statistical properties of the population stability index, Journal of Risk Model Validation 14 (2020).
    if (len(bins) - 1) * (1 / week_rows + 1 / day_rows) >= STABLE_BELOW:
        return Drift(None, None, f"Too few rows for {len(bins)} bins: chance alone would look like a shift.", ())
    shares = tuple(BinShare(each.label, each.week / week_rows, each.day / day_rows) for each in bins)
    # Six digits: the last one of a logarithm depends on the machine.
    psi = round(population_stability_index([each.week for each in shares], [each.day for each in shares]), 6)
    return Drift(psi, band(psi), "", shares)


class _Bin(NamedTuple):
    """A bin: its label, rows of the trailing week, rows of the day."""

    label: str
    week: int
    day: int


def _word_bins(counted: _Words, reference: Sequence[Distribution]) -> list[_Bin]:
    """A bin for each of the week's 50 most frequent values, and one for all others."""
    week: Counter[Any] = Counter()
    for distribution in reference:
        week.update(dict(zip(distribution.values, distribution.counts, strict=True)))
    day = Counter(dict(zip(counted.values, counted.counts.tolist(), strict=True)))
    kept = sorted(week, key=lambda value: (-week[value], value))[:_MOST_CATEGORIES]
    bins = [_Bin(label_of(value), week[value], day[value]) for value in kept]
    rare = sum(distribution.others for distribution in reference)
    rest_of_week = week.total() + rare - sum(each.week for each in bins)
    return [*bins, _Bin("all others", rest_of_week, day.total() - sum(each.day for each in bins))]


def _number_bins(counted: _Numbers, reference: Sequence[Distribution]) -> list[_Bin]:
    """A bin for each of the week's values when it has few, else its deciles, each with its upper edge."""
    values, counts = _merged(
        np.array([value for distribution in reference for value in distribution.values]),
        np.array([rows for distribution in reference for rows in distribution.counts], dtype=np.int64),
    )
    if len(values) <= _MOST_NUMBERS_AS_CATEGORIES:
        day = Counter(dict(zip(counted.values.tolist(), counted.counts.tolist(), strict=True)))
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        bins = [_Bin(label_of(value), rows, day[value]) for value, rows in pairs]
        return [*bins, _Bin("all others", 0, day.total() - sum(each.day for each in bins))]
    edges = np.unique(_at_ranks(values, counts, range(10, 100, 10)))
    of_week, of_day = (
        _totals(np.searchsorted(edges, numbers, side="left"), rows, len(edges) + 1).tolist()
        for numbers, rows in ((values, counts), (counted.values, counted.counts))
    )
    texts = [label_of(edge) for edge in edges.tolist()]
    between = [f"over {low} to {high}" for low, high in pairwise(texts)]
    labels = [f"up to {texts[0]}", *between, f"over {texts[-1]}"]
    return list(map(_Bin, labels, of_week, of_day))


def label_of(value: Value) -> str:
    """Return a value as short text: `true`, `12`, `51.1098`, `(empty)`; times in ISO 8601, UTC, to the second."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value) or "(empty)"


def _trailing_week(day: dt.date, trailing: Sequence[Summary]) -> tuple[Summary, ...]:
    days = [summary.day for summary in trailing]
    allowed = _days_before(day)
    if len(set(days)) < len(days) or not set(days) <= set(allowed):
        raise ValueError(
            f"The trailing week of {day} is {allowed[0]} to {allowed[-1]}, each day once; "
            f"got {', '.join(map(str, sorted(days)))}."
        )
    return tuple(sorted((summary for summary in trailing if summary.rows), key=lambda summary: summary.day))


def _days_before(day: dt.date) -> list[dt.date]:
    return [day - n * _DAY for n in range(TRAILING_DAYS, 0, -1)]


def _snapshots(rows: pa.Table) -> tuple[SnapshotRows, ...]:
    counted = rows.column("file_timestamp").value_counts()
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return tuple(SnapshotRows(time.astimezone(dt.UTC), count) for time, count in sorted(pairs))


def _gaps(snapshots: Sequence[SnapshotRows], day: dt.date) -> tuple[Gap, ...]:
    times = [snapshot.time for snapshot in snapshots]
    if len(times) < 2:  # no usual distance
        return ()
    usual_s = statistics.median((later - earlier).total_seconds() for earlier, later in pairwise(times))
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    bounds = [midnight, *times, midnight + _DAY]
    return tuple(
        Gap(start, end) for start, end in pairwise(bounds) if (end - start).total_seconds() > _GAP_RATIO * usual_s
    )


def _notes(rows: int, snapshots: int, day: dt.date, week: Sequence[Summary]) -> tuple[str, ...]:
    notes = []
    if not rows:
        notes.append("The day has no rows.")
    if snapshots == 1:
        notes.append("The day has one snapshot: all figures are of that moment, not of a day.")
    if not week:
        notes.append("There is no trailing week: none of the seven days before has rows, so drift is not computed.")
    elif len(week) < TRAILING_DAYS:
        missing = sorted(set(_days_before(day)) - {summary.day for summary in week})
        notes.append(
            f"Drift is against {len(week)} of the seven days before: "
            f"missing or blocked are {', '.join(map(str, missing))}."
        )
    return tuple(notes)


def _json_time(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a profile")

"""A station's hours and quarters, worked out on paper, and held against a second implementation.

The second implementation knows no interval: it writes each row into one cell a second of the time it covers, and reads
hours and episodes off those cells. It stands in `by_seconds` and shares nothing with the SQL.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrm_pipeline_tests.fixtures.marts import INTERVAL_S, bike, build_day, build_days, column, enhanced, one, station

ONLY = ("state_station", "state_outage", "fct_station_hour", "fct_station_outage", "fct_station_quarter")
DAY = dt.date(2025, 5, 14)  # a Wednesday, two hours ahead of UTC
NEXT = DAY + dt.timedelta(days=1)
S = "15001"
WARSAW = ZoneInfo("Europe/Warsaw")


def at(hour: int, minute: int = 0, second: int = 0, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute, second), dt.UTC)


def series(*counts: tuple[dt.datetime, int], **other: Any) -> pa.Table:
    """Rows of one station: time and bikes."""
    return enhanced(*[station(S, time, bikes=bikes, **other) for time, bikes in counts])


def hours(rows: pa.Table, **arguments: Any) -> pa.Table:
    return build_day(rows, only=ONLY, **arguments)["fct_station_hour"]


def picked(row: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# --- weights ---


def test_an_hour_on_paper() -> None:
    """Weights in minutes: 10:00 4 bikes 5; 10:05 2 bikes 10; 10:15 6 bikes 10 of 25; 10:40 0 bikes 10 of 20. In all 35.

    Mean (4*5 + 2*10 + 6*10 + 0*10) / 35 = 100/35. In order: 0 bikes up to 10 minutes, 2 up to 20, 4 up to 25, 6 up to
    35; a tenth is 3.5 (0 bikes), half 17.5 (2 bikes), nine tenths 31.5 (6 bikes). Falls 4-2 and 6-0, rise 6-2, seen
    over 5, 10 and 25 minutes.
    """
    row = one(hours(series((at(10), 4), (at(10, 5), 2), (at(10, 15), 6), (at(10, 40), 0), total_docks=15)))

    assert row == {
        "station_id": S,
        "station_key": f"{S}-1",
        "hour_start": at(10),
        "hour_end": at(11),
        "local_date": DAY,
        "local_hour": 12,
        "utc_offset_h": 2,
        "snapshots": 4,
        "minutes_observed": 35.0,
        "bikes_open": 4,
        "bikes_high": 6,
        "bikes_low": 0,
        "bikes_close": 0,
        "bikes_mean": 2.8571,
        "bikes_p10": 0,
        "bikes_p50": 2,
        "bikes_p90": 6,
        "total_docks": 15,
        "minutes_empty": 10.0,
        "minutes_full": 0.0,
        "minutes_service": 25.0,
        "overfull_bike_minutes": 0.0,
        "inflow": 4,
        "outflow": 8,
        "sampling_interval_s": 600,
    }


@pytest.mark.parametrize(
    ("first", "minutes", "rest", "p10", "p90"),
    [(0, 5, 3, 0, 3), (0, 4, 3, 3, 3), (3, 5, 0, 0, 0), (3, 6, 0, 0, 3)],
)
def test_a_percentile_is_the_smallest_number_that_reaches_its_share(
    first: int, minutes: int, rest: int, p10: int, p90: int
) -> None:
    """A row a minute from 10:00 to 10:40, and the last one's ten minutes: of 50, 5 are a tenth and 45 nine tenths."""
    counts = [(at(10, minute), first if minute < minutes else rest) for minute in range(41)]

    row = one(hours(series(*counts)))

    assert picked(row, "minutes_observed", "bikes_p10", "bikes_p90") == (50, p10, p90)


def test_a_row_that_reaches_over_the_hour_counts_in_both() -> None:
    """09:57 3 bikes, 10:04 5 bikes: three minutes in one hour, four in the next, where it is the first known count."""
    table = hours(series((at(9, 57), 3), (at(10, 4), 5)))

    nine, ten = table.to_pylist()
    assert picked(nine, "snapshots", "minutes_observed", "bikes_open", "bikes_close") == (1, 3, 3, 3)
    assert picked(ten, "snapshots", "minutes_observed", "bikes_open", "bikes_low", "bikes_close") == (1, 14, 3, 3, 5)
    assert ten["bikes_mean"] == round((3 * 4 + 5 * 10) / 14, 4)
    assert picked(nine, "inflow", "sampling_interval_s") == (0, None)
    assert picked(ten, "inflow", "sampling_interval_s") == (2, 420)  # in the hour of the later row


def test_an_hour_that_only_an_earlier_row_covers_is_listed_without_snapshot() -> None:
    row = one(hours(series((at(9, 58), 3))), hour_start=at(10))

    assert picked(row, "snapshots", "minutes_observed", "bikes_open", "inflow", "sampling_interval_s") == (
        0,
        8,
        3,
        0,
        None,
    )


def test_a_gap_of_six_hours_is_unknown() -> None:
    """08:00 to 14:00: of the first row ten minutes count; what changed meanwhile is no flow."""
    table = hours(series((at(8), 9), (at(14), 2)))

    assert column(table, "hour_start") == [at(8), at(14)]
    assert column(table, "minutes_observed") == [10, 10]
    assert column(table, "bikes_mean") == [9, 2]
    assert column(table, "outflow") == [0, 0]
    assert column(table, "sampling_interval_s") == [None, None]


@pytest.mark.parametrize(("second", "outflow", "sampling"), [(0, 7, 3600), (1, 0, None)])
def test_a_difference_over_more_than_an_hour_is_no_flow(second: int, outflow: int, sampling: int | None) -> None:
    row = one(hours(series((at(8), 9), (at(9, 0, second), 2))), hour_start=at(9))

    assert picked(row, "outflow", "sampling_interval_s") == (outflow, sampling)


def test_of_two_middle_intervals_the_sampling_interval_is_the_shorter() -> None:
    row = one(hours(series((at(8), 1), (at(8, 1), 1), (at(8, 10), 1))), hour_start=at(8))

    assert row["sampling_interval_s"] == 60


def test_one_snapshot_of_one_station() -> None:
    row = one(hours(series((at(12, 30), 4))))

    assert picked(row, "hour_start", "snapshots", "minutes_observed", "bikes_mean") == (at(12), 1, 10, 4)
    assert picked(row, "bikes_p10", "bikes_p50", "bikes_p90") == (4, 4, 4)


def test_stations_do_not_meet_and_bikes_do_not_count() -> None:
    """The other station's row neither ends the first one's time nor is its neighbour."""
    table = hours(
        enhanced(
            station(S, at(10), bikes=8),
            station("15002", at(10, 2), bikes=1),
            bike("fb600001", at(10)),
            station("999", at(10), record_type="unknown"),
        )
    )

    assert column(table, "station_id") == [S, "15002"]
    assert column(table, "minutes_observed") == [10, 10]
    assert column(table, "outflow") == [0, 0]


# --- empty, full, service, overfull ---


@pytest.mark.parametrize(
    ("bikes", "docks", "empty", "full", "service", "overfull"),
    [
        (0, 10, 10, 0, 0, 0),
        (1, 10, 0, 0, 0, 0),
        (2, 10, 0, 0, 10, 0),
        (8, 10, 0, 0, 10, 0),
        (9, 10, 0, 0, 0, 0),
        (10, 10, 0, 10, 0, 0),
        (13, 10, 0, 10, 0, 30),  # three bikes too many for ten minutes
        (0, 0, 10, 0, 0, 0),
        (4, 0, 0, 0, 0, 0),  # no docks: neither full nor overfull
    ],
)
def test_minutes_of_a_row_by_bikes_and_docks(
    bikes: int, docks: int, empty: int, full: int, service: int, overfull: int
) -> None:
    row = one(hours(series((at(10), bikes), total_docks=docks)))

    minutes = picked(row, "minutes_empty", "minutes_full", "minutes_service", "overfull_bike_minutes")
    assert minutes == (empty, full, service, overfull)


def test_each_row_is_judged_by_its_own_docks() -> None:
    """Five bikes at five docks for 3 minutes, then at eight, then at six: full for 3, service 2+2 for 10 minutes."""
    docks = {at(10): 5, at(10, 3): 8, at(10, 13): 6}

    row = one(hours(enhanced(*[station(S, time, bikes=5, total_docks=count) for time, count in docks.items()])))

    assert picked(row, "total_docks", "minutes_full", "minutes_service", "minutes_observed") == (6, 3, 10, 23)


def test_a_station_key_is_that_of_the_hours_last_row() -> None:
    """Renamed at 10:30: the hour of nine keeps the first version, that of ten has the second."""
    rows = enhanced(
        station(S, at(9, 30)),
        station(S, at(9, 59)),
        station(S, at(10, 30), name="Rynek"),
        station(S, at(10, 40), name="Rynek"),
    )

    assert column(hours(rows), "station_key") == [f"{S}-1", f"{S}-2"]


# --- midnight and missing days ---


def test_the_last_row_of_the_day_before_covers_the_next_days_beginning() -> None:
    """23:56 7 bikes, 00:03 1 bike: four minutes of the first day, three of the next; the fall belongs to the next."""
    days = build_days({DAY: series((at(23, 56), 7)), NEXT: series((at(0, 3, day=NEXT), 1))}, only=ONLY)

    before = one(days[DAY]["fct_station_hour"])
    after = one(days[NEXT]["fct_station_hour"])
    assert picked(before, "minutes_observed", "snapshots", "outflow") == (4, 1, 0)
    assert picked(after, "minutes_observed", "snapshots", "outflow", "sampling_interval_s") == (13, 1, 6, 420)
    assert picked(after, "bikes_open", "bikes_high", "bikes_close") == (7, 7, 1)
    assert after["bikes_mean"] == round((7 * 3 + 1 * 10) / 13, 4)


def test_a_station_that_is_gone_after_midnight_is_known_for_two_intervals_only() -> None:
    """23:56 and no more: four minutes before midnight, six after it, on a day that other stations have."""
    other = enhanced(station("15002", at(12, day=NEXT)))
    days = build_days({DAY: series((at(23, 56), 7)), NEXT: other}, only=ONLY)

    row = one(days[NEXT]["fct_station_hour"], station_id=S)
    assert picked(row, "hour_start", "snapshots", "minutes_observed") == (at(0, day=NEXT), 0, 6)
    assert row["station_key"] == f"{S}-1"


def test_over_a_missing_day_nothing_is_known() -> None:
    later = DAY + dt.timedelta(days=2)
    days = build_days({DAY: series((at(23, 59), 7)), later: series((at(0, 3, day=later), 1))}, only=ONLY)

    row = one(days[later]["fct_station_hour"])
    assert picked(row, "minutes_observed", "bikes_open", "bikes_high", "outflow") == (10, 1, 1, 0)


def test_the_state_is_the_newest_row_of_each_station() -> None:
    day = build_days(
        {
            DAY: enhanced(station(S, at(8), bikes=1), station(S, at(9), bikes=2), station("15002", at(8), bikes=3)),
            NEXT: enhanced(
                station("15002", at(7, day=NEXT), bikes=4, quality_flags=["overfull"]), bike("fb1", at(9, day=NEXT))
            ),
        },
        only=ONLY,
    )

    expected = enhanced(
        station(S, at(9), bikes=2), station("15002", at(7, day=NEXT), bikes=4, quality_flags=["overfull"])
    )
    assert day[NEXT]["state_station"].to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(("days", "kept"), [(59, True), (61, False)])
def test_a_station_unseen_for_sixty_days_is_let_go(days: int, kept: bool) -> None:
    later = DAY + dt.timedelta(days=days)
    built = build_days({DAY: series((at(12), 5)), later: enhanced(station("15002", at(8, day=later)))}, only=ONLY)

    assert (S in column(built[later]["state_station"], "station_id")) is kept


# --- daylight saving ---


def test_the_repeated_hour_of_autumn_is_two_hours() -> None:
    """On 2025-10-26 the clock goes from 03:00 back to 02:00 at 01:00 UTC."""
    day = dt.date(2025, 10, 26)
    table = hours(series(*[(at(hour, 10, day=day), hour) for hour in (0, 1, 2, 22, 23)]))

    local = list(zip(*[column(table, name) for name in ("local_date", "local_hour", "utc_offset_h")], strict=True))
    assert local == [(day, 2, 2), (day, 2, 1), (day, 3, 1), (day, 23, 1), (day + dt.timedelta(days=1), 0, 1)]
    assert column(table, "bikes_mean") == [0, 1, 2, 22, 23]


def test_the_missing_hour_of_spring_is_no_hour() -> None:
    """On 2025-03-30 the clock goes from 02:00 to 03:00 at 01:00 UTC."""
    day = dt.date(2025, 3, 30)
    table = hours(series(*[(at(hour, 10, day=day), hour) for hour in (0, 1, 21, 22)]))

    local = list(zip(*[column(table, name) for name in ("local_date", "local_hour", "utc_offset_h")], strict=True))
    assert local == [(day, 1, 1), (day, 3, 2), (day, 23, 2), (day + dt.timedelta(days=1), 0, 2)]
    assert column(table, "minutes_observed") == [10] * 4


# --- quarters ---


def test_a_quarter_has_the_bikes_of_the_row_that_covers_its_instant() -> None:
    """A row covers its first instant and not its last: the row of 10:05 ends at 10:15, the one of 10:36 at 10:46."""
    table = build_day(series((at(10), 1), (at(10, 5), 2), (at(10, 30), 3), (at(10, 36), 4)), only=ONLY)[
        "fct_station_quarter"
    ]

    found = list(zip(column(table, "quarter_start"), column(table, "bikes"), strict=True))
    assert found == [(at(10), 1), (at(10, 30), 3), (at(10, 45), 4)]


def test_midnight_is_the_first_quarter_of_the_day_that_it_begins() -> None:
    days = build_days({DAY: series((at(23, 55), 7)), NEXT: series((at(0, 3, day=NEXT), 1))}, only=ONLY)

    assert column(days[DAY]["fct_station_quarter"], "quarter_start") == []
    assert column(days[NEXT]["fct_station_quarter"], "quarter_start") == [at(0, day=NEXT)]
    assert column(days[NEXT]["fct_station_quarter"], "bikes") == [7]


# --- any series ---

Row = tuple[dt.datetime, str, int, int]  # time, station, bikes, docks

STATIONS = ("15001", "15002")
# Within a polling interval, at and beyond two of them, at and beyond an hour, and far.
STEPS_S = (1, 60, 299, 300, 301, 599, 600, 601, 900, 3600, 3601, 6 * 3600, 20 * 3600)
FIRST_DAYS = (DAY, dt.date(2025, 3, 29), dt.date(2025, 10, 25))  # the second day of the others changes the clock


@st.composite
def recordings(draw: st.DrawFn) -> dict[dt.date, list[Row]]:
    """Rows of two stations on up to three days, of which one may be missing."""
    first = draw(st.sampled_from(FIRST_DAYS))
    built = draw(st.sets(st.integers(0, 2), min_size=1))
    days: dict[dt.date, list[Row]] = {first + dt.timedelta(days=number): [] for number in sorted(built)}
    for station_id in STATIONS:
        time = dt.datetime.combine(first, dt.time(), dt.UTC)
        time += dt.timedelta(seconds=draw(st.sampled_from([0, 3 * 3600, 23 * 3600 + 40 * 60, 24 * 3600])))
        for step in draw(st.lists(st.sampled_from(STEPS_S), max_size=30)):
            time += dt.timedelta(seconds=step)
            bikes, docks = draw(st.integers(0, 4)), draw(st.sampled_from([0, 3, 6]))
            if time.date() in days:
                days[time.date()].append((time, station_id, bikes, docks))
    return days


def tables_of(days: Mapping[dt.date, Iterable[Row]], **arguments: Any) -> dict[dt.date, dict[str, pa.Table]]:
    rows = {
        day: enhanced(*[station(who, time, bikes=bikes, total_docks=docks) for time, who, bikes, docks in listed])
        for day, listed in days.items()
    }
    return build_days(rows, only=ONLY, **arguments)


def moved(days: Mapping[dt.date, Iterable[Row]], by: dt.timedelta) -> dict[dt.date, list[Row]]:
    return {
        day + by: [(time + by, station_id, bikes, docks) for time, station_id, bikes, docks in listed]
        for day, listed in days.items()
    }


def joined(built: Mapping[dt.date, Mapping[str, pa.Table]], name: str) -> pa.Table:
    return pa.concat_tables([built[day][name] for day in sorted(built)])


# Each example opens a database a day: 20 of them take some four seconds.
examples = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Seconds:
    """What is known of a station in each second of some days: bikes and docks, or -1."""

    def __init__(self, days: Mapping[dt.date, Iterable[Row]], station_id: str) -> None:
        self.start = dt.datetime.combine(min(days), dt.time(), dt.UTC)
        length = ((max(days) - min(days)).days + 1) * 86_400
        self.bikes, self.docks = np.full(length, -1), np.full(length, -1)
        self.rows = sorted(row for listed in days.values() for row in listed if row[1] == station_id)
        for time, _, bikes, docks in self.rows:
            second = self.second(time)
            # A later row takes the place of what an earlier one wrote.
            self.bikes[second : second + 2 * INTERVAL_S] = bikes
            self.docks[second : second + 2 * INTERVAL_S] = docks
        for number in range(length // 86_400):
            if min(days) + dt.timedelta(days=number) not in days:
                self.bikes[number * 86_400 : (number + 1) * 86_400] = -1

    def second(self, time: dt.datetime) -> int:
        return int((time - self.start).total_seconds())

    def time(self, second: int) -> dt.datetime:
        return self.start + dt.timedelta(seconds=int(second))

    def hours(self) -> list[dict[str, Any]]:
        return [hour for begin in range(0, len(self.bikes), 3600) if (hour := self._hour(begin)) is not None]

    def _hour(self, begin: int) -> dict[str, Any] | None:
        known = self.bikes[begin : begin + 3600] >= 0
        bikes, docks = self.bikes[begin : begin + 3600][known], self.docks[begin : begin + 3600][known]
        if not len(bikes):
            return None
        ranked = sorted(bikes.tolist())
        start, end = self.time(begin), self.time(begin + 3600)
        local = start.astimezone(WARSAW)
        pairs = [
            (later[0] - earlier[0], later[2] - earlier[2])
            for earlier, later in pairwise(self.rows)
            if start <= later[0] < end and later[0] - earlier[0] <= dt.timedelta(hours=1)
        ]
        between = sorted(int(step.total_seconds()) for step, _ in pairs)
        offset = local.utcoffset()
        assert offset is not None
        return {
            "hour_start": start,
            "hour_end": end,
            "local_date": local.date(),
            "local_hour": local.hour,
            "utc_offset_h": offset // dt.timedelta(hours=1),
            "snapshots": sum(start <= row[0] < end for row in self.rows),
            "minutes_observed": len(bikes) / 60,
            "bikes_open": bikes[0],
            "bikes_high": max(ranked),
            "bikes_low": min(ranked),
            "bikes_close": bikes[-1],
            "bikes_mean": pytest.approx(sum(ranked) / len(ranked), abs=0.00006),
            # Position of the first second at which so many tenths of all are reached.
            "bikes_p10": ranked[-(-len(ranked) // 10) - 1],
            "bikes_p50": ranked[-(-5 * len(ranked) // 10) - 1],
            "bikes_p90": ranked[-(-9 * len(ranked) // 10) - 1],
            "total_docks": docks[-1],
            "minutes_empty": np.sum(bikes == 0) / 60,
            "minutes_full": np.sum((docks > 0) & (bikes >= docks)) / 60,
            "minutes_service": np.sum((bikes >= 2) & (docks - bikes >= 2)) / 60,
            "overfull_bike_minutes": np.sum(np.maximum(bikes - docks, 0)[docks > 0]) / 60,
            "inflow": sum(max(0, change) for _, change in pairs),
            "outflow": sum(max(0, -change) for _, change in pairs),
            "sampling_interval_s": between[(len(between) - 1) // 2] if between else None,
        }

    def episodes(self) -> list[dict[str, Any]]:
        kinds = np.where(self.bikes == 0, 1, np.where((self.docks > 0) & (self.bikes >= self.docks), 2, 0))
        kinds[self.bikes < 0] = -1
        bounds = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
        return [self._episode(begin, end, kinds) for begin, end in pairwise(bounds) if kinds[begin] > 0]

    def _episode(self, begin: int, end: int, kinds: np.ndarray) -> dict[str, Any]:
        # The city's hours begin with those of UTC, so that each whole hour is in the window or is not.
        penalised = sum(
            min(end, hour + 3600) - max(begin + 600, hour)
            for hour in range(begin // 3600 * 3600, end, 3600)
            if 6 <= self.time(hour).astimezone(WARSAW).hour < 22 and begin + 600 < hour + 3600
            if min(end, hour + 3600) > max(begin + 600, hour)
        )
        return {
            "kind": {1: "empty", 2: "full"}[int(kinds[begin])],
            "started_at": self.time(begin),
            "ended_at": self.time(end),
            "local_date": self.time(begin).astimezone(WARSAW).date(),
            "minutes": (end - begin) / 60,
            "penalty_minutes": penalised / 60,
            "start_known": begin > 0 and bool(kinds[begin - 1] >= 0),
            "end_known": end < len(kinds) and bool(kinds[end] >= 0),
        }


def without_key(row: Mapping[str, Any], *others: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("station_id", "station_key", *others)}


@examples
@given(recordings())
def test_any_series_gives_what_is_read_off_second_by_second(days: dict[dt.date, list[Row]]) -> None:
    built = tables_of(days)
    hour_rows, quarters, outages = (
        joined(built, name) for name in ("fct_station_hour", "fct_station_quarter", "fct_station_outage")
    )

    for station_id in STATIONS:
        known = Seconds(days, station_id)
        of_station = [pc.equal(table.column("station_id"), station_id) for table in (hour_rows, quarters, outages)]
        found = hour_rows.filter(of_station[0]).to_pylist()
        assert [without_key(row) for row in found] == known.hours()
        each_quarter = list(enumerate(known.bikes.tolist()))[::900]
        expected = [
            {"quarter_start": known.time(second), "bikes": bikes} for second, bikes in each_quarter if bikes >= 0
        ]
        assert [without_key(row) for row in quarters.filter(of_station[1]).to_pylist()] == expected
        found = outages.filter(of_station[2]).sort_by("started_at").to_pylist()
        assert [without_key(row, "is_open") for row in found] == known.episodes()
    _fits_together(hour_rows.to_pylist())
    _lies_on_its_day(days, built)


def _fits_together(hour_rows: list[dict[str, Any]]) -> None:
    for row in hour_rows:
        assert 0 < row["minutes_observed"] <= 60
        parts = row["minutes_empty"] + row["minutes_full"] + row["minutes_service"]
        assert parts <= row["minutes_observed"] + 1e-9
        assert row["bikes_low"] <= row["bikes_p10"] <= row["bikes_p50"] <= row["bikes_p90"] <= row["bikes_high"]
        for name in ("bikes_open", "bikes_mean", "bikes_close"):
            assert row["bikes_low"] <= row[name] <= row["bikes_high"]


def _lies_on_its_day(days: Mapping[dt.date, list[Row]], built: Mapping[dt.date, Mapping[str, pa.Table]]) -> None:
    """An episode is on the day of its end, or the next there is; the newest day also has those that go on."""
    newest = max(days)
    newest_snapshot = max((row[0] for row in days[newest]), default=None)
    for day, tables in built.items():
        for row in tables["fct_station_outage"].to_pylist():
            assert day == min((later for later in days if later >= row["ended_at"].date()), default=newest)
            if newest_snapshot is not None:
                assert row["is_open"] == (row["ended_at"] > newest_snapshot)


@examples
@given(recordings(), st.integers(0, 1))
def test_every_second_snapshot_alone_never_shows_more_flow(days: dict[dt.date, list[Row]], first: int) -> None:
    times = sorted({row[0] for listed in days.values() for row in listed})
    left = set(times[first::2])
    thinned = {day: [row for row in listed if row[0] in left] for day, listed in days.items()}

    all_of_them, some = (joined(tables_of(each), "fct_station_hour") for each in (days, thinned))
    for flow in ("inflow", "outflow"):
        assert sum(column(some, flow)) <= sum(column(all_of_them, flow))


@examples
@given(recordings())
def test_a_week_later_the_same_rows_give_the_same_tables_a_week_later(days: dict[dt.date, list[Row]]) -> None:
    """Not across a change of the clock: the first day is moved away from those."""
    week = dt.timedelta(days=7)
    here = moved(days, DAY - min(days))

    first, second = tables_of(here), tables_of(moved(here, week))

    for name in ("fct_station_hour", "fct_station_outage", "fct_station_quarter"):
        expected = [
            {key: value + week if isinstance(value, dt.date) else value for key, value in row.items()}
            for row in joined(first, name).to_pylist()
        ]
        assert joined(second, name).to_pylist() == expected


def test_the_number_of_threads_changes_nothing() -> None:
    counts = [(at(10) + dt.timedelta(seconds=137 * number), number * 7 % 11) for number in range(300)]
    rows = enhanced(*[station(f"{15_000 + who}", time, bikes=bikes) for time, bikes in counts for who in range(30)])

    one_thread, four = (build_day(rows, only=ONLY, threads=threads) for threads in (1, 4))

    assert one_thread == four

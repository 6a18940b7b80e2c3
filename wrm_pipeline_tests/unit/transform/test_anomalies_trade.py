"""What somebody who runs the bikes would notice: jumps, flat stations, vanished stations."""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Callable, Iterable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.transform.anomalies import find_anomalies
from wrm_pipeline.transform.anomalies.tables import Method, station_hours
from wrm_pipeline_tests.unit.transform.test_anomalies import (
    DAY,
    DAYS,
    HOUR,
    MINUTE,
    Row,
    found,
    polls,
    simulated,
    table,
)

SECOND = dt.timedelta(seconds=1)


def jumps(rows: list[Row]) -> list[Row]:
    return found(find_anomalies(table(rows), []), Method.JUMP)


# Jumps.


def test_bikes_brought_at_once_are_a_rebalancing_candidate() -> None:
    (row,) = jumps(polls([7, 7, 15, 15], start=DAY + 12 * HOUR))

    assert row["why"] == "from 7 to 15 bikes (+8) between 14:05 and 14:10 (Europe/Warsaw): rebalancing candidate"
    assert (row["score"], row["bikes"], row["hour_start"]) == (8.0, 15.0, DAY + 12 * HOUR)


def test_bikes_taken_at_once_are_one_too() -> None:
    (row,) = jumps(polls([9, 0]))

    assert (row["score"], row["bikes"]) == (-9.0, 0.0)


@pytest.mark.parametrize(("to", "findings"), [(11, 0), (12, 1), (3, 0), (2, 1)])
def test_five_bikes_make_a_jump(to: int, findings: int) -> None:
    assert len(jumps(polls([7, to]))) == findings


@pytest.mark.parametrize(("apart_s", "findings"), [(300, 1), (390, 1), (391, 0), (600, 0)])
def test_a_poll_may_be_a_minute_and_a_half_late(apart_s: int, findings: int) -> None:
    assert len(jumps(polls([7, 15], every=apart_s * SECOND))) == findings


def test_unloading_that_takes_some_minutes_is_one_jump_however_often_it_is_polled() -> None:
    (row,) = jumps(polls([2, 2, 4, 6, 8, 8, 8, 8], every=MINUTE))

    assert row["why"].startswith("from 2 to 8 bikes (+6) between 02:01 and 02:04")


def test_a_count_that_jumps_there_and_back_jumps_twice() -> None:
    assert [row["score"] for row in jumps(polls([2, 9, 2]))] == [7.0, -7.0]


def test_two_stations_with_different_counts_are_no_jump() -> None:
    assert jumps([*polls([1], "15001"), *polls([20], "15002", start=DAY + 5 * MINUTE)]) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.sampled_from([1, 2, 5, 10]))
def test_a_jump_is_reported_exactly_where_there_is_one(counts: list[int], minutes: int) -> None:
    """Whichever way it is told, each told jump is true, and each true one overlaps a told one."""
    rows = jumps(polls(counts, every=minutes * MINUTE))

    pairs = itertools.combinations(enumerate(counts), 2)
    true = [(a, b) for (a, x), (b, y) in pairs if (b - a) * minutes <= 6.5 and abs(x - y) >= 5]
    assert bool(rows) == bool(true)
    assert all(abs(row["score"]) >= 5 for row in rows)
    if minutes > 3:  # neighbouring polls only: nothing can overlap
        assert len(rows) == len(true)


# Vanished stations.

OTHERS = [row for number in range(9) for row in polls([3] * 24, f"1510{number}")]


def vanished(rows: Iterable[Row], history: list[pa.Table] | None = None) -> list[Row]:
    return found(find_anomalies(table([*OTHERS, *rows]), history or []), Method.VANISHED)


def test_a_station_missing_at_the_end_of_the_day_vanished() -> None:
    (row,) = vanished(polls([3] * 9 + [1]))

    assert row["why"] == ("last seen at 02:45 (Europe/Warsaw) with 1 bike; missing in the last 14 snapshots of the day")
    assert (row["station_id"], row["hour_start"], row["score"], row["bikes"]) == ("15001", DAY, None, None)


@pytest.mark.parametrize(("missing", "findings"), [(11, 0), (12, 1)])
def test_it_takes_an_hour_of_snapshots(missing: int, findings: int) -> None:
    assert len(vanished(polls([3] * (24 - missing)))) == findings


def test_the_hour_is_the_first_in_which_it_was_missing() -> None:
    (row,) = vanished(polls([3] * 12))

    assert row["hour_start"] == DAY + HOUR


def test_a_station_that_came_back_did_not_vanish() -> None:
    assert vanished([*polls([3] * 3), *polls([3], start=DAY + 115 * MINUTE)]) == []


def test_a_list_that_was_cut_short_does_not_make_stations_vanish() -> None:
    """The last hour's snapshots hold a few stations of the ten; the whole ones before hold them all."""
    rows = [row for number in range(10) for row in polls([3] * (36 if number < 4 else 24), f"1510{number}")]

    assert found(find_anomalies(table(rows), []), Method.VANISHED) == []


def test_a_station_there_yesterday_and_missing_all_day_vanished_at_no_hour() -> None:
    yesterday = station_hours(table(polls([3] * 12, start=DAY - HOUR)))

    (row,) = vanished([], [yesterday])

    assert (row["station_id"], row["name"], row["hour_start"], row["total_docks"]) == (
        "15001",
        "Plac 15001",
        None,
        None,
    )
    assert row["why"] == (
        "in none of the day's 24 snapshots; there with 3 bikes on average in the last hour before, "
        "from 2025-06-10 01:00 (Europe/Warsaw)"
    )


def test_a_station_that_was_reported_yesterday_is_not_reported_again() -> None:
    gone_since = station_hours(
        table(polls([3] * 12, start=DAY - 2 * HOUR), polls([3] * 24, "15100", start=DAY - 2 * HOUR))
    )

    assert vanished([], [gone_since]) == []


def test_findings_about_the_whole_day_come_last() -> None:
    yesterday = station_hours(table(polls([3] * 12, "15000", start=DAY - HOUR)))

    rows = vanished(polls([3] * 5), [yesterday])

    assert [row["station_id"] for row in rows] == ["15001", "15000"]


# Flat stations.

LIVELY = tuple(n // 2 % 2 + 5 for n in range(288))  # a change every ten minutes
STILL = (5,) * 288


def frozen(counts: tuple[int, ...], start_hour: int, hours: int) -> tuple[int, ...]:
    """Counts that stay what they are for some UTC hours."""
    start, end = start_hour * 12, (start_hour + hours) * 12
    return (*counts[:start], *([counts[start - 1]] * (end - start)), *counts[end:])


def town(one: tuple[int, ...], others: tuple[int, ...], *, day: int = 0, last: tuple[int, ...] = ()) -> pa.Table:
    """Six stations in a row, the first of which is looked at."""
    counts = [one, *([others] * 4), last or others]
    return table(*(polls(c, f"1500{n}", start=DAY + day * DAYS, lat=51.1 + n / 1000) for n, c in enumerate(counts, 1)))


BEFORE = [station_hours(town(LIVELY, LIVELY, day=-before)) for before in range(1, 15)]


def flat(day: pa.Table, history: list[pa.Table] = BEFORE) -> list[Row]:
    return found(find_anomalies(day, history), Method.FLAT)


def test_a_station_that_stands_still_by_day_while_its_neighbours_move_is_found_in_each_hour() -> None:
    rows = flat(town(frozen(LIVELY, 8, 4), LIVELY))

    # The change that was due at 08:00 UTC is missing; the one at 12:00 sharp belongs to the hour that it begins.
    assert [(row["station_id"], row["hour_start"]) for row in rows] == [
        ("15001", DAY + h * HOUR) for h in (8, 9, 10, 11)
    ]
    (why,) = {row["why"] for row in rows}
    assert why == (
        "6 bikes without a change 10:00\u201314:00 (Europe/Warsaw); usually about 24 changes; "
        "5 of the 5 nearest stations changed, 120 times"
    )
    assert rows[0]["score"] == pytest.approx(24)


@pytest.mark.parametrize(
    "day",
    [
        pytest.param(lambda: town(frozen(LIVELY, 8, 2), LIVELY), id="for two hours only"),
        pytest.param(lambda: town(frozen(LIVELY, 20, 4), LIVELY), id="at night"),
        pytest.param(lambda: town(frozen(LIVELY, 8, 4), frozen(LIVELY, 8, 4)), id="as the whole town does"),
        pytest.param(
            lambda: town(frozen(LIVELY, 8, 4), frozen(LIVELY, 8, 4), last=LIVELY), id="as most of the nearest do"
        ),
        pytest.param(lambda: town(tuple(n - 5 for n in STILL), LIVELY), id="because it is empty"),
        pytest.param(
            lambda: town(frozen(LIVELY, 8, 4), (*STILL[:100], *((6,) * 44), *STILL[144:])),
            id="on a day on which the neighbours hardly move either",
        ),
    ],
)
def test_a_station_is_not_flat(day: Callable[[], pa.Table]) -> None:
    assert flat(day()) == []


def test_a_station_that_never_moved_much_is_not_flat() -> None:
    sleepy = [station_hours(town(STILL, LIVELY, day=-before)) for before in range(1, 15)]

    assert flat(town(STILL, LIVELY), sleepy) == []


def test_neighbours_that_move_more_than_usual_do_not_make_more_changes_due() -> None:
    """Six are usual in these four hours, and the chance that none comes is not small."""
    slow = tuple(n // 8 % 2 + 5 for n in range(288))
    before = [station_hours(town(slow, slow, day=-d)) for d in (1, 2, 3)]

    assert flat(town(frozen(slow, 8, 4), LIVELY), before) == []
    assert len(flat(town(frozen(slow, 8, 6), LIVELY), before)) == 6  # nine are usual in six hours


def two_towns(near: tuple[int, ...], far: tuple[int, ...], *, day: int = 0) -> pa.Table:
    """Six stations near each other, and six with smaller ids half a degree off."""
    places = [(near, "1509", 51.1), (far, "1500", 51.6)]
    start = DAY + day * DAYS
    return table(*(polls(c, f"{i}{n}", start=start, lat=lat + n / 1000) for c, i, lat in places for n in range(6)))


def test_the_neighbours_are_the_nearest() -> None:
    """A part of the town that stands still as a whole is no fault of its stations, however lively the rest is."""
    before = [station_hours(two_towns(LIVELY, LIVELY, day=-d)) for d in (1, 2, 3)]

    assert flat(two_towns(frozen(LIVELY, 8, 4), LIVELY), before) == []


# The made-up city.


def test_in_the_made_up_city_a_frozen_station_is_found_and_little_else() -> None:
    history = [station_hours(simulated(DAY - before * DAYS)) for before in (3, 2, 1)]
    day = simulated(DAY)
    rows = day.to_pylist()
    for row in rows:
        if row["station_id"] == "15020" and row["file_timestamp"] >= DAY + 5 * HOUR:
            row["bikes"] = 9
    changed = pa.Table.from_pylist(rows, schema=day.schema)

    anomalies = find_anomalies(changed, history)

    flat_hours = Counter(row["station_id"] for row in found(anomalies, Method.FLAT))
    assert flat_hours.most_common(1) == [("15020", 14)]
    assert anomalies.rows.num_rows < 0.02 * station_hours(changed).num_rows

"""Episodes in which a station is empty or full, and their penalty minutes, worked out on paper.

Any series of rows is held against a second implementation in test_station_hour.py.
"""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from wrm_pipeline_tests.fixtures.marts import build_day, build_days, column, enhanced, one, station

ONLY = ("state_station", "state_outage", "fct_station_outage")
DAY = dt.date(2025, 5, 14)  # a Wednesday, two hours ahead of UTC
NEXT = DAY + dt.timedelta(days=1)
AFTER_NEXT = DAY + dt.timedelta(days=2)
S = "15001"


def at(hour: int, minute: int = 0, second: int = 0, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute, second), dt.UTC)


def rows(*counts: tuple[dt.datetime, int], total_docks: int = 10) -> list[dict[str, Any]]:
    return [station(S, time, bikes=bikes, total_docks=total_docks) for time, bikes in counts]


def every_five_minutes(begin: dt.datetime, end: dt.datetime, bikes: int = 0) -> list[dict[str, Any]]:
    """Rows from a time up to, not with, another."""
    count = -(-(end - begin) // dt.timedelta(minutes=5))
    return rows(*[(begin + number * dt.timedelta(minutes=5), bikes) for number in range(count)])


def episodes(*listed: dict[str, Any], **arguments: Any) -> pa.Table:
    return build_day(enhanced(*listed), only=ONLY, **arguments)["fct_station_outage"]


def by_day(*listed: dict[str, Any]) -> dict[dt.date, dict[str, pa.Table]]:
    """Tables of all days on which there are rows."""
    days: dict[dt.date, list[dict[str, Any]]] = {}
    for row in listed:
        days.setdefault(row["date"], []).append(row)
    return build_days({day: enhanced(*of_day) for day, of_day in days.items()}, only=ONLY)


def span(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("started_at", "start_known", "ended_at", "end_known"))


# --- what an episode is ---


def test_an_episode_on_paper() -> None:
    """Empty from 10:05 to 10:20 UTC, which is 12:05 to 12:20; five of the fifteen minutes lie after the first ten."""
    row = one(episodes(*rows((at(10), 3), (at(10, 5), 0), (at(10, 13), 0), (at(10, 20), 1))))

    assert row == {
        "station_id": S,
        "station_key": f"{S}-1",
        "kind": "empty",
        "started_at": at(10, 5),
        "ended_at": at(10, 20),
        "local_date": DAY,
        "minutes": 15.0,
        "penalty_minutes": 5.0,
        "is_open": False,
        "start_known": True,
        "end_known": True,
    }


@pytest.mark.parametrize(
    ("bikes", "docks", "kind"),
    [(0, 10, "empty"), (0, 0, "empty"), (10, 10, "full"), (14, 10, "full"), (9, 10, None), (1, 10, None), (5, 0, None)],
)
def test_empty_and_full(bikes: int, docks: int, kind: str | None) -> None:
    assert column(episodes(*rows((at(10), bikes), total_docks=docks)), "kind") == ([kind] if kind else [])


def test_from_full_to_empty_at_once_is_two_episodes_that_touch() -> None:
    full, empty = episodes(*rows((at(10), 5), (at(10, 5), 10), (at(10, 9), 0), (at(10, 14), 5))).to_pylist()

    assert (full["kind"], *span(full)) == ("full", at(10, 5), True, at(10, 9), True)
    assert (empty["kind"], *span(empty)) == ("empty", at(10, 9), True, at(10, 14), True)


def test_two_episodes_with_a_bike_between_them_are_two() -> None:
    table = episodes(*rows((at(10), 0), (at(10, 5), 1), (at(10, 10), 0), (at(10, 15), 1)))

    assert column(table, "minutes") == [5, 5]


def test_a_station_first_seen_empty_has_an_unknown_start() -> None:
    row = one(episodes(*rows((at(10), 0), (at(10, 5), 0), (at(10, 10), 1))))

    assert span(row) == (at(10), False, at(10, 10), True)


def test_a_gap_in_coverage_breaks_an_episode() -> None:
    """10:05 counts up to 10:15; then nothing is known until 11:00."""
    listed = rows((at(9, 55), 2), (at(10), 0), (at(10, 5), 0), (at(11), 0), (at(11, 5), 4))

    first, second = episodes(*listed).to_pylist()

    assert span(first) == (at(10), True, at(10, 15), False)
    assert span(second) == (at(11), False, at(11, 5), True)


@pytest.mark.parametrize(("second", "count"), [(0, 1), (1, 2)])
def test_rows_two_intervals_apart_touch_and_a_second_more_is_a_gap(second: int, count: int) -> None:
    assert episodes(*rows((at(10), 0), (at(10, 10, second), 0), (at(10, 15), 3))).num_rows == count


def test_stations_have_their_own_episodes() -> None:
    listed = [
        row
        for minute in (0, 5, 10)
        for row in (station(S, at(10, minute), bikes=0), station("15002", at(10, minute), bikes=minute))
    ]
    table = episodes(*listed, station(S, at(10, 15), bikes=1), station("15002", at(10, 15), bikes=1))

    assert column(table, "station_id") == [S, "15002"]
    assert column(table, "minutes") == [15, 5]


def test_the_station_key_is_that_of_the_start() -> None:
    """Renamed in the middle of it."""
    listed = [
        station(S, at(10), bikes=0),
        station(S, at(10, 5), bikes=0, name="Rynek"),
        station(S, at(10, 10), bikes=3, name="Rynek"),
        station(S, at(10, 15), bikes=0, name="Rynek"),
        station(S, at(10, 20), bikes=3, name="Rynek"),
    ]

    assert column(episodes(*listed), "station_key") == [f"{S}-1", f"{S}-2"]


# --- open ones ---


def test_an_episode_that_covers_the_newest_snapshot_is_open() -> None:
    row = one(episodes(*rows((at(10), 3), (at(10, 5), 0))))

    assert (row["is_open"], *span(row)) == (True, at(10, 5), True, at(10, 15), False)


@pytest.mark.parametrize(("newest", "is_open"), [(at(10, 14), True), (at(10, 15), False)])
def test_a_station_that_left_the_feed_is_open_as_long_as_its_last_row_covers(
    newest: dt.datetime, is_open: bool
) -> None:
    row = one(episodes(*rows((at(10, 5), 0)), station("15002", newest)))

    assert (row["is_open"], row["ended_at"], row["end_known"]) == (is_open, at(10, 15), False)


def test_what_was_open_is_over_once_there_is_a_later_day() -> None:
    row = one(episodes(*rows((at(10, 5), 0)), is_newest=False))

    assert (row["is_open"], row["ended_at"], row["end_known"]) == (False, at(10, 15), False)


def test_an_open_episode_at_midnight_is_listed_only_while_there_is_no_later_day() -> None:
    listed = enhanced(*rows((at(23, 50), 3), (at(23, 55), 0)))

    newest = build_day(listed, only=ONLY, is_newest=True)
    older = build_day(listed, only=ONLY, is_newest=False)

    row = one(newest["fct_station_outage"])
    assert (row["is_open"], row["ended_at"], row["minutes"]) == (True, at(0, day=NEXT), 5)
    assert older["fct_station_outage"].num_rows == 0
    assert newest["state_outage"] == older["state_outage"]


# --- over midnight ---


def test_an_episode_over_midnight_is_one_and_on_the_day_of_its_end() -> None:
    """Empty 23:50 to 00:20 UTC: 01:50 to 02:20 by the local clock, so it begins on the next local date."""
    days = by_day(
        *rows((at(23, 45), 2)),
        *every_five_minutes(at(23, 50), at(0, 20, day=NEXT)),
        *rows((at(0, 20, day=NEXT), 1)),
    )

    assert days[DAY]["fct_station_outage"].num_rows == 0
    row = one(days[NEXT]["fct_station_outage"])
    assert (*span(row), row["minutes"]) == (at(23, 50), True, at(0, 20, day=NEXT), True, 30)
    assert (row["local_date"], row["penalty_minutes"], row["station_key"]) == (NEXT, 0, f"{S}-1")
    assert one(days[DAY]["state_outage"])["started_at"] == at(23, 50)
    assert days[NEXT]["state_outage"].num_rows == 0


def test_an_episode_over_two_midnights() -> None:
    end = at(1, day=AFTER_NEXT)
    days = by_day(*every_five_minutes(at(22), end), *rows((end, 5)))

    assert [days[day]["fct_station_outage"].num_rows for day in days] == [0, 0, 1]
    row = one(days[AFTER_NEXT]["fct_station_outage"])
    # 27 hours from 22:00, which is midnight: the penalty is one whole window.
    assert (row["minutes"], row["penalty_minutes"]) == (27 * 60, 16 * 60)


def test_a_carried_episode_ends_with_its_coverage_when_the_station_is_not_seen_again() -> None:
    """23:55 counts up to 00:05 on a day that there is."""
    days = by_day(*rows((at(23, 50), 2), (at(23, 55), 0)), station("15002", at(12, day=NEXT)))

    row = one(days[NEXT]["fct_station_outage"], station_id=S)
    assert (*span(row), row["is_open"]) == (at(23, 55), True, at(0, 5, day=NEXT), False, False)


def test_an_episode_before_a_missing_day_ends_at_midnight_and_is_on_the_next_day_there_is() -> None:
    days = by_day(
        *rows((at(23, 50), 2), (at(23, 55), 0)), *rows((at(0, day=AFTER_NEXT), 0), (at(0, 5, day=AFTER_NEXT), 1))
    )

    assert days[DAY]["fct_station_outage"].num_rows == 0
    first, second = days[AFTER_NEXT]["fct_station_outage"].to_pylist()
    assert span(first) == (at(23, 55), True, at(0, day=NEXT), False)
    assert span(second) == (at(0, day=AFTER_NEXT), False, at(0, 5, day=AFTER_NEXT), True)


def test_an_episode_that_was_over_before_midnight_is_not_listed_again() -> None:
    """The station's last row of the day was empty, long before midnight."""
    days = by_day(*rows((at(20), 0)), *rows((at(8, day=NEXT), 4)))

    assert days[DAY]["fct_station_outage"].num_rows == 1
    assert days[NEXT]["fct_station_outage"].num_rows == 0


@pytest.mark.parametrize(
    ("before", "midnight", "expected"),
    [
        (0, 0, (at(23, 55), False, at(0, 5, day=NEXT), True)),  # goes on
        (0, 1, (at(23, 55), False, at(0, day=NEXT), True)),  # its end was seen at midnight
        (1, 0, (at(0, day=NEXT), True, at(0, 5, day=NEXT), True)),  # its start was seen at midnight
        (10, 0, (at(0, day=NEXT), True, at(0, 5, day=NEXT), True)),  # full before, empty after
    ],
)
def test_a_snapshot_at_midnight_itself(before: int, midnight: int, expected: tuple[Any, ...]) -> None:
    days = by_day(*rows((at(23, 55), before)), *rows((at(0, day=NEXT), midnight), (at(0, 5, day=NEXT), 5)))

    found = days[NEXT]["fct_station_outage"].to_pylist()
    assert span(found[-1]) == expected
    assert len(found) == (2 if before == 10 else 1)
    assert days[DAY]["fct_station_outage"].num_rows == 0


@pytest.mark.parametrize("minute", [49, 50])
def test_coverage_that_ends_right_at_midnight_is_carried_and_one_that_ends_before_is_not(minute: int) -> None:
    days = by_day(*rows((at(23, minute), 0)), *rows((at(0, 5, day=NEXT), 5)))

    carried = minute == 50
    assert days[DAY]["fct_station_outage"].num_rows == (not carried)
    assert column(days[NEXT]["fct_station_outage"], "ended_at") == ([at(0, day=NEXT)] if carried else [])
    assert column(days[NEXT]["fct_station_outage"], "end_known") == ([False] if carried else [])


# --- penalty ---


@pytest.mark.parametrize(
    ("begin", "end", "penalty"),
    [
        # Local times are two hours later.
        (at(3, 55), at(4, 30), 25),  # 05:55 to 06:30: the first ten minutes end at 06:05
        (at(3, 30), at(4, 30), 30),  # 05:30 to 06:30: from 06:00
        (at(3), at(4), 0),  # 05:00 to 06:00
        (at(19, 30), at(20, 30), 20),  # 21:30 to 22:30: from 21:40 to 22:00
        (at(19, 55), at(20, 30), 0),  # 21:55: the ten minutes end after 22:00
        (at(10), at(10, 10), 0),
        (at(10), at(10, 15), 5),
        (at(18), at(6, day=NEXT), 110 + 120),  # 20:00 to 08:00: 20:10 to 22:00 and 06:00 to 08:00
        (at(23, 55), at(4, 20, day=NEXT), 20),  # 01:55 to 06:20
    ],
)
def test_penalty_minutes(begin: dt.datetime, end: dt.datetime, penalty: int) -> None:
    days = by_day(*every_five_minutes(begin, end), *rows((end, 5)))

    row = one(days[end.date()]["fct_station_outage"])
    assert (row["started_at"], row["ended_at"], row["penalty_minutes"]) == (begin, end, penalty)


@pytest.mark.parametrize(
    ("day", "six_o_clock_utc"),
    [(dt.date(2025, 3, 29), 5), (dt.date(2025, 3, 30), 4), (dt.date(2025, 10, 25), 4), (dt.date(2025, 10, 26), 5)],
)
def test_penalty_follows_the_local_clock_over_daylight_saving(day: dt.date, six_o_clock_utc: int) -> None:
    """On the days on which the clock changes, it has changed before six."""
    begin, end = at(0, day=day), at(six_o_clock_utc + 1, day=day)

    row = one(episodes(*every_five_minutes(begin, end), *rows((end, 5))))

    assert row["penalty_minutes"] == 60


def test_penalty_of_an_open_episode_counts_up_to_where_it_is_known() -> None:
    row = one(episodes(*every_five_minutes(at(10), at(10, 30))))

    assert (row["is_open"], row["ended_at"], row["minutes"], row["penalty_minutes"]) == (True, at(10, 35), 35, 25)

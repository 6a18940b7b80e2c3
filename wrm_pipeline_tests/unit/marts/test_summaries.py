"""Stations now, their dates, and how reliable they are by day class and hour."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from wrm_pipeline_tests.fixtures.marts import build_days, build_tables, column, enhanced, one, station

# In June the city's clock is two hours ahead of UTC.
MONDAY = dt.date(2025, 6, 2)
TUESDAY = dt.date(2025, 6, 3)


def at(day: dt.date, hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)


def span(first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    """Every five minutes from one time to another, both included."""
    return [first + dt.timedelta(minutes=more) for more in range(0, int((last - first).total_seconds()) // 60 + 1, 5)]


def table(name: str, rows: Iterable[dict[str, Any]], *needs: str) -> pa.Table:
    """A table over the days of some rows."""
    listed = list(rows)
    days = {day: enhanced(*(row for row in listed if row["date"] == day)) for day in {row["date"] for row in listed}}
    daily = {"state_station", "state_station_version", "state_outage", "fct_station_hour", "fct_station_outage"}
    return build_tables(build_days(days, only=daily), only={name, *needs})[name]


def station_at(times: Iterable[dt.datetime], bikes: int, **other: Any) -> list[dict[str, Any]]:
    return [station("15001", time, bikes=bikes, **other) for time in times]


# Stations now


@pytest.mark.parametrize(
    ("bikes", "docks", "state", "free", "fill"),
    [
        (0, 15, "empty", 15, 0.0),
        (1, 15, "low", 14, 0.0667),
        (2, 15, "ok", 13, 0.1333),
        (14, 15, "ok", 1, 0.9333),
        (15, 15, "full", 0, 1.0),
        (18, 15, "overfull", 0, 1.2),
        (0, 0, "no_docks", 0, None),
        (3, 0, "no_docks", 0, None),
        (1, 1, "full", 0, 1.0),
    ],
)
def test_what_bikes_and_docks_mean(bikes: int, docks: int, state: str, free: int, fill: float | None) -> None:
    (row,) = table("mv_station_latest", [station("15001", at(MONDAY, 8), bikes=bikes, total_docks=docks)]).to_pylist()
    assert (row["state"], row["docks_free"], row["fill"]) == (state, free, fill)


def test_each_station_has_its_newest_row_and_newest_version() -> None:
    rows = [
        station("15001", at(MONDAY, 8), bikes=3),
        station("15001", at(MONDAY, 8, 5), bikes=4, name="Other"),
        station("15002", at(MONDAY, 8), bikes=7),
    ]
    latest = table("mv_station_latest", rows)
    newest = one(latest, station_id="15001")
    assert (newest["bikes"], newest["station_key"], newest["file_timestamp"]) == (4, "15001-2", at(MONDAY, 8, 5))
    assert column(latest, "in_newest_snapshot") == [True, False]


def test_the_newest_rows_have_all_columns_of_enhanced_first() -> None:
    rows = enhanced(station("15001", at(MONDAY, 8), quality_flags=["moved", "overfull"]))
    latest = table("mv_station_latest", rows.to_pylist())
    assert latest.select(rows.column_names).to_pylist() == rows.to_pylist()
    assert latest.column_names[: len(rows.column_names)] == rows.column_names


# Dates of a station


def test_a_date_adds_up_the_hours_of_the_citys_clock() -> None:
    # 2 June in Wrocław begins at 22:00 UTC on 1 June. Of it 22:00-22:05 with 3 bikes, -22:10 with 0, -22:20 with 4
    # (2 x 5 min), and 10:00-10:10 with 2 are observed: 30 minutes. Mean (3x5 + 0x5 + 4x10 + 2x10) / 30 = 75 / 30.
    sunday = dt.date(2025, 6, 1)
    bikes = [(21, 50, 5), (21, 55, 5), (22, 0, 3), (22, 5, 0), (22, 10, 4)]
    rows = [station("15001", at(sunday, hour, minute), bikes=count) for hour, minute, count in bikes]
    rows.append(station("15001", at(MONDAY, 10), bikes=2))
    assert one(table("mv_daily_aggregates", rows), local_date=MONDAY) == {
        "local_date": MONDAY,
        "station_id": "15001",
        "station_key": "15001-1",
        "minutes_observed": 30.0,
        "bikes_mean": 2.5,
        "bikes_low": 0,
        "bikes_high": 4,
        "minutes_empty": 5.0,
        "minutes_full": 0.0,
        "service_level": 0.8333,  # 3, 4 and 2 bikes at 15 docks: 25 of 30 minutes
        "inflow": 4,  # 0 to 4; from 22:10 to 10:00 is over an hour
        "outflow": 5,  # 5 to 3, counted in the hour of the later row, and 3 to 0
        "outages_empty": 1,
        "outages_full": 0,
        "penalty_minutes": 0.0,
    }


def test_an_episode_counts_on_the_date_on_which_it_ends() -> None:
    # Empty from 23:30 on Monday to 07:00 on Tuesday, by the city's clock. Of the penalty 06:00 to 07:00 counts.
    empty = station_at(span(at(MONDAY, 21, 30), at(TUESDAY, 4, 55)), 0)
    around = [*station_at([at(MONDAY, 21, 25)], 5), *station_at(span(at(TUESDAY, 5), at(TUESDAY, 6)), 5)]
    days = table("mv_daily_aggregates", [*empty, *around])
    assert column(days, "outages_empty", local_date=MONDAY) == [0]
    tuesday = one(days, local_date=TUESDAY)
    assert (tuesday["outages_empty"], tuesday["outages_full"], tuesday["penalty_minutes"]) == (1, 0, 60.0)


def test_an_episode_of_days_counts_once() -> None:
    wednesday = dt.date(2025, 6, 4)
    full = station_at([*span(at(MONDAY, 8), at(MONDAY, 23, 55)), *span(at(TUESDAY, 0), at(TUESDAY, 23, 55))], 15)
    days = table("mv_daily_aggregates", [*full, *station_at(span(at(wednesday, 0), at(wednesday, 1)), 5)])
    # It ends at midnight UTC, which is 02:00 on Wednesday.
    assert [(row["local_date"], row["outages_full"]) for row in days.to_pylist()] == [
        (MONDAY, 0),
        (TUESDAY, 0),
        (wednesday, 1),
    ]


def test_an_open_episode_does_not_count_yet() -> None:
    days = table("mv_daily_aggregates", station_at(span(at(MONDAY, 8), at(MONDAY, 9)), 0))
    assert (column(days, "outages_empty"), column(days, "minutes_empty")) == ([0], [70.0])


def test_a_date_has_the_version_of_its_last_hour() -> None:
    rows = [*station_at([at(MONDAY, 8)], 5), *station_at([at(MONDAY, 12)], 5, name="Other")]
    assert column(table("mv_daily_aggregates", rows), "station_key") == ["15001-2"]


@pytest.mark.parametrize(("date", "hours"), [(dt.date(2025, 3, 30), 23), (dt.date(2025, 10, 26), 25)])
def test_the_dates_of_the_clock_changes_are_whole(date: dt.date, hours: int) -> None:
    first = at(date - dt.timedelta(days=1), 12)
    rows = station_at(span(first, at(date, 23, 55)), 4)
    row = one(table("mv_daily_aggregates", rows), local_date=date)
    assert (row["minutes_observed"], row["bikes_mean"], row["service_level"]) == (hours * 60.0, 4.0, 1.0)


# Reliability


def test_shares_are_of_the_observed_minutes() -> None:
    # 10:00 to 11:00 by the city's clock. On Monday 30 minutes with 0 bikes and 30 with 6, on Tuesday 35 minutes with 15
    # at 15 docks (08:00 to 08:25 UTC, and 10 minutes that the last row covers), and nothing after: 95 minutes.
    monday = [
        *station_at(span(at(MONDAY, 8), at(MONDAY, 8, 25)), 0),
        *station_at(span(at(MONDAY, 8, 30), at(MONDAY, 9)), 6),
    ]
    tuesday = station_at(span(at(TUESDAY, 8), at(TUESDAY, 8, 25)), 15)
    found = one(table("mart_station_reliability", [*monday, *tuesday], "dim_date"), local_hour=10)
    assert found == {
        "station_id": "15001",
        "day_class": "workday",
        "local_hour": 10,
        "days": 2,
        "minutes_observed": 95.0,
        "share_empty": 0.3158,  # 30 / 95
        "share_full": 0.3684,  # 35 / 95
        "share_service": 0.3158,  # 30 / 95
        "bikes_mean": 7.4211,  # (6 x 30 + 15 x 35) / 95
        # Between the hours' means, 3 and 15: 3 + 0.1 x 12, 3 + 0.5 x 12, 3 + 0.9 x 12.
        "bikes_p10": 4.2,
        "bikes_p50": 9.0,
        "bikes_p90": 13.8,
        "window_start": TUESDAY - dt.timedelta(days=27),
        "window_end": TUESDAY,
    }


def test_the_window_has_28_local_dates() -> None:
    inside = TUESDAY - dt.timedelta(days=27)
    times = [at(inside - dt.timedelta(days=1), 8), at(inside, 8), at(TUESDAY, 8)]
    found = table("mart_station_reliability", station_at(times, 5), "dim_date")
    assert (column(found, "days"), column(found, "minutes_observed")) == ([2], [20.0])


def test_a_holiday_is_with_the_sundays() -> None:
    corpus_christi = dt.date(2025, 6, 19)  # a Thursday
    times = [
        at(dt.date(2025, 6, 14), 8),
        at(dt.date(2025, 6, 15), 8),
        at(dt.date(2025, 6, 18), 8),
        at(corpus_christi, 8),
    ]
    found = table("mart_station_reliability", station_at(times, 5), "dim_date")
    assert [(row["day_class"], row["days"]) for row in found.to_pylist()] == [
        ("saturday", 1),
        ("sunday_or_holiday", 2),
        ("workday", 1),
    ]


def test_in_autumn_the_hour_that_comes_twice_is_one_day_with_two_hours() -> None:
    sunday = dt.date(2025, 10, 26)
    found = table("mart_station_reliability", station_at(span(at(sunday, 0), at(sunday, 3)), 5), "dim_date")
    row = one(found, local_hour=2)
    assert (row["days"], row["minutes_observed"]) == (1, 120.0)

"""Dates of the city's clock: bounds in UTC, classes, and Polish public holidays."""

import datetime as dt
import itertools

import pyarrow as pa
import pytest

from wrm_pipeline.marts.holidays import HOLIDAY_SCHEMA, public_holidays
from wrm_pipeline_tests.fixtures.marts import build_days, build_tables, enhanced, one, station


def utc(year: int, month: int, day: int, hour: int) -> dt.datetime:
    return dt.datetime(year, month, day, hour, tzinfo=dt.UTC)


def dates(*days: dt.date) -> pa.Table:
    rows = {day: enhanced(station("15001", dt.datetime.combine(day, dt.time(12), dt.UTC))) for day in days}
    return build_tables(build_days(rows, only={"state_station"}), only={"dim_date"})["dim_date"]


@pytest.fixture(scope="module")
def year_2025() -> pa.Table:
    return dates(dt.date(2025, 1, 1), dt.date(2025, 10, 27))


def test_dates_go_from_the_first_day_to_the_end_of_the_year_of_the_newest() -> None:
    found = dates(dt.date(2024, 12, 30), dt.date(2025, 1, 2)).column("date").to_pylist()
    assert found[0] == dt.date(2024, 12, 30)
    assert found == [found[0] + dt.timedelta(days=number) for number in range(2 + 365)]


def test_the_last_hours_of_the_year_in_utc_have_a_date() -> None:
    # 23:30 UTC on 31 December is 00:30 on 1 January in Wrocław.
    found = dates(dt.date(2024, 12, 31)).column("date").to_pylist()
    assert (found[0], found[1]) == (dt.date(2024, 12, 31), dt.date(2025, 1, 1))


def test_a_usual_date_has_24_hours(year_2025: pa.Table) -> None:
    assert one(year_2025, date=dt.date(2025, 1, 2)) == {
        "date": dt.date(2025, 1, 2),
        "year": 2025,
        "month": 1,
        "day": 2,
        "iso_week": 1,
        "weekday": 4,
        "weekday_name": "Thursday",
        "day_class": "workday",
        "is_holiday": False,
        "holiday_pl": None,
        "holiday_en": None,
        "hours": 24,
        "utc_start": utc(2025, 1, 1, 23),
        "utc_end": utc(2025, 1, 2, 23),
    }


def test_in_spring_a_date_has_23_hours(year_2025: pa.Table) -> None:
    row = one(year_2025, date=dt.date(2025, 3, 30))
    assert (row["hours"], row["utc_start"], row["utc_end"]) == (23, utc(2025, 3, 29, 23), utc(2025, 3, 30, 22))


def test_in_autumn_a_date_has_25_hours(year_2025: pa.Table) -> None:
    row = one(year_2025, date=dt.date(2025, 10, 26))
    assert (row["hours"], row["utc_start"], row["utc_end"]) == (25, utc(2025, 10, 25, 22), utc(2025, 10, 26, 23))


def test_all_other_dates_have_24_and_one_ends_where_the_next_begins(year_2025: pa.Table) -> None:
    rows = year_2025.to_pylist()
    assert sorted(row["hours"] for row in rows) == [23, *[24] * 363, 25]
    assert all(row["utc_end"] == later["utc_start"] for row, later in itertools.pairwise(rows))


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (dt.date(2025, 5, 30), "workday"),
        (dt.date(2025, 5, 31), "saturday"),
        (dt.date(2025, 6, 1), "sunday_or_holiday"),
        (dt.date(2025, 6, 19), "sunday_or_holiday"),  # Corpus Christi, a Thursday
        (dt.date(2025, 5, 3), "sunday_or_holiday"),  # the day of the constitution, a Saturday
    ],
)
def test_a_holiday_is_classed_as_a_sunday(year_2025: pa.Table, date: dt.date, expected: str) -> None:
    assert one(year_2025, date=date)["day_class"] == expected


def test_the_public_holidays_of_2025(year_2025: pa.Table) -> None:
    # Easter was on 20 April. Christmas Eve is a public holiday by the act of 6 December 2024, from 2025 on.
    assert [f"{row['date']:%m-%d}" for row in year_2025.to_pylist() if row["is_holiday"]] == [
        "01-01",
        "01-06",
        "04-20",
        "04-21",
        "05-01",
        "05-03",
        "06-08",
        "06-19",
        "08-15",
        "11-01",
        "11-11",
        "12-24",
        "12-25",
        "12-26",
    ]


def test_a_holiday_has_a_name_in_both_languages(year_2025: pa.Table) -> None:
    row = one(year_2025, date=dt.date(2025, 12, 24))
    assert (row["holiday_pl"], row["holiday_en"]) == ("Wigilia Bożego Narodzenia", "Christmas Eve")


def test_christmas_eve_was_no_holiday_before() -> None:
    found = public_holidays(2024, 2024)
    assert found.schema == HOLIDAY_SCHEMA
    assert found.num_rows == 13
    assert dt.date(2024, 12, 24) not in found.column("date").to_pylist()


def test_holidays_cover_both_years_named() -> None:
    years = {date.year for date in public_holidays(2023, 2026).column("date").to_pylist()}
    assert years == {2023, 2024, 2025, 2026}

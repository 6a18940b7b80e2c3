"""Forecasts by persistence and by the same hour of the four weeks before, held against what came."""

import datetime as dt
from collections.abc import Callable, Collection
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from wrm_pipeline.marts.catalogue import catalogue
from wrm_pipeline.marts.engine import prepare, whole_tables
from wrm_pipeline_tests.fixtures.marts import KEY, build_day, enhanced, one, station

# A Wednesday. No clock changes in the five weeks before.
NEWEST = dt.date(2025, 6, 18)
MIDNIGHT = dt.datetime.combine(NEWEST, dt.time(), dt.UTC)
TESTS_FROM = MIDNIGHT - dt.timedelta(days=7)
# 14:05 in Wrocław.
NOW = MIDNIGHT + dt.timedelta(hours=12, minutes=5)
CITY = ZoneInfo("Europe/Warsaw")
NAME = "mart_forecast_baseline"

Bikes = Callable[[dt.datetime], int | None]


def quarters(
    bikes: Bikes, first: dt.datetime, station_id: str = "15001", *, now: dt.datetime = NOW
) -> list[dict[str, Any]]:
    """A station's quarter hours from some time to the newest one; None is unobserved."""
    first = first.replace(minute=0)
    count = int((now - first).total_seconds()) // 900 + 1
    times = [first + dt.timedelta(minutes=15 * number) for number in range(count)]
    return [
        {"station_id": station_id, "quarter_start": time, "bikes": seen}
        for time in times
        if (seen := bikes(time)) is not None
    ]


def forecasts(
    rows: Collection[dict[str, Any]], *latest: dict[str, Any], now: dt.datetime = NOW
) -> list[dict[str, Any]]:
    """The mart of some quarter hours and stations' newest rows."""
    import duckdb

    states = build_day(enhanced(*(latest or [station("15001", now)])), now.date(), only={"state_station"})
    with duckdb.connect() as connection:
        prepare(connection, KEY)
        schema = catalogue()["fct_station_quarter"].schema
        connection.register("stored_fct_station_quarter", pa.Table.from_pylist(list(rows), schema=schema))
        tables = whole_tables(
            connection,
            states,
            stored=lambda name: f"stored_{name}",
            first_day=now.date() - dt.timedelta(days=40),
            newest_day=now.date(),
            newest_snapshot_at=now,
            only={NAME},
        )
    listed: list[dict[str, Any]] = tables[NAME].to_pylist()
    return listed


def errors(rows: list[dict[str, Any]], method: str, station_id: str = "15001") -> dict[int, tuple[Any, ...]]:
    """Tests, mae, rmse and skill by horizon."""
    return {
        row["horizon_min"]: (row["tests"], row["mae"], row["rmse"], row["skill"])
        for row in rows
        if (row["method"], row["station_id"]) == (method, station_id)
    }


def weeks_before(time: dt.datetime) -> int:
    """Count the weeks from a time to the week that is tested; 0 in it and after it."""
    return max(0, -((time - TESTS_FROM) // dt.timedelta(days=7)))


FIVE_WEEKS_AGO = TESTS_FROM - dt.timedelta(days=28)
# Seven days of 96 quarter hours.
ALL = 672


def test_a_series_that_repeats_every_week_is_known_to_the_seasonal_forecast() -> None:
    # 0 and 1 bike in turn by the hour, constant in each: an hour ahead is always the other number, half an hour ahead
    # for two of four quarters, a quarter of an hour ahead for one of four.
    found = forecasts(quarters(lambda time: time.hour % 2, FIVE_WEEKS_AGO))
    assert errors(found, "persistence") == {
        15: (ALL, 0.25, 0.5, 0.0),
        30: (ALL, 0.5, 0.7071, 0.0),
        60: (ALL, 1.0, 1.0, 0.0),
    }
    assert errors(found, "seasonal_naive") == dict.fromkeys((15, 30, 60), (ALL, 0.0, 0.0, 1.0))


def test_nothing_can_be_better_than_persistence_at_a_station_that_never_changes() -> None:
    found = forecasts(quarters(lambda _: 4, FIVE_WEEKS_AGO))
    for method in ("persistence", "seasonal_naive"):
        assert errors(found, method) == dict.fromkeys((15, 30, 60), (ALL, 0.0, 0.0, None))


def test_the_seasonal_forecast_is_the_mean_of_four_weeks_and_knows_nothing_of_the_week_tested() -> None:
    # 8, 4, 0 and 0 bikes in the four weeks before, 99 in the fifth; 5 in the week tested. The mean is 3, two off.
    # Of the last hour's targets one, two and four lie past midnight: there the weeks before have 5, 8, 4 and 0, the
    # mean is 4.25, and 0.75 off. So (671 x 2 + 0.75) / 672, (670 x 2 + 2 x 0.75) / 672, (668 x 2 + 4 x 0.75) / 672.
    bikes = {0: 5, 1: 8, 2: 4, 3: 0, 4: 0, 5: 99}
    found = forecasts(quarters(lambda time: bikes[weeks_before(time)], FIVE_WEEKS_AGO - dt.timedelta(days=7)))
    assert errors(found, "seasonal_naive") == {
        15: (ALL, 1.9981, 1.9987, None),
        30: (ALL, 1.9963, 1.9974, None),
        60: (ALL, 1.9926, 1.9949, None),
    }
    assert errors(found, "persistence") == dict.fromkeys((15, 30, 60), (ALL, 0.0, 0.0, None))


def test_weeks_that_were_not_observed_are_not_in_the_mean() -> None:
    bikes = {0: 5, 1: None, 2: 4, 3: None, 4: 2}
    found = forecasts(quarters(lambda time: bikes[weeks_before(time)], FIVE_WEEKS_AGO))
    # (4 + 2) / 2 = 3.
    assert errors(found, "seasonal_naive")[15][1] == pytest.approx(2, abs=0.01)


def test_every_quarter_hour_weighs_the_same_in_the_mean() -> None:
    # The newest of the four weeks has four quarters with 4 bikes in each hour, the others one with 0: 16 / 7.
    def bikes(time: dt.datetime) -> int | None:
        return 4 if weeks_before(time) == 0 else 0 if time.minute == 0 else None

    row = one(forecasts(quarters(bikes, FIVE_WEEKS_AGO)), station_id="15001", horizon_min=60, method="seasonal_naive")
    assert row["forecast_bikes"] == 2.2857


@pytest.mark.parametrize("newest", [dt.date(2025, 4, 2), dt.date(2025, 10, 29), dt.date(2025, 11, 3)])
def test_the_hour_is_that_of_the_citys_clock_across_its_changes(newest: dt.date) -> None:
    # On 30 March and 26 October: inside the week tested, and just before it. By UTC every hour would be one off.
    # Only the fourth week before has history.
    now = dt.datetime.combine(newest, dt.time(12, 5), dt.UTC)
    tests_from = dt.datetime.combine(newest - dt.timedelta(days=7), dt.time(), CITY)

    def bikes(time: dt.datetime) -> int | None:
        local = time.astimezone(CITY)
        is_observed = local >= tests_from or local.date() < newest - dt.timedelta(days=28)
        return local.hour % 2 if is_observed else None

    found = forecasts(quarters(bikes, now - dt.timedelta(days=36), now=now), now=now)
    assert {found[1:] for found in errors(found, "seasonal_naive").values()} == {(0.0, 0.0, 1.0)}
    assert errors(found, "seasonal_naive")[15][0] == ALL


def test_both_methods_are_tested_where_both_and_the_truth_exist() -> None:
    gone = TESTS_FROM + dt.timedelta(days=3, hours=5)
    found = forecasts(quarters(lambda time: None if time == gone else time.hour % 2, FIVE_WEEKS_AGO))
    for method in ("persistence", "seasonal_naive"):
        # It is missing once as an origin and once as a truth.
        assert {horizon: found[0] for horizon, found in errors(found, method).items()} == dict.fromkeys(
            (15, 30, 60), ALL - 2
        )


def test_the_row_for_all_takes_every_test_of_every_station() -> None:
    steady = quarters(lambda _: 4, FIVE_WEEKS_AGO)
    lively = quarters(lambda time: time.hour % 2 * 3, FIVE_WEEKS_AGO, "15002")
    found = forecasts([*steady, *lively], station("15001", NOW), station("15002", NOW))
    # An hour ahead: 0 and 3 off, so 1.5 off, and the root of 9 / 2.
    assert errors(found, "persistence", "*")[60] == (2 * ALL, 1.5, 2.1213, 0.0)
    assert errors(found, "seasonal_naive", "*")[60] == (2 * ALL, 0.0, 0.0, 1.0)


def test_tests_lie_in_the_seven_days_before_the_newest_day() -> None:
    row = one(forecasts(quarters(lambda _: 4, FIVE_WEEKS_AGO)), station_id="*", horizon_min=15, method="persistence")
    assert (row["test_start"], row["test_end"]) == (TESTS_FROM, MIDNIGHT - dt.timedelta(minutes=15))


def test_the_forecast_is_made_from_the_newest_snapshot() -> None:
    found = forecasts(quarters(lambda time: time.hour % 2, FIVE_WEEKS_AGO), station("15001", NOW, bikes=9))
    rows = {
        (row["method"], row["horizon_min"]): (row["made_at"], row["for_time"], row["forecast_bikes"])
        for row in found
        if row["station_id"] == "15001"
    }
    later = {horizon: NOW + dt.timedelta(minutes=horizon) for horizon in (15, 30, 60)}
    # 12:05 UTC and an hour is 13:05: an odd hour.
    assert rows == {
        ("persistence", 15): (NOW, later[15], 9.0),
        ("persistence", 30): (NOW, later[30], 9.0),
        ("persistence", 60): (NOW, later[60], 9.0),
        ("seasonal_naive", 15): (NOW, later[15], 0.0),
        ("seasonal_naive", 30): (NOW, later[30], 0.0),
        ("seasonal_naive", 60): (NOW, later[60], 1.0),
    }
    assert {row["forecast_bikes"] for row in found if row["station_id"] == "*"} == {None}


@pytest.mark.parametrize(("minutes", "expected"), [(60, 5.0), (65, None)])
def test_of_a_station_unseen_for_over_an_hour_persistence_knows_nothing(minutes: int, expected: float | None) -> None:
    found = forecasts([], station("15001", NOW - dt.timedelta(minutes=minutes)))
    assert one(found, station_id="15001", horizon_min=15, method="persistence")["forecast_bikes"] == expected


@pytest.mark.parametrize("days", [0, 1, 7])
def test_with_too_little_history_there_are_no_tests_and_no_error(days: int) -> None:
    found = forecasts(quarters(lambda time: time.hour % 2, NOW - dt.timedelta(days=days)) if days else [])
    assert [(row["station_id"], row["horizon_min"], row["method"]) for row in found] == [
        (station_id, horizon, method)
        for station_id in ("*", "15001")
        for horizon in (15, 30, 60)
        for method in ("persistence", "seasonal_naive")
    ]
    for row in found:
        assert row["tests"] == 0
        assert [row[name] for name in ("mae", "rmse", "skill", "test_start", "test_end")] == [None] * 5


def test_an_absurd_number_of_bikes_is_no_error() -> None:
    found = forecasts(quarters(lambda time: time.hour % 2 * 999_999_999, FIVE_WEEKS_AGO))
    assert errors(found, "persistence")[60] == (ALL, 999_999_999.0, 999_999_999.0, 0.0)

"""Running the tables' SQL: any rows that enhanced may hold can be counted, and threads change no byte."""

import datetime as dt
from dataclasses import replace

import pyarrow as pa
import pytest

from wrm_pipeline.lake.day_object import parquet_bytes
from wrm_pipeline.marts.catalogue import Grain, MartDefinitionError, catalogue
from wrm_pipeline.marts.engine import run
from wrm_pipeline_tests.fixtures.dagster import DAY, at
from wrm_pipeline_tests.fixtures.marts import bike, build_day, build_days, build_tables, enhanced, one, station

NEXT = DAY + dt.timedelta(days=1)
MOST = 2**31 - 1


def a_day(day: dt.date) -> pa.Table:
    """Some stations and bikes whose counts and places change."""
    times = [at(hour, minute, day=day) for hour in range(5, 9) for minute in range(0, 60, 5)]
    rows = []
    for number, time in enumerate(times):
        rows += [
            station(f"15{which:03d}", time, bikes=(number * which) % 19, lat=51.05 + which / 300) for which in range(30)
        ]
        rows += [
            bike(f"fb6{which:05d}", time, lat=51.08 + (number // 7 * which) % 11 / 400, battery=which % 101)
            for which in range(60)
            if (number + which) % 9
        ]
    return enhanced(*rows)


def test_threads_change_no_byte() -> None:
    days = {day: a_day(day) for day in (DAY, NEXT)}

    built = [build_days(days, threads=threads) for threads in (1, 4)]

    for day in days:
        for name in built[0][day]:
            one_thread, four = (parquet_bytes(each[day][name], {}) for each in built)
            assert one_thread == four, name


def test_the_greatest_numbers_that_a_contract_admits_stop_no_build() -> None:
    times = [at(10, minute) for minute in range(0, 60, 2)]
    rows = [
        station("15001", time, bikes=MOST if number % 2 else 0, total_docks=MOST, spaces=MOST)
        for number, time in enumerate(times)
    ]
    others = [station(f"1500{which}", time, bikes=MOST, total_docks=0) for which in (2, 3) for time in times]

    tables = build_tables({DAY: build_day(enhanced(*rows, *others))})

    assert one(tables["fct_station_hour"], station_id="15001", hour_start=at(10))["inflow"] == 15 * MOST
    assert one(tables["mv_daily_aggregates"], station_id="15001")["outflow"] == 14 * MOST


@pytest.mark.parametrize("rows", [enhanced(), enhanced(station("15001", at(10))), enhanced(bike("fb600001", at(10)))])
def test_a_day_with_nothing_or_one_row_has_all_tables(rows: pa.Table) -> None:
    tables = build_tables({DAY: build_day(rows, DAY)})

    assert set(tables) >= {mart.name for mart in catalogue().values() if mart.grain in (Grain.DAY, Grain.TABLE)}


def test_sql_that_gives_other_columns_than_its_spec_is_named() -> None:

    import duckdb

    mart = replace(catalogue()["dim_date"], sql="SELECT 1 AS date, 'x' AS colour")

    with (
        duckdb.connect() as connection,
        pytest.raises(MartDefinitionError, match=r"dim_date\.sql: date is INTEGER, not DATE; .*colour"),
    ):
        run(connection, mart)

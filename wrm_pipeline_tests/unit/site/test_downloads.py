"""Downloads: the tables as Parquet and CSV, CSV that no spreadsheet runs, and a list that says what is in each file."""

import csv
import datetime as dt
import hashlib
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wrm_pipeline.marts.catalogue import catalogue
from wrm_pipeline.site.downloads import downloads
from wrm_pipeline_tests.fixtures.site import database_of

NEWEST = dt.datetime(2025, 10, 28, 14, 25, tzinfo=dt.UTC)
TABLES = {
    "dim_date",
    "dim_station",
    "fct_bike_move",
    "fct_fleet_day",
    "fct_station_hour",
    "fct_station_outage",
    "mart_data_quality_day",
    "mart_density_grid",
    "mart_station_reliability",
    "mart_system_hour",
    "mv_daily_aggregates",
    "mv_station_latest",
}


def files_of(newest: dt.datetime | None = None, **tables: list[dict[str, Any]]) -> dict[str, bytes]:
    with database_of(newest, **tables) as connection:
        return downloads(connection)


def csv_of(files: dict[str, bytes], table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[f"downloads/{table}.csv"].decode(), newline="")))


def parquet_of(files: dict[str, bytes], table: str) -> pa.Table:
    return pq.ParquetFile(pa.BufferReader(files[f"downloads/{table}.parquet"])).read()


def latest(name: str, **more: Any) -> dict[str, Any]:
    return {"station_id": "15001", "name": name, "bikes": -3, "quality_flags": [], "date": NEWEST.date(), **more}


def test_each_table_comes_in_both_formats_even_without_rows() -> None:
    files = files_of()

    names = {f"downloads/{table}.{kind}" for table in TABLES for kind in ("csv", "parquet")}
    assert set(files) == {*names, "data/downloads.json"}
    for table in TABLES - {"mv_station_latest"}:
        assert parquet_of(files, table).schema.equals(catalogue()[table].schema), table
        assert files[f"downloads/{table}.csv"].count(b"\n") == 1


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_text_that_a_spreadsheet_would_run_is_made_inert(first: str) -> None:
    files = files_of(NEWEST, mv_station_latest=[latest(f"{first}cmd|' /C calc'!A0")])

    (row,) = csv_of(files, "mv_station_latest")
    assert row["name"] == f"'{first}cmd|' /C calc'!A0"
    assert row["bikes"] == "-3"
    assert parquet_of(files, "mv_station_latest")["name"].to_pylist() == [f"{first}cmd|' /C calc'!A0"]


def test_other_texts_stay_as_they_are() -> None:
    name = '"Dworzec Główny", południe & a\n=b, <script>'

    assert csv_of(files_of(NEWEST, mv_station_latest=[latest(name)]), "mv_station_latest")[0]["name"] == name


def test_times_are_utc_and_lists_are_joined() -> None:
    row = latest(
        "A",
        quality_flags=["overfull", "moved"],
        file_timestamp=NEWEST,
        timestamp=NEWEST + dt.timedelta(microseconds=947606),
        in_service_area=True,
    )

    (shown,) = csv_of(files_of(NEWEST, mv_station_latest=[row]), "mv_station_latest")

    assert shown["file_timestamp"] == "2025-10-28T14:25:00Z"
    assert shown["timestamp"] == "2025-10-28T14:25:00.947606Z"
    assert (shown["quality_flags"], shown["in_service_area"], shown["fill"]) == ("overfull|moved", "true", "")


def test_where_a_row_came_from_is_left_out() -> None:
    files = files_of(NEWEST, mv_station_latest=[latest("A", s3_source_key="bike-data/raw/secret.txt")])

    assert "s3_source_key" not in parquet_of(files, "mv_station_latest").column_names
    assert not any(b"secret" in body for body in files.values())


def test_large_tables_go_back_seven_local_days_and_rows_come_in_the_order_of_the_key() -> None:
    days = [dt.date(2025, 10, day) for day in (28, 22, 21)]
    start = dt.datetime(2025, 10, 22, 8, tzinfo=dt.UTC)
    hours = [{"station_id": str(number), "hour_start": start, "local_date": day} for number, day in enumerate(days)]
    files = files_of(NEWEST, fct_station_hour=list(reversed(hours)))

    assert parquet_of(files, "fct_station_hour")["station_id"].to_pylist() == ["0", "1"]


def test_the_list_says_what_each_file_is() -> None:
    dates = [dt.date(2025, 10, day) for day in (27, 28)]
    files = files_of(NEWEST, fct_fleet_day=[{"local_date": date} for date in dates], dim_station=[{"station_id": "1"}])

    listed = json.loads(files["data/downloads.json"])["files"]

    entries = [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]
    assert [(entry["mart"], entry["format"]) for entry in entries] == sorted(
        (table, kind) for table in TABLES for kind in ("csv", "parquet")
    )
    for entry in entries:
        body = files[entry["path"]]
        assert (entry["bytes"], entry["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    by_path = {entry["path"]: entry for entry in entries}
    fleet, stations = by_path["downloads/fct_fleet_day.csv"], by_path["downloads/dim_station.parquet"]
    assert (fleet["rows"], fleet["from"], fleet["to"]) == (2, "2025-10-27", "2025-10-28")
    assert (stations["rows"], stations["from"], stations["to"]) == (1, None, None)


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = [latest("x", station_id=str(number)) for number in range(50)]

    assert files_of(NEWEST, mv_station_latest=rows) == files_of(NEWEST, mv_station_latest=rows[::-1])

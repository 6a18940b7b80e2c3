"""The site's data: what each file shows of the marts and what it leaves out; the same marts give the same bytes."""

import datetime as dt
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from wrm_pipeline.marts.catalogue import catalogue
from wrm_pipeline.marts.database import open_database
from wrm_pipeline.site.downloads import download_queries
from wrm_pipeline.site.export import LakeFacts, export, queries
from wrm_pipeline_tests.fixtures.site import (
    GAP_DAYS_AGO,
    GAP_HOURS,
    HOSTILE_NAMES,
    NEWEST,
    database_of,
    sample_database,
)

HOUR = 3600
FIXED = {
    f"{name}.json" for name in ("meta", "now", "forecast", "stations", "reliability", "fleet", "density", "quality")
}


def at(hour: int, minute: int = 0, day: str = "2025-10-28") -> dt.datetime:
    return dt.datetime.fromisoformat(day).replace(hour=hour, minute=minute, tzinfo=dt.UTC)


def exported(path: Path, *, threads: int = 2, facts: LakeFacts | None = None) -> dict[str, bytes]:
    with open_database(path) as connection:
        connection.execute(f"SET threads = {threads}")
        return export(connection, interval_s=300, code_version="1", facts=facts or LakeFacts())


def parsed(files: dict[str, bytes]) -> dict[str, Any]:
    return {name: json.loads(body) for name, body in files.items()}


def site_of(newest: dt.datetime | None = None, **tables: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data made of some rows."""
    with database_of(newest, **tables) as connection:
        return parsed(export(connection, interval_s=300, code_version="1", facts=LakeFacts()))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_database(tmp_path_factory.mktemp("sample") / "wrm.duckdb")


@pytest.fixture(scope="module")
def site(sample: Path) -> dict[str, Any]:
    return parsed(exported(sample))


def station_hour(start: dt.datetime, station: str = "1", **more: Any) -> dict[str, Any]:
    """A station's hour: observed whole, five bikes, unless said otherwise."""
    local = start + dt.timedelta(hours=1)  # winter
    return {
        "station_id": station,
        "hour_start": start,
        "hour_end": start + dt.timedelta(hours=1),
        "local_date": local.date(),
        "local_hour": local.hour,
        "minutes_observed": 60.0,
        **dict.fromkeys(("bikes_p10", "bikes_p50", "bikes_p90", "bikes_low", "bikes_high", "total_docks"), 5),
        **dict.fromkeys(("minutes_empty", "minutes_full", "minutes_service"), 0.0),
        "bikes_mean": 5.0,
        **more,
    }


def version(station: str = "1", number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "station_key": f"{station}-{number}",
        "station_id": station,
        "version": number,
        "name": f"Station {station}",
        "lat": 51.1,
        "lon": 17.0,
        "total_docks": 10,
        "valid_from": at(0),
        "is_current": True,
        "change": "first",
        "reused": False,
        "last_seen_at": at(14),
        **more,
    }


def window(start: str, end: str, station: str = "1") -> list[dict[str, Any]]:
    dates = {"window_start": dt.date.fromisoformat(start), "window_end": dt.date.fromisoformat(end)}
    return [{"station_id": station, "day_class": "workday", "local_hour": 8, "days": 1, **dates}]


def columns_have_one_length(value: Any) -> bool:
    """Tell whether in every object that holds nothing but lists these are of one length."""
    if isinstance(value, list):
        return all(map(columns_have_one_length, value))
    if not isinstance(value, dict):
        return True
    lists = value and all(isinstance(each, list) for each in value.values())
    return (not lists or len({len(each) for each in value.values()}) == 1) and all(
        map(columns_have_one_length, value.values())
    )


# --- all files -------------------------------------------------------------------------------------------------------


def test_there_is_each_fixed_file_and_one_for_each_station(site: dict[str, Any]) -> None:
    assert set(site) == FIXED | {f"stations/{15001 + number}.json" for number in range(20)}
    assert all(map(columns_have_one_length, site.values()))


def test_the_same_marts_give_the_same_bytes_on_any_number_of_threads(sample: Path) -> None:
    assert exported(sample, threads=1) == exported(sample, threads=4)


def test_without_data_every_fixed_file_is_there_and_empty() -> None:
    site = site_of()

    assert set(site) == FIXED
    assert all(map(columns_have_one_length, site.values()))
    meta = site["meta.json"]
    assert (meta["newest_snapshot_at"], meta["first_utc_day"], meta["days"], meta["stations"]) == (None, None, 0, 0)
    assert site["now.json"]["stations"]["id"] == []
    assert (site["reliability.json"]["window"], site["fleet.json"]["window"]) == (None, None)
    assert site["density.json"]["outside"] == {"cells": 0, "bikes": 0}
    assert site["fleet.json"]["moves"]["count"] == [0, 0, 0, 0, 0]


def test_files_are_compact_and_have_no_value_that_json_lacks(sample: Path) -> None:
    for body in exported(sample).values():
        document = json.loads(body, parse_constant=pytest.fail)
        assert len(body) <= len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def test_no_query_reads_what_is_not_published() -> None:
    internal = [mart.name for mart in catalogue().values() if not mart.published]
    for name, query in {**queries(), **download_queries()}.items():
        assert not re.search(rf"\b({'|'.join(internal)})\b", query), name


def test_hostile_names_are_text_and_long_ones_are_cut(site: dict[str, Any]) -> None:
    names = site["stations.json"]["stations"]["name"]

    assert names[:9] == list(HOSTILE_NAMES[:9])
    assert names[9] == "x" * 199 + "…"
    assert site["stations/15010.json"]["name"] == names[9]


def test_meta_names_the_source(site: dict[str, Any]) -> None:
    assert site["meta.json"] == {
        "schema": 1,
        "time_zone": "Europe/Warsaw",
        "interval_s": 300,
        "newest_snapshot_at": int(NEWEST.timestamp()),
        "first_snapshot_at": int(at(0, day="2025-08-30").timestamp()),
        "first_utc_day": "2025-08-30",
        "newest_utc_day": "2025-10-28",
        "days": 60,
        "stations": 20,
        "code_version": "1",
    }


# --- now -------------------------------------------------------------------------------------------------------------


def test_now_shows_each_station_and_since_when_it_is_empty(site: dict[str, Any]) -> None:
    stations = site["now.json"]["stations"]

    assert stations["id"] == [str(15001 + number) for number in range(20)]
    assert stations["since"][1] == int(NEWEST.timestamp()) - 21 * 60
    assert (stations["since_known"][1], stations["since_known"][7]) == (False, False)
    assert (stations["since"][0], stations["since_known"][0]) == (None, None)
    assert (stations["in_newest"][18], stations["in_newest"][0]) == (False, True)


def test_bikes_outside_the_service_area_are_a_number_without_places(site: dict[str, Any]) -> None:
    assert site["now.json"]["off_zone"] == 11
    assert len(site["now.json"]["free"]["lat"]) == 40
    assert max(site["now.json"]["free"]["lat"]) < 52


def test_stations_are_in_the_order_of_their_numbers() -> None:
    rows = [
        {"station_id": name, "name": name, "quality_flags": [], "file_timestamp": at(14)}
        for name in ("9", "100", "x", "10")
    ]
    site = site_of(at(14), mv_station_latest=rows)

    assert site["now.json"]["stations"]["id"] == ["9", "10", "100", "x"]


def test_an_id_that_is_no_number_gets_no_file() -> None:
    rows = [version(name) for name in ("1", "../x", "1/2", "9" * 21)]
    site = site_of(at(14), dim_station=rows)

    assert set(site) - FIXED == {"stations/1.json"}
    assert site["stations.json"]["stations"]["id"] == ["1"]


# --- stations --------------------------------------------------------------------------------------------------------


def test_the_running_hour_is_left_out_and_a_gap_breaks_the_line() -> None:
    hours = [station_hour(at(hour)) for hour in (7, 8, 9, 11, 12)]
    unseen = station_hour(at(10), minutes_observed=0.0)
    site = site_of(at(12, 25), dim_station=[version()], fct_station_hour=[*hours, unseen])

    station = site["stations/1.json"]

    times = [int(at(hour).timestamp()) for hour in (7, 8, 9, 10, 11)]
    assert (station["hours"]["t"], station["hours"]["p50"]) == (times, [5, 5, 5, None, 5])
    assert station["all"] == {
        "points": 4,
        "shown": 4,
        "columns": {"t": times, **{name: [5, 5, 5, None, 5] for name in ("p10", "p50", "p90")}},
    }


def test_hours_go_back_14_local_days() -> None:
    """The city's 15 October begins at 22:00 UTC of the 14th."""
    hours = [
        station_hour(at(hour, day="2025-10-14"), local_date=date)
        for hour, date in ((21, dt.date(2025, 10, 14)), (22, dt.date(2025, 10, 15)), (23, dt.date(2025, 10, 15)))
    ]
    site = site_of(at(12), dim_station=[version()], fct_station_hour=hours)

    station = site["stations/1.json"]

    assert station["hours"]["t"] == [int(at(hour, day="2025-10-14").timestamp()) for hour in (22, 23)]
    assert station["all"]["points"] == 3


def test_the_day_of_25_hours_and_the_gap_of_six_are_what_they_are(site: dict[str, Any]) -> None:
    times = site["stations/15001.json"]["hours"]["t"]
    values = site["stations/15001.json"]["hours"]["mean"]

    gap = int((at(GAP_HOURS[0]) - dt.timedelta(days=GAP_DAYS_AGO)).timestamp())
    assert [time for time, value in zip(times, values, strict=True) if value is None] == [gap]
    steps = {later - earlier for earlier, later in pairwise(times)}
    assert steps == {HOUR, 6 * HOUR}
    # 13 whole local days, one of them of 25 hours, less the gap, and 14 hours of the running one; and the row of nulls.
    assert len(times) == 13 * 24 + 1 - 6 + 15 + 1


def test_a_long_history_is_sampled_and_keeps_extremes_and_the_gap(site: dict[str, Any], sample: Path) -> None:
    with open_database(sample) as connection:
        truth = connection.execute(
            "SELECT station_id, count(*), min(bikes_p10), max(bikes_p90) FROM fct_station_hour "
            "WHERE hour_end <= $1 GROUP BY station_id",
            [NEWEST],
        ).fetchall()
    for station, hours, low, high in truth:
        history = site[f"stations/{station}.json"]["all"]
        columns = history["columns"]
        assert history["points"] == hours > 1000 >= history["shown"] > 500
        assert columns["p50"].count(None) == 1
        assert len(columns["t"]) == history["shown"] + 1
        assert columns["t"] == sorted(set(columns["t"]))
        assert min(value for value in columns["p10"] if value is not None) == low
        assert max(value for value in columns["p90"] if value is not None) == high
        place = columns["p50"].index(None)
        assert columns["t"][place] - columns["t"][place - 1] == HOUR
        assert columns["t"][place + 1] - columns["t"][place] == 6 * HOUR


def test_a_station_tells_its_versions_newest_first_and_its_former_names() -> None:
    rows = [
        version("1", 1, name="Old", is_current=False, valid_to=at(5), last_seen_at=at(5)),
        version("1", 2, name="New", previous_name="Old", valid_from=at(5), change="renamed", total_docks=12),
    ]
    site = site_of(at(14), dim_station=rows)

    assert site["stations.json"]["stations"]["previous_names"] == [["Old"]]
    station = site["stations/1.json"]
    assert (station["name"], station["docks"], station["is_current"]) == ("New", 12, True)
    assert station["first_seen_at"] == int(at(0).timestamp())
    assert [each["key"] for each in station["versions"]] == ["1-2", "1-1"]
    assert station["versions"][1]["valid_to"] == int(at(5).timestamp())


def test_a_station_lists_its_newest_hundred_outages_and_counts_all(site: dict[str, Any]) -> None:
    station = site["stations/15002.json"]
    outages = station["outages"]

    assert len(outages["kind"]) == 100 < station["outages_total"]
    assert outages["started_at"] == sorted(outages["started_at"], reverse=True)
    assert outages["is_open"][0] is True


# --- reliability -----------------------------------------------------------------------------------------------------


def test_a_holiday_counts_as_a_sunday_and_shares_are_weighted_by_minutes() -> None:
    """11 November 2025 is a Tuesday and a public holiday."""
    day = {"date": dt.date(2025, 11, 11), "weekday": 2, "is_holiday": True}
    hours = [
        station_hour(at(8, day="2025-11-11"), minutes_observed=60.0, minutes_empty=30.0),
        station_hour(at(8, day="2025-11-11"), "2", minutes_observed=20.0, minutes_empty=0.0, minutes_service=20.0),
    ]
    site = site_of(
        at(14, day="2025-11-11"),
        dim_date=[day],
        fct_station_hour=hours,
        mart_station_reliability=window("2025-10-15", "2025-11-11"),
    )

    document = site["reliability.json"]

    assert document["window"] == {"start": "2025-10-15", "end": "2025-11-11", "days": 28}
    assert document["week"] == {
        "weekday": [7],
        "hour": [9],
        "days": [1],
        "minutes": [80],
        "empty": [0.375],
        "full": [0],
        "service": [0.25],
    }


def test_worst_stations_come_first_with_their_longest_episode_in_the_window() -> None:
    def outage(station: str, end: dt.datetime, minutes: float) -> dict[str, Any]:
        start = end - dt.timedelta(minutes=minutes)
        times = {"started_at": start, "ended_at": end, "local_date": start.date(), "minutes": minutes}
        return {"station_id": station, "kind": "empty", "is_open": False, **times}

    def day(station: str, date: str, minutes: float) -> dict[str, Any]:
        return {
            "local_date": dt.date.fromisoformat(date),
            "station_id": station,
            "penalty_minutes": minutes,
            "outages_empty": 1,
            "outages_full": 2,
        }

    site = site_of(
        at(14),
        dim_station=[version("1"), version("2"), version("3")],
        fct_station_hour=[station_hour(at(8), "1"), station_hour(at(8), "2")],
        mv_daily_aggregates=[
            day("1", "2025-10-20", 5),
            day("2", "2025-10-20", 7.5),
            day("2", "2025-10-21", 1),
            day("1", "2025-09-30", 99),
        ],
        # The window begins at 22:00 UTC of 30 September: one episode ends before it, one reaches into it.
        fct_station_outage=[outage("1", at(22, day="2025-09-30"), 700), outage("1", at(23, day="2025-09-30"), 90)],
        mart_station_reliability=window("2025-10-01", "2025-10-28"),
    )

    stations = site["reliability.json"]["stations"]

    assert stations["id"] == ["2", "1"]
    assert stations["penalty_minutes"] == [8.5, 5]
    assert (stations["outages_empty"], stations["outages_full"]) == ([2, 1], [4, 2])
    assert stations["longest_minutes"] == [None, 90]


def test_episodes_are_the_open_ones_and_then_the_long_ones_of_a_week() -> None:
    def outage(station: str, day: str, minutes: float, *, is_open: bool = False) -> dict[str, Any]:
        start = at(8, day=day)
        times = {"started_at": start, "ended_at": start + dt.timedelta(minutes=minutes), "local_date": start.date()}
        return {"station_id": station, "kind": "full", "minutes": minutes, "is_open": is_open, **times}

    site = site_of(
        at(14),
        dim_station=[version("1")],
        fct_station_outage=[
            outage("1", "2025-10-22", 30),
            outage("2", "2025-10-28", 300),
            outage("3", "2025-10-28", 29.9),
            outage("4", "2025-10-21", 500),
            outage("5", "2025-09-01", 10, is_open=True),
        ],
    )

    document = site["reliability.json"]

    assert document["episodes"]["id"] == ["5", "2", "1"]
    assert document["episodes"]["name"] == ["5", "2", "Station 1"]
    assert document["episodes_total"] == 4


# --- fleet, density, quality, forecast -------------------------------------------------------------------------------


def test_the_typical_day_leaves_out_hours_that_were_hardly_seen() -> None:
    def hour(day: str, inflow: int, minutes: float = 60.0) -> dict[str, Any]:
        start = at(8, day=day)
        date = start.date()
        times = {"hour_start": start, "hour_end": start + dt.timedelta(hours=1), "local_date": date, "local_hour": 9}
        return {**times, "minutes_observed": minutes, "inflow": inflow, "outflow": 1, "candidate_trips": 2}

    dates = [
        {"date": dt.date(2025, 10, number), "day_class": "workday", "weekday": 1, "is_holiday": False}
        for number in range(1, 29)
    ]
    site = site_of(
        at(14),
        dim_date=dates,
        mart_system_hour=[hour("2025-10-26", 10), hour("2025-10-27", 15), hour("2025-10-28", 100, 44.9)],
    )

    assert site["fleet.json"]["profile"] == {
        "day_class": ["workday"],
        "hour": [9],
        "hours": [2],
        "inflow": [12.5],
        "outflow": [1],
        "candidate_trips": [2],
    }


def test_moves_are_of_28_days_and_in_a_fixed_order() -> None:
    def move(number: int, kind: str, day: str, minutes: float) -> dict[str, Any]:
        date = dt.date.fromisoformat(day)
        return {"move_id": str(number), "kind": kind, "local_date": date, "minutes": minutes}

    site = site_of(
        at(14),
        fct_bike_move=[
            move(1, "aborted", "2025-10-28", 10),
            move(2, "aborted", "2025-10-01", 20),
            move(3, "aborted", "2025-09-30", 900),
        ],
    )

    moves = site["fleet.json"]["moves"]

    assert moves["kind"] == ["candidate_trip", "aborted", "jitter", "reassignment", "off_zone"]
    assert moves["count"] == [0, 2, 0, 0, 0]
    assert moves["minutes_p50"] == [None, 15, None, None, None]


def test_the_grid_is_of_the_newest_day_and_what_lies_outside_the_city_is_counted(site: dict[str, Any]) -> None:
    density = site["density.json"]

    assert density["utc_date"] == "2025-10-28"
    assert max(density["cells"]["lat"]) < 51.2
    # Of 200 cells one lies elsewhere, and 14 of each 15 have a station or a bike, of the others a fifth has neither.
    assert len(density["cells"]["lat"]) == 199 - sum(i % 5 != 0 and i % 3 == 0 for i in range(200) if i != 7)
    assert density["outside"] == {"cells": 1, "bikes": 1}


def test_a_cell_of_the_grid_is_250_m_wide_and_high_in_the_city(site: dict[str, Any]) -> None:
    """A degree of latitude is 111.195 km on this sphere, and one of longitude 69.83 km at 51.1 N."""
    assert site["density.json"]["d_lat"] * 111_195 == pytest.approx(250, abs=0.1)
    assert site["density.json"]["d_lon"] * 69_827 == pytest.approx(250, abs=0.1)


def test_quality_has_each_day_with_its_flags_and_what_the_lake_says(sample: Path) -> None:
    facts = LakeFacts(letters={"rule": ["bikes"], "rows": [3], "newest_utc_date": ["2025-10-28"]})

    quality = parsed(exported(sample, facts=facts))["quality.json"]

    assert len(quality["days"]["utc_date"]) == 60
    assert {len(counts) for counts in quality["flags"].values()} == {60}
    assert quality["days"]["coverage"][-1 - GAP_DAYS_AGO] == 0.75
    assert quality["letters"]["rows"] == [3]
    assert (quality["checks"], quality["not_in_marts"]) == (None, None)


def test_forecasts_are_rounded_and_kept_by_station(site: dict[str, Any]) -> None:
    forecast = site["forecast.json"]

    assert forecast["made_at"] == int(NEWEST.timestamp())
    assert forecast["system"]["mae"] == [1.23] * 6
    assert len(forecast["stations"]) == 20
    assert forecast["stations"]["15001"]["horizon_min"] == [15, 15, 30, 30, 60, 60]

"""The recorded half hour, up to the published marts: depot bikes are counted apart, and no bike can be recognised.

Whoever knows a bike's id from the feed must find it nowhere in what is published: neither in a value nor in the bytes.
"""

import datetime as dt
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.marts import build_marts
from wrm_pipeline.layers.raw import keep_snapshot
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.marts.database import open_database
from wrm_pipeline.settings import Settings, StoreSettings, load_settings
from wrm_pipeline_tests.fixtures.dagster import environment_of
from wrm_pipeline_tests.fixtures.marts import one
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, recorded

WHO = Provenance("run-1", "wrm_stations_enhanced_data_all")
KEY = "0123456789abcdef0123456789abcdef"
NOON = dt.datetime(2025, 8, 20, 12, tzinfo=dt.UTC)
_WORD = re.compile(r"[0-9A-Za-z]+")


def recorded_bikes() -> dict[dt.datetime, dict[str, tuple[str, str]]]:
    """Return, of each snapshot, the place of each bike, taken from the text without the project's parser."""
    return {
        snapshot.time: {
            line.split(",", 1)[0]: (line.split(",")[3], line.split(",")[4])
            for line in snapshot.body.decode().splitlines()
            if line.startswith("fb")
        }
        for snapshot in recorded("replay_wroclaw")
    }


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    path = tmp_path / "wrm.duckdb"
    for name, value in environment_of(store_settings, WRM_PSEUDONYM_KEY=KEY, WRM_DUCKDB_PATH=str(path)).items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
def marts(lake: Lake, settings: Settings) -> dict[str, pa.Table]:
    """The published tables of the recorded half hour, as the DuckDB file has them; they lie in the lake too."""
    for snapshot in recorded("replay_wroclaw"):
        keep_snapshot(lake, FORMAT, snapshot.body, snapshot.time, WHO)
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, NOON.date(), WHO)
    build_marts(lake, CONTRACTS, settings)
    with open_database(settings.wrm_duckdb_path) as connection:
        return {mart.name: connection.table(mart.name).to_arrow_table() for mart in published()}


def values(rows: pa.Table) -> Iterable[Any]:
    """Yield each value of a table; lists value by value."""
    for column in rows.columns:
        for value in column.to_pylist():
            yield from value if isinstance(value, list) else [value]


def traces(rows: pa.Table, ids: set[str]) -> list[Any]:
    """Return the values in which an id stands as a word or as a number, with or without the letters before it."""
    numbers = {int(bike_id.removeprefix("fb")) for bike_id in ids}
    wanted = ids | {str(number) for number in numbers}

    def shows(value: Any) -> bool:
        if isinstance(value, bool) or value is None:
            return False
        if isinstance(value, int | float):
            return value in numbers
        # The fraction of a second has six digits like a bike; snapshots come at whole seconds.
        words = _WORD.findall(str(value))
        return not wanted.isdisjoint(words)

    return [value for value in values(rows) if shows(value)]


@pytest.mark.parametrize("value", ["fb604692", "BIKE 604692", "bike:604692|x", 604692, 604692.0, ["a", "fb604692"]])
def test_the_search_finds_an_id(value: Any) -> None:
    assert traces(pa.table({"a": [value]}), {"fb604692"})


@pytest.mark.parametrize("value", [51.604692, "fb604693", "1604692", "0a604692bcdef012", 604693, True, None])
def test_the_search_finds_nothing_else(value: Any) -> None:
    assert traces(pa.table({"a": [value]}), {"fb604692"}) == []


def test_no_bike_id_is_published(lake: Lake, settings: Settings, marts: dict[str, pa.Table]) -> None:
    ids = {bike_id for bikes in recorded_bikes().values() for bike_id in bikes}
    assert len(ids) > 170
    assert marts["fct_bike_move"].num_rows > 0
    assert marts["mv_free_bike_latest"].num_rows > 160

    for name, rows in marts.items():
        assert traces(rows, ids) == [], name

    objects = {info.key: lake.store.get(info.key).body for info in lake.store.list(lake.keys.marts_root)}
    assert {key.removeprefix(lake.keys.marts_root).split("/")[0] for key in objects} == set(marts)
    for key, body in objects.items():
        stored = pq.ParquetFile(pa.BufferReader(body))
        assert traces(stored.read(), ids) == [], key
        # Names, statistics and key-value metadata lie in the footer, which is not compressed.
        assert [bike_id for bike_id in ids if bike_id.encode() in body] == [], key
        assert b"BIKE" not in body, key
        assert not [bike_id for bike_id in ids if bike_id[2:].encode() in body], key

    # Also what is not published: anybody may be given the file. Its views on enhanced need the store's keys.
    with open_database(settings.wrm_duckdb_path) as connection:
        names = {name for (name,) in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()}
        assert set(marts) < names
        for name in sorted(names):
            assert traces(connection.table(name).to_arrow_table(), ids) == [], name


def test_the_depot_is_counted_apart(marts: dict[str, pa.Table]) -> None:
    """64 of about 172 bikes stand near Warsaw in each snapshot; one or two more just beyond the edge of the city."""
    bikes = recorded_bikes()
    inside = {
        time: sum(51 <= float(lat) <= 51.2 and 16.8 <= float(lon) <= 17.2 for lat, lon in places.values())
        for time, places in bikes.items()
    }
    outside = {time: len(places) - inside[time] for time, places in bikes.items()}
    assert {sum(float(lon) > 20 for _, lon in places.values()) for places in bikes.values()} == {64}
    # What each snapshot after noon speaks for: to the next one, the last one for ten minutes.
    times = [time for time in sorted(bikes) if time >= NOON]
    carried = max(time for time in bikes if time < NOON)
    ends = [*times, times[-1] + dt.timedelta(minutes=10)]
    spans = {carried: times[0] - NOON} | {time: end - time for time, end in zip(times, ends[1:], strict=True)}
    observed = sum(spans.values(), dt.timedelta())

    hour = one(marts["mart_system_hour"], hour_start=NOON)

    assert hour["minutes_observed"] == pytest.approx(observed / dt.timedelta(minutes=1), abs=1e-4)
    assert hour["bikes_off_zone"] == pytest.approx(sum(outside[t] * s / observed for t, s in spans.items()), abs=1e-4)
    assert hour["bikes_free_in_zone"] == pytest.approx(
        sum(inside[t] * s / observed for t, s in spans.items()), abs=1e-4
    )
    assert 64 <= hour["bikes_off_zone"] <= 66
    fleet = one(marts["fct_fleet_day"])
    assert (fleet["local_date"], 64 <= fleet["bikes_off_zone"] <= 66) == (NOON.date(), True)
    newest = marts["mv_free_bike_latest"].to_pylist()
    assert sum(not bike["in_service_area"] for bike in newest) == outside[times[-1]]
    assert len(newest) == len(bikes[times[-1]])
    assert (
        sum(row["mobile_bike_count"] for row in marts["mart_density_grid"].to_pylist() if row["cell_kind"] == "250m")
        == (inside[times[-1]])
    )


def test_moves_are_those_of_the_recording(marts: dict[str, pa.Table]) -> None:
    """Counted from the text: pairs of sightings with another place, or with a snapshot between that lacks the bike."""
    snapshots = list(recorded_bikes().items())
    expected = []
    for bike_id in {bike_id for _, bikes in snapshots for bike_id in bikes}:
        seen = [(number, time, bikes[bike_id]) for number, (time, bikes) in enumerate(snapshots) if bike_id in bikes]
        expected += [
            (after[1], before[1])
            for before, after in pairwise(seen)
            if after[0] - before[0] > 1 or after[2] != before[2]
        ]

    found = marts["fct_bike_move"].to_pylist()

    assert sorted((move["to_seen_at"], move["from_seen_at"]) for move in found) == sorted(expected)
    assert len({move["move_id"] for move in found}) == len(found)

"""The grid: all cells have the same area, every place lies in one; means of a station and two bikes by hand."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.marts.engine import prepare
from wrm_pipeline_tests.fixtures.marts import KEY, LAT, LON, bike, build_day, build_days, enhanced, one, station

DAY: Final = dt.date(2025, 6, 3)
EARTH_M: Final = 6_371_008.8
SIDES: Final = {"250m": 250.0, "1000m2": math.sqrt(1000)}
GRID: Final = ("mart_density_grid",)
# The outermost cells of the map, up to 50 km from the poles, are cut off.
LATITUDES: Final = st.floats(-89.5, 89.5)
LONGITUDES: Final = st.floats(-180, 180)


def at(hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime.combine(DAY, dt.time(hour, minute), dt.UTC)


def grid_of(*rows: dict[str, Any]) -> pa.Table:
    return build_day(enhanced(*rows), DAY, only=GRID)["mart_density_grid"]


@pytest.fixture(scope="module")
def sql() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        prepare(connection, KEY)
        yield connection


def ask(sql: duckdb.DuckDBPyConnection, expressions: str, *values: float) -> tuple[Any, ...]:
    found = sql.execute(f"SELECT {expressions}", list(values)).fetchone()
    assert found is not None
    return found


@given(lat=LATITUDES, lon=LONGITUDES, side=st.sampled_from(sorted(SIDES.values())))
@settings(max_examples=100, deadline=None)
def test_all_cells_have_the_same_area(sql: duckdb.DuckDBPyConnection, lat: float, lon: float, side: float) -> None:
    """The area between two meridians and two parallels of a sphere is R² Δλ (sin φ2 - sin φ1)."""
    west, east, south, north = ask(
        sql,
        "grid_lon(i * $3), grid_lon((i + 1) * $3), grid_lat(j * $3), grid_lat((j + 1) * $3) "
        "FROM (SELECT grid_index(grid_x($2), $3) AS i, grid_index(grid_y($1), $3) AS j)",
        lat,
        lon,
        side,
    )

    # sin a - sin b without the cancellation that would leave six digits of it.
    middle, half = math.radians((north + south) / 2), math.radians((north - south) / 2)
    area = EARTH_M**2 * math.radians(east - west) * 2 * math.cos(middle) * math.sin(half)
    assert area == pytest.approx(side**2, rel=1e-4)


@given(lat=LATITUDES, lon=LONGITUDES, side=st.sampled_from(sorted(SIDES.values())))
@settings(max_examples=100, deadline=None)
def test_a_place_lies_within_its_cell(sql: duckdb.DuckDBPyConnection, lat: float, lon: float, side: float) -> None:
    west, east, south, north = ask(
        sql,
        "grid_lon(i * $3), grid_lon((i + 1) * $3), grid_lat(j * $3), grid_lat((j + 1) * $3) "
        "FROM (SELECT grid_index(grid_x($2), $3) AS i, grid_index(grid_y($1), $3) AS j)",
        lat,
        lon,
        side,
    )

    assert west - 1e-9 <= lon <= east + 1e-9
    assert south - 1e-9 <= lat <= north + 1e-9


@given(lat=st.floats(49, 55), lon=st.floats(14, 24), side=st.sampled_from(sorted(SIDES.values())))
@settings(max_examples=100, deadline=None)
def test_the_centre_of_a_cell_lies_in_it(sql: duckdb.DuckDBPyConnection, lat: float, lon: float, side: float) -> None:
    i, j, centre_lon, centre_lat = ask(
        sql,
        "i, j, grid_centre_lon(i, $3), grid_centre_lat(j, $3) "
        "FROM (SELECT grid_index(grid_x($2), $3) AS i, grid_index(grid_y($1), $3) AS j)",
        lat,
        lon,
        side,
    )

    again = ask(sql, "grid_index(grid_x($2), $3), grid_index(grid_y($1), $3)", centre_lat, centre_lon, side)
    assert again == (i, j)


@pytest.mark.parametrize("lat", [90.0, -90.0, 89.99])
def test_a_place_at_a_pole_has_a_cell_too(lat: float) -> None:
    """One bad row must not stop the day."""
    grid = grid_of(station("15001", at(12), lat=lat, bikes=4))

    assert [row["bikes_mean"] for row in grid.to_pylist()] == [4, 4]


def test_cells_are_nearly_square_in_the_city(sql: duckdb.DuckDBPyConnection) -> None:
    """At the standard parallel 250 m are 250 m; at 51.2 N they are 0.2 % off, the one way as the other."""
    width, height = ask(
        sql, "distance_m(51.1, grid_lon(0), 51.1, grid_lon(250)), "
        "distance_m(grid_lat(grid_y(51.1)), 17, grid_lat(grid_y(51.1) + 250), 17)"
    )  # fmt: skip

    assert width == pytest.approx(250, rel=1e-5)
    assert height == pytest.approx(250, rel=1e-4)


# Rynek, 51.11 N 17.03 E. cos 51.1° = 0.62796306; x = 6371008.8 * 0.62796306 * 0.29722957 = 1189143.64 m;
# y = 6371008.8 * sin 51.11° / 0.62796306 = 7896789.59 m. Over 250: 4756.57 and 31587.16; over 31.6228: 37604.02 and
# 249718.41. The centre of 4756.5 x 31587.5 is 18.6 m west and 85.5 m north, on this map, of the place itself.
RYNEK: Final = {"250m": "250m:4756:31587", "1000m2": "1000m2:37604:249718"}
FAR: Final = 51.12


def one_station_and_two_bikes() -> pa.Table:
    """Return the grid of two snapshots: 12:00, which covers five minutes, and 12:05, the last one, which covers ten.

    The station has 6 bikes, then 8: (6*5 + 8*10) / 15 = 7.3333. One bike stands beside it all the time. Another one
    stands 1.1 km north at first and is then gone: 5/15 = 0.3333. A third one is in the depot.
    """
    return grid_of(
        station("15001", at(12), bikes=6),
        bike("fb600001", at(12)),
        bike("fb600002", at(12), lat=FAR),
        bike("fb600003", at(12), lat=52.28, lon=21.01, in_service_area=False),
        station("15001", at(12, 5), bikes=8),
        bike("fb600001", at(12, 5)),
        bike("fb600003", at(12, 5), lat=52.28, lon=21.01, in_service_area=False),
    )


def test_one_station_and_two_bikes() -> None:
    grid = one_station_and_two_bikes()

    assert grid.num_rows == 4
    near = one(grid, cell=RYNEK["250m"])
    assert near == {
        "utc_date": DAY,
        "cell_kind": "250m",
        "cell": "250m:4756:31587",
        "grid_lat": near["grid_lat"],
        "grid_lon": near["grid_lon"],
        "stations": 1,
        "station_bikes_mean": 7.3333,
        "free_bikes_mean": 1.0,
        "bikes_mean": 8.3333,
        # 8.33333 on 0.0625 km2, and on 62.5 times 1000 m2.
        "bikes_per_km2": 133.3333,
        "density_per_1000m2": 0.133333,
        "bike_count": 9,
        "station_count": 1,
        "mobile_bike_count": 1,
    }
    # 85.5 m up the map are 85.5 m / R, as near as it is to the standard parallel; 18.6 m left likewise, over cos 51.1°.
    assert near["grid_lat"] == pytest.approx(LAT + math.degrees(85.5 / EARTH_M), abs=3e-6)
    assert near["grid_lon"] == pytest.approx(LON - math.degrees(18.6 / EARTH_M / 0.62796306), abs=3e-6)


def test_a_bike_that_left_counts_for_its_time_and_not_in_the_newest_snapshot() -> None:
    far = [row for row in one_station_and_two_bikes().to_pylist() if row["stations"] == 0]

    assert [row["cell_kind"] for row in far] == ["1000m2", "250m"]
    assert [row["free_bikes_mean"] for row in far] == [0.3333, 0.3333]
    assert [(row["bike_count"], row["station_count"], row["mobile_bike_count"]) for row in far] == [(0, 0, 0)] * 2
    assert [row["bikes_per_km2"] for row in far] == [333.3333, 5.3333]


def test_the_small_cells_are_those_that_earlier_users_know() -> None:
    """In a cell of 1000 m2 bikes per 1000 m2 are bikes."""
    near = one(one_station_and_two_bikes(), cell=RYNEK["1000m2"])

    assert (near["bikes_mean"], near["density_per_1000m2"], near["bikes_per_km2"]) == (8.3333, 8.333333, 8333.3333)


def test_off_zone_bikes_are_left_out_and_stations_are_not() -> None:
    grid = grid_of(
        station("15001", at(12), lat=52.28, lon=21.01, in_service_area=False, bikes=3),
        bike("fb600003", at(12), lat=52.28, lon=21.01, in_service_area=False),
    )

    assert [(row["stations"], row["bikes_mean"]) for row in grid.to_pylist()] == [(1, 3), (1, 3)]


def test_a_record_of_unknown_kind_is_left_out() -> None:
    grid = grid_of(station("15001", at(12)), bike("x1", at(12), record_type="unknown", lat=51.15))

    assert grid.num_rows == 2


def test_time_after_the_end_of_the_day_does_not_count() -> None:
    """23:50 covers eight minutes, 23:58 two: (3*8 + 13*2) / 10 = 5. Ten minutes for the last one would make it 8.6."""
    grid = grid_of(station("15001", at(23, 50), bikes=3), station("15001", at(23, 58), bikes=13))

    assert {row["station_bikes_mean"] for row in grid.to_pylist()} == {5}


def test_a_snapshot_before_a_gap_covers_two_intervals() -> None:
    """(2*10 + 8*10) / 20 = 5; by the whole gap it would be 2.9."""
    grid = grid_of(station("15001", at(10), bikes=2), station("15001", at(11), bikes=8))

    assert {row["station_bikes_mean"] for row in grid.to_pylist()} == {5}


def test_two_stations_in_a_cell_are_added_and_one_that_moves_is_in_both() -> None:
    """15002 stands beside 15001 for five of 15 minutes, then 1.1 km north."""
    grid = grid_of(
        station("15001", at(12), bikes=3),
        station("15002", at(12), bikes=6),
        station("15001", at(12, 5), bikes=3),
        station("15002", at(12, 5), bikes=6, lat=FAR),
    )

    big = [row for row in grid.to_pylist() if row["cell_kind"] == "250m"]
    assert [(row["stations"], row["station_count"], row["bikes_mean"], row["bike_count"]) for row in big] == [
        (2, 1, 5, 3),
        (1, 1, 4, 6),
    ]


def test_a_station_that_is_corrected_by_a_metre_is_one_station() -> None:
    grid = grid_of(station("15001", at(12), bikes=3), station("15001", at(12, 5), bikes=3, lat=LAT + 0.00001))

    assert [(row["stations"], row["station_count"], row["bikes_mean"]) for row in grid.to_pylist()] == [(1, 1, 3)] * 2


def test_cells_of_both_sizes_hold_the_same_bikes_as_the_system() -> None:
    rows = [station(f"1500{number}", at(12), bikes=number, lat=51.05 + number / 100) for number in range(9)]
    rows += [bike(f"fb60000{number}", at(12), lon=16.9 + number / 100) for number in range(9)]

    days = build_days({DAY: enhanced(*rows)}, only=(*GRID, "mart_system_hour"))

    hour = one(days[DAY]["mart_system_hour"])
    for kind in SIDES:
        cells = [row for row in days[DAY]["mart_density_grid"].to_pylist() if row["cell_kind"] == kind]
        assert sum(row["station_bikes_mean"] for row in cells) == hour["bikes_at_stations"] == 36
        assert sum(row["free_bikes_mean"] for row in cells) == hour["bikes_free_in_zone"] == 9
        assert sum(row["stations"] for row in cells) == 9

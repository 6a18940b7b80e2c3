"""What a row is and which warning rules it meets."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.transform.classify import FLAGS, enhance, record_types, split_overloaded
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.snapshots import TIME, bike_row, payload, row, snapshot_of

DAY = TIME.date()
# As `row` writes it: some seconds before the snapshot.
ROW_TIME_S = 1_747_073_407


def enhanced(*lines: bytes, file_time: dt.datetime = TIME) -> pa.Table:
    parsed = BikeShareMap().parse([snapshot_of(payload(*lines), time=file_time)])
    assert parsed.tallies[0].kept == len(lines)
    return enhance(parsed.rows, DAY)


def flags_of(line: bytes, **arguments: Any) -> list[str]:
    (flags,) = enhanced(line, **arguments).column("quality_flags").to_pylist()
    assert isinstance(flags, list)
    return flags


@pytest.mark.parametrize(
    ("station_id", "name", "kind"),
    [
        ("15001", "Rynek", "station"),
        ("1", "", "station"),
        ("fb604692", "BIKE 604692", "bike"),
        ("15001", "BIKE 604692", "unknown"),
        ("fb604692", "Rynek", "unknown"),
        ("fb", "BIKE 604692", "unknown"),
        ("fb60469x", "BIKE 604692", "unknown"),
        ("FB604692", "BIKE 604692", "unknown"),
        ("604692", "bike rack", "station"),
        ("15001a", "Rynek", "unknown"),
        ("-15001", "Rynek", "unknown"),
        ("\u0661\u0665", "Rynek", "unknown"),
        ("fb\u0661\u0665", "BIKE 15", "unknown"),
    ],
)
def test_a_record_type_needs_both_id_and_name(station_id: str, name: str, kind: str) -> None:
    assert record_types(pa.array([station_id]), pa.array([name])).to_pylist() == [kind]


def test_the_overloaded_column_of_an_unknown_record_is_read_both_ways() -> None:
    """What it is cannot be told, so nothing that it may say is thrown away."""
    bonus, battery = split_overloaded(pa.array(["true", "55"]), pa.array(["x", "x"]), pa.array(["y", "y"]))

    assert bonus.to_pylist() == [True, None]
    assert battery.to_pylist() == [None, 55]


def test_enhanced_is_processed_and_four_columns_in_the_types_of_the_contract() -> None:
    table = enhanced(row(), bike_row())

    assert table.schema.equals(ENHANCED)
    assert table.column("record_type").to_pylist() == ["station", "bike"]
    assert table.column("date").to_pylist() == [DAY, DAY]
    assert table.column("in_service_area").to_pylist() == [True, True]
    assert table.column("quality_flags").to_pylist() == [[], []]


def test_a_day_without_rows_has_all_columns() -> None:
    assert enhance(PROCESSED.empty_table(), DAY).schema.equals(ENHANCED)


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        pytest.param(row(bikes="6", spaces="10", docks="16"), [], id="all docks accounted for"),
        pytest.param(row(bikes="7", spaces="10", docks="16"), ["overfull"], id="one bike too many"),
        pytest.param(row(bikes="42", spaces="1", docks="16"), ["overfull"], id="bikes beyond docks"),
        pytest.param(row(bikes="5", spaces="10", docks="16"), ["racks_out_of_use"], id="a rack out of use"),
        pytest.param(row(bikes="0", spaces="0", docks="0"), ["zero_docks"], id="no docks"),
        pytest.param(row(bikes="1", spaces="0", docks="0"), ["overfull", "zero_docks"], id="two flags, sorted"),
        pytest.param(bike_row(), [], id="a bike has no docks to count"),
        pytest.param(bike_row(battery="-1"), [], id="battery unknown"),
        pytest.param(bike_row(battery="101"), ["battery_out_of_range"], id="battery over"),
        pytest.param(bike_row(battery="-2"), ["battery_out_of_range"], id="battery under"),
        pytest.param(bike_row(battery="true"), ["battery_out_of_range"], id="battery no number"),
        pytest.param(bike_row(battery=""), [], id="battery not published"),
        pytest.param(bike_row(lat="52.28", lon="21.01"), ["off_zone"], id="the depot in another city"),
        pytest.param(bike_row(lat="0", lon="17.03"), ["off_zone"], id="the equator"),
        pytest.param(row("x1"), ["unknown_record_type"], id="neither station nor bike"),
        pytest.param(row("x1", docks="0"), ["unknown_record_type"], id="docks say nothing of it"),
    ],
)
def test_flags(line: bytes, flags: list[str]) -> None:
    assert flags_of(line) == flags


@pytest.mark.parametrize(
    ("lat", "lon", "inside"),
    [
        ("51.0", "16.8", True),
        ("51.2", "17.2", True),
        ("50.999999", "17.0", False),
        ("51.200001", "17.0", False),
        ("51.1", "16.799999", False),
        ("51.1", "17.200001", False),
    ],
)
def test_the_edges_belong_to_the_service_area(lat: str, lon: str, inside: bool) -> None:
    table = enhanced(row(lat=lat, lon=lon))

    assert table.column("in_service_area").to_pylist() == [inside]
    assert table.column("quality_flags").to_pylist() == [[] if inside else ["off_zone"]]


@pytest.mark.parametrize(
    ("lag_s", "flags"),
    [
        (0, []),
        (3_600, []),
        (3_600.000001, ["stale_row_time"]),
        (-3_600, []),
        (-3_600.000001, ["future_row_time"]),
    ],
)
def test_a_row_whose_time_is_over_an_hour_from_its_snapshot_is_flagged(lag_s: float, flags: list[str]) -> None:
    row_time = dt.datetime.fromtimestamp(ROW_TIME_S, dt.UTC)

    assert flags_of(row(time=f"{ROW_TIME_S}|0|0"), file_time=row_time + dt.timedelta(seconds=lag_s)) == flags


LINES = st.builds(
    row,
    st.sampled_from(["1", "fb1", "x"]),
    name=st.sampled_from(["Rynek", "BIKE 1"]),
    time=st.sampled_from(["1747073407|0|0", "1747000000|0|0", "1748000000|0|0"]),
    lat=st.sampled_from(["51.1", "52.28"]),
    bikes=st.sampled_from(["0", "8", "999999999"]),
    spaces=st.sampled_from(["0", "8", "999999999"]),
    docks=st.sampled_from(["0", "16"]),
    overloaded=st.sampled_from(["true", "-1", "55", "101", ""]),
)


@settings(deadline=None)
@given(st.lists(LINES, min_size=1, max_size=8))
def test_a_row_means_the_same_whatever_is_classified_with_it(lines: list[bytes]) -> None:
    parse = BikeShareMap().parse
    tables = [parse([snapshot_of(payload(line))]).rows for line in lines]

    together = enhance(pa.concat_tables(tables), DAY)

    assert together.equals(pa.concat_tables([enhance(table, DAY) for table in tables]))
    for flags in together.column("quality_flags").to_pylist():
        assert flags == sorted(flags)
        assert set(flags) <= set(FLAGS)


def test_the_flags_are_listed_in_the_order_in_which_a_row_carries_them() -> None:
    assert list(FLAGS) == sorted(FLAGS)

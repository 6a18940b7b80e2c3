"""What a row is, and what the overloaded column means for it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from wrm_pipeline.transform.classify import (
    BIKE,
    RECORD_TYPES,
    STATION,
    UNKNOWN,
    as_whole,
    in_range,
    record_codes,
    record_types,
    split_overloaded,
)
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS

BATTERY = CONTRACTS.processed.column("battery_level")


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


def test_codes_are_positions_in_the_list_of_types() -> None:
    assert RECORD_TYPES.to_pylist()[UNKNOWN] == "unknown"
    assert RECORD_TYPES.to_pylist()[STATION] == "station"
    assert RECORD_TYPES.to_pylist()[BIKE] == "bike"


def test_codes_and_types_are_one_thing() -> None:
    ids, names = pa.array(["15001", "fb604692", "x"]), pa.array(["Rynek", "BIKE 604692", "y"])

    codes = record_codes(ids, names)

    assert codes.dtype == np.int8
    assert codes.tolist() == [STATION, BIKE, UNKNOWN]
    assert RECORD_TYPES.take(pa.array(codes)).equals(record_types(ids, names))


def test_the_overloaded_column_of_an_unknown_record_is_read_both_ways() -> None:
    """What it is cannot be told, so nothing that it may say is thrown away."""
    bonus, battery = split_overloaded(pa.array(["true", "55"]), pa.array(["x", "x"]), pa.array(["y", "y"]), BATTERY)

    assert bonus.to_pylist() == [True, None]
    assert battery.to_pylist() == [None, 55]


@pytest.mark.parametrize(
    ("text", "level"),
    [("0", 0), ("100", 100), (" 55 ", 55), ("-1", None), ("101", None), ("-2", None), ("5.5", None), ("", None)],
)
def test_a_battery_level_lies_within_the_bounds_of_its_column(text: str, level: int | None) -> None:
    assert (BATTERY.minimum, BATTERY.maximum) == (0, 100)

    _, battery = split_overloaded(pa.array([text]), pa.array(["fb1"]), pa.array(["BIKE 1"]), BATTERY)

    assert battery.to_pylist() == [level]


def test_other_bounds_make_other_levels() -> None:
    texts, ids, names = pa.array(["9", "10", "20", "21"]), pa.array(["fb1"] * 4), pa.array(["BIKE 1"] * 4)

    _, battery = split_overloaded(texts, ids, names, replace(BATTERY, minimum=10, maximum=20))

    assert battery.to_pylist() == [None, 10, 20, None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("-1", -1), (" 7 ", 7), ("007", 7), ("999999999", 999_999_999)),
        *(
            ("1000000000", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("1.0", None),
            ("true", None),
            ("\u0663", None),
        ),
    ],
)
def test_a_whole_number_has_at_most_nine_ascii_digits(text: str, value: int | None) -> None:
    assert as_whole(text) == value


def test_a_column_without_bounds_takes_any_number() -> None:
    assert in_range(-5, replace(BATTERY, minimum=None, maximum=None))
    assert not in_range(-5, replace(BATTERY, maximum=None))
    assert not in_range(101, replace(BATTERY, minimum=None))

"""Single values of a row."""

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.feed import values
from wrm_pipeline.feed.values import (
    Problem,
    TimeBounds,
    parse_degrees,
    parse_flag,
    parse_text,
    parse_whole,
)
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS

Parser = Callable[[str], object]

COLUMN = CONTRACTS.processed.column
BIKES, LAT, NAME = COLUMN("bikes"), COLUMN("lat"), COLUMN("name")
TIME_BOUNDS = TimeBounds.of(*map(COLUMN, ("timestamp", "gmt_local_diff_sec", "gmt_servertime_diff_sec")))

# Each with the bounds that the contract gives.
parse_id = partial(values.parse_id, column=COLUMN("station_id"))
parse_count = partial(values.parse_count, column=BIKES)
parse_latitude = partial(parse_degrees, column=LAT)
parse_longitude = partial(parse_degrees, column=COLUMN("lon"))
parse_packed_time = partial(values.parse_packed_time, bounds=TIME_BOUNDS)

PARSERS: tuple[Parser, ...] = (
    parse_id,
    parse_whole,
    parse_count,
    parse_latitude,
    parse_longitude,
    parse_flag,
    parse_packed_time,
)


def rule_of(value: object) -> str | None:
    return value.rule if isinstance(value, Problem) else None


@given(st.text() | st.text("0123456789.+-|eE_ naif\u00a0٣"))
def test_no_text_crashes_a_parser_and_every_problem_says_why(text: str) -> None:
    for parse in PARSERS:
        value = parse(text)
        if isinstance(value, Problem):
            assert value.rule
            assert value.message


@pytest.mark.parametrize("parse", [parse_whole, parse_count, parse_latitude, parse_flag, parse_packed_time])
def test_a_message_shows_no_more_than_the_beginning_of_a_long_value(parse: Parser) -> None:
    problem = parse("x" * 100_000)

    assert isinstance(problem, Problem)
    assert len(problem.message) < 200
    assert repr("x" * 60 + "…") in problem.message


@given(st.text())
def test_an_id_is_never_blank_and_has_no_blanks_around_it(text: str) -> None:
    value = parse_id(text)

    assert rule_of(value) == ("empty_id" if not text.strip() else None)
    if isinstance(value, str):
        assert value == value.strip()


@given(st.integers(-999_999_999, 999_999_999))
def test_nine_digits_are_a_whole_number(number: int) -> None:
    assert parse_whole(f" {number} ") == number


@pytest.mark.parametrize(
    "text", ["1000000000", "-1000000000", "1.0", "1e3", "", "-", "+", "1_0", "٣", "1 0", "--1", "0x1"]
)
def test_what_is_no_whole_number_of_nine_digits(text: str) -> None:
    """Ten digits may not fit 32 bits; `int` takes underscores and Arabic digits, Arrow does not."""
    assert rule_of(parse_whole(text)) == "not_a_number"


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "inf", "+Inf", "Infinity", "-INFINITY", " nan "])
def test_not_finite_is_named_as_such_in_every_number(text: str) -> None:
    for parse in (parse_whole, parse_count, parse_latitude, parse_longitude):
        assert rule_of(parse(text)) == "not_finite"


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-0", 0), ("7", 7), ("007", 7), ("+7", 7)])
def test_a_count_is_a_whole_number(text: str, value: int) -> None:
    assert parse_count(text) == value


def test_a_negative_count_is_a_problem_of_its_own() -> None:
    assert parse_count("-1") == Problem("negative_count", "-1 is negative")
    assert rule_of(parse_count("x")) == "not_a_number"


@given(st.floats(-90, 90))
def test_a_latitude_is_read_back_exactly(degrees: float) -> None:
    value = parse_latitude(repr(degrees))

    assert isinstance(value, float)
    assert value == degrees
    assert math.copysign(1, value) == 1 or degrees != 0


@pytest.mark.parametrize(
    ("text", "value"), [("5.", 5.0), (".5", 0.5), ("1e1", 10.0), ("1E-1", 0.1), (" 51.1\u00a0", 51.1)]
)
def test_ways_to_write_degrees(text: str, value: float) -> None:
    assert parse_latitude(text) == value


@pytest.mark.parametrize("text", ["", ".", "1,5", "51.1N", "1e", "1e12345", "0x10", "1_0.5", "--1"])
def test_what_is_no_number_of_degrees(text: str) -> None:
    assert rule_of(parse_longitude(text)) == "not_a_number"


@pytest.mark.parametrize(
    ("parse", "text", "rule"),
    [
        (parse_latitude, "90", None),
        (parse_latitude, "-90", None),
        (parse_latitude, "90.000001", "bad_coordinates"),
        (parse_latitude, "-91", "bad_coordinates"),
        (parse_longitude, "180", None),
        (parse_longitude, "-180", None),
        (parse_longitude, "180.000001", "bad_coordinates"),
        (parse_latitude, "1e9999", "not_finite"),
    ],
)
def test_degrees_end_where_the_globe_ends(parse: Parser, text: str, rule: str | None) -> None:
    assert rule_of(parse(text)) == rule


@pytest.mark.parametrize(("text", "value"), [("true", True), ("FALSE", False), (" True ", True)])
def test_flags(text: str, value: bool) -> None:
    assert parse_flag(text) is value


@pytest.mark.parametrize("text", ["", "1", "0", "yes", "truefalse", "t"])
def test_what_is_no_flag(text: str) -> None:
    assert rule_of(parse_flag(text)) == "not_a_boolean"


@given(
    st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2099, 12, 31, 23, 59, 59, 999_999)),  # noqa: DTZ001 - UTC below
    st.integers(-50_400, 43_200),
    st.integers(-50_400, 43_200),
)
def test_a_packed_time_is_split_exactly(time: dt.datetime, local: int, server: int) -> None:
    utc = time.replace(tzinfo=dt.UTC)
    microseconds = (utc - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    text = f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}|{local}|{server}"

    assert parse_packed_time(text) == (microseconds, local, server)


@pytest.mark.parametrize(
    ("epoch", "microseconds"),
    [
        ("1747073407", 1_747_073_407_000_000),
        ("1747073407.9", 1_747_073_407_900_000),
        ("1747073407.000001", 1_747_073_407_000_001),
        ("1747073407.9999999", 1_747_073_407_999_999),
        ("946684800", 946_684_800_000_000),
    ],
)
def test_decimals_of_a_packed_time(epoch: str, microseconds: int) -> None:
    assert parse_packed_time(f"{epoch}|-7200|-3600") == (microseconds, -7200, -3600)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1747073407", "1747073407|0", "1747073407|0|0|0", "|0|0", "1747073407||0", "1747073407|0|", "x|0|0"),
        *("-1747073407|0|0", "1747073407.|0|0", "1747073407,5|0|0", "1747073407|1.5|0", "1747073407|123456|0"),
        *("17470734070|0|0", "1747073407.1234567890|0|0", "946684799|0|0", "4102444800|0|0", "٣|0|0"),
    ],
)
def test_what_is_no_packed_time(text: str) -> None:
    assert rule_of(parse_packed_time(text)) == "bad_timestamp"


# --- Bounds are the contract's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "rule"), [("4", "out_of_range"), ("5", None), ("7", None), ("8", "out_of_range")])
def test_a_count_lies_within_the_bounds_of_its_column(text: str, rule: str | None) -> None:
    assert rule_of(values.parse_count(text, replace(BIKES, minimum=5, maximum=7))) == rule


def test_what_a_count_may_be_is_said_in_its_message() -> None:
    def message(text: str, minimum: int | None, maximum: int | None) -> object:
        return values.parse_count(text, replace(BIKES, minimum=minimum, maximum=maximum))

    assert message("8", 5, 7) == Problem(
        "out_of_range", "8 is out of range; the contract allows at least 5 and at most 7"
    )
    assert message("8", None, 7) == Problem("out_of_range", "8 is out of range; the contract allows at most 7")
    assert message("0", 1, None) == Problem("out_of_range", "0 is out of range; the contract allows at least 1")


def test_a_count_without_a_least_value_may_be_negative_and_one_with_another_is_negative_all_the_same() -> None:
    assert values.parse_count("-1", replace(BIKES, minimum=None)) == -1
    assert rule_of(values.parse_count("-1", replace(BIKES, minimum=3))) == "negative_count"


def test_degrees_lie_within_the_bounds_of_their_column() -> None:
    city = replace(LAT, minimum=51.0, maximum=51.2)

    assert [rule_of(parse_degrees(text, city)) for text in ("50.999999", "51.0", "51.2", "51.200001")] == [
        "bad_coordinates",
        None,
        None,
        "bad_coordinates",
    ]


@pytest.mark.parametrize(
    ("text", "rule"), [("a", "out_of_range"), ("ab", None), ("żół", None), ("abcd", "out_of_range")]
)
def test_bounds_of_a_text_are_of_its_length_in_characters(text: str, rule: str | None) -> None:
    column = replace(NAME, minimum=2, maximum=3)

    assert rule_of(parse_text(text, column)) == rule
    assert rule_of(values.parse_id(f" {text} ", column)) == rule


def test_a_text_without_bounds_is_any_text() -> None:
    assert parse_text("", NAME) == ""


@pytest.mark.parametrize(
    ("packed", "rule"),
    [
        ("1735689599.999999|0|0", "bad_timestamp"),
        ("1735689600|0|0", None),
        ("1767225600|0|0", None),
        ("1767225600.000001|0|0", "bad_timestamp"),
        ("1747073407|-7200|0", None),
        ("1747073407|-7201|0", "bad_timestamp"),
        ("1747073407|0|1", "bad_timestamp"),
        ("1747073407|99999|0", None),
    ],
)
def test_a_packed_time_lies_within_the_bounds_of_its_three_columns(packed: str, rule: str | None) -> None:
    bounds = TimeBounds.of(
        replace(
            COLUMN("timestamp"),
            minimum=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
            maximum=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        ),
        replace(COLUMN("gmt_local_diff_sec"), minimum=-7200),
        replace(COLUMN("gmt_servertime_diff_sec"), maximum=0),
    )

    assert rule_of(values.parse_packed_time(packed, bounds)) == rule

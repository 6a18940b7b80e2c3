"""Single values of a row."""

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.feed.values import (
    Problem,
    parse_count,
    parse_flag,
    parse_id,
    parse_latitude,
    parse_longitude,
    parse_packed_time,
    parse_whole,
)

PARSERS = (
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
def test_a_message_shows_no_more_than_the_beginning_of_a_long_value(parse: object) -> None:
    problem = parse("x" * 100_000)  # type: ignore[operator]

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
def test_degrees_end_where_the_globe_ends(parse: object, text: str, rule: str | None) -> None:
    assert rule_of(parse(text)) == rule  # type: ignore[operator]


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

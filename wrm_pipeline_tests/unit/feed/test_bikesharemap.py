"""The BikeShareMap format: what a row means, what is set aside and why, and that no bytes crash it."""

import datetime as dt
import math
import random
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.vocabulary import VOCABULARY, Scope
from wrm_pipeline.feed.base import Parsed, PayloadFault, Snapshot, Tally
from wrm_pipeline.feed.bikesharemap import HEADER, BikeShareMap
from wrm_pipeline.feed.values import Problem, parse_packed_time
from wrm_pipeline.transform.schema import PROCESSED
from wrm_pipeline_tests.fixtures.snapshots import (
    CONTRACTS,
    EPOCH,
    FORMAT,
    TIME,
    bike_row,
    payload,
    recorded,
    row,
    snapshot_of,
)

GOOD = row("15001")
OTHER = row("15002", name="Dworzec Główny")
BOM = b"\xef\xbb\xbf"
FIELD_RULES = {name for name, spec in VOCABULARY.items() if spec.scope is Scope.FIELD}


def bounded(**bounds: tuple[Any, Any]) -> BikeShareMap:
    """Return the format under a contract in which these columns have these least and greatest values."""
    columns = tuple(
        replace(column, minimum=bounds[column.name][0], maximum=bounds[column.name][1])
        if column.name in bounds
        else column
        for column in CONTRACTS.processed.columns
    )
    return BikeShareMap(replace(CONTRACTS.processed, columns=columns))


# What a contract may ask for beyond what must be; real rows lie on both sides of each bound.
NARROW = bounded(
    station_id=(5, 7),
    name=(3, 20),
    lat=(51.1, 52.0),
    lon=(-1.0, 17.05),
    bikes=(1, 8),
    spaces=(None, 15),
    total_docks=(0, 20),
    givesbonus_acceptspedelecs_fbbattlevel=(2, 5),
    pedelecs=(None, None),
    timestamp=(
        dt.datetime(2025, 5, 12, 18, 10, 7, 940_000, tzinfo=dt.UTC),
        dt.datetime(2025, 8, 20, 12, tzinfo=dt.UTC),
    ),
    gmt_local_diff_sec=(-7200, 0),
    gmt_servertime_diff_sec=(None, 0),
)


def parse(*lines: bytes, end: bytes = b"") -> Parsed:
    return FORMAT.parse([snapshot_of(payload(*lines, end=end))])


def rejects(parsed: Parsed) -> list[tuple[int, str]]:
    return [(reject.line, reject.rule) for reject in parsed.rejects]


def ids(parsed: Parsed) -> list[str]:
    found: list[str] = parsed.rows.column("station_id").to_pylist()
    return found


def assert_every_row_is_accounted_for(parsed: Parsed, snapshots: list[Snapshot]) -> None:
    assert [tally.source_key for tally in parsed.tallies] == [snapshot.key for snapshot in snapshots]
    for tally in parsed.tallies:
        assert tally.rows == tally.kept + tally.dead + tally.duplicates
        assert tally.dead == sum(reject.source_key == tally.source_key for reject in parsed.rejects)
        assert tally.kept == parsed.rows.column("s3_source_key").to_pylist().count(tally.source_key)
        assert (tally.source_key not in parsed.faults) or tally.rows == 0
    assert {reject.rule for reject in parsed.rejects} <= FIELD_RULES
    assert parsed.rows.schema.equals(PROCESSED, check_metadata=True)
    parsed.rows.validate(full=True)
    for column, field in zip(parsed.rows.columns, PROCESSED, strict=True):
        assert field.nullable or column.null_count == 0, f"{field.name} holds nulls"


# --- What a row means -------------------------------------------------------------------------------------------------


def test_every_column_of_a_station_is_typed_and_means_what_the_feed_says() -> None:
    line = row("15002", name='"Dworzec Główny, południe"', bikes="9", spaces="3", docks="12", pedelecs="2")

    (values,) = parse(line).rows.to_pylist()

    assert values == {
        "station_id": "15002",
        "name": "Dworzec Główny, południe",
        "timestamp": dt.datetime(2025, 5, 12, 18, 10, 7, 947606, tzinfo=dt.UTC),
        "gmt_local_diff_sec": -7200,
        "gmt_servertime_diff_sec": -3600,
        "lat": 51.109782,
        "lon": 17.030175,
        "bikes": 9,
        "spaces": 3,
        "installed": True,
        "locked": False,
        "temporary": False,
        "total_docks": 12,
        "givesbonus_acceptspedelecs_fbbattlevel": "false",
        "pedelecs": 2,
        "gives_bonus": False,
        "battery_level": None,
        "s3_source_key": "raw/one.txt",
        "file_timestamp": TIME,
    }


def test_no_column_is_typed_by_chance() -> None:
    """A snapshot of whole-number coordinates must not turn a float column into an integer one."""
    assert parse(row(lat="51", lon="17", name="12", overloaded="1")).rows.schema.equals(PROCESSED)
    assert FORMAT.parse([]).rows.schema.equals(PROCESSED)


@pytest.mark.parametrize(
    ("line", "gives_bonus", "battery_level"),
    [
        pytest.param(row(overloaded="true"), True, None, id="a station that gives a bonus"),
        pytest.param(row(overloaded="false"), False, None, id="a station that gives none"),
        pytest.param(row(overloaded="55"), None, None, id="a station has no battery"),
        pytest.param(bike_row(battery="0"), None, 0, id="an empty battery is not an unknown one"),
        pytest.param(bike_row(battery="1"), None, 1, id="1 is one percent, not true"),
        pytest.param(bike_row(battery="55"), None, 55, id="half full"),
        pytest.param(bike_row(battery="100"), None, 100, id="full"),
        pytest.param(bike_row(battery="-1"), None, None, id="-1 says unknown"),
        pytest.param(bike_row(battery="101"), None, None, id="over the range"),
        pytest.param(bike_row(battery="-2"), None, None, id="under the range"),
        pytest.param(bike_row(battery="true"), None, None, id="a bike gives no bonus"),
        pytest.param(bike_row(battery=""), None, None, id="nothing published"),
    ],
)
def test_the_overloaded_column_becomes_two_typed_ones(
    line: bytes, gives_bonus: bool | None, battery_level: int | None
) -> None:
    (values,) = parse(line).rows.to_pylist()

    assert (values["gives_bonus"], values["battery_level"]) == (gives_bonus, battery_level)


@pytest.mark.parametrize("text", ["true", "TRUE", " 55 ", "-1", "", "055", "n/a"])
def test_the_text_of_the_overloaded_column_stays_as_received(text: str) -> None:
    assert parse(bike_row(battery=text)).rows.column("givesbonus_acceptspedelecs_fbbattlevel").to_pylist() == [text]


def test_names_are_normalised_in_both_lanes() -> None:
    plain = row("1", name="Plac\u00a0Bema &amp; Most  ")
    quoted = row("2", name='"Plac Bema &amp; Most, ""południe"" "')

    assert parse(plain, quoted).rows.column("name").to_pylist() == [
        "Plac Bema & Most",
        'Plac Bema & Most, "południe"',
    ]


@pytest.mark.parametrize("name", ["", '""'])
def test_a_row_without_a_name_is_kept(name: str) -> None:
    assert parse(row(name=name)).rows.column("name").to_pylist() == [""]


# --- Rejects ----------------------------------------------------------------------------------------------------------

NOT_A_COUNT = "is not a whole number of at most nine digits"
OFF_THE_GLOBE = "is out of range (degrees); the contract allows at least"
REJECTS = [
    (b"15002,1|0|0,Rynek", "too_few_fields", "3 fields instead of 13"),
    (b"", "too_few_fields", "1 field instead of 13"),
    (GOOD + b",0", "too_many_fields", "14 fields instead of 13"),
    (row(name="Rynek, zachód"), "too_many_fields", "14 fields instead of 13"),
    (row(""), "empty_id", "station_id: the id is empty"),
    (row(" \u00a0"), "empty_id", "station_id: the id is empty"),
    (row(bikes="six"), "not_a_number", f"bikes: 'six' {NOT_A_COUNT}"),
    (row(bikes=""), "not_a_number", f"bikes: '' {NOT_A_COUNT}"),
    (row(spaces="1.5"), "not_a_number", f"spaces: '1.5' {NOT_A_COUNT}"),
    (row(docks="1e3"), "not_a_number", f"total_docks: '1e3' {NOT_A_COUNT}"),
    (row(pedelecs="1234567890"), "not_a_number", f"pedelecs: '1234567890' {NOT_A_COUNT}"),
    (row(bikes="٣"), "not_a_number", f"bikes: '٣' {NOT_A_COUNT}"),
    (row(bikes="1_000"), "not_a_number", f"bikes: '1_000' {NOT_A_COUNT}"),
    (row(bikes="NaN"), "not_finite", "bikes: 'NaN' is not finite"),
    (row(lat="nan"), "not_finite", "lat: 'nan' is not finite"),
    (row(lon="-Infinity"), "not_finite", "lon: '-Infinity' is not finite"),
    (row(lat="1e400"), "not_finite", "lat: '1e400' is not finite"),
    (row(lat="51,1".replace(",", "·")), "not_a_number", "lat: '51·1' is not a number"),
    (row(lon="0x11"), "not_a_number", "lon: '0x11' is not a number"),
    (row(bikes="-1"), "negative_count", "bikes: -1 is negative"),
    (row(spaces="-3"), "negative_count", "spaces: -3 is negative"),
    (row(docks="-16"), "negative_count", "total_docks: -16 is negative"),
    (row(pedelecs="-1"), "negative_count", "pedelecs: -1 is negative"),
    (row(lat="90.1"), "bad_coordinates", f"lat: '90.1' {OFF_THE_GLOBE} -90 and at most 90"),
    (row(lon="-180.5"), "bad_coordinates", f"lon: '-180.5' {OFF_THE_GLOBE} -180 and at most 180"),
    (
        row(lat="0.0", lon="-0"),
        "bad_coordinates",
        "lat and lon: 0/0 is no place in the city but a missing position",
    ),
    (row(installed="yes"), "not_a_boolean", "installed: 'yes' is neither true nor false"),
    (row(locked=""), "not_a_boolean", "locked: '' is neither true nor false"),
    (row(temporary="1"), "not_a_boolean", "temporary: '1' is neither true nor false"),
    (
        row(time=EPOCH),
        "bad_timestamp",
        f"'{EPOCH}' is not epoch|gmt_local_diff_sec|gmt_servertime_diff_sec",
    ),
    (row(time="946684799.9|0|0"), "bad_timestamp", "epoch 946684799 is not a time that the contract allows"),
    (row(time="4102444800|0|0"), "bad_timestamp", "epoch 4102444800 is not a time that the contract allows"),
    (row(name='"Rynek'), "bad_quoting", "the quoted fields of the row cannot be read: unexpected end of data"),
    (
        row(name='"Ry"nek'),
        "bad_quoting",
        "the quoted fields of the row cannot be read: ',' expected after '\"'",
    ),
    (row(name="\x00"), "control_character", "the row holds a control character"),
    (row(name="Ry\rnek"), "control_character", "the row holds a control character"),
    (row(name="Ry\x1fnek"), "control_character", "the row holds a control character"),
    (row(name="\x7f"), "control_character", "the row holds a control character"),
    (row(name="Główny").replace("ł".encode(), b"\xb3"), "bad_encoding", "byte 38 of the row is not UTF-8"),
]


@pytest.mark.parametrize(("line", "rule", "message"), REJECTS, ids=[f"{r}-{i}" for i, (_, r, _) in enumerate(REJECTS)])
def test_a_bad_row_is_set_aside_with_its_line_its_bytes_and_the_reason_and_its_neighbours_stay(
    line: bytes, rule: str, message: str
) -> None:
    before, after = row("1"), row("3", name='"Quoted, too"')

    parsed = parse(before, line, after, end=b"\n")

    (reject,) = parsed.rejects
    assert (reject.source_key, reject.line, reject.row) == ("raw/one.txt", 3, line)
    assert (reject.rule, reject.message) == (rule, message)
    assert ids(parsed) == ["1", "3"]
    assert parsed.tallies == (Tally("raw/one.txt", rows=3, kept=2, dead=1, duplicates=0),)
    assert parsed.rows.equals(parse(before, after).rows)


def test_a_payload_of_bad_rows_only_is_a_snapshot_without_rows() -> None:
    parsed = parse(*(line for line, _, _ in REJECTS), end=b"\n")

    assert parsed.rows.num_rows == 0
    assert rejects(parsed) == [(number, rule) for number, (_, rule, _) in enumerate(REJECTS, 2)]


def test_the_rules_for_fields_of_the_vocabulary_are_those_that_the_parser_can_find_broken() -> None:
    lines = [line for line, _, _ in REJECTS]
    more = parse(*lines, GOOD, row("15001", bikes="7"), b"15003,1|0|0")
    narrow = NARROW.parse([snapshot_of(payload(row(bikes="9")))])

    assert {rule for parsed in (more, narrow) for _, rule in rejects(parsed)} == FIELD_RULES
    assert {rule.name for rule in CONTRACTS.processed.of_scope(Scope.FIELD)} == FIELD_RULES


def test_the_rules_for_files_of_the_vocabulary_are_the_faults_of_a_payload() -> None:
    assert {name for name, spec in VOCABULARY.items() if spec.scope is Scope.FILE} == set(PayloadFault)
    assert {rule.name for rule in CONTRACTS.raw.of_scope(Scope.FILE)} == set(PayloadFault)


def test_the_columns_of_the_contract_of_raw_are_the_header() -> None:
    assert ",".join(column.name for column in CONTRACTS.raw.columns).encode() == HEADER


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        (row(bikes="9"), "out_of_range", "bikes: 9 is out of range; the contract allows at least 1 and at most 8"),
        (row(bikes="0"), "out_of_range", "bikes: 0 is out of range; the contract allows at least 1 and at most 8"),
        (row(spaces="16"), "out_of_range", "spaces: 16 is out of range; the contract allows at most 15"),
        (
            row("1500"),
            "out_of_range",
            "station_id: '1500' has 4 characters; the contract allows at least 5 and at most 7",
        ),
        (row(name="AB"), "out_of_range", "name: 'AB' has 2 characters; the contract allows at least 3 and at most 20"),
        (
            row(lat="51.0999"),
            "bad_coordinates",
            "lat: '51.0999' is out of range (degrees); the contract allows at least 51.1 and at most 52",
        ),
        (
            row(time="1747073407.939999|0|0"),
            "bad_timestamp",
            "epoch 1747073407 is not a time that the contract allows",
        ),
        (
            row(time=f"{EPOCH}|-7201|0"),
            "bad_timestamp",
            "an offset of -7201 s is not between -7200 and 0",
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else None,
)
def test_a_row_outside_the_bounds_of_the_contract_is_set_aside(line: bytes, rule: str, message: str) -> None:
    good = row(pedelecs="-3"), row("15002", bikes="8", spaces="15", lat="51.1", lon="17.05", docks="20")

    parsed = NARROW.parse([snapshot_of(payload(good[0], line, good[1]))])

    assert [(reject.line, reject.rule, reject.message) for reject in parsed.rejects] == [(3, rule, message)]
    assert parsed.rows.column("pedelecs").to_pylist() == [-3, 0]


def test_names_are_bounded_as_they_are_stored() -> None:
    """An entity is five characters in the feed and one in the lake."""
    short = bounded(name=(0, 5))

    assert short.parse([snapshot_of(payload(row(name=" A &amp; B ")))]).rows.column("name").to_pylist() == ["A & B"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(row(docks="0"), id="no docks"),
        pytest.param(row(bikes="42"), id="more bikes than docks"),
        pytest.param(row(bikes="0", spaces="3"), id="racks out of use"),
        pytest.param(row(lat="52.28", lon="21.01"), id="far away"),
        pytest.param(row(lat="0", lon="17.03"), id="on the equator"),
        pytest.param(row("xyz-1"), id="an id of another kind"),
        pytest.param(row(bikes="999999999"), id="nine digits"),
        pytest.param(row(bikes="+6", spaces=" 10 ", installed="TRUE"), id="signs, blanks and capitals"),
        pytest.param(row(lat="5.11e1", lon=".17E2"), id="exponents"),
        pytest.param(row(time="946684800|0|0"), id="the first second of 2000"),
        pytest.param(row(time="4102444799.999999|+86400|99999"), id="the last of 2099"),
        pytest.param(row(time=f" {EPOCH}|0|0 "), id="blanks about the time"),
        pytest.param(row(time="1747073407.9476065|0|0"), id="seven decimals"),
        pytest.param(row(name="tab\there"), id="a tab is a blank"),
        pytest.param(row(name='Plac "Bema" 3'), id="a quote in an unquoted name"),
        pytest.param(row(name="x" * 200_000), id="a name of 200 kB"),
    ],
)
def test_what_is_merely_unusual_is_kept(line: bytes) -> None:
    assert parse(line).tallies == (Tally("raw/one.txt", rows=1, kept=1, dead=0, duplicates=0),)


def test_minus_zero_and_zero_are_one_place() -> None:
    """They are equal but differ in their bytes, and so would the day's object."""
    (lat,) = parse(row(lat="-0.0", lon="17")).rows.column("lat").to_pylist()

    assert math.copysign(1, lat) == 1


# --- Repeated rows and ids --------------------------------------------------------------------------------------------


def test_a_row_repeated_to_the_letter_is_a_duplicate_not_a_dead_letter() -> None:
    parsed = parse(GOOD, OTHER, GOOD, GOOD)

    assert parsed.tallies == (Tally("raw/one.txt", rows=4, kept=2, dead=0, duplicates=2),)
    assert parsed.rejects == ()
    assert ids(parsed) == ["15001", "15002"]


def test_a_repeated_row_with_another_line_end_is_a_duplicate_all_the_same() -> None:
    body = HEADER + b"\n" + GOOD + b"\r\n" + GOOD + b"\n"

    assert FORMAT.parse([snapshot_of(body)]).tallies[0].duplicates == 1


def test_a_bad_row_repeated_is_one_reject_and_one_duplicate() -> None:
    bad = row("2", bikes="x")

    assert parse(GOOD, bad, bad, end=b"\n").tallies == (Tally("raw/one.txt", rows=3, kept=1, dead=1, duplicates=1),)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(row("15001", bikes="7"), id="plain"),
        pytest.param(row(" 15001 ", bikes="7"), id="blanks about the id"),
        pytest.param(row("15001", name='"Rynek, ""stary"""'), id="needs the careful lane"),
    ],
)
def test_a_second_row_with_the_same_id_is_set_aside_and_names_the_first(second: bytes) -> None:
    parsed = parse(OTHER, GOOD, row("3"), second)

    (reject,) = parsed.rejects
    assert (reject.line, reject.rule, reject.row) == (5, "conflicting_id", second)
    assert reject.message == "id '15001' stands in line 3 already, with other values"
    assert ids(parsed) == ["15002", "15001", "3"]
    assert parsed.rows.column("bikes").to_pylist() == [6, 6, 6]


def test_the_first_row_of_an_id_wins_even_when_only_the_careful_lane_can_read_it() -> None:
    first = row("15001", name='"Rynek, ""stary"""', bikes="1")

    parsed = parse(first, row("15001", bikes="2"))

    assert parsed.rows.column("bikes").to_pylist() == [1]
    assert rejects(parsed) == [(3, "conflicting_id")]


def test_a_bad_row_does_not_claim_its_id() -> None:
    parsed = parse(row("15001", bikes="x"), row("15001", bikes="2"))

    assert rejects(parsed) == [(2, "not_a_number")]
    assert parsed.rows.column("bikes").to_pylist() == [2]


def test_one_id_in_two_snapshots_is_no_conflict() -> None:
    snapshots = [snapshot_of(payload(GOOD), f"raw/{n}.txt", TIME + dt.timedelta(minutes=n)) for n in range(2)]

    parsed = FORMAT.parse(snapshots)

    assert parsed.rejects == ()
    assert parsed.rows.column("file_timestamp").to_pylist() == [snapshot.time for snapshot in snapshots]


# --- Line ends, BOM, blank lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(payload(GOOD, OTHER), id="no final newline, as the feed sends it"),
        pytest.param(payload(GOOD, OTHER, end=b"\n"), id="final newline"),
        pytest.param(payload(GOOD, OTHER).replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(payload(GOOD, OTHER, end=b"\n").replace(b"\n", b"\r\n"), id="CRLF, final newline"),
        pytest.param(payload(GOOD, OTHER, end=b"\r"), id="cut between CR and LF"),
        pytest.param(BOM + payload(GOOD, OTHER), id="BOM"),
        pytest.param(HEADER + b" \n" + GOOD + b"\n" + OTHER, id="blank behind the header"),
    ],
)
def test_line_ends_and_a_bom_change_nothing(body: bytes) -> None:
    parsed = FORMAT.parse([snapshot_of(body)])

    assert FORMAT.inspect(body) is None
    assert parsed.rows.equals(parse(GOOD, OTHER).rows)
    assert parsed.tallies == (Tally("raw/one.txt", rows=2, kept=2, dead=0, duplicates=0),)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param(payload(GOOD, b"", OTHER), 3, id="between rows"),
        pytest.param(payload(b"", GOOD, OTHER), 2, id="before the rows"),
        pytest.param(payload(GOOD, OTHER, b"", end=b"\n"), 4, id="at the end"),
    ],
)
def test_a_blank_line_is_a_row_of_too_few_fields(body: bytes, line: int) -> None:
    """An empty last line once made Arrow count one row less than there are lines, and the day could not be built."""
    parsed = FORMAT.parse([snapshot_of(body)])

    assert rejects(parsed) == [(line, "too_few_fields")]
    assert ids(parsed) == ["15001", "15002"]


def test_a_bom_inside_the_payload_belongs_to_its_row_wherever_that_stands() -> None:
    """Arrow takes a BOM off the first line it sees: the row's id once depended on what else was read with it."""
    odd = BOM + row("7")

    first, second = parse(odd, GOOD), parse(GOOD, odd)

    assert sorted(ids(first)) == sorted(ids(second)) == ["15001", "\ufeff7"]


# --- Whole files ------------------------------------------------------------------------------------------------------

SOME_HTML = b"<!DOCTYPE html>\n<html><title>503 Service Unavailable</title></html>"
FAULTS = [
    (b"", PayloadFault.EMPTY, "0 bytes came and none of them is text"),
    (b" \r\n\n", PayloadFault.EMPTY, "4 bytes came and none of them is text"),
    (BOM, PayloadFault.EMPTY, "3 bytes came and none of them is text"),
    (SOME_HTML, PayloadFault.HTML, "a web page came instead of the feed, beginning '<!DOCTYPE html>"),
    (b"\n" * 2000 + SOME_HTML, PayloadFault.HTML, "a web page came instead of the feed, beginning '<!DOCTYPE"),
    (BOM + b"<?xml?>", PayloadFault.HTML, "a web page came instead of the feed, beginning '<?xml?>'"),
    (HEADER, PayloadFault.HEADER_ONLY, "the header came without a single row"),
    (HEADER + b"\r\n \n", PayloadFault.HEADER_ONLY, "the header came without a single row"),
    (GOOD, PayloadFault.WRONG_HEADER, "the first line is '15001,"),
    (b"[]", PayloadFault.WRONG_HEADER, "the first line is '[]', not the header of the format"),
    (HEADER[:-1] + b"\n" + GOOD, PayloadFault.WRONG_HEADER, "the first line is '#id,"),
    (b"\n" + payload(GOOD), PayloadFault.WRONG_HEADER, "the first line is ''"),
    (b"\x1f\x8b\x08\x00", PayloadFault.WRONG_HEADER, "the first line is"),
    (payload(GOOD).decode().encode("utf-16"), PayloadFault.WRONG_HEADER, "the first line is"),
]


@pytest.mark.parametrize(("body", "kind", "message"), FAULTS, ids=[f"{k}-{i}" for i, (_, k, _) in enumerate(FAULTS)])
def test_a_payload_that_is_no_snapshot_is_named_as_what_it_is(body: bytes, kind: PayloadFault, message: str) -> None:
    fault = FORMAT.inspect(body)

    assert fault is not None
    assert fault.kind is kind
    assert fault.message.startswith(message)
    parsed = FORMAT.parse([snapshot_of(payload(GOOD), "raw/a"), snapshot_of(body, "raw/b")])
    assert parsed.faults == {"raw/b": fault}
    assert parsed.tallies == (Tally("raw/a", 1, 1, 0, 0), Tally("raw/b", 0, 0, 0, 0))
    assert parsed.rejects == ()


def test_a_fault_quotes_no_more_than_the_beginning() -> None:
    fault = FORMAT.inspect(b"<" + b"x" * 10_000_000)

    assert fault is not None
    assert len(fault.message) < 200


LAST = row("15003", name='"Dworzec Główny, południe"')
CUTS = [pytest.param(LAST[:length], id=f"after {length} bytes") for length in range(1, len(LAST))]


@pytest.mark.parametrize("cut", CUTS)
def test_a_transfer_cut_off_in_the_last_row_is_a_fault_when_fetched_and_one_reject_when_found_in_raw(
    cut: bytes,
) -> None:
    """Wherever the cut falls: in a field, in a quoted name, in a character of two bytes, before the last field."""
    body = payload(GOOD, OTHER, cut)

    fault, parsed = FORMAT.inspect(body), FORMAT.parse([snapshot_of(body)])

    assert fault is not None
    assert fault.kind is PayloadFault.CUT_OFF
    assert fault.message.startswith("the transfer was cut off in the last row, '")
    assert rejects(parsed) == [(4, "truncated_row")]
    assert parsed.rejects[0].message.startswith("the last row is cut short: ")
    assert parsed.rejects[0].row == cut
    assert ids(parsed) == ["15001", "15002"]


@pytest.mark.parametrize(
    ("last", "rule"),
    [
        pytest.param(row("3", name='"Ry"nek'), "bad_quoting", id="quotes"),
        pytest.param(row("3", name="Główny").replace("ł".encode(), b"\xb3"), "bad_encoding", id="another encoding"),
        pytest.param(row("3", bikes="x"), "not_a_number", id="no number"),
        pytest.param(row("3") + b",", "too_many_fields", id="one field too many"),
    ],
)
def test_a_bad_but_complete_last_row_does_not_cost_the_snapshot(last: bytes, rule: str) -> None:
    """It once counted as cut off, so a snapshot of hundreds of good rows was refused for one bad quote."""
    body = payload(GOOD, last)

    assert FORMAT.inspect(body) is None
    assert rejects(FORMAT.parse([snapshot_of(body)])) == [(3, rule)]


def test_a_short_last_row_with_a_line_end_is_a_bad_row_not_a_cut() -> None:
    body = payload(GOOD, b"15003,1|0|0", end=b"\n")

    assert FORMAT.inspect(body) is None
    assert rejects(FORMAT.parse([snapshot_of(body)])) == [(3, "too_few_fields")]


# --- Properties -------------------------------------------------------------------------------------------------------

REAL = [item for folder in ("ucl_wroclaw", "ucl_london", "replay_wroclaw") for item in recorded(folder)[:2]]
REAL_LINES = [line for item in REAL for line in item.body.split(b"\n")[1:] if line]
ODD_TEXTS = (
    *("", " ", "-1", "+3", "007", "-0", "1.0", "1e2", "1e999", "NaN", "inf", "0", "0.0", "90", "-90.0001", "180"),
    *("999999999", "1000000000", "true", "False", "TRUE ", "x", "٣", "½", "\u00a0", "\u2028", "\x85", "\ufeff"),
    *('"', '""', '"a"', '"a,b"', '"a""b"', 'a"b', ' "a"', "\t", "\x1f", "&amp;", "&amp;amp;", "Å\u201a", "żółw", "🚲"),
    *("1747073407|0|0", "1747073407.9|-0|00012", "99999999|1|1", "946684799.999999|0|0", "4102444800|0|0", "1|2"),
    *("1747073407.1234567|-7200|-3600", "1747073407.|0|0", "+1747073407|0|0", "1747073407|123456|0", "fb1", "BIKE 1"),
)
INJECTIONS = (
    *(b'"', b'""', b'","', b"\x00", b"\r", b"\n", b"\r\n", b",", b"\xc2\xa0", b"\xff\xfe", b"\xb3", b"\x1f", BOM),
    *(b"\xed\xa0\x80", b"\xc5", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x1a", b"|", b"<", "ł".encode("utf-16-le"), HEADER),
)


@st.composite
def odd_lines(draw: st.DrawFn) -> bytes:
    """A real row with some fields replaced, swapped, dropped or doubled."""
    fields = draw(st.sampled_from(REAL_LINES)).split(b",")
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(fields) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                text = draw(
                    st.sampled_from(ODD_TEXTS)
                    | st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8)
                )
                fields[place] = text.encode()
            case 1:
                other = draw(st.integers(0, len(fields) - 1))
                fields[place], fields[other] = fields[other], fields[place]
            case 2:
                fields.insert(place, fields[place])
            case _ if len(fields) > 1:
                del fields[place]
    return b",".join(fields)


@st.composite
def line_lists(draw: st.DrawFn) -> list[bytes]:
    """Real rows, odd rows and noise, some of them repeated."""
    noise = st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))
    lines = draw(st.lists(st.sampled_from(REAL_LINES) | odd_lines() | odd_lines() | noise, min_size=1, max_size=12))
    again = draw(st.lists(st.sampled_from(lines), max_size=2))
    return draw(st.permutations([*lines, *again]))


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A part of a real snapshot, damaged on its way."""
    header, *lines = draw(st.sampled_from(REAL)).body.split(b"\n")
    start = draw(st.integers(0, len(lines) - 1))
    body = bytearray(b"\n".join([header, *lines[start : start + draw(st.integers(1, 12))]]))
    for _ in range(draw(st.integers(0, 6))):
        # Mostly in the rows: one damaged byte of the header and the rest does not matter.
        place = draw(st.integers(len(header) + 1, max(len(body), len(header) + 1)) | st.integers(0, len(body)))
        match draw(st.integers(0, 4)):
            case 0:
                body[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                body[place:place] = draw(st.sampled_from(INJECTIONS))
            case 2:
                del body[place : place + draw(st.integers(1, 40))]
            case 3:
                body[place:place] = body[place : place + draw(st.integers(1, 200))]
            case _:
                del body[max(place, 1) :]
    encoding = draw(st.sampled_from(["as it is"] * 8 + ["utf-16", "iso8859-2"]))
    return bytes(body) if encoding == "as it is" else bytes(body).decode("utf-8", "replace").encode(encoding, "replace")


def expected_of(
    lines: list[bytes], feed_format: BikeShareMap = FORMAT
) -> tuple[list[dict[str, Any]], list[tuple[int, str]], int]:
    """What `parse_line` says of lines, one at a time: rows kept, rejects (line, rule), duplicates."""
    kept: list[dict[str, Any]] = []
    rejected: list[tuple[int, str]] = []
    seen: set[bytes] = set()
    claimed: set[str] = set()
    for number, line in enumerate(lines, 2):
        if line in seen:
            continue
        seen.add(line)
        values = feed_format.parse_line(line)
        if isinstance(values, Problem):
            rejected.append((number, values.rule))
        elif values["station_id"] in claimed:
            rejected.append((number, "conflicting_id"))
        else:
            claimed.add(values["station_id"])
            kept.append(values)
    return kept, rejected, len(lines) - len(seen)


def carried(parsed: Parsed) -> list[dict[str, Any]]:
    """The columns of a table that `parse_line` gives, with the time in microseconds."""
    columns = {name: parsed.rows.column(name) for name in expected_of([GOOD])[0][0]}
    columns["timestamp"] = columns["timestamp"].cast(pa.int64())
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return rows


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=400) | st.binary(max_size=200).map(lambda tail: HEADER + b"\n" + tail) | mangled())
def test_no_bytes_crash_inspect_or_parse_and_every_row_is_accounted_for(body: bytes) -> None:
    fault = FORMAT.inspect(body)
    snapshots = [snapshot_of(body, "raw/1"), snapshot_of(payload(GOOD), "raw/2")]

    parsed = FORMAT.parse(snapshots)

    assert_every_row_is_accounted_for(parsed, snapshots)
    assert parsed.tallies[1] == Tally("raw/2", 1, 1, 0, 0)
    if fault is None:
        assert parsed.faults == {}
    elif fault.kind is PayloadFault.CUT_OFF:
        # Unless an earlier row is that very fragment, to the letter.
        cut_short = [reject for reject in parsed.rejects if reject.rule == "truncated_row"]
        assert len(cut_short) == 1 or parsed.tallies[0].duplicates
    else:
        assert parsed.faults == {"raw/1": fault}


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(REAL), st.integers(0, 2**32))
def test_no_damage_to_a_whole_recorded_snapshot_crashes_the_parser(item: Any, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    body = bytearray(item.body)
    for _ in range(chance.randint(1, 200)):
        body[chance.randrange(len(HEADER) + 1, len(body))] = chance.randrange(256)
    snapshots = [snapshot_of(bytes(body))]

    parsed = FORMAT.parse(snapshots)

    assert_every_row_is_accounted_for(parsed, snapshots)
    assert parsed.tallies[0].kept > 0


@settings(deadline=None, max_examples=500)
@given(line_lists())
@example([b""])
@example([b"", b""])
@example([GOOD, b""])
@example([row(name='"' + "x" * 131_073 + '"')])
@example([row("1", time="4102444799.999999|-00000|00012"), row("2", time="99999999|0|0")])
def test_both_lanes_of_the_parser_agree(lines: list[bytes]) -> None:
    assert_lanes_agree(lines, FORMAT)


@settings(deadline=None, max_examples=200)
@given(line_lists())
def test_both_lanes_of_the_parser_agree_under_a_narrow_contract(lines: list[bytes]) -> None:
    assert_lanes_agree(lines, NARROW)


def assert_lanes_agree(lines: list[bytes], feed_format: BikeShareMap) -> None:
    kept, rejected, duplicates = expected_of(lines, feed_format)

    parsed = feed_format.parse([snapshot_of(payload(*lines, end=b"\n"))])

    if parsed.faults:  # lines of blanks only are no rows at all
        assert parsed.faults["raw/one.txt"].kind is PayloadFault.HEADER_ONLY
        assert not b"".join(lines).strip()
        return
    assert rejects(parsed) == rejected
    assert carried(parsed) == kept
    assert parsed.tallies[0].duplicates == duplicates


@settings(deadline=None, max_examples=200)
@given(line_lists(), st.sampled_from([b"", b"\n"]), st.data())
def test_every_kept_row_is_found_again_by_its_id(lines: list[bytes], end: bytes, data: st.DataObject) -> None:
    body = payload(*lines, end=end)
    parsed = FORMAT.parse([snapshot_of(body)])
    wanted = data.draw(st.sets(st.sampled_from(ids(parsed)))) if ids(parsed) else set()

    found = FORMAT.locate(body, wanted)

    assert set(found) == wanted
    rows = dict(zip(ids(parsed), carried(parsed), strict=True))
    for station_id, (line, received) in found.items():
        assert received == body.split(b"\n")[line - 1]
        assert FORMAT.parse_line(received) == rows[station_id]
        earlier = [FORMAT.parse_line(other) for other in body.split(b"\n")[1 : line - 1]]
        assert station_id not in [values["station_id"] for values in earlier if isinstance(values, dict)]


@pytest.mark.parametrize("folder", ["ucl_wroclaw", "ucl_london", "replay_wroclaw"])
def test_every_recorded_row_is_found_again_by_its_id(folder: str) -> None:
    body = recorded(folder)[0].body
    lines = body.split(b"\n")

    found = FORMAT.locate(body, ids(FORMAT.parse([snapshot_of(body)])))

    assert [number for number, _ in found.values()] == list(range(2, len([line for line in lines if line]) + 1))
    assert all(lines[number - 1] == received for number, received in found.values())


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b'"15001"' + GOOD.removeprefix(b"15001"), id="quotes"),
        pytest.param(b" 15001 " + GOOD.removeprefix(b"15001"), id="blanks"),
        pytest.param("\u00a015001".encode() + GOOD.removeprefix(b"15001"), id="a blank beyond ASCII"),
    ],
)
def test_the_first_of_two_rows_with_one_id_is_found_however_it_is_written(first: bytes) -> None:
    """A row with a no-break space about its id was once overlooked for a later one with the same id."""
    body = payload(OTHER, first, GOOD)
    assert [reject.line for reject in FORMAT.parse([snapshot_of(body)]).rejects] == [4]

    assert FORMAT.locate(body, ["15001"]) == {"15001": (3, first)}


def test_an_id_that_is_not_there_is_not_found() -> None:
    assert FORMAT.locate(payload(GOOD, row("15002", bikes="x")), ["15002", "15003"]) == {}
    assert FORMAT.locate(payload(GOOD), []) == {}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(REAL_LINES), min_size=1, max_size=10, unique=True), st.data())
def test_a_bad_line_never_changes_what_its_neighbours_become(good: list[bytes], data: st.DataObject) -> None:
    bad = data.draw(odd_lines().filter(lambda line: isinstance(FORMAT.parse_line(line), Problem)))
    place = data.draw(st.integers(0, len(good)))

    alone, beside = parse(*good, end=b"\n"), parse(*good[:place], bad, *good[place:], end=b"\n")

    assert beside.rows.equals(alone.rows)
    assert (place + 2, FORMAT.parse_line(bad).rule) in rejects(beside)  # type: ignore[union-attr]
    moved = [(line + (line - 2 >= place), rule) for line, rule in rejects(alone)]
    assert [entry for entry in rejects(beside) if entry[0] != place + 2] == moved


@settings(deadline=None, max_examples=100)
@given(st.lists(mangled(), max_size=4))
def test_parsing_many_snapshots_at_once_is_parsing_one_after_the_other(bodies: list[bytes]) -> None:
    """A day built at once must equal a day built snapshot by snapshot."""
    snapshots = [snapshot_of(body, f"raw/{n}", TIME + dt.timedelta(minutes=n)) for n, body in enumerate(bodies)]

    together = FORMAT.parse(snapshots)
    singly = [FORMAT.parse([snapshot]) for snapshot in snapshots]

    assert together.rows.equals(pa.concat_tables([PROCESSED.empty_table(), *(one.rows for one in singly)]))
    assert together.rejects == tuple(reject for one in singly for reject in one.rejects)
    assert together.tallies == tuple(tally for one in singly for tally in one.tallies)
    assert together.faults == {key: fault for one in singly for key, fault in one.faults.items()}


PACKED_TIMES = st.tuples(st.integers(946_684_800, 4_102_444_799), st.text("0123456789", max_size=9)).map(
    lambda parts: f"{parts[0]}.{parts[1]}|-7200|-3600" if parts[1] else f"{parts[0]}|-7200|-3600"
)


@settings(deadline=None, max_examples=100)
@given(st.lists(PACKED_TIMES, min_size=1, max_size=300, unique=True))
@example([f"{second}.{fraction:06}|0|0" for second in (4_102_444_799, 2**31, 2**31 - 1) for fraction in range(300)])
@example([f"4102444799.{999_999 - n}|0|0" for n in range(2000)])
def test_the_plain_lane_computes_microseconds_exactly(packed: list[str]) -> None:
    """It goes through a double, whose steps near 2100 are half a microsecond."""
    parsed = parse(*(row(str(number), time=text) for number, text in enumerate(packed)))

    exact = [parse_packed_time(text, FORMAT.time_bounds)[0] for text in packed]  # type: ignore[index]
    assert parsed.rows.column("timestamp").cast(pa.int64()).to_pylist() == exact

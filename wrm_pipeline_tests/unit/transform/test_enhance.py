"""Processed rows to enhanced rows: what is added, what is flagged, what is set aside."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.model import Contract, Severity
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.rules import ROW_RULES
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, TIME, bike_row, payload, row, snapshot_of

DAY = TIME.date()
CONTRACT = CONTRACTS.enhanced
ROW_RULE_NAMES = [rule.name for rule in CONTRACT.of_scope(Scope.ROW)]


def processed(*snapshots: Sequence[bytes]) -> pa.Table:
    """Rows of snapshots that came five minutes apart; every row must be a good one."""
    parsed = FORMAT.parse(
        snapshot_of(payload(*lines), f"raw/{n:03}.txt", TIME + n * dt.timedelta(minutes=5))
        for n, lines in enumerate(snapshots)
    )
    assert parsed.rejects == ()
    return parsed.rows


def with_errors(*names: str) -> Contract:
    """The contract, with these rules as errors."""
    errors = {name: replace(CONTRACT.rules[name], severity=Severity.ERROR) for name in names}
    return replace(CONTRACT, rules={**CONTRACT.rules, **errors})


def without(*names: str) -> Contract:
    """The contract without these rules."""
    return replace(CONTRACT, rules={name: rule for name, rule in CONTRACT.rules.items() if name not in names})


def flags_of(rows: pa.Table) -> list[list[str]]:
    flags: list[list[str]] = rows.column("quality_flags").to_pylist()
    return flags


# --- What is added ----------------------------------------------------------------------------------------------------


def test_enhanced_is_processed_and_four_columns_in_the_types_of_the_contract() -> None:
    rows = processed([row(), bike_row(), row("x1")])

    found = enhance(rows, DAY, CONTRACT)

    assert found.rows.schema.equals(ENHANCED)
    assert found.rows.select(PROCESSED.names).equals(rows)
    assert found.rows.column("record_type").to_pylist() == ["station", "bike", "unknown"]
    assert found.rows.column("date").to_pylist() == [DAY] * 3
    assert found.rows.column("in_service_area").to_pylist() == [True] * 3
    assert flags_of(found.rows) == [[], [], ["unknown_record_type"]]
    assert (found.rejected.tolist(), found.broke) == ([], ())


def test_the_day_is_the_one_that_is_built_whatever_the_rows_say() -> None:
    other = dt.date(2025, 1, 1)

    assert enhance(processed([row()]), other, CONTRACT).rows.column("date").to_pylist() == [other]


@pytest.mark.parametrize("contract", [CONTRACT, with_errors(*ROW_RULE_NAMES)], ids=["warnings", "errors"])
def test_a_day_without_rows_has_all_columns(contract: Contract) -> None:
    found = enhance(PROCESSED.empty_table(), DAY, contract)

    assert found.rows.schema.equals(ENHANCED)
    assert (found.rows.num_rows, found.rejected.tolist(), found.broke) == (0, [], ())


def test_rows_in_many_pieces_are_the_same_rows() -> None:
    rows = processed([row("1"), row("2", bikes="42")], [row("1", name="Other"), row("2")])
    pieces = pa.concat_tables([rows.slice(n, 1) for n in range(4)])

    assert enhance(pieces, DAY, CONTRACT).rows.equals(enhance(rows, DAY, CONTRACT).rows)


# --- What is flagged --------------------------------------------------------------------------------------------------


def test_the_flags_of_a_row_are_sorted_whatever_the_order_of_the_contract() -> None:
    rows = processed([row(bikes="1", spaces="0", docks="0", lat="52.28", lon="21.01")])
    backwards = replace(CONTRACT, rules=dict(reversed(list(CONTRACT.rules.items()))))

    assert flags_of(enhance(rows, DAY, CONTRACT).rows) == [["off_zone", "overfull", "zero_docks"]]
    assert flags_of(enhance(rows, DAY, backwards).rows) == [["off_zone", "overfull", "zero_docks"]]


def test_a_row_can_meet_all_rules_that_do_not_exclude_each_other() -> None:
    first = row("1", bikes="42")
    other = row("1", time="1747066000|0|0", name="Other", bikes="1", spaces="0", docks="0", lat="52", lon="21")

    (_, flags) = flags_of(enhance(processed([first], [other]), DAY, CONTRACT).rows)

    excluded = {"battery_out_of_range", "future_row_time", "racks_out_of_use", "unknown_record_type"}
    assert set(flags) == set(ROW_RULE_NAMES) - excluded


@pytest.mark.parametrize("name", ROW_RULE_NAMES)
def test_a_rule_that_the_contract_leaves_out_is_not_applied(name: str) -> None:
    rows = processed(*BREAKING_EACH)
    before, after = (flags_of(enhance(rows, DAY, contract).rows) for contract in (CONTRACT, without(name)))

    assert any(name in flags for flags in before)
    assert after == [[flag for flag in flags if flag != name] for flags in before]


def test_without_any_rule_no_row_is_flagged() -> None:
    rows = processed(*BREAKING_EACH)

    assert flags_of(enhance(rows, DAY, without(*ROW_RULE_NAMES)).rows) == [[]] * rows.num_rows


def test_without_a_service_area_every_place_is_inside() -> None:
    rows = processed([row(lat="52.28", lon="21.01")])

    assert enhance(rows, DAY, CONTRACT).rows.column("in_service_area").to_pylist() == [False]
    assert enhance(rows, DAY, without("off_zone")).rows.column("in_service_area").to_pylist() == [True]


# Some row of these meets each rule.
BREAKING_EACH = (
    [row("1"), row("2", bikes="42"), row("3", bikes="0"), row("4", bikes="0", spaces="0", docks="0"), row("x")],
    [
        row("1", name="Other", lat="52", time="1747073407.9|0|0"),
        bike_row(battery="101"),
        row("5", time="1747000000|0|0"),
    ],
    [row("6", time="1747080000|0|0")],
)


# --- What is set aside ------------------------------------------------------------------------------------------------


def test_a_row_that_meets_an_error_rule_is_set_aside_with_the_rule_and_its_neighbours_stay() -> None:
    rows = processed([row("1"), row("2", bikes="42"), row("3")], [row("2", bikes="42")])

    found = enhance(rows, DAY, with_errors("overfull"))

    assert found.rejected.tolist() == [1, 3]
    assert [rule.name for rule in found.broke] == ["overfull", "overfull"]
    assert found.rows.column("station_id").to_pylist() == ["1", "3"]
    assert flags_of(found.rows) == [[], []]
    assert found.rows.schema.equals(ENHANCED)


def test_a_row_that_meets_several_error_rules_is_set_aside_once_under_the_first_of_the_contract() -> None:
    rows = processed([row(bikes="42", lat="52.28"), row("2", lat="52.28")])
    order = [name for name in ROW_RULE_NAMES if name in {"overfull", "off_zone"}]

    found = enhance(rows, DAY, with_errors("off_zone", "overfull"))

    assert order == ["overfull", "off_zone"]
    assert found.rejected.tolist() == [0, 1]
    assert [rule.name for rule in found.broke] == ["overfull", "off_zone"]


def test_a_day_on_which_every_row_is_bad_is_a_day_without_rows() -> None:
    rows = processed([row("1", bikes="42"), row("2", bikes="42")])

    found = enhance(rows, DAY, with_errors("overfull"))

    assert found.rejected.tolist() == [0, 1]
    assert found.rows.num_rows == 0
    assert found.rows.schema.equals(ENHANCED)


def test_a_row_that_was_set_aside_is_still_the_previous_row_of_the_next_one() -> None:
    """It was seen: what a rule says of a row must not depend on how severe another rule is."""
    rows = processed([row("1", bikes="42", name="A")], [row("1", name="B")], [row("1", name="B")])

    assert flags_of(enhance(rows, DAY, with_errors("overfull")).rows) == [["name_changed"], []]


# --- Properties -------------------------------------------------------------------------------------------------------

LINES = st.builds(
    row,
    st.sampled_from(["1", "2", "fb1", "x"]),
    name=st.sampled_from(["Rynek", "Plac Bema", "BIKE 1"]),
    time=st.sampled_from(["1747073407|0|0", "1747073408|0|0", "1747000000|0|0", "1748000000|0|0"]),
    lat=st.sampled_from(["51.1", "51.1001", "51.2", "52.28"]),
    bikes=st.sampled_from(["0", "8", "999999999"]),
    spaces=st.sampled_from(["0", "8", "999999999"]),
    docks=st.sampled_from(["0", "16"]),
    overloaded=st.sampled_from(["true", "-1", "55", "101", ""]),
)
SNAPSHOTS = st.lists(
    st.lists(LINES, min_size=1, max_size=4, unique_by=lambda line: line.partition(b",")[0]), min_size=1, max_size=5
)


@settings(deadline=None)
@given(SNAPSHOTS)
def test_flags_are_sorted_names_of_warning_rules(snapshots: list[list[bytes]]) -> None:
    for flags in flags_of(enhance(processed(*snapshots), DAY, CONTRACT).rows):
        assert flags == sorted(set(flags))
        assert set(flags) <= set(ROW_RULES)


@settings(deadline=None)
@given(SNAPSHOTS)
def test_a_row_means_the_same_whatever_other_stations_and_bikes_there_are(snapshots: list[list[bytes]]) -> None:
    rows = processed(*snapshots)

    together = enhance(rows, DAY, CONTRACT).rows

    for station_id in set(rows.column("station_id").to_pylist()):
        alone = enhance(rows.filter(pc.equal(rows.column("station_id"), station_id)), DAY, CONTRACT).rows
        assert together.filter(pc.equal(together.column("station_id"), station_id)).equals(alone)


@settings(deadline=None)
@given(SNAPSHOTS)
def test_a_row_means_the_same_whatever_comes_after_it(snapshots: list[list[bytes]]) -> None:
    """So a snapshot that is appended to a day changes nothing of what is stored."""
    rows = processed(*snapshots)

    whole = enhance(rows, DAY, CONTRACT).rows

    for count in range(rows.num_rows):
        assert enhance(rows.slice(0, count), DAY, CONTRACT).rows.equals(whole.slice(0, count))


@settings(deadline=None)
@given(SNAPSHOTS, st.sets(st.sampled_from(ROW_RULE_NAMES)))
def test_the_severities_decide_what_becomes_of_a_row_and_not_which_rules_it_meets(
    snapshots: list[list[bytes]], errors: set[str]
) -> None:
    rows = processed(*snapshots)
    met = flags_of(enhance(rows, DAY, CONTRACT).rows)

    found = enhance(rows, DAY, with_errors(*errors))

    broken = {n: [name for name in ROW_RULE_NAMES if name in errors & set(names)] for n, names in enumerate(met)}
    assert found.rejected.tolist() == [n for n, names in broken.items() if names]
    assert [rule.name for rule in found.broke] == [names[0] for names in broken.values() if names]
    kept = [n for n, names in broken.items() if not names]
    assert found.rows.select(PROCESSED.names).equals(rows.take(pa.array(kept, type=pa.int64())))
    assert flags_of(found.rows) == [[name for name in met[n] if name not in errors] for n in kept]


def counts(flags: list[list[str]]) -> Mapping[str, int]:
    return {name: sum(name in of_row for of_row in flags) for name in ROW_RULE_NAMES}


def test_the_examples_of_this_file_break_each_rule() -> None:
    assert all(counts(flags_of(enhance(processed(*BREAKING_EACH), DAY, CONTRACT).rows)).values())

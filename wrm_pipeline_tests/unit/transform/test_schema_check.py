"""The schema check: rows that fit a contract, and each way in which a column does not."""

import datetime as dt
import math
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from wrm_pipeline.contracts.model import Column, Contract
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline.transform.schema_check import SchemaProblem, pandera_schema, schema_problems
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, TIME, bike_row, payload, recorded, row, snapshot_of

CONTRACT = CONTRACTS.enhanced


def good() -> pa.Table:
    """Four rows of enhanced: stations, a bike with a battery level, a bike without."""
    lines = [row("15001"), row("15002", bikes="0"), bike_row(1, battery="0"), bike_row(2, battery="-1")]
    parsed = FORMAT.parse([snapshot_of(payload(*lines))])
    return enhance(parsed.rows, TIME.date(), CONTRACT).rows


def having(name: str, values: list[Any], type_: pa.DataType | None = None) -> pa.Table:
    """The good rows with one column replaced."""
    rows = good()
    column = pa.array(values, type_ or rows.schema.field(name).type)
    return rows.set_column(rows.column_names.index(name), pa.field(name, column.type), column)


@pytest.mark.parametrize("folder", ["ucl_wroclaw", "replay_wroclaw", "ucl_london"])
def test_recorded_snapshots_fit_both_contracts(folder: str) -> None:
    parsed = FORMAT.parse(
        snapshot_of(item.body, f"raw/{number}", item.time) for number, item in enumerate(recorded(folder))
    )

    assert schema_problems(parsed.rows, CONTRACTS.processed) == []
    assert schema_problems(enhance(parsed.rows, TIME.date(), CONTRACT).rows, CONTRACT) == []


@pytest.mark.parametrize(("contract", "schema"), [(CONTRACTS.processed, PROCESSED), (CONTRACTS.enhanced, ENHANCED)])
def test_the_schema_has_the_contracts_columns(contract: Contract, schema: pa.Schema) -> None:
    made = pandera_schema(contract)

    assert list(made.columns) == schema.names
    assert {name for name, column in made.columns.items() if column.nullable} == {
        column.name for column in contract.columns if column.nullable
    }
    assert schema_problems(schema.empty_table(), contract) == []


def test_rows_in_pieces_are_judged_as_a_whole() -> None:
    rows = good()

    assert schema_problems(pa.concat_tables([rows.slice(0, 1), rows.slice(1)]), CONTRACT) == []


def at_bounds(column: Column) -> list[tuple[Any, bool]]:
    """Values at a column's bounds, and the next ones beyond them."""
    step: Any = dt.timedelta(microseconds=1) if isinstance(column.minimum or column.maximum, dt.datetime) else 1

    def below(value: Any) -> Any:
        return math.nextafter(value, -math.inf) if isinstance(value, float) else value - step

    def above(value: Any) -> Any:
        return math.nextafter(value, math.inf) if isinstance(value, float) else value + step

    return [
        *([(column.minimum, True), (below(column.minimum), False)] if column.minimum is not None else []),
        *([(column.maximum, True), (above(column.maximum), False)] if column.maximum is not None else []),
    ]


BOUNDED = [
    (column, value, fits)
    for column in CONTRACT.columns
    if not pa.types.is_string(column.type)
    for value, fits in at_bounds(column)
]


@pytest.mark.parametrize(("column", "value", "fits"), BOUNDED, ids=lambda x: getattr(x, "name", str(x)))
def test_bounds_are_the_contracts_and_belong_to_what_is_allowed(column: Column, value: Any, fits: bool) -> None:
    rows = having(column.name, [*good().column(column.name).to_pylist()[:3], value])

    problems = schema_problems(rows, CONTRACT)

    if fits:
        assert problems == []
    else:
        (problem,) = problems
        assert (problem.column, problem.count, problem.values, problem.rows) == (column.name, 1, (value,), (3,))
        assert problem.check.startswith((">= ", "<= "))


def test_every_bound_of_the_contract_is_tried() -> None:
    assert {column.name for column, _, _ in BOUNDED} == {
        "timestamp", "lat", "lon", "bikes", "spaces", "total_docks", "pedelecs", "battery_level",
    }  # fmt: skip


def test_a_number_that_is_none_is_out_of_bounds() -> None:
    (low, high) = schema_problems(having("lat", [math.nan, 51.1, 51.1, 51.1]), CONTRACT)

    assert (low.check, high.check, low.rows, high.rows) == (">= -90.0", "<= 90.0", (0,), (0,))


@pytest.mark.parametrize("column", [c for c in CONTRACT.columns if not c.nullable], ids=lambda c: c.name)
def test_a_null_where_there_may_be_none(column: Column) -> None:
    rows = having(column.name, [*good().column(column.name).to_pylist()[:3], None])

    assert schema_problems(rows, CONTRACT) == [SchemaProblem(column.name, "it may not be null", 1, (None,), (3,))]


@pytest.mark.parametrize("column", CONTRACT.columns, ids=lambda c: c.name)
def test_a_missing_column(column: Column) -> None:
    assert schema_problems(good().drop([column.name]), CONTRACT) == [
        SchemaProblem(column.name, "the column is missing")
    ]


def test_a_column_that_the_contract_does_not_know() -> None:
    rows = good().append_column("colour", pa.array(["red"] * 4))

    assert schema_problems(rows, CONTRACT) == [SchemaProblem("colour", "the contract has no such column")]


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("bikes", pa.int64()),
        ("bikes", pa.string()),
        ("lat", pa.float32()),
        ("timestamp", pa.timestamp("us")),
        ("file_timestamp", pa.timestamp("ns", "UTC")),
        ("date", pa.timestamp("us")),
        ("installed", pa.string()),
        ("record_type", pa.large_string()),
        ("quality_flags", pa.list_(pa.large_string())),
    ],
)
def test_a_column_of_another_type_is_one_problem_however_its_values_fare(name: str, type_: pa.DataType) -> None:
    rows = good()
    retyped = rows.set_column(rows.column_names.index(name), name, rows.column(name).cast(type_))

    wanted = ENHANCED.field(name).type
    assert schema_problems(retyped, CONTRACT) == [SchemaProblem(name, f"its type is {type_}, not {wanted}")]


def test_a_text_that_is_too_short_or_too_long() -> None:
    short = CONTRACT.column("station_id")
    assert (short.minimum, short.maximum) == (1, None)
    rows = having("station_id", ["15001", "", "ą", ""])

    assert schema_problems(rows, CONTRACT) == [SchemaProblem("station_id", "length >= 1", 2, ("", ""), (1, 3))]

    columns = tuple(replace(c, maximum=2) if c.name == "station_id" else c for c in CONTRACT.columns)
    found = schema_problems(having("station_id", ["ąą", "abc", "a", "1"]), replace(CONTRACT, columns=columns))
    assert found == [SchemaProblem("station_id", "length >= 1 and <= 2", 1, ("abc",), (1,))]


def test_a_value_that_is_not_among_those_allowed() -> None:
    rows = having("record_type", ["station", "bike", "unknown", "tram"])

    (problem,) = schema_problems(rows, CONTRACT)

    assert problem == SchemaProblem("record_type", "one of station, bike, unknown", 1, ("tram",), (3,))


def test_everything_is_found_at_once_in_the_order_of_the_contract_and_only_the_first_values_are_shown() -> None:
    rows = pa.concat_tables([having("spaces", [-1, -2, 3, -4])] * 3).combine_chunks()
    rows = rows.drop(["name"]).append_column("extra", pa.nulls(12, pa.int8()))

    found = schema_problems(rows, CONTRACT)

    assert [problem.column for problem in found] == ["name", "spaces", "extra"]
    spaces = found[1]
    assert (spaces.count, spaces.values, spaces.rows) == (9, (-1, -2, -4, -1, -2), (0, 1, 3, 4, 5))

"""Markdown in the UI: names come from a public feed, and must not become markup or break a table."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.assets.metadata import markdown_table, preview, record_type_counts
from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline_tests.fixtures.dagster import DAY, DAY_ASSETS, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT


def bars(line: str) -> int:
    """Count the bars that end a cell."""
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))


@pytest.mark.parametrize(
    "hostile",
    [
        "a | b",
        "<script>alert(1)</script>",
        "first\nsecond",
        "first\r\nsecond",
        "\\|",
        "\\\\|",
        "&lt;b>",
        "a\x0bb",
        "a\u2028b",
    ],
)
def test_a_hostile_name_stays_in_its_cell(hostile: str) -> None:
    table = markdown_table(["name", "n"], [[hostile, 1]])

    assert len(table.splitlines()) == 3
    assert bars(table.splitlines()[2]) == 3
    assert not set("<[`") & set(table)


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_no_text_breaks_out_of_its_cell(cells: list[str]) -> None:
    lines = markdown_table(["a", "b"], [cells]).splitlines()

    assert len(lines) == 3
    assert bars(lines[2]) == 3
    assert "<" not in lines[2]


def test_lists_are_joined_and_nothing_is_blank() -> None:
    assert markdown_table(["a", "b"], [[["x", "y"], None]]).splitlines()[2] == "| x, y |  |"


def processed() -> pa.Table:
    return FORMAT.parse([Snapshot("k", at(8), snapshot(1, at(8)))]).rows


def test_a_preview_shows_the_first_rows_and_the_columns_that_there_are() -> None:
    head, _, *rows = preview(enhance(processed(), DAY, CONTRACTS.enhanced).rows).splitlines()

    assert head.startswith("| station_id | name | record_type |")
    assert len(rows) == 5
    assert "record_type" not in preview(processed())


def test_types_are_counted_alike_before_and_after_they_are_a_column() -> None:
    rows = processed()

    assert record_type_counts(rows) == record_type_counts(enhance(rows, DAY, CONTRACTS.enhanced).rows)
    assert sum(record_type_counts(rows).values()) == rows.num_rows


def test_a_hostile_name_from_the_feed_reaches_the_ui_escaped(pipeline: Pipeline) -> None:
    header, first, *rest = snapshot(1, at(8)).decode().split("\n")
    fields = first.split(",")
    fields[2] = '"<script>alert(1)</script> | x"'
    put_raw(pipeline.lake, at(8), "\n".join([header, ",".join(fields), *rest]).encode())

    run = pipeline.process(DAY)

    for asset in DAY_ASSETS[:2]:
        shown = pipeline.materializations(run, asset)[DAY.isoformat()]["preview"]
        assert "alert(1)" in shown
        assert "<script" not in shown
        assert {bars(line) for line in shown.splitlines()} == {bars(shown.splitlines()[0])}

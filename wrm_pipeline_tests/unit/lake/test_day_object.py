"""One day as one Parquet object: the same rows and manifest give the same bytes, and damage is found."""

import datetime as dt
import io
import json
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.lake.day_object import (
    Manifest,
    Source,
    UnreadableDayError,
    decode,
    encode,
    inputs_digest,
    object_metadata,
    recorded_code_version,
)
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, TIME, bike_row, payload, row, snapshot_of

DAY = TIME.date()
ROWS = FORMAT.parse(
    [snapshot_of(payload(*(row(str(n)) for n in range(50)), *(bike_row(n, battery=str(n)) for n in range(50))))]
).rows
SOURCE = Source("raw/one.txt", "etag-1", rows=103, kept=100, dead=1, duplicates=2)
MANIFEST = Manifest(Layer.PROCESSED, DAY, "1+pyarrow0", (SOURCE,))
FAULTY = replace(MANIFEST, sources=(SOURCE, Source("raw/ż,\n.txt", 'e"2', fault="html")))
BODY = encode(ROWS, MANIFEST)


def raw_parquet(table: pa.Table, manifest: str | None) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        if manifest is not None:
            writer.add_key_value_metadata({"wrm_manifest": manifest})
    return sink.getvalue()


def document(**changes: object) -> str:
    good = {"layer": "processed", "day": "2025-05-12", "code_version": "1", "inputs": [{"key": "k", "etag": "e"}]}
    return json.dumps({**good, **changes})


def test_rows_and_manifest_come_back_as_they_were() -> None:
    rows, manifest = decode(encode(ROWS, FAULTY), PROCESSED)

    assert rows.equals(ROWS)
    assert rows.schema.equals(PROCESSED)
    assert manifest == FAULTY


def test_enhanced_comes_back_as_it_was() -> None:
    table = enhance(ROWS, DAY, CONTRACTS.enhanced).rows

    rows, manifest = decode(encode(table, replace(MANIFEST, layer=Layer.ENHANCED)), ENHANCED)

    assert rows.equals(table)
    assert manifest.layer is Layer.ENHANCED


def test_a_day_without_rows_comes_back() -> None:
    empty = replace(MANIFEST, sources=(Source("k", "e", fault="html"),))

    rows, manifest = decode(encode(PROCESSED.empty_table(), empty), PROCESSED)

    assert (rows.num_rows, manifest) == (0, empty)


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), max_size=6))
def test_the_bytes_do_not_depend_on_the_pieces_a_day_was_put_together_from(cuts: list[int]) -> None:
    """Page boundaries once followed the chunks of the table, so an incremental day differed from a full one."""
    edges = [0, *sorted(cuts), 100]
    pieces = [ROWS.slice(start, end - start) for start, end in pairwise(edges)]

    assert encode(pa.concat_tables(pieces), MANIFEST) == BODY


def test_the_bytes_do_not_depend_on_how_texts_are_held() -> None:
    rows, manifest = decode(BODY, PROCESSED)

    assert encode(rows, manifest) == BODY


def test_a_day_of_many_row_groups_does_not_depend_on_its_pieces_either() -> None:
    big = pa.concat_tables([ROWS] * 3000)
    manifest = replace(MANIFEST, sources=(replace(SOURCE, kept=big.num_rows),))

    body = encode(big, manifest)

    assert pq.ParquetFile(io.BytesIO(body)).metadata.num_row_groups == 3
    assert encode(pa.concat_tables([big.slice(0, 131_071), big.slice(131_071)]), manifest) == body
    rows, read = decode(body, PROCESSED)
    assert encode(rows, read) == body


def test_pages_do_not_follow_the_pieces_either() -> None:
    """Texts that are all different fill more than one page, and a page ends where the writer's batch does."""
    names = pa.array([f"{n:0100}" for n in range(30_000)])
    table = pa.table({"name": names})
    manifest = replace(MANIFEST, sources=(replace(SOURCE, kept=30_000),))

    pieces = pa.concat_tables([table.slice(start, 777) for start in range(0, 30_000, 777)])

    assert encode(pieces, manifest) == encode(table, manifest)


def test_any_parquet_reader_sees_plain_typed_columns_and_utc() -> None:
    schema = pq.ParquetFile(io.BytesIO(BODY)).schema

    times = schema.column(PROCESSED.names.index("file_timestamp"))
    kind = json.loads(times.logical_type.to_json())
    assert (kind["Type"], kind["isAdjustedToUTC"], kind["timeUnit"]) == ("Timestamp", True, "microseconds")
    assert {schema.column(i).name for i in range(len(PROCESSED)) if schema.column(i).max_definition_level == 0} == {
        field.name for field in PROCESSED if not field.nullable
    }


DAMAGED = {
    "nothing": b"",
    "garbage": b"not parquet at all" * 50,
    "cut in half": BODY[: len(BODY) // 2],
    "the end cut off": BODY[:-1],
    "the beginning cut off": BODY[100:],
    "pages overwritten": BODY[:50] + b"\0" * 400 + BODY[450:],
    "no manifest": raw_parquet(ROWS, None),
    "a manifest that is no JSON": raw_parquet(ROWS, "{"),
    "a manifest that is a list": raw_parquet(ROWS, "[]"),
    "a manifest without a day": raw_parquet(ROWS, "{}"),
    "a layer that does not exist": raw_parquet(ROWS, document(layer="marts")),
    "a day that does not exist": raw_parquet(ROWS, document(day="2025-02-30")),
    "a day that is no text": raw_parquet(ROWS, document(day=5)),
    "an unknown count": raw_parquet(ROWS, document(inputs=[{"key": "k", "etag": "e", "kept": 100, "lost": 1}])),
    "inputs that are no list": raw_parquet(ROWS, document(inputs=5)),
    "another number of rows": raw_parquet(ROWS, document(inputs=[{"key": "k", "etag": "e", "kept": 99}])),
    "a column missing": raw_parquet(ROWS.drop(["bikes"]), document(inputs=[{"key": "k", "etag": "e", "kept": 100}])),
    "nulls where none may be": raw_parquet(
        pa.table({n: ROWS[n] if n != "bikes" else pa.nulls(100, pa.int32()) for n in PROCESSED.names}),
        document(inputs=[{"key": "k", "etag": "e", "kept": 100}]),
    ),
    "a column of another type": raw_parquet(
        pa.table({n: ROWS[n] if n != "bikes" else pa.array(["x"] * 100) for n in PROCESSED.names}),
        document(inputs=[{"key": "k", "etag": "e", "kept": 100}]),
    ),
    "counts that are no numbers": raw_parquet(ROWS, document(inputs=[{"key": "k", "etag": "e", "kept": "100"}])),
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_one_kind_of_error(body: bytes) -> None:
    with pytest.raises(UnreadableDayError):
        decode(body, PROCESSED)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(BODY) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damaged_bytes_are_unreadable_or_read_as_something_of_the_right_shape(edits: list[tuple[int, int]]) -> None:
    body = bytearray(BODY)
    for place, value in edits:
        body[place] = value

    try:
        rows, manifest = decode(bytes(body), PROCESSED)
    except UnreadableDayError:
        return
    assert rows.schema.equals(PROCESSED)
    assert rows.num_rows == manifest.total("kept")


def test_equal_inputs_have_equal_digests_whatever_their_order() -> None:
    assert inputs_digest([("a", "1"), ("b", "2")]) == inputs_digest([("b", "2"), ("a", "1")])


@pytest.mark.parametrize("other", [[("a", "1")], [("a", "1"), ("b", "3")], [("a", "2"), ("b", "1")], []])
def test_other_inputs_have_other_digests(other: list[tuple[str, str]]) -> None:
    assert inputs_digest([("a", "1"), ("b", "2")]) != inputs_digest(other)


def test_one_head_tells_what_a_day_was_built_from() -> None:
    assert object_metadata(FAULTY) == {
        "inputs-sha256": inputs_digest(FAULTY.inputs().items()),
        "code-version": "1+pyarrow0",
        "rows": "100",
        "snapshots": "1",
    }
    assert FAULTY.inputs() == {"raw/one.txt": "etag-1", "raw/ż,\n.txt": 'e"2'}
    assert [FAULTY.total(count) for count in ("rows", "kept", "dead", "duplicates")] == [103, 100, 1, 2]


def test_the_code_version_names_the_contract_and_the_parquet_writer() -> None:
    assert recorded_code_version("7", "1.2.0-3f9a1c20") == f"7+contract1.2.0-3f9a1c20+pyarrow{pa.__version__}"


def test_a_day_is_the_day_of_its_manifest() -> None:
    _, manifest = decode(encode(ROWS, replace(MANIFEST, day=dt.date(2025, 1, 2))), PROCESSED)

    assert manifest.day == dt.date(2025, 1, 2)

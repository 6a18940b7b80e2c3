"""Frames: what was put under a key comes back from it, and nothing else does."""

import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.cache.cache import cache_key
from wrm_pipeline.cache.frame import ARROW, BYTES, JSON, Entry, PoisonedValueError, frame, unframe

KEY = cache_key("body", "a", "etag")
entries = st.builds(
    Entry,
    st.sampled_from([BYTES.tag, JSON.tag, ARROW.tag]),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.binary(max_size=200),
)
json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(entries)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert unframe(KEY, frame(KEY, entry)) == entry


@given(entries, st.data())
def test_any_byte_that_is_changed_is_noticed(entry: Entry, data: st.DataObject) -> None:
    framed = bytearray(frame(KEY, entry))
    at = data.draw(st.integers(0, len(framed) - 1))
    framed[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(PoisonedValueError):
        unframe(KEY, bytes(framed))


@given(entries, st.data())
def test_a_cut_frame_and_a_longer_one_are_noticed(entry: Entry, data: st.DataObject) -> None:
    framed = frame(KEY, entry)
    cut = framed[: data.draw(st.integers(0, len(framed) - 1))]

    for poisoned in (cut, framed + data.draw(st.binary(min_size=1, max_size=5))):
        with pytest.raises(PoisonedValueError):
            unframe(KEY, poisoned)


@given(entries)
def test_a_frame_of_another_key_is_noticed(entry: Entry) -> None:
    with pytest.raises(PoisonedValueError, match=KEY):
        unframe(KEY, frame(cache_key("body", "another", "etag"), entry))


@given(st.binary(max_size=100))
def test_what_somebody_else_put_there_is_noticed(foreign: bytes) -> None:
    for value in (foreign, pickle.dumps(foreign)):
        with pytest.raises(PoisonedValueError):
            unframe(KEY, value)


@given(json_values)
def test_json_comes_back(value: object) -> None:
    assert JSON.decode(JSON.encode(value)) == value


def test_json_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        JSON.encode(float("nan"))


def test_a_table_comes_back_with_its_schema_and_metadata() -> None:
    schema = pa.schema(
        [pa.field("flags", pa.list_(pa.string())), pa.field("at", pa.timestamp("us", "UTC"))], {b"k": b"v"}
    )
    table = pa.table([[["a", "b"], None, []], [1, None, 3]], schema=schema)

    back = ARROW.decode(ARROW.encode(table))

    assert back.equals(table, check_metadata=True)


@given(st.binary(max_size=100))
def test_bytes_that_are_no_table_are_a_value_error(payload: bytes) -> None:
    with pytest.raises((ValueError, OSError)):
        ARROW.decode(payload)


@given(st.lists(st.text(max_size=3), max_size=3), st.lists(st.text(max_size=3), max_size=3))
def test_other_dependencies_are_another_key(one: list[str], other: list[str]) -> None:
    assert (cache_key("k", *one) == cache_key("k", *other)) == (one == other)


def test_a_key_says_its_schema_version_and_kind() -> None:
    assert KEY.startswith("wrm:v1:body:")
    assert cache_key("etag", "a") != cache_key("body", "a")
    for kind in ("", "a:b", "A", "../up", "9"):
        with pytest.raises(ValueError, match="not a kind"):
            cache_key(kind)

"""Work on distinct values."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.transform.distinct import map_distinct


@given(st.lists(st.none() | st.integers(-3, 3)))
def test_it_is_a_map_over_the_rows_and_nulls_stay_null(values: list[int | None]) -> None:
    mapped = map_distinct(pa.array(values, type=pa.int32()), str, pa.string())

    assert mapped.to_pylist() == [None if value is None else str(value) for value in values]
    assert mapped.type == pa.string()


def test_the_function_is_called_once_a_value() -> None:
    calls: list[str] = []

    map_distinct(pa.array(["a", "b", "a", "a"]), calls.append, pa.null())

    assert calls == ["a", "b"]


@pytest.mark.parametrize("encoded", [True, False])
def test_dictionaries_are_taken_as_they_are(encoded: bool) -> None:
    column = pa.array(["x", "yy", "x"])

    assert map_distinct(column.dictionary_encode() if encoded else column, len, pa.int64()).to_pylist() == [1, 2, 1]

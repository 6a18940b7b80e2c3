"""Work on the distinct values of a column instead of on its rows: a day has 215,000 rows and a few hundred values."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa


def map_distinct(column: pa.Array, function: Callable[[Any], Any], to: pa.DataType) -> pa.Array:
    """Apply a scalar function to every row of an array, calling it once a distinct value; nulls stay null."""
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    values = pa.array([function(value) for value in encoded.dictionary.to_pylist()], type=to)
    return values.take(encoded.indices)

"""What a row is: a station, a free-standing bike, or unknown; and what the overloaded column means for it."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wrm_pipeline.contracts.model import Column
from wrm_pipeline.transform.distinct import map_distinct

UNKNOWN: Final = 0
STATION: Final = 1
BIKE: Final = 2
# At the position of their codes.
RECORD_TYPES: Final = pa.array(["unknown", "station", "bike"])


def as_whole(text: str) -> int | None:
    """Return the whole number that a text is, blanks around it aside, or None."""
    stripped = text.strip()
    digits = stripped.removeprefix("-")
    return int(stripped) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def _id_code(station_id: str) -> int:
    if station_id.isascii() and station_id.isdigit():
        return STATION
    return BIKE if station_id[:2] == "fb" and station_id[2:].isascii() and station_id[2:].isdigit() else UNKNOWN


def record_codes(ids: pa.Array, names: pa.Array) -> np.ndarray:
    """Classify rows as `UNKNOWN`, `STATION` or `BIKE` (int8).

    Digits and a place's name is a station, `fb…` named `BIKE…` a bike.
    """
    by_id = map_distinct(ids, _id_code, pa.int8()).fill_null(UNKNOWN).to_numpy()
    named_bike = map_distinct(names, lambda v: int(v.startswith("BIKE")), pa.int8()).fill_null(0).to_numpy()
    codes: np.ndarray = np.where((by_id == BIKE) == (named_bike == 1), by_id, np.int8(UNKNOWN))
    return codes


def record_types(ids: pa.Array, names: pa.Array) -> pa.Array:
    """Classify rows as the texts `station`, `bike` or `unknown`."""
    return RECORD_TYPES.take(pa.array(record_codes(ids, names)))


def split_overloaded(texts: pa.Array, ids: pa.Array, names: pa.Array, battery: Column) -> tuple[pa.Array, pa.Array]:
    """Split the overloaded twelfth column into `gives_bonus` and `battery_level`.

    `gives_bonus` is null for bikes, `battery_level` (percent, within the bounds of its column) is null for stations,
    when unknown and when out of range; the text itself is kept elsewhere.
    """
    codes = record_codes(ids, names)
    bonus = map_distinct(texts, lambda v: {"true": True, "false": False}.get(v.strip().lower()), pa.bool_())
    levels = map_distinct(
        texts, lambda v: level if (level := as_whole(v)) is not None and in_range(level, battery) else None, pa.int32()
    )
    return (
        pc.if_else(pa.array(codes != BIKE), bonus, pa.scalar(None, pa.bool_())),
        pc.if_else(pa.array(codes != STATION), levels, pa.scalar(None, pa.int32())),
    )


def in_range(value: int, column: Column) -> bool:
    """Tell whether a whole number lies within a column's bounds."""
    low, high = column.minimum, column.maximum
    return (not isinstance(low, int) or value >= low) and (not isinstance(high, int) or value <= high)

"""What a row is, and which warning rules it meets. Vectorised; a flag never removes a row."""

import datetime as dt
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wrm_pipeline.contracts.bounds import (
    BATTERY_RANGE,
    BATTERY_UNKNOWN,
    ROW_TIME_TOLERANCE_S,
    SERVICE_AREA_LAT,
    SERVICE_AREA_LON,
)
from wrm_pipeline.transform.distinct import map_distinct
from wrm_pipeline.transform.schema import ENHANCED

# Sorted, because quality_flags is; a row's flags are a bit mask over this tuple until the end.
FLAGS: Final = (
    "battery_out_of_range",
    "future_row_time",
    "off_zone",
    "overfull",
    "racks_out_of_use",
    "stale_row_time",
    "unknown_record_type",
    "zero_docks",
)

# The flags of every possible mask, at its position.
_FLAG_LISTS: Final = pa.array(
    [[flag for i, flag in enumerate(FLAGS) if mask >> i & 1] for mask in range(1 << len(FLAGS))],
    type=pa.list_(pa.string()),
)
_RECORD_TYPES: Final = pa.array(["unknown", "station", "bike"])


def _as_whole(text: str) -> int | None:
    stripped = text.strip()
    digits = stripped.removeprefix("-")
    return int(stripped) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def _id_code(station_id: str) -> int:
    if station_id.isascii() and station_id.isdigit():
        return 1
    return 2 if station_id[:2] == "fb" and station_id[2:].isascii() and station_id[2:].isdigit() else 0


def _codes(ids: pa.Array, names: pa.Array) -> np.ndarray:
    """0 unknown, 1 station, 2 bike."""
    by_id = map_distinct(ids, _id_code, pa.int8()).fill_null(0).to_numpy()
    named_bike = map_distinct(names, lambda v: int(v.startswith("BIKE")), pa.int8()).fill_null(0).to_numpy()
    codes: np.ndarray = np.where((by_id == 2) == (named_bike == 1), by_id, np.int8(0))
    return codes


def record_types(ids: pa.Array, names: pa.Array) -> pa.Array:
    """Classify rows: digits and a place's name is a `station`, `fb…` named `BIKE…` a `bike`, else `unknown`."""
    return _RECORD_TYPES.take(pa.array(_codes(ids, names)))


def split_overloaded(texts: pa.Array, ids: pa.Array, names: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Split the overloaded twelfth column into `gives_bonus` and `battery_level`.

    `gives_bonus` is null for bikes, `battery_level` (percent, 0-100) is null for stations, when unknown (-1) and when
    out of range; the text itself is kept elsewhere.
    """
    codes = _codes(ids, names)
    bonus = map_distinct(texts, lambda v: {"true": True, "false": False}.get(v.strip().lower()), pa.bool_())
    low, high = BATTERY_RANGE
    battery = map_distinct(
        texts, lambda v: n if (n := _as_whole(v)) is not None and low <= n <= high else None, pa.int32()
    )
    return (
        pc.if_else(pa.array(codes != 2), bonus, pa.scalar(None, pa.bool_())),
        pc.if_else(pa.array(codes != 1), battery, pa.scalar(None, pa.int32())),
    )


def enhance(processed: pa.Table, day: dt.date) -> pa.Table:
    """Add `record_type`, `date`, `in_service_area` and `quality_flags` to rows of processed."""
    table = processed.combine_chunks()

    def column(name: str) -> pa.Array:
        chunks = table.column(name)
        return chunks.chunk(0) if chunks.num_chunks else pa.array([], type=chunks.type)

    def numbers(name: str) -> np.ndarray:
        values: np.ndarray = column(name).to_numpy(zero_copy_only=False)
        return values

    codes = _codes(column("station_id"), column("name"))
    lat, lon = numbers("lat"), numbers("lon")
    bikes, spaces, docks = numbers("bikes"), numbers("spaces"), numbers("total_docks")
    inside = (
        (lat >= SERVICE_AREA_LAT[0])
        & (lat <= SERVICE_AREA_LAT[1])
        & (lon >= SERVICE_AREA_LON[0])
        & (lon <= SERVICE_AREA_LON[1])
    )
    row_time, file_time = (column(c).cast(pa.int64()).to_numpy() for c in ("timestamp", "file_timestamp"))
    lag_us = file_time - row_time
    station = codes == 1
    low, high = BATTERY_RANGE
    bad_battery = map_distinct(
        column("givesbonus_acceptspedelecs_fbbattlevel"),
        # Rows of older deployments have no text here: nothing is known, and nothing is wrong.
        lambda v: bool(v) and ((n := _as_whole(v)) is None or not (low <= n <= high or n == BATTERY_UNKNOWN)),
        pa.bool_(),
    )
    tolerance_us = ROW_TIME_TOLERANCE_S * 1_000_000
    met = {
        "battery_out_of_range": (codes == 2) & _mask(bad_battery),
        "future_row_time": lag_us < -tolerance_us,
        "off_zone": ~inside,
        "overfull": station & (bikes + spaces > docks),
        "racks_out_of_use": station & (bikes + spaces < docks),
        "stale_row_time": lag_us > tolerance_us,
        "unknown_record_type": codes == 0,
        "zero_docks": station & (docks == 0),
    }
    bits = np.zeros(table.num_rows, dtype=np.int32)
    for position, flag in enumerate(FLAGS):
        bits |= met[flag].astype(np.int32) << position
    added = (
        _RECORD_TYPES.take(pa.array(codes)),
        pa.repeat(pa.scalar(day), table.num_rows),
        pa.array(inside),
        _FLAG_LISTS.take(pa.array(bits)),
    )
    return pa.table([*table.columns, *added], schema=ENHANCED)


def _mask(array: pa.Array) -> np.ndarray:
    mask: np.ndarray = array.to_numpy(zero_copy_only=False).astype(bool)
    return mask

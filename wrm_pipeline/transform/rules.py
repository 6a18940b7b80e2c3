"""The rules for rows: one vectorised predicate each, by the name that the contract of enhanced knows it by.

What becomes of a row that meets one, a flag or a dead letter, is the contract's to say and `enhance`'s to do.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.transform.classify import BIKE, STATION, UNKNOWN, as_whole, in_range, record_codes
from wrm_pipeline.transform.distinct import map_distinct

# Mean radius of the Earth, metres (IUGG).
_EARTH_M: Final = 6_371_008.8
_MICROSECONDS: Final = 1_000_000


class RowColumns:
    """The columns of processed rows as the rules look at them; each is made when it is first asked for.

    Rows lie snapshot by snapshot in the order of time.
    """

    def __init__(self, rows: pa.Table, contract: Contract) -> None:
        self._rows = rows.combine_chunks()
        self.contract = contract

    def array(self, name: str) -> pa.Array:
        """A column in one piece."""
        column = self._rows.column(name)
        return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers."""
        values: np.ndarray = self.array(name).to_numpy(zero_copy_only=False)
        return values

    @cached_property
    def codes(self) -> np.ndarray:
        """The record type of each row."""
        return record_codes(self.array("station_id"), self.array("name"))

    @cached_property
    def station(self) -> np.ndarray:
        """Which rows are stations."""
        found: np.ndarray = self.codes == STATION
        return found

    @cached_property
    def taken(self) -> np.ndarray:
        """Bikes and spaces together."""
        total: np.ndarray = self.numbers("bikes") + self.numbers("spaces")
        return total

    @cached_property
    def docks(self) -> np.ndarray:
        """Total docks."""
        return self.numbers("total_docks")

    @cached_property
    def row_time_us(self) -> np.ndarray:
        """The row's own time, microseconds since the epoch, UTC."""
        times: np.ndarray = self.array("timestamp").cast(pa.int64()).to_numpy()
        return times

    @cached_property
    def lag_us(self) -> np.ndarray:
        """How long before the snapshot's time the row's own time lies, microseconds."""
        lag: np.ndarray = self.array("file_timestamp").cast(pa.int64()).to_numpy() - self.row_time_us
        return lag

    @cached_property
    def previous(self) -> np.ndarray:
        """The position of the previous row of the same id; a row's own position when there is none."""
        ids = self.array("station_id").dictionary_encode()
        codes = ids.indices.to_numpy()
        if len(ids.dictionary) < 1 << 16:
            codes = codes.astype(np.uint16)  # for which numpy's stable sort takes linear time
        order = np.argsort(codes, kind="stable")
        previous = np.arange(len(order))
        same = codes[order[1:]] == codes[order[:-1]]
        previous[order[1:][same]] = order[:-1][same]
        return previous

    def changed(self, values: np.ndarray) -> np.ndarray:
        """Which rows differ in some values from the previous row of the same id."""
        differs: np.ndarray = values != values[self.previous]
        return differs

    def inside(self, arguments: Mapping[str, float]) -> np.ndarray:
        """Which rows lie between `south` and `north`, `west` and `east`, degrees."""
        lat, lon = self.numbers("lat"), self.numbers("lon")
        found: np.ndarray = (
            (lat >= arguments["south"])
            & (lat <= arguments["north"])
            & (lon >= arguments["west"])
            & (lon <= arguments["east"])
        )
        return found


Predicate = Callable[[RowColumns, Mapping[str, float]], np.ndarray]


def _battery_out_of_range(rows: RowColumns, arguments: Mapping[str, float]) -> np.ndarray:
    level = rows.contract.column("battery_level")

    def is_bad(text: str) -> bool:
        # Rows of older deployments have no text here: nothing is known, and nothing is wrong.
        return bool(text) and (
            (value := as_whole(text)) is None or not (in_range(value, level) or value == arguments["unknown"])
        )

    bad = map_distinct(rows.array("givesbonus_acceptspedelecs_fbbattlevel"), is_bad, pa.bool_())
    found: np.ndarray = (rows.codes == BIKE) & bad.to_numpy(zero_copy_only=False).astype(bool)
    return found


def _moved(rows: RowColumns, arguments: Mapping[str, float]) -> np.ndarray:
    lat, lon = rows.numbers("lat"), rows.numbers("lon")
    found: np.ndarray = rows.station & (rows.changed(lat) | rows.changed(lon))
    (at,) = np.nonzero(found)
    before = rows.previous[at]
    found[at] = distance_m(lat[before], lon[before], lat[at], lon[at]) > arguments["after_m"]
    return found


def distance_m(lat: np.ndarray, lon: np.ndarray, other_lat: np.ndarray, other_lon: np.ndarray) -> np.ndarray:
    """Return great-circle distances in metres between points in degrees (haversine formula)."""
    phi, other_phi = np.radians(lat), np.radians(other_lat)
    half = (
        np.sin((other_phi - phi) / 2) ** 2
        + np.cos(phi) * np.cos(other_phi) * np.sin(np.radians(other_lon - lon) / 2) ** 2
    )
    metres: np.ndarray = 2 * _EARTH_M * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return metres


def _name_changed(rows: RowColumns, _: Mapping[str, float]) -> np.ndarray:
    found: np.ndarray = rows.station & rows.changed(rows.array("name").dictionary_encode().indices.to_numpy())
    return found


def _non_monotonic_time(rows: RowColumns, _: Mapping[str, float]) -> np.ndarray:
    found: np.ndarray = rows.row_time_us < rows.row_time_us[rows.previous]
    return found


ROW_RULES: Final[dict[str, Predicate]] = {
    "battery_out_of_range": _battery_out_of_range,
    "future_row_time": lambda rows, a: rows.lag_us < -a["after_s"] * _MICROSECONDS,
    "moved": _moved,
    "name_changed": _name_changed,
    "non_monotonic_time": _non_monotonic_time,
    "off_zone": lambda rows, a: ~rows.inside(a),
    "overfull": lambda rows, _: rows.station & (rows.taken > rows.docks),
    "racks_out_of_use": lambda rows, _: rows.station & (rows.taken < rows.docks),
    "stale_row_time": lambda rows, a: rows.lag_us > a["after_s"] * _MICROSECONDS,
    "unknown_record_type": lambda rows, _: rows.codes == UNKNOWN,
    "zero_docks": lambda rows, _: rows.station & (rows.docks == 0),
}

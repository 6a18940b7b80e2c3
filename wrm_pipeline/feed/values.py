"""Single values of a feed row: text in, a typed value out, or a `Problem` that names the rule and says why.

Both lanes of the parser call these same functions, so a value is judged alike whatever its neighbours are. Bounds are
those of the contract's column.
"""

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Final

from wrm_pipeline.contracts.model import Column

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,9}")  # nine digits fit 32 bits
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_PACKED: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?\|([+-]?[0-9]{1,5})\|([+-]?[0-9]{1,5})")


@dataclass(frozen=True)
class Problem:
    """Why a value, and so its row, is rejected."""

    rule: str
    message: str


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _length_problem(value: str, column: Column) -> Problem | None:
    if (column.minimum is None or len(value) >= column.minimum) and (  # type: ignore[operator] # lengths are numbers
        column.maximum is None or len(value) <= column.maximum  # type: ignore[operator]
    ):
        return None
    return Problem("out_of_range", f"{_shown(value)} has {len(value)} characters{_allowed(column)}")


def _allowed(column: Column) -> str:
    low = f" at least {column.minimum:g}" if isinstance(column.minimum, int | float) else ""
    high = f" at most {column.maximum:g}" if isinstance(column.maximum, int | float) else ""
    return f"; the contract allows{low}{' and' if low and high else ''}{high}"


def parse_id(text: str, column: Column) -> str | Problem:
    """Return the id without surrounding blanks."""
    stripped = text.strip()
    return parse_text(stripped, column) if stripped else Problem("empty_id", "the id is empty")


def parse_text(text: str, column: Column) -> str | Problem:
    """Return a text whose length lies within its column's bounds."""
    return _length_problem(text, column) or text


def parse_whole(text: str) -> int | Problem:
    """Return a whole number of at most nine digits."""
    stripped = text.strip()
    if _WHOLE.fullmatch(stripped):
        return int(stripped)
    if _NOT_FINITE.fullmatch(stripped):
        return Problem("not_finite", f"{_shown(text)} is not finite")
    return Problem("not_a_number", f"{_shown(text)} is not a whole number of at most nine digits")


def parse_count(text: str, column: Column) -> int | Problem:
    """Return a whole number within its column's bounds."""
    value = parse_whole(text)
    if isinstance(value, Problem) or _within(value, column):
        return value
    if value < 0:
        return Problem("negative_count", f"{value} is negative")
    return Problem("out_of_range", f"{value} is out of range{_allowed(column)}")


def _within(value: float, column: Column) -> bool:
    low, high = column.minimum, column.maximum
    return (not isinstance(low, int | float) or value >= low) and (not isinstance(high, int | float) or value <= high)


def parse_degrees(text: str, column: Column) -> float | Problem:
    """Return degrees north or east within their column's bounds."""
    stripped = text.strip()
    if _NOT_FINITE.fullmatch(stripped):
        return Problem("not_finite", f"{_shown(text)} is not finite")
    if not _DECIMAL.fullmatch(stripped):
        return Problem("not_a_number", f"{_shown(text)} is not a number")
    value = float(stripped)
    if not math.isfinite(value):
        return Problem("not_finite", f"{_shown(text)} is not finite")
    if not _within(value, column):
        return Problem("bad_coordinates", f"{_shown(text)} is out of range (degrees){_allowed(column)}")
    return value + 0.0  # -0.0 and 0.0 are one place and must be one byte pattern


def parse_flag(text: str) -> bool | Problem:
    """Return a true/false value."""
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            return Problem("not_a_boolean", f"{_shown(text)} is neither true nor false")


@dataclass(frozen=True)
class TimeBounds:
    """The least and greatest values, inclusive, of UTC microseconds and of the two offsets in seconds."""

    time_us: tuple[int, int]
    local_s: tuple[int, int]
    server_s: tuple[int, int]

    @classmethod
    def of(cls, time: Column, local: Column, server: Column) -> "TimeBounds":
        """Take them from the three columns that the packed field fills."""
        return cls(_bounds(time), _bounds(local), _bounds(server))


# What 64 bits hold: no bound at all.
_ANY: Final = (-(2**63), 2**63 - 1)


def _bounds(column: Column) -> tuple[int, int]:
    low, high = (
        (bound - _EPOCH) // _MICROSECOND if isinstance(bound, dt.datetime) else bound
        for bound in (column.minimum, column.maximum)
    )
    return (_ANY[0] if low is None else int(low), _ANY[1] if high is None else int(high))


def parse_packed_time(text: str, bounds: TimeBounds) -> tuple[int, int, int] | Problem:
    """Split `epoch|gmt_local_diff|gmt_servertime_diff` into UTC microseconds and two offsets in seconds.

    Digits after the sixth decimal are dropped.
    """
    match = _PACKED.fullmatch(text.strip())
    if match is None:
        return Problem("bad_timestamp", f"{_shown(text)} is not epoch|gmt_local_diff_sec|gmt_servertime_diff_sec")
    time_us = int(match[1]) * 1_000_000 + int((match[2] or "")[:6].ljust(6, "0"))
    local_s, server_s = int(match[3]), int(match[4])
    if not bounds.time_us[0] <= time_us <= bounds.time_us[1]:
        return Problem("bad_timestamp", f"epoch {match[1]} is not a time that the contract allows")
    for value, (least, greatest) in ((local_s, bounds.local_s), (server_s, bounds.server_s)):
        if not least <= value <= greatest:
            return Problem("bad_timestamp", f"an offset of {value} s is not between {least} and {greatest}")
    return time_us, local_s, server_s

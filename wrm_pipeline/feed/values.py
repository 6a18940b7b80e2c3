"""Single values of a feed row: text in, a typed value out, or a `Problem` that names the rule and says why.

Both lanes of the parser call these same functions, so a value is judged alike whatever its neighbours are.
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from wrm_pipeline.contracts.bounds import EPOCH_RANGE_S, LATITUDE_LIMIT, LONGITUDE_LIMIT

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,9}")  # nine digits fit 32 bits
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_PACKED: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?\|([+-]?[0-9]{1,5})\|([+-]?[0-9]{1,5})")


@dataclass(frozen=True)
class Problem:
    """Why a value, and so its row, is rejected."""

    rule: str
    message: str


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def parse_id(text: str) -> str | Problem:
    """Return the id without surrounding blanks."""
    stripped = text.strip()
    return stripped or Problem("empty_id", "the id is empty")


def parse_whole(text: str) -> int | Problem:
    """Return a whole number of at most nine digits."""
    stripped = text.strip()
    if _WHOLE.fullmatch(stripped):
        return int(stripped)
    if _NOT_FINITE.fullmatch(stripped):
        return Problem("not_finite", f"{_shown(text)} is not finite")
    return Problem("not_a_number", f"{_shown(text)} is not a whole number of at most nine digits")


def parse_count(text: str) -> int | Problem:
    """Return a whole number that is not negative."""
    value = parse_whole(text)
    if isinstance(value, int) and value < 0:
        return Problem("negative_count", f"{value} is negative")
    return value


def _parse_degrees(text: str, limit: float) -> float | Problem:
    stripped = text.strip()
    if _NOT_FINITE.fullmatch(stripped):
        return Problem("not_finite", f"{_shown(text)} is not finite")
    if not _DECIMAL.fullmatch(stripped):
        return Problem("not_a_number", f"{_shown(text)} is not a number")
    value = float(stripped)
    if not math.isfinite(value):
        return Problem("not_finite", f"{_shown(text)} is not finite")
    if abs(value) > limit:
        return Problem("bad_coordinates", f"{_shown(text)} is off the globe (limit {limit:g} degrees)")
    return value + 0.0  # -0.0 and 0.0 are one place and must be one byte pattern


def parse_latitude(text: str) -> float | Problem:
    """Return degrees north, -90 to 90."""
    return _parse_degrees(text, LATITUDE_LIMIT)


def parse_longitude(text: str) -> float | Problem:
    """Return degrees east, -180 to 180."""
    return _parse_degrees(text, LONGITUDE_LIMIT)


def parse_flag(text: str) -> bool | Problem:
    """Return a true/false value."""
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            return Problem("not_a_boolean", f"{_shown(text)} is neither true nor false")


def parse_packed_time(text: str) -> tuple[int, int, int] | Problem:
    """Split `epoch|gmt_local_diff|gmt_servertime_diff` into UTC microseconds and two offsets in seconds.

    Digits after the sixth decimal are dropped.
    """
    match = _PACKED.fullmatch(text.strip())
    if match is None:
        return Problem("bad_timestamp", f"{_shown(text)} is not epoch|gmt_local_diff_sec|gmt_servertime_diff_sec")
    seconds = int(match[1])
    if not EPOCH_RANGE_S[0] <= seconds < EPOCH_RANGE_S[1]:
        return Problem("bad_timestamp", f"epoch {seconds} is not between 2000 and 2100")
    microseconds = int((match[2] or "")[:6].ljust(6, "0"))
    return seconds * 1_000_000 + microseconds, int(match[3]), int(match[4])

"""What the raw sensor knows and decides: pure functions on keys.

The cursor says: everything after `after` that was seen is in `seen`. Listing starts at `after`, which lies some
minutes back, so a key that lands late is found; `seen` keeps the overlap from being taken for news.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wrm_pipeline.lake.keys import day_of, snapshot_time

# A key carries the time of the fetch and lands when its PUT is done; with retries that is under two minutes.
OVERLAP = dt.timedelta(minutes=15)
# Keeps the cursor under 20 KB at any cadence; at one snapshot in five minutes the overlap holds three keys.
MAX_SEEN = 200


class RawCursor(BaseModel):
    """The sensor's memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    after: str = ""
    seen: tuple[str, ...] = ()

    @classmethod
    def load(cls, text: str | None) -> "RawCursor":
        """Read a stored cursor; an unknown one starts from the beginning, which repeats work and loses nothing."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValidationError:
            return cls()


@dataclass(frozen=True)
class DayRequest:
    """A day with new raw objects; `run_key` names the newest of them, so one piece of news makes one run."""

    day: dt.date
    run_key: str

    @property
    def newest(self) -> str:
        """The name of the newest raw object."""
        return self.run_key.partition(":")[2]


@dataclass(frozen=True)
class Decision:
    """What to run, what to remember, and the keys that belong to no partition."""

    requests: tuple[DayRequest, ...]
    cursor: RawCursor
    ignored: tuple[str, ...]


def decide(
    cursor: RawCursor, listed: Sequence[str], *, first_day: dt.date, last_day: dt.date, max_days: int
) -> Decision:
    """Decide from the keys listed after `cursor.after`, in order: one request a day, `max_days` at most."""
    seen = set(cursor.seen)
    by_day: dict[dt.date, str] = {}
    taken: list[str] = []
    ignored: list[str] = []
    for key in listed:
        day = day_of(key)
        if key in seen:
            continue
        if key.endswith("/"):
            pass  # some tools leave an empty object for a folder
        elif day is not None and day > last_day:
            # Not remembered: one key from the future would carry the cursor past all that is still to come.
            ignored.append(key)
            continue
        elif day is None or day < first_day:
            ignored.append(key)
        elif day in by_day or len(by_day) < max_days:
            by_day[day] = max(key, by_day.get(day, ""))
        else:
            break  # the rest is for the next tick
        taken.append(key)
    requests = tuple(DayRequest(day, f"{day}:{key.rpartition('/')[2]}") for day, key in sorted(by_day.items()))
    return Decision(requests, _advance(cursor, taken), tuple(ignored))


def _advance(cursor: RawCursor, taken: Sequence[str]) -> RawCursor:
    known = sorted({*cursor.seen, *taken})
    if not known:
        return cursor
    times = [time for key in known if (time := snapshot_time(key)) is not None]
    horizon = max(times) - OVERLAP if times else None
    recent = [
        key for key in known if horizon is not None and (time := snapshot_time(key)) is not None and time >= horizon
    ]
    keep = known[known.index(recent[0]) :][-MAX_SEEN:] if recent else []
    dropped = known[: len(known) - len(keep)]
    return RawCursor(after=max(cursor.after, dropped[-1]) if dropped else cursor.after, seen=tuple(keep))

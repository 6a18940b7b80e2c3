"""What is derived from days of enhanced: their columns as far as a derivation needs them, and what it was made from.

A day is derived from only when it passes its blocking checks; days of the past whose manifests show that they are
blocked are left out.
"""

import datetime as dt
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pyarrow as pa

from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.frame import ARROW
from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.trust import blocking_stamp, manifest_blocks
from wrm_pipeline.transform.schema import ENHANCED

T = TypeVar("T")
# Days on their way while one is being worked on: more would only wait in memory, at some 40 MB each.
_AHEAD: Final = 2
# Two nights: each one needs all but the oldest of the days that the one before needed.
_KEPT_S: Final = 48 * 3600.0
_REDUCED: Final = "reduced-day"


@dataclass(frozen=True)
class Inputs:
    """The days that something was derived from, with the ETag of each one's enhanced object, and by which code."""

    days: tuple[tuple[dt.date, str], ...]
    code_version: str

    def as_json(self) -> bytes:
        """Return them as JSON, for an object's metadata."""
        days = {day.isoformat(): etag for day, etag in self.days}
        return json.dumps({"code_version": self.code_version, "enhanced": days}, separators=(",", ":")).encode()


def past_days(
    lake: Lake,
    contracts: Contracts,
    day: dt.date,
    count: int,
    columns: Sequence[str],
    reduce: Callable[[pa.Table, dt.date], T],
    *,
    cache: Cache | None = None,
    kept_as: str = "",
) -> Iterator[tuple[dt.date, str, T]]:
    """Yield date, ETag and reduction of each of the `count` days before `day` that there is and that can be trusted.

    A day is reduced before the next but one is read, so weeks of history take the memory of a few days.

    Args:
        lake: the lake.
        contracts: they say which days are blocked.
        day: the UTC day whose past is wanted.
        count: how far back.
        columns: all that `reduce` looks at.
        reduce: takes a day's rows, and its date.
        cache: keeps what `reduce` gives, when these are tables, so that a day which has not changed is neither fetched
            nor reduced again the next night.
        kept_as: the name and version of `reduce`, for the cache.
    """
    schema = pa.schema([ENHANCED.field(name) for name in columns])

    def reduced(past: dt.date) -> tuple[str, T] | None:
        stored = lake.read_day(Layer.ENHANCED, past, schema)
        if stored is None or manifest_blocks(stored.manifest, contracts):
            return None
        return stored.info.etag, reduce(stored.rows, past)

    def found(past: dt.date) -> tuple[str, T] | None:
        if cache is None:
            return reduced(past)
        return _kept(lake, past, cache, f"{kept_as} {blocking_stamp(contracts)}", lambda: reduced(past))

    days = [day - dt.timedelta(days=back) for back in range(count, 0, -1)]
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="past") as pool:
        # Taken out as they come: a future that is kept keeps its day in memory.
        finding = deque(pool.submit(found, past) for past in days[:_AHEAD])
        for index, past in enumerate(days):
            result = finding.popleft().result()
            if index + _AHEAD < len(days):
                finding.append(pool.submit(found, days[index + _AHEAD]))
            if result is not None:
                yield past, *result


def _kept(
    lake: Lake, past: dt.date, cache: Cache, made_by: str, reduced: Callable[[], tuple[str, T] | None]
) -> tuple[str, T] | None:
    """Return a day's ETag and reduction, from the cache when the day is what it was when it was reduced."""
    address = lake.store.uri(lake.keys.layer_object(Layer.ENHANCED, past))
    now = lake.store.head(lake.keys.layer_object(Layer.ENHANCED, past))
    if now is None:
        return None

    def build() -> T:
        built = reduced()
        if built is None or built[0] != now.etag:  # blocked, damaged, or replaced since it was looked at
            raise _NotToBeKeptError(built)
        return built[1]

    try:
        value: T = cache.get_or_build(cache_key(_REDUCED, made_by, address, now.etag), build, ARROW, ttl_s=_KEPT_S)
    except _NotToBeKeptError as error:
        return error.built
    return now.etag, value


class _NotToBeKeptError(Exception):
    """What was built is not what the key of the cache says; it goes to who asked, and nowhere else."""

    def __init__(self, built: "tuple[str, Any] | None") -> None:
        super().__init__()
        self.built = built

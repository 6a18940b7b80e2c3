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
from typing import Final, TypeVar

import pyarrow as pa

from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake, StoredDay
from wrm_pipeline.layers.trust import manifest_blocks
from wrm_pipeline.transform.schema import ENHANCED

T = TypeVar("T")
# Days on their way while one is being worked on: more would only wait in memory, at some 40 MB each.
_AHEAD: Final = 2


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
) -> Iterator[tuple[dt.date, str, T]]:
    """Yield date, ETag and reduction of each of the `count` days before `day` that there is and that can be trusted.

    A day is reduced before the next but one is read, so weeks of history take the memory of a few days.
    """
    schema = pa.schema([ENHANCED.field(name) for name in columns])

    def read(past: dt.date) -> StoredDay | None:
        return lake.read_day(Layer.ENHANCED, past, schema)

    days = [day - dt.timedelta(days=back) for back in range(count, 0, -1)]
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="past") as pool:
        # Taken out as they come: a future that is kept keeps its day in memory.
        reading = deque(pool.submit(read, past) for past in days[:_AHEAD])
        for index, past in enumerate(days):
            stored = reading.popleft().result()
            if index + _AHEAD < len(days):
                reading.append(pool.submit(read, days[index + _AHEAD]))
            if stored is not None and not manifest_blocks(stored.manifest, contracts):
                yield past, stored.info.etag, reduce(stored.rows, past)

"""Which days are not what raw says they should be. One listing and two HEADs a day; no object is read."""

import datetime as dt
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wrm_pipeline.lake.day_object import inputs_digest, listing_inputs
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake

# Three small requests a day, a year in some 5 s at 20 ms a request: a schedule must answer within 60 s.
_DAYS_AT_ONCE = 8


@dataclass(frozen=True)
class StaleDay:
    """A day to build, and why."""

    day: dt.date
    reason: str


def stale_days(lake: Lake, days: Sequence[dt.date]) -> Iterator[StaleDay]:
    """Yield the days whose recorded inputs differ from what raw holds, in order."""
    with ThreadPoolExecutor(_DAYS_AT_ONCE, thread_name_prefix="reconcile") as pool:
        reasons = pool.map(lambda day: _why_stale(lake, day), days)
        yield from (StaleDay(day, reason) for day, reason in zip(days, reasons, strict=True) if reason is not None)


def _why_stale(lake: Lake, day: dt.date) -> str | None:
    listing = lake.raw_listing(day)
    if not listing:
        return None
    expected = inputs_digest(listing_inputs(listing).items())
    for layer in Layer:
        stored = lake.store.head(lake.keys.layer_object(layer, day))
        if stored is None:
            return f"{layer} is missing"
        if stored.metadata.get("inputs-sha256") != expected:
            return f"{layer} was built from other raw objects than the {len(listing)} there are"
    return None

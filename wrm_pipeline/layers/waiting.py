"""Which dead letters wait for a redrive, and in which days none does.

Letters are kept for ever, so reading them all each night would cost more each night. A note beside them remembers the
listing of each day in which nothing waits; only days whose listing has changed since are read.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.feed.base import FeedFormat
from wrm_pipeline.lake.day_object import inputs_digest, recorded_code_version
from wrm_pipeline.lake.dead_letters import DeadLetter, Stage, Status, days_of_letters, letter_listing, read_letters
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import CorruptObject, ObjectInfo, ObjectNotFound
from wrm_pipeline.layers.enhanced import code_version
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION
from wrm_pipeline.layers.raw import RAW_CODE_VERSION

_JSON: Final = "application/json"
# Listings are small: those of a year's days take a second or two at 20 ms a request.
_AT_ONCE: Final = 8

# Code version and contract stamp of each stage.
Versions = dict[Stage, tuple[str, str]]


@dataclass(frozen=True)
class Select:
    """Which letters: with a record that broke `rule`, of a stage, of a status; None takes any."""

    rule: str | None = None
    stage: Stage | None = None
    status: Status | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        return (
            (self.rule is None or any(record.rule == self.rule for record in letter.records))
            and self.stage in {None, letter.stage}
            and self.status in {None, letter.status}
        )


EVERYTHING: Final = Select()


@dataclass(frozen=True)
class Waiting:
    """A day in which something may wait: letters to redrive, and their records.

    `interrupted` tells that a redrive of the day was killed; `unreadable` says why each letter that cannot be read
    cannot.
    """

    day: dt.date
    letters: int
    records: int
    interrupted: bool
    unreadable: tuple[str, ...]

    @property
    def is_due(self) -> bool:
        """Whether there is something to redrive."""
        return self.interrupted or self.letters > 0


def waiting(
    lake: Lake,
    feed_format: FeedFormat,
    contract: Contract,
    *,
    select: Select = EVERYTHING,
    days: Collection[dt.date] | None = None,
) -> Iterator[Waiting]:
    """Yield the days, in order, in which letters may wait; None for `days` means all.

    Takes two listings, one a day that has letters, and a GET a letter of the days where anything changed since a
    redrive found them settled.
    """
    return (found.waiting for found in scan(lake, versions_today(feed_format, contract), select, days))


def versions_today(feed_format: FeedFormat, contract: Contract) -> Versions:
    """Return what today's code and contracts record in letters; `contract` is that of enhanced."""
    processed = recorded_code_version(PROCESSED_CODE_VERSION, feed_format.contract.stamp)
    return {
        Stage.RAW: (RAW_CODE_VERSION, feed_format.contract.stamp),
        Stage.PROCESSED: (processed, feed_format.contract.stamp),
        Stage.ENHANCED: (code_version(contract, processed), contract.stamp),
    }


def waits(letter: DeadLetter, versions: Versions) -> bool:
    """Pending, or given up on before the code or the contract changed: the cause may be fixed now."""
    if letter.status is Status.FAILED:
        last = letter.attempts[-1] if letter.attempts else None
        return last is None or (last.code_version, last.contract_version) != versions[letter.stage]
    return letter.status is Status.PENDING


@dataclass(frozen=True)
class Scanned:
    """A day that the note does not know to be settled; `marks` is the entry for the note when it is settled now."""

    waiting: Waiting
    marks: Mapping[str, str]


def scan(lake: Lake, versions: Versions, select: Select, days: Collection[dt.date] | None) -> Iterator[Scanned]:
    """Yield the days, in order, that the note does not know to be settled; None for `days` means all."""
    remembered = [info.key for info in lake.store.list(lake.keys.redrive_root)]
    interrupted = {day for key in remembered if (day := lake.keys.journal_day(key)) is not None}
    note = _read_note(lake) if lake.keys.redrive_settled in remembered else {}
    looked_at = sorted({*days_of_letters(lake.store, lake.keys), *interrupted})
    looked_at = [day for day in looked_at if days is None or day in days]
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="redrive")
    try:
        listings = pool.map(lambda day: list(letter_listing(lake.store, lake.keys, day)), looked_at)
        for day, listing in zip(looked_at, listings, strict=True):
            possible = (_mark(listing, None), _mark(listing, versions))
            if day not in interrupted and note.get(day.isoformat()) in possible:
                continue
            letters, unreadable = read_letters(lake.store, lake.keys, day, listing)
            all_waiting = [letter for letter in letters if waits(letter, versions)]
            selected = [letter for letter in all_waiting if letter in select]
            # What was given up on waits again as soon as the versions change; what came back never does.
            mark = possible[any(letter.status is Status.FAILED for letter in letters)]
            is_settled = not (all_waiting or unreadable or day in interrupted)
            records = sum(len(letter.records) for letter in selected)
            yield Scanned(
                Waiting(day, len(selected), records, day in interrupted, tuple(unreadable)),
                {day.isoformat(): mark} if is_settled else {},
            )
    finally:
        pool.shutdown(cancel_futures=True)


def _mark(listing: Iterable[ObjectInfo], versions: Versions | None) -> str:
    """A digest of a day's letters as they lie there; of the versions too, when what is settled depends on them."""
    by = [("", json.dumps(versions))] if versions is not None else []
    return inputs_digest([*((info.key, info.etag) for info in listing), *by])


def _read_note(lake: Lake) -> dict[str, str]:
    """Return the mark of each day that was settled; without it, the letters of all days are read once more."""
    try:
        note = json.loads(lake.store.get(lake.keys.redrive_settled).body)
    except (ObjectNotFound, CorruptObject, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def remember(lake: Lake, marks: Mapping[str, str]) -> None:
    """Add days to the note; nothing is written when there are none."""
    if marks:
        note = dict(sorted({**_read_note(lake), **marks}.items()))
        lake.store.put(lake.keys.redrive_settled, json.dumps(note, indent=1).encode(), content_type=_JSON)

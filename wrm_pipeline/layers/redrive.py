"""Redrive: dead letters judged again by today's code and contracts, a day at a time.

A day is built from nothing; rows that pass join it, the rest wait with one more failure on their letter. A journal is
stored before anything changes and removed at the end: the next redrive finishes one that was killed and counts it once.
"""

import datetime as dt
import hashlib
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.feed.base import FeedFormat, PayloadFault
from wrm_pipeline.lake.dead_letters import (
    Alert,
    Attempt,
    AuditRecord,
    DeadLetter,
    Outcome,
    Stage,
    Status,
    UnreadableLetterError,
    as_json,
    read_letter,
    read_letters,
    store_alert,
    store_audit,
    store_letter,
)
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import CorruptObject, KeyExists, ObjectNotFound
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import keep_snapshot
from wrm_pipeline.layers.report import LayerError, NoRawDataError, Provenance
from wrm_pipeline.layers.waiting import EVERYTHING, Select, Versions, remember, scan, versions_today, waits

_log = logging.getLogger(__name__)
_JSON: Final = "application/json"
# Letters and listings are small: a few hundred take a second or two at 20 ms a request.
_AT_ONCE: Final = 8
# A whole file has no line of its own.
_WHOLE_FILE: Final = 0
# What did not arrive whole may look like a snapshot and is none; no code makes it one.
_INCOMPLETE: Final = {PayloadFault.CUT_OFF, PayloadFault.DAMAGED}


@dataclass(frozen=True)
class DayRedriven:
    """What came of a day's redrive, in letters: tried = reprocessed + rejected; `given_up` are rejected for good.

    `rows_joined` counts rows that are in the day now and were not. `resumed` tells that a killed redrive was finished;
    `rebuilt` that the day was built. `failure` is the sentence why it could not be: nothing is counted then, and the
    next redrive goes on.
    """

    day: dt.date
    redrive_id: str | None = None
    resumed: bool = False
    rebuilt: bool = False
    reprocessed: int = 0
    rejected: int = 0
    given_up: int = 0
    rows_joined: int = 0
    unreadable: tuple[str, ...] = ()
    failure: str | None = None


@dataclass(frozen=True)
class Redriven:
    """What came of a redrive; `unreadable` says why each letter that cannot be read, of any day, cannot."""

    days: tuple[DayRedriven, ...]
    unreadable: tuple[str, ...]

    def total(self, count: str) -> int:
        """Sum of `reprocessed`, `rejected`, `given_up` or `rows_joined` over the days."""
        return sum(getattr(day, count) for day in self.days)

    @property
    def failures(self) -> dict[dt.date, str]:
        """Why each day that could not be redriven could not."""
        return {day.day: day.failure for day in self.days if day.failure is not None}


Progress = Callable[[int, int, DayRedriven], None]


def redrive(
    lake: Lake,
    feed_format: FeedFormat,
    contract: Contract,
    provenance: Provenance,
    *,
    select: Select = EVERYTHING,
    days: Collection[dt.date] | None = None,
    progress: Progress | None = None,
) -> Redriven:
    """Redrive the letters of all days, or of some, that are selected and wait.

    `progress` is told how many days are done, of how many, and the last one. A day that cannot be built does not keep
    the others from being redriven.

    Raises:
        StoreError: the store is down or refuses; what was begun is finished by the next redrive.
    """
    versions = versions_today(feed_format, contract)
    marks: dict[str, str] = {}
    due: list[dt.date] = []
    unreadable: list[str] = []
    for found in scan(lake, versions, select, days):
        marks |= found.marks
        unreadable += found.waiting.unreadable
        if found.waiting.is_due:
            due.append(found.waiting.day)
    done: list[DayRedriven] = []
    for day in due:
        try:
            result = redrive_day(lake, feed_format, contract, day, provenance, select)
        except (LayerError, CorruptObject, ObjectNotFound) as error:
            result = DayRedriven(day, failure=str(error))
        done.append(result)
        if progress is not None:
            progress(len(done), len(due), result)
    if due:
        for found in scan(lake, versions, select, due):
            marks |= found.marks
    remember(lake, marks)
    return Redriven(tuple(done), tuple(unreadable))


def redrive_day(
    lake: Lake,
    feed_format: FeedFormat,
    contract: Contract,
    day: dt.date,
    provenance: Provenance,
    select: Select = EVERYTHING,
) -> DayRedriven:
    """Redrive a day's letters that are selected and wait; others come back too when their rows pass.

    A day in which no such letter waits is left alone. When a redrive of the day was killed, it is finished instead,
    with what it had selected.

    Raises:
        LayerError: the day cannot be built.
        StoreError: the store is down or refuses, or an object of raw is damaged.
    """
    versions = versions_today(feed_format, contract)
    journal, resumed, unreadable = _open_journal(lake, versions, day, provenance, select)
    if journal is None:
        return DayRedriven(day, unreadable=tuple(unreadable))
    build = _build(lake, feed_format, contract, day, provenance, journal)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="redrive") as pool:
        settled = list(pool.map(lambda entry: _settle(lake, day, journal, entry, build), journal.letters))
    lake.store.delete(lake.keys.redrive_journal(day))
    done = [entry for entry in settled if entry is not None]
    return DayRedriven(
        day=day,
        redrive_id=journal.redrive_id,
        resumed=resumed,
        rebuilt=build.has_raw,
        reprocessed=sum(entry.outcome is Outcome.REPROCESSED for entry in done),
        rejected=sum(entry.outcome is not Outcome.REPROCESSED for entry in done),
        given_up=sum(entry.given_up for entry in done),
        rows_joined=sum(entry.rows_joined for entry in done),
        unreadable=tuple(unreadable),
    )


# --- The journal ------------------------------------------------------------------------------------------------------


class _Entry(BaseModel):
    """A letter before the redrive; `lines` are those of its records, 0 for a whole file."""

    model_config = ConfigDict(extra="forbid")

    id: str
    source_key: str
    stage: Stage
    chosen: bool
    lines: tuple[int, ...]
    code_version: str
    contract_version: str
    retry_count: int
    status: Status


class _Journal(BaseModel):
    """One redrive of one day: who, when (UTC), to which versions, and all letters of the day that are not back."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    redrive_id: str
    run_id: str
    at: dt.datetime
    versions: Versions
    letters: tuple[_Entry, ...]


def _open_journal(
    lake: Lake, versions: Versions, day: dt.date, provenance: Provenance, select: Select
) -> tuple[_Journal | None, bool, list[str]]:
    """Return the journal to work by, whether it was found, and which letters cannot be read; None when nothing waits.

    A journal of other versions than today's is not taken over as it is: what it has settled was another attempt, and
    what it has not keeps what was recorded before anything changed.
    """
    letters, unreadable = read_letters(lake.store, lake.keys, day)
    left = _read_journal(lake, day)
    if left is not None and left.versions == versions:
        return left, True, unreadable
    entries = {letter.id: _entry(letter, versions, select) for letter in letters if letter.status != Status.REPROCESSED}
    done = {letter.id for letter in letters if _attempt_of(left, letter) is not None}
    for entry in left.letters if left is not None else ():
        if entry.id in entries.keys() - done:
            chosen = entry.chosen or entries[entry.id].chosen
            entries[entry.id] = entry.model_copy(update={"chosen": chosen})
    if left is None and not any(entry.chosen for entry in entries.values()):
        return None, False, unreadable
    journal = _Journal(
        redrive_id=str(uuid.uuid4()),
        run_id=provenance.run_id,
        at=provenance.now(),
        versions=versions,
        letters=tuple(entries.values()),
    )
    key = lake.keys.redrive_journal(day)
    try:
        lake.store.put(key, as_json(journal), content_type=_JSON, only_if_absent=left is None)
    except KeyExists:  # another redrive of the day began at the same moment: they are one
        return _open_journal(lake, versions, day, provenance, select)
    return journal, left is not None, unreadable


def _read_journal(lake: Lake, day: dt.date) -> _Journal | None:
    key = lake.keys.redrive_journal(day)
    try:
        return _Journal.model_validate_json(lake.store.get(key).body)
    except ObjectNotFound:
        return None
    except (CorruptObject, ValidationError) as error:
        _log.warning("%s is no journal of a redrive and is removed; letters may be tried once more. %s", key, error)
        lake.store.delete(key)
        return None


def _entry(letter: DeadLetter, versions: Versions, select: Select) -> _Entry:
    return _Entry(
        id=letter.id,
        source_key=letter.source_key,
        stage=letter.stage,
        chosen=letter in select and waits(letter, versions),
        lines=_lines(letter),
        code_version=letter.code_version,
        contract_version=letter.contract_version,
        retry_count=letter.retry_count,
        status=letter.status,
    )


def _lines(letter: DeadLetter) -> tuple[int, ...]:
    return tuple(_WHOLE_FILE if record.line is None else record.line for record in letter.records)


def _attempt_of(journal: _Journal | None, letter: DeadLetter) -> Attempt | None:
    """Return what a redrive has already recorded in a letter."""
    found = (attempt for attempt in letter.attempts if journal is not None and attempt.redrive_id == journal.redrive_id)
    return next(found, None)


# --- The work ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verdict:
    """What today's code says of a letter: which of its lines passed, and by which rules its source still fails."""

    accepted: tuple[int, ...]
    remaining: Mapping[str, int]
    came_back: bool


@dataclass(frozen=True)
class _Build:
    """A day as built: the letters it wrote, the rows that each source brought into it; and payloads.

    `payloads` holds, by the id of a letter of the raw stage, the key in raw that its bytes have now, or the rule by
    which they are still no snapshot.
    """

    has_raw: bool = False
    ids: frozenset[str] = frozenset()
    failing: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)
    payloads: Mapping[str, "_Payload"] = field(default_factory=dict)

    def verdict(self, entry: _Entry) -> _Verdict:
        if entry.stage is Stage.RAW:
            payload = self.payloads[entry.id]
            back = payload.raw_key is not None
            return _Verdict(entry.lines if back else (), {} if payload.rule is None else {payload.rule: 1}, back)
        failing = self.failing.get(entry.source_key, ())
        lines = {line for line, _ in failing}
        # A row of a file that is set aside whole, or that is no part of the day any more, has not come back.
        none_passed = _WHOLE_FILE in lines or entry.source_key not in self.kept
        still = set(entry.lines) if none_passed else lines.intersection(entry.lines)
        return _Verdict(
            accepted=tuple(sorted(set(entry.lines) - still)),
            remaining=dict(sorted(Counter(rule for _, rule in failing).items())),
            came_back=not still and entry.id not in self.ids,
        )

    def rows(self, entry: _Entry, accepted: Collection[int]) -> int:
        """Count the rows that joined the day with the lines of a letter that passed."""
        if _WHOLE_FILE not in accepted:
            return len(accepted)
        payload = self.payloads.get(entry.id)
        return self.kept.get(entry.source_key if payload is None else payload.raw_key or "", 0)


@dataclass(frozen=True)
class _Payload:
    """Bytes that were no snapshot: the key in raw that they have now, or the rule by which they still are none."""

    raw_key: str | None = None
    rule: str | None = None


def _build(
    lake: Lake, feed_format: FeedFormat, contract: Contract, day: dt.date, provenance: Provenance, journal: _Journal
) -> _Build:
    chosen = [entry for entry in journal.letters if entry.stage is Stage.RAW and entry.chosen]
    payloads = {entry.id: _payload(lake, feed_format, day, entry, provenance) for entry in chosen}
    try:
        built = build_enhanced_day(lake, feed_format, contract, day, provenance, from_nothing=True)
    except NoRawDataError:  # the feed was broken all day, or raw is gone
        return _Build(payloads=payloads)
    failing: dict[str, tuple[tuple[int, str], ...]] = {}
    for letter in built.letters:
        found = zip(_lines(letter), (record.rule for record in letter.records), strict=True)
        failing[letter.source_key] = (*failing.get(letter.source_key, ()), *found)
    return _Build(
        has_raw=True,
        ids=frozenset(letter.id for letter in built.letters),
        failing=failing,
        kept={source.key: source.kept for source in built.manifest.sources},
        payloads=payloads,
    )


def _payload(lake: Lake, feed_format: FeedFormat, day: dt.date, entry: _Entry, provenance: Provenance) -> _Payload:
    """Put the bytes of a letter of the raw stage into raw when they are a snapshot to today's code."""
    try:
        letter = read_letter(lake.store, lake.keys.dead_letter(day, entry.id))
        body = lake.store.get(letter.source_key).body
    except (ObjectNotFound, CorruptObject, UnreadableLetterError) as error:
        _log.warning("The bytes of dead letter %s cannot be judged again. %s", entry.id, error)
        return _Payload(rule=PayloadFault.DAMAGED)
    incomplete = _INCOMPLETE.intersection(record.rule for record in letter.records)
    if incomplete or hashlib.sha256(body).hexdigest() != letter.source_sha256:
        return _Payload(rule=min(incomplete, default=PayloadFault.DAMAGED))
    fault = feed_format.inspect(body)
    if fault is not None:
        return _Payload(rule=fault.kind)
    # A letter is written a moment after the fetch, which may be a moment after midnight.
    first, last = (dt.datetime.combine(day, time, dt.UTC) for time in (dt.time(), dt.time(23, 59, 59)))
    fetched_at = min(max(letter.first_seen.astimezone(dt.UTC), first), last)
    return _Payload(raw_key=keep_snapshot(lake, feed_format, body, fetched_at, provenance).info.key)


@dataclass(frozen=True)
class _Settled:
    """What became of a letter."""

    outcome: Outcome
    given_up: bool
    rows_joined: int


def _settle(lake: Lake, day: dt.date, journal: _Journal, entry: _Entry, build: _Build) -> _Settled | None:
    """Record a letter's attempt, first for good and then in the letter; None when it was not tried.

    A letter that holds this redrive's attempt was settled before the redrive was killed.
    """
    if entry.stage is Stage.RAW and not entry.chosen:
        return None
    try:
        letter = read_letter(lake.store, lake.keys.dead_letter(day, entry.id))
    except (ObjectNotFound, UnreadableLetterError) as error:
        _log.warning("Dead letter %s was removed or damaged during its redrive. %s", entry.id, error)
        return None
    attempt = _attempt_of(journal, letter)
    if attempt is None:
        verdict = build.verdict(entry)
        if not (entry.chosen or verdict.came_back):
            return None
        attempt = _attempt(journal, entry, verdict)
        letter = _tried(entry, letter, attempt, verdict, build)
        _record(lake, journal, letter, attempt, verdict)
    return _Settled(
        outcome=attempt.outcome,
        given_up=letter.status is Status.FAILED and entry.status is not Status.FAILED,
        rows_joined=build.rows(entry, attempt.accepted_lines),
    )


def _attempt(journal: _Journal, entry: _Entry, verdict: _Verdict) -> Attempt:
    code, contract = journal.versions[entry.stage]
    failed = Outcome.PARTLY if verdict.accepted else Outcome.REJECTED
    return Attempt(
        at=journal.at,
        redrive_id=journal.redrive_id,
        code_version_before=entry.code_version,
        code_version=code,
        contract_version_before=entry.contract_version,
        contract_version=contract,
        outcome=Outcome.REPROCESSED if verdict.came_back else failed,
        accepted_lines=verdict.accepted,
    )


def _tried(entry: _Entry, letter: DeadLetter, attempt: Attempt, verdict: _Verdict, build: _Build) -> DeadLetter:
    """Return the letter after its attempt; one that came back keeps its records: what had been wrong."""
    attempts = (*letter.attempts, attempt)
    if verdict.came_back:
        return letter.model_copy(update={"attempts": attempts, "status": Status.REPROCESSED})
    records = letter.records
    if entry.id not in build.ids:  # its other rows are another stage's now, and are not written anew here
        lines = zip(_lines(letter), records, strict=True)
        records = tuple(record for line, record in lines if line not in verdict.accepted)
    retries = entry.retry_count + 1
    status = Status.FAILED if retries >= letter.max_retries else Status.PENDING
    return letter.model_copy(
        update={"attempts": attempts, "records": records, "retry_count": retries, "status": status}
    )


def _record(lake: Lake, journal: _Journal, letter: DeadLetter, attempt: Attempt, verdict: _Verdict) -> None:
    audit = AuditRecord(
        **attempt.model_dump(),
        letter_id=letter.id,
        source_key=letter.source_key,
        stage=letter.stage,
        partition=letter.partition,
        run_id=journal.run_id,
        remaining=dict(verdict.remaining),
        retry_count=letter.retry_count,
        status=letter.status,
    )
    store_audit(lake.store, lake.keys, audit, len(letter.attempts))
    if letter.status is Status.FAILED:
        alert = Alert(
            letter_id=letter.id,
            source_key=letter.source_key,
            stage=letter.stage,
            partition=letter.partition,
            redrive_id=journal.redrive_id,
            at=journal.at,
            retry_count=letter.retry_count,
            rules=dict(sorted(Counter(record.rule for record in letter.records).items())),
            message=(
                f"Dead letter {letter.id} of {letter.source_key} was rejected by {letter.retry_count} redrives and is "
                f"given up on: see `wrm dlq show {letter.id}`. Once the code or the contract has changed, the next "
                "redrive tries it again."
            ),
        )
        if store_alert(lake.store, lake.keys, alert):
            _log.error("%s", alert.message)
    store_letter(lake.store, lake.keys, letter)

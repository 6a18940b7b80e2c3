"""Dead letters: what was set aside, why, and where it stands on its way back.

One JSON object for each (source object, stage), named by a uuid5 of both: building again overwrites, never duplicates.
The envelope's schema is version 2; version 1, which knew no contract, is read as well. What a redrive leaves for good,
an audit record an attempt and one alert a letter, is here too; how a redrive works is in `layers.redrive`.
"""

import base64
import datetime as dt
import itertools
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wrm_pipeline.lake.keys import LakeKeys, day_of
from wrm_pipeline.lake.object_store import CorruptObject, KeyExists, ObjectInfo, ObjectNotFound, ObjectStore

MAX_RETRIES: Final = 3
# A longer row stays in its source object, which is kept for ever; the letter points to it.
MAX_ROW_BYTES: Final = 64 * 1024
_NAMESPACE: Final = uuid.UUID("6f1d7a0e-3d55-5c0c-9a57-7d1f0c0c6b57")
_JSON: Final = "application/json"
_AT_ONCE: Final = 8
_log = logging.getLogger(__name__)


class UnreadableLetterError(ValueError):
    """A stored dead letter is damaged or not a known envelope; the message names its key."""


class Stage(StrEnum):
    """Where something was set aside."""

    RAW = "raw"
    PROCESSED = "processed"
    ENHANCED = "enhanced"


class Status(StrEnum):
    """Where a letter stands."""

    PENDING = "pending_reprocessing"
    REPROCESSED = "reprocessed"
    FAILED = "failed_permanently"


class DeadRecord(BaseModel):
    """One row, or one whole file, that was set aside.

    `line` is 1-based and null for a whole file. The row as received is in `row` as text, in `row_base64` when it is
    not UTF-8, and in neither when it is over 64 KiB or a whole file: `pointer` then names the object that holds it.
    """

    model_config = ConfigDict(extra="forbid")

    line: int | None
    row: str | None = None
    row_base64: str | None = None
    pointer: str | None = None
    rule: str
    error_class: str
    message: str

    @classmethod
    def from_row(cls, *, line: int, row: bytes, source_key: str, rule: str, error_class: str, message: str) -> Self:
        """Make the record of one row."""
        record = cls(line=line, rule=rule, error_class=error_class, message=message)
        if len(row) > MAX_ROW_BYTES:
            return record.model_copy(update={"pointer": f"{source_key}#line={line}"})
        try:
            return record.model_copy(update={"row": row.decode("utf-8")})
        except UnicodeDecodeError:
            return record.model_copy(update={"row_base64": base64.b64encode(row).decode("ascii")})


class Outcome(StrEnum):
    """What came of one redrive of a letter."""

    REPROCESSED = "reprocessed"  # each of its records joined the day
    PARTLY = "partly_reprocessed"  # some did
    REJECTED = "rejected_again"  # none did


class Attempt(BaseModel):
    """One redrive of a letter: when (UTC), from which code and contract to which, what came of it.

    `accepted_lines` are the lines of its source that joined the day; a whole file counts as line 0.
    """

    model_config = ConfigDict(extra="forbid")

    at: dt.datetime
    redrive_id: str
    code_version_before: str
    code_version: str
    contract_version_before: str
    contract_version: str
    outcome: Outcome
    accepted_lines: tuple[int, ...] = ()


class DeadLetter(BaseModel):
    """The envelope. Times are UTC; `partition` is the UTC day the rows belong to."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    id: str
    source_key: str
    source_sha256: str
    partition: dt.date
    stage: Stage
    asset: str
    run_id: str
    code_version: str
    contract_version: str
    first_seen: dt.datetime
    last_seen: dt.datetime
    status: Status = Status.PENDING
    retry_count: int = Field(default=0, ge=0)
    max_retries: int = MAX_RETRIES
    records: tuple[DeadRecord, ...]
    attempts: tuple[Attempt, ...] = ()


class AuditRecord(Attempt):
    """What one redrive made of one letter; written once, never changed. Counts and status are those after it.

    `remaining` counts the records of the letter's source that are still set aside, by rule.
    """

    schema_version: Literal[1] = 1
    letter_id: str
    source_key: str
    stage: Stage
    partition: dt.date
    run_id: str
    remaining: dict[str, int]
    retry_count: int
    status: Status


class Alert(BaseModel):
    """Says, once a letter, that it was given up on: when (UTC), after how many redrives, and what to do."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    letter_id: str
    source_key: str
    stage: Stage
    partition: dt.date
    redrive_id: str
    at: dt.datetime
    retry_count: int
    rules: dict[str, int]
    message: str


def letter_id(source_key: str, stage: Stage) -> str:
    """Return the id of the letter of a source object and a stage: always the same one."""
    return str(uuid.uuid5(_NAMESPACE, f"{source_key}|{stage}"))


def write_letter(store: ObjectStore, keys: LakeKeys, letter: DeadLetter) -> str:
    """Write a letter and return its key; what an earlier letter at that key knows of its past is carried over.

    An object at that key that cannot be read stays as it is: somebody may still want to know what it said, and the rows
    are in the source.
    """
    key = keys.dead_letter(letter.partition, letter.id)
    try:
        earlier = read_letter(store, key)
    except ObjectNotFound:
        pass
    except UnreadableLetterError as error:
        _log.warning("%s. It is left as it is; remove it and build the day again to have it made anew.", error)
        return key
    else:
        given_up = earlier.status is Status.FAILED and earlier.records == letter.records
        letter = letter.model_copy(
            update={
                "first_seen": min(earlier.first_seen, letter.first_seen),
                "retry_count": earlier.retry_count,
                "attempts": earlier.attempts,
                # Given up on stays so until something about it changes; anything else waits again.
                "status": Status.FAILED if given_up else Status.PENDING,
            }
        )
    store_letter(store, keys, letter)
    return key


def store_letter(store: ObjectStore, keys: LakeKeys, letter: DeadLetter) -> None:
    """Store a letter as it is, in the place of an earlier one."""
    store.put(
        keys.dead_letter(letter.partition, letter.id), as_json(letter), content_type=_JSON, read_again_by="listing"
    )


def as_json(document: BaseModel) -> bytes:
    """Return the JSON of a letter or of what belongs to it."""
    return json.dumps(document.model_dump(mode="json"), ensure_ascii=False, indent=1).encode()


def write_letters(store: ObjectStore, keys: LakeKeys, letters: Sequence[DeadLetter]) -> list[str]:
    """Write letters, some at a time, and return their keys; all of them are stored when this returns."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dead-letters") as pool:
        return list(pool.map(lambda letter: write_letter(store, keys, letter), letters))


def read_letter(store: ObjectStore, what: str | ObjectInfo) -> DeadLetter:
    """Read one letter, given as `ObjectStore.get` takes it, of this version of the envelope or the one before.

    Raises:
        UnreadableLetterError: the object is damaged, or no envelope of a known version.
    """
    key = what if isinstance(what, str) else what.key
    try:
        document = json.loads(store.get(what).body)
        if isinstance(document, dict) and document.get("schema_version") == 1:
            document = _from_version_1(document)
        # As JSON once more: strict JSON types, dates as texts, are what an envelope is checked for.
        letter = DeadLetter.model_validate_json(json.dumps(document))
    except CorruptObject as error:
        raise UnreadableLetterError(f"{key} is damaged: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise UnreadableLetterError(f"{key} is not a dead letter of a known version: {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableLetterError(f"{key} is not a dead letter of a known version: it is no JSON: {error}") from error
    # Somebody edited it, or copied it: where it would be written back, and what it would bring back, is another one's.
    if letter.id != letter_id(letter.source_key, letter.stage) or not key.endswith(
        f"dt={letter.partition.isoformat()}/{letter.id}.json"
    ):
        raise UnreadableLetterError(f"{key} is not the dead letter that its id, source, stage and partition name")
    return letter


def _from_version_1(document: dict[str, Any]) -> dict[str, Any]:
    """Bring an envelope of version 1 up to date: it recorded no contract and was never redriven."""
    return {**document, "schema_version": 2, "contract_version": "", "attempts": []}


def list_letters(store: ObjectStore, keys: LakeKeys, day: dt.date) -> Iterator[str]:
    """Yield the keys of a day's letters."""
    return (info.key for info in letter_listing(store, keys, day))


def letter_listing(store: ObjectStore, keys: LakeKeys, day: dt.date) -> Iterator[ObjectInfo]:
    """Yield what the store says of a day's letters, in the order of their keys."""
    return (info for info in store.list(keys.dead_letter_day(day)) if keys.is_dead_letter(info.key))


def days_of_letters(store: ObjectStore, keys: LakeKeys) -> list[dt.date]:
    """Return the days that have dead letters, in order; one page of the listing covers 1,000 days."""
    days = (day_of(folder) for folder in store.list_folders(keys.dead_letter_root))
    return sorted(day for day in days if day is not None)


def read_letters(
    store: ObjectStore, keys: LakeKeys, day: dt.date, of: Iterable[ObjectInfo] | None = None
) -> tuple[list[DeadLetter], list[str]]:
    """Read a day's letters, or those of it that `of` has just listed, some at a time.

    Return them, and why each that cannot be read cannot.
    """

    def read(info: ObjectInfo) -> DeadLetter | str:
        try:
            return read_letter(store, info)
        except UnreadableLetterError as error:
            return str(error)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dead-letters") as pool:
        found = list(pool.map(read, letter_listing(store, keys, day) if of is None else of))
    return [x for x in found if isinstance(x, DeadLetter)], [x for x in found if isinstance(x, str)]


def store_audit(store: ObjectStore, keys: LakeKeys, record: AuditRecord, number: int) -> None:
    """Store the record of a letter's attempt under its number, counted from 1, or the next that is free.

    The same record again is no second one.
    """
    for candidate in itertools.count(number):
        key = keys.redrive_audit(record.partition, record.letter_id, candidate)
        try:
            store.put(key, as_json(record), content_type=_JSON, only_if_absent=True)
        except KeyExists:
            # A run was killed between its record and the letter, and later code came to another end.
            continue
        return


def store_alert(store: ObjectStore, keys: LakeKeys, alert: Alert) -> bool:
    """Store the one alert about a letter; False when there is an earlier one."""
    key = keys.dead_letter_alert(alert.partition, alert.letter_id)
    try:
        store.put(key, as_json(alert), content_type=_JSON, only_if_absent=True)
    except KeyExists:
        return False
    return True


def list_alerts(store: ObjectStore, keys: LakeKeys, day: dt.date) -> Iterator[str]:
    """Yield the keys of the alerts about a day's letters."""
    return (info.key for info in store.list(keys.dead_letter_alert_day(day)))


def count_by(letters: Iterable[DeadLetter]) -> dict[tuple[str, str, str], int]:
    """Count records by (rule, stage, status), most frequent first, then by name."""
    counts: dict[tuple[str, str, str], int] = {}
    for letter in letters:
        for record in letter.records:
            group = (record.rule, letter.stage.value, letter.status.value)
            counts[group] = counts.get(group, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

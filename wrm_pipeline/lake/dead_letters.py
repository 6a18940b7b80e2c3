"""Dead letters: what was set aside, why, and where it stands on its way back.

One JSON object for each (source object, stage), named by a uuid5 of both: building again overwrites, never duplicates.
The envelope's schema is version 1; a reader accepts every version it knows.
"""

import base64
import datetime as dt
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.object_store import CorruptObject, ObjectNotFound, ObjectStore

MAX_RETRIES: Final = 3
# A longer row stays in its source object, which is kept for ever; the letter points to it.
MAX_ROW_BYTES: Final = 64 * 1024
_NAMESPACE: Final = uuid.UUID("6f1d7a0e-3d55-5c0c-9a57-7d1f0c0c6b57")
_JSON: Final = "application/json"
_AT_ONCE: Final = 8


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


class Attempt(BaseModel):
    """One redrive of a letter: when (UTC), from which code to which, what came of it."""

    model_config = ConfigDict(extra="forbid")

    at: dt.datetime
    code_version_before: str
    code_version: str
    outcome: str


class DeadLetter(BaseModel):
    """The envelope. Times are UTC; `partition` is the UTC day the rows belong to."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    source_key: str
    source_sha256: str
    partition: dt.date
    stage: Stage
    asset: str
    run_id: str
    code_version: str
    first_seen: dt.datetime
    last_seen: dt.datetime
    status: Status = Status.PENDING
    retry_count: int = Field(default=0, ge=0)
    max_retries: int = MAX_RETRIES
    records: tuple[DeadRecord, ...]
    attempts: tuple[Attempt, ...] = ()


def letter_id(source_key: str, stage: Stage) -> str:
    """Return the id of the letter of a source object and a stage: always the same one."""
    return str(uuid.uuid5(_NAMESPACE, f"{source_key}|{stage}"))


def write_letter(store: ObjectStore, keys: LakeKeys, letter: DeadLetter) -> str:
    """Write a letter and return its key; what an earlier letter at that key knows of its past is carried over."""
    key = keys.dead_letter(letter.partition, letter.id)
    try:
        earlier = read_letter(store, key)
    except (ObjectNotFound, UnreadableLetterError):
        pass  # none yet, or somebody damaged it: the source is kept, so the letter is made anew
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
    body = json.dumps(letter.model_dump(mode="json"), ensure_ascii=False, indent=1).encode()
    store.put(key, body, content_type=_JSON)
    return key


def write_letters(store: ObjectStore, keys: LakeKeys, letters: Sequence[DeadLetter]) -> list[str]:
    """Write letters, some at a time, and return their keys; all of them are stored when this returns."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dead-letters") as pool:
        return list(pool.map(lambda letter: write_letter(store, keys, letter), letters))


def read_letter(store: ObjectStore, key: str) -> DeadLetter:
    """Read one letter.

    Raises:
        UnreadableLetterError: the object is damaged, or no envelope of a known version.
    """
    try:
        return DeadLetter.model_validate_json(store.get(key).body)
    except CorruptObject as error:
        raise UnreadableLetterError(f"{key} is damaged: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise UnreadableLetterError(f"{key} is not a dead letter of a known version: {where}: {first['msg']}") from None


def list_letters(store: ObjectStore, keys: LakeKeys, day: dt.date) -> Iterator[str]:
    """Yield the keys of a day's letters."""
    return (info.key for info in store.list(keys.dead_letter_day(day)) if keys.is_dead_letter(info.key))


def read_letters(store: ObjectStore, keys: LakeKeys, day: dt.date) -> tuple[list[DeadLetter], list[str]]:
    """Read a day's letters, some at a time; return them, and why each that cannot be read cannot."""

    def read(key: str) -> DeadLetter | str:
        try:
            return read_letter(store, key)
        except UnreadableLetterError as error:
            return str(error)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dead-letters") as pool:
        found = list(pool.map(read, list_letters(store, keys, day)))
    return [x for x in found if isinstance(x, DeadLetter)], [x for x in found if isinstance(x, str)]


def count_by(letters: Iterable[DeadLetter]) -> dict[tuple[str, str, str], int]:
    """Count records by (rule, stage, status), most frequent first, then by name."""
    counts: dict[tuple[str, str, str], int] = {}
    for letter in letters:
        for record in letter.records:
            group = (record.rule, letter.stage.value, letter.status.value)
            counts[group] = counts.get(group, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

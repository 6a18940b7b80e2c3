"""What a feed format must be able to do, and what its parser gives back.

A format knows bytes and rows. It knows nothing of HTTP, S3 or Dagster.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import pyarrow as pa

from wrm_pipeline.contracts.model import Contract


class PayloadFault(StrEnum):
    """Why bytes are no snapshot at all."""

    EMPTY = "empty"
    HTML = "html"
    WRONG_HEADER = "wrong_header"
    HEADER_ONLY = "header_only"
    CUT_OFF = "cut_off"
    DAMAGED = "damaged"
    WRONG_KEY = "wrong_key"


@dataclass(frozen=True)
class Fault:
    """A payload that is no snapshot: which kind, and one sentence that says what came instead."""

    kind: PayloadFault
    message: str


@dataclass(frozen=True)
class Snapshot:
    """One raw object: its key, the UTC time of the snapshot and the bytes as received."""

    key: str
    time: datetime
    body: bytes


@dataclass(frozen=True)
class Reject:
    """A row that was set aside: 1-based line in its file, the row as received, the rule it broke, and why in words."""

    source_key: str
    line: int
    row: bytes
    rule: str
    message: str


@dataclass(frozen=True)
class Tally:
    """Row counts of one source: `rows == kept + dead + duplicates`. A file set aside whole counts no rows."""

    source_key: str
    rows: int
    kept: int
    dead: int
    duplicates: int


@dataclass(frozen=True)
class Parsed:
    """What a parser made of some snapshots.

    `rows` has the schema `transform.schema.PROCESSED`, ordered by snapshot as given, then by line. `tallies` has one
    entry a snapshot, in the same order. `faults` names the snapshots that are no snapshots.
    """

    rows: pa.Table
    rejects: tuple[Reject, ...]
    tallies: tuple[Tally, ...]
    faults: dict[str, Fault]


class FeedFormat(Protocol):
    """A feed format; `contract` is that of processed, with the bounds of each value."""

    name: str
    contract: Contract

    def inspect(self, body: bytes) -> Fault | None:
        """Judge bytes just fetched: None when they are a snapshot; a last row cut short is a fault here."""
        ...

    def parse(self, snapshots: Iterable[Snapshot]) -> Parsed:
        """Parse stored snapshots, taken as they come; never raises for what they hold. A cut last row is one reject."""
        ...

    def locate(self, body: bytes, ids: Collection[str]) -> dict[str, tuple[int, bytes]]:
        """Return the 1-based line, and the row as received, of each id's kept row."""
        ...

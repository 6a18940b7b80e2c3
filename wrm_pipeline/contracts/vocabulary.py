"""Every rule there is: what it judges, in which dataset's contract it may stand, and which numbers it takes.

The predicates are elsewhere, by the same names: a field's in `feed`, a row's in `transform.rules`, a snapshot's in
`transform.snapshots`, a day's in `transform.quality`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RAW: Final = "wrm_stations_raw_data"
PROCESSED: Final = "wrm_stations_processed_data_all"
ENHANCED: Final = "wrm_stations_enhanced_data_all"
DEAD_LETTERS: Final = "wrm_stations_dlq"


class Scope(StrEnum):
    """What a rule judges."""

    FILE = "file"  # a payload; it is set aside whole
    FIELD = "field"  # a row's text; without a value there is no row to flag
    ROW = "row"  # a typed row; the severity decides between setting aside and flagging
    SNAPSHOT = "snapshot"  # all rows of one poll; a finding of the day's checks, no row is touched
    DAY = "day"  # a day of a layer; an asset check, which blocks what is downstream when it is an error


@dataclass(frozen=True)
class RuleSpec:
    """One rule: its scope, the datasets whose contracts may hold it, and the names of its numbers.

    What is `built_in` cannot be left out or be a warning: the code has no other way to go on.
    """

    scope: Scope
    datasets: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    built_in: bool = False


def _file() -> RuleSpec:
    return RuleSpec(Scope.FILE, (RAW,), built_in=True)


def _field() -> RuleSpec:
    return RuleSpec(Scope.FIELD, (PROCESSED,), built_in=True)


def _row(*arguments: str) -> RuleSpec:
    return RuleSpec(Scope.ROW, (ENHANCED,), arguments)


def _snapshot(*arguments: str) -> RuleSpec:
    return RuleSpec(Scope.SNAPSHOT, (RAW,), arguments)


def _day(*arguments: str, of: tuple[str, ...] = (ENHANCED,)) -> RuleSpec:
    return RuleSpec(Scope.DAY, of, arguments)


_BOTH: Final = (PROCESSED, ENHANCED)

VOCABULARY: Final[dict[str, RuleSpec]] = {
    "empty": _file(),
    "html": _file(),
    "wrong_header": _file(),
    "header_only": _file(),
    "cut_off": _file(),
    "damaged": _file(),
    "wrong_key": _file(),
    "too_few_fields": _field(),
    "too_many_fields": _field(),
    "truncated_row": _field(),
    "not_a_number": _field(),
    "not_finite": _field(),
    "not_a_boolean": _field(),
    "negative_count": _field(),
    "out_of_range": _field(),
    "bad_timestamp": _field(),
    "bad_coordinates": _field(),
    "empty_id": _field(),
    "conflicting_id": _field(),
    "bad_encoding": _field(),
    "bad_quoting": _field(),
    "control_character": _field(),
    "battery_out_of_range": _row("unknown"),
    "future_row_time": _row("after_s"),
    "moved": _row("after_m"),
    "name_changed": _row(),
    "non_monotonic_time": _row(),
    "off_zone": _row("south", "north", "west", "east"),
    "overfull": _row(),
    "racks_out_of_use": _row(),
    "stale_row_time": _row("after_s"),
    "unknown_record_type": _row(),
    "zero_docks": _row(),
    "partial_snapshot": _snapshot("share_below", "window"),
    "frozen_feed": _snapshot("polls", "from_hour", "to_hour"),
    "late_snapshot": _snapshot("after_s"),
    "coverage_gap": _snapshot("after_s"),
    "schema": _day(of=_BOTH),
    "reconciliation": _day(of=_BOTH),
    "inputs": _day(of=_BOTH),
    "unique": _day(of=_BOTH),
    "dead_letter_ratio": _day("warn_above", "block_above"),
    "newest_row_age": _day(),
    "snapshots_received": _day("share_below"),
    "volume": _day("weeks", "share_below", "share_above"),
    "completeness": _day("score_below"),
    "accuracy": _day("score_below"),
    "consistency": _day("score_below"),
    "timeliness": _day("score_below"),
    "validity": _day("score_below"),
    "no_failed_partitions": _day(of=_BOTH),
    "readable_letters": _day(of=(DEAD_LETTERS,)),
}

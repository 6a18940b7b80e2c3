"""Processed rows to enhanced rows: classified, judged by the rules of the contract, flagged."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from wrm_pipeline.contracts.model import Contract, Rule
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.transform.classify import RECORD_TYPES
from wrm_pipeline.transform.rules import ROW_RULES, RowColumns
from wrm_pipeline.transform.schema import ENHANCED


@dataclass(frozen=True)
class Enhanced:
    """Enhanced rows, and what was set aside.

    `rows` has the schema of enhanced. `rejected` holds the positions of other rows in the input, rising, and `broke`
    the first error rule, in the order of the contract, that each of them meets.
    """

    rows: pa.Table
    rejected: np.ndarray
    broke: tuple[Rule, ...]


def enhance(processed: pa.Table, day: dt.date, contract: Contract) -> Enhanced:
    """Add `record_type`, `date`, `in_service_area` and `quality_flags` to rows of processed.

    A row that meets a warning rule is flagged; one that meets an error rule is left out.
    """
    table = processed.combine_chunks()
    columns = RowColumns(table, contract)
    rules = sorted(contract.of_scope(Scope.ROW), key=lambda rule: rule.name)
    met = {rule.name: ROW_RULES[rule.name](columns, rule.arguments) for rule in rules}
    zone = contract.rules.get("off_zone")
    inside = columns.inside(zone.arguments) if zone is not None else np.ones(table.num_rows, dtype=bool)
    added = (
        RECORD_TYPES.take(pa.array(columns.codes)),
        pa.repeat(pa.scalar(day), table.num_rows),
        pa.array(inside),
        _flag_lists([(rule.name, met[rule.name]) for rule in rules if not rule.is_error], table.num_rows),
    )
    rows = pa.table([*table.columns, *added], schema=ENHANCED)
    errors = [rule for rule in contract.of_scope(Scope.ROW) if rule.is_error]
    first = np.full(table.num_rows, len(errors))
    for number, rule in reversed(list(enumerate(errors))):
        first[met[rule.name]] = number
    (rejected,) = np.nonzero(first < len(errors))
    if rejected.size:
        rows = rows.filter(pa.array(first == len(errors))).combine_chunks()
    return Enhanced(rows, rejected, tuple(errors[number] for number in first[rejected].tolist()))


def _flag_lists(flags: Sequence[tuple[str, np.ndarray]], length: int) -> pa.Array:
    """Return the names of the flags that are set in each row, in the order given."""
    bits = np.zeros(length, dtype=np.int32)
    for position, (_, is_set) in enumerate(flags):
        bits |= is_set.astype(np.int32) << position
    # A day knows a dozen of the 2,048 combinations: lists are made for those alone.
    (masks,) = np.nonzero(np.bincount(bits, minlength=1))
    place = np.zeros(1 << len(flags), dtype=np.int32)
    place[masks] = np.arange(len(masks))
    lists = pa.array(
        [[name for position, (name, _) in enumerate(flags) if mask >> position & 1] for mask in masks.tolist()],
        type=pa.list_(pa.string()),
    )
    return lists.take(pa.array(place[bits]))

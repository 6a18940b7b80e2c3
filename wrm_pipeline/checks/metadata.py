"""Results of checks, made from judgments."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import AssetCheckSeverity, MetadataValue, TableColumn, TableRecord, TableSchema

from wrm_pipeline.contracts.model import Rule, Severity
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.transform.quality import SCORE_FORMULA, Cells, Judgment

SEVERITIES = {Severity.ERROR: AssetCheckSeverity.ERROR, Severity.WARNING: AssetCheckSeverity.WARN}


def describe(rule: Rule) -> str:
    """Return what a check's definition says: the contract's words, its numbers, and how a score comes about."""
    text = f"{rule.description} ({threshold(rule)})" if rule.arguments else rule.description
    if rule.scope is Scope.DAY and rule.name == rule.dimension.value:
        also = ", times snapshots received over expected, at most 1" if rule.name == "completeness" else ""
        return f"{text} {SCORE_FORMULA}{also}."
    return text


def threshold(rule: Rule) -> str:
    """Return a rule's numbers, such as `warn_above 0.05, block_above 0.2`."""
    return ", ".join(f"{name} {value:g}" for name, value in rule.arguments.items())


def judgment_metadata(judgment: Judgment, partition: str) -> dict[str, Any]:
    """Return the metadata of a check's result for one day: its figures, its numbers, and what fails, as a table."""
    return {
        "partition": partition,
        **dict(judgment.figures),
        **({"threshold": threshold(judgment.rule)} if judgment.rule.arguments else {}),
        "dimension": judgment.rule.dimension.value,
        "rule": judgment.rule.place,
        **({"failing": table(judgment.failing)} if judgment.failing else {}),
    }


def table(rows: Sequence[Cells]) -> MetadataValue[Any]:
    """Return rows as Dagster's table; the columns are those of any row, in the order of their first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return MetadataValue.table(
        [TableRecord({name: _cell(row.get(name)) for name in names}) for row in rows],
        TableSchema([TableColumn(name, _column_type(row.get(name) for row in rows)) for name in names]),
    )


def _cell(value: object) -> str | int | float:
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return value if isinstance(value, int | float | str) else "" if value is None else str(value)


def _column_type(values: Iterable[object]) -> str:
    types = {type(value) for value in values if value is not None}
    return types.pop().__name__ if len(types) == 1 and types <= {bool, int, float} else "string"


def summary_metadata(judgments: Mapping[str, Judgment]) -> dict[str, Any]:
    """Return the metadata of a check's result for a run over many days: the days that fail, as a table."""
    failing = {day: judgment for day, judgment in judgments.items() if not judgment.passed}
    rows = [{"day": day, "blocks": judgment.blocks, "why": judgment.summary} for day, judgment in failing.items()]
    return {
        "days": len(judgments),
        "days_failed": len(failing),
        "days_blocked": sum(judgment.blocks for judgment in failing.values()),
        **({"failing": table(rows)} if rows else {}),
    }

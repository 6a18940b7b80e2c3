"""The checks of the marts, made from their specs: one op asks the DuckDB file, one check a table and kind of rule.

A failing check blocks nothing: the tables are what they are, and a page that shows them is better than an old one.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    multi_asset_check,
)

from wrm_pipeline.assets.common import clear_failures
from wrm_pipeline.checks.metadata import table
from wrm_pipeline.marts.catalogue import Column, Mart
from wrm_pipeline.marts.connection import quoted
from wrm_pipeline.marts.database import open_database
from wrm_pipeline.marts.document import allowed_values
from wrm_pipeline.settings import load_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SHOWN_ROWS: Final = 10


class Kind(StrEnum):
    """What a check is about; its name in the UI."""

    NOT_NULL = "not_null"
    UNIQUE_KEY = "unique_key"
    ACCEPTED_RANGE = "accepted_range"
    RELATIONSHIPS = "relationships"
    RECENCY = "recency"


@dataclass(frozen=True)
class Finding:
    """What came of a check: the first of the rows that fail, by the table's key, and how many there are."""

    kind: Kind
    failing: int
    rows: int
    summary: str
    examples: tuple[Mapping[str, object], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no row fails."""
        return self.failing == 0


def build_mart_checks(marts: Iterable[Mart]) -> AssetChecksDefinition:
    """Return the checks of some tables."""
    by_key = {AssetKey(mart.name): mart for mart in marts}

    @multi_asset_check(
        name="wrm_stations_marts_checks",
        specs=[_spec(mart, kind) for mart in by_key.values() for kind in kinds_of(mart)],
        can_subset=True,
    )
    def wrm_stations_marts_checks(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        chosen = context.selected_asset_check_keys
        with clear_failures(), open_database(load_settings().wrm_duckdb_path) as database:
            found = {
                key: judge(database, mart, [kind for kind in kinds_of(mart) if kind in names])
                for key, mart in by_key.items()
                if (names := {check.name for check in chosen if check.asset_key == key})
            }
        for key, findings in found.items():
            for finding in findings:
                yield _result(key, finding)

    return wrm_stations_marts_checks


def kinds_of(mart: Mart) -> list[Kind]:
    """Return the kinds of rules that a table's spec has."""
    rules = {
        Kind.NOT_NULL: any(column.required for column in mart.columns),
        Kind.UNIQUE_KEY: bool(mart.key),
        Kind.ACCEPTED_RANGE: any(_outside(column) for column in mart.columns),
        Kind.RELATIONSHIPS: any(column.references for column in mart.columns),
        Kind.RECENCY: mart.recency_column is not None,
    }
    return [kind for kind, is_there in rules.items() if is_there]


def _spec(mart: Mart, kind: Kind) -> AssetCheckSpec:
    return AssetCheckSpec(kind.value, asset=mart.name, description=_description(mart, kind))


def _description(mart: Mart, kind: Kind) -> str:
    required = [column.name for column in mart.columns if column.required]
    limited = [f"{column.name} {allowed_values(column)}" for column in mart.columns if _outside(column)]
    foreign = [f"{column.name} in {column.references}" for column in mart.columns if column.references]
    return {
        Kind.NOT_NULL: f"Each row has a value of {', '.join(required)}.",
        Kind.UNIQUE_KEY: f"No two rows have the same {', '.join(mart.key)}.",
        Kind.ACCEPTED_RANGE: f"Values are what they may be: {'; '.join(limited).replace('`', '')}.",
        Kind.RELATIONSHIPS: f"Each value is in the table that it refers to: {'; '.join(foreign)}.",
        Kind.RECENCY: f"The newest {mart.recency_column} is at most {mart.recency_h or 0:g} h before the newest "
        "snapshot in the marts.",
    }[kind]


def _result(key: AssetKey, finding: Finding) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=key,
        check_name=finding.kind.value,
        passed=finding.passed,
        severity=AssetCheckSeverity.WARN if finding.kind is Kind.RECENCY else AssetCheckSeverity.ERROR,
        description=finding.summary,
        metadata={
            "rows": finding.rows,
            "failing_rows": finding.failing,
            **({"failing": table([dict(row) for row in finding.examples])} if finding.examples else {}),
        },
    )


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(database: "DuckDBPyConnection", mart: Mart, kinds: Sequence[Kind]) -> list[Finding]:
    """Judge a table of the DuckDB file by some kinds of rules, in the order of `kinds`.

    Rules about single values take one scan together. Only a rule that fails is asked for its rows.
    """
    bad = {kind: _failing_values(mart, kind) for kind in (Kind.NOT_NULL, Kind.ACCEPTED_RANGE) if kind in kinds}
    names = [(kind, column) for kind, conditions in bad.items() for column in conditions]
    counts = ", ".join(["count(*)", *(f"count(*) FILTER (WHERE {bad[kind][column]})" for kind, column in names)])
    ((rows, *failing),) = _ask(database, f"SELECT {counts} FROM {mart.name}")  # noqa: S608 - the catalogue's names
    counted = dict(zip(names, failing, strict=True))
    found = []
    for kind in kinds:
        if kind is Kind.UNIQUE_KEY:
            found.append(_unique_key(database, mart, rows))
        elif kind is Kind.RECENCY:
            found.append(_recency(database, mart, rows))
        elif kind is Kind.RELATIONSHIPS:
            found.append(_relationships(database, mart, rows))
        else:
            of_columns = {column: counted[kind, column] for column in bad[kind] if counted[kind, column]}
            found.append(_values(database, mart, kind, rows, {c: (bad[kind][c], n) for c, n in of_columns.items()}))
    return found


def _ask(database: "DuckDBPyConnection", query: str) -> list[tuple[Any, ...]]:
    return database.execute(query).fetchall()


def _failing_values(mart: Mart, kind: Kind) -> dict[str, str]:
    """Return, by column, the condition that a failing row meets."""
    if kind is Kind.NOT_NULL:
        return {column.name: f'"{column.name}" IS NULL' for column in mart.columns if column.required}
    return {column.name: condition for column in mart.columns if (condition := _outside(column))}


def _outside(column: Column) -> str:
    """Return the condition of a value that a column must not have; empty when it may have any. Null is no value."""
    name = f'"{column.name}"'
    conditions = []
    if column.allowed:
        values = ", ".join(quoted(value) if isinstance(value, str) else str(value) for value in column.allowed)
        conditions.append(f"{name} NOT IN ({values})")
    if column.minimum is not None:
        conditions.append(f"{name} < {column.minimum!r}")
    if column.maximum is not None:
        # What is no number is greater than any number, in DuckDB.
        conditions.append(f"{name} > {column.maximum!r}")
    if column.minimum is not None and column.maximum is None and column.type == "DOUBLE":
        conditions.append(f"isnan({name})")
    return " OR ".join(conditions)


def _values(
    database: "DuckDBPyConnection", mart: Mart, kind: Kind, rows: int, failing: Mapping[str, tuple[str, int]]
) -> Finding:
    """Return what was found about single values; `failing` has condition and count of each column that fails."""
    if not failing:
        return Finding(kind, 0, rows, f"All {rows:,} rows pass.")
    either = " OR ".join(f"({condition})" for condition, _ in failing.values())
    ((count,),) = _ask(database, f"SELECT count(*) FROM {mart.name} WHERE {either}")  # noqa: S608 - the catalogue's
    shown = _columns([*mart.key, *failing])
    examples = _examples(database, f"SELECT {shown} FROM {mart.name} WHERE {either} {_by_key(mart)}")  # noqa: S608
    what = "has no value" if kind is Kind.NOT_NULL else "is not what it may be"
    named = ", ".join(f"{column} ({number:,})" for column, (_, number) in failing.items())
    return Finding(kind, count, rows, f"In {count:,} of {rows:,} rows a column {what}: {named}.", examples)


def _unique_key(database: "DuckDBPyConnection", mart: Mart, rows: int) -> Finding:
    key = _columns(mart.key)
    # Rows of one key have one hash, so as many hashes as rows are as many keys, and hashes are counted faster.
    ((hashes,),) = _ask(database, f"SELECT count(DISTINCT hash({key})) FROM {mart.name}")  # noqa: S608 - the catalogue's
    passes = Finding(Kind.UNIQUE_KEY, 0, rows, f"All {rows:,} rows have a key of their own.")
    if hashes == rows:
        return passes
    groups = f"SELECT {key}, count(*) AS rows FROM {mart.name} GROUP BY {key} HAVING count(*) > 1"  # noqa: S608
    ((keys, failing),) = _ask(database, f"SELECT count(*), sum(rows)::BIGINT FROM ({groups})")  # noqa: S608
    if not keys:
        return passes
    said = f"{keys:,} keys have more than one row each, {failing:,} of {rows:,} rows in all."
    return Finding(Kind.UNIQUE_KEY, failing, rows, said, _examples(database, f"{groups} {_by_key(mart)}"))


def _relationships(database: "DuckDBPyConnection", mart: Mart, rows: int) -> Finding:
    queries = {}
    for name, target in ((column.name, column.references) for column in mart.columns if column.references):
        other, _, key = target.partition(".")
        queries[name] = (
            f'SELECT {_columns([*mart.key, name])} FROM {mart.name} AS this WHERE "{name}" IS NOT NULL '  # noqa: S608
            f'AND NOT EXISTS (FROM {other} AS other WHERE other."{key}" = this."{name}")'
        )
    counts = {
        name: number
        for name, query in queries.items()
        for ((number,),) in [_ask(database, f"SELECT count(*) FROM ({query})")]  # noqa: S608 - the catalogue's
        if number
    }
    if not counts:
        return Finding(Kind.RELATIONSHIPS, 0, rows, f"All {rows:,} rows pass.")
    targets = {column.name: column.references for column in mart.columns}
    named = "; ".join(f"{number:,} of {name} are not in {targets[name]}" for name, number in counts.items())
    examples = [row for name in counts for row in _examples(database, f"{queries[name]} {_by_key(mart)}")]
    return Finding(
        Kind.RELATIONSHIPS, sum(counts.values()), rows, f"Of {rows:,} rows, {named}.", tuple(examples[:_SHOWN_ROWS])
    )


def _recency(database: "DuckDBPyConnection", mart: Mart, rows: int) -> Finding:
    column = next(column for column in mart.columns if column.name == mart.recency_column)
    ((newest,),) = _ask(database, f'SELECT max("{column.name}") FROM {mart.name}')  # noqa: S608 - the catalogue's
    ((snapshot,),) = _ask(database, "SELECT newest_snapshot_at FROM marts_built")
    if snapshot is None:
        return Finding(Kind.RECENCY, 0, rows, "There is no snapshot yet.")
    if newest is None:
        return Finding(Kind.RECENCY, 1, rows, f"There are no rows, and the newest snapshot is of {snapshot:%F %T} UTC.")
    if not isinstance(newest, dt.datetime):
        # A date is as new as its end; its own clock is at most two hours ahead of UTC.
        newest = min(snapshot, dt.datetime.combine(newest + dt.timedelta(days=1), dt.time(), dt.UTC))
    hours = (snapshot - newest) / dt.timedelta(hours=1)
    said = (
        f"The newest {column.name} is {hours:.1f} h before the newest snapshot ({snapshot:%F %T} UTC); "
        f"{mart.recency_h:g} h are allowed."
    )
    return Finding(Kind.RECENCY, int(hours > (mart.recency_h or 0)), rows, said)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in dict.fromkeys(names))


def _by_key(mart: Mart) -> str:
    order = f"ORDER BY {_columns(mart.key)} " if mart.key else ""
    return f"{order}LIMIT {_SHOWN_ROWS}"


def _examples(database: "DuckDBPyConnection", query: str) -> tuple[Mapping[str, object], ...]:
    rows = _ask(database, query)
    names = [str(column[0]) for column in database.description or ()]
    return tuple(dict(zip(names, row, strict=True)) for row in rows)

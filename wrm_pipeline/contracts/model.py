"""What a contract says, typed. How it is read from YAML is in `load`; which rules exist is in `vocabulary`."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.errors import ExpectedError


class ContractError(ExpectedError, ValueError):
    """A contract is malformed; the message begins with its file and line and says what to write instead."""


class Severity(StrEnum):
    """What a broken rule means: an `error` sets the row aside or blocks the day, a `warning` is counted and shown."""

    ERROR = "error"
    WARNING = "warning"


class Dimension(StrEnum):
    """The five dimensions that quality is scored in; the standard's word for validity is conformity."""

    COMPLETENESS = "completeness"
    ACCURACY = "accuracy"
    CONSISTENCY = "consistency"
    TIMELINESS = "timeliness"
    VALIDITY = "validity"


# The least or greatest value of a column; None when there is none.
Bound = int | float | dt.datetime | None


@dataclass(frozen=True)
class Column:
    """One column: Arrow type, whether it may be null, meaning, unit, and the least and greatest value it may have.

    Bounds of a text are of its length, bounds of a time are aware UTC times.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False
    unit: str = ""
    classification: str = "public"
    minimum: Bound = None
    maximum: Bound = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule as a contract has it; `arguments` are its numbers, with the unit in the name; `place` is `file:line`."""

    name: str
    scope: Scope
    dimension: Dimension
    severity: Severity
    description: str
    arguments: Mapping[str, float]
    place: str

    @property
    def is_error(self) -> bool:
        """Whether it sets rows aside or blocks a day."""
        return self.severity is Severity.ERROR


@dataclass(frozen=True)
class Contract:
    """One dataset's contract. Durations are seconds; `retention` is in words; `rules` are in the file's order."""

    id: str
    version: str
    owner: str
    purpose: str
    columns: tuple[Column, ...]
    rules: Mapping[str, Rule]
    freshness_warn_s: float
    freshness_fail_s: float
    interval_s: float
    retention: str

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    def of_scope(self, *scopes: Scope) -> tuple[Rule, ...]:
        """Return the rules of some scopes, in the file's order."""
        return tuple(rule for rule in self.rules.values() if rule.scope in scopes)

    @property
    def stamp(self) -> str:
        """The version and a digest of all that decides about rows, such as `1.0.0-3f9a1c20`.

        Thresholds of checks, descriptions and comments are not in it: they change no byte of a day.
        """
        deciding = {
            "columns": [[c.name, str(c.type), c.nullable, str(c.minimum), str(c.maximum)] for c in self.columns],
            "rules": [
                [r.name, r.severity, sorted(r.arguments.items())]
                for r in self.of_scope(Scope.FILE, Scope.FIELD, Scope.ROW)
            ],
        }
        return f"{self.version}-{hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Contracts:
    """The contracts of all datasets."""

    raw: Contract
    processed: Contract
    enhanced: Contract
    dead_letters: Contract

    def __iter__(self) -> Iterator[Contract]:
        return iter((self.raw, self.processed, self.enhanced, self.dead_letters))

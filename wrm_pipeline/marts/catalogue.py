"""The tables of the marts: what each one means, which columns it has, and its SQL, as they lie in specs/ and sql/.

A table's definition is written once: the Dagster UI, the checks, docs/marts.md and the site all show it from here.
"""

import functools
import graphlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_FOLDER: Final = Path(__file__).parent
SQL_FOLDER: Final = _FOLDER / "sql"
SPEC_FOLDER: Final = _FOLDER / "specs"

# DuckDB's name of a type to the Arrow type that is stored.
ARROW_TYPES: Final[Mapping[str, pa.DataType]] = {
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
    "VARCHAR[]": pa.list_(pa.string()),
}
TypeName = Literal["VARCHAR", "BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "DATE", "TIMESTAMP WITH TIME ZONE", "VARCHAR[]"]


class MartDefinitionError(Exception):
    """A table's spec or SQL is wrong; the message names the file. It is a fault of the package, not of the data."""


class Grain(StrEnum):
    """What one build of a table covers."""

    STAGING = "staging"  # a day, and nothing is kept
    STATE = "state"  # what is known at the end of a UTC day, handed to the next one; never published
    DAY = "day"  # a UTC day
    LOCAL_DAY = "local_day"  # a date of the city's clock
    TABLE = "table"  # all there is


# Built together, from one day's rows of enhanced.
DAILY: Final = frozenset({Grain.STAGING, Grain.STATE, Grain.DAY})


class Column(BaseModel):
    """A column: DuckDB's type, unit, what it means in English and Polish, and what its values must be.

    `references` is `table.column`; bounds are inclusive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: TypeName
    en: str
    pl: str
    unit: str | None = None
    required: bool = True
    minimum: Annotated[float | None, Field(alias="min")] = None
    maximum: Annotated[float | None, Field(alias="max")] = None
    allowed: tuple[str | int, ...] = ()
    references: Annotated[str | None, Field(pattern=r"^\w+\.\w+$")] = None


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    en: str
    pl: str


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    grain: Grain
    published: bool
    needs: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    title: _Words
    description: _Words
    parameters: Mapping[str, float | int] = {}
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    recency_column: str | None = None
    recency_h: float | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> "_Spec":
        names = [column.name for column in self.columns]
        if len(names) != len(set(names)):
            raise ValueError("a column occurs twice")
        unknown = {*self.key, *([self.recency_column] if self.recency_column else [])} - set(names)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
        if (self.recency_column is None) != (self.recency_h is None):
            raise ValueError("recency_column and recency_h go together")
        if self.published and self.grain in (Grain.STAGING, Grain.STATE):
            raise ValueError(f"a table of grain {self.grain} is internal")
        return self


@dataclass(frozen=True)
class Mart:
    """A table. `title` and `description` are by language (`en`, `pl`); `needs` names the tables that its SQL reads."""

    name: str
    grain: Grain
    published: bool
    needs: tuple[str, ...]
    key: tuple[str, ...]
    title: Mapping[str, str]
    description: Mapping[str, str]
    parameters: Mapping[str, float | int]
    columns: tuple[Column, ...]
    recency_column: str | None
    recency_h: float | None
    sql: str

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of its rows. Any column may be null in it: whether one is, a check judges."""
        return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in self.columns])

    @property
    def types(self) -> dict[str, str]:
        """DuckDB's type of each column, in order."""
        return {column.name: column.type for column in self.columns}


def read_catalogue(specs: Path = SPEC_FOLDER, sql: Path = SQL_FOLDER) -> Mapping[str, Mart]:
    """Read all tables, each after those it needs.

    Raises:
        MartDefinitionError: a spec is malformed, has no SQL, or needs a table that there is not.
    """
    marts = {mart.name: mart for mart in (_read(path, sql) for path in sorted(specs.glob("*.yaml")))}
    for mart in marts.values():
        unknown = [need for need in mart.needs if need not in marts]
        if unknown:
            raise MartDefinitionError(f"{mart.name}.yaml needs {', '.join(unknown)}, which there is not")
    sorter = graphlib.TopologicalSorter({name: sorted(mart.needs) for name, mart in sorted(marts.items())})
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError as error:
        raise MartDefinitionError(f"tables need each other in a circle: {' -> '.join(error.args[1])}") from None
    return {name: marts[name] for name in order}


def _read(path: Path, sql: Path) -> Mart:
    try:
        # The safe loader in C: each process that loads the code location reads all specs.
        document: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        spec = _Spec.model_validate(document)
    except (yaml.YAMLError, ValidationError) as error:
        raise MartDefinitionError(f"{path.name}: {error}") from None
    if spec.name != path.stem:
        raise MartDefinitionError(f"{path.name}: the name in it is {spec.name}")
    query = sql / f"{spec.name}.sql"
    if not query.exists():
        raise MartDefinitionError(f"{path.name}: there is no {query.name}")
    return Mart(
        name=spec.name,
        grain=spec.grain,
        published=spec.published,
        needs=spec.needs,
        key=spec.key,
        title=spec.title.model_dump(),
        description=spec.description.model_dump(),
        parameters=spec.parameters,
        columns=spec.columns,
        recency_column=spec.recency_column,
        recency_h=spec.recency_h,
        sql=query.read_text(encoding="utf-8"),
    )


@functools.cache
def catalogue() -> Mapping[str, Mart]:
    """Return the package's tables, each after those it needs; read once."""
    return read_catalogue()


def published() -> tuple[Mart, ...]:
    """Return the tables that are published, each after those it needs."""
    return tuple(mart for mart in catalogue().values() if mart.published)

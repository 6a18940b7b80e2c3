"""Whether rows fit a contract's columns: a pandera schema made from it, and what that finds, in words.

pandas sees the Arrow table as it is: nothing is copied, and each check is one of Arrow's own functions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from wrm_pipeline.contracts.model import Column, Contract

if TYPE_CHECKING:
    import pandas as pd
    from pandera.pandas import Check, DataFrameSchema

# Values of a problem that are shown; the others are counted.
_SHOWN: Final = 5
# What pandera calls its own checks, in words.
_IN_WORDS: Final = {
    "column_in_dataframe": "the column is missing",
    "column_in_schema": "the contract has no such column",
    "not_nullable": "it may not be null",
}


@dataclass(frozen=True)
class SchemaProblem:
    """A check that a column fails; `rows` are the positions of the first failing rows, and `values` what they hold.

    `count` is the number of failing rows, and 0 when the column itself is missing, unknown or of another type.
    """

    column: str
    check: str
    count: int = 0
    values: tuple[object, ...] = ()
    rows: tuple[int, ...] = ()


def pandera_schema(contract: Contract) -> "DataFrameSchema":
    """Return the pandera schema of a contract's columns, for frames whose columns are Arrow's.

    It holds types, nulls, bounds, lengths of texts and allowed values, and knows no other columns.
    """
    import pandas as pd
    import pandera.pandas as pandera

    columns = {
        column.name: pandera.Column(pd.ArrowDtype(column.type), _checks(column), nullable=column.nullable)
        for column in contract.columns
    }
    return pandera.DataFrameSchema(columns, strict=True, name=contract.id)


def _checks(column: Column) -> list["Check"]:
    from pandera.pandas import Check

    low, high = column.minimum, column.maximum
    checks = [Check.isin(column.allowed, error=f"one of {', '.join(column.allowed)}")] if column.allowed else []
    if pa.types.is_string(column.type):
        if low is not None or high is not None:
            bounds = [*([f">= {low}"] if low is not None else []), *([f"<= {high}"] if high is not None else [])]
            checks.append(Check.str_length(low, high, error=f"length {' and '.join(bounds)}"))
        return checks
    if low is not None:
        checks.append(Check.ge(low, error=f">= {low}"))
    if high is not None:
        checks.append(Check.le(high, error=f"<= {high}"))
    return checks


def schema_problems(rows: pa.Table, contract: Contract) -> list[SchemaProblem]:
    """Hold rows against a contract's columns; all that does not fit is found at once.

    Args:
        rows: as they were read, with whatever columns they have.
        contract: the contract of their layer.

    Returns:
        The problems, columns in the order of the contract; none when all is well.
    """
    import pandas as pd
    from pandera.errors import SchemaErrors

    frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        pandera_schema(contract).validate(frame, lazy=True)
    except SchemaErrors as found:
        return _problems(found.failure_cases, rows, contract)
    return []


def _problems(cases: "pd.DataFrame", rows: pa.Table, contract: Contract) -> list[SchemaProblem]:
    wanted = {column.name: column.type for column in contract.columns}
    order = {name: number for number, name in enumerate([*wanted, *rows.column_names])}
    problems: list[SchemaProblem] = []
    for (context, column, check), group in cases.groupby(["schema_context", "column", "check"], sort=False):
        if context == "DataFrameSchema":
            problems += [SchemaProblem(name, _IN_WORDS[check]) for name in group["failure_case"]]
        elif rows.schema.field(column).type == wanted[column]:
            first = tuple(map(int, group["index"].head(_SHOWN)))
            values = tuple(rows.column(column)[position].as_py() for position in first)
            problems.append(SchemaProblem(column, _IN_WORDS.get(check, check), len(group), values, first))
    # What is of another type fails in its values and bounds as well: the type says it all.
    problems += [
        SchemaProblem(field.name, f"its type is {field.type}, not {wanted[field.name]}")
        for field in rows.schema
        if field.name in wanted and field.type != wanted[field.name]
    ]
    return sorted(problems, key=lambda problem: order[problem.column])

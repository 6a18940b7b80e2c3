"""Running the tables' SQL on a DuckDB connection, and holding what comes out against the specs.

Rows in, rows out: where they come from and where they go is not in here.
"""

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from wrm_pipeline.marts.catalogue import DAILY, SQL_FOLDER, Grain, Mart, MartDefinitionError, catalogue

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What has happened to a day's raw objects; one row each, as the day's manifest has them.
SOURCE_SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("rows", pa.int64()),
        ("kept", pa.int64()),
        ("dead", pa.int64()),
        ("duplicates", pa.int64()),
        ("fault", pa.string()),
    ]
)


def prepare(connection: "DuckDBPyConnection", pseudonym_key: bytes) -> None:
    """Make a connection ready to run the tables' SQL: clock in UTC, macros, parameters, `pseudonym`."""
    from wrm_pipeline.marts.pseudonyms import register

    connection.execute("SET TimeZone = 'UTC'")
    for path in sorted(SQL_FOLDER.glob("macros*.sql")):
        connection.execute(path.read_text(encoding="utf-8"))
    register(connection, pseudonym_key)
    set_variables(
        connection,
        {f"{mart.name}.{name}": value for mart in catalogue().values() for name, value in mart.parameters.items()},
    )


def set_variables(connection: "DuckDBPyConnection", values: Mapping[str, Any]) -> None:
    """Set what SQL reads by `getvariable`."""
    for name, value in values.items():
        quoted = name.replace('"', '""')
        connection.execute(f'SET VARIABLE "{quoted}" = $1', [value])


def day_tables(
    connection: "DuckDBPyConnection",
    day: dt.date,
    *,
    interval_s: int,
    previous: Mapping[str, pa.Table],
    is_newest: bool,
    only: Collection[str] | None = None,
) -> dict[str, pa.Table]:
    """Compute what is made from one UTC day's rows of enhanced: states and tables, by name.

    Args:
        connection: a prepared one, on which the relations `enhanced` and `source` are.
        day: the UTC day.
        interval_s: the nominal time between two snapshots in seconds.
        previous: the states at the end of the newest earlier day; one that is missing counts as empty.
        is_newest: whether there is no later day.
        only: names of tables to compute, and with them what they need; default: all.

    Raises:
        MartDefinitionError: SQL gives other columns than its spec says.
    """
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    set_variables(
        connection,
        {
            "day": day,
            "day_start": start,
            "day_end": start + dt.timedelta(days=1),
            "interval_s": interval_s,
            "is_newest_day": is_newest,
        },
    )
    computed: dict[str, pa.Table] = {}
    with ExitStack() as views:
        for mart in states():
            rows = previous.get(mart.name, mart.schema.empty_table())
            _register(connection, views, f"previous_{mart.name}", rows)
        for mart in _wanted(only):
            computed[mart.name] = run(connection, mart)
            _register(connection, views, mart.name, computed[mart.name])
    return {name: rows for name, rows in computed.items() if catalogue()[name].grain is not Grain.STAGING}


def states() -> list[Mart]:
    """Return the tables that are handed from day to day."""
    return _of(Grain.STATE)


def local_day_tables(
    connection: "DuckDBPyConnection",
    local_date: dt.date,
    *,
    stored: Callable[[str], str],
    only: Collection[str] | None = None,
) -> dict[str, pa.Table]:
    """Compute what is made of one date of the city's clock, which lies in two UTC days, by name.

    Args:
        connection: a prepared one.
        local_date: the date in Europe/Warsaw.
        stored: the relation that holds all days of a table, by the table's name, with the UTC day in a column `dt`.
        only: names of tables to compute; default: all.
    """
    set_variables(connection, {"local_date": local_date})
    marts = [mart for mart in _of(Grain.LOCAL_DAY) if only is None or mart.name in only]
    first = local_date - dt.timedelta(days=1)
    with ExitStack() as views:
        for name in sorted({need for mart in marts for need in mart.needs}):
            rows = f"FROM {stored(name)} WHERE dt BETWEEN DATE '{first}' AND DATE '{local_date}'"
            _view(connection, views, name, rows)
        return {mart.name: run(connection, mart) for mart in marts}


def whole_tables(
    connection: "DuckDBPyConnection",
    newest: Mapping[str, pa.Table],
    *,
    stored: Callable[[str], str],
    first_day: dt.date,
    newest_day: dt.date,
    newest_snapshot_at: dt.datetime | None,
    only: Collection[str] | None = None,
) -> dict[str, pa.Table]:
    """Compute the tables that are made of all there is, by name.

    Args:
        connection: a prepared one.
        newest: the states at the end of the newest day; one that is missing counts as empty.
        stored: the relation that holds all rows of a table of days or local days, by the table's name.
        first_day: the first UTC day.
        newest_day: the newest UTC day.
        newest_snapshot_at: the time of the newest snapshot, UTC; None when there is none.
        only: names of tables to compute, which need no whole table that is not named too; default: all.
    """
    from wrm_pipeline.marts.holidays import public_holidays

    set_variables(connection, {"first_day": first_day, "newest_day": newest_day})
    # With its type, since it may be null.
    connection.execute("SET VARIABLE newest_snapshot_at = $1::TIMESTAMP WITH TIME ZONE", [newest_snapshot_at])
    # One year more on both sides: the city's clock is ahead of UTC, and dim_date ends with a year.
    relations = {f"newest_{mart.name}": newest.get(mart.name, mart.schema.empty_table()) for mart in states()}
    relations["holiday"] = public_holidays(first_day.year - 1, newest_day.year + 1)
    marts = [mart for mart in _of(Grain.TABLE) if only is None or mart.name in only]
    computed: dict[str, pa.Table] = {}
    with ExitStack() as views:
        for name, rows in relations.items():
            _register(connection, views, name, rows)
        for name in sorted({need for mart in marts for need in mart.needs}):
            if catalogue()[name].grain in (Grain.DAY, Grain.LOCAL_DAY):
                _view(connection, views, name, f"FROM {stored(name)}")
        for mart in marts:
            computed[mart.name] = run(connection, mart)
            _register(connection, views, mart.name, computed[mart.name])
    return computed


def _of(grain: Grain) -> list[Mart]:
    return [mart for mart in catalogue().values() if mart.grain is grain]


def _register(connection: "DuckDBPyConnection", until: ExitStack, name: str, rows: pa.Table) -> None:
    connection.register(name, rows)
    until.callback(connection.unregister, name)


def _view(connection: "DuckDBPyConnection", until: ExitStack, name: str, query: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")
    until.callback(connection.execute, f"DROP VIEW {name}")


def run(connection: "DuckDBPyConnection", mart: Mart) -> pa.Table:
    """Run a table's SQL and return its rows in the spec's schema.

    Raises:
        MartDefinitionError: it gives other columns than its spec says.
    """
    relation = connection.sql(mart.sql)
    found = dict(zip(relation.columns, map(str, relation.types), strict=True))
    if found != mart.types or list(found) != list(mart.types):
        differing = [
            f"{name} is {found.get(name, 'missing')}, not {mart.types.get(name, 'there')}"
            for name in dict.fromkeys([*mart.types, *found])
            if found.get(name) != mart.types.get(name)
        ]
        raise MartDefinitionError(f"{mart.name}.sql: {'; '.join(differing) or 'the columns have another order'}")
    return relation.to_arrow_table().cast(mart.schema)


def _wanted(only: Collection[str] | None) -> list[Mart]:
    daily = [mart for mart in catalogue().values() if mart.grain in DAILY]
    if only is None:
        return daily
    wanted = set(only)
    for mart in reversed(daily):
        if mart.name in wanted:
            wanted.update(mart.needs)
    return [mart for mart in daily if mart.name in wanted]

"""`wrm sql`: a question to the DuckDB file, answered as a table, CSV, Parquet or JSON. Nothing in the file changes.

What a feed put into a name commands no terminal: control characters are replaced in tables, in messages and in CSV that
goes to a terminal, and escaped in JSON. Files hold what the tables hold.
"""

import datetime as dt
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from wrm_pipeline.layers.report import LayerError

if TYPE_CHECKING:
    import duckdb

# What they are about, and how they are asked.
EXAMPLES: Final = (
    (
        "Stations with the most bikes now",
        "SELECT name, bikes, docks_free, state FROM mv_station_latest ORDER BY bikes DESC LIMIT 10",
    ),
    (
        "Stations without a bike on workday mornings",
        (
            "SELECT station_id, local_hour, share_empty, days FROM mart_station_reliability "
            "WHERE day_class = 'workday' AND local_hour BETWEEN 6 AND 9 ORDER BY share_empty DESC LIMIT 10"
        ),
    ),
    (
        "How complete the last two weeks are",
        (
            "SELECT utc_date, coverage, longest_gap_minutes, rows_dead FROM mart_data_quality_day "
            "ORDER BY utc_date DESC LIMIT 14"
        ),
    ),
)
# A query within another one. FROM takes DESCRIBE and SHOW as well as SELECT, and the line break ends a comment that the
# query may end in.
_BEFORE: Final = "FROM (\n"
_AFTER: Final = "\n)"
_STDOUT: Final = "-"


class QueryError(LayerError):
    """A query that cannot be answered; the sentence says why, and where in it."""


@click.command()
@click.argument("query", required=False)
@click.option("--file", "query_file", type=click.File(encoding="utf-8"), help="Read the query from this file.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write all rows as CSV; - is standard output.")
@click.option("--parquet", "parquet_path", metavar="FILE", help="Write all rows as Parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print all rows as JSON; times are ISO, UTC.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many rows in the table."
)
def sql(
    query: str | None,
    query_file: TextIO | None,
    csv_path: str | None,
    parquet_path: str | None,
    *,
    as_json: bool,
    limit: int,
) -> None:
    """Ask the marts a question in SQL, such as "SELECT name, bikes FROM mv_station_latest".

    The DuckDB file (WRM_DUCKDB_PATH) is opened read-only. QUERY is one statement that reads; - takes it from standard
    input. Times are UTC. Without a query, the tables are listed with what they mean, and three queries to begin with.
    """
    if sum((csv_path is not None, parquet_path is not None, as_json)) > 1:
        raise click.UsageError("--csv, --parquet and --json exclude each other")
    if query is not None and query_file is not None:
        raise click.UsageError("give the query or --file, not both")
    if query_file is not None:
        query = query_file.read()
    elif query == _STDOUT:
        query = sys.stdin.read()
    if query is None:
        print_tables()
        return
    with _database() as database:
        text = _the_query(database, query)
        if csv_path is not None:
            _write_csv(database, text, csv_path)
        elif parquet_path is not None:
            _copy(database, text, parquet_path, "FORMAT parquet, COMPRESSION zstd")
        elif as_json:
            _print_json(database, text)
        else:
            _print_table(database, text, limit)


@contextmanager
def _database() -> Iterator["duckdb.DuckDBPyConnection"]:
    from wrm_pipeline.marts.database import open_database
    from wrm_pipeline.vault.run_settings import load_run_settings

    settings = load_run_settings()
    with open_database(settings.wrm_duckdb_path, settings) as database:
        database.execute("SET errors_as_json = true")
        yield database


def _the_query(database: "duckdb.DuckDBPyConnection", query: str) -> str:
    """Return the one statement of a query.

    Raises:
        QueryError: there is none or more than one, it is no SQL, or it does something else than read.
    """
    import duckdb

    with _clear_errors(query):
        statements = database.extract_statements(query)
    if len(statements) != 1:
        raise QueryError(f"There are {len(statements) or 'no'} statements in the query; give one.")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise QueryError(
            f"`wrm sql` only reads, and this is {statements[0].type.name.replace('_', ' ')}: give a SELECT, DESCRIBE, "
            "SHOW, SUMMARIZE or EXPLAIN. To keep rows, use --csv or --parquet."
        )
    return _without_semicolon(statements[0].query)


def _without_semicolon(query: str) -> str:
    """Return a statement without the semicolon that ends it, and the comment that may follow."""
    import duckdb

    text = query.encode()
    for position, _ in reversed(duckdb.tokenize(query)):
        if text[position : position + 1] != b";":
            break
        text = text[:position]
    return text.decode()


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def _clear_errors(query: str, *, before: str = "") -> Iterator[None]:
    """Turn DuckDB's errors into sentences; `before` is what was put before the query."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise QueryError(_sentence(str(error), query, len(before))) from None


def _sentence(error: str, query: str, before: int) -> str:
    """Return what DuckDB's error, with JSON in it, says, and where: line and column of the query, both from 1."""
    from wrm_pipeline.cli.dlq_tables import safe_text

    _, brace, document = error.partition("{")
    try:
        details = json.loads(brace + document, strict=False)
    except ValueError:
        details = {"exception_message": error}
    lines = [line.strip() for line in str(details["exception_message"]).splitlines()]
    # Of what follows, advice is of use; a list of all functions of that name is not.
    said = " ".join(lines[:1] + [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate bindings"))])
    position = details.get("position")
    if position is not None:
        upto = query.encode()[: max(0, int(position) - before)].decode(errors="ignore")
        line, column = upto.count("\n") + 1, len(upto) - upto.rfind("\n")
        said = f"{said} (line {line}, column {column} of the query)"
    return f"The query cannot be answered: {safe_text(said).plain}"


# --- files ------------------------------------------------------------------------------------------------------------


def _copy(database: "duckdb.DuckDBPyConnection", query: str, path: str, options: str) -> None:
    """Write all rows into a file, which appears when it is whole."""
    from wrm_pipeline.marts.connection import quoted

    before = f"COPY ({_BEFORE}"
    with _clear_errors(query, before=before):
        database.execute(f"{before}{query}{_AFTER}) TO {quoted(path)} ({options})")


def _write_csv(database: "duckdb.DuckDBPyConnection", query: str, path: str) -> None:
    options = "FORMAT csv, HEADER"
    if path != _STDOUT:
        _copy(database, query, path, options)
        return
    from wrm_pipeline.cli.dlq_tables import safe_text

    with tempfile.TemporaryDirectory(prefix="wrm-sql-") as folder:
        rows = Path(folder, "rows.csv")
        _copy(database, query, str(rows), options)
        if sys.stdout.isatty():
            with rows.open(encoding="utf-8") as lines:
                for line in lines:
                    click.echo(safe_text(line.rstrip("\r\n")).plain)
        else:
            with rows.open("rb") as lines:
                shutil.copyfileobj(lines, sys.stdout.buffer)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _print_json(database: "duckdb.DuckDBPyConnection", query: str) -> None:
    from wrm_pipeline.cli.dlq_tables import safe_json

    with _clear_errors(query):
        result = database.execute(query)
        names = _columns(result)
        rows = result.fetchall()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise QueryError(f"More than one column is called {', '.join(twice)}; tell them apart with AS.")
    click.echo(safe_json([dict(zip(names, map(_json_value, row), strict=True)) for row in rows]))


def _json_value(value: Any) -> Any:
    """Return a value as JSON can have it: a number that is none, such as NaN, is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _json_value(item) for name, item in value.items()}
    return value


# --- tables -----------------------------------------------------------------------------------------------------------


def _columns(result: "duckdb.DuckDBPyConnection") -> list[str]:
    return [str(column[0]) for column in result.description or ()]


def _print_table(database: "duckdb.DuckDBPyConnection", query: str, limit: int) -> None:
    """Print the first rows, and how many more there are: counted, since to fetch them could take the whole lake."""
    with _clear_errors(query):
        result = database.execute(query)
        names = _columns(result)
        rows = result.fetchmany(limit + 1)
    more = 0
    if len(rows) > limit:
        before = f"SELECT count(*) {_BEFORE}"
        with _clear_errors(query, before=before):
            ((count,),) = database.execute(f"{before}{query}{_AFTER}").fetchall()
        more = count - limit
    print_rows(names, rows[:limit])
    if more:
        click.echo(f"{more:,} more rows are not shown; --limit shows more of them, --csv and --parquet take all.")


def print_rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table; when a terminal is too narrow for one, each row as a list of its columns."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    from wrm_pipeline.cli.dlq_tables import safe_text

    console = Console()
    table, needed = Table(), 1
    for index, name in enumerate(names):
        values = [row[index] for row in rows]
        wraps = any(isinstance(value, str) for value in values)
        numeric = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        table.add_column(safe_text(name), justify="right" if numeric else "left", no_wrap=not wraps, overflow="fold")
        # A text may be broken between words, anything else stays in one piece; two blanks and a line go around it.
        pieces = [piece for value in values for piece in (shown(value).split() if wraps else [shown(value)])]
        needed += max(map(cell_len, [name, *pieces])) + 3
    for row in rows:
        table.add_row(*(safe_text(shown(value)) for value in row))
    if needed <= console.width or not rows:
        console.print(table if rows else "No rows.")
        return
    for number, row in enumerate(rows, 1):
        record = Table(show_header=False, box=None, title=f"row {number}", title_justify="left")
        for name, value in zip(names, row, strict=True):
            record.add_row(safe_text(name), safe_text(shown(value)))
        console.print(record)


def shown(value: Any) -> str:
    """Return a value as a table shows it: null is a dash, a time has its zone, a number up to ten digits."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, dt.datetime):
        text = value.replace(tzinfo=None).isoformat(" ")
        return text if value.tzinfo is None else f"{text} UTC"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def print_tables() -> None:
    """Print which tables there are, what each means, and some queries to begin with."""
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.table import Table

    from wrm_pipeline.marts.catalogue import published

    console = Console()
    table = Table()
    for name in ("table", "meaning"):
        table.add_column(name, overflow="fold")
    for mart in sorted(published(), key=lambda mart: mart.name):
        table.add_row(mart.name, mart.title["en"])
    console.print(table)
    console.print(
        "Views on enhanced in the lake: wrm_stations_enhanced_data, wrm_stations_only, wrm_bikes_only; "
        "wrm_stations_latest is mv_station_latest."
    )
    console.print("`wrm marts TABLE` says what each column means. Queries to begin with:")
    for meaning, query in EXAMPLES:
        console.print(f"\n{meaning}:")
        console.print(Syntax(query, "sql", word_wrap=True, background_color="default"))

"""`wrm marts`: which tables there are, how many rows each has, and what each column means."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from wrm_pipeline.marts.catalogue import Mart


@click.command()
@click.argument("name", metavar="[TABLE]", required=False)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown document instead; docs/marts.md is it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def marts(name: str | None, *, as_markdown: bool, as_json: bool) -> None:
    """Show the tables of the marts with rows and meaning, or each column of one TABLE.

    Rows are those of the DuckDB file (WRM_DUCKDB_PATH). `wrm sql` asks these tables questions.
    """
    from wrm_pipeline.marts.catalogue import catalogue, published

    if as_markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other")
    known = {mart.name: mart for mart in sorted(published(), key=lambda mart: mart.name)}
    if name is not None and name not in known:
        raise click.UsageError(f"there is no table {name!r}; `wrm marts` lists them")
    if as_markdown:
        from wrm_pipeline.marts.document import markdown

        click.echo(markdown(catalogue()), nl=False)
        return
    chosen = {name: known[name]} if name is not None else known
    rows, missing = _rows(chosen)
    if as_json:
        from wrm_pipeline.cli.tables import to_json

        click.echo(to_json([_plain(mart, rows.get(mart.name)) for mart in chosen.values()]))
    elif name is not None:
        _print_columns(chosen[name], rows.get(name))
    else:
        _print_tables(chosen, rows)
    if missing is not None:
        click.secho(f"wrm: rows are not shown. {missing}", fg="yellow", err=True)


def _rows(tables: Mapping[str, "Mart"]) -> tuple[dict[str, int], str | None]:
    """Count the rows of some tables; without a DuckDB file there are no counts, and a sentence that says why."""
    from wrm_pipeline.marts.database import MartsError, open_database
    from wrm_pipeline.settings import load_settings

    try:
        with open_database(load_settings().wrm_duckdb_path) as database:
            counts = {
                name: database.execute(f'SELECT count(*) FROM "{name}"').fetchall()  # noqa: S608 - the catalogue's
                for name in tables
            }
    except MartsError as error:
        return {}, str(error)
    return {name: count for name, ((count,),) in counts.items()}, None


def _plain(mart: "Mart", rows: int | None) -> dict[str, object]:
    columns = [column.model_dump(by_alias=True, exclude_none=True) for column in mart.columns]
    return {**asdict(mart), "rows": rows, "columns": columns}


def _print_tables(tables: Mapping[str, "Mart"], rows: Mapping[str, int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("table", overflow="fold")
    table.add_column("rows", justify="right", overflow="fold")
    table.add_column("meaning", overflow="fold")
    for name, mart in tables.items():
        count = rows.get(name)
        table.add_row(escape(name), "—" if count is None else f"{count:,}", escape(mart.description["en"]))
    Console().print(table)


def _print_columns(mart: "Mart", rows: int | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from wrm_pipeline.marts.document import GRAINS, allowed_values

    console = Console()
    console.rule(f"[bold]{escape(mart.name)}[/]", align="left")
    console.print(escape(f"{mart.title['en']}. {mart.description['en']}"))
    facts = Table(show_header=False, box=None)
    facts.add_row("rows", "—" if rows is None else f"{rows:,}")
    facts.add_row("files", GRAINS[mart.grain])
    facts.add_row("key", escape(", ".join(mart.key)))
    console.print(facts)
    table = Table()
    for head in ("column", "type", "values", "meaning"):
        table.add_column(head, overflow="fold")
    for column in mart.columns:
        kind = column.type if column.required else f"{column.type} or null"
        values = ", ".join(part for part in (column.unit, allowed_values(column).replace("`", "")) if part)
        table.add_row(*map(escape, (column.name, kind, values, column.en)))
    console.print(table)

"""`wrm contracts`: what the datasets hold and promise, as tables, as a document, as JSON."""

from collections.abc import Iterable
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wrm_pipeline.contracts.document import JUDGES, bounds, duration, freshness, markdown, numbers
from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED, RAW


@click.command()
@click.argument("dataset", type=click.Choice([RAW, PROCESSED, ENHANCED, DEAD_LETTERS]), required=False)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown document instead; docs/data.md is it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead; times are ISO, durations seconds.")
def contracts(dataset: str | None, *, as_markdown: bool, as_json: bool) -> None:
    """Show the data contracts: columns, bounds, rules, freshness, owners. Of all datasets, or of one.

    These are the contracts that the pipeline works by: the package's, or those in WRM_CONTRACTS_DIR. A malformed one is
    an error that names file and line, so this also checks a file before the pipeline loads it.
    """
    from wrm_pipeline.cli.tables import to_json
    from wrm_pipeline.contracts.active import active_contracts

    if as_markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other")
    found = [contract for contract in active_contracts() if dataset in (None, contract.id)]
    if as_markdown:
        click.echo(markdown(found), nl=False)
    elif as_json:
        click.echo(to_json([_plain(contract) for contract in found]))
    else:
        print_contracts(found)


def _plain(contract: Contract) -> dict[str, object]:
    return {
        **asdict(contract),
        "stamp": contract.stamp,
        "rules": [asdict(rule) for rule in contract.rules.values()],
    }


def print_contracts(found: Iterable[Contract], console: Console | None = None) -> None:
    """Print some contracts: facts, columns, rules."""
    console = console or Console()
    for contract in found:
        console.rule(f"[bold]{escape(contract.id)}[/]", align="left")
        console.print(escape(contract.purpose))
        facts = Table(show_header=False, box=None)
        facts.add_row("owner", escape(contract.owner))
        facts.add_row("version", escape(contract.stamp))
        facts.add_row("freshness", f"{freshness(contract)}; a snapshot every {duration(contract.interval_s)}")
        facts.add_row("retention", escape(contract.retention))
        for classification in sorted({column.classification for column in contract.columns}):
            names = [column.name for column in contract.columns if column.classification == classification]
            facts.add_row(
                classification, "all columns" if len(names) == len(contract.columns) else escape(", ".join(names))
            )
        console.print(facts)
        console.print(_columns(contract))
        if contract.rules:
            console.print(_rules(contract))


def _columns(contract: Contract) -> Table:
    table = Table(title="columns", title_justify="left")
    for name in ("column", "type", "values", "meaning"):
        table.add_column(name, overflow="fold")
    for column in contract.columns:
        kind = f"{column.type} or null" if column.nullable else str(column.type)
        values = ", ".join(part for part in (column.unit, bounds(column).replace("`", "")) if part)
        table.add_row(*map(escape, (column.name, kind, values, column.description)))
    return table


def _rules(contract: Contract) -> Table:
    table = Table(title="rules", title_justify="left")
    for name in ("rule", "judges a", "severity", "numbers", "meaning"):
        table.add_column(name, overflow="fold")
    for rule in contract.rules.values():
        severity = f"[{'red' if rule.is_error else 'yellow'}]{rule.severity.value}[/]"
        figures = numbers(rule).replace("`", "").replace(", ", "\n")
        judges = f"{JUDGES[rule.scope]}: {rule.dimension.value}"
        table.add_row(escape(rule.name), judges, severity, escape(figures), escape(rule.description))
    return table

"""What the commands print: tables for people, JSON for programs."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wrm_pipeline.lake.doctor import Finding

if TYPE_CHECKING:
    from wrm_pipeline.layers.status import LakeStatus

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


def to_json(value: object) -> str:
    """Return indented JSON; dates and times are ISO."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.date) else str(value)


def duration(seconds: float) -> str:
    """Return a duration for reading, such as `42 s`, `7 min 5 s`, `3 h 12 min`, `2 d 4 h`."""
    whole = int(seconds)
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {smaller_unit}"
    return f"{whole} s"


def print_status(status: "LakeStatus", console: Console | None = None) -> None:
    """Print the state of the lake."""
    console = console or Console()
    console.print(f"[bold]{escape(status.store)}[/] at {status.at:%Y-%m-%d %H:%M:%S} UTC")
    if status.newest_snapshot is None or status.age_s is None or status.lag_s is None:
        console.print("Raw holds no snapshot yet. The ingest schedule, or `wrm run`, fetches one.")
        if not status.days:
            return
    else:
        facts = Table(show_header=False, box=None)
        age = duration(status.age_s)
        facts.add_row("newest snapshot", f"{status.newest_snapshot:%Y-%m-%d %H:%M:%S} UTC, {age} old")
        facts.add_row("lag", "nothing waits" if status.lag_s == 0 else f"{duration(status.lag_s)} behind raw")
        if status.latest_rows:
            rows = ", ".join(f"{count} {kind}" for kind, count in status.latest_rows.items())
            facts.add_row("latest in enhanced", f"{rows} rows")
        console.print(facts)
    table = Table()
    for name in ("day (UTC)", "raw", "enhanced", "rows in", "kept", "dead", "duplicate"):
        table.add_column(name, justify="left" if name == "day (UTC)" else "right")
    letters = Table(title="dead letters", title_justify="left")
    for name in ("day (UTC)", "rule", "records"):
        letters.add_column(name, justify="right" if name == "records" else "left")
    for day in status.days:
        counts = (day.raw_objects, day.enhanced_objects, day.rows_in, day.rows_kept, day.rows_dead, day.rows_duplicate)
        table.add_row(day.day.isoformat(), *(f"{count:,}" for count in counts))
        for rule, count in day.dead_letters.items():
            letters.add_row(day.day.isoformat(), rule, f"{count:,}")
        if day.unreadable_letters:
            letters.add_row(day.day.isoformat(), "(letters that cannot be read)", f"{day.unreadable_letters:,}")
    console.print(table)
    console.print("raw and enhanced count snapshots; rows in = kept + dead + duplicate.", style="dim")
    if letters.row_count:
        console.print(letters)
    else:
        console.print("No dead letters on these days.")


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print what the doctor found, a remedy a line."""
    console = console or Console()
    table = Table(show_lines=False)
    for name in ("check", "result", "found", "remedy"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        colour = _COLOURS.get(str(finding.status), "")
        table.add_row(
            escape(finding.name),
            f"[{colour}]{finding.status}[/]" if colour else str(finding.status),
            escape(finding.found),
            escape(finding.remedy),
        )
    console.print(table)

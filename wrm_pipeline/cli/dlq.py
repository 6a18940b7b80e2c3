"""`wrm dlq`: dead letters in a terminal. What is printed, and how, is in `dlq_tables`."""

import datetime as dt
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from wrm_pipeline.lake.lake import Lake
    from wrm_pipeline.layers.waiting import Select

# As the envelope writes them; `lake.dead_letters` is not imported for a help text.
_STAGES: Final = ("raw", "processed", "enhanced")
_STATUSES: Final = ("pending_reprocessing", "reprocessed", "failed_permanently")


def _days(_: click.Context, __: click.Parameter, values: tuple[dt.datetime, ...]) -> tuple[dt.date, ...]:
    return tuple(sorted({value.date() for value in values}))


def _day_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--day",
        "days",
        multiple=True,
        type=click.DateTime(["%Y-%m-%d"]),
        callback=_days,
        metavar="YYYY-MM-DD",
        help="Only this UTC day; may be given more than once.",
    )(command)


def _rule_and_stage(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--stage", type=click.Choice(_STAGES), help="Only letters of the stage that set them aside."),
        click.option(
            "--rule", metavar="RULE", help="Only letters with a record that broke this rule, such as not_a_number."
        ),
    ):
        command = option(command)
    return command


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables; times are ISO, UTC.")(
        command
    )


@click.group()
def dlq() -> None:
    """Dead letters: rows and files that were set aside, why, and bringing them back.

    Nothing that is set aside is lost: its source is kept. Once the cause is fixed, in the code or in a contract, a
    redrive brings it back; the schedule wrm_stations_dlq_schedule runs one a day. Days and times are UTC.
    """


@dlq.command("list")
@_day_option
@_rule_and_stage
@click.option("--status", type=click.Choice(_STATUSES), help="Only letters of this status.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many letters.")
@_json_option
def list_command(
    days: tuple[dt.date, ...], rule: str | None, stage: str | None, status: str | None, limit: int, *, as_json: bool
) -> None:
    """List dead letters, one line each, the newest day first.

    A letter is about one source object and the stage that set it, or rows of it, aside.
    """
    from wrm_pipeline.cli.dlq_tables import found_letters, print_letters, print_unreadable, safe_json, summary

    with _lake() as lake:
        found = found_letters(lake, days, _select(rule, stage, status), limit)
    if as_json:
        letters = [summary(letter) for letter in found.letters]
        click.echo(safe_json({"letters": letters, "more": found.more, "unreadable": found.unreadable}))
        return
    print_letters(found.letters)
    if found.more:
        click.echo(f"There are more than these {len(found.letters)}; --limit shows more of them.")
    print_unreadable(found.unreadable)


@dlq.command()
@click.argument("letter_id", metavar="ID")
@_json_option
def show(letter_id: str, *, as_json: bool) -> None:
    """Show one dead letter, and what redrives made of it.

    Each record has its line, rule, reason and row, cut to the terminal's width; --json has it whole. ID is a letter's
    id, or as much of its beginning as no other id has; `wrm dlq list` shows them.
    """
    from wrm_pipeline.cli.dlq_tables import find_letter, print_letter, safe_json

    with _lake() as lake:
        letter = find_letter(lake, letter_id)
    if as_json:
        click.echo(safe_json(letter.model_dump(mode="json")))
    else:
        print_letter(letter)


@dlq.command()
@_day_option
@_rule_and_stage
@click.option("--dry-run", is_flag=True, help="Only show what waits, and change nothing.")
@_json_option
def redrive(days: tuple[dt.date, ...], rule: str | None, stage: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Judge what waits again, by today's code and contracts.

    What passes now joins its day. Each day with a letter that waits is built from nothing, which takes seconds. A
    letter that is rejected for the third time is given up on until the code or its contract changes. A redrive that was
    killed is finished first, as it was asked for. Exit code 0 also when letters were rejected again, 1 when a day could
    not be redriven.
    """
    from wrm_pipeline.cli.dlq_tables import (
        print_redriven,
        print_unreadable,
        print_waiting,
        redriving,
        safe_json,
        waiting_days,
    )

    select = _select(rule, stage)
    if dry_run:
        with _lake() as lake:
            found = waiting_days(lake, select, days)
        if as_json:
            click.echo(safe_json([asdict(day) for day in found]))
        else:
            print_waiting(found)
        return
    with _lake() as lake:
        done = redriving(lake, select, days)
    if as_json:
        click.echo(safe_json(asdict(done)))
    else:
        print_redriven(done)
        print_unreadable(done.unreadable)
    for day, reason in done.failures.items():
        click.secho(f"wrm: {day} could not be redriven; the next redrive goes on with it. {reason}", fg="red", err=True)
    if done.failures:
        sys.exit(1)


@dlq.command()
@_day_option
@_json_option
def stats(days: tuple[dt.date, ...], *, as_json: bool) -> None:
    """Count dead letters by day, rule, stage and status.

    Shows the alerts about those given up on, too. Reads every letter of the days asked for; without --day, of all days.
    """
    from wrm_pipeline.cli.dlq_tables import count, print_counts, print_unreadable, safe_json

    with _lake() as lake:
        counts = count(lake, days)
    if as_json:
        click.echo(safe_json(asdict(counts)))
    else:
        print_counts(counts)
        print_unreadable(counts.unreadable)


@contextmanager
def _lake() -> Iterator["Lake"]:
    from wrm_pipeline.resources.object_store import open_lake
    from wrm_pipeline.vault.run_settings import load_run_settings

    lake = open_lake(load_run_settings())
    with lake.store:
        yield lake


def _select(rule: str | None, stage: str | None, status: str | None = None) -> "Select":
    from wrm_pipeline.lake.dead_letters import Stage, Status
    from wrm_pipeline.layers.waiting import Select

    return Select(rule, None if stage is None else Stage(stage), None if status is None else Status(status))

"""What `wrm dlq` looks up and prints. Rows come from a public feed: none of them may command the terminal."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from wrm_pipeline.cli.tables import to_json
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.lake.dead_letters import (
    DeadLetter,
    DeadRecord,
    Status,
    UnreadableLetterError,
    days_of_letters,
    letter_listing,
    list_alerts,
    read_letter,
    read_letters,
)
from wrm_pipeline.lake.keys import snapshot_time
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.redrive import DayRedriven, Redriven, redrive
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline.layers.waiting import Select, Waiting, waiting

# 32 bits: among 10,000 letters two share them once in a hundred lakes, and `show` says so.
_SHORT_ID: Final = 8
_ASSET: Final = "wrm_stations_enhanced_data_all"
_RUN: Final = "wrm dlq redrive"
# Controls of ISO 6429 that JSON leaves as they are, and marks that turn the direction of what follows.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT_SOURCE: Final = 19
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_TIME: Final = "%Y-%m-%d %H:%M:%S"


def safe_text(value: object) -> Text:
    """Return text to print: no markup, no control characters, no line breaks."""
    return Text("".join(c if c.isprintable() else " " if c.isspace() else _REPLACEMENT for c in str(value)))


def safe_json(value: object) -> str:
    """Return JSON whose control characters are escaped, all of them; dates and times are ISO."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", to_json(value))


# --- list, show -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundLetters:
    """Letters, the newest day first; `more` when the limit left some out."""

    letters: tuple[DeadLetter, ...]
    more: bool
    unreadable: tuple[str, ...]


def found_letters(lake: Lake, days: Collection[dt.date], select: Select, limit: int) -> FoundLetters:
    """Read letters of some days, or of all when there are none, until there are enough."""
    letters: list[DeadLetter] = []
    unreadable: list[str] = []
    for day in sorted(days or days_of_letters(lake.store, lake.keys), reverse=True):
        found, damaged = read_letters(lake.store, lake.keys, day)
        unreadable += damaged
        letters += sorted((letter for letter in found if letter in select), key=lambda letter: letter.source_key)
        if len(letters) > limit:
            break
    return FoundLetters(tuple(letters[:limit]), len(letters) > limit, tuple(unreadable))


def find_letter(lake: Lake, beginning: str) -> DeadLetter:
    """Return the one letter whose id begins like this.

    Raises:
        LayerError: there is none, there are several, or it cannot be read.
    """
    wanted = beginning.strip().lower()
    keys = [
        info.key
        for day in days_of_letters(lake.store, lake.keys)
        for info in letter_listing(lake.store, lake.keys, day)
        if info.key.rpartition("/")[2].startswith(wanted)
    ]
    if len(keys) != 1 or not wanted:
        found = "No dead letter has" if not keys else f"{len(keys)} dead letters have"
        remedy = "`wrm dlq list` shows them." if not keys else "Give more of it."
        raise LayerError(f"{found} an id that begins with {beginning!r}. {remedy}")
    try:
        return read_letter(lake.store, keys[0])
    except UnreadableLetterError as error:
        raise LayerError(f"{error}. It is left as it is.") from None


def summary(letter: DeadLetter) -> dict[str, Any]:
    """Return what a list says of a letter, for programs."""
    return {
        "id": letter.id,
        "day": letter.partition,
        "stage": letter.stage,
        "source_key": letter.source_key,
        "records": len(letter.records),
        "rules": _rules(letter),
        "status": letter.status,
        "retry_count": letter.retry_count,
        "first_seen": letter.first_seen,
        "last_seen": letter.last_seen,
    }


def _rules(letter: DeadLetter) -> dict[str, int]:
    return dict(sorted(Counter(record.rule for record in letter.records).items()))


def print_letters(letters: Sequence[DeadLetter], console: Console | None = None) -> None:
    """Print one line a letter."""
    console = console or Console()
    if not letters:
        console.print("There are no such dead letters.")
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name, width in (("id", _SHORT_ID), ("source (UTC)", _SHORT_SOURCE), ("stage", 9), ("status", 11), ("rows", 4)):
        table.add_column(name, no_wrap=True, min_width=width)
    table.add_column("rules", overflow="ellipsis", no_wrap=True)  # most frequent first; what is cut off, show has
    for letter in letters:
        table.add_row(
            safe_text(letter.id[:_SHORT_ID]),
            safe_text(_short_source(letter)),
            letter.stage.value,
            _short_status(letter),
            f"{len(letter.records):,}",
            safe_text(", ".join(rule for rule, _ in Counter(_rules(letter)).most_common())),
        )
    console.print(table)
    console.print("`wrm dlq show ID` shows one: each record with its line, row and reason.", style="dim")


def _short_status(letter: DeadLetter) -> str:
    if letter.status is Status.PENDING:
        return f"pending {letter.retry_count}/{letter.max_retries}"
    return letter.status.value.removesuffix("_permanently")


def _short_source(letter: DeadLetter) -> str:
    """What tells a source from others: a snapshot's time, or the day and the beginning of the object's name."""
    time = snapshot_time(letter.source_key)
    if time is not None:
        return f"{time:%Y-%m-%d %H:%M:%S}"
    return f"{letter.partition} {letter.source_key.rpartition('/')[2]}"[:_SHORT_SOURCE]


def print_letter(letter: DeadLetter, console: Console | None = None) -> None:
    """Print a letter: facts, records, attempts. Rows are cut to the terminal's width."""
    console = console or Console()
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("id", letter.id),
        ("source", letter.source_key),
        ("day (UTC)", letter.partition),
        ("stage", letter.stage),
        ("status", letter.status),
        ("retries", f"{letter.retry_count} of {letter.max_retries}"),
        ("first seen", f"{letter.first_seen:{_TIME}} UTC"),
        ("last seen", f"{letter.last_seen:{_TIME}} UTC, by run {letter.run_id} of {letter.asset}"),
        ("code, contract", f"{letter.code_version}, {letter.contract_version or 'none'}"),
    ):
        facts.add_row(name, safe_text(value))
    console.print(facts)
    records = Table(title="records", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    records.add_column("line", no_wrap=True)
    records.add_column("rule", no_wrap=True)
    records.add_column("reason", overflow="fold", min_width=24)
    records.add_column("row")
    for record in letter.records:
        row = safe_text(_row(record))
        row.no_wrap, row.overflow = True, "ellipsis"  # of the text: a column that may not wrap takes the others' place
        line = "file" if record.line is None else f"{record.line:,}"
        records.add_row(line, safe_text(record.rule), safe_text(record.message), row)
    console.print(records)
    if not letter.attempts:
        console.print("No redrive has tried it yet.")
        return
    attempts = _table("tried (UTC)", "outcome", "lines that came back", "code", "contract", title="redrives")
    for attempt in letter.attempts:
        attempts.add_row(
            f"{attempt.at:{_TIME}}",
            attempt.outcome.value,
            ", ".join("file" if line == 0 else str(line) for line in attempt.accepted_lines),
            safe_text(_change(attempt.code_version_before, attempt.code_version)),
            safe_text(_change(attempt.contract_version_before, attempt.contract_version)),
        )
    console.print(attempts)


def _row(record: DeadRecord) -> str:
    if record.row is not None:
        return record.row
    return f"base64 {record.row_base64}" if record.row_base64 is not None else f"in {record.pointer}"


def _change(before: str, after: str) -> str:
    return after if before == after else f"{before or 'none'} → {after}"


# --- redrive ----------------------------------------------------------------------------------------------------------


def waiting_days(lake: Lake, select: Select, days: Collection[dt.date]) -> list[Waiting]:
    """Return the days that a redrive would look at."""
    contracts = active_contracts()
    found = waiting(lake, BikeShareMap(contracts.processed), contracts.enhanced, select=select, days=days or None)
    return list(found)


def print_waiting(found: Sequence[Waiting], console: Console | None = None) -> None:
    """Print what a redrive would do."""
    console = console or Console()
    due = [day for day in found if day.is_due]
    if due:
        table = _table("day (UTC)", "letters", "records", "note")
        for day in due:
            note = "a redrive was killed; it would be finished" if day.interrupted else ""
            table.add_row(day.day.isoformat(), f"{day.letters:,}", f"{day.records:,}", note)
        console.print(table)
    console.print("Nothing was changed." if due else "No such dead letter waits for a redrive.")
    print_unreadable([reason for day in found for reason in day.unreadable], console)


def redriving(lake: Lake, select: Select, days: Collection[dt.date]) -> Redriven:
    """Redrive, with a progress bar on standard error."""
    contracts = active_contracts()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking for dead letters", total=None)

        def progress(done: int, of: int, day: DayRedriven) -> None:
            bar.update(task, description=f"redriving, {day.day} done", completed=done, total=of)

        return redrive(
            lake,
            BikeShareMap(contracts.processed),
            contracts.enhanced,
            Provenance(run_id=_RUN, asset=_ASSET),
            select=select,
            days=days or None,
            progress=progress,
        )


def print_redriven(done: Redriven, console: Console | None = None) -> None:
    """Print what came of a redrive, in letters and rows."""
    console = console or Console()
    if not done.days:
        console.print("No such dead letter waits for a redrive.")
        return
    table = _table("day (UTC)", "reprocessed", "rejected again", "given up on", "rows joined", "note")
    for day in done.days:
        counts = (day.reprocessed, day.rejected, day.given_up, day.rows_joined)
        note = "failed" if day.failure is not None else "finished a redrive that was killed" if day.resumed else ""
        table.add_row(day.day.isoformat(), *(f"{count:,}" for count in counts), note)
    console.print(table)
    rejected, given_up = done.total("rejected"), done.total("given_up")
    if rejected:
        ends = f"; {given_up} of them are given up on until the code or a contract changes" if given_up else ""
        console.print(f"{rejected} letters were rejected again{ends}. `wrm dlq list` and `wrm dlq show` say why.")


# --- stats ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Count:
    """Records, and the letters that hold them, of one day, rule, stage and status."""

    day: dt.date
    rule: str
    stage: str
    status: str
    letters: int
    records: int


@dataclass(frozen=True)
class Counts:
    """All counts; `letters` by status, each letter once; `alerts` by day."""

    letters: dict[str, int]
    counts: tuple[Count, ...]
    alerts: dict[str, int]
    unreadable: tuple[str, ...]


def count(lake: Lake, days: Collection[dt.date]) -> Counts:
    """Count the letters of some days, or of all when there are none."""
    counts: list[Count] = []
    by_status: Counter[str] = Counter()
    alerts: dict[str, int] = {}
    unreadable: list[str] = []
    for day in sorted(days or days_of_letters(lake.store, lake.keys)):
        letters, damaged = read_letters(lake.store, lake.keys, day)
        unreadable += damaged
        by_status.update(letter.status.value for letter in letters)
        counts += _counts(day, letters)
        if raised := sum(1 for _ in list_alerts(lake.store, lake.keys, day)):
            alerts[day.isoformat()] = raised
    return Counts(dict(sorted(by_status.items())), tuple(counts), alerts, tuple(unreadable))


def _counts(day: dt.date, letters: Sequence[DeadLetter]) -> Iterator[Count]:
    records: Counter[tuple[str, str, str]] = Counter()
    holders: Counter[tuple[str, str, str]] = Counter()
    for letter in letters:
        for rule, number in _rules(letter).items():
            group = (rule, letter.stage.value, letter.status.value)
            records[group] += number
            holders[group] += 1
    for group in sorted(records):
        yield Count(day, *group, letters=holders[group], records=records[group])


def print_counts(counts: Counts, console: Console | None = None) -> None:
    """Print the counts."""
    console = console or Console()
    if not counts.counts:
        console.print("There are no dead letters.")
    else:
        table = _table("day (UTC)", "rule", "stage", "status", "letters", "records")
        for row in counts.counts:
            numbers = (f"{row.letters:,}", f"{row.records:,}")
            table.add_row(row.day.isoformat(), safe_text(row.rule), row.stage, row.status, *numbers)
        console.print(table)
        console.print(", ".join(f"{number:,} {status}" for status, number in counts.letters.items()), style="dim")
    for day, number in counts.alerts.items():
        console.print(f"{day}: {number} {'alert' if number == 1 else 'alerts'} about letters given up on.")


# --- all --------------------------------------------------------------------------------------------------------------

_NUMBERS: Final = {"records", "letters", "reprocessed", "rejected again", "given up on", "rows joined"}
_WHOLE: Final = {"id", "day (UTC)", "rule", "stage", "status", "letters", "records", "tried (UTC)", "outcome"}


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name in _WHOLE)
    return table


def print_unreadable(reasons: Sequence[str], console: Console | None = None) -> None:
    """Print which letters cannot be read."""
    console = console or Console()
    for reason in reasons:
        console.print(safe_text(f"{reason}. It is left as it is."), style="yellow", soft_wrap=True)

"""Contracts as a document for people: `markdown`, and the words for durations, bounds and numbers that tables share."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from wrm_pipeline.contracts.model import Bound, Column, Contract, Rule
from wrm_pipeline.contracts.vocabulary import Scope

COMMAND: Final = "wrm contracts --markdown > docs/data.md"
JUDGES: Final = {
    Scope.FILE: "payload",
    Scope.FIELD: "row's text",
    Scope.ROW: "typed row",
    Scope.SNAPSHOT: "snapshot",
    Scope.DAY: "day",
}
_WIDTH: Final = 120
_PREFACE: Final = """\
What each dataset holds and promises. A rule of severity *error* sets aside what breaks it, as a dead letter; one that
judges a day blocks what is made from that day. A *warning* removes nothing: it is counted, shown, and for a typed row
its name stands in `quality_flags`. Times are UTC unless a rule says otherwise. A change that can break a reader raises
the first number of the version."""
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_CODE: Final = re.compile(r"(`[^`]+`)")
# An underscore emphasises only up to one that ends a word.
_MARK: Final = re.compile(r"[\\`*<>\[\]|~&#]|_(?![^\W_])")
# Words that make a list or a heading of a line that begins with them, as a wrapped line can.
_LINE_MARK: Final = re.compile(r"(?<!\S)(?:([-+=]+)|(\d+)([.)]))(?!\S)")


def markdown(contracts: Iterable[Contract]) -> str:
    """Return GitHub-flavoured Markdown, a section a contract; the same contracts give the same text."""
    found = list(contracts)
    blocks = [
        f"<!-- Made from wrm_pipeline/contracts/ with: {COMMAND} -->",
        "# Data",
        _PREFACE,
        "\n".join(_wrapped(f"- [{prose(c.id)}](#{c.id}): {prose(c.purpose)}", indent="  ") for c in found),
        *(block for contract in found for block in _section(contract)),
    ]
    return "\n\n".join(blocks) + "\n"


def _section(contract: Contract) -> list[str]:
    columns = [
        (
            code(c.name),
            code(str(c.type)),
            "yes" if c.nullable else "no",
            cell(c.unit),
            cell(bounds(c)),
            cell(c.classification),
            cell(c.description),
        )
        for c in contract.columns
    ]
    rules = [
        (
            code(r.name),
            JUDGES[r.scope],
            r.dimension.value,
            r.severity.value,
            cell(numbers(r)),
            cell(r.description),
        )
        for r in contract.rules.values()
    ]
    return [
        f"## {prose(contract.id)}",
        _wrapped(prose(contract.purpose)),
        table(
            ("Owner", "Version", "Freshness", "A snapshot every", "Retention"),
            [
                (
                    cell(contract.owner),
                    contract.version,
                    freshness(contract),
                    duration(contract.interval_s),
                    cell(contract.retention),
                )
            ],
        ),
        table(("Column", "Type", "Null?", "Unit", "Bounds", "Classification", "Meaning"), columns),
        *([table(("Rule", "Judges a", "Dimension", "Severity", "Numbers", "Meaning"), rules)] if rules else []),
    ]


def freshness(contract: Contract) -> str:
    """Return how old the newest data may become."""
    return f"warns after {duration(contract.freshness_warn_s)}, fails after {duration(contract.freshness_fail_s)}"


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that it is a whole number of, such as `2 h`, `90 min`, `7.5 s`."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds % size == 0), _UNITS[-1])
    return f"{seconds / size:.15g} {unit}"


def bounds(column: Column) -> str:
    """Return the least and greatest value of a column, or the values it may have; empty when all are allowed."""
    if column.allowed:
        return ", ".join(f"`{value}`" for value in column.allowed)
    low, high = _value(column.minimum), _value(column.maximum)
    if not low and not high:
        return ""
    of = "length " if pa.types.is_string(column.type) else ""
    if low and high:
        return f"{of}{low} to {high}"
    return f"{of}at least {low}" if low else f"{of}at most {high}"


def numbers(rule: Rule) -> str:
    """Return the numbers of a rule by name, such as ``` `share_below` 0.9 ```."""
    return ", ".join(f"`{name}` {_value(value)}" for name, value in rule.arguments.items())


def _value(bound: Bound) -> str:
    if bound is None:
        return ""
    # 15 digits show every number somebody wrote as they wrote it: 0.1 and 90, not 0.1000000000000000055 and 90.0.
    return f"{bound:.15g}" if isinstance(bound, int | float) else bound.isoformat().replace("+00:00", "Z")


def prose(text: str) -> str:
    """Escape what Markdown would take for a mark in running text; what stands in backticks stays code."""
    return "".join(_in_line(part) if n % 2 == 0 else part for n, part in enumerate(_CODE.split(text)))


def _in_line(text: str) -> str:
    return _LINE_MARK.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", _escaped(text))


def _escaped(text: str) -> str:
    return _MARK.sub(r"\\\g<0>", text)


def cell(text: str) -> str:
    """Return running text as one cell of a table; inside code, too, a pipe would end the cell."""
    parts = enumerate(_CODE.split(text))
    return "".join(_escaped(part) if n % 2 == 0 else part.replace("|", "\\|") for n, part in parts)


def code(text: str) -> str:
    """Return a name as code in one cell of a table."""
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _wrapped(marked: str, indent: str = "") -> str:
    # Code stays on one line: a line that begins inside it could begin with a mark.
    joined = "".join(part.replace(" ", "\0") if n % 2 else part for n, part in enumerate(_CODE.split(marked)))
    lines = textwrap.wrap(joined, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")

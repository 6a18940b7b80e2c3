"""The document for people: complete, the same as `docs/data.md`, and Markdown that shows what the contracts say."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from wrm_pipeline.contracts.document import bounds, cell, code, duration, markdown, numbers, prose, table
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.contracts.model import Contract

CONTRACTS = packaged_contracts()
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "data.md"
# What Markdown gives a meaning, some of it at the edge of a word or at the beginning of a line only.
_WORDS = [
    "a",
    "ż",
    "_a_",
    "__b__",
    "c_d",
    "*a*",
    "**b**",
    "~~c~~",
    "<b>",
    "&lt;",
    "[a](b)",
    "![a](b)",
    "|",
    "a|b",
    "\\",
]
_LINE_WORDS = ["#", "##", ">", "-", "+", "*", "1.", "23)", "=", "==", "--", "---", "===", "***", "___", "|-", "<!--"]
WORD = st.one_of(st.sampled_from([*_WORDS, *_LINE_WORDS]), st.text("\\*_<>[]()!|~&#+-=.1aż", min_size=1, max_size=5))
CODE = st.sampled_from(["x", "a|b", "a_b *c*", "<b>", "&lt;", "#", "\\", "\\|"])
# Words as somebody writes them and as a reader sees them.
PIECES = st.lists(
    st.one_of(WORD.map(lambda word: (word, word)), CODE.map(lambda word: (f"`{word}`", word))), min_size=1, max_size=8
)


def written_and_shown(pieces: list[tuple[str, str]]) -> tuple[str, str]:
    return " ".join(written for written, _ in pieces), " ".join(shown for _, shown in pieces)


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def kinds(token: Token) -> set[str]:
    return {child.type for child in token.children or []}


def text_of(token: Token) -> str:
    """What a reader sees of one cell or paragraph, which has no looks but that of code."""
    assert kinds(token) <= {"text", "code_inline", "softbreak", "text_special"}, kinds(token)
    return " ".join("".join(" " if c.type == "softbreak" else c.content for c in token.children or []).split())


def without_backticks(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def tables(text: str) -> Iterator[list[list[str]]]:
    """The tables of a document, each a list of rows of cells, the head first."""
    rows: list[list[str]] = []
    for token, following in pairwise([*parsed(text), Token("end", "", 0)]):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"}:
            rows[-1].append(text_of(following))
        elif token.type == "table_close":
            yield rows


def test_the_document_in_the_repository_is_that_of_the_packaged_contracts() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(CONTRACTS), "run: wrm contracts --markdown > docs/data.md"


def test_it_says_how_it_is_made_and_ends_with_one_newline() -> None:
    text = markdown(CONTRACTS)

    assert "wrm contracts --markdown > docs/data.md" in text.splitlines()[0]
    assert text.endswith("|\n")
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))


def test_it_has_a_section_for_each_contract_that_the_list_links_to() -> None:
    tokens = parsed(markdown(CONTRACTS))
    sections = [following.content for token, following in pairwise(tokens) if token.type == "heading_open"]
    links = [c.attrs["href"] for t in tokens for c in t.children or [] if c.type == "link_open"]

    assert sections == ["Data", *(contract.id for contract in CONTRACTS)]
    assert links == [f"#{contract.id}" for contract in CONTRACTS]


@pytest.mark.parametrize("contract", [*CONTRACTS], ids=lambda contract: contract.id)
def test_a_section_shows_every_column_and_every_rule_as_the_contract_has_it(contract: Contract) -> None:
    facts, columns, rules = tables(markdown([contract]))

    assert facts[1][:2] == [contract.owner, contract.version]
    assert facts[1][2:] == ["warns after 15 min, fails after 2 h", "5 min", contract.retention]
    assert columns[0] == ["Column", "Type", "Null?", "Unit", "Bounds", "Classification", "Meaning"]
    assert [(row[0], row[1], row[2], row[3], row[5], row[6]) for row in columns[1:]] == [
        (c.name, str(c.type), "yes" if c.nullable else "no", c.unit, c.classification, without_backticks(c.description))
        for c in contract.columns
    ]
    assert rules[0] == ["Rule", "Judges a", "Dimension", "Severity", "Numbers", "Meaning"]
    assert [(row[0], row[2], row[3], row[5]) for row in rules[1:]] == [
        (r.name, r.dimension.value, r.severity.value, without_backticks(r.description)) for r in contract.rules.values()
    ]


def test_the_name_with_pipes_is_one_cell() -> None:
    _, columns, _ = tables(markdown([CONTRACTS.raw]))

    assert columns[2][0] == "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"
    assert all(len(row) == len(columns[0]) for row in columns)


@given(PIECES, PIECES)
def test_a_cell_shows_its_text_and_nothing_breaks_out_of_it(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    cells = [written_and_shown(pieces) for pieces in (first, second)]

    (rows,) = tables(table(("one", "two"), [[cell(written) for written, _ in cells], ["x", "y"]]))

    assert rows == [["one", "two"], [shown for _, shown in cells], ["x", "y"]]


@given(st.lists(WORD, min_size=1, max_size=5).map(" ".join))
def test_a_name_shows_as_it_is(name: str) -> None:
    (rows,) = tables(table(("one", "two"), [(code(name), "y")]))

    assert rows[1] == [name, "y"]


@given(PIECES)
@example([("1)", "1)"), ("a", "a")])
@example([("a", "a"), ("1.", "1."), ("b", "b")])
def test_running_text_shows_as_it_is_wherever_its_lines_break(pieces: list[tuple[str, str]]) -> None:
    written, shown = written_and_shown(pieces)

    for marked in (prose(written), "\n".join(prose(word) for word, _ in pieces)):
        tokens = parsed(marked)
        assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
        assert text_of(tokens[1]) == shown


@given(st.lists(PIECES.map(written_and_shown), min_size=30, max_size=30))
# 118 letters and blanks: the line would end inside the code, and the next one begin with a dash.
@example([("x", "x")] * 59 + [("`a - b`", "a - b")])
def test_a_long_purpose_is_wrapped_and_shows_as_it_is(parts: list[tuple[str, str]]) -> None:
    written, shown = (" ".join(part[n] for part in parts) for n in (0, 1))

    text = markdown([replace(CONTRACTS.raw, purpose=written)])

    paragraphs = [token for token in parsed(text) if token.type == "inline"]
    assert shown in [
        text_of(token) for token in paragraphs if "link_open" not in kinds(token) and "em_open" not in kinds(token)
    ]
    assert [token.content for token in paragraphs if token.level == 1][:1] == ["Data"]


@pytest.mark.parametrize("text", ["a ` b", "`", "``", "`a", "``a``"])
def test_a_backtick_alone_is_a_backtick(text: str) -> None:
    (rows,) = tables(table(("one", "two"), [(cell(text), code("a`b"))]))

    assert rows[1] == [text.replace("`a`", "a"), "a`b"]


def test_durations_are_in_the_largest_unit_that_fits() -> None:
    assert [duration(seconds) for seconds in (60, 5400, 7200, 86_400, 129_600, 90, 7.5)] == [
        *("1 min", "90 min", "2 h", "1 d", "36 h", "90 s", "7.5 s")
    ]


def test_bounds_and_numbers_are_shown_as_they_were_written() -> None:
    processed = CONTRACTS.processed

    assert bounds(processed.column("lat")) == "-90 to 90"
    assert bounds(processed.column("bikes")) == "at least 0"
    assert bounds(processed.column("station_id")) == "length at least 1"
    assert bounds(processed.column("timestamp")) == "2000-01-01T00:00:00Z to 2099-12-31T23:59:59.999999Z"
    assert bounds(processed.column("name")) == ""
    assert bounds(CONTRACTS.enhanced.column("record_type")) == "`station`, `bike`, `unknown`"
    assert numbers(CONTRACTS.enhanced.rules["off_zone"]) == "`south` 51, `north` 51.2, `west` 16.8, `east` 17.2"
    assert numbers(CONTRACTS.enhanced.rules["overfull"]) == ""

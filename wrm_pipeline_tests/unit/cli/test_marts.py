"""`wrm marts`: tables, one table's columns, the document, JSON; with a DuckDB file and without."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from markdown_it import MarkdownIt
from markdown_it.token import Token

from wrm_pipeline.cli.marts import marts
from wrm_pipeline.marts.catalogue import Column, Grain, Mart, catalogue, published
from wrm_pipeline.marts.connection import connect
from wrm_pipeline.marts.database import Built, drafting
from wrm_pipeline.marts.document import allowed_values, markdown

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "marts.md"
TABLES = {mart.name: mart for mart in sorted(published(), key=lambda mart: mart.name)}


def run(*arguments: str, columns: int = 200) -> Result:
    return CliRunner().invoke(marts, arguments, env={"COLUMNS": str(columns)})


def cells(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line[:1] == "│"]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DuckDB file as the marts leave it, with the rows of one table."""
    path = tmp_path / "wrm.duckdb"
    with connect() as connection, drafting(connection, path, "x") as (draft, _):
        name = draft.stored("mv_free_bike_latest")
        connection.execute(f"INSERT INTO {name} SELECT 51.1, 17, n, true, now() FROM range(1234) AS r(n)")  # noqa: S608
        draft.finish(Built("x", None, None, None), None)
    monkeypatch.setenv("WRM_DUCKDB_PATH", str(path))
    return path


# The command


def test_all_tables_are_listed_with_rows_and_meaning(database: Path) -> None:
    done = run(columns=900)

    assert done.exit_code == 0, done.output
    assert {row[0]: row[1] for row in cells(done.output)} == {
        name: "1,234" if name == "mv_free_bike_latest" else "0" for name in TABLES
    }
    for row in cells(done.output):
        assert row[2] == " ".join(TABLES[row[0]].description["en"].split())


def test_one_table_is_shown_with_all_its_columns(database: Path) -> None:
    done = run("fct_station_outage", columns=300)

    assert done.exit_code == 0, done.output
    assert [row[0] for row in cells(done.output)] == [column.name for column in TABLES["fct_station_outage"].columns]
    assert ["kind", "VARCHAR", "empty, full", "Empty or full"] in cells(done.output)
    assert ["minutes", "DOUBLE", "minutes, at least 0", "Length"] in cells(done.output)
    assert "station_id, started_at" in done.output


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_gets_every_letter(database: Path, columns: int) -> None:
    for arguments in ((), ("fct_station_hour",)):
        done = run(*arguments, columns=columns)
        assert "…" not in done.output
        assert max(map(len, done.output.splitlines())) <= columns


def test_without_a_duckdb_file_the_tables_are_explained_and_it_says_how_to_get_one() -> None:
    done = run(columns=900)

    assert done.exit_code == 0
    assert {row[1] for row in cells(done.output)} == {"—"}
    assert "There is no DuckDB file" in done.stderr
    assert "wrm_stations_marts_job" in done.stderr


def test_json_holds_what_the_specs_hold(database: Path) -> None:
    found = {table["name"]: table for table in json.loads(run("--json").stdout)}

    assert list(found) == list(TABLES)
    assert found["mv_free_bike_latest"]["rows"] == 1234
    assert found["fct_station_outage"]["key"] == ["station_id", "started_at"]
    (kind,) = [column for column in found["fct_station_outage"]["columns"] if column["name"] == "kind"]
    assert (kind["type"], kind["allowed"], kind["required"]) == ("VARCHAR", ["empty", "full"], True)
    assert json.loads(run("dim_date", "--json").stdout)[0]["title"]["pl"] == TABLES["dim_date"].title["pl"]


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("--json", "--markdown").exit_code == 2
    assert "there is no table 'nonsense'" in run("nonsense").output
    assert run("stg_station_step").exit_code == 2, "internal tables are nobody's business"


# The document


def test_the_document_in_the_project_is_that_of_these_tables() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == run("--markdown").stdout == markdown(catalogue())


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def seen(token: Token) -> str:
    """What a reader sees of one cell or paragraph, which has no looks but that of code and links."""
    looks = {child.type for child in token.children or []}
    assert looks <= {"text", "code_inline", "softbreak", "text_special", "link_open", "link_close"}, looks
    return " ".join("".join(" " if c.type == "softbreak" else c.content for c in token.children or []).split())


def sections(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Each heading of a table's section with the rows of its last table, the head first."""
    name, rows = "", []
    for token, following in pairwise([*parsed(text), Token("heading_open", "end", 0), Token("end", "", 0)]):
        if token.type == "heading_open":
            if name:
                yield name, rows
            name = seen(following) if token.tag == "h2" else ""
        elif token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"}:
            rows[-1].append(seen(following))


def test_a_reader_sees_each_table_with_each_column_as_the_specs_have_them() -> None:
    found = dict(sections(markdown(catalogue())))

    assert list(found) == list(TABLES)
    for name, rows in found.items():
        assert rows[0] == ["Column", "Type", "Null?", "Unit", "Values", "Meaning"]
        assert rows[1:] == [
            [
                column.name,
                column.type,
                "no" if column.required else "yes",
                column.unit or "",
                allowed_values(column).replace("`", ""),
                " ".join(column.en.replace("`", "").split()),
            ]
            for column in TABLES[name].columns
        ]


def test_it_names_the_views_that_the_duckdb_file_has(database: Path) -> None:
    with duckdb.connect(str(database)) as connection:
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()

    assert views
    assert [view for (view,) in views if f"`{view}`" not in markdown(catalogue())] == []


def test_what_markdown_would_take_for_a_mark_is_text() -> None:
    words = {"en": "a | b_c_ <i> *d*", "pl": ""}
    columns = (Column.model_validate({"name": "x", "type": "VARCHAR", "en": "p | q <b>", "pl": "", "unit": "m|s"}),)
    hostile = Mart("t", Grain.TABLE, True, (), ("x",), words, words, {"n": 0.5}, columns, None, None, "SELECT 1")

    text = markdown({"t": hostile})

    ((name, rows),) = sections(text)
    assert (name, rows[1]) == ("t", ["x", "VARCHAR", "no", "m|s", "", "p | q <b>"])
    assert "a | b_c_ <i> *d*. a | b_c_ <i> *d*" in [seen(token) for token in parsed(text) if token.type == "inline"]
    assert "| `n` | 0.5 |" in text


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({}, ""),
        ({"min": 0}, "at least 0"),
        ({"max": 1}, "at most 1"),
        ({"min": -90, "max": 90.5}, "-90 to 90.5"),
        ({"allowed": [15, 30]}, "`15`, `30`"),
        ({"references": "dim_station.station_key"}, "one of `dim_station.station_key`"),
    ],
)
def test_what_a_column_may_hold_is_said_in_words(rules: dict[str, object], words: str) -> None:
    assert allowed_values(Column.model_validate({"name": "x", "type": "DOUBLE", "en": "", "pl": "", **rules})) == words


def test_the_duckdb_file_stays_as_it_is(database: Path) -> None:
    before = database.read_bytes()

    run()

    assert database.read_bytes() == before
    with duckdb.connect(str(database)) as connection:
        assert connection.execute("SELECT count(*) FROM mv_free_bike_latest").fetchall() == [(1234,)]

"""`wrm sql`: what is shown of an answer, what is written, what is refused, and that the file stays as it was."""

import csv
import datetime as dt
import io
import json
import os
import pty
import threading
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from wrm_pipeline.cli.sql import EXAMPLES, QueryError, shown, sql
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.marts.database import LAYOUT, MartsError
from wrm_pipeline_tests.fixtures.command import wrm_command

# What a name can do to a terminal that prints it: clear it, set its title, turn its text around, go up a line.
HOSTILE = "Rynek\x1b[2J\x1b]0;mine\x07\u202e\x9b1A\r\n[red]x[/red]"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DuckDB file as the marts leave it, with one small table."""
    path = tmp_path / "wrm.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE marts_built AS SELECT $1 AS layout, $2 AS duckdb_version, 'x' AS index_digest",
            [LAYOUT, duckdb.__version__],
        )
        connection.execute(
            "CREATE TABLE station (id VARCHAR, name VARCHAR, bikes INTEGER, fill DOUBLE, seen TIMESTAMP WITH TIME ZONE,"
            " flags VARCHAR[], open BOOLEAN)"
        )
        connection.execute(
            "INSERT INTO station VALUES "
            "('15001', $1, 6, 1 / 3, '2025-05-12 20:10:00+02', ['overfull', 'moved'], true), ('15002', NULL, 0, NULL,"
            " '2025-05-12 18:15:00.25+00', [], false)",
            [HOSTILE],
        )
    monkeypatch.setenv("WRM_DUCKDB_PATH", str(path))
    return path


def run(*arguments: str, columns: int = 200, stdin: str | None = None) -> Result:
    return CliRunner().invoke(sql, arguments, env={"COLUMNS": str(columns)}, input=stdin)


def cells(output: str) -> list[list[str]]:
    """The rows of a table that was printed."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line[:1] == "│"]


def refused(*arguments: str) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, QueryError), done.output
    return str(done.exception)


# What is shown


def test_rows_are_a_table_with_times_in_utc_and_a_dash_for_what_is_not_known(database: Path) -> None:
    done = run("SELECT id, bikes, fill, seen, flags, open, seen::DATE AS day FROM station ORDER BY id")

    assert done.exit_code == 0, done.output
    assert cells(done.output) == [
        ["15001", "6", "0.3333333333", "2025-05-12 18:10:00 UTC", "[overfull, moved]", "true", "2025-05-12"],
        ["15002", "0", "—", "2025-05-12 18:15:00.250000 UTC", "[]", "false", "2025-05-12"],
    ]
    assert [name in done.output for name in ("id", "bikes", "fill", "seen", "flags", "open", "day")] == [True] * 7


def test_no_rows_are_said_to_be_none(database: Path) -> None:
    done = run("SELECT id FROM station WHERE bikes > 100")

    assert cells(done.output) == []
    assert "No rows." in done.output


@pytest.mark.parametrize(("limit", "count", "more"), [(100, 100, "150 more rows"), (3, 3, "247 more rows")])
def test_a_long_answer_is_cut_and_says_how_many_rows_are_left(
    database: Path, limit: int, count: int, more: str
) -> None:
    done = run("SELECT * FROM range(250) -- a comment at its end", "--limit", str(limit))

    assert [row[0] for row in cells(done.output)] == [str(n) for n in range(count)]
    assert more in done.output


def test_an_answer_that_fits_has_no_such_note(database: Path) -> None:
    assert "more rows" not in run("SELECT * FROM range(100)").output


def test_rows_too_wide_for_the_terminal_are_shown_one_below_the_other_and_nothing_is_cut(database: Path) -> None:
    done = run("SELECT * EXCLUDE name FROM station ORDER BY id", columns=40)

    assert cells(done.output) == []
    lines = [line.split() for line in done.output.splitlines() if line.strip()]
    assert ["row", "1"] in lines
    assert ["seen", "2025-05-12", "18:10:00", "UTC"] in lines
    assert ["fill", "—"] in lines
    assert max(map(len, done.output.splitlines())) <= 40


def test_describe_show_summarize_and_explain_are_answered_too(database: Path) -> None:
    assert [row[0] for row in cells(run("DESCRIBE station").output)][:3] == ["id", "name", "bikes"]
    assert "station" in run("SHOW TABLES").output
    assert "6" in run("SUMMARIZE station", columns=400).output
    assert "SEQ_SCAN" in run("EXPLAIN FROM station").output


def test_a_query_comes_from_the_argument_from_standard_input_or_from_a_file(database: Path, tmp_path: Path) -> None:
    query = "SELECT 6 * 7 AS answer;\n"
    (tmp_path / "żółw.sql").write_text(query, encoding="utf-8")

    answers = [run(query), run("-", stdin=query), run("--file", str(tmp_path / "żółw.sql"))]

    assert [cells(done.output) for done in answers] == [[["42"]]] * 3
    assert run(query, "--file", str(tmp_path / "żółw.sql")).exit_code == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (True, "true"),
        (7, "7"),
        (51.109782, "51.109782"),
        (2.0, "2"),
        (1e-9, "1e-09"),
        (dt.datetime(2025, 5, 12, 18, 10), "2025-05-12 18:10:00"),  # noqa: DTZ001 - a local time
        (dt.datetime(2025, 5, 12, 18, 10, tzinfo=dt.UTC), "2025-05-12 18:10:00 UTC"),
        (["a", None], "[a, —]"),
    ],
)
def test_values_are_shown_for_reading(value: object, text: str) -> None:
    assert shown(value) == text


# What a name may not do


def harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_a_name_commands_no_terminal_and_is_no_markup(database: Path) -> None:
    for columns in (200, 30):
        done = run("SELECT name, bikes FROM station WHERE name IS NOT NULL", columns=columns)
        assert harmless(done.output), repr(done.output)
    assert "[red]x[/red]" in run("SELECT name FROM station WHERE name IS NOT NULL").output


def test_nor_as_the_name_of_a_column_nor_in_an_error(database: Path) -> None:
    assert harmless(run('SELECT 1 AS "a\x1b[2J"').output)
    assert harmless(refused("SELECT name::INTEGER FROM station"))
    assert harmless(refused('SELECT "\x1b[2J" FROM station'))


def test_nor_in_json_which_still_holds_it(database: Path) -> None:
    done = run("SELECT name FROM station WHERE name IS NOT NULL", "--json")

    assert harmless(done.output)
    assert json.loads(done.output) == [{"name": HOSTILE}]


def test_nor_in_csv_on_a_terminal(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.BytesIO()
    master, slave = pty.openpty()

    def read() -> None:
        try:
            while chunk := os.read(master, 1024):
                seen.write(chunk)
        except OSError:
            pass  # so a terminal ends on Linux

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert sql.callback is not None
        sql.callback("FROM station", None, "-", None, as_json=False, limit=100)
    reader.join()
    os.close(master)

    text = seen.getvalue().decode().replace("\r\n", "\n")
    assert "15001" in text
    assert harmless(text), repr(text)


# Files


def test_csv_holds_all_rows_as_they_are(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "it's.csv"
    query = "SELECT name, seen, flags FROM station ORDER BY id"

    assert run(query, "--csv", str(path), "--limit", "1").exit_code == 0
    piped = run(query, "--csv", "-")

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["name", "seen", "flags"],
        [HOSTILE, "2025-05-12 18:10:00+00", "[overfull, moved]"],
        ["", "2025-05-12 18:15:00.25+00", "[]"],
    ]
    assert piped.stdout_bytes == path.read_bytes()


def test_parquet_holds_all_rows_with_their_types(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"

    assert run("SELECT id, bikes, seen FROM station ORDER BY id -- all", "--parquet", str(path)).exit_code == 0

    rows = pq.read_table(path)
    assert rows.column("bikes").to_pylist() == [6, 0]
    assert rows.schema.field("seen").type.tz == "UTC"
    assert rows.column("seen")[0].as_py() == dt.datetime(2025, 5, 12, 18, 10, tzinfo=dt.UTC)


def test_json_has_iso_times_and_null_for_what_is_no_number(database: Path) -> None:
    done = run("SELECT seen, flags, 'NaN'::DOUBLE AS n, {'a': bikes} AS s FROM station ORDER BY id LIMIT 1", "--json")

    assert json.loads(done.output) == [
        {"seen": "2025-05-12T18:10:00+00:00", "flags": ["overfull", "moved"], "n": None, "s": {"a": 6}}
    ]
    assert json.loads(run("SELECT id FROM station WHERE false", "--json").output) == []


def test_two_columns_of_one_name_would_be_one_in_json(database: Path) -> None:
    assert "More than one column is called a" in refused("SELECT 1 AS a, 2 AS a", "--json")


def test_a_file_that_cannot_be_written_is_a_sentence(database: Path, tmp_path: Path) -> None:
    assert "nowhere" in refused("SELECT 1", "--csv", str(tmp_path / "nowhere" / "x.csv"))


def test_forms_exclude_each_other(database: Path) -> None:
    assert run("SELECT 1", "--json", "--csv", "-").exit_code == 2
    assert run("SELECT 1", "--parquet", "x", "--csv", "-").exit_code == 2


# What is wrong is said, and where


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC" (line 1, column 1 of the query)'),
        ("SELECT 1 +", "syntax error at end of input (line 1, column 11 of the query)"),
        ("SELECT id,\n  'żółw', bike\nFROM station", 'Referenced column "bike" not found'),
        ("SELECT id,\n  'żółw', bike\nFROM station", "(line 2, column 11 of the query)"),
        ("FROM stations", 'Table with name stations does not exist! Did you mean "station"? (line 1, column 6'),
        ("SELECT name::INTEGER FROM station", "Could not convert string"),
        ("SELECT sum(name) FROM station", "(line 1, column 8 of the query)"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--csv", "-"), ("--json",)], ids=["table", "csv", "json"])
def test_an_error_is_one_sentence_with_its_place(database: Path, query: str, said: str, more: tuple[str, ...]) -> None:
    sentence = refused(query, *more)

    assert sentence.startswith("The query cannot be answered: ")
    assert said in sentence
    assert "\n" not in sentence
    assert "Candidate functions" not in sentence


@pytest.mark.parametrize(("query", "count"), [("", "no"), ("-- nothing", "no"), ("SELECT 1; SELECT 2", "2")])
def test_it_takes_one_statement(database: Path, query: str, count: str) -> None:
    assert f"There are {count} statements in the query; give one." in refused("--", query)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM station",
        "DROP TABLE station",
        "CREATE TABLE x AS FROM station",
        "COPY station TO 'x.csv'",
        "ATTACH 'other.duckdb'",
        "SET threads = 1",
        "INSTALL httpfs",
        "CALL pragma_version()",
    ],
)
def test_it_only_reads(database: Path, query: str, tmp_path: Path) -> None:
    before, files = database.read_bytes(), sorted(tmp_path.iterdir())

    assert "`wrm sql` only reads" in refused(query)

    assert database.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("end", [";", " ; -- all;", "; /* ; */", " -- żółw;", ";;\n"])
def test_how_a_statement_ends_does_not_matter(database: Path, end: str) -> None:
    query = f"SELECT 'ż;' AS z FROM range(3){end}"  # noqa: S608 - the test.s own words

    assert "2 more rows" in run(query, "--limit", "1").output
    assert run(query, "--csv", "-").output == "z\n" + "ż;\n" * 3


def test_no_answer_changes_the_file_or_leaves_one_beside_it(database: Path) -> None:
    before = database.read_bytes()

    for form in ((), ("--csv", "-"), ("--json",)):
        assert run("SELECT * FROM station", *form).exit_code == 0

    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == ["wrm.duckdb"]


def test_a_file_that_is_missing_or_damaged_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRM_DUCKDB_PATH", str(tmp_path / "none.duckdb"))
    missing = run("SELECT 1")
    assert isinstance(missing.exception, MartsError)
    assert "wrm_stations_marts_job" in str(missing.exception)

    (tmp_path / "none.duckdb").write_bytes(b"half")
    assert isinstance(run("SELECT 1").exception, MartsError)


# Without a query


def test_without_a_query_the_tables_are_listed_with_three_queries_to_begin_with() -> None:
    done = run()

    assert done.exit_code == 0
    for mart in published():
        assert mart.name in done.output
        assert mart.title["en"] in done.output
    for meaning, _ in EXAMPLES:
        assert meaning in done.output
    assert len(EXAMPLES) == 3


# As a command


def test_an_error_is_exit_code_1_and_goes_to_standard_error(
    database: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, output, errors = wrm_command(monkeypatch, capfd, "sql")("SELEC 1")

    assert (code, output) == (1, "")
    assert errors == (
        'wrm: The query cannot be answered: syntax error at or near "SELEC" (line 1, column 1 of the query)\n'
    )

"""`wrm dlq`: what it lists, shows and redrives, for people and for programs, and what a hostile row cannot do."""

import json
import re
from dataclasses import replace

import pytest

from wrm_pipeline.cli.dlq_tables import safe_json, safe_text
from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.feed.base import Fault, PayloadFault
from wrm_pipeline.lake.dead_letters import DeadLetter, Stage, Status
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import set_aside
from wrm_pipeline.layers.redrive import redrive
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.command import Run, wrm_command
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, environment_of, letters_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, payload, row

WHO = Provenance("run-1", "wrm_stations_enhanced_data_all", lambda: at(12))
EARLIER = DAY.replace(day=11)
# Clears the screen, turns the text red for rich, opens a link, and turns the direction of writing.
HOSTILE = "\x1b[2J[red]Rynek[/red]\x9b31m[link=https://example.org]\u202e"


@pytest.fixture(autouse=True)
def _configured(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(replace(store_settings, retry_budget_s=0.2)).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def wrm(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `wrm dlq` on a wide terminal and return exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "220")
    return wrm_command(monkeypatch, capfd, "dlq")


@pytest.fixture
def letters(lake: Lake) -> list[DeadLetter]:
    """Three letters: two of a day, of which one is about a file, and one of the day before."""
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), row("3", name=HOSTILE), end=b"\n"))
    put_raw(lake, at(8, day=EARLIER), payload(row("1"), row("2", bikes="-1"), end=b"\n"))
    for day in (EARLIER, DAY):
        build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, WHO)
    set_aside(lake, FORMAT, b"<html>", Fault(PayloadFault.HTML, "a web page came"), at(9), WHO)
    return [*letters_of(lake, EARLIER), *letters_of(lake, DAY)]


def cells(text: str) -> list[list[str]]:
    """Return the body of all tables, row by row."""
    rows: list[list[str]] = []
    in_body = False
    for line in text.splitlines():
        if set(line.strip()) == {"─"}:
            in_body = True
        elif not line.strip():
            in_body = False
        elif in_body:
            rows.append(re.split(" {2,}", line.rstrip()[1:]))
    return rows


def of_stage(letters: list[DeadLetter], stage: Stage) -> DeadLetter:
    return next(x for x in letters if x.stage is stage and x.partition == DAY)


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_shows_one_line_a_letter_the_newest_day_first(
    wrm: Run, letters: list[DeadLetter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    code, out, err = wrm("list")

    assert (code, err) == (0, "")
    lines = [line for line in cells(out) if line[0]]
    assert [line[1][:10] for line in lines] == [str(DAY), str(DAY), str(EARLIER)]
    assert {line[1][11:19] for line in lines} == {"08:00:00", "payload-"}
    processed = of_stage(letters, Stage.PROCESSED)
    (line,) = [x for x in lines if processed.id.startswith(x[0])]
    assert line[1:5] == [f"{DAY} 08:00:00", "processed", "pending 0/3", "2"]
    assert line[5].startswith("control_")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), 3),
        (("--day", str(DAY)), 2),
        (("--day", str(DAY), "--day", str(EARLIER)), 3),
        (("--day", "2025-05-01"), 0),
        (("--rule", "html"), 1),
        (("--rule", "not_a_number"), 1),
        (("--stage", "raw"), 1),
        (("--stage", "processed"), 2),
        (("--status", "pending_reprocessing"), 3),
        (("--status", "reprocessed"), 0),
        (("--stage", "processed", "--day", str(DAY), "--rule", "html"), 0),
    ],
)
def test_each_filter_leaves_what_it_says(
    wrm: Run, letters: list[DeadLetter], arguments: tuple[str, ...], found: int
) -> None:
    (_, table, _), (code, text, err) = wrm("list", *arguments), wrm("list", *arguments, "--json")

    assert (code, err) == (0, "")
    document = json.loads(text)
    assert len(document["letters"]) == found
    assert sum(line[0] != "" for line in cells(table)) == found
    assert (document["more"], document["unreadable"]) == (False, [])
    assert ("There are no such dead letters." in table) == (found == 0)


def test_the_json_of_a_list_has_the_whole_id_and_times_in_utc(wrm: Run, letters: list[DeadLetter]) -> None:
    (entry,) = json.loads(wrm("list", "--json", "--stage", "raw")[1])["letters"]

    letter = of_stage(letters, Stage.RAW)
    assert entry == {
        "id": letter.id,
        "day": str(DAY),
        "stage": "raw",
        "source_key": letter.source_key,
        "records": 1,
        "rules": {"html": 1},
        "status": "pending_reprocessing",
        "retry_count": 0,
        "first_seen": "2025-05-12T12:00:00+00:00",
        "last_seen": "2025-05-12T12:00:00+00:00",
    }


def test_a_limit_says_that_there_is_more(wrm: Run, letters: list[DeadLetter]) -> None:
    code, out, _ = wrm("list", "--limit", "2")

    assert code == 0
    assert sum(line[0] != "" for line in cells(out)) == 2
    assert "There are more than these 2; --limit shows more of them." in out
    assert "There are more" not in wrm("list", "--limit", "3")[1]


def test_a_letter_that_cannot_be_read_is_named_and_the_others_are_listed(
    wrm: Run, lake: Lake, letters: list[DeadLetter]
) -> None:
    key = lake.keys.dead_letter(DAY, of_stage(letters, Stage.RAW).id)
    lake.store.put(key, b"{", content_type="application/json")

    code, out, _ = wrm("list")

    assert code == 0
    assert sum(line[0] != "" for line in cells(out)) == 2
    assert f"{key} is not a dead letter of a known version" in out
    assert key in json.loads(wrm("list", "--json")[1])["unreadable"][0]
    assert key in wrm("stats")[1]
    assert key in wrm("redrive", "--dry-run")[1]


@pytest.mark.parametrize("arguments", [("--day", "yesterday"), ("--stage", "x"), ("--status", "x"), ("--limit", "0")])
def test_wrong_usage_is_exit_code_2(wrm: Run, arguments: tuple[str, ...]) -> None:
    assert wrm("list", *arguments)[0] == 2


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_takes_as_much_of_an_id_as_is_unique(wrm: Run, letters: list[DeadLetter]) -> None:
    letter = of_stage(letters, Stage.PROCESSED)

    shown = {wrm("show", letter.id[:length])[1] for length in (12, 36)}
    code, out, err = wrm("show", letter.id[:12].upper())

    assert (code, err) == (0, "")
    assert shown == {out}
    assert letter.id in out
    assert letter.source_key in out
    assert ["3", "not_a_number"] in [line[:2] for line in cells(out)]
    assert "No redrive has tried it yet." in out


def test_show_as_json_is_the_envelope(wrm: Run, letters: list[DeadLetter]) -> None:
    letter = of_stage(letters, Stage.PROCESSED)

    code, out, _ = wrm("show", letter.id, "--json")

    assert code == 0
    assert json.loads(out) == letter.model_dump(mode="json")


def test_show_tells_what_redrives_made_of_it(wrm: Run, lake: Lake, letters: list[DeadLetter]) -> None:
    redrive(lake, FORMAT, CONTRACTS.enhanced, WHO)

    out = wrm("show", of_stage(letters, Stage.PROCESSED).id)[1]

    assert "1 of 3" in out
    assert cells(out)[-1][:2] == [f"{DAY} 12:00:00", "rejected_again"]


@pytest.mark.parametrize("beginning", ["zz", "", " ", "../"])
def test_an_id_that_no_letter_has_is_one_sentence(wrm: Run, letters: list[DeadLetter], beginning: str) -> None:
    code, out, err = wrm("show", beginning)

    assert (code, out) == (1, "")
    assert err.startswith("wrm: ")
    assert len(err.strip().splitlines()) == 1
    assert "dead letter" in err


def test_a_beginning_that_several_have_is_one_sentence(wrm: Run, lake: Lake) -> None:
    for number in range(17):  # two of 17 begin with the same of 16 digits
        set_aside(lake, FORMAT, b"<html>%d" % number, Fault(PayloadFault.HTML, "."), at(9), WHO)
    firsts = [x.id[0] for x in letters_of(lake, DAY)]
    common = next(first for first in firsts if firsts.count(first) > 1)

    code, _, err = wrm("show", common)

    assert code == 1
    assert err == f"wrm: {firsts.count(common)} dead letters have an id that begins with '{common}'. Give more of it.\n"


def test_a_damaged_letter_cannot_be_shown_and_says_so(wrm: Run, lake: Lake, letters: list[DeadLetter]) -> None:
    letter = of_stage(letters, Stage.RAW)
    lake.store.put(lake.keys.dead_letter(DAY, letter.id), b"{", content_type="application/json")

    code, _, err = wrm("show", letter.id)

    assert code == 1
    assert "is not a dead letter of a known version" in err
    assert len(err.strip().splitlines()) == 1


# --- redrive ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_what_waits_and_changes_nothing(wrm: Run, lake: Lake, letters: list[DeadLetter]) -> None:
    before = contents(lake)

    (code, out, err), (_, text, _) = wrm("redrive", "--dry-run"), wrm("redrive", "--dry-run", "--json")

    assert (code, err) == (0, "")
    assert cells(out) == [[str(EARLIER), "1", "1"], [str(DAY), "2", "3"]]
    assert "Nothing was changed." in out
    assert [(x["day"], x["letters"], x["records"]) for x in json.loads(text)] == [
        (str(EARLIER), 1, 1),
        (str(DAY), 2, 3),
    ]
    assert contents(lake) == before


def test_a_redrive_shows_what_came_of_each_day_and_that_some_were_rejected_is_no_error(
    wrm: Run, lake: Lake, letters: list[DeadLetter]
) -> None:
    # The cause of one is gone: somebody repaired the source, as happens to files that were uploaded by hand.
    put_raw(lake, at(8, day=EARLIER), payload(row("1"), row("2", bikes="1"), end=b"\n"))

    code, out, _ = wrm("redrive")

    assert code == 0
    assert cells(out) == [[str(EARLIER), "1", "0", "0", "1"], [str(DAY), "0", "2", "0", "0"]]
    assert "2 letters were rejected again" in out
    assert [x.status for x in letters_of(lake, EARLIER)] == [Status.REPROCESSED]


def test_a_redrive_as_json_keeps_standard_output_to_itself(wrm: Run, lake: Lake, letters: list[DeadLetter]) -> None:
    code, out, _ = wrm("redrive", "--json", "--stage", "processed", "--day", str(DAY))

    assert code == 0
    document = json.loads(out)
    (day,) = document["days"]
    assert (day["day"], day["reprocessed"], day["rejected"], day["given_up"]) == (str(DAY), 0, 1, 0)
    assert {x.stage: x.retry_count for x in letters_of(lake, DAY)} == {Stage.PROCESSED: 1, Stage.RAW: 0}
    assert [x.retry_count for x in letters_of(lake, EARLIER)] == [0]


def test_when_nothing_waits_it_says_so(wrm: Run, letters: list[DeadLetter]) -> None:
    assert "No such dead letter waits for a redrive." in wrm("redrive", "--rule", "bad_quoting")[1]
    assert "No such dead letter waits for a redrive." in wrm("redrive", "--rule", "bad_quoting", "--dry-run")[1]


def test_a_day_that_cannot_be_redriven_is_exit_code_1_and_the_others_are_done(
    wrm: Run, lake: Lake, letters: list[DeadLetter]
) -> None:
    damaged = lake.keys.raw(at(8, day=EARLIER))
    lake.store._client.put_object(Bucket=lake.store.bucket, Key=damaged, Body=b"x", Metadata={"sha256": "0" * 64})

    code, out, err = wrm("redrive")

    assert code == 1
    assert cells(out) == [[str(EARLIER), "0", "0", "0", "0", "failed"], [str(DAY), "0", "2", "0", "0"]]
    assert f"wrm: {EARLIER} could not be redriven; the next redrive goes on with it." in err
    assert damaged in err


@pytest.mark.parametrize("command", [("list",), ("show", "a"), ("redrive",), ("stats",)])
def test_a_store_that_is_down_is_one_sentence_and_exit_code_1(
    wrm: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    code, out, err = wrm(*command)

    assert (code, out) == (1, "")
    assert "S3_ENDPOINT_URL" in err
    assert "Traceback" not in err


# --- stats ------------------------------------------------------------------------------------------------------------


def test_stats_count_by_day_rule_stage_and_status_and_name_alerts(
    wrm: Run, lake: Lake, letters: list[DeadLetter]
) -> None:
    for _ in range(3):
        redrive(lake, FORMAT, CONTRACTS.enhanced, WHO, days=[EARLIER])

    (code, out, err), (_, text, _) = wrm("stats"), wrm("stats", "--json")

    assert (code, err) == (0, "")
    assert cells(out) == [
        [str(EARLIER), "negative_count", "processed", "failed_permanently", "1", "1"],
        [str(DAY), "control_character", "processed", "pending_reprocessing", "1", "1"],
        [str(DAY), "html", "raw", "pending_reprocessing", "1", "1"],
        [str(DAY), "not_a_number", "processed", "pending_reprocessing", "1", "1"],
    ]
    assert f"{EARLIER}: 1 alert about letters given up on." in out
    document = json.loads(text)
    assert [list(map(str, entry.values())) for entry in document["counts"]] == cells(out)
    assert document["letters"] == {"failed_permanently": 1, "pending_reprocessing": 2}
    assert document["alerts"] == {str(EARLIER): 1}
    assert len(cells(wrm("stats", "--day", str(EARLIER))[1])) == 1


def test_stats_of_an_empty_lake(wrm: Run) -> None:
    assert wrm("stats")[:2] == (0, "There are no dead letters.\n")


def test_a_terminal_of_80_columns_shows_a_letter_with_a_long_row_readably(
    wrm: Run, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_raw(lake, at(8), payload(row("2", bikes="x", name="y" * 300), end=b"\n"))
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, WHO)
    monkeypatch.setenv("COLUMNS", "80")

    (line,) = [x for x in cells(wrm("show", letters_of(lake, DAY)[0].id)[1]) if x[0] == "2"]

    assert line[1] == "not_a_number"
    assert len(line[2]) >= 15
    assert line[3].endswith("…")
    assert len(line[3]) >= 10


# --- What a row cannot do ---------------------------------------------------------------------------------------------


def test_a_row_from_the_feed_cannot_command_the_terminal(wrm: Run, letters: list[DeadLetter]) -> None:
    letter = of_stage(letters, Stage.PROCESSED)

    for arguments in (("show", letter.id), ("list",), ("show", letter.id, "--json")):
        out = wrm(*arguments)[1]
        assert not {c for c in out if not c.isprintable()} - {"\n"}
    out = wrm("show", letter.id)[1]
    assert "[red]Rynek[/red]" in out, "markup is text"
    assert json.loads(wrm("show", letter.id, "--json")[1])["records"][1]["row"] == letter.records[1].row


def test_text_keeps_letters_and_loses_commands() -> None:
    assert safe_text("Główny\u00a0[b]\n\x1b[0m\u200e").plain == "Główny [b] \ufffd[0m\ufffd"


def test_json_keeps_every_character_escaped() -> None:
    text = safe_json({"row": HOSTILE + "Główny"})

    assert json.loads(text) == {"row": HOSTILE + "Główny"}
    assert "Główny" in text
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("command", ["list", "show", "redrive", "stats"])
def test_every_command_explains_itself(wrm: Run, command: str) -> None:
    code, out, err = wrm(command, "--help")

    assert (code, err) == (0, "")
    assert f"wrm dlq {command} [OPTIONS]" in out.splitlines()[0]
    assert "--json" in out

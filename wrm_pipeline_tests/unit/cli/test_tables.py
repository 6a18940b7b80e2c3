"""What the commands print."""

import datetime as dt
import io
import json
from dataclasses import asdict

import pytest
from rich.console import Console

from wrm_pipeline.cli.tables import duration, print_findings, print_status, to_json
from wrm_pipeline.lake.doctor import Finding
from wrm_pipeline.layers.status import DayStatus, LakeStatus

NOW = dt.datetime(2025, 5, 12, 18, 21, tzinfo=dt.UTC)
DAY = DayStatus(
    day=dt.date(2025, 5, 12),
    raw_objects=2,
    enhanced_objects=1,
    rows_in=1353,
    rows_kept=1350,
    rows_dead=2,
    rows_duplicate=1,
    files_set_aside=0,
    dead_letters={"bad_coordinates": 2},
    unreadable_letters=0,
)
STATUS = LakeStatus(
    at=NOW,
    store="s3://bucket/bike-data/",
    newest_snapshot=NOW - dt.timedelta(minutes=1),
    age_s=60.0,
    lag_s=60.0,
    latest_rows={"station": 235, "bike": 116, "unknown": 0},
    days=(DAY,),
)


def printed(status: LakeStatus) -> str:
    text = io.StringIO()
    print_status(status, Console(file=text, width=120))
    return text.getvalue()


def cells(text: str) -> list[list[str]]:
    """Return the body of all tables, row by row."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min 0 s"),
        (425.0, "7 min 5 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (11_520.0, "3 h 12 min"),
        (187_200.0, "2 d 4 h"),
    ],
)
def test_durations_are_for_reading(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_status_shows_snapshot_lag_rows_and_letters() -> None:
    text = printed(STATUS)

    assert "s3://bucket/bike-data/ at 2025-05-12 18:21:00 UTC" in text
    assert "2025-05-12 18:20:00 UTC, 1 min 0 s old" in text
    assert "1 min 0 s behind raw" in text
    assert "235 station, 116 bike, 0 unknown rows" in text
    assert cells(text) == [
        ["2025-05-12", "2", "1", "1,353", "1,350", "2", "1"],
        ["2025-05-12", "bad_coordinates", "2"],
    ]


def test_a_lake_that_is_up_to_date_and_clean_says_so() -> None:
    day = DayStatus(**{**asdict(DAY), "dead_letters": {}})

    text = printed(LakeStatus(**{**vars(STATUS), "lag_s": 0.0, "latest_rows": {}, "days": (day,)}))

    assert "nothing waits" in text
    assert "No dead letters on these days." in text
    assert "latest in enhanced" not in text


def test_an_empty_lake_says_what_fills_it() -> None:
    text = printed(LakeStatus(at=NOW, store="s3://bucket/"))

    assert "Raw holds no snapshot yet." in text
    assert "wrm run" in text
    assert cells(text) == []


def test_letters_are_shown_even_when_raw_is_empty() -> None:
    day = DayStatus(**{**asdict(DAY), "raw_objects": 0, "dead_letters": {"html": 288}, "unreadable_letters": 1})

    text = printed(LakeStatus(at=NOW, store="s3://bucket/", days=(day,)))

    assert "Raw holds no snapshot yet." in text
    assert cells(text)[1:] == [
        ["2025-05-12", "html", "288"],
        ["2025-05-12", "(letters that cannot be read)", "1"],
    ]


def test_markup_in_a_bucket_s_name_is_text() -> None:
    assert "s3://[red]bucket" in printed(LakeStatus(at=NOW, store="s3://[red]bucket"))


def test_findings_are_a_line_each_with_a_remedy() -> None:
    text = io.StringIO()
    findings = [
        Finding("reachable", "ok", "answers in 3 ms", ""),
        Finding("clock", "fail", "20 min [ahead]", "Set the clock."),
    ]
    print_findings(findings, Console(file=text, width=120))

    assert cells(text.getvalue()) == [
        ["reachable", "ok", "answers in 3 ms", ""],
        ["clock", "fail", "20 min [ahead]", "Set the clock."],
    ]


def test_json_has_iso_times_and_plain_numbers() -> None:
    document = json.loads(to_json(asdict(STATUS)))

    assert document["at"] == "2025-05-12T18:21:00+00:00"
    assert document["lag_s"] == 60.0
    assert document["days"][0]["day"] == "2025-05-12"
    assert document["days"][0]["dead_letters"] == {"bad_coordinates": 2}


def test_json_keeps_polish_letters() -> None:
    assert "Wrocław" in to_json({"name": "Wrocław"})

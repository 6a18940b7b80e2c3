"""The dead-letter asset: a day's letters by rule, stage and status."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.contracts.load import PACKAGED, SUFFIX
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline_tests.fixtures.dagster import DAY, DAY_ASSETS, Pipeline, at, letters_of, put_raw

ASSET = DAY_ASSETS[2]


def with_row(body: bytes, row: bytes) -> bytes:
    return body + b"\n" + row


def report(pipeline: Pipeline) -> dict[str, object]:
    run = pipeline.process(DAY)
    assert run.success
    return pipeline.materializations(run, ASSET)[DAY.isoformat()]


def test_a_day_without_letters_says_so(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))

    metadata = report(pipeline)

    assert metadata["dagster/uri"] == pipeline.lake.store.uri(pipeline.lake.keys.dead_letter_day(DAY))
    assert metadata["dagster/partition_row_count"] == metadata["letters"] == metadata["records"] == 0
    assert metadata["by_rule"] == "No dead letters on this day."


def test_letters_are_reported_by_rule_stage_and_status(pipeline: Pipeline) -> None:
    good = snapshot(1, at(8))
    put_raw(pipeline.lake, at(8), with_row(with_row(good, b"1,2,3"), b"4,5"))
    put_raw(pipeline.lake, at(9), with_row(snapshot(1, at(9)), b"9"))
    put_raw(pipeline.lake, at(10), b"<html><body>maintenance</body></html>")

    metadata = report(pipeline)

    letters = letters_of(pipeline.lake, DAY)
    assert metadata["letters"] == metadata["inputs"] == len(letters) == 3
    assert metadata["records"] == metadata["dagster/partition_row_count"] == 4
    assert metadata["status_pending_reprocessing"] == 3
    assert metadata["unreadable_letters"] == 0
    assert metadata["bytes"] == sum(
        info.size for info in pipeline.lake.store.list(pipeline.lake.keys.dead_letter_day(DAY))
    )
    head, _, *rows = str(metadata["by_rule"]).splitlines()
    assert head == "| rule | stage | status | records |"
    assert rows == [
        "| truncated_row | processed | pending_reprocessing | 2 |",
        "| html | processed | pending_reprocessing | 1 |",
        "| too_few_fields | processed | pending_reprocessing | 1 |",
    ]


def test_the_preview_names_file_line_rule_and_reason(pipeline: Pipeline) -> None:
    body = snapshot(1, at(8))
    put_raw(pipeline.lake, at(8), with_row(body, b"1,2,3"))

    metadata = report(pipeline)

    (line,) = str(metadata["preview"]).splitlines()[2:]
    assert line.startswith(f"| wrm_stations_{DAY}_08-00-00.txt | {len(body.splitlines()) + 1} | ")


def test_a_letter_that_cannot_be_read_is_counted_named_in_the_log_and_left_as_it_is(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8), with_row(snapshot(1, at(8)), b"1,2,3"))
    key = pipeline.lake.keys.dead_letter(DAY, "11111111-2222-3333-4444-555555555555")
    pipeline.lake.store.put(key, b'{"schema_version": 99}', content_type="application/json")

    run = pipeline.process(DAY)

    metadata = pipeline.materializations(run, ASSET)[DAY.isoformat()]
    assert (metadata["letters"], metadata["unreadable_letters"]) == (1, 1)
    assert any(key in message and "left as it is" in message for message in pipeline.messages(run))
    assert pipeline.lake.store.get(key).body == b'{"schema_version": 99}'


def test_it_runs_after_enhanced_although_it_does_not_depend_on_it(pipeline: Pipeline) -> None:
    """Else the letters of this run's enhanced would be in the next report only."""
    put_raw(pipeline.lake, at(8))

    run = pipeline.process(DAY)

    started = [event.step_key for event in run.all_events if event.event_type is dg.DagsterEventType.STEP_START]
    assert [step for step in started if step in DAY_ASSETS] == list(DAY_ASSETS)
    assert pipeline.defs.resolve_asset_graph().get(dg.AssetKey(ASSET)).parent_keys == {dg.AssetKey(DAY_ASSETS[0])}


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `overfull` an error, as an operator does: with a copy of the contract, one line of which is another."""
    name = f"{DAY_ASSETS[1]}{SUFFIX}"
    text = (PACKAGED / name).read_text(encoding="utf-8")
    before, rule, after = text.partition("      - name: overfull\n")
    (tmp_path / name).write_text(before + rule + after.replace("severity: warning", "severity: error", 1), "utf-8")
    monkeypatch.setenv("WRM_CONTRACTS_DIR", str(tmp_path))
    active_contracts.cache_clear()
    yield
    active_contracts.cache_clear()


def test_rows_that_enhanced_sets_aside_are_in_the_report_of_the_same_run(pipeline: Pipeline, strict: None) -> None:
    put_raw(pipeline.lake, at(8))

    run = pipeline.process(DAY)

    assert run.success
    enhanced = pipeline.materializations(run, DAY_ASSETS[1])[DAY.isoformat()]
    metadata = pipeline.materializations(run, ASSET)[DAY.isoformat()]
    assert enhanced["rows_dead"] > 0
    assert (metadata["letters"], metadata["records"]) == (1, enhanced["rows_dead"])
    (line,) = str(metadata["by_rule"]).splitlines()[2:]
    assert line == f"| overfull | enhanced | pending_reprocessing | {enhanced['rows_dead']} |"
    assert enhanced["contract"] == active_contracts().enhanced.stamp
    assert "flag_overfull" not in enhanced


def test_the_data_version_changes_with_the_letters_only(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))

    def version() -> str:
        event = pipeline.process(DAY).asset_materializations_for_node(ASSET)[0]
        assert event.tags is not None
        return event.tags["dagster/data_version"]

    clean, again = version(), version()
    put_raw(pipeline.lake, at(9), with_row(snapshot(1, at(9)), b"1,2,3"))

    assert clean == again
    assert version() != clean

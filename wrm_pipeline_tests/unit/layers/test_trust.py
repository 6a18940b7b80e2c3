"""Judging days as they lie in a real store, and who may use them."""

import datetime as dt
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from wrm_pipeline.contracts.model import Contract, Contracts, Severity
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.day_object import Manifest, Source, encode, object_metadata
from wrm_pipeline.lake.dead_letters import Status, list_letters, read_letter, store_letter
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import PARQUET, Lake, StoredDay
from wrm_pipeline.layers import trust
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline.layers.trust import (
    MissingDayError,
    UntrustedDayError,
    judge_day,
    judge_day_of_letters,
    manifest_blocks,
    require_trusted,
    rules_of,
)
from wrm_pipeline.transform.quality import Judgment
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.dagster import DAY, at, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, payload, recorded, row

WHO = Provenance("run-1", "wrm_stations_enhanced_data_all")
NOW = at(12, day=DAY + dt.timedelta(days=3))
ONE_DAY = dt.timedelta(days=1)
SCHEMAS = {Layer.PROCESSED: PROCESSED, Layer.ENHANCED: ENHANCED}


def build(lake: Lake, day: dt.date = DAY) -> None:
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, WHO)


def a_day(lake: Lake, *, bad_share: float = 0.0, hours: int = 2, day: dt.date = DAY) -> None:
    """Build a day of some snapshots of the city, in which a share of the rows is bad."""
    for hour in range(hours):
        body = snapshot(1, at(hour, day=day))
        count = round(bad_share * body.count(b"\n"))
        put_raw(lake, at(hour, day=day), with_bad_rows(body, count, 0))
    build(lake, day)


def stored(lake: Lake, layer: Layer = Layer.ENHANCED, day: dt.date = DAY) -> StoredDay:
    found = lake.read_day(layer, day, SCHEMAS[layer])
    assert found is not None
    return found


def judged(lake: Lake, layer: Layer = Layer.ENHANCED, **arguments: Any) -> dict[str, Judgment]:
    found = judge_day(lake, CONTRACTS, layer, DAY, **{"now": NOW, **arguments})
    return {judgment.rule.name: judgment for judgment in found}


def having(contract: Contract, rule: str, severity: Severity) -> Contract:
    """A contract with the severity of one rule replaced."""
    return replace(contract, rules={**contract.rules, rule: replace(contract.rules[rule], severity=severity)})


def blocking(judgments: Mapping[str, Judgment]) -> set[str]:
    return {name for name, judgment in judgments.items() if judgment.blocks}


# Good days


@pytest.mark.parametrize("folder", ["ucl_wroclaw", "replay_wroclaw", "ucl_london"])
def test_recorded_days_pass_every_blocking_check_and_may_be_used(lake: Lake, folder: str) -> None:
    snapshots = recorded(folder)
    (day,) = {item.time.date() for item in snapshots}
    for item in snapshots:
        put_raw(lake, item.time, item.body)
    build(lake, day)

    for layer in Layer:
        judgments = judge_day(lake, CONTRACTS, layer, day, now=NOW)
        assert [judgment.rule for judgment in judgments] == list(rules_of(CONTRACTS, layer))
        errors = [judgment for judgment in judgments if judgment.rule.is_error]
        assert len(errors) == {Layer.PROCESSED: 4, Layer.ENHANCED: 5}[layer]
        assert all(judgment.passed for judgment in errors)
    trusted = require_trusted(lake, CONTRACTS, day)
    assert trusted.rows.equals(stored(lake, day=day).rows)
    assert trusted.rows.schema == ENHANCED
    assert trusted.info.etag == stored(lake, day=day).info.etag
    assert not manifest_blocks(trusted.manifest, CONTRACTS)


def test_the_blocking_rules_alone_are_judged_for_what_is_downstream(lake: Lake) -> None:
    a_day(lake)

    found = {layer: trust._judge_blocking(lake, CONTRACTS, stored(lake, layer)) for layer in Layer}

    assert {layer: [judgment.rule.name for judgment in judgments] for layer, judgments in found.items()} == {
        Layer.PROCESSED: ["schema", "reconciliation", "inputs", "unique"],
        Layer.ENHANCED: ["schema", "reconciliation", "inputs", "unique", "dead_letter_ratio"],
    }


def test_only_the_rules_that_were_asked_for_are_judged(lake: Lake) -> None:
    a_day(lake)

    assert set(judged(lake, only={"unique", "volume"})) == {"unique", "volume"}


# What is read


def requests(lake: Lake, act: Callable[[], object]) -> dict[str, int]:
    before = lake.store.traffic.snapshot()
    act()
    return dict((lake.store.traffic.snapshot() - before).requests)


def test_a_day_is_read_once_and_weeks_are_asked_for_by_a_head(lake: Lake) -> None:
    a_day(lake)

    # The day and the day before it; raw, days of raw, days built; four weeks.
    assert requests(lake, lambda: judged(lake)) == {"get": 2, "list": 3, "head": 4}
    assert requests(lake, lambda: judged(lake, Layer.PROCESSED)) == {"get": 1, "list": 3}
    assert requests(lake, lambda: require_trusted(lake, CONTRACTS, DAY)) == {"get": 2, "list": 2}


def test_dead_letters_are_read_when_there_are_any_and_by_what_is_downstream_when_there_are_too_many(lake: Lake) -> None:
    a_day(lake, bad_share=0.02)

    assert requests(lake, lambda: judged(lake))["get"] == 2 + 2
    assert requests(lake, lambda: require_trusted(lake, CONTRACTS, DAY))["get"] == 2


# Missing and damaged days


@pytest.mark.parametrize("layer", Layer)
def test_a_day_that_is_not_there_fails_every_rule_with_what_to_do(lake: Lake, layer: Layer) -> None:
    judgments = judged(lake, layer)

    assert not any(judgment.passed for judgment in judgments.values())
    assert blocking(judgments) == {rule.name for rule in rules_of(CONTRACTS, layer) if rule.is_error}
    (summary,) = {judgment.summary for judgment in judgments.values()}
    uri = lake.store.uri(lake.keys.layer_object(layer, DAY))
    assert summary == (
        f"There is no {layer} day 2025-05-12: {uri} is missing. Build wrm_stations_{layer}_data_all for this day."
    )


def test_what_is_downstream_of_a_day_that_is_not_there_is_told_to_build_it(lake: Lake) -> None:
    with pytest.raises(MissingDayError, match=r"no enhanced day 2025-05-12: .* Build wrm_stations_enhanced_data_all"):
        require_trusted(lake, CONTRACTS, DAY)
    assert issubclass(MissingDayError, LayerError)


def put(lake: Lake, rows: pa.Table, manifest: Manifest, *, key: str = "") -> None:
    """Put a day's object into the lake as somebody's own script might."""
    place = key or lake.keys.layer_object(manifest.layer, manifest.day)
    lake.store.put(place, encode(rows, manifest), content_type=PARQUET, metadata=object_metadata(manifest))


def counts(manifest: Manifest, index: int, **changes: int) -> Manifest:
    """The manifest with other numbers for one of its sources."""
    sources = list(manifest.sources)
    sources[index] = replace(sources[index], **changes)
    return replace(manifest, sources=tuple(sources))


def a_column_dropped(day: StoredDay) -> tuple[pa.Table, Manifest]:
    return day.rows.drop(["bikes"]), day.manifest


def a_column_retyped(day: StoredDay) -> tuple[pa.Table, Manifest]:
    at_lat = day.rows.column_names.index("lat")
    return day.rows.set_column(at_lat, "lat", day.rows.column("lat").cast(pa.float32())), day.manifest


def a_column_added(day: StoredDay) -> tuple[pa.Table, Manifest]:
    return day.rows.append_column("extra", pa.array([1] * day.rows.num_rows)), day.manifest


def a_bound_broken(day: StoredDay) -> tuple[pa.Table, Manifest]:
    field = day.rows.schema.field("bikes")
    bikes = pa.array([-1, *day.rows.column("bikes").to_pylist()[1:]], pa.int32())
    return day.rows.set_column(day.rows.column_names.index("bikes"), field, bikes), day.manifest


def a_row_twice(day: StoredDay) -> tuple[pa.Table, Manifest]:
    first = day.manifest.sources[0]
    rows = pa.concat_tables([day.rows.slice(0, 1), day.rows])
    return rows, counts(day.manifest, 0, rows=first.rows + 1, kept=first.kept + 1)


def a_source_that_lost_a_row(day: StoredDay) -> tuple[pa.Table, Manifest]:
    return day.rows, counts(day.manifest, 0, rows=day.manifest.sources[0].rows + 1)


def a_row_counted_with_another_source(day: StoredDay) -> tuple[pa.Table, Manifest]:
    first, second = day.manifest.sources
    moved = counts(day.manifest, 0, rows=first.rows - 1, kept=first.kept - 1)
    return day.rows, counts(moved, 1, rows=second.rows + 1, kept=second.kept + 1)


def an_input_of_another_etag(day: StoredDay) -> tuple[pa.Table, Manifest]:
    first, *others = day.manifest.sources
    return day.rows, replace(day.manifest, sources=(replace(first, etag="0" * 32), *others))


DAMAGE = [
    (a_column_dropped, "schema"),
    (a_column_retyped, "schema"),
    (a_column_added, "schema"),
    (a_bound_broken, "schema"),
    (a_row_twice, "unique"),
    (a_source_that_lost_a_row, "reconciliation"),
    (a_row_counted_with_another_source, "reconciliation"),
    (an_input_of_another_etag, "inputs"),
]


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize(("damage", "rule"), DAMAGE, ids=lambda x: getattr(x, "__name__", x))
def test_a_day_changed_by_hand_is_caught_by_the_check_for_it_and_flows_nowhere(
    lake: Lake, layer: Layer, damage: Callable[[StoredDay], tuple[pa.Table, Manifest]], rule: str
) -> None:
    a_day(lake)
    require_trusted(lake, CONTRACTS, DAY)
    put(lake, *damage(stored(lake, layer)))

    judgments = judged(lake, layer)

    failing = blocking(judgments)
    assert rule in failing
    # A column that is gone leaves some rules without anything to look at; nothing else blames another rule.
    assert failing == {rule} or "cannot be judged" in "".join(judgments[other].summary for other in failing - {rule})
    with pytest.raises(
        UntrustedDayError, match=rf"2025-05-12 fails .*{layer} {rule}: .*run wrm_stations_processing_job"
    ):
        require_trusted(lake, CONTRACTS, DAY)


def test_rows_that_are_not_as_many_as_the_manifest_counts_cannot_be_judged_at_all(lake: Lake) -> None:
    a_day(lake)
    day = stored(lake)
    put(lake, day.rows.slice(1), day.manifest)

    judgments = judged(lake)

    assert not any(judgment.passed for judgment in judgments.values())
    assert f"holds {day.rows.num_rows - 1} rows where its manifest counts" in judgments["reconciliation"].summary
    with pytest.raises(UntrustedDayError, match=r"is damaged \(holds .*Build wrm_stations_enhanced_data_all"):
        require_trusted(lake, CONTRACTS, DAY)


@pytest.mark.parametrize("layer", Layer)
def test_half_an_object_flows_nowhere(lake: Lake, layer: Layer) -> None:
    a_day(lake)
    key = lake.keys.layer_object(layer, DAY)
    body = lake.store.get(key).body
    lake.store.put(key, body[: len(body) // 2], content_type=PARQUET)

    assert blocking(judged(lake, layer)) == {rule.name for rule in rules_of(CONTRACTS, layer) if rule.is_error}
    with pytest.raises(UntrustedDayError, match=f"The {layer} day 2025-05-12 cannot be judged: .* is damaged"):
        require_trusted(lake, CONTRACTS, DAY)


def test_another_days_object_under_a_days_key_is_not_that_day(lake: Lake) -> None:
    a_day(lake)
    a_day(lake, day=DAY + ONE_DAY)
    tomorrow = stored(lake, day=DAY + ONE_DAY)
    put(lake, tomorrow.rows, tomorrow.manifest, key=lake.keys.layer_object(Layer.ENHANCED, DAY))

    with pytest.raises(UntrustedDayError, match="holds enhanced of 2025-05-13"):
        require_trusted(lake, CONTRACTS, DAY)


def test_a_day_outlives_its_processed_object(lake: Lake) -> None:
    """Enhanced is a function of raw, and what it was made through can be made again."""
    a_day(lake)
    lake.store.delete(lake.keys.layer_object(Layer.PROCESSED, DAY))

    assert require_trusted(lake, CONTRACTS, DAY).rows.num_rows > 0


# Raw has moved on


def test_a_snapshot_that_waits_is_a_warning_and_the_day_flows(lake: Lake) -> None:
    a_day(lake)
    put_raw(lake, at(5))

    judgment = judged(lake)["inputs"]

    assert (judgment.passed, judgment.blocks) == (False, False)
    require_trusted(lake, CONTRACTS, DAY)


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_day_built_from_what_raw_holds_no_more_is_blocked(lake: Lake, change: str) -> None:
    a_day(lake)
    if change == "removed":
        lake.store.delete(lake.keys.raw(at(0)))
    else:
        put_raw(lake, at(0), snapshot(2, at(0)))

    assert blocking(judged(lake)) == {"inputs"}
    with pytest.raises(UntrustedDayError, match="enhanced inputs: "):
        require_trusted(lake, CONTRACTS, DAY)
    build(lake)
    require_trusted(lake, CONTRACTS, DAY)


# Dead letters


@pytest.mark.parametrize(("share", "passed", "blocks"), [(0.04, True, False), (0.1, False, False), (0.25, False, True)])
def test_a_day_with_too_many_dead_letters_warns_and_with_far_too_many_flows_nowhere(
    lake: Lake, share: float, passed: bool, blocks: bool
) -> None:
    a_day(lake, bad_share=share)

    judgment = judged(lake)["dead_letter_ratio"]

    assert (judgment.passed, judgment.blocks) == (passed, blocks)
    assert sum(int(str(entry["rows"])) for entry in judgment.failing) == judgment.figures["rows_dead"]
    assert manifest_blocks(stored(lake).manifest, CONTRACTS) is blocks
    if blocks:
        with pytest.raises(UntrustedDayError, match=r"over 20 %\. Most often: .*wrm dlq list --day 2025-05-12"):
            require_trusted(lake, CONTRACTS, DAY)
    else:
        require_trusted(lake, CONTRACTS, DAY)


def test_what_blocks_is_the_contracts_to_say(lake: Lake) -> None:
    a_day(lake, bad_share=0.25)
    lenient = replace(CONTRACTS, enhanced=having(CONTRACTS.enhanced, "dead_letter_ratio", Severity.WARNING))
    strict = replace(CONTRACTS, enhanced=having(lenient.enhanced, "snapshots_received", Severity.ERROR))

    require_trusted(lake, lenient, DAY)
    assert not manifest_blocks(stored(lake).manifest, lenient)
    with pytest.raises(
        UntrustedDayError,
        match=r"it\. enhanced snapshots_received: 2 snapshots came of 288 expected \(0\.694 %\)\. Look",
    ):
        require_trusted(lake, strict, DAY)


def test_letters_that_came_back_and_files_that_were_set_aside_are_no_dead_rows(lake: Lake) -> None:
    put_raw(lake, at(6), payload(row(), b"1,2"))
    put_raw(lake, at(7), payload(row(), b"1,2,3", b"4,5"))
    put_raw(lake, at(8), b"<html></html>")
    build(lake)
    letters = [read_letter(lake.store, key) for key in list_letters(lake.store, lake.keys, DAY)]
    (back,) = [letter for letter in letters if letter.source_key == lake.keys.raw(at(6))]
    store_letter(lake.store, lake.keys, back.model_copy(update={"status": Status.REPROCESSED}))

    failing = judged(lake)["dead_letter_ratio"].failing

    assert {entry["rule"]: entry["rows"] for entry in failing} == {"too_few_fields": 1, "truncated_row": 1}


def test_sums_that_do_not_balance_are_seen_in_the_manifest_alone(lake: Lake) -> None:
    a_day(lake)
    manifest = counts(stored(lake).manifest, 0, duplicates=1)
    lenient = replace(CONTRACTS, enhanced=having(CONTRACTS.enhanced, "reconciliation", Severity.WARNING))

    assert manifest_blocks(manifest, CONTRACTS)
    assert not manifest_blocks(manifest, lenient)


def test_letters_that_cannot_be_read_are_judged_beside_those_that_can(lake: Lake) -> None:
    a_day(lake, bad_share=0.02)
    (good,) = judge_day_of_letters(lake, CONTRACTS, DAY)
    key = lake.keys.dead_letter(DAY, "11111111-2222-3333-4444-555555555555")
    lake.store.put(key, b"{", content_type="application/json")

    (judgment,) = judge_day_of_letters(lake, CONTRACTS, DAY)

    assert (good.passed, good.figures) == (True, {"letters": 2, "unreadable": 0})
    assert (judgment.passed, judgment.figures) == (False, {"letters": 2, "unreadable": 1})
    assert key in str(judgment.failing[0]["letter"])


# Other days


def test_weeks_before_are_known_by_what_their_objects_say_of_themselves(lake: Lake) -> None:
    a_day(lake)
    rows = stored(lake).manifest.total("kept")
    for back, count in ((1, rows), (2, 3 * rows), (3, 3 * rows), (5, 1)):
        past = DAY - dt.timedelta(weeks=back)
        sources = (Source("raw/1.txt", "e", count, count),)
        manifest = Manifest(Layer.ENHANCED, past, "1", sources)
        lake.store.put(
            lake.keys.layer_object(Layer.ENHANCED, past), b"x", content_type=PARQUET, metadata=object_metadata(manifest)
        )
    # Four weeks back an object of code that recorded no rows.
    older = lake.keys.layer_object(Layer.ENHANCED, DAY - dt.timedelta(weeks=4))
    lake.store.put(older, b"x", content_type=PARQUET)

    judgment = judged(lake)["volume"]

    assert (judgment.passed, judgment.figures["days"], judgment.figures["usual"]) == (False, 3, 3 * rows)


def test_snapshots_are_held_against_the_day_before(lake: Lake) -> None:
    put_raw(lake, at(23, 55, day=DAY - ONE_DAY), payload(row()))
    build(lake, DAY - ONE_DAY)
    put_raw(lake, at(0), payload(row(bikes="1")))
    build(lake)

    now = at(0, 1)
    assert judged(lake, now=now)["late_snapshot"].passed
    lake.store.delete(lake.keys.raw(at(0)))
    put_raw(lake, at(0, 5), payload(row(bikes="1")))
    build(lake)
    assert not judged(lake, now=now)["late_snapshot"].passed


def test_days_of_raw_that_are_not_built_are_named_the_running_one_and_those_before_the_first_aside(lake: Lake) -> None:
    a_day(lake)
    for day in (DAY - 2 * ONE_DAY, DAY - ONE_DAY, DAY + ONE_DAY, NOW.date()):
        put_raw(lake, at(1, day=day))

    for layer in Layer:
        judgment = judged(lake, layer, first_day=DAY - ONE_DAY, failed_days=[DAY])["no_failed_partitions"]
        assert [(entry["day"], entry["what"]) for entry in judgment.failing] == [
            (DAY - ONE_DAY, "raw holds it, and it is not built"),
            (DAY + ONE_DAY, "raw holds it, and it is not built"),
            (DAY, "its last run failed"),
        ]


def test_a_day_of_an_older_deployment_is_trusted_although_raw_holds_nothing(lake: Lake) -> None:
    seen = pd.Timestamp("2025-05-12 18:10:00")
    frame = pd.DataFrame(
        {
            "station_id": ["15001", "15002"],
            "timestamp": [seen, seen],
            "gmt_local_diff_sec": -7200,
            "gmt_servertime_diff_sec": -3600,
            "name": "Rynek",
            "lat": 51.1,
            "lon": 17.03,
            "bikes": 4,
            "spaces": 12,
            "installed": True,
            "locked": False,
            "temporary": False,
            "total_docks": 16,
            "givesbonus_acceptspedelecs_fbbattlevel": False,
            "pedelecs": 0,
            "s3_source_key": "raw/wrm_stations_2025-05-12_18-10-00.txt",
            "file_timestamp": seen,
        }
    )
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    key = f"{lake.keys.layer_day(Layer.PROCESSED, DAY)}all_processed_20250512_181000.parquet"
    lake.store.put(key, sink.getvalue(), content_type=PARQUET)
    build(lake)

    judgments = judged(lake)

    assert blocking(judgments) == set()
    assert judgments["inputs"].passed
    assert judgments["reconciliation"].passed
    assert judgments["snapshots_received"].figures["received"] == 1
    assert require_trusted(lake, CONTRACTS, DAY).rows.num_rows == 2


def test_contracts_are_an_argument_and_nothing_is_taken_from_the_environment(lake: Lake) -> None:
    a_day(lake, bad_share=0.1)
    rule = CONTRACTS.enhanced.rules["dead_letter_ratio"]
    strict = replace(rule, arguments={"warn_above": 0.01, "block_above": 0.02})
    contracts: Contracts = replace(
        CONTRACTS, enhanced=replace(CONTRACTS.enhanced, rules={**CONTRACTS.enhanced.rules, rule.name: strict})
    )

    require_trusted(lake, CONTRACTS, DAY)
    with pytest.raises(UntrustedDayError, match="over 2 %"):
        require_trusted(lake, contracts, DAY)

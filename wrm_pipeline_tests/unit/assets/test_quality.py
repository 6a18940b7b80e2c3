"""Anomalies and profile as assets: what they store, from which days, and that a blocked day does not reach them."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wrm_pipeline.cache.cache import Cache
from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.anomalies import HISTORY_DAYS, build_anomalies
from wrm_pipeline.layers.derived import past_days
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.profile import TRAILING_DAYS, build_profile
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline.transform.anomalies.tables import ANOMALY_SCHEMA
from wrm_pipeline_tests.fixtures.dagster import DAY, Pipeline, at, contents, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

QUALITY = "wrm_stations_quality_job"
ANOMALIES, PROFILE = "wrm_stations_anomalies", "wrm_stations_profile"
WHO = Provenance(run_id="run", asset="asset")


def build(lake: Lake, day: dt.date, *, polls: int = 3, bad_rows: int = 0) -> None:
    """Build a day of some polls, five minutes apart, each with some spoilt rows."""
    for number in range(polls):
        time = at(8, 5 * number, day=day)
        put_raw(lake, time, with_bad_rows(snapshot(1, time), bad_rows, number))
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, WHO)


def days_before(count: int) -> Iterator[dt.date]:
    return (DAY - dt.timedelta(days=back) for back in range(count, 0, -1))


def test_a_run_stores_both_and_says_what_it_found(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_PUBLIC_URL", "https://bikes.example.org/lake/")
    for day in (*days_before(2), DAY):
        build(pipeline.lake, day)

    run = pipeline.run(QUALITY, partition_key=DAY.isoformat())

    assert run.success
    stored = {*contents(pipeline.lake, "anomalies/"), *contents(pipeline.lake, "profiles/")}
    folder = f"dt={DAY}"
    assert stored == {
        f"anomalies/{folder}/anomalies.parquet",
        f"profiles/{folder}/profile.json",
        f"profiles/{folder}/profile.html",
    }
    anomalies = pipeline.materializations(run, ANOMALIES)[DAY.isoformat()]
    assert anomalies["history_days"] == 2
    assert "history of 2 days" in anomalies["notes"]
    assert "history_days" not in anomalies["preview"]
    profile = pipeline.materializations(run, PROFILE)[DAY.isoformat()]
    assert profile["report"] == f"https://bikes.example.org/lake/profiles/{folder}/profile.html"
    assert profile["trailing_days"] == 2
    page = pipeline.lake.store.get(pipeline.lake.keys.profile_page(DAY)).body.decode()
    assert f"Profile of {DAY}" in page
    document = json.loads(pipeline.lake.store.get(pipeline.lake.keys.profile(DAY)).body)
    assert document["rows"] == profile["rows"]


def test_without_a_public_address_there_is_no_link(pipeline: Pipeline) -> None:
    build(pipeline.lake, DAY, polls=1)

    run = pipeline.run(QUALITY, partition_key=DAY.isoformat())

    assert run.success
    assert "report" not in pipeline.materializations(run, PROFILE)[DAY.isoformat()]


def test_a_blocked_day_is_refused_in_a_run_of_its_own(pipeline: Pipeline) -> None:
    build(pipeline.lake, DAY, bad_rows=200)

    run = pipeline.run(QUALITY, partition_key=DAY.isoformat())

    assert not run.success
    assert not contents(pipeline.lake, "anomalies/")
    assert not contents(pipeline.lake, "profiles/")
    failures = [event.step_failure_data for event in run.get_step_failure_events()]
    sentences = [f.user_failure_data.description or "" for f in failures if f.user_failure_data is not None]
    assert len(sentences) == 2
    assert all("dead_letter_ratio" in sentence and str(DAY) in sentence for sentence in sentences)


def test_a_backfill_makes_what_can_be_made_and_names_the_blocked_day(pipeline: Pipeline) -> None:
    bad = DAY + dt.timedelta(days=1)
    build(pipeline.lake, DAY)
    build(pipeline.lake, bad, bad_rows=200)
    start, end = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

    run = pipeline.run(QUALITY, tags={start: DAY.isoformat(), end: bad.isoformat()})

    assert not run.success
    assert list(contents(pipeline.lake, "anomalies/")) == [f"anomalies/dt={DAY}/anomalies.parquet"]
    assert f"profiles/dt={DAY}/profile.json" in contents(pipeline.lake, "profiles/")


def test_a_day_that_is_not_built_is_refused_with_a_remedy(pipeline: Pipeline) -> None:
    run = pipeline.run(QUALITY, partition_key=DAY.isoformat())

    assert not run.success
    first = run.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert first is not None
    assert "wrm_stations_enhanced_data_all" in (first.description or "")


def test_the_same_days_give_the_same_bytes(lake: Lake) -> None:
    for day in (*days_before(3), DAY):
        build(lake, day, polls=4)

    first = (build_anomalies(lake, CONTRACTS, DAY).info.etag, build_profile(lake, CONTRACTS, DAY).page.etag)
    again = (build_anomalies(lake, CONTRACTS, DAY).info.etag, build_profile(lake, CONTRACTS, DAY).page.etag)

    assert first == again


def test_the_parquet_file_is_what_its_schema_says_and_names_its_inputs(lake: Lake) -> None:
    for day in (*days_before(1), DAY):
        build(lake, day)

    built = build_anomalies(lake, CONTRACTS, DAY)

    file = pq.ParquetFile(pa.BufferReader(lake.store.get(built.info.key).body))
    assert file.schema_arrow.remove_metadata().equals(ANOMALY_SCHEMA)
    inputs = json.loads(file.metadata.metadata[b"wrm_inputs"])
    etags = {day: contents(lake)[f"enhanced/all/dt={day}/all_enhanced.parquet"] for day in (*days_before(1), DAY)}
    assert inputs["enhanced"] == {day.isoformat(): etag for day, etag in etags.items()}


def test_history_leaves_out_days_that_are_blocked_missing_or_too_old(lake: Lake) -> None:
    yesterday, before, oldest = (DAY - dt.timedelta(days=back) for back in (1, 2, 5))
    build(lake, yesterday)
    build(lake, before, bad_rows=200)
    build(lake, oldest)

    def days(count: int) -> list[dt.date]:
        return [day for day, _, _ in past_days(lake, CONTRACTS, DAY, count, ["station_id"], lambda rows, _: rows)]

    assert days(4) == [yesterday]
    assert days(5) == [oldest, yesterday]


def test_history_reads_the_columns_that_are_asked_for_and_no_others(lake: Lake) -> None:
    build(lake, DAY - dt.timedelta(days=1))

    ((_, _, rows),) = past_days(lake, CONTRACTS, DAY, 1, ["station_id", "bikes"], lambda rows, _: rows)

    assert rows.column_names == ["station_id", "bikes"]


def test_a_day_of_the_past_is_fetched_and_reduced_once_while_it_stays_as_it_is(lake: Lake) -> None:
    cache, reduced = Cache(), []
    for day in days_before(3):
        build(lake, day)

    def history() -> list[tuple[dt.date, str, pa.Table]]:
        def reduce(rows: pa.Table, day: dt.date) -> pa.Table:
            reduced.append(day)
            return rows.slice(0, 5)

        return list(past_days(lake, CONTRACTS, DAY, 3, ["station_id", "bikes"], reduce, cache=cache, kept_as="five"))

    first, once = history(), sorted(reduced)
    reduced.clear()
    before = lake.store.traffic.snapshot()
    again = history()
    assert once == list(days_before(3))
    assert again == first
    assert (lake.store.traffic.snapshot() - before).requests == {"head": 3}
    assert reduced == []

    changed = DAY - dt.timedelta(days=2)
    build(lake, changed, polls=4)
    after = history()
    assert reduced == [changed]
    assert [etag for day, etag, _ in after if day != changed] == [etag for day, etag, _ in first if day != changed]
    assert after[1][1] != first[1][1]


def test_what_the_cache_has_of_a_day_is_not_used_once_the_contract_blocks_it(lake: Lake) -> None:
    cache = Cache()
    build(lake, DAY - dt.timedelta(days=1), bad_rows=20)
    rule = CONTRACTS.enhanced.rules["dead_letter_ratio"]
    rules = {**CONTRACTS.enhanced.rules, rule.name: replace(rule, arguments={**rule.arguments, "block_above": 0.001})}
    strict = replace(CONTRACTS, enhanced=replace(CONTRACTS.enhanced, rules=rules))

    def days(contracts: Contracts) -> list[dt.date]:
        found = past_days(lake, contracts, DAY, 1, ["bikes"], lambda rows, _: rows, cache=cache, kept_as="rows")
        return [day for day, _, _ in found]

    assert days(CONTRACTS) == [DAY - dt.timedelta(days=1)]
    assert days(strict) == []
    assert days(CONTRACTS) == [DAY - dt.timedelta(days=1)]


def test_a_damaged_day_of_the_past_is_left_out(lake: Lake) -> None:
    yesterday = DAY - dt.timedelta(days=1)
    build(lake, yesterday)
    lake.store.put(lake.keys.layer_object(Layer.ENHANCED, yesterday), b"PAR1 no more", content_type="x/y")
    build(lake, DAY)

    built = build_profile(lake, CONTRACTS, DAY)

    assert [day for day, _ in built.inputs.days] == [DAY]
    for key in (built.data.key, built.page.key):
        made_from = json.loads(lake.store.get(key).info.metadata["inputs"])
        assert list(made_from["enhanced"]) == [DAY.isoformat()]


def test_windows_are_four_weeks_and_one() -> None:
    assert (HISTORY_DAYS, TRAILING_DAYS) == (28, 7)


def test_a_contract_that_lets_everything_pass_lets_the_day_flow(lake: Lake) -> None:
    """What blocks is the contract's to say: with other numbers the same day is used."""
    build(lake, DAY, bad_rows=200)
    with pytest.raises(LayerError, match="dead_letter_ratio"):
        build_profile(lake, CONTRACTS, DAY)
    rule = CONTRACTS.enhanced.rules["dead_letter_ratio"]
    relaxed = replace(rule, arguments={"warn_above": 1.0, "block_above": 1.0})
    enhanced = replace(CONTRACTS.enhanced, rules={**CONTRACTS.enhanced.rules, rule.name: relaxed})

    assert build_profile(lake, replace(CONTRACTS, enhanced=enhanced), DAY).profile.rows > 0

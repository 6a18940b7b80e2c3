"""Lineage events of real runs on a real store: what they name, and what they say when they cannot know."""

import datetime as dt
import json
import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.lake.day_object import inputs_digest
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.object_store import ObjectInfo
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.operations import lineage
from wrm_pipeline.operations.lineage import MADE_FROM_PROCESSED, READ_FROM_RAW, publish_lineage
from wrm_pipeline.operations.lineage_inputs import Made, RunInputs
from wrm_pipeline.settings import load_settings
from wrm_pipeline.transform.schema import PROCESSED as PROCESSED_SCHEMA
from wrm_pipeline_tests.fixtures.dagster import DAY, DAY_ASSETS, QUIET, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import HTML, Answer, Fault, FaultProxy, Reset, Stall
from wrm_pipeline_tests.fixtures.lineage import by_job, check_by_classes, events, publish, versions

RAW, PROCESSED, ENHANCED = (
    "wrm_stations_raw_data",
    "wrm_stations_processed_data_all",
    "wrm_stations_enhanced_data_all",
)
NEXT = DAY + dt.timedelta(days=1)


def stored(pipeline: Pipeline, layer: Layer, day: dt.date = DAY) -> str:
    found = pipeline.lake.store.head(pipeline.lake.keys.layer_object(layer, day))
    assert found is not None
    return found.etag


def inputs_of(pipeline: Pipeline, event: dict[str, Any]) -> dict[str, str | None]:
    return versions(event["inputs"], pipeline.lake.keys.prefix)


def note_of(event: dict[str, Any]) -> str:
    return str(event["run"]["facets"].get("wrm_inputs", {}).get("note", ""))


# What they name


def test_a_snapshot_comes_from_the_feed(pipeline: Pipeline) -> None:
    run = pipeline.ingest()

    (event,) = events(pipeline, run.run_id)
    (source,), (output,) = event["inputs"], event["outputs"]
    assert source["namespace"] == pipeline.feed.url.partition("/bikesapi")[0]
    assert output["namespace"] == f"s3://{pipeline.lake.store.bucket}"
    newest = pipeline.lake.newest_raw(dt.datetime.now(dt.UTC).date())
    assert newest is not None
    assert output["name"] == newest.key
    assert output["outputFacets"]["outputStatistics"]["size"] == newest.size


def test_a_day_names_its_raw_objects_and_enhanced_the_processed_it_was_made_from(pipeline: Pipeline) -> None:
    raw = {
        info.key.removeprefix(pipeline.lake.keys.prefix): info.etag
        for info in (put_raw(pipeline.lake, at(h)) for h in (8, 9))
    }
    run = pipeline.process(DAY)

    found = by_job(events(pipeline, run.run_id))
    prefix = pipeline.lake.keys.prefix
    digest = inputs_digest((prefix + key, etag) for key, etag in raw.items())
    assert set(found) == set(DAY_ASSETS)
    assert inputs_of(pipeline, found[PROCESSED]) == {f"raw/dt={DAY}": digest, **raw}
    processed = f"processed/all/dt={DAY}/all_processed.parquet"
    assert inputs_of(pipeline, found[ENHANCED]) == {processed: stored(pipeline, Layer.PROCESSED)}
    assert versions(found[ENHANCED]["outputs"], prefix) == {
        f"enhanced/all/dt={DAY}/all_enhanced.parquet": stored(pipeline, Layer.ENHANCED)
    }
    assert note_of(found[PROCESSED]) == note_of(found[ENHANCED]) == ""


def test_an_event_says_schema_rows_bytes_code_day_run_and_what_the_checks_found(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    run = pipeline.process(DAY)

    event = by_job(events(pipeline, run.run_id))[ENHANCED]
    (output,) = event["outputs"]
    info = pipeline.lake.store.head(output["name"])
    assert info is not None
    assert event["eventType"] == "COMPLETE"
    assert [field["name"] for field in output["facets"]["schema"]["fields"]] == [
        column.name for column in active_contracts().enhanced.columns
    ]
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (int(info.metadata["rows"]), info.size)
    assert event["job"]["facets"]["wrm_code"]["builtBy"] == info.metadata["code-version"]
    assert event["job"]["facets"]["wrm_code"]["contract"] == active_contracts().enhanced.stamp
    facets = event["run"]["facets"]
    assert facets["nominalTime"]["nominalStartTime"] == f"{DAY}T00:00:00Z"
    assert facets["nominalTime"]["nominalEndTime"] == f"{NEXT}T00:00:00Z"
    assert facets["parent"]["run"]["runId"] == run.run_id
    assert facets["parent"]["job"]["name"] == "wrm_stations_processing_job"
    checks = {check["assertion"]: check for check in output["facets"]["dataQualityAssertions"]["assertions"]}
    assert checks["completeness"]["success"] is False  # one snapshot is no day
    assert checks["reconciliation"]["success"] is True
    assert checks["reconciliation"]["severity"] in {"error", "warn"}


def test_columns_of_enhanced_are_those_of_processed_or_say_what_they_are_made_from(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    run = pipeline.process(DAY)

    found = by_job(events(pipeline, run.run_id))
    fields = found[ENHANCED]["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert set(fields) == {column.name for column in active_contracts().enhanced.columns}
    (bikes,) = fields["bikes"]["inputFields"]
    assert (bikes["field"], bikes["transformations"][0]["subtype"]) == ("bikes", "IDENTITY")
    assert bikes["name"] == found[ENHANCED]["inputs"][0]["name"]
    assert [field["field"] for field in fields["in_service_area"]["inputFields"]] == ["lat", "lon"]
    assert fields["in_service_area"]["inputFields"][0]["transformations"][0]["subtype"] == "TRANSFORMATION"


def test_what_is_said_of_columns_names_columns_that_there_are() -> None:
    raw = {column.name for column in active_contracts().raw.columns}
    processed = {column.name for column in active_contracts().processed.columns}
    enhanced = {column.name for column in active_contracts().enhanced.columns}

    assert {name for names in READ_FROM_RAW.values() for name in names} <= raw
    assert {name for names in MADE_FROM_PROCESSED.values() for name in names} <= processed
    # Each column is said something of, but for those that come from the object's key.
    assert processed - raw - set(READ_FROM_RAW) == {"s3_source_key", "file_timestamp"}
    assert enhanced - processed == set(MADE_FROM_PROCESSED)
    assert set(PROCESSED_SCHEMA.names) == processed


def test_tables_name_the_days_computed_and_the_tables_they_need(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    pipeline.process(DAY)
    run = pipeline.marts()

    found = by_job(events(pipeline, run.run_id))
    assert set(found) == {*(mart.name for mart in published()), "wrm_stations_duckdb", "wrm_station_site"}
    day = {f"enhanced/all/dt={DAY}/all_enhanced.parquet": stored(pipeline, Layer.ENHANCED)}
    assert inputs_of(pipeline, found["fct_station_hour"]) == day
    system_hour = inputs_of(pipeline, found["mart_system_hour"])
    assert system_hour.items() >= day.items()
    made = versions(found["fct_station_hour"]["outputs"], pipeline.lake.keys.prefix)
    assert system_hour["marts/fct_station_hour"] == made["marts/fct_station_hour"]
    assert len(inputs_of(pipeline, found["wrm_station_site"])) == len(published()) + 1
    assert "by table only" in found["fct_station_hour"]["job"]["facets"]["wrm_code"]["columnLineage"]
    assert found["fct_station_hour"]["job"]["facets"]["wrm_code"]["needs"]
    for event in found.values():
        check_by_classes(event)


def test_quality_names_the_days_before_that_it_was_held_against(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT):
        for hour in range(24):
            put_raw(pipeline.lake, at(hour, day=day))
        pipeline.process(day)
    run = pipeline.run("wrm_stations_quality_job", partition_key=NEXT.isoformat())
    assert run.success

    found = by_job(events(pipeline, run.run_id))
    days = {f"enhanced/all/dt={day}/all_enhanced.parquet": stored(pipeline, Layer.ENHANCED, day) for day in (DAY, NEXT)}
    for asset in ("wrm_stations_anomalies", "wrm_stations_profile"):
        assert inputs_of(pipeline, found[asset]) == days


# Stable, valid


def test_the_same_event_log_gives_the_same_bytes(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    run = pipeline.process(DAY)
    began = pipeline.instance.get_run_record_by_id(run.run_id)
    assert began is not None
    key = publish(pipeline, run.run_id)
    first = pipeline.lake.store.get(key).body

    assert publish(pipeline, run.run_id) == key
    assert pipeline.lake.store.get(key).body == first
    day = dt.datetime.fromtimestamp(began.start_time or 0, dt.UTC).date()
    assert key == f"{pipeline.lake.keys.prefix}lineage/dt={day}/{run.run_id}.json"


def test_every_event_is_as_the_specification_has_it(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    for run in (pipeline.ingest(), pipeline.process(DAY)):
        for event in events(pipeline, run.run_id):
            check_by_classes(event)
            uuid.UUID(event["run"]["runId"])


def test_ids_are_those_of_run_asset_and_day(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT):
        put_raw(pipeline.lake, at(8, day=day))
    found = events(pipeline, pipeline.backfill(DAY, NEXT).run_id)

    assert len({event["run"]["runId"] for event in found}) == len(found) == 2 * len(DAY_ASSETS)


# When the lake has moved on


def test_what_was_replaced_since_is_found_in_raw_which_does_not_change(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    put_raw(pipeline.lake, at(9))
    early = pipeline.process(DAY)
    before = [(event["inputs"], event["outputs"]) for event in events(pipeline, early.run_id)]
    put_raw(pipeline.lake, at(10))
    assert pipeline.process(DAY).success

    assert [(event["inputs"], event["outputs"]) for event in events(pipeline, early.run_id)] == before


def test_what_cannot_be_known_any_more_has_no_version_and_a_sentence(pipeline: Pipeline) -> None:
    gone = put_raw(pipeline.lake, at(8))
    put_raw(pipeline.lake, at(9))
    early = pipeline.process(DAY)
    pipeline.lake.store.delete(gone.key)
    put_raw(pipeline.lake, at(10))
    assert pipeline.process(DAY).success

    event = by_job(events(pipeline, early.run_id))[PROCESSED]
    assert inputs_of(pipeline, event) == {f"raw/dt={DAY}": None}
    assert "which they were is not known" in note_of(event)


def test_enhanced_alone_names_the_processed_that_it_brought_up_to_date(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    asset = pipeline.defs.resolve_job_def("wrm_stations_processing_job")
    run = asset.execute_in_process(
        run_config=QUIET,
        instance=pipeline.instance,
        partition_key=DAY.isoformat(),
        asset_selection=[dg.AssetKey(ENHANCED)],
    )

    event = by_job(events(pipeline, run.run_id))[ENHANCED]
    assert list(inputs_of(pipeline, event).values()) == [stored(pipeline, Layer.PROCESSED)]

    put_raw(pipeline.lake, at(9))
    assert pipeline.process(DAY).success
    event = by_job(events(pipeline, run.run_id))[ENHANCED]
    assert list(inputs_of(pipeline, event).values()) == [None]
    assert "which version it was is not known" in note_of(event)


def test_a_snapshot_between_the_two_steps_of_a_run_makes_another_processed(pipeline: Pipeline) -> None:
    def made(asset: str, raw: list[ObjectInfo], layer: Layer) -> Made:
        facts = {"inputs": len(raw), "newest_input": raw[-1].key}
        return Made(asset, str(DAY), at(12), facts, stored(pipeline, layer), "2")

    raw = [put_raw(pipeline.lake, at(8))]
    pipeline.process(DAY)
    before = made(PROCESSED, raw, Layer.PROCESSED)
    raw.append(put_raw(pipeline.lake, at(9)))
    pipeline.process(DAY)
    after = made(ENHANCED, raw, Layer.ENHANCED)

    (processed,) = RunInputs(pipeline.lake, [before, after]).of(after).datasets

    assert processed.version == stored(pipeline, Layer.PROCESSED) != before.version


def test_tables_made_anew_since_name_their_days_without_versions_and_an_idle_run_names_none(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    pipeline.process(DAY)
    early = pipeline.marts()
    put_raw(pipeline.lake, at(9))
    pipeline.process(DAY)
    pipeline.marts()
    idle = pipeline.marts()

    event = by_job(events(pipeline, early.run_id))["fct_station_hour"]
    assert inputs_of(pipeline, event) == {f"enhanced/all/dt={DAY}/all_enhanced.parquet": None}
    assert "made anew since" in note_of(event)
    event = by_job(events(pipeline, idle.run_id))["fct_station_hour"]
    assert event["inputs"] == []
    assert "No day of enhanced had changed" in note_of(event)


def test_of_a_run_over_many_days_raw_is_named_by_day(pipeline: Pipeline) -> None:
    days = [DAY + dt.timedelta(days=more) for more in range(8)]
    raw = {day: put_raw(pipeline.lake, at(8, day=day)) for day in days}
    run = pipeline.backfill(days[0], days[-1])

    found = [event for event in events(pipeline, run.run_id) if event["job"]["name"] == PROCESSED]
    assert [inputs_of(pipeline, event) for event in found] == [
        {f"raw/dt={day}": inputs_digest([(raw[day].key, raw[day].etag)])} for day in days
    ]
    assert "manifest" in note_of(found[0])


# What was not made


def test_a_failed_run_says_which_asset_failed_and_which_was_not_begun(pipeline: Pipeline) -> None:
    run = pipeline.process(DAY)  # there is no raw
    assert not run.success

    found = by_job(events(pipeline, run.run_id))
    assert {name: event["eventType"] for name, event in found.items()} == {
        PROCESSED: "FAIL",
        ENHANCED: "ABORT",
        "wrm_stations_dlq": "ABORT",
    }
    message = found[PROCESSED]["run"]["facets"]["errorMessage"]["message"]
    assert message.startswith(f"There is no raw data for {DAY}")
    assert found[PROCESSED]["outputs"] == []
    for event in found.values():
        check_by_classes(event)


def test_of_an_unexpected_error_the_class_is_told_and_not_its_words(pipeline: Pipeline) -> None:
    @dg.asset
    def broken() -> None:
        raise ValueError("canary-secret")

    run = dg.materialize([broken], instance=pipeline.instance, raise_on_error=False, run_config=QUIET)

    (event,) = events(pipeline, run.run_id)
    assert event["run"]["facets"]["errorMessage"]["message"] == "ValueError"
    assert "canary-secret" not in json.dumps(event)


def test_a_run_without_assets_and_one_that_nobody_knows_have_no_lineage(pipeline: Pipeline) -> None:
    @dg.job
    def empty() -> None:
        pass

    run = empty.execute_in_process(instance=pipeline.instance, run_config=QUIET)
    settings = load_settings()
    assert publish_lineage(pipeline.lake, pipeline.instance, run.run_id, settings) is None
    assert publish_lineage(pipeline.lake, pipeline.instance, str(uuid.uuid4()), settings) is None


def test_it_can_be_switched_off(pipeline: Pipeline) -> None:
    run = pipeline.ingest()

    assert publish_lineage(pipeline.lake, pipeline.instance, run.run_id, load_settings(wrm_lineage=False)) is None
    assert not list(pipeline.lake.store.list(f"{pipeline.lake.keys.prefix}lineage/"))


# A collector


class LineageCollector:
    """An HTTP collector that keeps what it was sent."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.authorizations: set[str | None] = set()
        self.url = ""


@contextmanager
def collecting() -> Iterator[LineageCollector]:
    collector = LineageCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.paths.add(self.path)
            collector.authorizations.add(self.headers["Authorization"])
            collector.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@pytest.fixture
def fresh_collector_part() -> Iterator[None]:
    """Let no test meet a collector that another one has found to be down."""
    lineage._collector.cache_clear()
    yield
    lineage._collector.cache_clear()


def test_events_are_posted_to_a_collector_with_its_key(pipeline: Pipeline, fresh_collector_part: None) -> None:
    put_raw(pipeline.lake, at(8))
    run = pipeline.process(DAY)
    with collecting() as collector:
        settings = load_settings(openlineage_url=collector.url, openlineage_api_key="canary-key")
        key = publish_lineage(pipeline.lake, pipeline.instance, run.run_id, settings)

    assert key is not None
    body = pipeline.lake.store.get(key).body
    assert collector.events == [json.loads(line) for line in body.splitlines()]
    assert collector.paths == {"/api/v1/lineage"}
    assert collector.authorizations == {"Bearer canary-key"}
    assert b"canary-key" not in body


@pytest.mark.parametrize(
    "fault",
    [
        Stall(),
        Reset(),
        Answer(500, b"oops"),
        Answer(302, b"", {"Location": "/"}),
        Answer(200, HTML, {"Content-Type": "text/html"}),
    ],
    ids=["black hole", "reset", "500", "redirect", "web page"],
)
def test_a_collector_that_does_not_work_is_one_warning_and_the_lake_has_the_events(
    pipeline: Pipeline, fresh_collector_part: None, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    put_raw(pipeline.lake, at(8))
    run = pipeline.process(DAY)
    caplog.clear()
    with collecting() as collector, FaultProxy(collector.url) as proxy:
        proxy.add(fault, times=None)
        settings = load_settings(openlineage_url=proxy.url, openlineage_api_key="canary-key")
        key = publish_lineage(pipeline.lake, pipeline.instance, run.run_id, settings)
        assert len(proxy.seen) == 1

    assert key is not None
    assert pipeline.lake.store.head(key) is not None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Check OPENLINEAGE_URL" in warning
    assert "canary-key" not in warning

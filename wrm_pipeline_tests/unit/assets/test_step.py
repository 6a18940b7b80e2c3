"""What surrounds each asset's work: figures at its end, spans, log lines that follow a snapshot."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import figures, logs, traces
from wrm_pipeline_tests.fixtures.collector import Collector
from wrm_pipeline_tests.fixtures.dagster import DAY, INGEST, PROCESSING, Pipeline, at, contents, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import HTML, Answer, Fault, FaultProxy, Reset, Stall
from wrm_pipeline_tests.fixtures.monitoring import (  # noqa: F401 - fixtures
    LocalPushgateway,
    pushgateway,
    pushgateway_server,
)

RAW = "wrm_stations_raw_data"
PROCESSED = "wrm_stations_processed_data_all"


@pytest.fixture
def gateway(pushgateway: LocalPushgateway, monkeypatch: pytest.MonkeyPatch) -> LocalPushgateway:  # noqa: F811
    monkeypatch.setenv("WRM_PUSHGATEWAY_URL", pushgateway.url)
    return pushgateway


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        traces.start(load_settings())
        yield receiver
        traces.stop()


def pushed(gateway: LocalPushgateway, asset: str) -> dict[str, float]:
    """Return the newest figures of an asset: by name, and by name and label where there are several."""
    found = {}
    for line in gateway.metrics().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("wrm_step_") and f'asset="{asset}"' in name:
            labels = dict(part.split("=") for part in name.partition("{")[2].rstrip("}").split(","))
            more = [labels[label].strip('"') for label in sorted(labels.keys() - {"asset", "instance", "job"})]
            found[" ".join([name.partition("{")[0], *more])] = float(value)
    return found


def test_a_step_pushes_what_it_did_and_what_it_asked_of_store_and_feed(
    pipeline: Pipeline, gateway: LocalPushgateway
) -> None:
    run = pipeline.ingest()

    told = pushed(gateway, RAW)
    (metadata,) = pipeline.materializations(run, RAW).values()
    assert told["wrm_step_succeeded"] == 1
    assert told["wrm_step_feed_seconds"] == pytest.approx(metadata["feed_seconds"], abs=0.001)
    assert told["wrm_step_rows kept"] == metadata["rows_kept"] > 0
    assert told["wrm_step_s3_requests put"] == 1
    assert told["wrm_step_s3_bytes sent"] == metadata["bytes"]
    assert told["wrm_step_s3_retries"] == 0
    assert told["wrm_step_breaker_open feed"] == told["wrm_step_breaker_open object-store"] == 0


def test_a_failing_step_pushes_too(pipeline: Pipeline, gateway: LocalPushgateway) -> None:
    pipeline.ingest()
    before = pushed(gateway, RAW)
    pipeline.feed.fault = "html"

    run = pipeline.ingest()

    told = pushed(gateway, RAW)
    assert not run.success
    assert told["wrm_step_succeeded"] == 0
    assert told["wrm_step_finished_timestamp_seconds"] > before["wrm_step_finished_timestamp_seconds"]
    # The page and its dead letter were stored; there was no snapshot whose rows could be counted.
    assert told["wrm_step_s3_requests put"] == 2
    assert "wrm_step_rows kept" not in told


def test_rows_are_told_by_what_became_of_them(pipeline: Pipeline, gateway: LocalPushgateway) -> None:
    put_raw(pipeline.lake, at(10))
    put_raw(pipeline.lake, at(11), b"<html><body>maintenance</body></html>")

    pipeline.process(DAY)

    told = pushed(gateway, PROCESSED)
    assert told["wrm_step_rows html"] == 1
    assert told["wrm_step_rows kept"] > 200
    assert told["wrm_step_rows duplicate"] == 0


def test_a_run_is_a_tree_of_spans_of_assets_and_phases(pipeline: Pipeline, collector: Collector) -> None:
    put_raw(pipeline.lake, at(10))

    run = pipeline.process(DAY)

    root = collector.named(f"run {PROCESSING}")
    asset = collector.named(f"asset {PROCESSED}")
    assert asset.parent_span_id == root.span_id
    assert collector.attributes(f"run {PROCESSING}")["dagster.run_id"] == run.run_id
    assert {"list", "get", "parse", "write"} <= {span.name for span in collector.spans}
    assert {span.trace_id for span in collector.spans} == {root.trace_id}


def test_log_lines_of_a_poll_name_run_asset_and_the_snapshot(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRM_LOG_FORMAT", "json")
    logs.configure(load_settings())
    capfd.readouterr()

    run = pipeline.defs.resolve_job_def(INGEST).execute_in_process(instance=pipeline.instance)

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (kept,) = [line for line in lines if line["event"].endswith(" is kept")]
    name = kept["event"].rpartition("/")[2].removesuffix(".txt is kept")
    assert kept["correlation_id"] == name
    assert (kept["run_id"], kept["job"], kept["asset"]) == (run.run_id, INGEST, RAW)
    # What Dagster says of the step once it has ended is of the run, no longer of the snapshot.
    assert {line.get("run_id") for line in lines} == {run.run_id}


def test_the_sensor_hands_the_snapshot_on_to_the_run_it_asks_for(pipeline: Pipeline) -> None:
    from wrm_pipeline.automation.jobs import run_tags

    assert run_tags("wrm_stations_2025-05-12_10-00-00") == {logs.CORRELATION_TAG: "wrm_stations_2025-05-12_10-00-00"}
    assert run_tags(None) == {}


FAULTS: dict[str, Fault] = {
    "says nothing": Stall(),
    "hangs up": Reset(),
    "answers 500": Answer(500, b"no"),
    "is a web page": Answer(200, HTML, {"Content-Type": "text/html"}),
}


@pytest.mark.parametrize("fault", [*FAULTS, "is not there"])
def test_a_gateway_and_a_collector_that_fail_change_nothing_and_cost_a_warning_each(
    pipeline: Pipeline, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_raw(pipeline.lake, at(10))
    assert pipeline.process(DAY).success
    before = contents(pipeline.lake)
    for key in before:
        if not key.startswith("raw/"):
            pipeline.lake.store.delete(pipeline.lake.keys.prefix + key)
    figures._gateway.cache_clear()
    with ExitStack() as running:
        if fault in FAULTS:
            proxy = running.enter_context(FaultProxy(f"http://127.0.0.1:{free_port()}"))
            proxy.add(FAULTS[fault], times=None)
            address = proxy.url
        else:
            address = f"http://127.0.0.1:{free_port()}"
        monkeypatch.setenv("WRM_PUSHGATEWAY_URL", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        traces.start(load_settings())
        running.callback(traces.stop)
        caplog.clear()

        with caplog.at_level(logging.WARNING):
            run = pipeline.process(DAY)

    assert run.success
    assert contents(pipeline.lake) == before
    warnings = [record.getMessage() for record in caplog.records if "does not work" in record.getMessage()]
    assert sorted(warning.partition(" does")[0] for warning in warnings) == ["The Pushgateway", "The trace collector"]

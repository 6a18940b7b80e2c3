"""The metrics page: a real Prometheus reads it, a scrape waits for nothing, and a source that is down is said to be."""

import dataclasses
import json
import logging
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from wrm_pipeline.lake.doctor import Finding, Status
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.operations.event_log import (
    AssetFigures,
    CheckFigures,
    Durations,
    EventLog,
    EventLogFigures,
)
from wrm_pipeline.operations.exporter import Exporter, Source, Sources
from wrm_pipeline.operations.lake_figures import City, LakeFigures, LakeReader
from wrm_pipeline.operations.server import MetricsServer
from wrm_pipeline_tests.fixtures.dagster import DAY, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.monitoring import LocalPrometheus, fetch
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS

RAW = "wrm_stations_raw_data"
ENHANCED = "wrm_stations_enhanced_data_all"
JOB = "wrm_stations_processing_job"

EVENTS = EventLogFigures(
    runs={("j", "success"): 37, ("j", "failure"): 13, ("j", "canceled"): 0},
    durations={"j": Durations([20, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 1], 5000.5)},
    active={"j": 2},
    queued=3,
    oldest_queued_at=time.time() - 60,
    assets={"a": AssetFigures(1747000000.0, 748, {"battery_level": 31.25}, None)},
    checks={("a", "unique"): CheckFigures(True, "ERROR"), ("a", "volume"): CheckFigures(False, "WARN")},
    heartbeats={"SENSOR": 1747000100.5},
)
LAKE = LakeFigures(
    newest_snapshot=at(9, 10),
    unchanged_since=at(9),
    coverage=0.5,
    city=City(at(9, 10), 748, 235, 234.5, {"empty": 3, "ok": 232}, {"station": 1800, "free": 100, "off_zone": 60}),
    dead_letter_ratio=0.25,
    dead_letters={("negative_count", "pending_reprocessing"): 4},
)


@pytest.fixture
def parts() -> Iterator[ExitStack]:
    with ExitStack() as parts:
        yield parts


def source(parts: ExitStack, name: str, read: Callable[[], Any], *, every_s: float = 3600) -> Source[Any]:
    found: Source[Any] = Source(name, read, every_s=every_s)
    found.start()
    parts.callback(found.close)
    wait_until(lambda: found._ended > 0)
    return found


def scrape(exporter: Exporter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of a scrape by name and labels."""
    from prometheus_client import generate_latest

    page = generate_latest(exporter.registry()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def exporter_of(
    parts: ExitStack, events: EventLogFigures = EVENTS, lake: LakeFigures | None = LAKE, **others: Any
) -> Exporter:
    readings = {name: source(parts, name, read) for name, read in others.items()}
    return Exporter(
        Sources(
            event_log=source(parts, "event_log", lambda: events),
            lake=source(parts, "lake", lambda: lake) if lake is not None else None,
            **readings,
        ),
        disks=[Path("/")],
        raw_asset=RAW,
    )


def test_every_metric_has_the_name_that_rules_and_dashboards_use(parts: ExitStack) -> None:
    exporter = exporter_of(
        parts,
        vault=lambda: True,
        redis=lambda: {"feed": False, "object-store": True},
        certificates=lambda: {"https://store.example.org": 1800000000.0},
    )

    found = {(name, *(label for label, _ in labels)) for name, labels in scrape(exporter)}

    assert found == {
        ("dagster_pipeline_runs_total", "pipeline_name", "status"),
        ("dagster_pipeline_duration_seconds_bucket", "le", "pipeline_name"),
        ("dagster_pipeline_duration_seconds_count", "pipeline_name"),
        ("dagster_pipeline_duration_seconds_sum", "pipeline_name"),
        ("dagster_active_jobs", "pipeline_name"),
        ("dagster_queued_runs",),
        ("dagster_queue_oldest_seconds",),
        ("dagster_daemon_heartbeat_timestamp_seconds", "daemon"),
        ("dagster_asset_record_count", "asset_name"),
        ("dagster_asset_null_percentage", "asset_name", "column_name"),
        ("dagster_asset_last_success_timestamp", "asset_name"),
        ("dagster_asset_check_passed", "asset_name", "check_name", "severity"),
        ("wrm_dead_letters", "rule", "status"),
        ("wrm_dead_letter_ratio",),
        ("wrm_newest_snapshot_timestamp_seconds",),
        ("wrm_snapshot_unchanged_seconds",),
        ("wrm_newest_snapshot_rows",),
        ("wrm_newest_snapshot_stations",),
        ("wrm_usual_snapshot_stations",),
        ("wrm_coverage_ratio",),
        ("wrm_stations", "state"),
        ("wrm_bikes", "place"),
        ("wrm_disk_free_ratio", "path"),
        ("wrm_certificate_expiry_timestamp_seconds", "endpoint"),
        ("wrm_breaker_open", "breaker"),
        ("wrm_exporter_source_up", "source"),
        ("wrm_exporter_source_timestamp_seconds", "source"),
        ("wrm_exporter_scrape_seconds",),
    }


def test_values_are_those_of_the_readings(parts: ExitStack) -> None:
    samples = scrape(exporter_of(parts, redis=lambda: {"feed": False, "object-store": True}))

    assert value(samples, "dagster_pipeline_runs_total", pipeline_name="j", status="failure") == 13
    assert value(samples, "dagster_pipeline_duration_seconds_bucket", pipeline_name="j", le="1.0") == 20
    assert value(samples, "dagster_pipeline_duration_seconds_bucket", pipeline_name="j", le="3600.0") == 37
    assert value(samples, "dagster_pipeline_duration_seconds_bucket", pipeline_name="j", le="+Inf") == 38
    assert value(samples, "dagster_pipeline_duration_seconds_count", pipeline_name="j") == 38
    assert value(samples, "dagster_pipeline_duration_seconds_sum", pipeline_name="j") == 5000.5
    assert value(samples, "dagster_queued_runs") == 3
    assert 60 <= (value(samples, "dagster_queue_oldest_seconds") or 0) < 3600
    assert value(samples, "dagster_asset_check_passed", asset_name="a", check_name="volume", severity="WARN") == 0
    assert value(samples, "wrm_snapshot_unchanged_seconds") == 600
    assert value(samples, "wrm_stations", state="empty") == 3
    assert value(samples, "wrm_breaker_open", breaker="object-store") == 1
    assert value(samples, "wrm_dead_letters", rule="negative_count", status="pending_reprocessing") == 4


def test_a_queue_without_runs_has_waited_for_nothing(parts: ExitStack) -> None:
    samples = scrape(exporter_of(parts, dataclasses.replace(EVENTS, queued=0, oldest_queued_at=None)))

    assert value(samples, "dagster_queue_oldest_seconds") == 0


@pytest.mark.parametrize(
    ("newest", "unchanged_s"), [(at(9, 10), 3600), (at(9, 30), 600)], ids=["nothing new", "something new in raw"]
)
def test_a_feed_that_answers_the_very_same_bytes_stands_still_up_to_the_last_fetch(
    parts: ExitStack, newest: Any, unchanged_s: float
) -> None:
    raw = AssetFigures(0.0, 748, {}, repeated_at=at(10).timestamp())
    lake = dataclasses.replace(LAKE, newest_snapshot=newest)

    samples = scrape(exporter_of(parts, dataclasses.replace(EVENTS, assets={RAW: raw}), lake))

    assert value(samples, "wrm_snapshot_unchanged_seconds") == unchanged_s


def test_what_is_not_known_is_not_shown(parts: ExitStack) -> None:
    samples = scrape(exporter_of(parts, lake=LakeFigures(None, None, None, None, None, {})))

    shown = {name for name, _ in samples if name.startswith("wrm_")}
    assert shown == {
        "wrm_disk_free_ratio",
        "wrm_exporter_source_up",
        "wrm_exporter_source_timestamp_seconds",
        "wrm_exporter_scrape_seconds",
    }


def test_the_last_good_reading_stays_and_its_source_is_said_to_be_down(
    parts: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    answers = threading.Event()
    answers.set()

    def read() -> LakeFigures:
        if not answers.is_set():
            raise OSError("https://user:secret@host is down")
        return LAKE

    lake = source(parts, "lake", read)
    exporter = Exporter(Sources(source(parts, "event_log", lambda: EVENTS), lake), [], RAW)
    good = scrape(exporter)
    answers.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            lake.refresh(10)
    bad = scrape(exporter)

    assert [value(found, "wrm_exporter_source_up", source="lake") for found in (good, bad)] == [1, 0]
    assert value(bad, "wrm_coverage_ratio") == 0.5
    at_good, at_bad = (value(s, "wrm_exporter_source_timestamp_seconds", source="lake") for s in (good, bad))
    assert at_good == at_bad
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secret" not in caplog.text
    answers.set()
    lake.refresh(10)
    assert value(scrape(exporter), "wrm_exporter_source_up", source="lake") == 1


def test_a_scrape_waits_for_no_source_that_hangs(parts: ExitStack) -> None:
    hang = threading.Event()
    parts.callback(hang.set)

    def stuck() -> Any:
        hang.wait(600)

    sources = [Source[Any](name, stuck, every_s=3600) for name in ("event_log", "lake")]
    for found in sources:
        found.start()
        parts.callback(found.close)
    exporter = Exporter(Sources(*sources), [], RAW)

    samples = scrape(exporter)

    assert value(samples, "wrm_exporter_source_up", source="event_log") == 0
    assert value(samples, "wrm_exporter_source_up", source="lake") == 0
    assert not hang.is_set()


def test_a_scrape_shows_what_the_event_log_says_after_it_began(parts: ExitStack) -> None:
    """A reading that was at work when the scrape came may have looked too early."""
    count = iter(range(1, 100))

    def read() -> EventLogFigures:
        return dataclasses.replace(EVENTS, runs={("j", "success"): next(count)})

    exporter = Exporter(Sources(source(parts, "event_log", read), None), [], RAW)

    seen = [value(scrape(exporter), "dagster_pipeline_runs_total", pipeline_name="j", status="success") for _ in "123"]
    assert seen == [2, 3, 4]


def healthy() -> list[Finding]:
    return [Finding("s3", Status.OK, "it answers"), Finding("redis", Status.WARN, "it does not", "Start <it>.")]


def serve(parts: ExitStack, exporter: Exporter, check: Callable[[], list[Finding]] = healthy) -> str:
    links = {"Dagster <UI>": 'https://dagster.example.org/?a=1&b="2"'}
    return parts.enter_context(MetricsServer(exporter.registry(), exporter._sources, check, links)).url


def test_a_real_prometheus_reads_a_real_pipeline(pipeline: Pipeline, parts: ExitStack, tmp_path: Path) -> None:
    put_raw(pipeline.lake, at(9))
    put_raw(pipeline.lake, at(9, 5))
    assert pipeline.process(DAY).success
    log = EventLog(pipeline.instance, tmp_path / "exporter.json")
    reader = LakeReader(pipeline.lake, CONTRACTS)
    exporter = Exporter(
        Sources(source(parts, "event_log", log.read), source(parts, "lake", lambda: reader.read(at(9, 6)))), [], RAW
    )
    address = serve(parts, exporter).removeprefix("http://")
    config = (
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: wrm, static_configs: [{{targets: ['{address}']}}]}}]\n"
    )
    prometheus = parts.enter_context(LocalPrometheus(tmp_path / "prometheus", config))

    def ask(promql: str) -> float | None:
        found = prometheus.query(promql)
        return found[0].value if found else None

    wait_until(lambda: ask("wrm_coverage_ratio") is not None, within_s=60)

    assert prometheus.targets() == {f"http://{address}/metrics": "up"}
    assert ask(f'dagster_pipeline_runs_total{{pipeline_name="{JOB}",status="success"}}') == 1
    assert ask(f'dagster_pipeline_duration_seconds_count{{pipeline_name="{JOB}"}}') == 1
    assert ask("wrm_newest_snapshot_timestamp_seconds") == at(9, 5).timestamp()
    rows = ask(f'dagster_asset_record_count{{asset_name="{ENHANCED}"}}')
    assert rows is not None
    assert rows > 1000
    nulls = prometheus.query(f'dagster_asset_null_percentage{{asset_name="{ENHANCED}"}}')
    percent = {sample.labels["column_name"]: sample.value for sample in nulls}
    assert percent["station_id"] == 0
    assert 0 < percent["battery_level"] < 100
    assert (ask("count(dagster_asset_check_passed == 1)") or 0) > 5
    assert ask('wrm_bikes{place="off_zone"}') == 60
    # Another run: the counter has it with the next scrape.
    assert pipeline.process(DAY).success
    wait_until(lambda: ask(f'dagster_pipeline_runs_total{{pipeline_name="{JOB}",status="success"}}') == 2, within_s=60)


def test_no_station_and_no_bike_is_ever_a_label(pipeline: Pipeline, parts: ExitStack, tmp_path: Path) -> None:
    put_raw(pipeline.lake, at(9))
    assert pipeline.process(DAY).success
    log = EventLog(pipeline.instance, tmp_path / "exporter.json")
    reader = LakeReader(pipeline.lake, CONTRACTS)
    exporter = Exporter(
        Sources(source(parts, "event_log", log.read), source(parts, "lake", lambda: reader.read(at(9, 6)))), [], RAW
    )

    page = fetch(f"{serve(parts, exporter)}/metrics")

    stored = Lake(pipeline.lake.store, pipeline.lake.keys).store.get(pipeline.lake.keys.raw(at(9))).body.decode()
    cells = [line.split(",") for line in stored.splitlines()[1:]]
    assert not [name for name in {cell[2].strip('"') for cell in cells} if f'"{name}"' in page]
    assert not [number for number in {cell[0] for cell in cells} if f'"{number}"' in page]


def test_liveness_asks_nobody_and_readiness_asks_all(parts: ExitStack) -> None:
    findings = [Finding("s3", Status.FAIL, "it does not answer", "Check S3_ENDPOINT_URL.")]
    asked: list[int] = []

    def check() -> list[Finding]:
        asked.append(1)
        return findings

    url = serve(parts, exporter_of(parts), check)
    assert json.loads(fetch(f"{url}/healthz")) == {"status": "alive"}
    assert asked == []
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(f"{url}/readyz")
    assert refused.value.code == 503
    found = json.loads(refused.value.read())
    refused.value.close()
    assert found == {
        "ready": False,
        "findings": [
            {"name": "s3", "status": "fail", "found": "it does not answer", "remedy": "Check S3_ENDPOINT_URL."}
        ],
    }


def test_a_warning_leaves_it_ready(parts: ExitStack) -> None:
    document = json.loads(fetch(f"{serve(parts, exporter_of(parts))}/readyz"))

    assert document["ready"] is True
    assert [finding["status"] for finding in document["findings"]] == ["ok", "warn"]


def test_the_start_page_shows_parts_and_sources_is_escaped_and_loads_nothing(parts: ExitStack) -> None:
    page = fetch(serve(parts, exporter_of(parts, vault=lambda: True)) + "/")

    assert "Dagster &lt;UI&gt;" in page
    assert 'href="https://dagster.example.org/?a=1&amp;b=&quot;2&quot;"' in page
    assert "<td>redis</td><td>warn</td><td>it does not</td><td>Start &lt;it&gt;.</td>" in page
    assert "<UI>" not in page
    assert "<script" not in page
    assert "src=" not in page
    assert [name for name in ("event_log", "lake", "vault") if f"<td>{name}</td><td>answers</td>" not in page] == []


def test_there_is_nothing_else(parts: ExitStack) -> None:
    url = serve(parts, exporter_of(parts))
    for path in ("/metrics/", "/../metrics", "/readyz/x"):
        with pytest.raises(urllib.error.HTTPError) as missing:
            fetch(url + path)
        assert missing.value.code == 404
        missing.value.close()
    assert fetch(f"{url}/metrics", method="HEAD") == ""

"""A real Prometheus scrapes pages made for each rule's condition: that rule fires, no other does, and it ends.

Every condition is an instance of its own, with two targets: the exporter's page and the steps' figures. All are healthy
but for what makes the condition. The configuration is the one of `deploy/prometheus` with these changes and no other:
scrapes and evaluations every second, `for` of each rule 3 seconds, and these targets. How long a rule waits is tested
with `promtool` in `deploy/prometheus/tests`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import wrm_pipeline_tests
from wrm_pipeline_tests.fixtures.metrics_page import (
    DAEMONS,
    ENHANCED,
    INGEST,
    RAW,
    RUNS_A_SCRAPE,
    MetricsPages,
    exporter_page,
    series,
    steps_page,
)
from wrm_pipeline_tests.fixtures.monitoring import LocalPrometheus
from wrm_pipeline_tests.fixtures.servers import wait_until

DEPLOYED = Path(wrm_pipeline_tests.__file__).parents[1] / "deploy" / "prometheus"
FOR = "3s"
# Nobody else pushes this asset, so that its missing figures are not found on another instance's page.
ALONE = "wrm_stations_profile"

Change = Callable[[int], dict[str, float]]


def nothing(_reads: int) -> dict[str, float]:
    return {}


def constant(metric: str, value: float, **labels: str) -> Change:
    return lambda _reads: {series(metric, **labels): value}


def ago(metric: str, seconds: float, **labels: str) -> Change:
    return lambda _reads: {series(metric, **labels): time.time() - seconds}


def runs(*, success: int, failure: int) -> Change:
    """Runs of the ingest job that end between two scrapes."""
    return lambda reads: {
        series("dagster_pipeline_runs_total", pipeline_name=INGEST, status="success"): success * reads,
        series("dagster_pipeline_runs_total", pipeline_name=INGEST, status="failure"): failure * reads,
    }


def all_of(*changes: Change) -> Change:
    return lambda reads: {name: value for change in changes for name, value in change(reads).items()}


@dataclass(frozen=True)
class Condition:
    """What differs from a healthy day, and the alerts (name, severity) that fire for it; None: the page is an error."""

    fires: frozenset[tuple[str, str]]
    exporter: Change | None = nothing
    steps: Change | None = nothing


def warns(alert: str, **parts: Change | None) -> Condition:
    return Condition(frozenset({(alert, "warning")}), **parts)


def is_critical(alert: str, **parts: Change | None) -> Condition:
    return Condition(frozenset({(alert, "critical")}), **parts)


def warns_and_is_critical(alert: str, exporter: Change) -> Condition:
    return Condition(frozenset({(alert, "warning"), (alert, "critical")}), exporter)


NEWEST = "wrm_newest_snapshot_timestamp_seconds"
HEARTBEAT = "dagster_daemon_heartbeat_timestamp_seconds"
SUCCESS_AT = "dagster_asset_last_success_timestamp"
READ_AT = "wrm_exporter_source_timestamp_seconds"
STATIONS = "wrm_newest_snapshot_stations"
no_runs = runs(success=0, failure=0)
CONDITIONS = {
    "healthy": Condition(frozenset()),
    "one-failed-run-in-fifty": Condition(frozenset(), runs(success=49, failure=1)),
    "late-snapshot": Condition(frozenset(), ago(NEWEST, 700)),
    "stale": warns("WrmDataStale", exporter=all_of(no_runs, ago(NEWEST, 1500))),
    "stale-for-hours": warns_and_is_critical("WrmDataStale", all_of(no_runs, ago(NEWEST, 9000))),
    "frozen-feed": warns("WrmFeedFrozen", exporter=constant("wrm_snapshot_unchanged_seconds", 5 * 3600)),
    "the-same-bytes-again": warns("WrmFeedFrozen", exporter=ago(NEWEST, 2400)),
    "partial-feed": warns("WrmFeedPartial", exporter=constant(STATIONS, 180)),
    "feed-of-a-few-stations": warns_and_is_critical("WrmFeedPartial", constant(STATIONS, 60)),
    "data-behind": warns("WrmDataBehind", exporter=ago(SUCCESS_AT, 2000, asset_name=ENHANCED)),
    "data-behind-for-hours": warns_and_is_critical("WrmDataBehind", ago(SUCCESS_AT, 9000, asset_name=ENHANCED)),
    "dead-letters": warns("WrmDeadLetterRatio", exporter=constant("wrm_dead_letter_ratio", 0.07)),
    "many-dead-letters": warns_and_is_critical("WrmDeadLetterRatio", constant("wrm_dead_letter_ratio", 0.3)),
    "blocking-check": warns(
        "WrmBlockingCheckFailed",
        exporter=constant("dagster_asset_check_passed", 0, asset_name=ENHANCED, check_name="unique", severity="ERROR"),
    ),
    "a-third-of-the-runs-fails": warns(
        "WrmRunFailureRate", exporter=runs(success=RUNS_A_SCRAPE, failure=RUNS_A_SCRAPE // 2)
    ),
    "all-runs-fail": warns_and_is_critical("WrmRunFailureRate", runs(success=0, failure=RUNS_A_SCRAPE)),
    "failed-step": warns("WrmStepFailed", steps=constant("wrm_step_succeeded", 0, job="wrm_step", asset=RAW)),
    "stuck-queue": warns("WrmQueueStuck", exporter=constant("dagster_queue_oldest_seconds", 1200)),
    "dead-daemon": is_critical("WrmDaemonDead", exporter=ago(HEARTBEAT, 400, daemon=DAEMONS[0])),
    "open-breaker": warns("WrmBreakerOpen", exporter=constant("wrm_breaker_open", 1, breaker="object-store")),
    "open-breaker-of-a-step": warns(
        "WrmBreakerOpen", steps=constant("wrm_step_breaker_open", 1, job="wrm_step", asset=RAW, breaker="object-store")
    ),
    "disk": warns("WrmDiskFull", exporter=constant("wrm_disk_free_ratio", 0.07, path="/srv/dagster")),
    "full-disk": warns_and_is_critical("WrmDiskFull", constant("wrm_disk_free_ratio", 0.01, path="/srv/dagster")),
    "certificate": warns(
        "WrmCertificateExpires",
        exporter=ago("wrm_certificate_expiry_timestamp_seconds", -9 * 86400, endpoint="store.example.org:443"),
    ),
    "ended-certificate": warns_and_is_critical(
        "WrmCertificateExpires",
        ago("wrm_certificate_expiry_timestamp_seconds", 3600, endpoint="store.example.org:443"),
    ),
    "lake-down": is_critical("WrmSourceDown", exporter=constant("wrm_exporter_source_up", 0, source="lake")),
    "event-log-hangs": is_critical("WrmSourceDown", exporter=ago(READ_AT, 1800, source="event_log")),
    "redis-down": warns("WrmRedisDown", exporter=constant("wrm_exporter_source_up", 0, source="redis")),
    "exporter-down": is_critical("WrmExporterDown", exporter=None),
    "pushgateway-down": warns("WrmPushgatewayDown", steps=None),
    "missing-figures": warns(
        "WrmFiguresMissing",
        exporter=ago(SUCCESS_AT, 60, asset_name=ALONE),
        steps=all_of(
            ago("wrm_step_finished_timestamp_seconds", 3600, job="wrm_step", asset=ALONE),
            constant("wrm_step_succeeded", 1, job="wrm_step", asset=ALONE),
        ),
    ),
}


def alert_names() -> set[str]:
    return {
        rule["alert"]
        for path in DEPLOYED.glob("rules/*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def hurried_configuration(directory: Path, address: str) -> str:
    """Copy the rules with `for` cut down beside the configuration, and return that with these targets."""
    (directory / "rules").mkdir(parents=True)
    for path in DEPLOYED.glob("rules/*.yml"):
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule["for"] = FOR
        (directory / "rules" / path.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    del config["alerting"]
    config["scrape_configs"] = [
        {
            **scrape,
            "static_configs": [
                {
                    "targets": [address],
                    "labels": {"instance": name, "__metrics_path__": f"/{scrape['job_name']}/{name}"},
                }
                for name in CONDITIONS
            ],
        }
        for scrape in config["scrape_configs"]
        if scrape["job_name"] in {"wrm", "pushgateway"}
    ]
    return str(yaml.safe_dump(config))


def show(pages: MetricsPages, name: str, condition: Condition) -> None:
    exporter, steps = condition.exporter, condition.steps
    pages.show(f"/wrm/{name}", None if exporter is None else lambda reads: {**exporter_page(reads), **exporter(reads)})
    pages.show(f"/pushgateway/{name}", None if steps is None else lambda reads: {**steps_page(reads), **steps(reads)})


def condition_of(alert: dict[str, Any]) -> str:
    labels = alert["labels"]
    # Before the first scrape the exporter is missing altogether, which is nobody's condition and has no instance.
    return "missing-figures" if labels.get("asset") == ALONE else str(labels.get("instance"))


def active(prometheus: LocalPrometheus, *states: str) -> set[tuple[str, str, str]]:
    return {
        (condition_of(alert), alert["labels"]["alertname"], alert["labels"]["severity"])
        for alert in prometheus.alerts()
        if alert["state"] in states
    }


@pytest.fixture(scope="module")
def pages() -> Iterator[MetricsPages]:
    with MetricsPages() as pages:
        for name, condition in CONDITIONS.items():
            show(pages, name, condition)
        yield pages


@pytest.fixture(scope="module")
def prometheus(pages: MetricsPages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrometheus]:
    directory = tmp_path_factory.mktemp("prometheus") / "server"
    with LocalPrometheus(directory, hurried_configuration(directory, pages.address)) as server:
        yield server


def test_every_rule_has_its_condition() -> None:
    assert {alert for condition in CONDITIONS.values() for alert, _ in condition.fires} == alert_names()


def test_each_rule_fires_on_its_condition_and_on_no_other_and_ends_with_it(
    prometheus: LocalPrometheus, pages: MetricsPages
) -> None:
    expected = {(name, *alert) for name, condition in CONDITIONS.items() for alert in condition.fires}
    wait_until(lambda: active(prometheus, "firing") >= expected, within_s=40)
    # Five more evaluations, in which an alert that somebody else's condition makes would have been noticed.
    since = time.time()
    wait_until(lambda: prometheus.query("time() - 5")[0].value > since, within_s=20)
    assert active(prometheus, "firing", "pending") == expected

    for alert in prometheus.alerts():
        told = alert["annotations"]
        assert set(told) == {"summary", "description", "what_to_do"}
        assert not any(bad in text for text in told.values() for bad in ("<no value>", "<error", "{{", "%!", "NaN"))
        assert "`" in told["what_to_do"] or "Dagster UI" in told["what_to_do"], "a command or a page, not advice"

    # Many good runs are what makes the share of failed ones small again.
    mended = Condition(frozenset(), runs(success=100 * RUNS_A_SCRAPE, failure=0))
    for name in CONDITIONS:
        show(pages, name, mended)
    wait_until(lambda: not active(prometheus, "firing", "pending"), within_s=40)

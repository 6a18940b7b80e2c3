"""Alertmanager's configuration: who is told, in what words, and what is held back for a cause."""

import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any, Self

import pytest
import yaml

from wrm_pipeline_tests.fixtures.monitoring import LocalAlertmanager
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.unit.deploy.files import DEPLOY, rules, run_tool

CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
RULES = list(rules())


def labels_of(alert: str, severity: str | None = None, **labels: str) -> dict[str, str]:
    """Return the labels an alert has when it arrives: its rule's, and the instance of the exporter."""
    rule = next(
        rule
        for rule in RULES
        if rule["alert"] == alert and severity in {None, rule["labels"]["severity"]} and fits(rule["labels"], labels)
    )
    instance = {} if rule["labels"].get("source") == "pushgateway" else {"instance": "127.0.0.1:9187"}
    return {"alertname": alert, **instance, **rule["labels"], **labels}


def fits(rule: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return rule.get("source", wanted.get("source")) == wanted.get("source", rule.get("source"))


def test_the_configuration_is_valid() -> None:
    said = run_tool("amtool", "check-config", str(CONFIG))
    assert "SUCCESS" in said
    assert "2 receivers" in said


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"severity": "critical"}, "page"),
        ({"severity": "warning"}, "ticket"),
        ({"severity": "wraning"}, "page"),  # a label with a slip must not get lost
        ({}, "page"),
    ],
    ids=["critical", "warning", "slip", "none"],
)
def test_routes(labels: dict[str, str], receiver: str) -> None:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    run_tool("amtool", "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}", *pairs)


def test_no_address_and_no_secret_stands_in_the_file() -> None:
    receivers = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["receivers"]
    settings = [slack for receiver in receivers for slack in receiver["slack_configs"]]
    assert all(set(slack) == {"api_url_file", "send_resolved", "title", "text"} for slack in settings)
    assert [Path(slack["api_url_file"]).name for slack in settings] == ["alert_url_page", "alert_url_ticket"]


class Receiver:
    """A channel on loopback that keeps what is posted to it."""

    def __init__(self) -> None:
        self.messages: Queue[dict[str, Any]] = Queue()
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def alertmanager(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAlertmanager]:
    """The deployed configuration, but for where addresses lie and that a group waits for 1 s instead of 30."""
    directory = tmp_path_factory.mktemp("alertmanager")
    for name in ("alert_url_page", "alert_url_ticket"):
        (directory / name).write_text(receiver.url, encoding="utf-8")
    text = CONFIG.read_text(encoding="utf-8").replace("/etc/prometheus/secrets", str(directory))
    with LocalAlertmanager(directory / "server", text.replace("group_wait: 30s", "group_wait: 1s")) as server:
        yield server


def post(server: LocalAlertmanager, *alerts: Mapping[str, str], ended: bool = False) -> None:
    """Send alerts as Prometheus does, at work or ended."""
    body = json.dumps(
        [
            {
                "labels": labels,
                "annotations": {
                    "summary": f"summary of {labels['alertname']}",
                    "description": "a description",
                    "what_to_do": "`wrm health`",
                },
                "startsAt": "2025-05-12T18:05:00Z",
                **({"endsAt": "2025-05-12T18:10:00Z"} if ended else {}),
            }
            for labels in alerts
        ]
    ).encode()
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{server.url}/api/v2/alerts", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - loopback


CAUSES: dict[str, tuple[dict[str, str], list[dict[str, str]], list[dict[str, str]]]] = {
    # cause, what it explains, what it does not
    "critical-for-warning": (
        labels_of("WrmDataStale", "critical"),
        [labels_of("WrmDataStale", "warning")],
        [labels_of("WrmFeedPartial", "warning"), labels_of("WrmDiskFull", "warning", path="/srv")],
    ),
    "critical-of-one-disk": (
        labels_of("WrmDiskFull", "critical", path="/"),
        [labels_of("WrmDiskFull", "warning", path="/")],
        [labels_of("WrmDiskFull", "warning", path="/srv")],
    ),
    "critical-of-one-pipeline": (
        labels_of("WrmRunFailureRate", "critical", pipeline_name="a"),
        [labels_of("WrmRunFailureRate", "warning", pipeline_name="a")],
        [labels_of("WrmRunFailureRate", "warning", pipeline_name="b")],
    ),
    "exporter": (
        labels_of("WrmExporterDown"),
        [
            labels_of("WrmDataStale", "critical"),
            labels_of("WrmSourceDown", source="lake"),
            labels_of("WrmDaemonDead", daemon="SENSOR"),
            labels_of("WrmBreakerOpen", source="redis", breaker="object-store"),
            labels_of("WrmDiskFull", "critical", path="/srv"),
        ],
        [labels_of("WrmStepFailed", asset="wrm_stations_raw_data")],
    ),
    "lake": (
        labels_of("WrmSourceDown", source="lake"),
        [labels_of("WrmDataStale", "critical"), labels_of("WrmDeadLetterRatio", "critical")],
        [
            labels_of("WrmDaemonDead", daemon="SENSOR"),
            labels_of("WrmSourceDown", source="vault"),
            labels_of("WrmRedisDown", source="redis"),
        ],
    ),
    "redis": (
        labels_of("WrmRedisDown", source="redis"),
        [labels_of("WrmBreakerOpen", source="redis", breaker="object-store")],
        [labels_of("WrmDataStale", "warning")],
    ),
    "pushgateway": (
        labels_of("WrmPushgatewayDown"),
        [labels_of("WrmStepFailed", asset="x"), labels_of("WrmFiguresMissing", asset="x")],
        [labels_of("WrmDataStale", "warning"), labels_of("WrmBreakerOpen", source="redis", breaker="object-store")],
    ),
    "daemon": (
        labels_of("WrmDaemonDead", daemon="SCHEDULER"),
        [labels_of("WrmDataStale", "warning"), labels_of("WrmQueueStuck")],
        [labels_of("WrmFeedPartial", "warning")],
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_what_a_cause_explains_is_held_back_and_nothing_else(alertmanager: LocalAlertmanager, name: str) -> None:
    cause, explained, others = CAUSES[name]
    # Each case is a machine of its own; what steps push has no instance, and its cause, the gateway, is one for all.
    mine = [{**labels, "case": name} for labels in (cause, *explained, *others)]
    if name != "pushgateway":
        mine = [{**labels, "instance": name} if "instance" in labels else labels for labels in mine]
    post(alertmanager, *mine)

    def held_back() -> dict[str, bool]:
        return {
            json.dumps(alert["labels"], sort_keys=True): bool(alert["status"]["inhibitedBy"])
            for alert in alertmanager.alerts()
            if alert["labels"].get("case") == name
        }

    expected = {
        json.dumps(labels, sort_keys=True): at in range(1, len(explained) + 1) for at, labels in enumerate(mine)
    }
    try:
        wait_until(lambda: held_back() == expected, within_s=10)
    finally:
        post(alertmanager, *mine, ended=True)


def test_a_page_says_what_since_when_and_what_to_do_and_one_area_is_one_message(
    alertmanager: LocalAlertmanager, receiver: Receiver
) -> None:
    post(
        alertmanager,
        {**labels_of("WrmDataStale", "critical"), "area": "tested"},
        {**labels_of("WrmFeedPartial", "critical"), "area": "tested"},
    )
    while True:
        (message,) = receiver.messages.get(timeout=20)["attachments"]
        if "tested" in message["title"]:
            break
    assert message["title"] == "2 firing: tested"
    assert "*summary of WrmDataStale* (critical)\nsince 2025-05-12 18:05 UTC\na description\n" in message["text"]
    assert "What to do: `wrm health`" in message["text"]
    assert "summary of WrmFeedPartial" in message["text"]

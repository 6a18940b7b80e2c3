"""Figures of a step at a real Pushgateway, and what they cost when it is not well."""

import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from wrm_pipeline.cache.cache import CacheStats
from wrm_pipeline.lake.object_store import Traffic
from wrm_pipeline.telemetry import figures
from wrm_pipeline.telemetry.figures import StepFigures, push
from wrm_pipeline_tests.fixtures.fault_proxy import HTML, Answer, FaultProxy, Reset, Stall
from wrm_pipeline_tests.fixtures.monitoring import LocalPushgateway, pushgateway, pushgateway_server  # noqa: F401

ALL = StepFigures(
    seconds=1.25,
    succeeded=True,
    traffic=Traffic(Counter(get=3, put=1), bytes_received=700, bytes_sent=900, retries=2),
    cache=CacheStats(Counter({("lru", "hit"): 4, ("redis", "miss"): 1}), Counter(get=3), bytes_saved=5000),
    breakers_open={"feed": False, "object-store": True},
    feed_seconds=0.5,
    rows={"kept": 748, "duplicate": 1, "bikes_negative": 2},
)


@pytest.fixture(autouse=True)
def _gateways_unknown() -> Iterator[None]:
    """Let no test meet a gateway that an earlier one has found to be down."""
    figures._gateway.cache_clear()
    yield
    figures._gateway.cache_clear()


@pytest.fixture
def faulty(pushgateway: LocalPushgateway) -> Iterator[FaultProxy]:  # noqa: F811
    with FaultProxy(pushgateway.url) as proxy:
        yield proxy


def pushed(gateway: LocalPushgateway) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of the one group by name and label values, without the gateway's own."""
    (group,) = gateway.groups()
    own = {"instance", *group["labels"]}

    def values(metric: Any) -> dict[tuple[str, ...], float]:
        return {
            tuple(value for name, value in sorted(found.get("labels", {}).items()) if name not in own): float(
                found["value"]
            )
            for found in metric["metrics"]
        }

    return {name: values(metric) for name, metric in group.items() if name.startswith("wrm_")}


def test_all_that_a_step_knows_arrives(pushgateway: LocalPushgateway) -> None:  # noqa: F811
    before = time.time()
    push(ALL, "wrm_stations_raw_data", pushgateway.url)

    found = pushed(pushgateway)
    ((ended, finished_at),) = found.pop("wrm_step_finished_timestamp_seconds").items()
    assert (ended, before <= finished_at <= time.time()) == ((), True)
    assert found == {
        "wrm_step_seconds": {(): 1.25},
        "wrm_step_succeeded": {(): 1.0},
        "wrm_step_s3_requests": {("get",): 3.0, ("put",): 1.0},
        "wrm_step_s3_retries": {(): 2.0},
        "wrm_step_s3_bytes": {("received",): 700.0, ("sent",): 900.0},
        "wrm_step_cache_requests": {("hit", "lru"): 4.0, ("miss", "redis"): 1.0},
        "wrm_step_cache_s3_requests_saved": {("get",): 3.0},
        "wrm_step_cache_bytes_saved": {(): 5000.0},
        "wrm_step_breaker_open": {("feed",): 0.0, ("object-store",): 1.0},
        "wrm_step_feed_seconds": {(): 0.5},
        "wrm_step_rows": {("kept",): 748.0, ("duplicate",): 1.0, ("bikes_negative",): 2.0},
    }
    (group,) = pushgateway.groups()
    assert group["labels"] == {"job": "wrm_step", "asset": "wrm_stations_raw_data"}


def test_a_push_replaces_what_its_asset_pushed_before_and_nothing_else(pushgateway: LocalPushgateway) -> None:  # noqa: F811
    push(ALL, "one", pushgateway.url)
    push(ALL, "two/parts", pushgateway.url)
    push(StepFigures(seconds=3, succeeded=False), "one", pushgateway.url)

    groups = {group["labels"]["asset"]: group for group in pushgateway.groups()}
    assert set(groups) == {"one", "two/parts"}
    assert "wrm_step_rows" not in groups["one"]
    assert groups["one"]["wrm_step_succeeded"]["metrics"][0]["value"] == "0"
    assert "wrm_step_rows" in groups["two/parts"]


@pytest.mark.parametrize(
    "fault",
    [
        Stall(),
        Reset(),
        Answer(200, HTML),
        Answer(500, b"out of memory"),
        Answer(507),
        Answer(302, headers={"Location": "http://127.0.0.1:1/"}),
    ],
    ids=["black hole", "reset", "rubbish", "server error", "out of memory", "redirected"],
)
def test_a_gateway_that_is_not_well_costs_one_warning(
    faulty: FaultProxy,
    fault: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faulty.add(fault, times=None)

    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            push(ALL, "a", faulty.url)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WRM_PUSHGATEWAY_URL" in caplog.text
    assert faulty.count() == 1  # and is left alone after that


def test_a_gateway_that_is_down_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            push(ALL, "a", f"http://127.0.0.1:{port}")

    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_no_proxy_of_the_environment_is_asked(
    pushgateway: LocalPushgateway,  # noqa: F811
    faulty: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", faulty.url)
    push(ALL, "a", pushgateway.url)

    assert faulty.count() == 0
    assert len(pushgateway.groups()) == 1

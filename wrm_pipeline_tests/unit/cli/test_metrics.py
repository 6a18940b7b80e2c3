"""`wrm metrics serve`: the exporter as a process of its own, on a real store and a real instance."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster import DagsterInstance

from wrm_pipeline.cli.local_servers import LocalRedis, LocalServerError, free_port
from wrm_pipeline.cli.metrics import STATE_FILE, dagster_home, metrics, metrics_server
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.resilience import CircuitBreaker, Failure, OptionalRedis, RedisBreakerState
from wrm_pipeline.settings import SettingsError, StoreSettings, subprocess_environment
from wrm_pipeline_tests.fixtures.dagster import at, environment_of, put_raw
from wrm_pipeline_tests.fixtures.monitoring import fetch
from wrm_pipeline_tests.fixtures.servers import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").touch()
    with DagsterInstance.from_config(str(home)):
        return home


@contextmanager
def serving(home: Path, store: StoreSettings, **variables: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    environment = subprocess_environment(**environment_of(store, DAGSTER_HOME=str(home), **variables))
    code = "from wrm_pipeline.cli.metrics import metrics; metrics()"
    command = [sys.executable, "-u", "-c", code, "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield line.split()[1].removesuffix("/metrics"), process
        finally:
            process.kill()


def test_it_serves_what_event_log_lake_and_redis_know_until_it_is_told_to_end(
    home: Path, lake: Lake, store_settings: StoreSettings, redis_server: LocalRedis
) -> None:
    put_raw(lake, at(9), snapshot(1, at(9)))
    breaker = CircuitBreaker("feed", failure_threshold=1, state=RedisBreakerState(OptionalRedis(redis_server.url)))
    with pytest.raises(OSError, match="down"):
        breaker.run(_down, lambda _: Failure.TRANSIENT)

    with serving(home, store_settings, REDIS_URL=redis_server.url) as (url, process):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        wait_until(lambda: 'wrm_exporter_source_up{source="lake"} 1.0' in fetch(f"{url}/metrics"), within_s=60)
        wait_until(lambda: 'wrm_exporter_source_up{source="redis"} 1.0' in fetch(f"{url}/metrics"), within_s=60)
        page = fetch(f"{url}/metrics")

        assert 'wrm_exporter_source_up{source="event_log"} 1.0' in page
        (newest,) = re.findall(r"^wrm_newest_snapshot_timestamp_seconds (.*)$", page, re.MULTILINE)
        assert float(newest) == at(9).timestamp()
        assert 'wrm_breaker_open{breaker="feed"} 1.0' in page
        assert 'wrm_breaker_open{breaker="object-store"} 0.0' in page
        assert f'wrm_disk_free_ratio{{path="{home}"}}' in page
        assert json.loads(fetch(f"{url}/healthz")) == {"status": "alive"}
        assert (home / STATE_FILE).is_file()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _down() -> None:
    raise OSError("down")


def test_it_goes_on_without_store_and_redis(home: Path, store_settings: StoreSettings) -> None:
    gone = {"S3_ENDPOINT_URL": "http://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1/0"}
    with serving(home, store_settings, **gone) as (url, _):
        page = fetch(f"{url}/metrics")

    assert 'wrm_exporter_source_up{source="lake"} 0.0' in page
    assert 'wrm_exporter_source_up{source="redis"} 0.0' in page


def test_a_port_that_is_taken_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    port = free_port()
    with (
        metrics_server(port=port),
        pytest.raises(LocalServerError, match=f"{port} cannot be listened on"),
        metrics_server(port=port),
    ):
        pass


def test_without_an_instance_there_is_nothing_to_show() -> None:
    with pytest.raises(SettingsError, match="DAGSTER_HOME not set"):
        dagster_home()


def test_it_listens_on_this_machine_alone_by_default() -> None:
    text = CliRunner().invoke(metrics, ["serve", "--help"]).output

    assert "127.0.0.1" in text
    assert "9187" in text

"""Store, Redis and keys in Vault and nowhere else: every command that needs them finds them there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.cli.metrics import metrics_server
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.certificates import loopback_tls
from wrm_pipeline_tests.fixtures.dagster import contents
from wrm_pipeline_tests.fixtures.fault_proxy import FaultProxy
from wrm_pipeline_tests.fixtures.monitoring import fetch
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.fixtures.vault import LocalVault, set_variables, vault, vault_server  # noqa: F401 - fixtures

WRM = str(Path(sys.executable).with_name("wrm"))
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def variables(
    vault: LocalVault,  # noqa: F811 - the fixture
    store_settings: StoreSettings,
    redis_server: LocalRedis,
) -> dict[str, str]:
    """What is in the environment: who logs in, and the part of the lake that is this test's."""
    vault.put(
        "development/storage",
        s3_access_key_id=store_settings.access_key_id.get_secret_value(),
        s3_secret_access_key=store_settings.secret_access_key.get_secret_value(),
        s3_endpoint_url=store_settings.endpoint_url,
        s3_region_name=store_settings.region,
        bucket_name=store_settings.bucket,
    )
    vault.put("development/redis", redis_url=redis_server.url)
    vault.put("development/privacy", wrm_pseudonym_key="0123456789abcdef" * 2)
    return {**vault.variables(), "WRM_STATIONS_S3_PREFIX": store_settings.prefix}


@pytest.fixture
def wrm(tmp_path: Path, variables: dict[str, str]) -> Command:
    """Run the command in a folder of its own."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [WRM, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200", **measured, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_snapshots_go_through_the_pipeline_and_every_command_finds_them(
    wrm: Command,
    tmp_path: Path,
    lake: Lake,
    store_settings: StoreSettings,
) -> None:
    done = wrm("run", "--snapshots", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    assert store_settings.endpoint_url in done.stdout
    assert not (tmp_path / ".wrm" / "s3").exists(), "a store was started although Vault names one"
    assert not (tmp_path / ".wrm" / "pseudonym.key").exists(), "a key was made although Vault has one"
    enhanced = [key for key in contents(lake) if key.startswith("enhanced/")]
    assert enhanced
    for command in ("status", "doctor", "dlq list", f"lineage {lake.keys.prefix}{enhanced[0]}", "secrets check"):
        shown = wrm(*command.split())
        assert shown.returncode == 0, f"wrm {command}: {shown.stdout}{shown.stderr}"
    found = json.loads(wrm("health", "--json").stdout)["findings"]
    assert {finding["name"]: finding["status"] for finding in found if finding["name"] != "daemon"} == {
        "vault": "ok",
        "s3": "ok",
        "freshness": "ok",
        "redis": "ok",
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a Dagster instance."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").touch()
    return home


def page_with(*lines: str) -> None:
    """Serve the metrics until all these lines are on the page."""
    with metrics_server("127.0.0.1", 0) as url:
        wait_until(lambda: all(line in fetch(f"{url}/metrics") for line in lines), within_s=30)


def test_the_metrics_show_the_lake_and_the_breakers(
    variables: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, {**variables, "DAGSTER_HOME": str(home)})

    page_with('wrm_exporter_source_up{source="lake"} 1.0', 'wrm_breaker_open{breaker="feed"} 0.0')


def test_the_metrics_show_when_the_certificate_of_the_store_ends(
    variables: dict[str, str],
    vault: LocalVault,  # noqa: F811 - the fixture
    home: Path,
    tmp_path: Path,
    store_settings: StoreSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, {**variables, "DAGSTER_HOME": str(home)})
    with FaultProxy(store_settings.endpoint_url, tls=loopback_tls(tmp_path).server) as proxy:
        vault.put("development/storage", **{**vault.get("development/storage"), "s3_endpoint_url": proxy.url})

        page_with(f'wrm_certificate_expiry_timestamp_seconds{{endpoint="{proxy.url}"}}')

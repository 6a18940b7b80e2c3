"""`wrm health`: one look, an exit code, JSON for programs."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dagster import DagsterInstance
from dagster._daemon.types import DaemonHeartbeat

from wrm_pipeline.cli.health import health
from wrm_pipeline.settings import LOCAL_ENVIRONMENT, StoreSettings
from wrm_pipeline_tests.fixtures.dagster import environment_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of an instance whose daemon is alive."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").touch()
    with DagsterInstance.from_config(str(home)) as instance:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), kind, "d"))
    return home


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(health, arguments, env=environment)


def test_healthy_is_exit_code_0(home: Path, store_settings: StoreSettings) -> None:
    result = run("--json", **environment_of(store_settings, DAGSTER_HOME=str(home)))

    document = json.loads(result.stdout)
    assert (result.exit_code, document["healthy"]) == (0, True)
    assert {finding["name"]: finding["status"] for finding in document["findings"]} == {
        "s3": "ok",
        "freshness": "warn",
        "daemon": "ok",
    }


def test_a_part_that_is_down_is_exit_code_1_and_says_what_to_do(home: Path, store_settings: StoreSettings) -> None:
    variables = environment_of(store_settings, DAGSTER_HOME=str(home)) | {"S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    result = run(**variables, COLUMNS="400")

    assert result.exit_code == 1
    assert "S3_ENDPOINT_URL" in result.output
    assert store_settings.secret_access_key.get_secret_value() not in result.output


def test_the_instance_of_wrm_up_is_found_in_its_folder(home: Path, store_settings: StoreSettings) -> None:
    LOCAL_ENVIRONMENT.parent.mkdir(parents=True)
    variables = environment_of(store_settings, DAGSTER_HOME=str(home))
    LOCAL_ENVIRONMENT.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))

    assert run().exit_code == 0


@pytest.mark.parametrize("where", [None, "/no/such/folder"], ids=["nowhere", "no folder"])
def test_without_an_instance_the_daemon_is_down_and_the_setting_named(
    store_settings: StoreSettings, where: str | None
) -> None:
    variables = environment_of(store_settings) | ({} if where is None else {"DAGSTER_HOME": where})
    result = run("--json", **variables)

    (daemon,) = (finding for finding in json.loads(result.stdout)["findings"] if finding["name"] == "daemon")
    assert result.exit_code == 1
    assert "DAGSTER_HOME" in daemon["found"]

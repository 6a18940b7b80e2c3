"""The command line: help, exit codes, JSON, and errors that are one sentence without a traceback."""

import datetime as dt
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.command import Run, wrm_command
from wrm_pipeline_tests.fixtures.dagster import DAY, at, environment_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

COMMANDS = ("up", "run", "status", "doctor", "feed", "contracts", "dlq")


@pytest.fixture
def wrm(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Run the command in an empty directory and return exit code, output and errors."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("COLUMNS", "160")
    return wrm_command(monkeypatch, capfd)


def test_nothing_large_is_imported_before_a_command_is_chosen() -> None:
    code = "import sys, wrm_pipeline.cli.main; print({'boto3', 'dagster', 'pandas', 'pyarrow'} & {*sys.modules})"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.fixture
def configured(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    """Settings of the real store in the environment, with little patience."""
    settings = replace(store_settings, retry_budget_s=0.2)
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    return settings


def assert_one_sentence(err: str) -> None:
    assert err.startswith("wrm: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_help_names_every_command(wrm: Run) -> None:
    code, out, _ = wrm("--help")

    assert code == 0
    assert all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(wrm: Run, command: str) -> None:
    code, out, err = wrm(command, "--help")

    assert (code, err) == (0, "")
    assert f"wrm {command} [OPTIONS]" in out.splitlines()[0]
    assert len(out) > 200


def test_wrong_usage_is_exit_code_2(wrm: Run) -> None:
    assert wrm("nonsense")[0] == 2
    assert wrm("status", "--days", "0")[0] == 2
    assert wrm("run", "--snapshots", "x")[0] == 2


def test_the_version_is_the_package_s(wrm: Run) -> None:
    from wrm_pipeline import __version__

    assert wrm("--version")[1].strip() == f"wrm, version {__version__}"


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_missing_settings_are_named_in_one_sentence(wrm: Run, command: str) -> None:
    code, out, err = wrm(command)

    assert (code, out) == (1, "")
    assert_one_sentence(err)
    assert "S3_ENDPOINT_URL, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, BUCKET_NAME not set" in err


def test_a_wrong_setting_is_named(wrm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_POLL_CRON", "every now and then")

    code, _, err = wrm("status")

    assert code == 1
    assert_one_sentence(err)
    assert "WRM_POLL_CRON" in err


def test_status_of_an_empty_lake(wrm: Run, configured: StoreSettings) -> None:
    code, out, err = wrm("status")

    assert (code, err) == (0, "")
    assert "Raw holds no snapshot yet." in out


def test_status_as_a_table_and_as_json_agree(wrm: Run, configured: StoreSettings) -> None:
    with ObjectStore(configured) as store:
        lake = Lake(store, LakeKeys(configured.prefix))
        put_raw(lake, at(8))
        built = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, Provenance("r", "a"))

    (_, table, _), (code, text, err) = wrm("status"), wrm("status", "--json")

    assert (code, err) == (0, "")
    document = json.loads(text)
    assert document["newest_snapshot"] == at(8).isoformat()
    assert document["lag_s"] == 0.0
    assert document["days"][0]["rows_kept"] == built.rows.num_rows
    assert f" {built.rows.num_rows} " in table
    assert dt.datetime.fromisoformat(document["at"]).tzinfo is not None


def test_a_store_that_is_down_is_one_sentence_that_names_the_address_and_the_setting(
    wrm: Run, configured: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("S3_ENDPOINT_URL", address)

    code, out, err = wrm("status")

    assert (code, out) == (1, "")
    assert address in err
    assert "S3_ENDPOINT_URL" in err
    assert "Traceback" not in err
    assert configured.secret_access_key.get_secret_value() not in err


def test_a_missing_bucket_and_a_refused_key_say_what_to_check(
    wrm: Run, configured: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUCKET_NAME", "no-such-bucket")
    code, _, err = wrm("status")
    assert code == 1
    assert_one_sentence(err)
    assert "Check BUCKET_NAME" in err

    monkeypatch.setenv("BUCKET_NAME", configured.bucket)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "wrong")
    code, _, err = wrm("status")
    assert code == 1
    assert_one_sentence(err)
    assert "Check S3_SECRET_ACCESS_KEY" in err


def test_the_doctor_finds_a_good_store_good(wrm: Run, configured: StoreSettings) -> None:
    code, out, _ = wrm("doctor", "--json")

    assert code == 0
    findings = json.loads(out)
    assert {"ok"} <= {finding["status"] for finding in findings} <= {"ok", "warn", "skipped"}
    assert wrm("doctor")[0] == 0


def test_the_doctor_s_exit_code_is_1_when_something_fails_and_it_says_what_to_do(
    wrm: Run, configured: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "wrong")

    code, out, err = wrm("doctor")

    assert code == 1
    assert "S3_SECRET_ACCESS_KEY" in out
    assert "Traceback" not in out + err


def test_nothing_is_started_in_production(wrm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_ENV", "production")

    for command in ("run", "up"):
        code, _, err = wrm(command)
        assert code == 1
        assert_one_sentence(err)
        assert "WRM_ENV is production" in err


def test_up_says_so_when_its_port_is_taken(wrm: Run, store_server: object, store_settings: StoreSettings) -> None:
    taken = store_settings.endpoint_url.rpartition(":")[2]

    code, _, err = wrm("up", "--port", taken)

    assert code == 1
    assert_one_sentence(err)
    assert f"Port {taken} is taken" in err

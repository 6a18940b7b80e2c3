"""The parts that `wrm up` and `wrm run` start: announced while they run, and gone afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wrm_pipeline.cli.local_servers import LocalServerError, is_free
from wrm_pipeline.cli.local_stack import local_stack
from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.settings import LOCAL_ENVIRONMENT, StoreSettings, load_settings
from wrm_pipeline_tests.fixtures.dagster import environment_of

SET_BY_THE_STACK = (
    "S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_REGION_NAME", "BUCKET_NAME", "WRM_FEED_URL",
    "DAGSTER_HOME",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in SET_BY_THE_STACK:
        monkeypatch.setenv(name, "")  # so that it is as before when the test has ended
        monkeypatch.delenv(name)


def forget() -> None:
    """Forget what a stack has set for this process, as another process would not know it."""
    for name in SET_BY_THE_STACK:
        os.environ.pop(name, None)


def test_without_settings_a_store_and_a_feed_are_started_announced_to_this_user_and_end_with_the_stack() -> None:
    with local_stack(bad_rows=1) as stack:
        assert stack.store is not None
        assert stack.simulator is not None
        assert (stack.store_address, stack.feed_address) == (stack.store.endpoint_url, stack.simulator.url)
        assert stack.dagster_home.is_dir()
        ports = [stack.store.port, stack.simulator.port]
        assert not any(map(is_free, ports))

        forget()
        settings = load_settings()
        assert settings.require_store().endpoint_url == stack.store_address
        assert settings.wrm_feed_url == stack.feed_address
        assert LOCAL_ENVIRONMENT.stat().st_mode & 0o777 == 0o600

    assert all(map(is_free, ports))
    assert not LOCAL_ENVIRONMENT.exists()


def test_what_the_settings_name_is_not_started(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(store_settings, WRM_FEED_URL="https://example.org/feed").items():
        monkeypatch.setenv(name, value)

    with local_stack() as stack:
        assert (stack.store, stack.simulator) == (None, None)
        assert (stack.store_address, stack.feed_address) == (store_settings.endpoint_url, "https://example.org/feed")


def test_the_configuration_of_the_project_becomes_that_of_the_instance(
    tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(store_settings).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    with local_stack() as stack:
        assert (stack.dagster_home / "dagster.yaml").read_text() == "telemetry:\n  enabled: false\n"


def test_production_gets_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_ENV", "production")

    with pytest.raises(LocalServerError, match="Set S3_ENDPOINT_URL and WRM_FEED_URL"), local_stack():
        pass


def test_an_announcement_that_a_killed_one_left_is_not_believed() -> None:
    """It once was: the next `wrm run` then asked a store that no longer ran, and failed."""
    LOCAL_ENVIRONMENT.parent.mkdir()
    LOCAL_ENVIRONMENT.write_text("S3_ENDPOINT_URL=http://127.0.0.1:9\nWRM_FEED_URL=http://127.0.0.1:9/\n")

    with local_stack() as stack:
        assert stack.store is not None
        assert stack.simulator is not None


def test_a_second_one_uses_the_parts_of_the_first_and_leaves_its_announcement() -> None:
    with local_stack() as first:
        forget()
        with local_stack() as second:
            assert (second.store, second.simulator) == (None, None)
            assert (second.store_address, second.feed_address) == (first.store_address, first.feed_address)
        forget()

        assert load_settings().s3_endpoint_url == first.store_address


def test_a_killed_one_s_store_is_taken_over_with_all_that_it_holds(tmp_path: Path) -> None:
    program = (
        "from wrm_pipeline.cli.local_stack import local_stack\n"
        "from wrm_pipeline.resources.object_store import open_lake\n"
        "from wrm_pipeline.settings import load_settings\n"
        "with local_stack():\n"
        "    open_lake(load_settings()).store.put('kept', b'x', content_type='text/plain')\n"
        "    print('ready', flush=True)\n"
        "    input()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait()

    with local_stack() as stack:
        assert stack.store is not None
        lake = open_lake(load_settings())
        with lake.store:
            assert lake.store.get("kept").body == b"x"

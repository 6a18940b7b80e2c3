"""The code location in processes of its own, as an engineer in a shell starts it."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest

from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, build_client
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline_tests.fixtures.dagster import DAY, contents, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import FaultProxy, Stall
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.fixtures.snapshots import recorded

DAGSTER = str(Path(sys.executable).with_name("dagster"))
MATERIALIZE = (
    *("asset", "materialize", "-m", "wrm_pipeline.definitions"),
    *("--select", "wrm_stations_enhanced_data_all", "--partition", "2025-05-12"),
)
VALIDATE = ("definitions", "validate", "--load-with-grpc", "-m", "wrm_pipeline.definitions")


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The variables of a bare shell; those of the coverage measurement are let through."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **measured}


@pytest.fixture
def bucket(store_server: LocalStore) -> Iterator[Lake]:
    """A bucket of its own, since the default prefix is part of what is tested."""
    settings = replace(store_server.settings(), bucket=f"wrm-{uuid.uuid4().hex[:12]}")
    client = build_client(settings)
    client.create_bucket(Bucket=settings.bucket)
    client.close()
    with ObjectStore(settings) as store:
        yield Lake(store, LakeKeys(settings.prefix))


@pytest.fixture
def s3_variables(store_server: LocalStore, bucket: Lake) -> dict[str, str]:
    """Exactly S3_* and BUCKET_NAME."""
    return {**store_server.environment(), "BUCKET_NAME": bucket.store.bucket}


def dagster(*arguments: str, environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DAGSTER, *arguments],
        env=dict(environment),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_day_of_recorded_snapshots_is_materialized_with_only_the_store_s_variables_set(
    bucket: Lake, store_server: LocalStore, s3_variables: dict[str, str], shell: dict[str, str], tmp_path: Path
) -> None:
    """It is, too, when the command was killed in the middle and is given again."""
    snapshots = [snapshot for snapshot in recorded("ucl_wroclaw") if snapshot.time.date() == DAY]
    for snapshot in snapshots:
        put_raw(bucket, snapshot.time, snapshot.body)
    raw = contents(bucket)

    done = dagster(*MATERIALIZE, environment={**shell, **s3_variables}, directory=tmp_path)

    assert done.returncode == 0, done.stderr[-3000:]
    assert bucket.keys.prefix == "bike-data/gen_info/"
    stored = bucket.read_day(Layer.ENHANCED, DAY, ENHANCED)
    assert stored is not None
    # NOTES.md: 351 and 350 rows, no dead letters; at 18:10, 235 stations and 116 bikes, 54 overfull, 6 with fewer.
    assert stored.rows.num_rows == sum(snapshot.rows for snapshot in snapshots) == 351 + 350
    assert letters_of(bucket, DAY) == []
    first = stored.rows.filter(pc.equal(stored.rows.column("file_timestamp"), snapshots[0].time))
    types = first.column("record_type").to_pylist()
    assert (types.count("station"), types.count("bike")) == (235, 116)
    flags = [flag for row in first.column("quality_flags").to_pylist() for flag in row]
    assert (flags.count("overfull"), flags.count("racks_out_of_use")) == (54, 6)

    undisturbed = contents(bucket)
    for key in undisturbed.keys() - raw.keys():
        bucket.store.delete(bucket.keys.prefix + key)
    with FaultProxy(store_server.endpoint_url) as proxy, (tmp_path / "log").open("wb") as log:
        proxy.add(Stall(), method="PUT", path="enhanced")
        child = subprocess.Popen(
            [DAGSTER, *MATERIALIZE],
            env={**shell, **s3_variables, "S3_ENDPOINT_URL": proxy.url},
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
        wait_until(lambda: proxy.count("PUT", "enhanced") == 1 or child.poll() is not None, within_s=60)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not any(key.startswith("enhanced/") for key in contents(bucket))

    assert dagster(*MATERIALIZE, environment={**shell, **s3_variables}, directory=tmp_path).returncode == 0
    assert contents(bucket) == undisturbed


def test_a_day_without_raw_data_ends_with_exit_code_1_and_the_sentence(
    s3_variables: dict[str, str], shell: dict[str, str], tmp_path: Path
) -> None:
    done = dagster(*MATERIALIZE, environment={**shell, **s3_variables}, directory=tmp_path)

    assert done.returncode == 1
    assert "There is no raw data for 2025-05-12" in done.stdout + done.stderr
    assert s3_variables["S3_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


def test_the_definitions_are_valid_without_any_setting(shell: dict[str, str], tmp_path: Path) -> None:
    done = dagster(*VALIDATE, environment=shell, directory=tmp_path)

    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search("Validation successful", done.stdout + done.stderr)


def test_a_wrong_setting_stops_the_code_location_and_names_the_variable(shell: dict[str, str], tmp_path: Path) -> None:
    done = dagster(*VALIDATE, environment={**shell, "WRM_POLL_CRON": "now and then"}, directory=tmp_path)

    assert done.returncode != 0
    assert "WRM_POLL_CRON" in done.stdout + done.stderr
    assert "must be a cron line" in done.stdout + done.stderr

"""`wrm up`, untouched: the schedule polls, the sensor processes, the UI answers, and SIGTERM ends all of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline_tests.fixtures.servers import wait_until

WRM = str(Path(sys.executable).with_name("wrm"))
CHECKOUT = Path(__file__).resolve().parents[2]
MARK = "WRM_TEST_MARK"
# The schedule polls once a minute here, the sensor looks every 15 s, and a run takes seconds.
SOON_S = 130.0


def marked(mark: str) -> set[int]:
    """Return the ids of all live processes that inherited a mark, whoever their parent is by now."""
    found: set[int] = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.add(int(process.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def status(directory: Path, environment: dict[str, str]) -> dict[str, Any] | None:
    done = subprocess.run(
        [WRM, "status", "--json"],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return found


def ask(port: int, query: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
        return json.load(answer)["data"]


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def succeeded(port: int, jobs: set[str]) -> dict[str, Any] | None:
    """Dagster's runs, once each of the jobs has one that succeeded: a day is in the lake before its run has ended."""
    runs = ask(port, "{ runsOrError { ... on Runs { results { jobName status tags { key value } } } } }")["runsOrError"]
    found: set[str] = {run["jobName"] for run in runs["results"] if run["status"] == "SUCCESS"}
    return runs if jobs <= found else None


def first(look: Callable[[], dict[str, Any] | None], *, within_s: float) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def seen() -> bool:
        result = look()
        if result is not None:
            found.append(result)
        return bool(found)

    wait_until(seen, within_s=within_s)
    return found[0]


@pytest.mark.timeout(240)
def test_snapshots_arrive_by_schedule_and_are_processed_by_the_sensor_and_sigterm_leaves_nothing(
    tmp_path: Path,
) -> None:
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(CHECKOUT / name, tmp_path / name)
    mark, port = uuid.uuid4().hex, free_port()
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "WRM_POLL_CRON": "* * * * *",
        MARK: mark,
        **measured,
    }
    with (tmp_path / "up.log").open("wb") as log:
        up = subprocess.Popen(
            [WRM, "up", "--port", str(port)], env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: answers(port) or up.poll() is not None, within_s=60)
        assert up.poll() is None, (tmp_path / "up.log").read_text()

        def processed() -> dict[str, Any] | None:
            assert up.poll() is None, (tmp_path / "up.log").read_text()
            found = status(tmp_path, environment)
            return found if found and sum(day["enhanced_objects"] for day in found["days"]) else None

        began = time.monotonic()
        found = first(processed, within_s=SOON_S)

        assert time.monotonic() - began < SOON_S
        assert found["lag_s"] < 60
        assert found["latest_rows"]["station"] > 200
        newest = found["days"][-1]
        assert newest["rows_in"] == newest["rows_kept"] + newest["rows_dead"] + newest["rows_duplicate"]
        assert newest["rows_dead"] == 2 * newest["enhanced_objects"] == sum(newest["dead_letters"].values())
        runs = first(lambda: succeeded(port, {"wrm_stations_ingest_job", "wrm_stations_processing_job"}), within_s=30)
        tags = {tag["key"] for run in runs["results"] for tag in run["tags"]}
        assert {"dagster/schedule_name", "dagster/sensor_name"} <= tags
        assert len(marked(mark)) > 3

        up.send_signal(signal.SIGTERM)

        assert up.wait(60) == 0
        wait_until(lambda: not marked(mark), within_s=10)
        assert not (tmp_path / ".wrm" / "local.env").exists()
        assert "Everything that was started here has ended." in (tmp_path / "up.log").read_text()
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
        up.wait(10)

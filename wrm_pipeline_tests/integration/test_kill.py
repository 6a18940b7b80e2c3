"""`kill -9` at any moment, then the same again: the lake ends as if nothing had happened. And two processes at once."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.dead_letters import DeadLetter
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import NotASnapshotError, keep_snapshot
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, environment_of, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Fault, FaultProxy, Stall
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

# A command in a process of its own: the layers without Dagster, which would take four times as long to start.
CHILD = """
import datetime as dt, sys
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import keep_snapshot
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.settings import load_settings

what, time = sys.argv[1], dt.datetime.fromisoformat(sys.argv[2])
lake, who = open_lake(load_settings()), Provenance(run_id="child", asset="child")
contracts = packaged_contracts()
feed_format = BikeShareMap(contracts.processed)
print("ready", flush=True)
body = sys.stdin.buffer.read()
with lake.store:
    if what == "process":
        build_enhanced_day(lake, feed_format, contracts.enhanced, time.date(), who)
    else:
        keep_snapshot(lake, feed_format, body, time, who)
"""
HERE = Provenance(run_id="here", asset="here")
Command = Callable[[Lake], object]


class StallingProxy(FaultProxy):
    """Holds the n-th request back, whatever it is."""

    def __init__(self, upstream_url: str, n: int) -> None:
        super().__init__(upstream_url)
        self._n = n

    def _note(self, method: str, target: str) -> Fault | None:
        super()._note(method, target)
        return Stall() if self.count() == self._n else None

    @property
    def holds_one(self) -> bool:
        return self.count() >= self._n


class GatedProxy(FaultProxy):
    """Holds the first PUT to a path back until the gate opens."""

    def __init__(self, upstream_url: str, path: str) -> None:
        super().__init__(upstream_url)
        self._path = path
        self.waits = threading.Event()
        self.gate = threading.Event()

    def _note(self, method: str, target: str) -> Fault | None:
        fault = super()._note(method, target)
        if method == "PUT" and self._path in target and not self.waits.is_set():
            self.waits.set()
            self.gate.wait(30)
        return fault


class Child:
    """A command in a child process; it begins when it is told to."""

    def __init__(
        self, settings: StoreSettings, directory: Path, what: str, time: dt.datetime, body: bytes = b""
    ) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **environment_of(settings)}
        self._body = body
        self._log = (directory / "child.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, what, time.isoformat()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=directory,
        )

    def begin(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdin.write(self._body)
        self.process.stdin.close()

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> int:
        assert self.process.stdout is not None
        code = self.process.wait(30)
        self.process.stdout.close()
        self._log.close()
        return code


def killed_at_each_request(
    settings: StoreSettings, directory: Path, what: str, time: dt.datetime, body: bytes = b""
) -> Iterator[int]:
    """Run a command in a child once for each of its requests, kill it before that one, and yield after each kill."""
    n = 0
    while True:
        n += 1
        with StallingProxy(settings.endpoint_url, n) as proxy:
            child = Child(_at(settings, proxy.url), directory, what, time, body)
            child.begin()
            wait_until(lambda child=child, proxy=proxy: proxy.holds_one or child.has_ended, within_s=30)  # type: ignore[misc]
            ended = child.has_ended
            child.kill()
        if ended:
            return  # it makes fewer requests than that
        yield n


def _at(settings: StoreSettings, endpoint_url: str) -> StoreSettings:
    # One request at a time, so that the n-th one is the same each time; patience, so that a held one is not retried.
    return replace(settings, endpoint_url=endpoint_url, concurrency=1, timeout_s=60.0)


def timeless(letters: list[DeadLetter]) -> list[str]:
    """Return letters without what differs from run to run."""
    return [
        json.dumps(letter.model_dump(mode="json", exclude={"run_id", "asset", "first_seen", "last_seen"}))
        for letter in letters
    ]


def state(lake: Lake, day: dt.date) -> tuple[dict[str, str], list[str]]:
    """Return all keys with their ETags (letters only by key), and what the letters say."""
    objects = {key: "" if key.endswith(".json") else etag for key, etag in contents(lake).items()}
    return objects, timeless(letters_of(lake, day))


def restore(lake: Lake, objects: dict[str, bytes]) -> None:
    """Make the lake hold these objects and no others."""
    there = contents(lake)
    for key in there.keys() - objects.keys():
        lake.store.delete(lake.keys.prefix + key)
    for key in objects.keys() - there.keys():
        lake.store.put(lake.keys.prefix + key, objects[key], content_type="application/octet-stream")


def bodies(lake: Lake) -> dict[str, bytes]:
    return {key: lake.store.get(lake.keys.prefix + key).body for key in contents(lake)}


def raw_day(lake: Lake) -> None:
    put_raw(lake, at(8), with_bad_rows(snapshot(1, at(8)), 2, 0))
    put_raw(lake, at(9), b"<html>")


def process(lake: Lake) -> None:
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, HERE)


def test_killed_while_it_builds_a_day_from_nothing(lake: Lake, store_settings: StoreSettings, tmp_path: Path) -> None:
    raw_day(lake)
    before = bodies(lake)
    process(lake)
    undisturbed = state(lake, DAY)
    restore(lake, before)

    kills = 0
    for kills in killed_at_each_request(store_settings, tmp_path, "process", at(0)):
        process(lake)
        assert state(lake, DAY) == undisturbed, f"killed at request {kills}"
        restore(lake, before)

    # 2 letters looked up and written, 2 raw objects, a listing before and after, 2 layers looked up or written.
    assert kills >= 10


def test_killed_while_it_adds_a_snapshot_to_a_day(lake: Lake, store_settings: StoreSettings, tmp_path: Path) -> None:
    raw_day(lake)
    process(lake)
    put_raw(lake, at(10))
    before = dict(bodies(lake))
    processed = f"processed/all/dt={DAY}/all_processed.parquet"
    enhanced = f"enhanced/all/dt={DAY}/all_enhanced.parquet"
    process(lake)
    undisturbed = state(lake, DAY)

    def step_back() -> None:
        for key in (processed, enhanced):
            lake.store.put(lake.keys.prefix + key, before[key], content_type="application/vnd.apache.parquet")

    step_back()
    assert state(lake, DAY) != undisturbed
    kills = 0
    for kills in killed_at_each_request(store_settings, tmp_path, "process", at(0)):
        process(lake)
        assert state(lake, DAY) == undisturbed, f"killed at request {kills}"
        step_back()
    assert kills >= 5


@pytest.mark.parametrize("kind", ["snapshot", "web page"])
def test_killed_while_it_keeps_what_the_feed_sent(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path, kind: str
) -> None:
    """The next poll gets the same bytes, or later ones; either way they are kept once."""
    body = snapshot(1, at(9)) if kind == "snapshot" else b"<html>"
    put_raw(lake, at(8))
    before = bodies(lake)

    def poll() -> None:
        try:
            keep_snapshot(lake, FORMAT, body, at(9), HERE)
        except NotASnapshotError:
            assert kind == "web page"

    poll()
    undisturbed = state(lake, DAY)
    restore(lake, before)
    kills = 0
    for kills in killed_at_each_request(store_settings, tmp_path, "ingest", at(9), body):
        poll()
        assert state(lake, DAY) == undisturbed, f"killed at request {kills}"
        restore(lake, before)
    assert kills >= 3


@pytest.mark.parametrize("layer", Layer)
def test_a_process_that_writes_late_what_it_read_early_ends_with_the_full_day(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path, layer: Layer
) -> None:
    """One process holds the day as it was; another one builds more meanwhile, and is then overwritten."""
    raw_day(lake)
    before = bodies(lake)
    put_raw(lake, at(10))
    process(lake)
    undisturbed = state(lake, DAY)
    restore(lake, before)

    with GatedProxy(store_settings.endpoint_url, f"all_{layer}") as proxy:
        slow = Child(_at(store_settings, proxy.url), tmp_path, "process", at(0))
        slow.begin()
        wait_until(proxy.waits.is_set, within_s=30)
        put_raw(lake, at(10))
        process(lake)
        proxy.gate.set()
        assert slow.close() == 0
        assert proxy.count("PUT", f"all_{layer}") == 2

    assert state(lake, DAY) == undisturbed


def test_two_processes_for_one_day_that_does_not_change_end_as_one(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path
) -> None:
    raw_day(lake)
    before = bodies(lake)
    process(lake)
    undisturbed = state(lake, DAY)
    restore(lake, before)

    children = [Child(store_settings, tmp_path, "process", at(0)) for _ in range(2)]
    for child in children:
        child.begin()
    assert [child.close() for child in children] == [0, 0]

    assert state(lake, DAY) == undisturbed

"""Redrive as a whole: a spoilt day comes back byte for byte, and `kill -9` at any write leaves nothing to be seen."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from wrm_pipeline.contracts.load import PACKAGED, SUFFIX, load_contracts
from wrm_pipeline.contracts.model import Contract, Contracts, Severity
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.lake.dead_letters import Stage, Status
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.redrive import redrive
from wrm_pipeline.layers.report import BuiltDay, Provenance
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, environment_of, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Fault, FaultProxy, Stall
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, payload, row
from wrm_pipeline_tests.integration.test_kill import bodies, restore

# The tests are no part of what is installed.
CHECKOUT = str(Path(__file__).resolve().parents[2])
WHO = Provenance(run_id="here", asset="wrm_stations_enhanced_data_all")
CHILD = """
from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.settings import load_settings
from wrm_pipeline_tests.integration.test_redrive import redrive_half

lake = open_lake(load_settings())
with lake.store:
    redrive_half(lake)
"""


def with_errors(*names: str) -> Contract:
    rules = CONTRACTS.enhanced.rules
    errors = {name: replace(rules[name], severity=Severity.ERROR) for name in names}
    return replace(CONTRACTS.enhanced, rules={**rules, **errors})


# --- A day that a too strict contract spoilt --------------------------------------------------------------------------


def too_strict(directory: Path) -> Contracts:
    """Contracts by which no station has more than 300 bikes."""
    name = f"wrm_stations_processed_data_all{SUFFIX}"
    head, bikes, tail = (PACKAGED / name).read_text().partition("- name: bikes\n")
    (directory / name).write_text(head + bikes + tail.replace("{minimum: 0}", "{minimum: 0, maximum: 300}", 1))
    return load_contracts(directory)


def with_many_bikes(body: bytes, every: int) -> tuple[bytes, int]:
    """Let each n-th row have more bikes than a too strict contract believes; return how many have."""
    lines = body.split(b"\n")
    chosen = range(1, len(lines), every)
    for number in chosen:
        fields = lines[number].rsplit(b",", 8)  # from the right: a name may hold commas
        fields[1] = b"301"
        lines[number] = b",".join(fields)
    return b"\n".join(lines), len(chosen)


def day_bytes(lake: Lake) -> dict[Layer, bytes]:
    return {layer: lake.store.get(lake.keys.layer_object(layer, DAY)).body for layer in Layer}


def sightings(lake: Lake) -> Counter[tuple[str, int]]:
    stored = lake.read_day(Layer.ENHANCED, DAY, ENHANCED)
    assert stored is not None
    times = stored.rows.column("file_timestamp").cast(pa.int64()).to_pylist()
    return Counter(zip(stored.rows.column("station_id").to_pylist(), times, strict=True))


def build(lake: Lake, contracts: Contracts) -> BuiltDay:
    feed_format = BikeShareMap(contracts.processed)
    return build_enhanced_day(lake, feed_format, contracts.enhanced, DAY, WHO)


def spoilt_day(lake: Lake, contracts: Contracts) -> int:
    """Build a day of which the contracts set 5 % aside, and return how many rows that is."""
    bad = 0
    for hour in range(12):
        body, spoilt = with_many_bikes(snapshot(1, at(hour)), 20)
        put_raw(lake, at(hour), body)
        bad += spoilt
    built = build(lake, contracts)
    total = built.manifest.total("rows")
    assert built.manifest.total("dead") == bad
    assert 0.045 < bad / total < 0.055
    return bad


def test_a_day_with_5_percent_bad_rows_under_a_too_strict_contract_is_made_whole_by_a_redrive(
    lake: Lake, tmp_path: Path
) -> None:
    bad = spoilt_day(lake, too_strict(tmp_path))
    before = sightings(lake)

    done = redrive(lake, FORMAT, CONTRACTS.enhanced, WHO)

    assert done.total("rows_joined") == bad
    after = sightings(lake)
    assert set(after.values()) == {1}, "a row came back twice"
    assert before.keys() < after.keys()
    assert len(after) - len(before) == bad
    letters = letters_of(lake, DAY)
    assert {x.status for x in letters} == {Status.REPROCESSED}
    assert sum(len(x.records) for x in letters) == bad
    redriven = day_bytes(lake)
    for layer in Layer:
        lake.store.delete(lake.keys.layer_object(layer, DAY))
    build(lake, CONTRACTS)
    assert day_bytes(lake) == redriven


def test_the_command_redrives_by_the_contracts_that_the_settings_name(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path
) -> None:
    contracts = tmp_path / "contracts"
    contracts.mkdir()
    bad = spoilt_day(lake, too_strict(contracts))

    def run(**settings: str) -> dict[str, Any]:
        ended = subprocess.run(
            [sys.executable, "-c", "from wrm_pipeline.cli.main import main; main()", "dlq", "redrive", "--json"],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment_of(store_settings, **settings)},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr.decode()
        document: dict[str, Any] = json.loads(ended.stdout)
        return document

    (strict,) = run(WRM_CONTRACTS_DIR=str(contracts))["days"]
    (relaxed,) = run()["days"]

    assert (strict["reprocessed"], strict["rejected"], strict["rows_joined"]) == (0, 12, 0)
    assert (relaxed["reprocessed"], relaxed["rejected"], relaxed["rows_joined"]) == (12, 0, bad)
    assert run()["days"] == []


# --- kill -9 ----------------------------------------------------------------------------------------------------------

STRICT, HALF = with_errors("overfull", "zero_docks"), with_errors("zero_docks")


def redrive_half(lake: Lake) -> None:
    """Redrive by a contract that lets some rows pass; what a child process does, and is killed at."""
    redrive(lake, FORMAT, HALF, WHO)


class WriteStallingProxy(FaultProxy):
    """Holds back the n-th request that changes something."""

    def __init__(self, upstream_url: str, n: int) -> None:
        super().__init__(upstream_url)
        self._n = n

    @property
    def writes(self) -> int:
        return self.count("PUT") + self.count("DELETE")

    def _note(self, method: str, target: str) -> Fault | None:
        super()._note(method, target)
        return Stall() if method in {"PUT", "DELETE"} and self.writes >= self._n else None


def _held_or_ended(proxy: WriteStallingProxy, n: int, child: subprocess.Popen[bytes]) -> bool:
    return proxy.writes >= n or child.poll() is not None


def killed_before_each_write(settings: StoreSettings, directory: Path) -> Iterator[int]:
    """Redrive in a child once for each of its writes, kill it before that one, and yield after each kill."""
    n = 0
    while True:
        n += 1
        with WriteStallingProxy(settings.endpoint_url, n) as proxy, (directory / "child.log").open("ab") as log:
            # One request at a time where the store decides; patience, so that a held one is not retried.
            patient = replace(settings, endpoint_url=proxy.url, concurrency=1, timeout_s=60.0)
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": CHECKOUT, **environment_of(patient)},
                cwd=directory,
            )
            wait_until(partial(_held_or_ended, proxy, n, child), within_s=30)
            ended = child.poll()
            child.kill()
            child.wait(30)
        if ended is not None:
            assert ended == 0, (directory / "child.log").read_text()
            return  # it makes fewer writes than that
        yield n


def documents(lake: Lake, folder: str) -> list[dict[str, Any]]:
    """The documents of a folder without what differs from run to run."""
    differs = {"redrive_id", "run_id", "at", "first_seen", "last_seen"}

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(entry) for name, entry in value.items() if name not in differs}
        return [timeless(entry) for entry in value] if isinstance(value, list) else value

    return [timeless(json.loads(lake.store.get(lake.keys.prefix + key).body)) for key in contents(lake, folder)]


def state(lake: Lake) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """All keys, with ETags of what is no JSON, and what the JSON under dlq/ says (letters, audit, alerts)."""
    objects = {key: "" if key.endswith(".json") else etag for key, etag in contents(lake).items()}
    folders = (f"dlq/dt={DAY}/", "dlq/audit/", "dlq/alerts/")
    found = [document for folder in folders for document in documents(lake, folder)]
    return objects, found


def day_that_waits(lake: Lake) -> None:
    """Letters of every kind of end: back, back in part, rejected again, given up on."""
    strange, empty = row("2", bikes="40"), row("3", docks="0", bikes="0", spaces="0")
    put_raw(lake, at(8), payload(row("1"), strange, end=b"\n"))
    put_raw(lake, at(9), payload(row("1"), strange, empty, row("4", bikes="x"), end=b"\n"))
    for _ in range(2):
        build_enhanced_day(lake, FORMAT, STRICT, DAY, WHO)
        redrive(lake, FORMAT, STRICT, WHO)
    put_raw(lake, at(10), payload(row("1"), empty, end=b"\n"))
    build_enhanced_day(lake, FORMAT, STRICT, DAY, WHO)


def put_back(lake: Lake, objects: dict[str, bytes]) -> None:
    """Make the lake hold exactly these objects, changed ones too."""
    restore(lake, objects)
    for key, body in objects.items():
        lake.store.put(lake.keys.prefix + key, body, content_type="application/octet-stream")


@pytest.mark.timeout(400)
def test_killed_before_any_of_its_writes_a_redrive_ends_as_if_nothing_had_happened(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path
) -> None:
    day_that_waits(lake)
    before = bodies(lake)
    redrive_half(lake)
    undisturbed = state(lake)
    ends = {(x.stage, x.status, x.retry_count) for x in letters_of(lake, DAY)}
    assert ends == {
        (Stage.ENHANCED, Status.REPROCESSED, 2),
        (Stage.ENHANCED, Status.FAILED, 3),
        (Stage.PROCESSED, Status.FAILED, 3),
        (Stage.ENHANCED, Status.PENDING, 1),
    }
    assert len(documents(lake, "dlq/alerts/")) == 2
    put_back(lake, before)

    kills = 0
    for kills in killed_before_each_write(store_settings, tmp_path):
        redrive_half(lake)
        assert state(lake) == undisturbed, f"killed before write {kills}"
        put_back(lake, before)

    # The journal; 3 letters and 2 layers; 4 audit records, 2 alerts, 4 letters; the journal again. The day does not
    # settle, so no note.
    assert kills >= 1 + 3 + 2 + 4 + 2 + 4 + 1

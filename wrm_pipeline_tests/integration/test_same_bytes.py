"""A day is a pure function of its raw objects and the code: however it came about, its objects have the same bytes."""

import datetime as dt
import hashlib
import json
from dataclasses import asdict

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.lake.day_object import Manifest, Source, encode, recorded_code_version
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import ENHANCED_CODE_VERSION, build_enhanced_day
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION, build_processed_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.transform.classify import enhance
from wrm_pipeline_tests.fixtures.dagster import at, contents
from wrm_pipeline_tests.fixtures.snapshots import bike_row, payload, recorded, row

DAY = dt.date(2025, 5, 12)
LINE_WITH_LATIN_2 = row("15004", name="Główny").replace("ł".encode(), b"\xb3")
# Every way in which an object of raw can be: plain, quoted, with bad and repeated rows, cut short, no snapshot, no key.
BODIES = (
    payload(
        *(row(str(15_000 + n), bikes=str(n % 20)) for n in range(40)), *(bike_row(n, battery="7") for n in range(9))
    ),
    payload(
        row("15001", name='"Dworzec Główny, południe"'), row("15002", name="Plac\u00a0Bema &amp; Most "), bike_row()
    ),
    payload(row("15001"), row("15002", bikes="x"), row("15001", bikes="1"), row("15003"), row("15003")),
    payload(row("15001"), row("15002"), LINE_WITH_LATIN_2, row("15003")[:40]).replace(b"\n", b"\r\n"),
    b"<html>503</html>",
    payload(row("15009", time="1747073407|0|0"), row("x1", overloaded="?"), end=b"\n"),
)
NAMES = [f"wrm_stations_2025-05-12_{8 + n:02}-00-00.txt" for n in range(len(BODIES) - 1)] + ["stray.txt"]


def run_by(run_id: str) -> Provenance:
    return Provenance(run_id, "wrm_stations_enhanced_data_all")


def start_over(lake: Lake) -> None:
    for key in contents(lake):
        lake.store.delete(lake.keys.prefix + key)


def arrive(lake: Lake, number: int) -> None:
    lake.store.put(lake.keys.raw_day(DAY) + NAMES[number], BODIES[number], content_type="text/plain")


def built(lake: Lake, run_id: str) -> dict[str, str]:
    """Build the day and return the ETags of its objects, and the ids of its letters."""
    build_enhanced_day(lake, BikeShareMap(), DAY, run_by(run_id))
    found = contents(lake)
    return {key: "" if key.startswith("dlq/") else etag for key, etag in found.items() if not key.startswith("raw/")}


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(len(BODIES))),
    builds_after=st.sets(st.integers(1, len(BODIES))),
    processed_alone_after=st.sets(st.integers(1, len(BODIES))),
)
def test_a_day_has_the_same_bytes_in_whatever_order_and_portions_it_arrived(
    lake: Lake, order: list[int], builds_after: set[int], processed_alone_after: set[int]
) -> None:
    start_over(lake)
    for number in range(len(BODIES)):
        arrive(lake, number)
    at_once = built(lake, "at-once")
    start_over(lake)

    for count, number in enumerate(order, 1):
        arrive(lake, number)
        if count in processed_alone_after:
            build_processed_day(lake, BikeShareMap(), DAY, run_by("processed"))
        if count in builds_after:
            built(lake, "portion")

    assert built(lake, "end") == at_once
    assert built(lake, "again") == at_once


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lost=st.sets(st.sampled_from(Layer)),
    damage=st.sampled_from([None, b"", b"garbage", b"PAR1garbagePAR1"]),
)
def test_layers_that_were_lost_or_damaged_come_back_with_the_same_bytes(
    lake: Lake, lost: set[Layer], damage: bytes | None
) -> None:
    for number in range(len(BODIES)):
        arrive(lake, number)
    good = built(lake, "first")
    for layer in lost:
        key = lake.keys.layer_object(layer, DAY)
        if damage is None:
            lake.store.delete(key)
        else:
            lake.store.put(key, damage, content_type="application/octet-stream")

    assert built(lake, "second") == good


def test_a_recorded_day_has_the_same_bytes_built_snapshot_by_snapshot_and_at_once(lake: Lake) -> None:
    snapshots = recorded("replay_wroclaw")[:8]
    day = snapshots[0].time.date()
    for snapshot in snapshots:
        lake.store.put(lake.keys.raw(snapshot.time), snapshot.body, content_type="text/plain")
        step_by_step = build_enhanced_day(lake, BikeShareMap(), day, run_by("step"))
    for layer in Layer:
        lake.store.delete(lake.keys.layer_object(layer, day))

    at_once = build_enhanced_day(lake, BikeShareMap(), day, run_by("at-once"))

    assert at_once.info.etag == step_by_step.info.etag


# The rows and the bytes that a code version stands for. Whoever changes what comes out must raise the version in
# `layers/processed.py` or `layers/enhanced.py`, or stored days stay as the old code made them; then a new entry belongs
# here. A new pyarrow may write other bytes for the same rows, which is why its version is part of the recorded one.
GOLDEN_ROWS = {
    (Layer.PROCESSED, "1"): "783bbd8eadd6bd0e33cee10aaef5a92e83556ba938abaad6d91d9002a7090327",
    (Layer.ENHANCED, "1/1"): "cdd893a461a6ac115e84713995dab29b9756a2214f4c8c80a4ad928c4396177a",
}
GOLDEN_BYTES = {
    (Layer.PROCESSED, "1+pyarrow26.0.1"): "299ce68f21420914811526673ab2a9193868944d2f0afbf9202f42a47044d2b1",
    (Layer.ENHANCED, "1/1+pyarrow26.0.1"): "bb19a06684add4593cab7fbfdfc2509bf2ac35280593bb9813f29777e79cf080",
}


def fixed_day(layer: Layer) -> tuple[pa.Table, Manifest]:
    keys = LakeKeys()
    snapshots = [Snapshot(keys.raw(at(8 + n)), at(8 + n), body) for n, body in enumerate(BODIES)]
    parsed = BikeShareMap().parse(snapshots)
    sources = tuple(
        Source(
            tally.source_key,
            f"etag-{n}",
            tally.rows,
            tally.kept,
            tally.dead,
            tally.duplicates,
            parsed.faults[tally.source_key].kind if tally.source_key in parsed.faults else None,
        )
        for n, tally in enumerate(parsed.tallies)
    )
    version = recorded_code_version(PROCESSED_CODE_VERSION)
    if layer is Layer.PROCESSED:
        return parsed.rows, Manifest(layer, DAY, version, sources)
    return enhance(parsed.rows, DAY), Manifest(layer, DAY, f"{ENHANCED_CODE_VERSION}/{version}", sources)


def test_the_rows_that_a_code_version_stands_for_have_not_changed() -> None:
    versions = {
        Layer.PROCESSED: PROCESSED_CODE_VERSION,
        Layer.ENHANCED: f"{ENHANCED_CODE_VERSION}/{PROCESSED_CODE_VERSION}",
    }
    found = {}
    for layer, version in versions.items():
        rows, manifest = fixed_day(layer)
        columns = [(field.name, str(field.type), field.nullable) for field in rows.schema]
        document = [columns, rows.to_pylist(), [asdict(source) for source in manifest.sources]]
        found[layer, version] = hashlib.sha256(json.dumps(document, default=str).encode()).hexdigest()

    assert found == GOLDEN_ROWS


def test_the_bytes_that_a_code_version_stands_for_have_not_changed() -> None:
    found = {}
    for layer in Layer:
        rows, manifest = fixed_day(layer)
        found[layer, manifest.code_version] = hashlib.sha256(encode(rows, manifest)).hexdigest()

    assert found == GOLDEN_BYTES

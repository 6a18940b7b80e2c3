"""A day is a pure function of its raw objects and the code: however it came about, its objects have the same bytes."""

import datetime as dt
import hashlib
import json
from dataclasses import asdict, replace

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.model import Contract, Severity
from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.lake.day_object import Manifest, Source, encode, recorded_code_version
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day, code_version
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION, build_processed_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline_tests.fixtures.dagster import at, contents
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, bike_row, payload, recorded, row

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


def with_errors(*names: str) -> Contract:
    """The contract of enhanced, with these rules as errors."""
    rules = CONTRACTS.enhanced.rules
    errors = {name: replace(rules[name], severity=Severity.ERROR) for name in names}
    return replace(CONTRACTS.enhanced, rules={**rules, **errors})


def built(lake: Lake, run_id: str, contract: Contract = CONTRACTS.enhanced) -> dict[str, str]:
    """Build the day and return the ETags of its objects, and the ids of its letters."""
    build_enhanced_day(lake, FORMAT, contract, DAY, run_by(run_id))
    found = contents(lake)
    return {key: "" if key.startswith("dlq/") else etag for key, etag in found.items() if not key.startswith("raw/")}


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(len(BODIES))),
    builds_after=st.sets(st.integers(1, len(BODIES))),
    processed_alone_after=st.sets(st.integers(1, len(BODIES))),
    contract=st.sampled_from([CONTRACTS.enhanced, with_errors("overfull", "racks_out_of_use", "unknown_record_type")]),
)
def test_a_day_has_the_same_bytes_in_whatever_order_and_portions_it_arrived(
    lake: Lake, order: list[int], builds_after: set[int], processed_alone_after: set[int], contract: Contract
) -> None:
    start_over(lake)
    for number in range(len(BODIES)):
        arrive(lake, number)
    at_once = built(lake, "at-once", contract)
    start_over(lake)

    for count, number in enumerate(order, 1):
        arrive(lake, number)
        if count in processed_alone_after:
            build_processed_day(lake, FORMAT, DAY, run_by("processed"))
        if count in builds_after:
            built(lake, "portion", contract)

    assert built(lake, "end", contract) == at_once
    assert built(lake, "again", contract) == at_once


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(BODIES))), builds_after=st.sets(st.integers(1, len(BODIES))))
def test_rules_that_look_back_set_the_same_rows_aside_in_whatever_order_and_portions_they_arrived(
    lake: Lake, order: list[int], builds_after: set[int]
) -> None:
    """A row may have been set aside until its predecessor came; its letter then waits for the next redrive."""
    contract = with_errors("name_changed", "non_monotonic_time")
    start_over(lake)
    for number in range(len(BODIES)):
        arrive(lake, number)
    at_once = built(lake, "at-once", contract)
    start_over(lake)

    for count, number in enumerate(order, 1):
        arrive(lake, number)
        if count in builds_after:
            built(lake, "portion", contract)

    end = built(lake, "end", contract)
    assert at_once.items() <= end.items()
    assert all(key.startswith("dlq/") for key in end.keys() - at_once.keys())


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
        step_by_step = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, run_by("step"))
    for layer in Layer:
        lake.store.delete(lake.keys.layer_object(layer, day))

    at_once = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, run_by("at-once"))

    assert at_once.info.etag == step_by_step.info.etag


# The rows and the bytes that a code version and a contract stand for. Whoever changes what comes out must raise the
# version in `layers/processed.py` or `layers/enhanced.py`, or stored days stay as the old code made them; a contract's
# stamp changes by itself with what decides about rows. Then a new entry belongs here. A new pyarrow may write other
# bytes for the same rows, which is why its version is part of the recorded one.
PROCESSED_VERSION = "2+contract1.0.0-c4184d23"
ENHANCED_VERSION = f"2+contract1.0.0-8f14dd3f/{PROCESSED_VERSION}"
GOLDEN_ROWS = {
    (Layer.PROCESSED, PROCESSED_VERSION): "783bbd8eadd6bd0e33cee10aaef5a92e83556ba938abaad6d91d9002a7090327",
    (Layer.ENHANCED, ENHANCED_VERSION): "0fbd587e89638c9ae9465dba80123124b470c66ee748cf13a4c96dd36402c607",
}
GOLDEN_BYTES = {
    (Layer.PROCESSED, f"{PROCESSED_VERSION}+pyarrow26.0.1"): (
        "76a415765b24db2f55640fce74d4912bc4b245dffd0670ff6ba4da0c39950848"
    ),
    (Layer.ENHANCED, f"{ENHANCED_VERSION}+pyarrow26.0.1"): (
        "5092f6d6faf43b8b1586e4385272a6ffebbc02827cdd6edd21a87f485a83b99d"
    ),
}


def fixed_day(layer: Layer) -> tuple[pa.Table, Manifest]:
    keys = LakeKeys()
    snapshots = [Snapshot(keys.raw(at(8 + n)), at(8 + n), body) for n, body in enumerate(BODIES)]
    parsed = FORMAT.parse(snapshots)
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
    version = recorded_code_version(PROCESSED_CODE_VERSION, FORMAT.contract.stamp)
    if layer is Layer.PROCESSED:
        return parsed.rows, Manifest(layer, DAY, version, sources)
    contract = CONTRACTS.enhanced
    return enhance(parsed.rows, DAY, contract).rows, Manifest(layer, DAY, code_version(contract, version), sources)


def test_the_rows_that_a_code_version_stands_for_have_not_changed() -> None:
    found = {}
    for layer in Layer:
        rows, manifest = fixed_day(layer)
        version, _, _ = manifest.code_version.rpartition("+pyarrow")
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

"""What anomalies and profile of a full-size day cost, with four weeks of such days in the lake before it."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.child import run_child
from bench.results import Report, Samples, Target, say
from bench.snapshots import DAY, ROWS, SNAPSHOTS, snapshots
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.layers.anomalies import HISTORY_DAYS
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import BuiltDay, Provenance
from wrm_pipeline.settings import StoreSettings

SECONDS_LIMIT = 10.0
MEMORY_LIMIT_MB = 1000.0
_ROUNDS = 3


def measure_quality(settings: StoreSettings, environment: dict[str, str], data: Path) -> Report:
    """Materialize both for a day some times, each time in a process of its own; take its time and its peak."""
    seconds, peaks = [], []
    with ObjectStore(settings) as store:
        _fill(Lake(store, LakeKeys(settings.prefix)), data)
        for number in range(_ROUNDS):
            say(f"Anomalies and profile, process {number + 1} of {_ROUNDS}")
            took, peak_kb = run_child("bench.one_quality_day", settings, environment)[-2:]
            seconds.append(float(took))
            peaks.append(int(peak_kb) * 1024 / 1e6)
    name = f"anomalies and profile of {SNAPSHOTS * ROWS:,} rows, {HISTORY_DAYS} such days before"
    all_seconds, all_peaks = Samples(name, "s", seconds), Samples(f"{name}: peak memory", "MB", peaks)
    targets = [
        Target("anomalies and profile of a day", all_seconds, SECONDS_LIMIT),
        Target("anomalies and profile: peak memory", all_peaks, MEMORY_LIMIT_MB),
    ]
    return Report([all_seconds, all_peaks], targets)


def _fill(lake: Lake, data: Path) -> None:
    for at, body in snapshots(data):
        lake.store.put(lake.keys.raw(at), body, content_type="text/plain; charset=utf-8")
    contracts = packaged_contracts()
    who = Provenance(run_id="bench", asset="bench")
    built = build_enhanced_day(lake, BikeShareMap(contracts.processed), contracts.enhanced, DAY, who)
    for back in range(1, HISTORY_DAYS + 1):
        _store_as_of(lake, built, back)


def _store_as_of(lake: Lake, built: BuiltDay, days_before: int) -> None:
    """Store the day some days earlier, each count up to one bike off, so that no two days are the same."""
    rows, chance = built.rows, np.random.default_rng(days_before)
    times = pc.subtract(rows.column("file_timestamp"), pa.scalar(dt.timedelta(days=days_before), pa.duration("us")))
    bikes = np.maximum(rows.column("bikes").to_numpy() + chance.integers(-1, 2, rows.num_rows), 0).astype(np.int32)
    for name, values in (("file_timestamp", times), ("bikes", pa.array(bikes))):
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, rows.schema.field(position), values)
    lake.write_day(rows, replace(built.manifest, day=DAY - dt.timedelta(days=days_before)))

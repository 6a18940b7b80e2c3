"""A day, raw to enhanced: naive, floor, this pipeline, and one more snapshot on a day that holds 287.

All four read the same objects of the same server, one after another, round by round.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from bench.results import Report, Samples, Target, WrongResultError, say
from bench.snapshots import DAY, ROWS, SNAPSHOTS, snapshots
from bench.ways import floor, naive, plain_client
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import SHA256_KEY, ObjectStore, StoredObject, Traffic
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Build, Provenance
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.schema import PROCESSED
from wrm_pipeline.transform.schema_check import schema_problems

_TEXT = "text/plain; charset=utf-8"
_PARQUET = "application/vnd.apache.parquet"
# A short piece of work is timed more often: a tenth of a second is easily lost to something else on the machine.
_SHORT_REPEATS = 3
# The naive way takes seconds and is far from its limit: three rounds are enough.
_NAIVE_ROUNDS = 3


@dataclass
class _Way:
    """Something to time: `work` returns the rows it made, after `prepare`, which is not timed."""

    name: str
    work: Callable[[], int]
    rounds: int
    prepare: Callable[[], None] = lambda: None
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)

    def run(self, store: ObjectStore) -> float:
        self.prepare()
        gc.collect()  # what an earlier way left behind is not this one's to clear away
        before, started = store.traffic.snapshot(), time.perf_counter()
        rows = self.work()
        seconds = time.perf_counter() - started
        self.traffic = store.traffic.snapshot() - before
        if rows != SNAPSHOTS * ROWS:
            raise WrongResultError(f"{self.name}: {rows} rows instead of {SNAPSHOTS * ROWS}")
        return seconds

    def samples(self) -> Samples:
        return Samples(self.name, "s", self.seconds)


class _Day:
    """A lake that holds the day's raw objects, and the layers as they were before the last of these came."""

    def __init__(self, lake: Lake, data: Path) -> None:
        self._lake = lake
        self._etag = ""
        self._rows: pa.Table | None = None
        *earlier, last = snapshots(data)
        say(f"Storing {SNAPSHOTS} snapshots of {ROWS} rows")
        for at, body in earlier:
            lake.store.put(lake.keys.raw(at), body, content_type=_TEXT)
        self._build()
        self._before_last: Sequence[StoredObject] = [
            lake.store.get(lake.keys.layer_object(layer, DAY)) for layer in Layer
        ]
        lake.store.put(lake.keys.raw(last[0]), last[1], content_type=_TEXT)

    def without_layers(self) -> None:
        for layer in Layer:
            self._lake.store.delete(self._lake.keys.layer_object(layer, DAY))

    def one_behind(self) -> None:
        for stored in self._before_last:
            metadata = {name: value for name, value in stored.info.metadata.items() if name != SHA256_KEY}
            self._lake.store.put(stored.info.key, stored.body, content_type=_PARQUET, metadata=metadata)

    def build(self, expected: Build) -> int:
        built, etag, rows = self._build()
        if built is not expected:
            raise WrongResultError(f"the day was built {built} instead of {expected}")
        if self._etag not in {"", etag}:
            raise WrongResultError(f"two builds of one day gave different bytes: ETag {self._etag}, then {etag}")
        self._etag = etag
        return rows

    def judge(self) -> int:
        """Apply every rule to the rows of the day, and hold the result against its contract's schema."""
        contract = packaged_contracts().enhanced
        rows = enhance(self._processed(), DAY, contract).rows
        if problems := schema_problems(rows, contract):
            raise WrongResultError(f"the day breaks its schema: {problems[0]}")
        return rows.num_rows

    def with_processed(self) -> None:
        """Have the rows of processed at hand, so that reading them is not timed."""
        if self._rows is None:
            stored = self._lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
            self._rows = stored.rows if stored is not None else None

    def _processed(self) -> pa.Table:
        if self._rows is None:
            raise WrongResultError("the day has no processed rows")
        return self._rows

    def _build(self) -> tuple[Build, str, int]:
        contracts = packaged_contracts()
        feed_format = BikeShareMap(contracts.processed)
        built = build_enhanced_day(
            self._lake, feed_format, contracts.enhanced, DAY, Provenance(run_id="bench", asset="bench")
        )
        return built.build, built.info.etag, built.rows.num_rows


def measure_day(settings: StoreSettings, data: Path, rounds: int, *, compare: bool, incremental: bool) -> Report:
    """Time full days in turns, with `compare` beside naive and floor, with `incremental` beside one more snapshot."""
    client = plain_client(settings)
    with ObjectStore(settings) as store:
        lake = Lake(store, LakeKeys(settings.prefix))
        day = _Day(lake, data)
        place = (client, settings.bucket, lake.keys.raw_day(DAY), f"{settings.prefix}elsewhere.parquet")
        slow = _Way("a day, naive: one by one, DataFrames, pandera", partial(naive, *place), min(rounds, _NAIVE_ROUNDS))
        least = _Way("a day, floor: no checks at all", partial(floor, *place), rounds)
        full = _Way("a day, this pipeline", partial(day.build, Build.FULL), rounds, day.without_layers)
        more = _Way("one more snapshot", partial(day.build, Build.INCREMENTAL), rounds, day.one_behind, _SHORT_REPEATS)
        rules = _Way("rules, flags and schema check of a day", day.judge, rounds, day.with_processed, _SHORT_REPEATS)
        ways = [
            *((slow, least) if compare else ()),
            full,
            *((rules,) if compare else ()),
            *((more,) if incremental else ()),
        ]
        for number in range(rounds + 1):
            say(f"Day, round {number} of {rounds}" if number else "Day, warm-up")
            for way in ways:
                for _ in range(way.repeats if number <= way.rounds else 0):
                    seconds = way.run(store)
                    if number:
                        way.seconds.append(seconds)
    report = Report(samples=[way.samples() for way in ways])
    if compare:
        report.targets.append(Target("a day, against the floor", full.samples(), 2.0, least.samples()))
        report.targets.append(
            Target("rules, flags and schema check, against a day", rules.samples(), 0.5, full.samples())
        )
        report.targets.append(Target("naive, against ours", slow.samples(), 3.0, full.samples(), at_least=True))
    if incremental:
        report.targets.append(Target("one more snapshot, against a day", more.samples(), 0.2, full.samples()))
    for way in (full, more) if incremental else (full,):
        report.notes[f"{way.name}, S3 traffic"] = _traffic(way.traffic)
    return report


def _traffic(traffic: Traffic) -> str:
    requests = ", ".join(f"{count} {operation.upper()}" for operation, count in sorted(traffic.requests.items()))
    return f"{requests}; {traffic.bytes_received:,} bytes received, {traffic.bytes_sent:,} bytes sent"

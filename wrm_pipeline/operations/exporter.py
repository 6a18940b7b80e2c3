"""Metrics for Prometheus, made of what is known outside of runs: Dagster's storages, the lake, Redis, Vault, disks.

Each source is read in the background and its last good reading is what a scrape shows, so that a scrape never waits for
S3. It waits a moment for the event log, which answers in milliseconds, so that counters are those of now.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from wrm_pipeline.operations.event_log import BUCKETS, EventLogFigures
from wrm_pipeline.operations.lake_figures import LakeFigures, free_ratios

if TYPE_CHECKING:
    from prometheus_client import Metric

T = TypeVar("T")
_log = logging.getLogger(__name__)

# How long a scrape waits for the event log: a tenth of what it takes Prometheus to give up, and of no import to people.
FRESH_WITHIN_S: Final = 0.2
# No breaker but these; an unknown one is in Redis for who looks there.
BREAKERS: Final = ("feed", "object-store")


class Source(Generic[T]):
    """Something that is read again and again in a thread of its own; the last good reading stays.

    Args:
        name: as in the label `source`.
        read: takes a reading, and raises when it cannot.
        every_s: seconds from the end of one reading to the beginning of the next, unless one is asked for.
    """

    def __init__(self, name: str, read: Callable[[], T], *, every_s: float) -> None:
        self.name = name
        self._read = read
        self._every_s = every_s
        self._changed = threading.Condition()
        self._begun = self._ended = 0
        self._wanted = self._closed = False
        self._value: T | None = None
        self._read_at: float | None = None
        self._is_up = False
        self._thread = threading.Thread(target=self._run, name=f"source-{name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more; a reading that hangs is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def refresh(self, within_s: float) -> None:
        """Ask for a reading that begins now or later, and wait for its end that long at most."""
        with self._changed:
            wanted = self._begun + 1
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended >= wanted or self._closed, within_s)

    def last(self) -> tuple[T | None, bool, float | None]:
        """Return the last good reading, whether the newest attempt was one, and the Unix time of the good one."""
        with self._changed:
            return self._value, self._is_up, self._read_at

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                self._wanted = False
                self._begun += 1
            self._attempt()
            with self._changed:
                self._ended = self._begun
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._wanted or self._closed, self._every_s)

    def _attempt(self) -> None:
        try:
            value = self._read()
        except Exception as error:  # noqa: BLE001 - whatever a source does, the others are shown
            with self._changed:
                was_up, self._is_up = self._is_up or not self._begun > 1, False
            if was_up:
                # The class alone: the text may quote an address with a password.
                _log.warning("%s cannot be read (%s); its last figures are shown.", self.name, type(error).__name__)
            return
        with self._changed:
            self._value, self._is_up, self._read_at = value, True, time.time()


@dataclass(frozen=True)
class Sources:
    """Where metrics come from; None for a part that the settings do not name.

    `vault` and `redis` are read to see whether they answer, Redis for the circuit breakers that are open too; and
    `certificates` for when they expire, by endpoint.
    """

    event_log: Source[EventLogFigures]
    lake: Source[LakeFigures] | None
    vault: Source[bool] | None = None
    redis: Source[Mapping[str, bool]] | None = None
    certificates: Source[Mapping[str, float]] | None = None

    def __iter__(self) -> Iterator[Source[object]]:
        every = (self.event_log, self.lake, self.vault, self.redis, self.certificates)
        return (source for source in every if source is not None)  # type: ignore[misc]


class Exporter(Collector):
    """Turns the last readings into metrics; nothing is read here.

    Args:
        sources: already started.
        disks: paths whose disks are looked at, by a scrape itself.
        raw_asset: the name of the asset whose repeated fetches make a snapshot older than its key says.
    """

    def __init__(self, sources: Sources, disks: Sequence[Path], raw_asset: str) -> None:
        self._sources = sources
        self._disks = disks
        self._raw_asset = raw_asset

    def registry(self) -> CollectorRegistry:
        """Return a registry that holds this alone."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def describe(self) -> Iterable["Metric"]:
        """Say nothing: names are only known once there are readings."""
        return ()

    def collect(self) -> Iterator["Metric"]:
        """Yield all metrics, as of now."""
        started = time.perf_counter()
        self._sources.event_log.refresh(FRESH_WITHIN_S)
        events, _, _ = self._sources.event_log.last()
        now = time.time()
        if events is not None:
            yield from _runs(events, now)
            yield from _assets(events)
        lake = self._sources.lake.last()[0] if self._sources.lake is not None else None
        if lake is not None:
            raw = events.assets.get(self._raw_asset) if events is not None else None
            yield from _lake(lake, raw.repeated_at if raw is not None else None)
        yield from self._rest()
        yield _gauge("wrm_exporter_scrape_seconds", "How long this scrape took.", [((), time.perf_counter() - started)])

    def _rest(self) -> Iterator["Metric"]:
        disks = [((path,), ratio) for path, ratio in free_ratios(self._disks).items()]
        yield _gauge("wrm_disk_free_ratio", "Free share of the disk that a path is on.", disks, "path")
        sources = self._sources
        expiries = sources.certificates.last()[0] if sources.certificates is not None else None
        found = [((endpoint,), at) for endpoint, at in sorted((expiries or {}).items())]
        meaning = "When the certificate of an endpoint expires."
        yield _gauge("wrm_certificate_expiry_timestamp_seconds", meaning, found, "endpoint")
        breakers = sources.redis.last()[0] if sources.redis is not None else None
        states = [((name,), float(is_open)) for name, is_open in sorted((breakers or {}).items())]
        yield _gauge("wrm_breaker_open", "Whether a circuit breaker is open, as Redis has it.", states, "breaker")
        shown = [source for source in sources if source is not sources.certificates]
        ups = [((source.name,), float(source.last()[1])) for source in shown]
        yield _gauge("wrm_exporter_source_up", "Whether the newest reading succeeded.", ups, "source")
        ages = [((source.name,), at) for source in shown if (at := source.last()[2]) is not None]
        yield _gauge("wrm_exporter_source_timestamp_seconds", "When the last good reading ended.", ages, "source")


def _gauge(
    name: str, meaning: str, values: Iterable[tuple[Sequence[str], float | None]], *labels: str
) -> GaugeMetricFamily:
    """Return a gauge; a value that is not known is left out."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for key, value in values:
        if value is not None:
            family.add_metric(key, value)
    return family


def _runs(events: EventLogFigures, now: float) -> Iterator["Metric"]:
    ended = CounterMetricFamily("dagster_pipeline_runs", "Runs that have ended.", labels=("pipeline_name", "status"))
    for key, count in events.runs.items():
        ended.add_metric(key, count)
    yield ended
    durations = HistogramMetricFamily(
        "dagster_pipeline_duration_seconds",
        "How long ended runs took, from their start.",
        labels=("pipeline_name",),
    )
    bounds = [*map(str, BUCKETS), "+Inf"]
    for job, found in events.durations.items():
        durations.add_metric([job], list(zip(bounds, accumulate(found.counts), strict=True)), found.sum_s)
    yield durations
    active = [((job,), float(count)) for job, count in events.active.items()]
    yield _gauge("dagster_active_jobs", "Runs at work.", active, "pipeline_name")
    yield _gauge("dagster_queued_runs", "Runs in the queue.", [((), events.queued)])
    waited = max(0.0, now - events.oldest_queued_at) if events.oldest_queued_at is not None else 0.0
    yield _gauge("dagster_queue_oldest_seconds", "How long the oldest of them has waited.", [((), waited)])
    beats = [((kind,), at) for kind, at in events.heartbeats.items()]
    yield _gauge("dagster_daemon_heartbeat_timestamp_seconds", "A daemon's newest sign of life.", beats, "daemon")


def _assets(events: EventLogFigures) -> Iterator["Metric"]:
    assets = events.assets.items()
    rows = [((name,), asset.rows) for name, asset in assets]
    yield _gauge("dagster_asset_record_count", "Rows of the newest materialization.", rows, "asset_name")
    nulls = [((name, column), share) for name, asset in assets for column, share in asset.null_percentage.items()]
    meaning = "Percent of nulls in a column of the newest materialization."
    yield _gauge("dagster_asset_null_percentage", meaning, nulls, "asset_name", "column_name")
    times = [((name,), asset.materialized_at) for name, asset in assets]
    yield _gauge("dagster_asset_last_success_timestamp", "When it was made, Unix seconds.", times, "asset_name")
    checks = [((*key, check.severity), float(check.passed)) for key, check in events.checks.items()]
    meaning = "Whether the newest evaluation of a check passed."
    yield _gauge("dagster_asset_check_passed", meaning, checks, "asset_name", "check_name", "severity")


def _lake(lake: LakeFigures, repeated_at: float | None) -> Iterator["Metric"]:
    letters = [(key, float(count)) for key, count in lake.dead_letters.items()]
    yield _gauge("wrm_dead_letters", "Records of dead letters of the newest 7 UTC days.", letters, "rule", "status")
    ratio = [((), lake.dead_letter_ratio)]
    yield _gauge("wrm_dead_letter_ratio", "Share of the newest day's rows that are dead letters.", ratio)
    newest = lake.newest_snapshot.timestamp() if lake.newest_snapshot is not None else None
    yield _gauge("wrm_newest_snapshot_timestamp_seconds", "Time of the newest snapshot in raw.", [((), newest)])
    meaning = "How long the feed has shown nothing but what the newest snapshot shows."
    yield _gauge("wrm_snapshot_unchanged_seconds", meaning, [((), _unchanged_seconds(lake, repeated_at))])
    yield _gauge("wrm_coverage_ratio", "Share of the last 24 hours that snapshots cover.", [((), lake.coverage)])
    city = lake.city
    if city is None:
        return
    yield _gauge("wrm_newest_snapshot_rows", "Rows of the newest snapshot in enhanced.", [((), city.rows)])
    yield _gauge("wrm_newest_snapshot_stations", "Stations in it.", [((), city.stations)])
    usual = [((), city.usual_stations)]
    yield _gauge("wrm_usual_snapshot_stations", "Median of the stations in the 24 hours of snapshots before it.", usual)
    states = [((state,), float(count)) for state, count in city.states.items()]
    yield _gauge("wrm_stations", "Stations of the newest snapshot.", states, "state")
    bikes = [((place,), float(count)) for place, count in city.bikes.items()]
    yield _gauge("wrm_bikes", "Bikes of the newest snapshot.", bikes, "place")


def _unchanged_seconds(lake: LakeFigures, repeated_at: float | None) -> float | None:
    """Return for how long: between snapshots that differ in times alone, and on to a fetch of the very same bytes."""
    if lake.unchanged_since is None or lake.city is None:
        return None
    until = lake.city.time.timestamp()
    if repeated_at is not None and lake.newest_snapshot == lake.city.time:
        until = max(until, repeated_at)
    return until - lake.unchanged_since.timestamp()

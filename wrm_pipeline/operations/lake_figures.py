"""What the lake shows to an operator, in numbers: its newest snapshot, the last 24 hours, dead letters, the city.

A reading costs two or three listings and a HEAD for each of two days; objects are read again when they have changed.
Disks and certificates are here as well: they too are known without a run.
"""

import datetime as dt
import shutil
import socket
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from cryptography import x509

from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.dead_letters import DeadLetter, read_letters
from wrm_pipeline.lake.keys import Layer, day_of, snapshot_time
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectInfo
from wrm_pipeline.transform.quality import dead_share
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline.transform.snapshots import Snapshots

_WINDOW: Final = dt.timedelta(hours=24)
_LETTER_DAYS: Final = 7
# A request each: what a reading may cost when there is trouble. What is left over is read by the next ones.
_LETTERS_AT_ONCE: Final = 500
# As in the marts: a snapshot speaks for the time to the next one, but for two polling intervals at most.
_COVERS_INTERVALS: Final = 2
STATES: Final = ("empty", "low", "ok", "full", "overfull", "no_docks")
PLACES: Final = ("station", "free", "off_zone")
_HANDSHAKE_S: Final = 3.0


@dataclass(frozen=True)
class City:
    """The newest snapshot of enhanced: its time (UTC), rows and stations, stations by state, bikes by place.

    `usual_stations` is the median of the snapshots of the 24 hours before it, None when there are none.
    """

    time: dt.datetime
    rows: int
    stations: int
    usual_stations: float | None
    states: Mapping[str, int]
    bikes: Mapping[str, int]


@dataclass(frozen=True)
class LakeFigures:
    """The lake at a moment.

    `newest_snapshot` is that of raw, UTC; `unchanged_since` the UTC time of the first of the snapshots of enhanced
    that show the same as its newest one; `coverage` the share of the last 24 hours, or of the time since the first
    snapshot of a younger lake, that snapshots cover; `dead_letters` are records by rule and status.
    """

    newest_snapshot: dt.datetime | None
    unchanged_since: dt.datetime | None
    coverage: float | None
    city: City | None
    dead_letter_ratio: float | None
    dead_letters: Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class _Day:
    """What is kept of a day of enhanced, until it has another ETag.

    `unchanged` says of each snapshot whether it shows the same as the one before it on that day; `first` and `last`
    are the rows of the day's first and last snapshot.
    """

    etag: str
    times: Sequence[dt.datetime]
    stations: Sequence[int]
    unchanged: Sequence[bool]
    first: pa.Table
    last: pa.Table
    dead_share: float


@dataclass
class LakeReader:
    """Reads a lake again and again, each time what has changed; for one thread at a time.

    Attributes:
        lake: the lake.
        contracts: they know the polling interval.
    """

    lake: Lake
    contracts: Contracts
    _days: dict[dt.date, _Day] = field(default_factory=dict)
    _letters: dict[str, tuple[str, Counter[tuple[str, str]]]] = field(default_factory=dict)

    def read(self, now: dt.datetime) -> LakeFigures:
        """Read what has changed and return all that is known, as of an aware time.

        Raises:
            StoreError: the store does not answer.
        """
        raw = self._raw_times(now)
        days = self._newest_days(now)
        shown = [day for day in days if day.times]
        return LakeFigures(
            newest_snapshot=raw[-1] if raw else None,
            unchanged_since=_unchanged_since(shown),
            coverage=self._coverage(raw, now),
            city=_city(shown) if shown else None,
            dead_letter_ratio=days[-1].dead_share if days else None,
            dead_letters=self._dead_letters(now),
        )

    def _raw_times(self, now: dt.datetime) -> list[dt.datetime]:
        """Return the times of the snapshots of the last 24 hours and some before; of the newest one, if it is older."""
        today = now.astimezone(dt.UTC).date()
        keys = [info.key for day in (today - dt.timedelta(days=1), today) for info in self.lake.raw_listing(day)]
        if not keys and (newest := self.lake.newest_raw(today)) is not None:
            keys = [newest.key]
        return sorted(time for key in keys if (time := snapshot_time(key)) is not None)

    def _coverage(self, raw: Sequence[dt.datetime], now: dt.datetime) -> float | None:
        if not raw:
            return None
        begin = now - _WINDOW
        if raw[0] > begin and self.lake.raw_days()[0] >= raw[0].date():
            begin = raw[0]
        reach = dt.timedelta(seconds=_COVERS_INTERVALS * self.contracts.raw.interval_s)
        covered = sum(
            (
                max(dt.timedelta(0), min(following, time + reach, now) - max(time, begin))
                for time, following in pairwise([*raw, now])
            ),
            dt.timedelta(0),
        )
        return covered / (now - begin) if now > begin else 1.0

    def _newest_days(self, now: dt.datetime) -> list[_Day]:
        """Return the newest day of enhanced, after the day before it when there is one."""
        today = now.astimezone(dt.UTC).date()
        yesterday = today - dt.timedelta(days=1)
        found = {day: self._day(day) for day in (yesterday, today)}
        if found[today] is None and found[yesterday] is None:
            folders = self.lake.store.list_folders(self.lake.keys.layer_root(Layer.ENHANCED))
            older = [day for folder in folders if (day := day_of(folder)) is not None and day < yesterday][-2:]
            found = {day: self._day(day) for day in older}
        self._days = {day: kept for day, kept in found.items() if kept is not None}
        return [self._days[day] for day in sorted(self._days)]

    def _day(self, day: dt.date) -> _Day | None:
        info = self.lake.store.head(self.lake.keys.layer_object(Layer.ENHANCED, day))
        if info is None:
            return None
        known = self._days.get(day)
        if known is not None and known.etag == info.etag:
            return known
        stored = self.lake.read_day(Layer.ENHANCED, day, ENHANCED)
        if stored is None:
            return None
        snapshots = Snapshots(stored.rows, None, day, _end_of(day))
        return _Day(
            etag=stored.info.etag,
            times=snapshots.times,
            stations=snapshots.stations,
            unchanged=snapshots.unchanged,
            first=_snapshot(stored.rows, min(snapshots.times, default=None)),
            last=_snapshot(stored.rows, max(snapshots.times, default=None)),
            dead_share=dead_share(stored.manifest.sources),
        )

    def _dead_letters(self, now: dt.datetime) -> dict[tuple[str, str], int]:
        """Count the records of the newest 7 UTC days; of letters, those are read that are new or have changed."""
        store, keys = self.lake.store, self.lake.keys
        today = now.astimezone(dt.UTC).date()
        listed: dict[str, ObjectInfo] = {}
        for info in store.list(
            keys.dead_letter_root, start_after=keys.dead_letter_day(today - dt.timedelta(days=_LETTER_DAYS - 1))
        ):
            day = day_of(info.key)
            if day is None or not info.key.startswith(keys.dead_letter_day(day)):
                break  # days are over, what redrives remember begins
            if keys.is_dead_letter(info.key):
                listed[info.key] = info
        self._letters = {
            key: kept for key, kept in self._letters.items() if key in listed and listed[key].etag == kept[0]
        }
        unread = [info for key, info in listed.items() if key not in self._letters][-_LETTERS_AT_ONCE:]
        letters, _ = read_letters(store, keys, today, unread)
        read = {keys.dead_letter(letter.partition, letter.id): _records(letter) for letter in letters}
        # One that cannot be read counts nothing, and is not read again until somebody changes it.
        self._letters |= {info.key: (info.etag, read.get(info.key, Counter())) for info in unread}
        total: Counter[tuple[str, str]] = Counter()
        for _, counts in self._letters.values():
            total += counts
        return dict(sorted(total.items()))


def _end_of(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)


def _records(letter: DeadLetter) -> Counter[tuple[str, str]]:
    return Counter((record.rule, letter.status.value) for record in letter.records)


def _snapshot(rows: pa.Table, time: dt.datetime | None) -> pa.Table:
    # Copied, so that it does not keep the whole day in memory.
    return rows.filter(
        pc.equal(rows.column("file_timestamp"), pa.scalar(time, rows.schema.field("file_timestamp").type))
    )


def _unchanged_since(days: Sequence[_Day]) -> dt.datetime | None:
    """Return the time of the first of the newest snapshots that show the same, over midnight too."""
    if not days:
        return None
    since: dt.datetime | None = None
    for day, before in zip(reversed(days), [*reversed(days[:-1]), None], strict=True):
        first = len(day.unchanged) - 1
        while first > 0 and day.unchanged[first]:
            first -= 1
        since = day.times[first]
        if first > 0 or before is None or not _same(before.last, day.first):
            break
    return since


def _same(earlier: pa.Table, later: pa.Table) -> bool:
    both = pa.concat_tables([earlier, later])
    return Snapshots(both, None, dt.date.min, dt.datetime.max.replace(tzinfo=dt.UTC)).unchanged[-1]


def _city(days: Sequence[_Day]) -> City:
    newest = days[-1]
    seen = [(time, count) for day in days for time, count in zip(day.times, day.stations, strict=True)]
    before = [count for time, count in seen[:-1] if time > newest.times[-1] - _WINDOW]
    kinds = newest.last.column("record_type")
    stations, bikes = newest.last.filter(pc.equal(kinds, "station")), newest.last.filter(pc.equal(kinds, "bike"))
    docked, docks = stations.column("bikes").to_pylist(), stations.column("total_docks").to_pylist()
    states = Counter(station_state(*station) for station in zip(docked, docks, strict=True))
    in_area = Counter(bikes.column("in_service_area").to_pylist())
    return City(
        time=newest.times[-1],
        rows=newest.last.num_rows,
        stations=stations.num_rows,
        usual_stations=median(before) if before else None,
        states={state: states[state] for state in STATES},
        bikes=dict(zip(PLACES, (sum(docked), in_area[True], in_area[False]), strict=True)),
    )


def station_state(bikes: int, docks: int) -> str:
    """Return the state of a station in the words of mv_station_latest."""
    if docks == 0:
        return "no_docks"
    if bikes >= docks:
        return "full" if bikes == docks else "overfull"
    return "empty" if bikes == 0 else "low" if bikes < 2 else "ok"


def free_ratios(paths: Iterable[Path]) -> dict[str, float]:
    """Return the free share of the disks that some paths are on, a disk once, by the first path on it.

    A path that does not exist yet is taken for the nearest folder above it that does.
    """
    found: dict[int, tuple[str, float]] = {}
    for path in paths:
        there = next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())
        usage = shutil.disk_usage(there)
        size = usage.used + usage.free  # what is reserved for root is nobody's, as df has it
        if size:
            found.setdefault(there.stat().st_dev, (str(path.resolve()), usage.free / size))
    return dict(found.values())


def certificate_expiries(endpoints: Iterable[str]) -> dict[str, float]:
    """Return when the certificates of https addresses expire, Unix seconds, by scheme, host and port.

    A certificate is read whether it can be verified or not: one that has expired has a date too. Endpoints that do not
    answer are left out; so are addresses of other schemes.
    """
    found: dict[str, float] = {}
    for endpoint in endpoints:
        parts = urlsplit(endpoint)
        if parts.scheme == "https" and parts.hostname:
            port = parts.port or 443
            try:
                found[f"https://{parts.netloc.rpartition('@')[2]}"] = _expiry(parts.hostname, port)
            except (OSError, ValueError):
                continue
    return found


def _expiry(host: str, port: int) -> float:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent or believed but a date
    with (
        socket.create_connection((host, port), timeout=_HANDSHAKE_S) as connection,
        context.wrap_socket(connection, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert(binary_form=True) or b""
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()

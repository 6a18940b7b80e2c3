"""Where the lake stands: the newest snapshot, what became of it, how far processing lags behind."""

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

import pyarrow.compute as pc

from wrm_pipeline.lake.dead_letters import read_letters
from wrm_pipeline.lake.keys import Layer, day_of, snapshot_time
from wrm_pipeline.lake.lake import Lake, StoredDay
from wrm_pipeline.transform.schema import ENHANCED


@dataclass(frozen=True)
class DayStatus:
    """One UTC day: objects in raw and in enhanced, and what became of their rows."""

    day: dt.date
    raw_objects: int
    enhanced_objects: int
    rows_in: int
    rows_kept: int
    rows_dead: int
    rows_duplicate: int
    files_set_aside: int
    dead_letters: dict[str, int]
    unreadable_letters: int


@dataclass(frozen=True)
class LakeStatus:
    """The lake at a moment. Times are UTC, `age_s` and `lag_s` are seconds.

    `age_s` is the age of the newest snapshot in raw. `lag_s` is how long the oldest snapshot that enhanced does not
    hold yet has been waiting, counted from its fetch; 0 when nothing waits.
    """

    at: dt.datetime
    store: str
    newest_snapshot: dt.datetime | None = None
    age_s: float | None = None
    lag_s: float | None = None
    latest_rows: dict[str, int] = field(default_factory=dict)
    days: tuple[DayStatus, ...] = ()


def lake_status(lake: Lake, now: dt.datetime, *, days: int) -> LakeStatus:
    """Look at the newest `days` days that raw or dead letters hold."""
    store = lake.store.uri(lake.keys.prefix)
    folders = lake.store.list_folders(lake.keys.dead_letter_root)
    # A feed that is broken all day leaves a day of letters and nothing in raw.
    shown = sorted({*lake.raw_days(), *(day for folder in folders if (day := day_of(folder)) is not None)})[-days:]
    if not shown:
        return LakeStatus(at=now, store=store)
    statuses: list[DayStatus] = []
    waiting: list[dt.datetime] = []
    latest: dict[str, int] = {}
    newest: dt.datetime | None = None
    for day in shown:
        listing = lake.raw_listing(day)
        stored = lake.read_day(Layer.ENHANCED, day, ENHANCED)
        done = stored.manifest.inputs() if stored is not None else {}
        times = {info.key: time for info in listing if (time := snapshot_time(info.key)) is not None}
        waiting += [times[info.key] for info in listing if info.key not in done and info.key in times]
        newest = max([*times.values(), *([newest] if newest else [])], default=None)
        if stored is not None and stored.rows.num_rows:
            latest = _latest_rows(stored)
        statuses.append(_day_status(lake, day, len(listing), stored))
    return LakeStatus(
        at=now,
        store=store,
        newest_snapshot=newest,
        age_s=(now - newest).total_seconds() if newest is not None else None,
        lag_s=None if newest is None else max([0.0, *((now - time).total_seconds() for time in waiting)]),
        latest_rows=latest,
        days=tuple(statuses),
    )


def _latest_rows(stored: StoredDay) -> dict[str, int]:
    times = stored.rows.column("file_timestamp")
    newest = stored.rows.filter(pc.equal(times, pc.max(times)))
    counts = Counter(newest.column("record_type").to_pylist())
    return {kind: counts[kind] for kind in ("station", "bike", "unknown")}


def _day_status(lake: Lake, day: dt.date, raw_objects: int, stored: StoredDay | None) -> DayStatus:
    letters, unreadable = read_letters(lake.store, lake.keys, day)
    manifest = stored.manifest if stored is not None else None

    def total(count: str) -> int:
        return manifest.total(count) if manifest is not None else 0

    by_rule = Counter(record.rule for letter in letters for record in letter.records)
    return DayStatus(
        day=day,
        raw_objects=raw_objects,
        enhanced_objects=len(manifest.sources) if manifest is not None else 0,
        rows_in=total("rows"),
        rows_kept=total("kept"),
        rows_dead=total("dead"),
        rows_duplicate=total("duplicates"),
        files_set_aside=sum(s.fault is not None for s in manifest.sources) if manifest is not None else 0,
        dead_letters=dict(sorted(by_rule.items(), key=lambda item: (-item[1], item[0]))),
        unreadable_letters=len(unreadable),
    )

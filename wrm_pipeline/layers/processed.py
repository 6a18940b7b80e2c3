"""Processed: all raw objects of a day as typed rows in one Parquet object.

A day is a pure function of its raw objects and the code. A build starts from the stored day when that was made by the
same code from some of the same objects, and fetches only what is new; the bytes are those of a build from nothing.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import pyarrow as pa

from wrm_pipeline.feed.base import Fault, FeedFormat, PayloadFault, Reject, Snapshot, Tally
from wrm_pipeline.lake.day_object import Manifest, Source, listing_inputs, recorded_code_version
from wrm_pipeline.lake.dead_letters import DeadLetter, Stage, write_letters
from wrm_pipeline.lake.keys import Layer, snapshot_time
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectInfo
from wrm_pipeline.layers.letters import letters_for
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance, RawKeepsChangingError
from wrm_pipeline.telemetry.traces import span
from wrm_pipeline.transform.schema import PROCESSED

# Raise it whenever the same raw bytes give other rows or another file; a test compares with recorded results.
PROCESSED_CODE_VERSION: Final = "2"
# Each pass reads what arrived during the one before: milliseconds' worth, where snapshots come minutes apart.
PASSES: Final = 10


@dataclass(frozen=True)
class _Addition:
    """New raw objects, parsed."""

    rows: pa.Table
    sources: tuple[Source, ...]
    rejects: tuple[Reject, ...]
    faults: Mapping[str, Fault]
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class Draft:
    """A day of processed as raw says it must be; its dead letters are stored. `info` is None until it is itself."""

    rows: pa.Table
    manifest: Manifest
    build: Build
    read: int
    letters: tuple[DeadLetter, ...]
    info: ObjectInfo | None


def build_processed_day(lake: Lake, feed_format: FeedFormat, day: dt.date, provenance: Provenance) -> BuiltDay:
    """Bring a day of processed up to date with raw and return it.

    Dead letters are stored first, then the day with one PUT; then raw is listed again, and what arrived meanwhile is
    added in another pass.

    Raises:
        NoRawDataError: raw holds nothing for the day.
    """
    built: list[BuiltDay] = []
    for draft in drafts(lake, feed_format, day, provenance):
        info = store_draft(lake, draft)
        built = [BuiltDay(draft.rows, draft.manifest, info, draft.build, draft.read, draft.letters)]
    return built[-1]


def store_draft(lake: Lake, draft: Draft) -> ObjectInfo:
    """Store a draft, unless it lies in the lake as it is."""
    with span("write", rows=draft.rows.num_rows):
        return draft.info or lake.write_day(draft.rows, draft.manifest)


def drafts(
    lake: Lake, feed_format: FeedFormat, day: dt.date, provenance: Provenance, *, from_nothing: bool = False
) -> Iterator[Draft]:
    """Yield the day as raw has it, for the caller to store; yield it anew when raw has changed by then.

    Raw is listed after each draft was stored, and what the caller makes of it. Whoever writes last has listed after
    writing, so runs that overlap end with the full day. The stored day is the start, unless `from_nothing` asks for
    each raw object to be judged again; the rows are the same.

    Raises:
        NoRawDataError: raw holds nothing for the day.
        RawKeepsChangingError: raw changed in every pass.
    """
    version = recorded_code_version(PROCESSED_CODE_VERSION, feed_format.contract.stamp)
    with ThreadPoolExecutor(1, thread_name_prefix="processed") as pool:
        reading = pool.submit(lake.read_day, Layer.PROCESSED, day, PROCESSED)
        listing = _list(lake, day)
    if not listing:
        raise NoRawDataError(
            f"There is no raw data for {day}: nothing lies under {lake.store.uri(lake.keys.raw_day(day))}. "
            "Check the day, BUCKET_NAME and WRM_STATIONS_S3_PREFIX."
        )
    stored = reading.result()
    draft: Draft | None = None
    if stored is not None and not from_nothing and _reusable(stored.manifest, version, listing):
        draft = Draft(stored.rows, stored.manifest, Build.UNCHANGED, 0, (), stored.info)
    for _ in range(PASSES):
        if draft is None or draft.manifest.inputs() != listing_inputs(listing):
            draft = _extend(lake, feed_format, day, version, draft, listing, provenance)
        yield draft
        listing = _list(lake, day)
        if draft.manifest.inputs() == listing_inputs(listing):
            return
        if not _reusable(draft.manifest, version, listing):
            draft = None  # an object of raw was replaced or removed by hand: from nothing
    raise RawKeepsChangingError(
        f"Raw objects of {day} were added or changed during each of {PASSES} passes; what was read is stored. "
        f"Check what writes to {lake.store.uri(lake.keys.raw_day(day))}."
    )


def _list(lake: Lake, day: dt.date) -> list[ObjectInfo]:
    with span("list") as listed:
        listing = lake.raw_listing(day)
        listed.add(objects=len(listing))
    return listing


def _reusable(manifest: Manifest, version: str, listing: Sequence[ObjectInfo]) -> bool:
    return manifest.code_version == version and manifest.inputs().items() <= listing_inputs(listing).items()


def _extend(
    lake: Lake,
    feed_format: FeedFormat,
    day: dt.date,
    version: str,
    base: Draft | None,
    listing: Sequence[ObjectInfo],
    provenance: Provenance,
) -> Draft:
    known = base.manifest.inputs() if base is not None else {}
    added = _read(lake, feed_format, [info for info in listing if info.key not in known])
    rows, sources = added.rows, added.sources
    if base is not None:
        rows, sources = merge(base.rows, base.manifest.sources, rows, sources)
    letters = letters_for(
        stage=Stage.PROCESSED,
        code_version=version,
        contract_version=feed_format.contract.stamp,
        provenance=provenance,
        sha256=added.sha256,
        rejects=added.rejects,
        faults=added.faults,
    )
    write_letters(lake.store, lake.keys, letters)
    return Draft(
        rows=rows,
        manifest=Manifest(Layer.PROCESSED, day, version, sources),
        build=Build.FULL if base is None or base.build is Build.FULL else Build.INCREMENTAL,
        read=(base.read if base is not None else 0) + len(added.sources),
        letters=(*(base.letters if base is not None else ()), *letters),
        info=None,
    )


def _read(lake: Lake, feed_format: FeedFormat, listing: Sequence[ObjectInfo]) -> _Addition:
    etags: dict[str, str] = {}
    sha256: dict[str, str] = {}
    unnamed: dict[str, Fault] = {}

    def snapshots() -> Iterator[Snapshot]:
        with span("get", beside=True, objects=len(listing)) as getting:
            for stored in lake.store.get_many(listing):
                getting.add(bytes=len(stored.body))
                key = stored.info.key
                # The ETag of what was read, not of what was listed before.
                etags[key] = stored.info.etag
                sha256[key] = stored.sha256
                time = snapshot_time(key)
                if time is None:
                    unnamed[key] = Fault(PayloadFault.WRONG_KEY, "the key carries no time of a snapshot of its day")
                else:
                    yield Snapshot(key, time, stored.body)

    with span("parse", objects=len(listing)) as parsing:
        parsed = feed_format.parse(snapshots())
        parsing.add(rows=parsed.rows.num_rows, rejects=len(parsed.rejects))
    faults = {**parsed.faults, **unnamed}
    tallies = {tally.source_key: tally for tally in parsed.tallies}
    sources = (
        _source(tallies.get(key, Tally(key, 0, 0, 0, 0)), etag, faults.get(key)) for key, etag in sorted(etags.items())
    )
    return _Addition(parsed.rows, tuple(sources), parsed.rejects, faults, sha256)


def _source(tally: Tally, etag: str, fault: Fault | None) -> Source:
    return Source(
        key=tally.source_key,
        etag=etag,
        rows=tally.rows,
        kept=tally.kept,
        dead=tally.dead,
        duplicates=tally.duplicates,
        fault=fault.kind if fault is not None else None,
    )


def merge(
    rows: pa.Table, sources: tuple[Source, ...], new_rows: pa.Table, new_sources: tuple[Source, ...]
) -> tuple[pa.Table, tuple[Source, ...]]:
    """Merge two tables whose rows lie source by source, in the order of the sources' keys."""
    tables = (rows, new_rows)
    offsets = [0, 0]
    pieces: list[pa.Table] = []
    tagged = sorted([(s.key, 0, s) for s in sources] + [(s.key, 1, s) for s in new_sources])
    # Neighbours from one table are one slice: a snapshot that is the newest makes two slices, not 288.
    for which, run in groupby(tagged, key=lambda entry: entry[1]):
        count = sum(entry[2].kept for entry in run)
        pieces.append(tables[which].slice(offsets[which], count))
        offsets[which] += count
    return pa.concat_tables(pieces).combine_chunks(), tuple(entry[2] for entry in tagged)

"""Enhanced: processed rows classified, judged by the contract's rules and flagged, one Parquet object a day.

It starts by bringing processed up to date, so a day of enhanced is a function of all raw objects of the day, whatever
else ran before. Computing a day's flags takes less time than reading the flags of an earlier build, so nothing of an
older enhanced object is reused.
"""

import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from wrm_pipeline.contracts.model import Contract, Rule
from wrm_pipeline.feed.base import FeedFormat, Reject
from wrm_pipeline.lake.day_object import Manifest, encode
from wrm_pipeline.lake.dead_letters import DeadLetter, Stage, write_letters
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.legacy import OlderDay, read_older_deployment, row_as_json
from wrm_pipeline.layers.letters import letters_for
from wrm_pipeline.layers.processed import Draft, drafts, store_draft
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance, RawKeepsChangingError
from wrm_pipeline.telemetry.traces import span
from wrm_pipeline.transform.enhance import Enhanced, enhance
from wrm_pipeline.transform.schema import ENHANCED

# Raise it whenever the same processed rows give other rows or another file.
ENHANCED_CODE_VERSION: Final = "2"


def build_enhanced_day(
    lake: Lake,
    feed_format: FeedFormat,
    contract: Contract,
    day: dt.date,
    provenance: Provenance,
    *,
    from_nothing: bool = False,
) -> BuiltDay:
    """Build a day of enhanced by its contract, bringing processed up to date first.

    A day of which only an older deployment's processed objects are left is built from those. `from_nothing` judges
    each raw object again, whatever is stored; `letters` then holds all dead letters of the day.

    Raises:
        NoRawDataError: neither raw nor an older deployment holds anything for the day.
        RawKeepsChangingError: raw changed in every pass, or under the hands of one that sets rows aside.
    """
    built: list[BuiltDay] = []
    try:
        for draft in drafts(lake, feed_format, day, provenance, from_nothing=from_nothing):
            # A full build has all letters in each pass; any other one those of what is new in the pass.
            earlier = built[-1].letters if built and draft.build is not Build.FULL else ()
            built = [_store(lake, feed_format, contract, draft, provenance, earlier)]
    except NoRawDataError:
        older = read_older_deployment(lake, contract, day)
        if older is None:
            raise
        return _from_older_deployment(lake, contract, older, provenance)
    return built[-1]


def code_version(contract: Contract, upstream: str) -> str:
    """Return what enhanced records as code version: its own, its contract's stamp, and processed's."""
    return f"{ENHANCED_CODE_VERSION}+contract{contract.stamp}/{upstream}"


def _store(
    lake: Lake,
    feed_format: FeedFormat,
    contract: Contract,
    processed: Draft,
    provenance: Provenance,
    earlier: Sequence[DeadLetter],
) -> BuiltDay:
    """Store processed and, after it, enhanced, which is computed and encoded meanwhile; dead letters come first.

    `earlier` are letters of passes before this one.
    """
    upstream = processed.manifest
    with span("validate", rows=processed.rows.num_rows) as validating:
        found = enhance(processed.rows, upstream.day, contract)
        validating.add(dead=found.rejected.size)
    broken = _by_source(found, [source.kept for source in upstream.sources])
    manifest = _manifest(upstream, contract, [len(positions) for positions in broken])
    letters: list[DeadLetter] = []
    if found.rejected.size:
        rejects, sha256 = _rejects(lake, feed_format, processed, found, broken, manifest)
        letters = _write(lake, contract, manifest, provenance, rejects, sha256)
    with span("write", rows=found.rows.num_rows) as writing:
        with ThreadPoolExecutor(1, thread_name_prefix="processed") as pool:
            storing = pool.submit(store_draft, lake, processed)
            body = encode(found.rows, manifest)
        storing.result()  # an error here leaves enhanced as it was
        info = lake.put_day(body, manifest)
        writing.add(bytes=len(body))
    written = {letter.id: letter for letter in (*earlier, *processed.letters, *letters)}
    return BuiltDay(found.rows, manifest, info, processed.build, processed.read, tuple(written.values()))


def _by_source(found: Enhanced, kept: Sequence[int]) -> list[np.ndarray]:
    """Indices into `found.rejected`, one array a source; processed rows lie source by source."""
    ends = np.searchsorted(found.rejected, np.cumsum(kept))
    return np.split(np.arange(found.rejected.size), ends[:-1]) if kept else []


def _manifest(upstream: Manifest, contract: Contract, dead: Sequence[int]) -> Manifest:
    """Each source's rows are those of processed; what enhanced sets aside moves from kept to dead."""
    return Manifest(
        layer=Layer.ENHANCED,
        day=upstream.day,
        code_version=code_version(contract, upstream.code_version),
        sources=tuple(
            replace(source, kept=source.kept - more, dead=source.dead + more) if more else source
            for source, more in zip(upstream.sources, dead, strict=True)
        ),
    )


def _rejects(
    lake: Lake,
    feed_format: FeedFormat,
    processed: Draft,
    found: Enhanced,
    broken: Sequence[np.ndarray],
    manifest: Manifest,
) -> tuple[list[Reject], dict[str, str]]:
    """Find the lines of rows that were set aside, in raw, and the sha256 of their sources.

    Sources whose rows the stored day left out by the same rules already have their dead letters, as long as all new
    snapshots are later: what a row's rules say depends on earlier rows alone.
    """
    known = _known_sources(lake, processed, manifest)
    affected = {
        source.key: positions
        for source, positions in zip(manifest.sources, broken, strict=True)
        if positions.size and source.key not in known
    }
    rejects: list[Reject] = []
    sha256: dict[str, str] = {}
    etags = manifest.inputs()
    ids = processed.rows.column("station_id").take(pa.array(found.rejected)).to_pylist()
    for stored in lake.store.get_many(list(affected)):
        key = stored.info.key
        if stored.info.etag != etags[key]:
            raise RawKeepsChangingError(
                f"{lake.store.uri(key)} was replaced while its day was built, so the rows to set aside cannot be "
                "found in it. Nothing of enhanced was changed; build the day again."
            )
        sha256[key] = stored.sha256
        lines = feed_format.locate(stored.body, {ids[index] for index in affected[key].tolist()})
        for index in affected[key].tolist():
            line, row = lines[ids[index]]
            rejects.append(_reject(key, line, row, found.broke[index]))
    return sorted(rejects, key=lambda reject: (reject.source_key, reject.line)), sha256


def _known_sources(lake: Lake, processed: Draft, manifest: Manifest) -> set[str]:
    if processed.build is Build.FULL:
        return set()
    stored = lake.read_day(Layer.ENHANCED, manifest.day, ENHANCED)
    if stored is None or stored.manifest.code_version != manifest.code_version:
        return set()
    earlier = stored.manifest.inputs()
    new = manifest.inputs().keys() - earlier.keys()
    appended = earlier.items() <= manifest.inputs().items() and (not new or min(new) > max(earlier, default=""))
    return set(earlier) if appended else set()


def _reject(source_key: str, line: int, row: bytes, rule: Rule) -> Reject:
    return Reject(source_key, line, row, rule.name, f"the contract counts it as an error: {rule.description}")


def _write(
    lake: Lake,
    contract: Contract,
    manifest: Manifest,
    provenance: Provenance,
    rejects: Sequence[Reject],
    sha256: dict[str, str],
) -> list[DeadLetter]:
    letters = letters_for(
        stage=Stage.ENHANCED,
        code_version=manifest.code_version,
        contract_version=contract.stamp,
        provenance=provenance,
        sha256=sha256,
        rejects=rejects,
    )
    write_letters(lake.store, lake.keys, letters)
    return letters


def _from_older_deployment(lake: Lake, contract: Contract, older: OlderDay, provenance: Provenance) -> BuiltDay:
    found = enhance(older.rows, older.manifest.day, contract)
    at = found.rejected.tolist()
    rejects = [
        _reject(older.source_keys[index], int(older.lines[index]), row_as_json(older.rows, index), rule)
        for index, rule in zip(at, found.broke, strict=True)
    ]
    dead = [sum(older.source_keys[index] == source.key for index in at) for source in older.manifest.sources]
    manifest = _manifest(older.manifest, contract, dead)
    letters = _write(lake, contract, manifest, provenance, [*older.rejects, *rejects], dict(older.sha256))
    info = lake.write_day(found.rows, manifest)
    return BuiltDay(found.rows, manifest, info, Build.FULL, len(manifest.sources), tuple(letters))

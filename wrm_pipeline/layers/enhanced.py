"""Enhanced: processed rows classified and flagged, one Parquet object a day.

It starts by bringing processed up to date, so a day of enhanced is a function of all raw objects of the day, whatever
else ran before. Computing a day's flags takes less time than reading the flags of an earlier build, so nothing of an
older enhanced object is reused.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from wrm_pipeline.feed.base import FeedFormat, Reject
from wrm_pipeline.lake.day_object import Manifest, listing_inputs
from wrm_pipeline.lake.dead_letters import Stage, write_letters
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.legacy import read_older_deployment
from wrm_pipeline.layers.letters import letters_for
from wrm_pipeline.layers.processed import PASSES, build_processed_day
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance, RawKeepsChangingError
from wrm_pipeline.transform.classify import enhance

# Raise it whenever the same processed rows give other rows or another file.
ENHANCED_CODE_VERSION: Final = "1"


def build_enhanced_day(lake: Lake, feed_format: FeedFormat, day: dt.date, provenance: Provenance) -> BuiltDay:
    """Build a day of enhanced, bringing processed up to date first.

    A day of which only an older deployment's processed objects are left is built from those.

    Raises:
        NoRawDataError: neither raw nor an older deployment holds anything for the day.
    """
    for _ in range(PASSES):
        try:
            processed = build_processed_day(lake, feed_format, day, provenance)
        except NoRawDataError:
            older = read_older_deployment(lake, day)
            if older is None:
                raise
            manifest = _manifest(older.manifest)
            letters = _write_rejects(lake, manifest, older.rejects, older.sha256, provenance)
            return _commit(lake, older.rows, manifest, letters, Build.FULL, read=len(manifest.sources))
        built = _commit(
            lake, processed.rows, _manifest(processed.manifest), processed.letters, processed.build, processed.read
        )
        # Whoever writes last must have seen everything: what another run added to processed meanwhile is in raw.
        if listing_inputs(lake.raw_listing(day)) == built.manifest.inputs():
            return built
    raise RawKeepsChangingError(
        f"Raw objects of {day} were added or changed during each of {PASSES} passes; what was read is stored. "
        f"Check what writes to {lake.store.uri(lake.keys.raw_day(day))}."
    )


def _manifest(upstream: Manifest) -> Manifest:
    """Rows in are the rows that processed kept; nothing that processed accepts is set aside here."""
    return Manifest(
        layer=Layer.ENHANCED,
        day=upstream.day,
        code_version=f"{ENHANCED_CODE_VERSION}/{upstream.code_version}",
        sources=upstream.sources,
    )


def _commit(
    lake: Lake, rows: pa.Table, manifest: Manifest, letters: Sequence[str], build: Build, read: int
) -> BuiltDay:
    enhanced = enhance(rows, manifest.day)
    info = lake.write_day(enhanced, manifest)
    return BuiltDay(enhanced, manifest, info, build, read, tuple(letters))


def _write_rejects(
    lake: Lake, manifest: Manifest, rejects: Sequence[Reject], sha256: Mapping[str, str], provenance: Provenance
) -> list[str]:
    letters = letters_for(
        stage=Stage.ENHANCED,
        code_version=manifest.code_version,
        provenance=provenance,
        sha256=sha256,
        rejects=rejects,
    )
    return write_letters(lake.store, lake.keys, letters)

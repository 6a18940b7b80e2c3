"""Enhanced: processed rows classified and flagged, one Parquet object a day.

It starts by bringing processed up to date, so a day of enhanced is a function of all raw objects of the day, whatever
else ran before. Computing a day's flags takes less time than reading the flags of an earlier build, so nothing of an
older enhanced object is reused.
"""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from wrm_pipeline.feed.base import FeedFormat
from wrm_pipeline.lake.day_object import Manifest, encode
from wrm_pipeline.lake.dead_letters import Stage, write_letters
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.legacy import OlderDay, read_older_deployment
from wrm_pipeline.layers.letters import letters_for
from wrm_pipeline.layers.processed import Draft, drafts, store_draft
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance
from wrm_pipeline.transform.classify import enhance

# Raise it whenever the same processed rows give other rows or another file.
ENHANCED_CODE_VERSION: Final = "1"


def build_enhanced_day(lake: Lake, feed_format: FeedFormat, day: dt.date, provenance: Provenance) -> BuiltDay:
    """Build a day of enhanced, bringing processed up to date first.

    A day of which only an older deployment's processed objects are left is built from those.

    Raises:
        NoRawDataError: neither raw nor an older deployment holds anything for the day.
    """
    built: list[BuiltDay] = []
    try:
        for draft in drafts(lake, feed_format, day, provenance):
            built = [_store(lake, draft)]
    except NoRawDataError:
        older = read_older_deployment(lake, day)
        if older is None:
            raise
        return _from_older_deployment(lake, older, provenance)
    return built[-1]


def _store(lake: Lake, processed: Draft) -> BuiltDay:
    """Store processed and, after it, enhanced, which is computed and encoded meanwhile."""
    manifest = _manifest(processed.manifest)
    with ThreadPoolExecutor(1, thread_name_prefix="enhanced") as pool:
        upstream = pool.submit(store_draft, lake, processed)
        rows = enhance(processed.rows, manifest.day)
        body = encode(rows, manifest)
    upstream.result()  # an error here leaves enhanced as it was
    info = lake.put_day(body, manifest)
    return BuiltDay(rows, manifest, info, processed.build, processed.read, processed.letters)


def _manifest(upstream: Manifest) -> Manifest:
    """Rows in are the rows that processed kept; nothing that processed accepts is set aside here."""
    return Manifest(
        layer=Layer.ENHANCED,
        day=upstream.day,
        code_version=f"{ENHANCED_CODE_VERSION}/{upstream.code_version}",
        sources=upstream.sources,
    )


def _from_older_deployment(lake: Lake, older: OlderDay, provenance: Provenance) -> BuiltDay:
    manifest = _manifest(older.manifest)
    letters = letters_for(
        stage=Stage.ENHANCED,
        code_version=manifest.code_version,
        provenance=provenance,
        sha256=older.sha256,
        rejects=older.rejects,
    )
    written = write_letters(lake.store, lake.keys, letters)
    rows = enhance(older.rows, manifest.day)
    info = lake.write_day(rows, manifest)
    return BuiltDay(rows, manifest, info, Build.FULL, len(manifest.sources), tuple(written))

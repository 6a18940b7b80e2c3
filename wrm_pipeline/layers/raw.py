"""Raw: the bytes of a fetch, kept as they came, once."""

import datetime as dt
import hashlib
from dataclasses import dataclass

from wrm_pipeline.feed.base import Fault, FeedFormat
from wrm_pipeline.lake.dead_letters import Stage, write_letter
from wrm_pipeline.lake.keys import snapshot_time
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import KeyExists, ObjectInfo
from wrm_pipeline.layers.letters import letters_for
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline.telemetry.traces import span

RAW_CODE_VERSION = "1"
_TEXT = "text/plain; charset=utf-8"
# Two fetches in one second are a schedule and a hand-started run; sixty are a loop gone wild.
_SECONDS_TO_TRY = 60


class NotASnapshotError(LayerError):
    """What the feed sent is no snapshot; it is kept beside a dead letter."""


@dataclass(frozen=True)
class KeptSnapshot:
    """A snapshot in raw: its object, and whether the same bytes were there already."""

    info: ObjectInfo
    time: dt.datetime
    sha256: str
    size: int
    duplicate: bool


def keep_snapshot(
    lake: Lake, feed_format: FeedFormat, body: bytes, fetched_at: dt.datetime, provenance: Provenance
) -> KeptSnapshot:
    """Store fetched bytes in raw unless they equal the newest raw object.

    The key carries `fetched_at` in UTC to the second, or the next free second.

    Raises:
        NotASnapshotError: the bytes are no snapshot; they and a dead letter are stored before this is raised.
    """
    with span("validate", bytes=len(body)):
        fault = feed_format.inspect(body)
    if fault is not None:
        raise set_aside(lake, feed_format, body, fault, fetched_at, provenance)
    sha256 = hashlib.sha256(body).hexdigest()
    today = fetched_at.astimezone(dt.UTC).date()
    newest = lake.newest_raw(today)
    if newest is not None and newest.size == len(body) and lake.store.get(newest).body == body:
        return KeptSnapshot(newest, snapshot_time(newest.key) or fetched_at, sha256, len(body), duplicate=True)
    for offset in range(_SECONDS_TO_TRY):
        time = fetched_at.replace(microsecond=0) + dt.timedelta(seconds=offset)
        key = lake.keys.raw(time)
        # A look first, for stores that know no conditional PUT; the condition, for runs that look at the same time.
        taken = lake.store.head(key)
        if taken is not None and taken.size == len(body) and lake.store.get(taken).body == body:
            return KeptSnapshot(taken, time, sha256, len(body), duplicate=True)
        if taken is None:
            try:
                with span("write", bytes=len(body)):
                    info = lake.store.put(key, body, content_type=_TEXT, only_if_absent=True, read_again_by="listing")
            except KeyExists:
                continue
            return KeptSnapshot(info, time, sha256, len(body), duplicate=False)
    raise LayerError(
        f"raw holds a snapshot for each of the {_SECONDS_TO_TRY} seconds from {lake.keys.raw(fetched_at)} on. "
        "Check what polls the feed that often, and the clock."
    )


def set_aside(
    lake: Lake, feed_format: FeedFormat, body: bytes, fault: Fault, fetched_at: dt.datetime, provenance: Provenance
) -> NotASnapshotError:
    """Keep bytes that are no snapshot beside a dead letter, and return the error that says so."""
    sha256 = hashlib.sha256(body).hexdigest()
    key = lake.keys.dead_payload(fetched_at.astimezone(dt.UTC).date(), sha256)
    lake.store.put(key, body, content_type="application/octet-stream")
    (letter,) = letters_for(
        stage=Stage.RAW,
        code_version=RAW_CODE_VERSION,
        contract_version=feed_format.contract.stamp,
        provenance=provenance,
        sha256={key: sha256},
        faults={key: fault},
    )
    letter_key = write_letter(lake.store, lake.keys, letter)
    return NotASnapshotError(
        f"The feed sent no snapshot ({fault.kind}): {fault.message}. Its {len(body)} bytes are kept at "
        f"{lake.store.uri(key)}, the dead letter at {lake.store.uri(letter_key)}. Nothing was added to raw; "
        "the next poll tries again."
    )

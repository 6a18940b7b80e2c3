"""Raw: what the feed shows now, kept as it came."""

import time
from typing import Any

from dagster import (
    AssetExecutionContext,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from wrm_pipeline.assets.common import contract_metadata, freshness, provenance, step
from wrm_pipeline.assets.metadata import preview, record_type_counts, table_schema
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.feed.base import Fault, PayloadFault, Snapshot
from wrm_pipeline.feed.fetch import FeedCutOff, FeedDamaged
from wrm_pipeline.layers.raw import RAW_CODE_VERSION, keep_snapshot, set_aside
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource


@asset(
    group_name="wrm_data_acquisition",
    kinds={"s3", "csv"},
    code_version=RAW_CODE_VERSION,
    owners=[active_contracts().raw.owner],
    metadata=contract_metadata(active_contracts().raw),
    freshness_policy=freshness(active_contracts().raw),
)
def wrm_stations_raw_data(
    context: AssetExecutionContext, object_store: ObjectStoreResource, feed: FeedResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """The snapshot that the feed shows now, byte for byte, unless it equals the newest one in raw."""
    lake, started, before = object_store.lake, time.monotonic(), object_store.lake.store.traffic.snapshot()
    with step(context, metrics, object_store, feed) as work:
        try:
            payload = feed.fetch()
        except FeedCutOff as broken:
            kind = PayloadFault.DAMAGED if isinstance(broken, FeedDamaged) else PayloadFault.CUT_OFF
            who = provenance(context)
            raise set_aside(lake, feed.format, broken.body, Fault(kind, str(broken)), who.now(), who) from broken
        work.feed_seconds = payload.seconds
        kept = keep_snapshot(lake, feed.format, payload.body, payload.fetched_at, provenance(context))
        work.follow(kept.info.key)
        context.log.info("%s %s", kept.info.key, "is there already" if kept.duplicate else "is kept")
        parsed = feed.format.parse([Snapshot(kept.info.key, kept.time, payload.body)])
        (tally,) = parsed.tallies
        work.rows.update(kept=tally.kept, duplicate=tally.duplicates)
    traffic = lake.store.traffic.snapshot() - before
    return MaterializeResult(
        data_version=DataVersion(kept.sha256),
        metadata={
            "dagster/uri": lake.store.uri(kept.info.key),
            "dagster/row_count": tally.rows,
            "dagster/partition_row_count": tally.rows,
            "dagster/column_schema": table_schema(active_contracts().raw.columns),
            "key": kept.info.key,
            "sha256": kept.sha256,
            "etag": kept.info.etag,
            "bytes": kept.size,
            "duplicate": kept.duplicate,
            "snapshot_time": MetadataValue.timestamp(kept.time),
            "fetched_at": MetadataValue.timestamp(payload.fetched_at),
            "feed": MetadataValue.url(feed.address),
            "feed_seconds": round(payload.seconds, 3),
            "feed_attempts": payload.attempts,
            "feed_bytes_transferred": payload.encoded_bytes,
            **{f"rows_{kind}": count for kind, count in record_type_counts(parsed.rows).items()},
            "rows_in": tally.rows,
            "rows_kept": tally.kept,
            "rows_dead": tally.dead,
            "rows_duplicate": tally.duplicates,
            "inputs": 1,
            "seconds": round(time.monotonic() - started, 3),
            "s3_requests": sum(traffic.requests.values()),
            "preview": MetadataValue.md(preview(parsed.rows)),
        },
    )

"""Processed and enhanced: one Parquet object a UTC day each."""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any

from dagster import AssetExecutionContext, MaterializeResult

from wrm_pipeline.assets.common import Step, daily_asset, materialize_days, provenance, step
from wrm_pipeline.assets.metadata import day_metadata
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import ENHANCED_CODE_VERSION, build_enhanced_day
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION, build_processed_day
from wrm_pipeline.layers.report import BuiltDay, Provenance
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource

DayBuilder = Callable[[dt.date, Provenance], BuiltDay]


def _materialize(
    context: AssetExecutionContext, work: Step, lake: Lake, contract: Contract, builder: DayBuilder
) -> MaterializeResult[Any]:
    def build(partition: str) -> tuple[Mapping[str, Any], str]:
        started, before = time.monotonic(), lake.store.traffic.snapshot()
        built = builder(dt.date.fromisoformat(partition), provenance(context))
        seconds, traffic = time.monotonic() - started, lake.store.traffic.snapshot() - before
        manifest = built.manifest
        work.rows.update(kept=manifest.total("kept"), duplicate=manifest.total("duplicates"))
        work.rows.update(record.rule for letter in built.letters for record in letter.records)
        return day_metadata(lake, built, contract, seconds=seconds, traffic=traffic), built.info.etag

    return materialize_days(context, build)


@daily_asset(
    active_contracts().processed,
    deps=["wrm_stations_raw_data"],
    group_name="processed_data",
    kinds={"s3", "parquet", "arrow"},
    code_version=PROCESSED_CODE_VERSION,
)
def wrm_stations_processed_data_all(
    context: AssetExecutionContext, object_store: ObjectStoreResource, feed: FeedResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """All snapshots of a UTC day as typed rows. Rows that cannot be read are dead letters; nothing else is left out."""
    lake, feed_format = object_store.lake, feed.format
    with step(context, metrics, object_store) as work:
        return _materialize(
            context, work, lake, feed_format.contract, lambda day, who: build_processed_day(lake, feed_format, day, who)
        )


@daily_asset(
    active_contracts().enhanced,
    deps=[wrm_stations_processed_data_all],
    group_name="enhanced_data",
    kinds={"s3", "parquet", "arrow"},
    code_version=ENHANCED_CODE_VERSION,
)
def wrm_stations_enhanced_data_all(
    context: AssetExecutionContext, object_store: ObjectStoreResource, feed: FeedResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """Processed rows told apart as station, bike or unknown, with the warning rules each one meets."""
    lake, feed_format, contract = object_store.lake, feed.format, active_contracts().enhanced
    with step(context, metrics, object_store) as work:
        return _materialize(
            context, work, lake, contract, lambda day, who: build_enhanced_day(lake, feed_format, contract, day, who)
        )

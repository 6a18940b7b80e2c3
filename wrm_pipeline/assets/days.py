"""Processed and enhanced: one Parquet object a UTC day each."""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any

from dagster import AssetExecutionContext, MaterializeResult

from wrm_pipeline.assets.common import daily_asset, materialize_days, provenance
from wrm_pipeline.assets.metadata import day_metadata, table_schema
from wrm_pipeline.feed.base import FeedFormat
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import ENHANCED_CODE_VERSION, build_enhanced_day
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION, build_processed_day
from wrm_pipeline.layers.report import BuiltDay, Provenance
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.transform.schema import ENHANCED_COLUMNS, PROCESSED_COLUMNS, Column

DayBuilder = Callable[[Lake, FeedFormat, dt.date, Provenance], BuiltDay]


def _materialize(
    context: AssetExecutionContext,
    lake: Lake,
    feed_format: FeedFormat,
    builder: DayBuilder,
    columns: tuple[Column, ...],
) -> MaterializeResult[Any]:
    def build(partition: str) -> tuple[Mapping[str, Any], str]:
        started, before = time.monotonic(), lake.store.traffic.snapshot()
        built = builder(lake, feed_format, dt.date.fromisoformat(partition), provenance(context))
        seconds, traffic = time.monotonic() - started, lake.store.traffic.snapshot() - before
        return day_metadata(lake, built, columns, seconds=seconds, traffic=traffic), built.info.etag

    return materialize_days(context, build)


@daily_asset(
    deps=["wrm_stations_raw_data"],
    group_name="processed_data",
    kinds={"s3", "parquet", "arrow"},
    code_version=PROCESSED_CODE_VERSION,
    metadata={"dagster/column_schema": table_schema(PROCESSED_COLUMNS)},
)
def wrm_stations_processed_data_all(
    context: AssetExecutionContext, object_store: ObjectStoreResource, feed: FeedResource
) -> MaterializeResult[Any]:
    """All snapshots of a UTC day as typed rows. Rows that cannot be read are dead letters; nothing else is left out."""
    return _materialize(context, object_store.lake, feed.format, build_processed_day, PROCESSED_COLUMNS)


@daily_asset(
    deps=[wrm_stations_processed_data_all],
    group_name="enhanced_data",
    kinds={"s3", "parquet", "arrow"},
    code_version=ENHANCED_CODE_VERSION,
    metadata={"dagster/column_schema": table_schema(ENHANCED_COLUMNS)},
)
def wrm_stations_enhanced_data_all(
    context: AssetExecutionContext, object_store: ObjectStoreResource, feed: FeedResource
) -> MaterializeResult[Any]:
    """Processed rows told apart as station, bike or unknown, with the warning rules each one meets."""
    return _materialize(context, object_store.lake, feed.format, build_enhanced_day, ENHANCED_COLUMNS)

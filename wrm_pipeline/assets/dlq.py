"""The dead letters of a day, reported."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dagster import AssetExecutionContext, MaterializeResult, MetadataValue

from wrm_pipeline.assets.common import daily_asset, materialize_days, step
from wrm_pipeline.assets.days import wrm_stations_processed_data_all
from wrm_pipeline.assets.metadata import markdown_table, table_schema
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.lake.day_object import inputs_digest
from wrm_pipeline.lake.dead_letters import count_by, letter_listing, read_letters
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource

_PREVIEW_RECORDS = 10


@daily_asset(
    active_contracts().dead_letters,
    deps=[wrm_stations_processed_data_all],
    group_name="dead_letters",
    kinds={"s3", "json"},
    code_version="1",
    # After enhanced in a run, and no dependency: a day that is blocked is when this report is wanted most.
    op_tags={"dagster/priority": "-1"},
)
def wrm_stations_dlq(
    context: AssetExecutionContext, object_store: ObjectStoreResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """What was set aside on a UTC day, by rule, stage and status. A letter that cannot be read is named and kept."""
    lake = object_store.lake

    def build(partition: str) -> tuple[Mapping[str, Any], str]:
        started, day = time.monotonic(), dt.date.fromisoformat(partition)
        listing = list(letter_listing(lake.store, lake.keys, day))
        letters, unreadable = read_letters(lake.store, lake.keys, day, listing)
        for reason in unreadable:
            context.log.warning("%s. It is left as it is.", reason)
        versions = [(x.id, f"{x.status}/{len(x.records)}/{x.retry_count}") for x in letters]
        records = [(letter, record) for letter in letters for record in letter.records]
        metadata = {
            "dagster/uri": lake.store.uri(lake.keys.dead_letter_day(day)),
            "dagster/partition_row_count": len(records),
            "dagster/column_schema": table_schema(active_contracts().dead_letters.columns),
            "inputs": len(letters) + len(unreadable),
            "bytes": sum(info.size for info in listing),
            "letters": len(letters),
            "records": len(records),
            **{f"status_{status}": n for status, n in sorted(Counter(x.status.value for x in letters).items())},
            "unreadable_letters": len(unreadable),
            "seconds": round(time.monotonic() - started, 3),
            "by_rule": MetadataValue.md(
                markdown_table(
                    ["rule", "stage", "status", "records"], ([*group, n] for group, n in count_by(letters).items())
                )
                if records
                else "No dead letters on this day."
            ),
            "preview": MetadataValue.md(
                markdown_table(
                    ["source", "line", "rule", "message"],
                    (
                        [letter.source_key.rpartition("/")[2], record.line, record.rule, record.message]
                        for letter, record in records[:_PREVIEW_RECORDS]
                    ),
                )
            ),
        }
        return metadata, inputs_digest(versions)

    with step(context, metrics, object_store):
        return materialize_days(context, build)

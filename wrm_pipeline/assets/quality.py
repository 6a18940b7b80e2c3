"""What is looked at once a day: anomalies and the profile of a day that passes its blocking checks."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from dagster import AssetExecutionContext, MaterializeResult, MetadataValue, TableColumn, TableSchema

from wrm_pipeline.assets.common import daily_asset, materialize_days, step
from wrm_pipeline.assets.days import wrm_stations_enhanced_data_all
from wrm_pipeline.assets.metadata import markdown_table
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.layers.anomalies import ANOMALIES_CODE_VERSION, build_anomalies
from wrm_pipeline.layers.profile import PROFILE_CODE_VERSION, build_profile
from wrm_pipeline.resources.cache import CacheResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import load_settings
from wrm_pipeline.transform.anomalies.tables import ANOMALY_SCHEMA, MEANINGS
from wrm_pipeline.transform.profile import DayProfile

_PREVIEW: Final = 15
_OWNER: Final = active_contracts().enhanced.owner
_ANOMALY_COLUMNS: Final = TableSchema(
    columns=[TableColumn(field.name, str(field.type), MEANINGS[field.name]) for field in ANOMALY_SCHEMA],
)
_PROFILE_COLUMNS: Final = TableSchema(
    columns=[
        TableColumn(name, kind, meaning)
        for name, kind, meaning in (
            ("name", "string", "Column of enhanced"),
            ("rows, nulls, distinct", "int", "How many rows it has, without a value, and different values"),
            ("minimum, maximum, mean, quantiles", "number", "In the unit of the column, times in UTC"),
            ("top", "list", "Most frequent values with their rows"),
            ("histogram", "object", "Edges of the bins and rows between them"),
            ("memory_bytes", "int", "Bytes of its Arrow buffers"),
            ("drift", "object", "Population stability index against the week before, its band, and what moved"),
        )
    ]
)


@daily_asset(
    deps=[wrm_stations_enhanced_data_all],
    group_name="quality",
    kinds={"s3", "parquet", "scikitlearn"},
    code_version=ANOMALIES_CODE_VERSION,
    owners=[_OWNER],
    metadata={"dagster/column_schema": _ANOMALY_COLUMNS},
)
def wrm_stations_anomalies(
    context: AssetExecutionContext, object_store: ObjectStoreResource, cache: CacheResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """What is odd about a day's stations: against their own history, to an isolation forest, to rules of the trade."""
    lake = object_store.lake

    def build(partition: str) -> tuple[Mapping[str, Any], str]:
        started = time.monotonic()
        built = build_anomalies(lake, active_contracts(), dt.date.fromisoformat(partition), cache.cache)
        rows = built.found.rows
        methods = Counter(rows.column("method").to_pylist())
        shown = rows.slice(0, _PREVIEW).to_pylist()
        metadata = {
            "dagster/uri": lake.store.uri(built.info.key),
            "dagster/partition_row_count": rows.num_rows,
            "dagster/column_schema": _ANOMALY_COLUMNS,
            **{f"found_{method}": count for method, count in sorted(methods.items())},
            "history_days": len(built.inputs.days) - 1,
            "notes": MetadataValue.md("\n".join(f"- {note}" for note in built.found.notes) or "None."),
            "code_version": built.inputs.code_version,
            "bytes": built.info.size,
            "seconds": round(time.monotonic() - started, 3),
            "preview": MetadataValue.md(
                markdown_table(
                    ["station", "method", "score", "why"],
                    (
                        [row["name"], row["method"], "" if row["score"] is None else f"{row['score']:.2f}", row["why"]]
                        for row in shown
                    ),
                )
                if shown
                else "Nothing odd was found on this day."
            ),
        }
        return metadata, built.info.etag

    with step(context, metrics, object_store):
        return materialize_days(context, build)


@daily_asset(
    deps=[wrm_stations_enhanced_data_all],
    group_name="quality",
    kinds={"s3", "json", "html"},
    code_version=PROFILE_CODE_VERSION,
    owners=[_OWNER],
    metadata={"dagster/column_schema": _PROFILE_COLUMNS},
)
def wrm_stations_profile(
    context: AssetExecutionContext, object_store: ObjectStoreResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """What a day's columns hold, and how far they drifted from the week before: as data, and as a page to look at."""
    lake, public = object_store.lake, load_settings().wrm_public_url

    def build(partition: str) -> tuple[Mapping[str, Any], str]:
        started = time.monotonic()
        built = build_profile(lake, active_contracts(), dt.date.fromisoformat(partition))
        profile, page = built.profile, built.page.key.removeprefix(lake.keys.prefix)
        metadata = {
            "dagster/uri": lake.store.uri(built.page.key),
            **({"report": MetadataValue.url(f"{public}/{page}")} if public else {}),
            "data": lake.store.uri(built.data.key),
            "rows": profile.rows,
            "snapshots": len(profile.snapshots),
            "trailing_days": len(profile.trailing_days),
            "notes": MetadataValue.md("\n".join(f"- {note}" for note in profile.notes) or "None."),
            "bytes": built.page.size,
            "seconds": round(time.monotonic() - started, 3),
            "drift": MetadataValue.md(_drift_table(profile)),
        }
        return metadata, built.data.etag

    with step(context, metrics, object_store):
        return materialize_days(context, build)


def _drift_table(profile: DayProfile) -> str:
    measured = [column for column in profile.columns if column.drift.psi is not None]
    if not measured:
        return "There is no trailing week to measure drift against."
    return markdown_table(
        ["column", "population stability index", "band"],
        (
            [column.name, f"{column.drift.psi:.3f}", column.drift.band]
            for column in sorted(measured, key=lambda column: -(column.drift.psi or 0.0))
        ),
    )

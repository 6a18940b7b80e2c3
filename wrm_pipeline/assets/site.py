"""The site, made from the DuckDB file."""

import time
from contextlib import suppress
from typing import Any, Final

from dagster import AssetExecutionContext, DataVersion, MaterializeResult, MetadataValue, asset

from wrm_pipeline.assets.common import freshness, step
from wrm_pipeline.assets.mart_charts import chart
from wrm_pipeline.assets.marts import DUCKDB_ASSET
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.layers.site import SITE_CODE_VERSION, build_site
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.marts.database import MartsError, open_database
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import Settings, load_settings

# The table whose chart shows most of the city at a glance.
_PICTURE_OF: Final = "mv_station_latest"


@asset(
    deps=[*(mart.name for mart in published()), DUCKDB_ASSET],
    group_name="site",
    kinds={"s3", "html", "json"},
    code_version=SITE_CODE_VERSION,
    owners=[active_contracts().enhanced.owner],
    freshness_policy=freshness(active_contracts().enhanced),
)
def wrm_station_site(
    context: AssetExecutionContext, object_store: ObjectStoreResource, metrics: MetricsResource
) -> MaterializeResult[Any]:
    """Pages for the city, the operator and the analyst: bikes now, stations that run empty or full, flows, the data."""
    lake, settings = object_store.lake, load_settings()
    started, before = time.monotonic(), lake.store.traffic.snapshot()
    with step(context, metrics, object_store):
        report = build_site(lake, active_contracts(), settings.wrm_duckdb_path, settings.wrm_site_dir)
    if report.problem:
        context.log.warning("The site was made without data. %s", report.problem)
    newest, public, picture = report.newest_snapshot_at, settings.wrm_public_url, _picture(settings)
    traffic = lake.store.traffic.snapshot() - before
    return MaterializeResult(
        data_version=DataVersion(report.version),
        metadata={
            "dagster/uri": lake.store.uri(f"{lake.keys.site_root}index.html"),
            **({"site": MetadataValue.url(f"{public}/site/index.html")} if public else {}),
            **({"picture": MetadataValue.md(picture)} if picture else {}),
            **({"newest_snapshot": MetadataValue.timestamp(newest)} if newest else {}),
            **({"data_age_s": round(time.time() - newest.timestamp())} if newest else {}),
            "folder": str(settings.wrm_site_dir.absolute()),
            "pages": report.pages,
            "objects": report.objects,
            "objects_written": report.written,
            "objects_unchanged": report.objects - report.written,
            "objects_removed": report.removed,
            "files_written": report.copied,
            "bytes": report.size,
            "bytes_written": report.sent,
            "s3_requests": sum(traffic.requests.values()),
            "problem": report.problem or "None.",
            "seconds": round(time.monotonic() - started, 3),
        },
    )


def _picture(settings: Settings) -> str | None:
    """Return a small chart of the stations as Markdown; None without data."""
    with suppress(MartsError), open_database(settings.wrm_duckdb_path) as database:
        return chart(database, _PICTURE_OF)
    return None

"""The marts: all published tables and the DuckDB file, brought up to date together by one step.

They are one step because one pass over what changed in enhanced makes them all; a table alone would cost the same.
"""

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
    multi_asset,
)

from wrm_pipeline.assets.common import freshness, step
from wrm_pipeline.assets.mart_charts import chart
from wrm_pipeline.assets.metadata import markdown_table
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.layers.marts import MARTS_CODE_VERSION, MartsReport, build_marts
from wrm_pipeline.marts.catalogue import Column, Mart, catalogue
from wrm_pipeline.marts.database import open_database
from wrm_pipeline.marts.document import GRAINS, allowed_values, sources
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.resources.vault import VaultResource
from wrm_pipeline.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MARTS_GROUP: Final = "marts"
DUCKDB_ASSET: Final = "wrm_stations_duckdb"

# The page of the site that shows a table.
PAGES: Final[Mapping[str, str]] = {
    "dim_station": "now",
    "mv_station_latest": "now",
    "mv_free_bike_latest": "now",
    "mart_density_grid": "now",
    "mart_station_reliability": "reliability",
    "fct_station_outage": "reliability",
    "fct_station_hour": "station",
    "mv_daily_aggregates": "station",
    "mart_forecast_baseline": "station",
    "fct_fleet_day": "fleet",
    "fct_bike_move": "fleet",
    "mart_system_hour": "fleet",
    "mart_data_quality_day": "data",
    "dim_date": "data",
}
_PREVIEW_ROWS: Final = 10
# As many as fit a screen.
_PREVIEW_COLUMNS: Final = 12
_DAYS_SHOWN: Final = 100


def build_marts_assets(marts: Mapping[str, Mart]) -> AssetsDefinition:
    """Return the assets of a catalogue's published tables and of the DuckDB file, which one step makes."""
    published = [mart for mart in marts.values() if mart.published]

    @multi_asset(
        name="wrm_stations_marts",
        specs=[*(_spec(marts, mart) for mart in published), _duckdb_spec(published)],
    )
    def wrm_stations_marts(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        vault: VaultResource,
        metrics: MetricsResource,
    ) -> Iterator[MaterializeResult[Any]]:
        lake = object_store.lake
        started, before = time.monotonic(), lake.store.traffic.snapshot()

        def progress(done: int, of: int, day: dt.date) -> None:
            context.log.info("%d of %d days (%d %%), %s", done, of, 100 * done // of, day)

        with step(context, metrics, object_store):
            settings = vault.settings()
            report = build_marts(lake, active_contracts(), settings, progress)
            built_s, traffic = time.monotonic() - started, lake.store.traffic.snapshot() - before
            for day, reason in report.refused.items():
                context.log.warning("%s is in no table: %s", day, reason)
            with open_database(settings.wrm_duckdb_path) as database:
                results = [_result(database, mart, report, settings) for mart in published]
        yield from results
        yield MaterializeResult(
            asset_key=DUCKDB_ASSET,
            data_version=DataVersion(" ".join(table.version[:8] for table in report.tables.values())),
            metadata={
                "dagster/uri": str(settings.wrm_duckdb_path.absolute()),
                "bytes": settings.wrm_duckdb_path.stat().st_size,
                "tables": len(published),
                "days_computed": len(report.days),
                "days_refused": len(report.refused),
                "days": MetadataValue.md(_days(report)),
                "refused": MetadataValue.md(_refused(report)),
                "seconds": round(built_s, 3),
                "seconds_previews": round(time.monotonic() - started - built_s, 3),
                "s3_requests": sum(traffic.requests.values()),
                "s3_bytes_received": traffic.bytes_received,
                "s3_bytes_sent": traffic.bytes_sent,
            },
        )

    return wrm_stations_marts


def _spec(marts: Mapping[str, Mart], mart: Mart) -> AssetSpec:
    contract = active_contracts().enhanced
    return AssetSpec(
        mart.name,
        deps=[AssetDep(name) for name in sources(marts, mart.name)],
        description=f"{mart.title['en']}. {mart.description['en']}",
        group_name=MARTS_GROUP,
        kinds={"duckdb", "parquet", "s3"},
        code_version=MARTS_CODE_VERSION,
        owners=[contract.owner],
        freshness_policy=freshness(contract),
        metadata={
            "dagster/column_schema": column_schema(mart),
            "files": GRAINS[mart.grain],
            "key": ", ".join(mart.key),
            "definition": MetadataValue.md(f"```sql\n{mart.sql.strip()}\n```"),
        },
    )


def _duckdb_spec(published: list[Mart]) -> AssetSpec:
    contract = active_contracts().enhanced
    return AssetSpec(
        DUCKDB_ASSET,
        deps=[AssetDep(mart.name) for mart in published],
        description="All tables in one DuckDB file (WRM_DUCKDB_PATH), and views on enhanced: what `wrm sql` and the "
        "site ask. A cache: when it is deleted, the next run makes it again from the lake.",
        group_name=MARTS_GROUP,
        kinds={"duckdb"},
        code_version=MARTS_CODE_VERSION,
        owners=[contract.owner],
        freshness_policy=freshness(contract),
    )


def column_schema(mart: Mart) -> TableSchema:
    """Return Dagster's form of a table's columns: meaning with unit, values that they may have as constraints."""
    return TableSchema(
        columns=[
            TableColumn(
                column.name,
                column.type,
                _meaning(column),
                TableColumnConstraints(
                    nullable=not column.required,
                    unique=mart.key == (column.name,),
                    other=[allowed] if (allowed := allowed_values(column).replace("`", "")) else [],
                ),
            )
            for column in mart.columns
        ]
    )


def _meaning(column: Column) -> str:
    zone = column.type == "TIMESTAMP WITH TIME ZONE" and "UTC" not in column.en
    units = [unit for unit in (column.unit, "UTC" if zone else None) if unit]
    return f"{column.en} ({', '.join(units)})" if units else column.en


def _result(
    database: "DuckDBPyConnection", mart: Mart, report: MartsReport, settings: Settings
) -> MaterializeResult[Any]:
    table = report.tables[mart.name]
    page, public = PAGES.get(mart.name), settings.wrm_public_url
    drawn = chart(database, mart.name)
    return MaterializeResult(
        asset_key=mart.name,
        data_version=DataVersion(table.version),
        metadata={
            "dagster/row_count": table.rows,
            "dagster/uri": table.uri,
            "objects_written": table.written,
            "bytes_written": table.size,
            "days_computed": len(report.days),
            "days_refused": len(report.refused),
            **({"page": MetadataValue.url(f"{public}/site/en/{page}.html")} if public and page else {}),
            **({"chart": MetadataValue.md(drawn)} if drawn else {}),
            "preview": MetadataValue.md(_preview(database, mart)),
        },
    )


def _preview(database: "DuckDBPyConnection", mart: Mart) -> str:
    """Return some rows as Markdown, those of the newest time first, with as many columns as fit a screen."""
    names = [column.name for column in mart.columns[:_PREVIEW_COLUMNS]]
    rows = database.execute(
        f"SELECT {_listed(names)} FROM {mart.name} {_newest_first(mart)} LIMIT {_PREVIEW_ROWS}"  # noqa: S608 - the catalogue's
    ).fetchall()
    if not rows:
        return "There are no rows."
    left_out = len(mart.columns) - len(names)
    more = f"\n\n{left_out} more columns." if left_out else ""
    return markdown_table(names, rows) + more


def _newest_first(mart: Mart) -> str:
    """Return an order: by what recency is judged by, else by the first time or date of the key, or of the table."""
    times = [column.name for column in mart.columns if column.type in ("DATE", "TIMESTAMP WITH TIME ZONE")]
    newest = mart.recency_column or next((name for name in times if name in mart.key), next(iter(times), None))
    order = [*([f'"{newest}" DESC'] if newest else []), *([_listed(mart.key)] if mart.key else [])]
    return f"ORDER BY {', '.join(order)}" if order else ""


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _days(report: MartsReport) -> str:
    if not report.days:
        return "All days are as they were."
    shown = ", ".join(day.isoformat() for day in report.days[-_DAYS_SHOWN:])
    more = len(report.days) - _DAYS_SHOWN
    return f"{shown} and {more} before them" if more > 0 else shown


def _refused(report: MartsReport) -> str:
    if not report.refused:
        return "None."
    return markdown_table(["day (UTC)", "why it is in no table"], list(report.refused.items())[-_DAYS_SHOWN:])


wrm_stations_marts = build_marts_assets(catalogue())

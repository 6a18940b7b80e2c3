"""Tables of the marts as files to take away, Parquet and CSV: small ones whole, large ones as far as a week goes.

All days of all published tables lie under marts/ of the lake.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from wrm_pipeline.lake.day_object import parquet_bytes
from wrm_pipeline.marts.catalogue import Mart, catalogue
from wrm_pipeline.site.export import Columns, as_json

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TODAY: Final = "(SELECT (newest_snapshot_at AT TIME ZONE 'Europe/Warsaw')::DATE FROM marts_built)"
# Which rows of a table: those of this condition.
_ROWS: Final[Mapping[str, str]] = {
    "dim_date": "true",
    "dim_station": "true",
    "fct_bike_move": f"local_date > {_TODAY} - 7",
    "fct_fleet_day": "true",
    "fct_station_hour": f"local_date > {_TODAY} - 7",
    "fct_station_outage": f"local_date > {_TODAY} - 7",
    "mart_data_quality_day": "true",
    "mart_density_grid": "utc_date = (SELECT max(utc_date) FROM mart_density_grid)",
    "mart_station_reliability": "true",
    "mart_system_hour": "true",
    "mv_daily_aggregates": f"local_date > {_TODAY} - 28",
    "mv_station_latest": "true",
}
# Where a row came from is of use to who runs the lake, and names its objects.
_LEFT_OUT: Final = frozenset({"s3_source_key"})
# First and last day of a table, by the first pair of these columns that it has.
_DAYS: Final = (
    ("local_date", "local_date"),
    ("utc_date", "utc_date"),
    ("window_start", "window_end"),
    ("date", "date"),
)
# Cells that a spreadsheet would run (OWASP, CSV Injection): with one of these first, a
# text gets an apostrophe before it. The last four are = + - @ in full width.
_RUN_BY_SPREADSHEETS: Final = "^([=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"


@dataclass(frozen=True)
class _File:
    mart: str
    kind: str
    body: bytes
    rows: int
    first: str | None
    last: str | None


def downloads(connection: "DuckDBPyConnection") -> dict[str, bytes]:
    """Return the files to download and the list of them, by their path under site/.

    In CSV times are ISO 8601 in UTC, lists are joined by `|`, and texts that a spreadsheet would run begin with an
    apostrophe.
    """
    files = []
    for name, query in download_queries().items():
        table = connection.execute(query).to_arrow_table()
        table = table.cast(pa.schema([catalogue()[name].schema.field(column) for column in table.column_names]))
        first, last = _days(table)
        for kind, body in (("csv", _csv(table)), ("parquet", parquet_bytes(table, {}))):
            files.append(_File(name, kind, body, table.num_rows, first, last))
    found = {f"downloads/{file.mart}.{file.kind}": file.body for file in files}
    return {**found, "data/downloads.json": as_json({"files": _listed(files)})}


def download_queries() -> dict[str, str]:
    """Return the SQL behind each download, by the name of its table."""
    return {name: _query(catalogue()[name]) for name in _ROWS}


def _query(mart: Mart) -> str:
    columns = ", ".join(f'"{column.name}"' for column in mart.columns if column.name not in _LEFT_OUT)
    key = ", ".join(f'"{name}"' for name in mart.key)
    return f"SELECT {columns} FROM {mart.name} WHERE {_ROWS[mart.name]} ORDER BY {key or 'ALL'}"  # noqa: S608 - names of the catalogue


def _listed(files: list[_File]) -> Columns:
    return {
        "mart": [file.mart for file in files],
        "format": [file.kind for file in files],
        "path": [f"downloads/{file.mart}.{file.kind}" for file in files],
        "bytes": [len(file.body) for file in files],
        "rows": [file.rows for file in files],
        "from": [file.first for file in files],
        "to": [file.last for file in files],
        "sha256": [hashlib.sha256(file.body).hexdigest() for file in files],
    }


def _days(table: pa.Table) -> tuple[str | None, str | None]:
    import pyarrow.compute as pc

    for first, last in _DAYS:
        if first in table.column_names and table.num_rows:
            days = pc.min(table.column(first)).as_py(), pc.max(table.column(last)).as_py()
            return days[0].isoformat(), days[1].isoformat()
    return None, None


def _csv(table: pa.Table) -> bytes:
    from pyarrow import csv

    sink = io.BytesIO()
    shown = table
    for place, name in enumerate(table.column_names):
        shown = shown.set_column(place, name, _as_csv(table.column(name).combine_chunks()))
    csv.write_csv(shown, sink)
    return sink.getvalue()


def _as_csv(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        column = pc.binary_join(column, "|")
    if pa.types.is_string(column.type):
        return pc.replace_substring_regex(column, _RUN_BY_SPREADSHEETS, r"'\1")
    if pa.types.is_timestamp(column.type):
        # Only the row's own time in the feed has fractions.
        fractions = pc.max(pc.subsecond(column)).as_py()
        times = column if fractions else column.cast(pa.timestamp("s", tz="UTC"))
        return pc.strftime(times, "%Y-%m-%dT%H:%M:%SZ")
    return column

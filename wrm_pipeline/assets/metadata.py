"""Metadata of materializations, made from reports."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from dagster import MetadataValue, TableColumn, TableColumnConstraints, TableSchema

from wrm_pipeline.contracts.model import Column, Contract
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import Traffic
from wrm_pipeline.layers.report import BuiltDay
from wrm_pipeline.transform.classify import record_types

_PREVIEW_ROWS: Final = 5
# As many as fit a screen beside the list of partitions.
_PREVIEW_COLUMNS: Final = (
    "station_id",
    "name",
    "record_type",
    "bikes",
    "spaces",
    "total_docks",
    "battery_level",
    "quality_flags",
    "file_timestamp",
)
# Names come from a public feed: no tags, cells, links or images. Entities, since a name may end in a backslash itself.
_ENTITIES: Final = {ord(character): f"&#{ord(character)};" for character in "&<|[]`\\"}


def table_schema(columns: Iterable[Column]) -> TableSchema:
    """Return Dagster's form of some columns: descriptions with units, bounds as constraints."""
    return TableSchema(
        columns=[
            TableColumn(
                c.name,
                str(c.type),
                f"{c.description} ({c.unit})" if c.unit else c.description,
                TableColumnConstraints(nullable=c.nullable, other=_bounds(c)),
                tags={"classification": c.classification},
            )
            for c in columns
        ]
    )


def _bounds(column: Column) -> list[str]:
    of = "length " if pa.types.is_string(column.type) else ""
    return [
        *([f"{of}>= {column.minimum}"] if column.minimum is not None else []),
        *([f"{of}<= {column.maximum}"] if column.maximum is not None else []),
        *([f"one of {', '.join(column.allowed)}"] if column.allowed else []),
    ]


def flag_counts(rows: pa.Table) -> dict[str, int]:
    """Count rows by quality flag, most frequent first, then by name; nothing for rows without flags."""
    if "quality_flags" not in rows.column_names:
        return {}
    flags = rows.column("quality_flags").combine_chunks().flatten()
    counts = {entry["values"]: entry["counts"] for entry in flags.value_counts().to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; cells cannot break out of it."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    return "\n".join([line(head), line("---" for _ in head), *(line(row) for row in rows)])


def _cell(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    # Splitting at every kind of blank leaves none that could end the line.
    return " ".join(text.translate(_ENTITIES).split())


def preview(rows: pa.Table) -> str:
    """Return the first rows as Markdown; times are UTC."""
    columns = [name for name in _PREVIEW_COLUMNS if name in rows.column_names]
    head = rows.slice(0, _PREVIEW_ROWS).select(columns).to_pylist()
    return markdown_table(columns, ([row[name] for name in columns] for row in head))


def record_type_counts(rows: pa.Table) -> dict[str, int]:
    """Count rows by record type."""
    if "record_type" in rows.column_names:
        types = rows.column("record_type")
    else:
        types = record_types(rows.column("station_id").combine_chunks(), rows.column("name").combine_chunks())
    found = Counter({entry["values"]: entry["counts"] for entry in types.value_counts().to_pylist()})
    return {kind: found[kind] for kind in ("station", "bike", "unknown")}


def null_percentage(rows: pa.Table) -> dict[str, float]:
    """Return how many of 100 values of each column are null; nothing for a table without rows."""
    if not rows.num_rows:
        return {}
    return {name: round(100 * rows.column(name).null_count / rows.num_rows, 3) for name in rows.column_names}


def day_metadata(
    lake: Lake, built: BuiltDay, contract: Contract, *, seconds: float, traffic: Traffic
) -> Mapping[str, Any]:
    """Return the metadata of a built day; `seconds` is wall-clock time, `traffic` what this build alone sent."""
    manifest = built.manifest
    set_aside = [source for source in manifest.sources if source.fault is not None]
    counts = record_type_counts(built.rows)
    return {
        "dagster/uri": lake.store.uri(built.info.key),
        "dagster/partition_row_count": built.rows.num_rows,
        "dagster/column_schema": table_schema(contract.columns),
        **{f"rows_{kind}": count for kind, count in counts.items()},
        "rows_in": manifest.total("rows"),
        "rows_kept": manifest.total("kept"),
        "rows_dead": manifest.total("dead"),
        "rows_duplicate": manifest.total("duplicates"),
        "files_set_aside": len(set_aside),
        "inputs": len(manifest.sources),
        "inputs_read": built.read,
        "newest_input": manifest.sources[-1].key,
        "build": built.build.value,
        "bytes": built.info.size,
        "etag": built.info.etag,
        "code_version": manifest.code_version,
        "contract": contract.stamp,
        **{f"flag_{name}": count for name, count in flag_counts(built.rows).items()},
        "dead_letters_written": len(built.letters),
        "null_percentage": MetadataValue.json(null_percentage(built.rows)),
        "seconds": round(seconds, 3),
        "s3_requests": sum(traffic.requests.values()),
        "s3_bytes_received": traffic.bytes_received,
        "s3_bytes_sent": traffic.bytes_sent,
        "s3_retries": traffic.retries,
        "preview": MetadataValue.md(preview(built.rows)),
    }

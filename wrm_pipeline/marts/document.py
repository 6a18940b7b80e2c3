"""The published tables as a document for people, and what each is made from."""

from collections.abc import Iterable, Mapping
from typing import Final

from wrm_pipeline.contracts.document import cell, code, prose, table
from wrm_pipeline.contracts.vocabulary import ENHANCED
from wrm_pipeline.marts.catalogue import DAILY, Column, Grain, Mart

COMMAND: Final = "wrm marts --markdown > docs/marts.md"
GRAINS: Final[Mapping[Grain, str]] = {
    Grain.DAY: "one file a UTC day",
    Grain.LOCAL_DAY: "one file a date of Europe/Warsaw",
    Grain.TABLE: "one file",
}
_FOLDERS: Final[Mapping[Grain, str]] = {
    Grain.DAY: "marts/{name}/dt=YYYY-MM-DD/{name}.parquet",
    Grain.LOCAL_DAY: "marts/{name}/date=YYYY-MM-DD/{name}.parquet",
    Grain.TABLE: "marts/{name}/{name}.parquet",
}
_PREFACE: Final = """\
What the marts hold and how each number is made. They are tables of the DuckDB file (`WRM_DUCKDB_PATH`, `wrm sql`) and
Parquet under `marts/` in the lake. A column of type `TIMESTAMP WITH TIME ZONE` is UTC; `local_…` columns are the clock
of Europe/Warsaw. In the DuckDB file, a table of one file a UTC day has that day in `dt` as well.

The DuckDB file also has the views that users of older deployments query: `wrm_stations_enhanced_data`,
`wrm_stations_only` and `wrm_bikes_only` read enhanced in the lake (docs/data.md says what it holds) and need the
settings of S3; `wrm_stations_latest` is `mv_station_latest`.

A station's row weighs as long as it is the newest that is known: up to the station's next row, at most two polling
intervals. What is beyond is unobserved and in no mean, share or count of minutes; `minutes_observed` says how much is
left. Inflow and outflow are what changed between two snapshots, so they are lower bounds: a bike that came and went
between them is in neither."""


def sources(marts: Mapping[str, Mart], name: str) -> tuple[str, ...]:
    """Return what a table is made from as people see it: published tables and enhanced, through what is internal."""
    mart = marts[name]
    found = {ENHANCED} if mart.grain in DAILY else set()
    for need in mart.needs:
        found.update([need] if marts[need].published else sources(marts, need))
    return tuple(sorted(found)) or (ENHANCED,)


def allowed_values(column: Column) -> str:
    """Return the values that a column may have, in Markdown; empty when all of its type are allowed."""
    if column.references is not None:
        return f"one of `{column.references}`"
    if column.allowed:
        return ", ".join(f"`{value}`" for value in column.allowed)
    low, high = (None if bound is None else f"{bound:.15g}" for bound in (column.minimum, column.maximum))
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return f"at most {high}" if high is not None else ""


def markdown(marts: Mapping[str, Mart]) -> str:
    """Return GitHub-flavoured Markdown, a section a published table; the same tables give the same text."""
    shown = sorted((mart for mart in marts.values() if mart.published), key=lambda mart: mart.name)
    blocks = [
        f"<!-- Made from wrm_pipeline/marts/specs/ with: {COMMAND} -->",
        "# Marts",
        _PREFACE,
        "\n".join(f"- [{prose(mart.name)}](#{mart.name}): {prose(mart.title['en'])}" for mart in shown),
        *(block for mart in shown for block in _section(marts, mart)),
    ]
    return "\n\n".join(blocks) + "\n"


def _section(marts: Mapping[str, Mart], mart: Mart) -> Iterable[str]:
    yield f"## {prose(mart.name)}"
    yield prose(f"{mart.title['en']}. {mart.description['en']}")
    yield table(
        ("Files", "Where", "Key", "Made from"),
        [
            (
                GRAINS[mart.grain],
                code(_FOLDERS[mart.grain].format(name=mart.name)),
                cell(", ".join(f"`{name}`" for name in mart.key)),
                cell(", ".join(f"`{name}`" for name in sources(marts, mart.name))),
            )
        ],
    )
    if mart.parameters:
        yield table(
            ("Parameter", "Value"), [(code(name), f"{value:.15g}") for name, value in sorted(mart.parameters.items())]
        )
    yield table(
        ("Column", "Type", "Null?", "Unit", "Values", "Meaning"),
        [
            (
                code(column.name),
                code(column.type),
                "no" if column.required else "yes",
                cell(column.unit or ""),
                cell(allowed_values(column)),
                cell(column.en),
            )
            for column in mart.columns
        ],
    )

"""The marts as assets: what the graph says of them, and what a run over days of the lake reports."""

import base64
import datetime as dt
import io
import re
from collections.abc import Iterable
from typing import Any

import dagster as dg
import duckdb
import pytest
from PIL import Image

from wrm_pipeline.assets.common import freshness
from wrm_pipeline.assets.mart_charts import CHARTS, chart, with_gaps
from wrm_pipeline.assets.marts import DUCKDB_ASSET, PAGES, wrm_stations_marts
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.marts import MARTS_CODE_VERSION
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.marts.catalogue import Grain, Mart, published
from wrm_pipeline.marts.database import open_database
from wrm_pipeline.marts.document import sources
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.resources.vault import VaultResource
from wrm_pipeline.settings import load_settings
from wrm_pipeline_tests.fixtures.dagster import DAY, QUIET, Pipeline, at, failure_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, bike_row, payload, row

NEXT_DAY = DAY + dt.timedelta(days=1)
ENHANCED = "wrm_stations_enhanced_data_all"
NAMES = [mart.name for mart in published()]
SCRIPT, LINK, CELL = "<script>alert(1)</script>", "![x](https://evil.example/x.png)", "a | b"


def a_day(pipeline: Pipeline, day: dt.date, *more: bytes) -> None:
    """Put two snapshots of a day into the lake, processed and enhanced: a station runs empty, and a bike moves."""
    for minute, bikes, lat in ((0, "6", "51.1"), (5, "0", "51.105")):
        good = [
            row("15001", name=SCRIPT, bikes=bikes),
            row("15002", name=LINK),
            row("15003", name=f'"{CELL}"'),
            bike_row(lat=lat),
        ]
        put_raw(pipeline.lake, at(8, minute, day=day), payload(*good, *more, end=b"\n"))
    build_enhanced_day(pipeline.lake, FORMAT, CONTRACTS.enhanced, day, Provenance("r", "a"))


def run_marts(pipeline: Pipeline) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [wrm_stations_marts],
        instance=pipeline.instance,
        resources={"object_store": ObjectStoreResource(), "metrics": MetricsResource(), "vault": VaultResource()},
        run_config=QUIET,
        raise_on_error=False,
    )


def reported(run: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """The metadata of each asset that a run materialized."""
    return {
        event.materialization.asset_key.to_user_string(): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in run.get_asset_materialization_events()
    }


def versions(run: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        event.materialization.asset_key.to_user_string(): (event.materialization.tags or {})["dagster/data_version"]
        for event in run.get_asset_materialization_events()
    }


# What they are


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in wrm_stations_marts.specs}


def deps(name: str) -> set[str]:
    return {dep.asset_key.to_user_string() for dep in specs()[name].deps}


def test_there_is_one_asset_for_each_published_table_and_one_for_the_duckdb_file() -> None:
    assert list(specs()) == [*NAMES, DUCKDB_ASSET]
    assert {spec.group_name for spec in specs().values()} == {"marts"}
    assert {spec.code_version for spec in specs().values()} == {MARTS_CODE_VERSION}
    assert {tuple(sorted(spec.kinds)) for name, spec in specs().items() if name in NAMES} == {
        ("duckdb", "parquet", "s3")
    }
    assert specs()[DUCKDB_ASSET].kinds == {"duckdb"}


def test_owner_and_freshness_are_those_of_the_rows_they_are_made_from() -> None:
    for spec in specs().values():
        assert spec.owners == [CONTRACTS.enhanced.owner]
        assert spec.freshness_policy == freshness(CONTRACTS.enhanced)


def test_one_step_makes_them_all() -> None:
    assert not wrm_stations_marts.can_subset


def test_a_table_depends_on_what_people_see_of_what_it_is_made_from() -> None:
    assert deps("fct_station_hour") == {ENHANCED}
    assert deps("mart_station_reliability") >= {"fct_station_hour"}
    assert deps("dim_station") == {ENHANCED}
    assert deps("mv_daily_aggregates") >= {"fct_station_hour", "fct_station_outage"}
    assert deps(DUCKDB_ASSET) == set(NAMES)
    assert set().union(*(deps(name) for name in NAMES)) <= {ENHANCED, *NAMES}
    assert all(deps(name) for name in NAMES)


def a_mart(name: str, grain: Grain, *needs: str, published: bool = True) -> tuple[str, Mart]:
    words = {"en": name, "pl": name}
    return name, Mart(name, grain, published, needs, (), words, words, {}, (), None, None, "SELECT 1")


def test_lineage_goes_through_internal_tables_to_the_next_published_one_or_to_enhanced() -> None:
    marts = dict(
        [
            a_mart("staging", Grain.STAGING, published=False),
            a_mart("state", Grain.STATE, "staging", published=False),
            a_mart("day", Grain.DAY, "staging"),
            a_mart("hidden", Grain.TABLE, "day", published=False),
            a_mart("whole", Grain.TABLE, "hidden"),
            a_mart("newest", Grain.TABLE, "state", "day"),
            a_mart("alone", Grain.TABLE),
        ]
    )

    assert {name: sources(marts, name) for name in ("day", "whole", "newest", "alone")} == {
        "day": (ENHANCED,),
        "whole": ("day",),
        "newest": ("day", ENHANCED),
        "alone": (ENHANCED,),
    }


def test_each_says_what_it_means_what_its_columns_mean_and_how_it_is_computed() -> None:
    for mart in published():
        spec = specs()[mart.name]
        assert mart.description["en"] in (spec.description or "")
        schema = spec.metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == [column.name for column in mart.columns]
        assert [column.constraints.nullable for column in schema.columns] == [not c.required for c in mart.columns]
        assert mart.sql.strip() in spec.metadata["definition"].value
    hour = {column.name: column for column in specs()["fct_station_hour"].metadata["dagster/column_schema"].columns}
    assert "UTC" in (hour["hour_start"].description or "")
    assert "(bikes)" in (hour["bikes_mean"].description or "")
    assert hour["hour_start"].type == "TIMESTAMP WITH TIME ZONE"
    kind = {column.name: column for column in specs()["fct_station_outage"].metadata["dagster/column_schema"].columns}
    assert kind["kind"].constraints.other == ["empty, full"]


def test_each_table_has_a_page_of_the_site_and_a_chart() -> None:
    assert set(PAGES) == set(NAMES)
    assert set(CHARTS) == set(NAMES)


# A run


def test_a_run_reports_each_table_with_rows_version_preview_and_chart(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT_DAY):
        a_day(pipeline, day)

    run = run_marts(pipeline)

    assert run.success
    found = reported(run)
    assert list(found) == [*NAMES, DUCKDB_ASSET]
    with open_database(load_settings().wrm_duckdb_path) as database:
        counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in NAMES}  # noqa: S608
    assert {name: found[name]["dagster/row_count"] for name in NAMES} == counts
    assert counts["fct_station_hour"] == 2 * 3
    assert all(counts.values())
    root = pipeline.lake.store.uri(pipeline.lake.keys.prefix)
    assert {name: found[name]["dagster/uri"] for name in NAMES} == {name: f"{root}marts/{name}/" for name in NAMES}
    assert {found[name]["days_computed"] for name in NAMES} == {2}
    assert found["fct_station_hour"]["objects_written"] == 2
    assert found["dim_station"]["objects_written"] == 1
    assert found[DUCKDB_ASSET]["days"] == f"{DAY}, {NEXT_DAY}"
    assert found[DUCKDB_ASSET]["refused"] == "None."
    assert found[DUCKDB_ASSET]["tables"] == len(NAMES)
    assert "page" not in found["dim_station"]
    for name in set(NAMES) - {"mart_forecast_baseline"}:  # which has no tests on so short a history
        assert_is_small_image(found[name]["chart"])
    log = pipeline.messages(run)
    assert f"0 of 2 days (0 %), {DAY}" in log
    assert f"1 of 2 days (50 %), {NEXT_DAY}" in log

    # Nothing changed: nothing is computed, and the tables are the same by their versions.
    again = run_marts(pipeline)
    assert versions(again) == versions(run)
    assert {metadata["days_computed"] for metadata in reported(again).values()} == {0}
    assert reported(again)[DUCKDB_ASSET]["days"] == "All days are as they were."
    assert reported(again)["fct_station_hour"]["preview"] == found["fct_station_hour"]["preview"]

    assert_previews_are_harmless(found)
    days = re.findall(r"\| (\d{4}-\d\d-\d\d) 08:00:00\+00:00 \|", found["fct_station_hour"]["preview"])
    assert days == [str(NEXT_DAY)] * 3 + [str(DAY)] * 3, "the newest rows come first"


def assert_is_small_image(markdown: str) -> None:
    found = re.fullmatch(r"!\[[^\]]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found is not None
    assert len(markdown) < 30_000
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        assert image.format == "PNG"
        assert image.size == (420, 160)
        # Its own light ground, on whatever page it stands.
        assert image.convert("RGB").getpixel((419, 159)) == (255, 255, 255)


def assert_previews_are_harmless(found: dict[str, dict[str, Any]]) -> None:
    """Names of the feed stand in the cells of a table, and do nothing."""
    preview = found["mv_station_latest"]["preview"]
    lines = preview.splitlines()
    assert "alert(1)" in preview
    assert "evil.example" in preview
    assert not re.search(r"<script|!\[", preview)
    widths = {line.count(" | ") for line in lines if line.startswith("|")}
    assert widths == {11}, "a name has broken out of its cell"
    assert sum(line.startswith("| 15") for line in lines) == 3
    assert lines[-1].endswith("more columns.")


def test_a_public_address_makes_a_link_to_the_table_s_page(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_PUBLIC_URL", "https://bikes.example.org/lake")
    a_day(pipeline, DAY)

    found = reported(run_marts(pipeline))

    assert found["fct_bike_move"]["page"] == "https://bikes.example.org/lake/site/en/fleet.html"
    assert found["mart_station_reliability"]["page"].endswith("/site/en/reliability.html")


def test_a_day_that_its_checks_block_is_a_warning_and_keeps_no_other_out(pipeline: Pipeline) -> None:
    a_day(pipeline, DAY)
    a_day(pipeline, NEXT_DAY, *(row(str(20000 + n), bikes="x") for n in range(8)))

    run = run_marts(pipeline)

    assert run.success
    found = reported(run)
    assert {metadata["days_refused"] for metadata in found.values()} == {1}
    assert found["fct_station_hour"]["dagster/row_count"] == 3
    assert "dead_letter_ratio" in found[DUCKDB_ASSET]["refused"].replace("&#95;", "_")
    assert str(NEXT_DAY) in found[DUCKDB_ASSET]["refused"]
    (warning,) = [said for said in pipeline.messages(run) if "is in no table" in said]
    assert warning.startswith(f"{NEXT_DAY} is in no table: ")


def test_an_empty_lake_makes_empty_tables_that_say_so(pipeline: Pipeline) -> None:
    run = run_marts(pipeline)

    assert run.success
    found = reported(run)
    assert found["fct_station_hour"]["preview"] == "There are no rows."
    assert "chart" not in found["fct_station_hour"]
    assert found["fct_station_hour"]["dagster/row_count"] == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("S3_ENDPOINT_URL", "http://127.0.0.1:9", "S3_ENDPOINT_URL"),  # discard: nobody listens
        ("WRM_PSEUDONYM_KEY", "", "WRM_PSEUDONYM_KEY not set"),
    ],
)
def test_what_is_missing_is_a_failure_with_one_sentence(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("WRM_S3_RETRY_BUDGET_S", "0.5")

    run = run_marts(pipeline)

    assert not run.success
    assert said in failure_of(run)


# Charts


def drawn(query: str, rows: Iterable[str], table: str) -> str | None:
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(f"CREATE TABLE {table} AS {query} {' UNION ALL '.join(rows)}")
        return chart(database, table)


def test_a_table_of_which_nothing_is_known_and_one_without_rows_have_no_chart() -> None:
    assert drawn("SELECT 1 AS a", (), "something") is None
    assert (
        drawn("SELECT DATE '2025-05-12' AS utc_date, 0.5 AS coverage WHERE false", (), "mart_data_quality_day") is None
    )


def test_the_same_rows_give_the_same_chart_and_other_rows_another() -> None:
    query = "SELECT DATE '2025-05-12' + n::INTEGER AS utc_date, {} AS coverage FROM range(9) AS r(n)"

    first, again, other = (
        drawn(query.format(value), (), "mart_data_quality_day") for value in ("0.5", "0.5", "n / 9.0")
    )

    assert first is not None
    assert first == again != other


def test_one_row_and_values_that_are_not_known_can_be_drawn() -> None:
    hour = (
        "SELECT TIMESTAMPTZ '2025-05-12 08:00:00+00' AS hour_start, 5.0 AS bikes_at_stations, {} AS bikes_free_in_zone"
    )

    for value in ("NULL", "3.0"):
        found = drawn(hour.format(value), (), "mart_system_hour")
        assert found is not None
        assert_is_small_image(found)


def test_a_line_is_broken_where_hours_are_missing() -> None:
    """What was not observed is not known; a line across it would say otherwise."""
    rows = [(at(hour), 5.0) for hour in (8, 9, 13)]

    assert with_gaps(rows) == [*rows[:2], (at(12), None), rows[2]]
    assert with_gaps(rows[:2]) == rows[:2]
    assert with_gaps([(15, 0.5), (30, 0.8), (60, 1.2)]) == [(15, 0.5), (30, 0.8), (60, 1.2)], "no time, no gap"

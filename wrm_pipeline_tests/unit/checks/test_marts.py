"""The checks of the marts: which there are, what each finds in a table, and how they run with the marts and alone."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import duckdb
import pytest

from wrm_pipeline.assets.marts import wrm_stations_marts
from wrm_pipeline.checks.marts import Finding, Kind, _result, build_mart_checks, judge, kinds_of
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.marts.catalogue import Column, Grain, Mart, published
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.resources.vault import VaultResource
from wrm_pipeline.settings import load_settings
from wrm_pipeline_tests.fixtures.dagster import DAY, QUIET, Pipeline, at, failure_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, bike_row, payload, row

CHECKS = build_mart_checks(published())
WORDS = {"en": "x", "pl": "x"}


def column(name: str, kind: str = "VARCHAR", **other: Any) -> Column:
    return Column.model_validate({"name": name, "type": kind, "en": "x", "pl": "x", **other})


def mart(*columns: Column, key: tuple[str, ...] = (), recency: tuple[str, float] | None = None) -> Mart:
    newest, hours = recency or (None, None)
    return Mart("fact", Grain.TABLE, True, (), key, WORDS, WORDS, {}, columns, newest, hours, "")


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE marts_built AS SELECT TIMESTAMPTZ '2025-05-12 18:20:00+00' AS newest_snapshot_at"
        )
        yield connection


def found(database: duckdb.DuckDBPyConnection, table: Mart, kind: Kind, rows: str) -> Finding:
    """Judge rows, given as VALUES."""
    columns = ", ".join(f"{name} {kind}" for name, kind in table.types.items())
    database.execute(f"CREATE OR REPLACE TABLE fact ({columns})")
    if rows:
        database.execute(f"INSERT INTO fact VALUES {rows}")  # noqa: S608 - the test's own rows
    (finding,) = judge(database, table, [kind])
    return finding


# What each finds


def test_not_null_counts_rows_without_a_required_value_and_shows_them_by_their_key(
    database: duckdb.DuckDBPyConnection,
) -> None:
    table = mart(column("id"), column("bikes", "INTEGER"), column("name", required=False), key=("id",))

    passes = found(database, table, Kind.NOT_NULL, "('a', 1, NULL)")
    fails = found(
        database, table, Kind.NOT_NULL, "('b', NULL, NULL), (NULL, NULL, 'x'), ('a', NULL, 'y'), ('c', 1, 'z')"
    )

    assert (passes.passed, passes.rows, passes.summary) == (True, 1, "All 1 rows pass.")
    assert (fails.failing, fails.rows) == (3, 4)
    assert fails.summary == "In 3 of 4 rows a column has no value: id (1), bikes (3)."
    assert [row["id"] for row in fails.examples] == ["a", "b", None]


def test_unique_key_finds_rows_of_one_key_also_when_a_part_of_it_is_null(database: duckdb.DuckDBPyConnection) -> None:
    table = mart(column("id"), column("hour", "INTEGER", required=False), key=("id", "hour"))

    passes = found(database, table, Kind.UNIQUE_KEY, "('a', 1), ('a', 2), ('b', 1), ('a', NULL)")
    fails = found(database, table, Kind.UNIQUE_KEY, "('b', 1), ('a', 1), ('b', 1), ('b', 1), ('c', NULL), ('c', NULL)")

    assert passes.passed
    assert (fails.failing, fails.rows) == (5, 6)
    assert fails.summary == "2 keys have more than one row each, 5 of 6 rows in all."
    assert fails.examples == ({"id": "b", "hour": 1, "rows": 3}, {"id": "c", "hour": None, "rows": 2})


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        ({"min": 0}, "0.0", "-0.1"),
        ({"min": 0}, "NULL", "'NaN'"),
        ({"max": 1}, "1.0", "1.1"),
        ({"max": 1}, "'-inf'", "'inf'"),
        ({"min": 0, "max": 1}, "0.5", "'NaN'"),
        ({"min": -90, "max": 90}, "-90.0", "-90.5"),
    ],
)
def test_accepted_range_takes_bounds_as_inclusive_and_null_as_no_value(
    database: duckdb.DuckDBPyConnection, limits: Mapping[str, float], good: str, bad: str
) -> None:
    table = mart(column("id"), column("share", "DOUBLE", required=False, **limits), key=("id",))

    assert found(database, table, Kind.ACCEPTED_RANGE, f"('a', {good})").passed
    fails = found(database, table, Kind.ACCEPTED_RANGE, f"('a', {good}), ('b', {bad})")

    assert (fails.failing, fails.summary) == (1, "In 1 of 2 rows a column is not what it may be: share (1).")
    assert [row["id"] for row in fails.examples] == ["b"]


def test_accepted_range_knows_the_values_that_are_allowed(database: duckdb.DuckDBPyConnection) -> None:
    table = mart(column("kind", allowed=["it's", "full"]), column("minutes", "INTEGER", allowed=[15, 30]))

    assert found(database, table, Kind.ACCEPTED_RANGE, "('it''s', 15), ('full', 30)").passed
    fails = found(database, table, Kind.ACCEPTED_RANGE, "('full', 15), ('half', 16), ('half', 30)")

    assert (fails.failing, fails.summary) == (
        2,
        "In 2 of 3 rows a column is not what it may be: kind (2), minutes (1).",
    )


def test_relationships_find_values_that_the_other_table_does_not_have(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("CREATE TABLE dim AS SELECT * FROM (VALUES ('a'), (NULL)) AS rows(key)")
    table = mart(column("id", "INTEGER"), column("key", required=False, references="dim.key"), key=("id",))

    passes = found(database, table, Kind.RELATIONSHIPS, "(1, 'a'), (2, NULL)")
    fails = found(database, table, Kind.RELATIONSHIPS, "(1, 'a'), (3, 'c'), (2, 'b')")

    assert passes.passed
    assert (fails.failing, fails.summary) == (2, "Of 3 rows, 2 of key are not in dim.key.")
    assert fails.examples == ({"id": 2, "key": "b"}, {"id": 3, "key": "c"})


def test_at_most_ten_failing_rows_are_shown(database: duckdb.DuckDBPyConnection) -> None:
    table = mart(column("id", "INTEGER", min=100), key=("id",))

    fails = found(database, table, Kind.ACCEPTED_RANGE, ", ".join(f"({n})" for n in reversed(range(30))))

    assert fails.failing == 30
    assert [row["id"] for row in fails.examples] == list(range(10))


@pytest.mark.parametrize(
    ("newest", "passes", "hours"),
    [
        ("'2025-05-12 18:00:00+00'", True, "0.3 h"),
        ("'2025-05-12 16:20:00+00'", True, "2.0 h"),
        ("'2025-05-12 16:19:00+00'", False, "2.0 h"),
        ("'2025-05-10 18:20:00+00'", False, "48.0 h"),
    ],
)
def test_recency_holds_the_newest_row_against_the_newest_snapshot(
    database: duckdb.DuckDBPyConnection, newest: str, passes: bool, hours: str
) -> None:
    table = mart(column("hour", "TIMESTAMP WITH TIME ZONE"), recency=("hour", 2))

    finding = found(database, table, Kind.RECENCY, f"('2025-05-01 00:00:00+00'), ({newest})")

    assert finding.passed is passes
    assert f"is {hours} before the newest snapshot (2025-05-12 18:20:00 UTC); 2 h are allowed." in finding.summary


@pytest.mark.parametrize(("newest", "passes"), [("2025-05-13", True), ("2025-05-12", True), ("2025-05-11", False)])
def test_a_date_is_as_new_as_its_end(database: duckdb.DuckDBPyConnection, newest: str, passes: bool) -> None:
    table = mart(column("date", "DATE"), recency=("date", 2))

    finding = found(database, table, Kind.RECENCY, f"('{newest}')")

    assert finding.passed is passes
    assert "is -" not in finding.summary, "a day that is not over yet is no newer than the newest snapshot"


def test_without_rows_only_recency_fails_and_only_when_there_is_a_snapshot(
    database: duckdb.DuckDBPyConnection,
) -> None:
    database.execute("CREATE TABLE dim (key VARCHAR)")
    table = mart(
        column("day", "DATE"), column("key", references="dim.key", allowed=["a"]), key=("day",), recency=("day", 2)
    )

    assert [kind for kind in kinds_of(table) if not found(database, table, kind, "").passed] == [Kind.RECENCY]
    assert "There are no rows" in found(database, table, Kind.RECENCY, "").summary
    database.execute("UPDATE marts_built SET newest_snapshot_at = NULL")
    assert found(database, table, Kind.RECENCY, "").passed


def test_many_kinds_are_judged_together_each_for_itself(database: duckdb.DuckDBPyConnection) -> None:
    table = mart(column("id"), column("bikes", "INTEGER", min=0), key=("id",))
    found(database, table, Kind.NOT_NULL, "('a', -1), ('a', 2), (NULL, 3)")

    findings = judge(database, table, kinds_of(table))

    assert {finding.kind: finding.failing for finding in findings} == {
        Kind.NOT_NULL: 1,
        Kind.UNIQUE_KEY: 2,
        Kind.ACCEPTED_RANGE: 1,
    }


# Which there are


def test_a_spec_has_the_checks_it_has_rules_for_and_no_other() -> None:
    bare = mart(column("id", required=False))
    full = mart(
        column("day", "DATE"),
        column("n", "INTEGER", max=3),
        column("key", references="d.k"),
        key=("day",),
        recency=("day", 1),
    )

    assert kinds_of(bare) == []
    assert kinds_of(full) == list(Kind)


def test_each_published_table_is_checked_and_the_checks_say_what_for() -> None:
    specs = {(spec.asset_key.to_user_string(), spec.name): spec for spec in CHECKS.check_specs}

    assert list(specs) == [(table.name, kind) for table in published() for kind in kinds_of(table)]
    for table in published():
        assert {Kind.NOT_NULL, Kind.UNIQUE_KEY} <= set(kinds_of(table)) or not table.key
    assert specs["fct_station_hour", "unique_key"].description == "No two rows have the same station_id, hour_start."
    assert "kind empty, full" in (specs["fct_station_outage", "accepted_range"].description or "")
    assert "station_key in dim_station.station_key" in (specs["fct_station_hour", "relationships"].description or "")
    assert not any(spec.blocking for spec in specs.values())


# At work


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[wrm_stations_marts],
        asset_checks=[CHECKS],
        jobs=[
            dg.define_asset_job("marts", dg.AssetSelection.groups("marts"), executor_def=dg.in_process_executor),
            dg.define_asset_job(
                "one_check",
                dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("fct_station_hour"), "unique_key")),
                executor_def=dg.in_process_executor,
            ),
        ],
        resources={"object_store": ObjectStoreResource(), "metrics": MetricsResource(), "vault": VaultResource()},
    )


def run(pipeline: Pipeline, job: str) -> dg.ExecuteInProcessResult:
    definition = definitions().resolve_job_def(job)
    return definition.execute_in_process(run_config=QUIET, instance=pipeline.instance, raise_on_error=False)


def evaluations(done: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {(x.asset_key.to_user_string(), x.check_name): x for x in done.get_asset_check_evaluations()}


def test_they_run_with_the_marts_and_one_of_them_alone_and_show_what_fails(pipeline: Pipeline) -> None:
    for minute, bikes in ((0, "6"), (5, "0")):
        rows = [row("15001", bikes=bikes), row("15002"), bike_row()]
        put_raw(pipeline.lake, at(8, minute), payload(*rows, end=b"\n"))
    build_enhanced_day(pipeline.lake, FORMAT, CONTRACTS.enhanced, DAY, Provenance("r", "a"))

    with_marts = run(pipeline, "marts")

    assert with_marts.success
    judged = evaluations(with_marts)
    assert set(judged) == {(spec.asset_key.to_user_string(), spec.name) for spec in CHECKS.check_specs}
    assert {key: check.description for key, check in judged.items() if not check.passed} == {}
    hour = judged["fct_station_hour", "unique_key"]
    assert {name: value.value for name, value in hour.metadata.items()} == {"rows": 2, "failing_rows": 0}

    with duckdb.connect(str(load_settings().wrm_duckdb_path)) as database:
        database.execute("INSERT INTO fct_station_hour FROM fct_station_hour WHERE station_id = '15001'")
    alone = run(pipeline, "one_check")

    ((key, check),) = evaluations(alone).items()
    assert key == ("fct_station_hour", "unique_key")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.metadata["failing_rows"].value == 2
    table = check.metadata["failing"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data["station_id"] for record in table.records] == ["15001"]


def test_old_rows_are_a_warning() -> None:
    finding = Finding(Kind.RECENCY, 1, 5, "The newest hour is old.")

    assert _result(dg.AssetKey("fact"), finding).severity is dg.AssetCheckSeverity.WARN


def test_without_a_duckdb_file_the_failure_says_how_to_get_one(pipeline: Pipeline) -> None:
    done = run(pipeline, "one_check")

    assert not done.success
    assert "There is no DuckDB file" in failure_of(done)

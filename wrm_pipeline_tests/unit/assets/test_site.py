"""The site as an asset: what it stores and reports, and that it comes after the marts."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest

from wrm_pipeline.assets.site import wrm_station_site
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline_tests.fixtures.dagster import QUIET, Pipeline, contents, failure_of
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy
from wrm_pipeline_tests.fixtures.site import NEWEST, sample_database


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_database(tmp_path_factory.mktemp("sample") / "wrm.duckdb", stations=3, days=2)


def run(pipeline: Pipeline) -> dg.ExecuteInProcessResult:
    job = dg.Definitions(
        assets=[wrm_station_site],
        jobs=[dg.define_asset_job("site_alone", [wrm_station_site], executor_def=dg.in_process_executor)],
        resources={"object_store": ObjectStoreResource(), "metrics": MetricsResource()},
    ).resolve_job_def("site_alone")
    return job.execute_in_process(run_config=QUIET, instance=pipeline.instance, raise_on_error=False)


def test_it_depends_on_every_published_table_and_the_database() -> None:
    expected = {dg.AssetKey(mart.name) for mart in published()} | {dg.AssetKey("wrm_stations_duckdb")}

    assert {dep.asset_key for dep in next(iter(wrm_station_site.specs)).deps} == expected


def test_a_run_stores_the_site_and_says_where_it_is(
    pipeline: Pipeline, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRM_DUCKDB_PATH", str(database))
    monkeypatch.setenv("WRM_PUBLIC_URL", "https://bikes.example.org/lake/")

    result = run(pipeline)

    assert result.success
    site = contents(pipeline.lake, "site/")
    metadata = pipeline.materializations(result, "wrm_station_site")[None]
    assert metadata["site"] == "https://bikes.example.org/lake/site/index.html"
    assert metadata["objects"] == metadata["objects_written"] == len(site)
    assert metadata["pages"] == sum(path.endswith(".html") for path in site)
    assert metadata["files_written"] == len(site)
    assert (Path(metadata["folder"]) / "index.html").exists()
    assert metadata["newest_snapshot"] == NEWEST.timestamp()
    assert metadata["data_age_s"] > dt.timedelta(days=1).total_seconds()
    assert metadata["picture"].startswith("![")
    assert metadata["problem"] == "None."


def test_a_second_run_writes_nothing_and_has_the_same_version(
    pipeline: Pipeline, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRM_DUCKDB_PATH", str(database))
    first, second = run(pipeline), run(pipeline)

    metadata = pipeline.materializations(second, "wrm_station_site")[None]
    assert (metadata["objects_written"], metadata["objects_unchanged"]) == (0, metadata["objects"])
    assert "site" not in metadata
    versions = {
        event.asset_materialization.tags["dagster/data_version"]
        for result in (first, second)
        for entry in pipeline.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if (event := entry).asset_materialization is not None and event.asset_materialization.tags is not None
    }
    assert len(versions) == 1


def test_without_marts_the_first_run_makes_pages_that_say_so(pipeline: Pipeline) -> None:
    result = run(pipeline)

    assert result.success
    metadata = pipeline.materializations(result, "wrm_station_site")[None]
    assert "There is no DuckDB file" in metadata["problem"]
    assert "newest_snapshot" not in metadata
    assert "site/en/now.html" in contents(pipeline.lake)
    assert any("made without data" in message for message in pipeline.messages(result))


def test_a_store_that_refuses_is_a_sentence(
    pipeline: Pipeline, proxy: FaultProxy, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRM_DUCKDB_PATH", str(database))
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    proxy.add(Answer(403), method="PUT", times=None)

    result = run(pipeline)

    assert not result.success
    assert "PUT s3://" in failure_of(result)

"""The jobs: names, what they select, tags, and that a run is one process."""

import datetime as dt

import dagster as dg
import pytest

from wrm_pipeline.assets.partitions import daily_partitions
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline_tests.fixtures.dagster import DAY, DAY_ASSETS, INGEST, PROCESSING, Pipeline, at, contents, put_raw

CLEANUP = "wrm_stations_cleanup_job"


@pytest.mark.parametrize("name", [INGEST, PROCESSING, CLEANUP])
def test_every_job_explains_itself_and_runs_in_one_process(name: str) -> None:
    job = build_defs().resolve_job_def(name)

    assert job.executor_def is dg.in_process_executor
    assert len(job.description or "") > 20


def test_ingest_fetches_one_snapshot_and_such_runs_wait_for_each_other(pipeline: Pipeline) -> None:
    job = pipeline.defs.resolve_job_def(INGEST)

    assert job.partitions_def is None
    assert job.tags == {"wrm/serial": "ingest"}
    assert [step.name for step in job.all_node_defs] == ["wrm_stations_raw_data"]


def test_processing_brings_all_three_day_assets_up_to_date(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))

    run = pipeline.process(DAY)

    assert pipeline.defs.resolve_job_def(PROCESSING).partitions_def == daily_partitions
    assert run.success
    keys = [event.asset_key for event in run.get_asset_materialization_events()]
    assert keys == [dg.AssetKey(name) for name in DAY_ASSETS]


def test_any_asset_can_be_materialized_by_itself(pipeline: Pipeline) -> None:
    """Enhanced alone is enough for a day: it brings processed up to date first."""
    put_raw(pipeline.lake, at(8))
    job = dg.define_asset_job("one", selection=dg.AssetSelection.assets(DAY_ASSETS[1]))
    definitions = dg.Definitions.merge(pipeline.defs, dg.Definitions(jobs=[job]))

    run = definitions.resolve_job_def("one").execute_in_process(
        instance=pipeline.instance, partition_key=DAY.isoformat()
    )

    assert run.success
    assert set(contents(pipeline.lake)) == {
        f"raw/dt={DAY}/wrm_stations_{DAY}_08-00-00.txt",
        f"processed/all/dt={DAY}/all_processed.parquet",
        f"enhanced/all/dt={DAY}/all_enhanced.parquet",
    }


def test_cleanup_removes_what_older_deployments_left_and_says_how_much(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    assert pipeline.process(DAY).success
    older = f"{pipeline.lake.keys.layer_day(Layer.PROCESSED, DAY)}all_processed_20250512_181000.parquet"
    kept = contents(pipeline.lake)
    pipeline.lake.store.put(older, b"x", content_type="application/vnd.apache.parquet")

    run = pipeline.run(CLEANUP)

    assert run.success
    assert contents(pipeline.lake) == kept
    assert "1 objects of older deployments removed" in "\n".join(pipeline.messages(run))


def test_a_run_of_a_day_before_the_first_one_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(dg.DagsterUnknownPartitionError, match="2025-04-30"):
        pipeline.process(dt.date(2025, 4, 30))

"""The sensor that stores the lineage of runs that have ended."""

import dagster as dg
import pytest

from wrm_pipeline.automation.lineage import RUNS_PER_TICK, ended_runs, wrm_lineage_sensor
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline_tests.fixtures.dagster import DAY, QUIET, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error


def tick(pipeline: Pipeline, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(
        instance=pipeline.instance, cursor=cursor, resources={"object_store": ObjectStoreResource()}
    ) as context:
        found = wrm_lineage_sensor(context)
    assert isinstance(found, dg.SensorResult), found
    assert not found.run_requests
    return found


def said(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return result.skip_reason.skip_message or ""


def published(pipeline: Pipeline) -> set[str]:
    """The runs whose lineage lies in the lake."""
    found = pipeline.lake.store.list(f"{pipeline.lake.keys.prefix}lineage/")
    return {info.key.rpartition("/")[2].removesuffix(".json") for info in found}


def test_it_runs_by_default_and_asks_for_no_job() -> None:
    assert wrm_lineage_sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert wrm_lineage_sensor.minimum_interval_seconds == 30


def test_runs_that_succeeded_and_runs_that_failed_are_published_once(pipeline: Pipeline) -> None:
    failed = pipeline.process(DAY)
    put_raw(pipeline.lake, at(8))
    succeeded = pipeline.process(DAY)
    assert (failed.success, succeeded.success) == (False, True)

    first = tick(pipeline)

    assert published(pipeline) == {failed.run_id, succeeded.run_id}
    assert said(first) == "Stored the lineage of 2 of 2 runs that have ended."
    again = tick(pipeline, first.cursor)
    assert said(again) == "No run has ended since."
    assert again.cursor == first.cursor


def test_a_run_that_made_nothing_is_passed_by(pipeline: Pipeline) -> None:
    @dg.job
    def empty() -> None:
        pass

    empty.execute_in_process(instance=pipeline.instance, run_config=QUIET)

    found = tick(pipeline)
    assert said(found) == "Stored the lineage of 0 of 1 runs that have ended."
    assert said(tick(pipeline, found.cursor)) == "No run has ended since."


def test_what_the_store_does_not_take_is_tried_again(
    pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [pipeline.ingest()]
    first = tick(pipeline)
    runs += [pipeline.process(DAY), pipeline.process(DAY)]
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path=f"/{runs[2].run_id}")

    found = tick(pipeline, first.cursor)

    assert published(pipeline) == {run.run_id for run in runs[:2]}
    assert "Stored the lineage of 1 of 2 runs" in said(found)
    assert "AccessDenied" in said(found)
    tick(pipeline, found.cursor)
    assert published(pipeline) == {run.run_id for run in runs}


def test_a_tick_takes_so_many_runs_and_the_first_one_the_newest() -> None:
    with dg.DagsterInstance.ephemeral() as instance:

        @dg.job
        def empty() -> None:
            pass

        runs = [empty.execute_in_process(instance=instance, run_config=QUIET).run_id for _ in range(RUNS_PER_TICK + 3)]

        assert [run.run_id for run in ended_runs(instance, None)] == runs[3:]
        earliest = ended_runs(instance, "0")
        assert [run.run_id for run in earliest] == runs[:RUNS_PER_TICK]
        rest = ended_runs(instance, str(earliest[-1].storage_id))
        assert [run.run_id for run in rest] == runs[RUNS_PER_TICK:]
        assert ended_runs(instance, "nonsense") == ended_runs(instance, None)


def test_it_can_be_switched_off_and_what_ended_meanwhile_is_published_afterwards(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tick(pipeline)
    run = pipeline.ingest()
    monkeypatch.setenv("WRM_LINEAGE", "false")
    with dg.build_sensor_context(
        instance=pipeline.instance, cursor=before.cursor, resources={"object_store": ObjectStoreResource()}
    ) as context:
        skipped = wrm_lineage_sensor(context)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "WRM_LINEAGE is false."
    assert published(pipeline) == set()

    monkeypatch.delenv("WRM_LINEAGE")
    tick(pipeline, before.cursor)
    assert published(pipeline) == {run.run_id}

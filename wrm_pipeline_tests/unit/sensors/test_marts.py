"""The sensor that runs the marts after enhanced has changed, and the job it runs."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from wrm_pipeline.assets.marts import DUCKDB_ASSET
from wrm_pipeline.automation.jobs import SERIAL_TAG
from wrm_pipeline.automation.marts import Decision, decide, wrm_stations_marts_sensor
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.marts.catalogue import published

ENHANCED = "wrm_stations_enhanced_data_all"
JOB = "wrm_stations_marts_job"


# What it decides


@pytest.mark.parametrize("at_work", [0, 1])
@pytest.mark.parametrize("cursor", [None, "7"])
def test_without_a_materialization_there_is_nothing_to_run_for(cursor: str | None, at_work: int) -> None:
    assert decide(cursor, None, at_work).storage_id is None


@pytest.mark.parametrize("cursor", [None, "", "6", "nonsense", "8"])
def test_a_materialization_that_was_not_run_for_is_run_for_once(cursor: str | None) -> None:
    assert decide(cursor, 7, 0) == Decision(7)
    assert decide("7", 7, 0).storage_id is None


def test_while_a_run_is_at_work_none_is_asked_for_and_the_reason_says_why() -> None:
    waiting = decide("6", 7, 1)

    assert waiting.storage_id is None
    assert "queued or in progress" in waiting.reason
    assert "newest materialization" in decide("7", 7, 1).reason


# At work


@pytest.fixture(params=["in memory", "sqlite"])
def instance(request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """As tests have it, and as a machine without a database server has it."""
    kept = dg.DagsterInstance.ephemeral() if request.param == "in memory" else dg.DagsterInstance.local_temp()
    with kept as instance:
        yield instance


def materialize(instance: dg.DagsterInstance, day: str = "2025-05-12", asset: str = ENHANCED) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day))


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        found = wrm_stations_marts_sensor(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def asked(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str, str]:
    """The run key and the cursor of a tick that asks for a run."""
    found = tick(instance, cursor)
    assert isinstance(found, dg.SensorResult), found
    (request,) = found.run_requests or []
    assert request.run_key is not None
    assert found.cursor is not None
    return request.run_key, found.cursor


def skipped(instance: dg.DagsterInstance, cursor: str | None = None) -> str:
    """The reason of a tick that asks for none; as a SkipReason it leaves the cursor as it is."""
    found = tick(instance, cursor)
    assert isinstance(found, dg.SkipReason), found
    return found.skip_message or ""


def a_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, job: str = JOB) -> str:
    """Have a run of a job in some status; one that is queued must know where its job is."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("wrm_pipeline"), "__repository__")
    origin = repository.get_job_origin(job)
    return instance.add_run(dg.DagsterRun(job_name=job, status=status, remote_job_origin=origin)).run_id


def test_it_runs_by_default_every_ten_seconds_and_starts_the_marts_job() -> None:
    assert wrm_stations_marts_sensor.minimum_interval_seconds == 10
    assert wrm_stations_marts_sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert wrm_stations_marts_sensor.job_name == JOB


def test_an_instance_that_never_built_enhanced_is_a_skip_with_a_reason(instance: dg.DagsterInstance) -> None:
    materialize(instance, asset="wrm_stations_processed_data_all")

    assert "has not been materialized yet" in skipped(instance)


def test_many_days_materialized_since_the_last_run_are_one_run(instance: dg.DagsterInstance) -> None:
    materialize(instance, "2025-05-13")
    materialize(instance, "2025-05-12")

    key, cursor = asked(instance)

    assert key == f"enhanced:{cursor}"
    assert "run for the newest materialization" in skipped(instance, cursor)


def test_a_day_materialized_once_more_is_run_for_once_more(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    first, cursor = asked(instance)
    materialize(instance)

    second, _ = asked(instance, cursor)

    assert first != second


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
)
def test_what_comes_while_a_run_is_at_work_is_run_for_after_it(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    materialize(instance)
    _, cursor = asked(instance)
    run_id = a_run(instance, status)
    materialize(instance)

    assert "queued or in progress" in skipped(instance, cursor)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)

    key, newer = asked(instance, cursor)
    assert key == f"enhanced:{newer}"
    assert int(newer) > int(cursor)


def test_runs_that_have_ended_and_runs_of_other_jobs_hold_nothing_up(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
        a_run(instance, status)
    a_run(instance, dg.DagsterRunStatus.STARTED, "wrm_stations_processing_job")

    asked(instance)


# The job


def test_it_makes_all_tables_the_duckdb_file_and_the_site_which_is_made_from_them() -> None:
    job = build_defs().resolve_job_def(JOB)

    selected = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    assert selected == {*(mart.name for mart in published()), DUCKDB_ASSET, "wrm_station_site"}


def test_it_runs_the_checks_too_in_one_process_and_two_of_its_runs_wait_for_each_other() -> None:
    job = build_defs().resolve_job_def(JOB)

    assert {node.name for node in job.nodes} == {"wrm_stations_marts", "wrm_stations_marts_checks", "wrm_station_site"}
    assert job.executor_def is dg.in_process_executor
    assert job.tags == {SERIAL_TAG: "marts"}
    assert len(job.description or "") > 20

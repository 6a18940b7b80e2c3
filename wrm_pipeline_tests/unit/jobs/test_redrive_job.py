"""The redrive job, its schedule, and the sensor that has rebuilt days reported."""

import datetime as dt
from typing import Any

import dagster as dg
import pytest

from wrm_pipeline.automation.redrive import reprocess_dlq_job, wrm_stations_redriven_sensor
from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.lake.dead_letters import Status
from wrm_pipeline.lake.object_store import build_client
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.dagster import DAY, QUIET, Pipeline, at, contents, failure_of, letters_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, payload, row

JOB, SCHEDULE = "reprocess_dlq_job", "wrm_stations_dlq_schedule"
NEXT_DAY = DAY + dt.timedelta(days=1)
NIGHT = dt.datetime(2026, 1, 2, 4, 37, tzinfo=dt.UTC)


# One bad row among so many is too few for the check of a day's dead letters to block it.
GOOD = [row(str(100 + n)) for n in range(19)]


def put_bad_row(pipeline: Pipeline, day: dt.date) -> None:
    put_raw(pipeline.lake, at(8, day=day), payload(*GOOD, row("2", bikes="x"), end=b"\n"))
    build_enhanced_day(pipeline.lake, FORMAT, CONTRACTS.enhanced, day, Provenance("r", "a"))


def repair(pipeline: Pipeline, day: dt.date) -> None:
    """The cause goes away: here, the source is replaced by one that is right."""
    put_raw(pipeline.lake, at(8, day=day), payload(*GOOD, row("2", bikes="7"), end=b"\n"))


def redrive(pipeline: Pipeline, **config: Any) -> dg.ExecuteInProcessResult:
    definition = pipeline.defs.resolve_job_def(JOB)
    return definition.execute_in_process(
        run_config={"ops": {"redrive_dead_letters": {"config": config}}, **QUIET},
        instance=pipeline.instance,
        raise_on_error=False,
    )


def metadata(run: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = [event for event in run.all_events if event.event_type is dg.DagsterEventType.STEP_OUTPUT]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def tick(pipeline: Pipeline) -> dg.RunRequest | str:
    schedule = pipeline.defs.resolve_schedule_def(SCHEDULE)
    with dg.build_schedule_context(
        instance=pipeline.instance,
        scheduled_execution_time=NIGHT,
        resources={"object_store": ObjectStoreResource(), "feed": FeedResource(), "metrics": MetricsResource()},
        repository_def=pipeline.defs.get_repository_def(),
    ) as context:
        found = schedule.evaluate_tick(context)
    if found.skip_message is not None:
        return found.skip_message
    (request,) = found.run_requests or ()
    return request


# --- The job ----------------------------------------------------------------------------------------------------------


def test_the_job_explains_itself_and_two_of_its_runs_wait_for_each_other() -> None:
    job = build_defs().resolve_job_def(JOB)

    assert job.executor_def is dg.in_process_executor
    assert len(job.description or "") > 20
    assert job.tags == {"wrm/serial": "redrive"}


def test_it_brings_back_what_passes_and_says_what_came_of_each_day(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT_DAY):
        put_bad_row(pipeline, day)
    repair(pipeline, DAY)

    run = redrive(pipeline)

    assert run.success
    assert [x.status for x in letters_of(pipeline.lake, DAY)] == [Status.REPROCESSED]
    assert [(x.status, x.retry_count) for x in letters_of(pipeline.lake, NEXT_DAY)] == [(Status.PENDING, 1)]
    (letter,) = letters_of(pipeline.lake, NEXT_DAY)
    assert (letter.run_id, letter.asset) == (run.run_id, "wrm_stations_enhanced_data_all")
    found = metadata(run)
    by_day = found.pop("by_day")
    assert "failure" in by_day.splitlines()[0]
    assert f"| {DAY} | 1 | 0 | 0 | 1 |  |" in by_day
    assert f"| {NEXT_DAY} | 0 | 1 | 0 | 0 |  |" in by_day
    found.pop("unreadable")
    assert found == {
        "days": 2,
        "letters_reprocessed": 1,
        "letters_rejected_again": 1,
        "letters_given_up": 0,
        "rows_joined": 1,
        "unreadable_letters": 0,
        "rebuilt_days": f"{DAY} {NEXT_DAY}",
    }
    log = "\n".join(pipeline.messages(run))
    assert f"1 of 2 days (50 %), {DAY}: 1 letters reprocessed, 0 rejected again" in log
    assert f"2 of 2 days (100 %), {NEXT_DAY}: 0 letters reprocessed, 1 rejected again" in log


def test_days_rule_and_stage_can_be_given_in_its_configuration(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT_DAY):
        put_bad_row(pipeline, day)

    assert redrive(pipeline, days=[NEXT_DAY.isoformat()]).success
    assert redrive(pipeline, rule="bad_quoting").success
    assert redrive(pipeline, stage="raw").success

    assert [x.retry_count for day in (DAY, NEXT_DAY) for x in letters_of(pipeline.lake, day)] == [0, 1]


@pytest.mark.parametrize("config", [{"days": ["yesterday"]}, {"stage": "cooked"}])
def test_a_configuration_that_makes_no_sense_is_one_sentence(pipeline: Pipeline, config: dict[str, Any]) -> None:
    run = redrive(pipeline, **config)

    assert not run.success
    assert "The run's configuration names no day or stage" in failure_of(run)


def test_what_is_given_up_on_is_an_error_in_the_log_once(pipeline: Pipeline) -> None:
    put_bad_row(pipeline, DAY)

    runs = [redrive(pipeline) for _ in range(4)]

    said = [sum("given up on; see" in message for message in pipeline.messages(run)) for run in runs]
    assert said == [0, 0, 1, 0]
    assert metadata(runs[2])["letters_given_up"] == 1
    assert metadata(runs[3])["by_day"] == "No dead letter waited."


def test_a_day_that_fails_does_not_keep_others_from_being_redriven_and_the_run_says_which(
    pipeline: Pipeline, store_settings: StoreSettings
) -> None:
    for day in (DAY, NEXT_DAY):
        put_bad_row(pipeline, day)
    client = build_client(store_settings)
    damaged = pipeline.lake.keys.raw(at(8))
    client.put_object(Bucket=store_settings.bucket, Key=damaged, Body=b"x", Metadata={"sha256": "0" * 64})
    client.close()

    run = redrive(pipeline)

    assert not run.success
    assert failure_of(run).startswith(
        "1 of 2 days could not be redriven; the next redrive goes on with them.\n2025-05-12: "
    )
    assert [x.retry_count for x in letters_of(pipeline.lake, NEXT_DAY)] == [1]


def test_a_letter_that_cannot_be_read_is_a_warning_and_stays(pipeline: Pipeline) -> None:
    put_bad_row(pipeline, DAY)
    (letter,) = letters_of(pipeline.lake, DAY)
    key = pipeline.lake.keys.dead_letter(DAY, letter.id)
    pipeline.lake.store.put(key, b"{", content_type="application/json")

    run = redrive(pipeline)

    assert run.success
    assert metadata(run)["unreadable_letters"] == 1
    assert any(key in message and "left as it is" in message for message in pipeline.messages(run))
    assert pipeline.lake.store.get(key).body == b"{"


# --- The schedule -----------------------------------------------------------------------------------------------------


def test_it_runs_by_default_each_night_in_utc_and_its_cron_line_comes_from_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schedule = build_defs().resolve_schedule_def(SCHEDULE)
    assert (schedule.cron_schedule, schedule.execution_timezone, schedule.job_name) == ("37 4 * * *", "UTC", JOB)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING

    monkeypatch.setenv("WRM_REDRIVE_CRON", "0 6 * * 1")
    assert build_defs().resolve_schedule_def(SCHEDULE).cron_schedule == "0 6 * * 1"


def test_it_asks_for_one_run_when_something_waits_and_for_none_when_nothing_does(pipeline: Pipeline) -> None:
    assert tick(pipeline) == "No dead letter waits for a redrive."
    put_bad_row(pipeline, DAY)

    request = tick(pipeline)

    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "redrive:2026-01-02T04:37"
    repair(pipeline, DAY)
    assert redrive(pipeline).success
    before = contents(pipeline.lake)
    assert tick(pipeline) == "No dead letter waits for a redrive."
    assert contents(pipeline.lake) == before


def test_a_redrive_that_was_killed_is_reason_enough(pipeline: Pipeline) -> None:
    pipeline.lake.store.put(pipeline.lake.keys.redrive_journal(DAY), b"{", content_type="application/json")

    assert isinstance(tick(pipeline), dg.RunRequest)


def test_letters_that_cannot_be_read_wait_for_a_person(pipeline: Pipeline) -> None:
    key = pipeline.lake.keys.dead_letter(DAY, "x")
    pipeline.lake.store.put(key, b"{", content_type="application/json")

    assert tick(pipeline) == "No dead letter waits for a redrive. 1 cannot be read: see `wrm dlq stats`."


def test_a_store_that_is_down_is_a_skip_with_the_reason(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    reason = tick(pipeline)

    assert isinstance(reason, str)
    assert reason.startswith("The dead letters could not be looked at.")
    assert "S3_ENDPOINT_URL" in reason


# --- The sensor -------------------------------------------------------------------------------------------------------


def asked_for(pipeline: Pipeline, run: dg.ExecuteInProcessResult) -> dict[str, str] | str:
    context = dg.build_run_status_sensor_context(
        sensor_name="wrm_stations_redriven_sensor",
        dagster_instance=pipeline.instance,
        dagster_run=run.dagster_run,
        dagster_event=next(event for event in run.all_events if event.event_type is dg.DagsterEventType.RUN_SUCCESS),
    )
    found = wrm_stations_redriven_sensor(context)
    if isinstance(found, dg.SkipReason):
        return found.skip_message or ""
    assert isinstance(found, list)
    return {str(request.partition_key): str(request.run_key) for request in found}


def test_each_rebuilt_day_is_materialized_checked_and_reported_by_the_processing_job(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT_DAY):
        put_bad_row(pipeline, day)
    repair(pipeline, DAY)
    run = redrive(pipeline)
    before = contents(pipeline.lake)

    found = asked_for(pipeline, run)

    assert found == {str(day): f"redriven:{run.run_id}:{day}" for day in (DAY, NEXT_DAY)}
    assert wrm_stations_redriven_sensor.default_status is dg.DefaultSensorStatus.RUNNING
    processed = pipeline.process(DAY)
    reported = pipeline.materializations(processed, "wrm_stations_dlq")[str(DAY)]
    assert reported["status_reprocessed"] == 1
    assert pipeline.materializations(processed, "wrm_stations_enhanced_data_all")[str(DAY)]["rows_kept"] == 20
    assert contents(pipeline.lake) == before, "the redrive left nothing for it to do"


def test_a_day_before_the_first_partition_is_redriven_and_not_asked_for(pipeline: Pipeline) -> None:
    put_bad_row(pipeline, dt.date(2025, 4, 30))
    run = redrive(pipeline)

    assert metadata(run)["rebuilt_days"] == "2025-04-30"
    assert asked_for(pipeline, run) == "The redrive rebuilt no day."


def test_a_redrive_that_rebuilt_nothing_asks_for_nothing(pipeline: Pipeline) -> None:
    assert asked_for(pipeline, redrive(pipeline)) == "The redrive rebuilt no day."
    assert reprocess_dlq_job.name == JOB

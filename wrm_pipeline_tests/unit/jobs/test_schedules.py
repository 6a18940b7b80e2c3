"""The schedules: cron lines from the settings, and when they ask for nothing."""

import datetime as dt

import dagster as dg
import pytest

from wrm_pipeline.automation import schedules
from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.feed.simulator import BadDay
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline_tests.fixtures.dagster import DAY, INGEST, PROCESSING, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

INGEST_SCHEDULE, RECONCILE_SCHEDULE = "wrm_stations_ingest_schedule", "wrm_stations_reconcile_schedule"
QUALITY_SCHEDULE, QUALITY = "wrm_stations_quality_schedule", "wrm_stations_quality_job"
ONE_DAY = dt.timedelta(days=1)
NIGHT = dt.datetime(2026, 1, 2, 3, 17, tzinfo=dt.UTC)


def evaluate(pipeline: Pipeline, name: str) -> dg.SkipReason | list[dg.RunRequest]:
    schedule = pipeline.defs.resolve_schedule_def(name)
    resource = FeedResource() if name == INGEST_SCHEDULE else ObjectStoreResource()
    with dg.build_schedule_context(
        instance=pipeline.instance,
        scheduled_execution_time=NIGHT,
        resources={"feed" if name == INGEST_SCHEDULE else "object_store": resource},
        repository_def=pipeline.defs.get_repository_def(),
    ) as context:
        tick = schedule.evaluate_tick(context)
    if tick.skip_message is not None:
        assert not tick.run_requests
        return dg.SkipReason(tick.skip_message)
    return list(tick.run_requests or ())


def stale(pipeline: Pipeline) -> dict[str | None, str]:
    found = evaluate(pipeline, RECONCILE_SCHEDULE)
    assert isinstance(found, list), found
    return {request.partition_key: request.tags["wrm/reason"] for request in found}


def skip_reason(pipeline: Pipeline, name: str) -> str:
    found = evaluate(pipeline, name)
    assert isinstance(found, dg.SkipReason), found
    return found.skip_message or ""


def test_they_run_by_default_every_5_minutes_and_at_night_in_utc() -> None:
    found = {
        name: (schedule.cron_schedule, schedule.execution_timezone, schedule.default_status, schedule.job_name)
        for name in (INGEST_SCHEDULE, RECONCILE_SCHEDULE, QUALITY_SCHEDULE)
        if (schedule := build_defs().resolve_schedule_def(name))
    }

    running = dg.DefaultScheduleStatus.RUNNING
    assert found == {
        INGEST_SCHEDULE: ("*/5 * * * *", "UTC", running, INGEST),
        RECONCILE_SCHEDULE: ("17 3 * * *", "UTC", running, PROCESSING),
        QUALITY_SCHEDULE: ("47 1 * * *", "UTC", running, QUALITY),
    }


def test_the_cron_lines_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_POLL_CRON", "*/2 * * * *")
    monkeypatch.setenv("WRM_RECONCILE_CRON", "0 1 * * *")

    definitions = build_defs()

    assert definitions.resolve_schedule_def(INGEST_SCHEDULE).cron_schedule == "*/2 * * * *"
    assert definitions.resolve_schedule_def(RECONCILE_SCHEDULE).cron_schedule == "0 1 * * *"


def test_a_poll_is_one_run(pipeline: Pipeline) -> None:
    found = evaluate(pipeline, INGEST_SCHEDULE)

    assert isinstance(found, list)
    assert len(found) == 1


def test_a_poll_is_skipped_with_a_reason_while_the_feed_s_breaker_is_open(pipeline: Pipeline) -> None:
    pipeline.feed.fault = BadDay.UNAVAILABLE
    pipeline.ingest()
    pipeline.ingest()  # six failed attempts; the fifth opens it
    assert pipeline.feed.requests == 5

    assert "circuit breaker is open" in skip_reason(pipeline, INGEST_SCHEDULE)


def test_an_empty_lake_needs_no_reconciling(pipeline: Pipeline) -> None:
    assert skip_reason(pipeline, RECONCILE_SCHEDULE) == "All 0 days are built from what raw holds."


def test_reconcile_asks_for_exactly_the_stale_days_and_says_why(pipeline: Pipeline) -> None:
    fresh, grown, replaced, never_built, half_built = (DAY + n * ONE_DAY for n in range(5))
    for day in (fresh, grown, replaced, half_built):
        put_raw(pipeline.lake, at(8, day=day))
        assert pipeline.process(day).success
    put_raw(pipeline.lake, at(9, day=grown), b"new")
    put_raw(pipeline.lake, at(8, day=replaced), b"other bytes under the same key")
    put_raw(pipeline.lake, at(8, day=never_built), b"x")
    pipeline.lake.store.delete(pipeline.lake.keys.layer_object(Layer.ENHANCED, half_built))

    found = stale(pipeline)

    assert found == {
        grown.isoformat(): "processed was built from other raw objects than the 2 there are",
        replaced.isoformat(): "processed was built from other raw objects than the 1 there are",
        never_built.isoformat(): "processed is missing",
        half_built.isoformat(): "enhanced is missing",
    }


def test_after_the_runs_that_it_asked_for_nothing_is_stale(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    put_raw(pipeline.lake, at(8, day=DAY + ONE_DAY))

    for day in stale(pipeline):
        assert pipeline.process(dt.date.fromisoformat(str(day))).success

    assert skip_reason(pipeline, RECONCILE_SCHEDULE) == "All 2 days are built from what raw holds."


def test_days_that_are_no_partition_are_left_alone(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8, day=dt.date(2025, 4, 30)))
    put_raw(pipeline.lake, at(8, day=dt.datetime.now(dt.UTC).date() + 2 * ONE_DAY))

    assert skip_reason(pipeline, RECONCILE_SCHEDULE) == "All 0 days are built from what raw holds."


def test_a_night_asks_for_a_bounded_number_of_days_the_oldest_first(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "DAYS_PER_NIGHT", 2)
    for n in range(3):
        put_raw(pipeline.lake, at(8, day=DAY + n * ONE_DAY), b"x")

    assert list(stale(pipeline)) == ["2025-05-12", "2025-05-13"]


def test_a_night_s_requests_can_be_sent_twice_without_two_runs(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8), b"x")

    first, second = evaluate(pipeline, RECONCILE_SCHEDULE), evaluate(pipeline, RECONCILE_SCHEDULE)

    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [request.run_key for request in first] == [request.run_key for request in second]
    assert first[0].run_key == "reconcile:2026-01-02T03:17:2025-05-12"


def test_a_store_that_refuses_is_a_skip_with_the_reason(
    pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_raw(pipeline.lake, at(8), b"x")
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    proxy.add(Answer(403, s3_error("AccessDenied")), times=None)

    reason = skip_reason(pipeline, RECONCILE_SCHEDULE)

    assert "could not be compared with raw" in reason
    assert "S3_ACCESS_KEY_ID" in reason


def test_a_store_that_is_down_is_a_skip_with_the_reason(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    assert "S3_ENDPOINT_URL" in skip_reason(pipeline, RECONCILE_SCHEDULE)


def test_the_day_before_is_looked_at_once_it_is_built(pipeline: Pipeline) -> None:
    yesterday = NIGHT.date() - ONE_DAY
    put_raw(pipeline.lake, at(8, day=yesterday))
    build_enhanced_day(pipeline.lake, FORMAT, CONTRACTS.enhanced, yesterday, Provenance(run_id="r", asset="a"))

    found = evaluate(pipeline, QUALITY_SCHEDULE)

    assert isinstance(found, list)
    assert [(request.partition_key, request.run_key) for request in found] == [
        (yesterday.isoformat(), f"quality:{yesterday}")
    ]


def test_a_day_before_that_is_not_built_is_not_looked_at(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8, day=NIGHT.date() - ONE_DAY))

    assert "Enhanced holds nothing of 2026-01-01" in skip_reason(pipeline, QUALITY_SCHEDULE)


def test_a_lake_that_cannot_be_looked_at_is_a_reason_too(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("WRM_S3_RETRY_BUDGET_S", "0.1")

    assert "The lake could not be looked at." in skip_reason(pipeline, QUALITY_SCHEDULE)

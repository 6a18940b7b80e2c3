"""The raw sensor on a real store."""

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest

from wrm_pipeline.automation.sensors import wrm_stations_raw_data_sensor
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline_tests.fixtures.dagster import DAY, PROCESSING, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error

ONE_DAY = dt.timedelta(days=1)


def tick(pipeline: Pipeline, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    with dg.build_sensor_context(
        instance=pipeline.instance, cursor=cursor, resources={"object_store": ObjectStoreResource()}
    ) as context:
        result = wrm_stations_raw_data_sensor(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def requests(result: dg.SensorResult | dg.SkipReason) -> list[tuple[str | None, str | None]]:
    assert isinstance(result, dg.SensorResult)
    return [(request.partition_key, request.run_key) for request in result.run_requests or []]


def test_it_is_running_by_default_every_30_seconds_and_starts_the_processing_job() -> None:
    sensor = wrm_stations_raw_data_sensor

    assert sensor.minimum_interval_seconds == 15
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.job_name == PROCESSING


def test_an_empty_lake_is_a_skip_with_a_reason(pipeline: Pipeline) -> None:
    result = tick(pipeline)

    assert requests(result) == []
    assert isinstance(result, dg.SensorResult)
    assert "No new raw objects after the beginning" in str(result.skip_reason)


def test_each_new_day_is_one_run_request_named_by_the_day_and_its_newest_key(pipeline: Pipeline) -> None:
    for time in (at(8), at(9), at(8, day=DAY + ONE_DAY)):
        put_raw(pipeline.lake, time, b"x")

    result = tick(pipeline)

    assert requests(result) == [
        ("2025-05-12", "2025-05-12:wrm_stations_2025-05-12_09-00-00.txt"),
        ("2025-05-13", "2025-05-13:wrm_stations_2025-05-13_08-00-00.txt"),
    ]


def test_the_next_tick_asks_only_for_what_is_new_since(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8), b"x")
    first = tick(pipeline)
    assert isinstance(first, dg.SensorResult)
    second = tick(pipeline, first.cursor)
    put_raw(pipeline.lake, at(8, 5), b"y")

    third = tick(pipeline, first.cursor)

    assert requests(second) == []
    assert isinstance(second, dg.SensorResult)
    assert "wrm_stations_2025-05-12_08-00-00.txt" in str(second.skip_reason)
    assert requests(third) == [("2025-05-12", "2025-05-12:wrm_stations_2025-05-12_08-05-00.txt")]


def test_a_listing_that_fails_is_a_skip_with_the_reason_and_leaves_the_cursor_where_it_was(
    pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_raw(pipeline.lake, at(8), b"x")
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    proxy.add(Answer(403, s3_error("AccessDenied")))

    failed = tick(pipeline)

    # A SkipReason, and not a result with a cursor: Dagster then keeps the old one.
    assert isinstance(failed, dg.SkipReason)
    assert "could not be listed" in str(failed.skip_message)
    assert "S3_ACCESS_KEY_ID" in str(failed.skip_message)
    assert requests(tick(pipeline)) == [("2025-05-12", "2025-05-12:wrm_stations_2025-05-12_08-00-00.txt")]


def test_an_open_breaker_is_a_skip_that_asks_the_store_nothing(
    pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("WRM_S3_CONCURRENCY", "1")
    proxy.add(Answer(503), times=None)
    tick(pipeline)  # five attempts, which open it
    asked = proxy.count()

    result = tick(pipeline)

    assert isinstance(result, dg.SkipReason)
    assert "not asked" in str(result.skip_message)
    assert proxy.count() == asked == 5


@pytest.mark.parametrize("objects", [0, 1, 1200])
def test_a_tick_is_one_list_request_whatever_the_lake_holds(
    pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, objects: int
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put_raw(pipeline.lake, at(0) + dt.timedelta(minutes=n), b"x"), range(objects)))
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)

    tick(pipeline)

    assert [(seen.method, "list-type=2" in seen.target) for seen in proxy.seen] == [("GET", True)]


def test_keys_of_no_partition_are_a_warning_and_no_run(pipeline: Pipeline, capfd: pytest.CaptureFixture[str]) -> None:
    future = dt.datetime.now(dt.UTC).date() + 2 * ONE_DAY
    put_raw(pipeline.lake, at(8, day=dt.date(2025, 4, 30)), b"x")
    put_raw(pipeline.lake, at(8, day=future), b"x")

    result = tick(pipeline)

    assert requests(result) == []
    log = capfd.readouterr().err
    assert "2 raw keys belong to no partition between 2025-05-01" in log
    assert "warning" in log
    assert "dt=2025-04-30" in log


def test_an_unknown_cursor_starts_over(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8), b"x")

    result = tick(pipeline, json.dumps({"version": 99, "after": "zzz"}))

    assert requests(result) == [("2025-05-12", "2025-05-12:wrm_stations_2025-05-12_08-00-00.txt")]

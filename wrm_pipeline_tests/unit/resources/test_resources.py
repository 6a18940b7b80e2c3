"""Resources: settings or overrides, one breaker a process, and no secret anywhere that Dagster keeps."""

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.feed.fetch import FeedUnavailable
from wrm_pipeline.feed.simulator import BadDay
from wrm_pipeline.resilience import BreakerOpen, LocalBreakerState, RedisBreakerState
from wrm_pipeline.resources.breakers import breaker_state
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import SettingsError, StoreSettings, load_settings
from wrm_pipeline_tests.fixtures.dagster import INGEST, Pipeline, failure_of
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error


def started(resource: ObjectStoreResource) -> ObjectStoreResource:
    resource.setup_for_execution(dg.build_init_resource_context())
    return resource


def test_the_store_is_where_the_settings_say(pipeline: Pipeline, store_settings: StoreSettings) -> None:
    lake = started(ObjectStoreResource()).lake

    assert (lake.store.endpoint_url, lake.store.bucket, lake.keys.prefix) == (
        store_settings.endpoint_url,
        store_settings.bucket,
        store_settings.prefix,
    )


def test_fields_that_are_given_win_over_the_settings_and_credentials_still_come_from_these(pipeline: Pipeline) -> None:
    endpoint = pipeline.lake.store.endpoint_url
    resource = ObjectStoreResource(endpoint_url=endpoint.replace("127.0.0.1", "localhost"), prefix="elsewhere")

    lake = started(resource).lake

    assert lake.store.endpoint_url.startswith("http://localhost:")
    assert lake.keys.prefix == "elsewhere/"
    assert list(lake.store.list("nothing-there/")) == []


def test_overrides_replace_a_resource_of_the_code_location(pipeline: Pipeline) -> None:
    definitions = build_defs({"object_store": ObjectStoreResource(bucket="no-such-bucket")})

    run = definitions.resolve_job_def(INGEST).execute_in_process(instance=pipeline.instance, raise_on_error=False)

    assert "BUCKET_NAME" in failure_of(run)


def test_a_wrong_field_is_refused_like_a_wrong_setting(pipeline: Pipeline) -> None:
    with pytest.raises(SettingsError, match="BUCKET_NAME"):
        started(ObjectStoreResource(bucket="No Bucket"))
    with pytest.raises(SettingsError, match="WRM_FEED_URL"):
        FeedResource(url="http://example.com/feed").setup_for_execution(dg.build_init_resource_context())


def test_missing_settings_name_every_variable(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("S3_ENDPOINT_URL", "S3_SECRET_ACCESS_KEY", "BUCKET_NAME"):
        monkeypatch.delenv(name)

    with pytest.raises(SettingsError, match=r"^S3_ENDPOINT_URL, S3_SECRET_ACCESS_KEY, BUCKET_NAME not set\."):
        started(ObjectStoreResource())


def test_a_run_without_settings_fails_with_that_sentence(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUCKET_NAME")

    run = pipeline.ingest()

    assert not run.success
    assert "BUCKET_NAME not set" in "\n".join(
        str(entry.dagster_event.event_specific_data)
        for entry in pipeline.instance.all_logs(run.run_id)
        if entry.dagster_event is not None
    )


def test_a_rotated_key_is_read_again_and_the_run_goes_on(
    pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = load_settings().require_store()
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "the-old-one")
    lake = started(ObjectStoreResource()).lake
    proxy.add(Answer(403, s3_error("InvalidAccessKeyId")))
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", good.secret_access_key.get_secret_value())

    assert list(lake.store.list(lake.keys.raw_root)) == []
    assert proxy.count() == 2


def test_a_closed_resource_gives_its_connections_back(pipeline: Pipeline) -> None:
    resource = started(ObjectStoreResource())
    lake = resource.lake

    resource.teardown_after_execution(dg.build_init_resource_context())

    with pytest.raises(RuntimeError, match="after shutdown"):
        list(lake.store.get_many(["k"]))


def test_the_feed_resource_fetches_the_settings_feed_in_the_one_format(pipeline: Pipeline) -> None:
    feed = FeedResource()
    feed.setup_for_execution(dg.build_init_resource_context())

    assert feed.address == pipeline.feed.url
    assert isinstance(feed.format, BikeShareMap)
    assert feed.format.inspect(feed.fetch().body) is None
    assert pipeline.feed.requests == 1


def test_breakers_are_shared_by_all_runs_of_a_process(pipeline: Pipeline) -> None:
    pipeline.feed.fault = BadDay.UNAVAILABLE
    feeds = [FeedResource(), FeedResource()]
    for feed in feeds:
        feed.setup_for_execution(dg.build_init_resource_context())
    with pytest.raises(FeedUnavailable):
        feeds[0].fetch()
    with pytest.raises((FeedUnavailable, BreakerOpen)):
        feeds[0].fetch()

    assert feeds[1].breaker.is_open()
    with pytest.raises(BreakerOpen):
        feeds[1].fetch()


def test_without_redis_the_state_is_this_process_s(fresh_breakers: None) -> None:
    assert isinstance(breaker_state(load_settings()), LocalBreakerState)
    assert breaker_state(load_settings()) is breaker_state(load_settings())


def test_with_redis_the_state_is_there(
    fresh_breakers: None, redis_server: LocalRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)

    assert isinstance(breaker_state(load_settings()), RedisBreakerState)
    assert breaker_state(load_settings()) is breaker_state(load_settings())


def everything_in(directory: Path) -> bytes:
    """Return all bytes below a directory, with what Dagster keeps compressed in SQLite unpacked."""
    found: list[bytes] = []
    for path in directory.rglob("*"):
        if not path.is_file():
            continue
        found.append(path.read_bytes())
        if path.read_bytes().startswith(b"SQLite format 3"):
            found += _cells(path)
    return b"\n".join(found)


def _cells(path: Path) -> Iterator[bytes]:
    with sqlite3.connect(path) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - names from the file itself
                for cell in row:
                    data = cell if isinstance(cell, bytes) else str(cell).encode()
                    yield data
                    if data.startswith(b"\x78"):
                        yield zlib.decompress(data)
    connection.close()


def secrets_of(settings: StoreSettings) -> list[bytes]:
    return [value.get_secret_value().encode() for value in (settings.secret_access_key, settings.access_key_id)]


def test_no_secret_is_in_what_dagster_stores_of_runs_good_and_bad(
    pipeline: Pipeline, store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = pipeline.defs.resolve_job_def(INGEST)
        assert job.execute_in_process(instance=instance).success
        monkeypatch.setenv("S3_REGION_NAME", "elsewhere")
        monkeypatch.setenv("BUCKET_NAME", "no-such-bucket")
        assert not job.execute_in_process(instance=instance, raise_on_error=False).success

    stored = everything_in(tmp_path)

    # The search does see what is inside: the metadata of the good run and the sentence of the bad one.
    assert pipeline.lake.keys.prefix.encode() in stored
    assert b"the bucket is not created by itself" in stored
    for secret in secrets_of(store_settings):
        assert secret not in stored


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")  # Dagster's own
def test_no_secret_is_in_a_repr_or_in_what_the_code_location_tells_the_ui(
    pipeline: Pipeline, store_settings: StoreSettings
) -> None:
    resource = started(ObjectStoreResource())
    feed = FeedResource()
    feed.setup_for_execution(dg.build_init_resource_context())
    snapshot = dg.serialize_value(RepositorySnap.from_def(pipeline.defs.get_repository_def()))

    shown = "\n".join([*map(repr, (resource, resource.lake, feed, pipeline.defs, load_settings())), snapshot]).encode()

    assert b"object_store" in shown
    for secret in secrets_of(store_settings):
        assert secret not in shown

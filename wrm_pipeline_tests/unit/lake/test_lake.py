"""The lake on a real store: listings of raw, and days of a layer."""

import datetime as dt
import logging
from dataclasses import replace

import pytest

from wrm_pipeline.lake.day_object import Manifest, Source, decode, encode, inputs_digest
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreUnavailable, build_client
from wrm_pipeline.resilience import RetryPolicy
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.schema import PROCESSED
from wrm_pipeline_tests.fixtures.fault_proxy import SLOW_DOWN, Answer, FaultProxy
from wrm_pipeline_tests.fixtures.snapshots import FORMAT, TIME, payload, row, snapshot_of

DAY = TIME.date()
ROWS = FORMAT.parse([snapshot_of(payload(row("1"), row("2")))]).rows
MANIFEST = Manifest(Layer.PROCESSED, DAY, "1", (Source("raw/one.txt", "e", rows=2, kept=2),))


def put(lake: Lake, key: str, body: bytes = b"x") -> str:
    lake.store.put(key, body, content_type="text/plain")
    return key


def raw_at(lake: Lake, time: dt.datetime) -> str:
    return put(lake, lake.keys.raw(time))


def test_a_day_of_raw_is_listed_in_the_order_of_time_without_the_folder_itself_or_its_neighbours(lake: Lake) -> None:
    later, earlier = raw_at(lake, TIME), raw_at(lake, TIME - dt.timedelta(hours=1))
    raw_at(lake, TIME + dt.timedelta(days=1))
    put(lake, lake.keys.raw_day(DAY), b"")

    assert [info.key for info in lake.raw_listing(DAY)] == [earlier, later]
    assert lake.raw_listing(DAY - dt.timedelta(days=1)) == []


def test_listing_a_day_costs_one_request_however_many_other_days_there_are(lake: Lake) -> None:
    for day in range(5):
        raw_at(lake, TIME + dt.timedelta(days=day))
    before = lake.store.traffic.snapshot()

    lake.raw_listing(DAY)

    assert dict((lake.store.traffic.snapshot() - before).requests) == {"list": 1}


def test_the_days_of_raw(lake: Lake) -> None:
    for day in (3, 0, 1):
        raw_at(lake, TIME + dt.timedelta(days=day))
    put(lake, f"{lake.keys.raw_root}notes/x.txt")
    put(lake, f"{lake.keys.raw_root}dt=2025-02-30/x.txt")

    assert lake.raw_days() == [DAY, DAY + dt.timedelta(days=1), DAY + dt.timedelta(days=3)]


def test_an_empty_lake_has_no_days_and_no_newest_object(lake: Lake) -> None:
    assert lake.raw_days() == []
    assert lake.newest_raw(DAY) is None


@pytest.mark.parametrize(("age_days", "requests"), [(0, 1), (1, 2), (10, 4), (400, 4)])
def test_the_newest_raw_object_is_found_however_old_it_is(lake: Lake, age_days: int, requests: int) -> None:
    """After midnight it lies under yesterday, after an outage in any day before."""
    raw_at(lake, TIME - dt.timedelta(hours=2))
    newest = raw_at(lake, TIME)
    raw_at(lake, TIME - dt.timedelta(days=30))
    before = lake.store.traffic.snapshot()

    found = lake.newest_raw(DAY + dt.timedelta(days=age_days))

    assert found is not None
    assert found.key == newest
    assert dict((lake.store.traffic.snapshot() - before).requests) == {"list": requests}


def test_a_folder_without_snapshots_does_not_hide_the_newest_raw_object(lake: Lake) -> None:
    """Some tools make an empty object for a folder, and may have made those of days to come."""
    newest = raw_at(lake, TIME)
    for days in (0, 5, 6):
        put(lake, lake.keys.raw_day(DAY + dt.timedelta(days=days)), b"")

    found = lake.newest_raw(DAY + dt.timedelta(days=10))

    assert found is not None
    assert found.key == newest


def test_a_day_is_written_with_one_put_under_its_fixed_key_and_read_back(lake: Lake) -> None:
    before = lake.store.traffic.snapshot()

    info = lake.write_day(ROWS, MANIFEST)

    assert dict((lake.store.traffic.snapshot() - before).requests) == {"put": 1}
    assert info.key == lake.keys.layer_object(Layer.PROCESSED, DAY)
    stored = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert stored is not None
    assert stored.rows.equals(ROWS)
    assert stored.manifest == MANIFEST
    assert stored.info.etag == info.etag


def test_one_head_tells_what_a_stored_day_was_built_from(lake: Lake) -> None:
    key = lake.write_day(ROWS, MANIFEST).key

    info = lake.store.head(key)

    assert info is not None
    assert info.metadata["inputs-sha256"] == inputs_digest([("raw/one.txt", "e")])
    assert (info.metadata["code-version"], info.metadata["rows"]) == ("1", "2")


def test_another_program_reads_the_object_that_was_encoded(lake: Lake) -> None:
    key = lake.write_day(ROWS, MANIFEST).key

    assert lake.store.get(key).body == encode(ROWS, MANIFEST)
    assert decode(lake.store.get(key).body, PROCESSED)[1] == MANIFEST


def test_a_day_that_is_not_there_is_none(lake: Lake) -> None:
    assert lake.read_day(Layer.PROCESSED, DAY, PROCESSED) is None


def test_a_damaged_day_is_none_and_a_warning_that_names_it(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    key = put(lake, lake.keys.layer_object(Layer.PROCESSED, DAY), b"garbage")

    with caplog.at_level(logging.WARNING):
        assert lake.read_day(Layer.PROCESSED, DAY, PROCESSED) is None

    assert f"{key} is damaged and will be built anew from raw" in caplog.text


def test_a_day_whose_bytes_are_not_those_that_were_written_is_none(
    lake: Lake, store_settings: StoreSettings, caplog: pytest.LogCaptureFixture
) -> None:
    key = lake.keys.layer_object(Layer.PROCESSED, DAY)
    client = build_client(store_settings)
    client.put_object(Bucket=store_settings.bucket, Key=key, Body=encode(ROWS, MANIFEST), Metadata={"sha256": "0" * 64})
    client.close()

    assert lake.read_day(Layer.PROCESSED, DAY, PROCESSED) is None
    assert "is damaged" in caplog.text


def test_an_outage_is_not_a_missing_day(proxied: StoreSettings, proxy: FaultProxy) -> None:
    """A day that only seemed to be missing would be fetched and built from nothing in the middle of an outage."""
    proxy.add(Answer(503, SLOW_DOWN), times=None)
    with ObjectStore(replace(proxied, timeout_s=1.0), policy=RetryPolicy(attempts=1, budget_s=1.0)) as store:
        lake = Lake(store, LakeKeys(store.prefix))
        with pytest.raises(StoreUnavailable):
            lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
        with pytest.raises(StoreUnavailable):
            lake.newest_raw(DAY)


def test_objects_of_older_deployments_are_told_from_todays(lake: Lake) -> None:
    folder = lake.keys.layer_day(Layer.PROCESSED, DAY)
    second = put(lake, f"{folder}all_processed_20250512_182000.parquet", b"2")
    first = put(lake, f"{folder}all_processed_20250512_181000.parquet", b"1")
    put(lake, lake.keys.layer_object(Layer.PROCESSED, DAY))
    put(lake, f"{folder}all_enhanced_20250512_181000.parquet")

    found = lake.legacy_objects(Layer.PROCESSED, DAY)

    assert [(stored.info.key, stored.body) for stored in found] == [(first, b"1"), (second, b"2")]

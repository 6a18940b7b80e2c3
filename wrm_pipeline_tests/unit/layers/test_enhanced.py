"""Enhanced on a real store: always of all raw objects of the day, and never ahead of processed."""

import datetime as dt
from collections.abc import Iterator

import pytest

from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreRefused
from wrm_pipeline.layers import enhanced
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.processed import PASSES, build_processed_day
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance, RawKeepsChangingError
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.dagster import at, contents, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error
from wrm_pipeline_tests.fixtures.snapshots import bike_row, payload, row
from wrm_pipeline_tests.fixtures.watched_store import WatchedStore, watching

DAY = dt.date(2025, 5, 12)
WHO = Provenance("run-1", "wrm_stations_enhanced_data_all", lambda: dt.datetime(2025, 5, 13, tzinfo=dt.UTC))


@pytest.fixture
def watched(store_settings: StoreSettings) -> Iterator[WatchedStore]:
    with watching(store_settings) as store:
        yield store


@pytest.fixture
def lake(watched: WatchedStore) -> Lake:
    return Lake(watched, LakeKeys(watched.prefix))


def build(lake: Lake) -> BuiltDay:
    return build_enhanced_day(lake, BikeShareMap(), DAY, WHO)


def put_hour(lake: Lake, hour: int) -> None:
    put_raw(lake, at(hour), payload(row(bikes=str(hour)), bike_row()))


def hours_of(built: BuiltDay) -> list[int]:
    bikes: list[int] = built.rows.column("bikes").to_pylist()
    return bikes[::2]


def etags(lake: Lake) -> dict[str, str]:
    return {key: etag for key, etag in contents(lake).items() if key.startswith(("processed/", "enhanced/"))}


def rebuilt_from_nothing(lake: Lake) -> dict[str, str]:
    for layer in Layer:
        lake.store.delete(lake.keys.layer_object(layer, DAY))
    build(lake)
    return etags(lake)


def test_rows_are_those_of_processed_classified_and_flagged(lake: Lake) -> None:
    put_raw(lake, at(18), payload(row(bikes="42"), bike_row(lat="52.28", lon="21.01"), row("x1")))

    built = build(lake)

    stored = lake.read_day(Layer.ENHANCED, DAY, ENHANCED)
    upstream = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert stored is not None
    assert upstream is not None
    assert stored.rows.equals(built.rows)
    assert stored.rows.select(PROCESSED.names).equals(upstream.rows)
    assert stored.rows.column("record_type").to_pylist() == ["station", "bike", "unknown"]
    assert stored.rows.column("quality_flags").to_pylist() == [["overfull"], ["off_zone"], ["unknown_record_type"]]
    assert stored.rows.column("date").to_pylist() == [DAY] * 3


def test_the_manifest_is_that_of_processed_under_both_code_versions(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), end=b"\n"))

    built = build(lake)

    upstream = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert upstream is not None
    assert built.manifest.sources == upstream.manifest.sources
    assert built.manifest.code_version == f"{enhanced.ENHANCED_CODE_VERSION}/{upstream.manifest.code_version}"
    assert (built.manifest.layer, built.manifest.day) == (Layer.ENHANCED, DAY)
    assert len(built.letters) == 1


def test_processed_is_brought_up_to_date_first(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 8)
    build_processed_day(lake, BikeShareMap(), DAY, WHO)
    put_hour(lake, 9)
    watched.puts.clear()

    built = build(lake)

    assert hours_of(built) == [8, 9]
    assert built.build is Build.INCREMENTAL
    assert watched.puts == [lake.keys.layer_object(layer, DAY) for layer in (Layer.PROCESSED, Layer.ENHANCED)]


def test_a_new_snapshot_costs_its_own_get_and_the_stored_day(lake: Lake) -> None:
    for hour in range(5):
        put_hour(lake, hour)
    build(lake)
    put_hour(lake, 7)
    before = lake.store.traffic.snapshot()

    build(lake)

    assert dict((lake.store.traffic.snapshot() - before).requests) == {"list": 2, "get": 1 + 1, "put": 2}


def test_letters_come_first_then_processed_then_enhanced(lake: Lake, watched: WatchedStore) -> None:
    """A reader of enhanced must find what was left out, and a killed run must not leave enhanced ahead of processed."""
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), end=b"\n"))
    watched.puts.clear()

    build(lake)

    assert [key.removeprefix(lake.keys.prefix).split("/")[0] for key in watched.puts] == [
        "dlq",
        "processed",
        "enhanced",
    ]


def test_enhanced_stays_as_it_was_when_processed_cannot_be_stored(
    lake: Lake, proxied: StoreSettings, proxy: FaultProxy
) -> None:
    put_hour(lake, 8)
    build(lake)
    before = etags(lake)
    put_hour(lake, 9)
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="/processed/")

    with ObjectStore(proxied) as behind, pytest.raises(StoreRefused):
        build(Lake(behind, lake.keys))

    assert etags(lake) == before


def test_a_snapshot_that_lands_before_the_put_of_enhanced_is_in_both_layers(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 8)
    watched.before_put("/enhanced/", lambda: put_hour(lake, 9), lambda: put_hour(lake, 7))

    built = build(lake)

    assert hours_of(built) == [7, 8, 9]
    assert etags(lake) == rebuilt_from_nothing(lake)


def test_another_run_that_overtakes_this_one_is_not_undone(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 8)

    def overtake() -> None:
        put_hour(lake, 9)
        assert hours_of(build(lake)) == [8, 9]

    watched.before_put("/enhanced/", overtake)

    assert hours_of(build(lake)) == [8, 9]
    assert etags(lake) == rebuilt_from_nothing(lake)


def test_a_day_without_raw_data_is_an_error_and_writes_nothing(lake: Lake, watched: WatchedStore) -> None:
    with pytest.raises(NoRawDataError, match="There is no raw data for 2025-05-12"):
        build(lake)

    assert watched.puts == []


def test_raw_that_never_stands_still_is_an_error(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 0)
    watched.before_put("/enhanced/", *(lambda hour=hour: put_hour(lake, hour) for hour in range(1, PASSES + 1)))

    with pytest.raises(RawKeepsChangingError):
        build(lake)

    assert hours_of(build(lake)) == list(range(PASSES + 1))


@pytest.mark.parametrize("layers", [[Layer.ENHANCED], [Layer.PROCESSED], list(Layer)])
def test_damaged_layers_are_rebuilt_to_the_same_bytes(lake: Lake, layers: list[Layer]) -> None:
    put_hour(lake, 8)
    put_hour(lake, 9)
    build(lake)
    good = etags(lake)
    for layer in layers:
        lake.store.put(lake.keys.layer_object(layer, DAY), b"garbage", content_type="x")

    build(lake)

    assert etags(lake) == good


def test_no_letters_are_written_for_the_stage_enhanced(lake: Lake) -> None:
    """Whatever processed keeps, enhanced keeps: it flags."""
    put_raw(lake, at(8), payload(row("?", docks="0", lat="-33", lon="151", overloaded="what"), row("2", bikes="x")))

    build(lake)

    assert [letter.stage for letter in letters_of(lake, DAY)] == ["processed"]

"""Processed on a real store: what a build costs, what it leaves out, and that nothing makes two builds differ."""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.lake.day_object import Source, recorded_code_version
from wrm_pipeline.lake.dead_letters import DeadLetter, Stage, Status, letter_id
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreRefused, build_client
from wrm_pipeline.layers import processed
from wrm_pipeline.layers.processed import PASSES, PROCESSED_CODE_VERSION, build_processed_day, merge
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance, RawKeepsChangingError
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.schema import PROCESSED
from wrm_pipeline_tests.fixtures.dagster import at, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error
from wrm_pipeline_tests.fixtures.snapshots import FORMAT, bike_row, payload, row
from wrm_pipeline_tests.fixtures.watched_store import WatchedStore, watching

DAY = dt.date(2025, 5, 12)
NOW = dt.datetime(2025, 5, 13, 3, 17, tzinfo=dt.UTC)
BAD_ROW = row("15003", bikes="x")
WITH_A_BAD_ROW = payload(row("15001"), BAD_ROW, row("15002"))


@pytest.fixture
def watched(store_settings: StoreSettings) -> Iterator[WatchedStore]:
    with watching(store_settings) as store:
        yield store


@pytest.fixture
def lake(watched: WatchedStore) -> Lake:
    return Lake(watched, LakeKeys(watched.prefix))


def by(run_id: str = "run-1", now: dt.datetime = NOW) -> Provenance:
    return Provenance(run_id, "wrm_stations_processed_data_all", lambda: now)


def build(lake: Lake, provenance: Provenance | None = None) -> BuiltDay:
    return build_processed_day(lake, FORMAT, DAY, provenance or by())


def etag_of(lake: Lake) -> str:
    info = lake.store.head(lake.keys.layer_object(Layer.PROCESSED, DAY))
    assert info is not None
    return info.etag


def requests_of(lake: Lake, provenance: Provenance | None = None) -> tuple[BuiltDay, dict[str, int]]:
    before = lake.store.traffic.snapshot()
    built = build(lake, provenance)
    return built, dict((lake.store.traffic.snapshot() - before).requests)


def raw_body(number: int) -> bytes:
    return payload(row("15001", bikes=str(number)), bike_row(battery=str(number)))


def put_day(lake: Lake, *hours: int) -> None:
    for hour in hours:
        put_raw(lake, at(hour), raw_body(hour))


def rebuilt_from_nothing(lake: Lake) -> str:
    """Return the ETag of a build with nothing to start from."""
    lake.store.delete(lake.keys.layer_object(Layer.PROCESSED, DAY))
    return build(lake).info.etag


# --- What a day is ----------------------------------------------------------------------------------------------------


def test_a_day_holds_the_rows_of_all_its_snapshots_in_the_order_of_time(lake: Lake) -> None:
    put_day(lake, 9, 8, 23)
    put_raw(lake, at(0, day=DAY + dt.timedelta(days=1)), raw_body(5))

    built = build(lake)

    assert built.rows.column("bikes").to_pylist() == [8, 1, 9, 1, 23, 1]
    assert built.rows.column("file_timestamp").to_pylist()[::2] == [at(8), at(9), at(23)]
    assert built.rows.column("s3_source_key").to_pylist()[::2] == [lake.keys.raw(at(hour)) for hour in (8, 9, 23)]
    stored = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert stored is not None
    assert stored.rows.equals(built.rows)
    assert stored.manifest == built.manifest
    assert stored.info.etag == built.info.etag
    assert built.layer is Layer.PROCESSED


def test_the_manifest_accounts_for_every_object_and_row(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("15001"), row("15001"), BAD_ROW))
    put_raw(lake, at(9), b"<html>503</html>")
    put_raw(lake, at(10), HEADER)
    odd = f"{lake.keys.raw_day(DAY)}notes.txt"
    lake.store.put(odd, raw_body(1), content_type="text/plain")

    built = build(lake)

    etags = {info.key: info.etag for info in lake.raw_listing(DAY)}
    expected = [
        Source(odd, etags[odd], fault="wrong_key"),
        Source(lake.keys.raw(at(8)), etags[lake.keys.raw(at(8))], rows=3, kept=1, dead=1, duplicates=1),
        Source(lake.keys.raw(at(9)), etags[lake.keys.raw(at(9))], fault="html"),
        Source(lake.keys.raw(at(10)), etags[lake.keys.raw(at(10))], fault="header_only"),
    ]
    assert list(built.manifest.sources) == expected
    assert built.manifest.code_version == recorded_code_version(PROCESSED_CODE_VERSION, FORMAT.contract.stamp)
    assert built.read == 4


def test_a_day_without_raw_data_names_the_prefix_and_what_to_check(lake: Lake) -> None:
    with pytest.raises(NoRawDataError) as caught:
        build(lake)

    assert f"nothing lies under s3://{lake.store.bucket}/{lake.keys.raw_day(DAY)}" in str(caught.value)
    assert "WRM_STATIONS_S3_PREFIX" in str(caught.value)
    assert lake.store.puts == []  # type: ignore[attr-defined]


def test_a_day_of_whole_file_faults_is_stored_without_rows(lake: Lake) -> None:
    put_raw(lake, at(8), b"<html>")

    assert build(lake).rows.num_rows == 0
    assert requests_of(lake)[0].build is Build.UNCHANGED


# --- What a build costs -----------------------------------------------------------------------------------------------


def test_a_full_build_reads_each_object_once_and_writes_once(lake: Lake) -> None:
    put_day(lake, *range(5))

    built, requests = requests_of(lake)

    # One GET finds that there is no day yet; two listings, before the build and after the write.
    assert requests == {"list": 2, "get": 5 + 1, "put": 1}
    assert (built.build, built.read) == (Build.FULL, 5)


def test_a_new_snapshot_costs_its_own_get_and_the_stored_day(lake: Lake) -> None:
    put_day(lake, *range(5))
    build(lake)
    put_day(lake, 7, 6)

    built, requests = requests_of(lake)

    assert requests == {"list": 2, "get": 2 + 1, "put": 1}
    assert (built.build, built.read) == (Build.INCREMENTAL, 2)
    assert len(built.manifest.sources) == 7


def test_a_day_that_is_up_to_date_is_not_written_again(lake: Lake) -> None:
    put_day(lake, 8, 9)
    first = build(lake)

    built, requests = requests_of(lake)

    assert requests == {"list": 2, "get": 1}
    assert (built.build, built.read) == (Build.UNCHANGED, 0)
    assert built.info.etag == first.info.etag
    assert built.rows.equals(first.rows)


# --- The same bytes ---------------------------------------------------------------------------------------------------


def test_a_snapshot_that_arrives_late_gives_the_bytes_of_one_that_was_in_time(lake: Lake) -> None:
    put_day(lake, 8, 10)
    build(lake)
    put_day(lake, 9)

    late = build(lake)

    assert late.build is Build.INCREMENTAL
    assert late.rows.column("bikes").to_pylist()[::2] == [8, 9, 10]
    assert late.info.etag == rebuilt_from_nothing(lake)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda body: body.hex().encode(), id="garbage"),
        pytest.param(lambda body: body[:0], id="nothing"),
        pytest.param(lambda body: body[: len(body) // 2], id="cut in half"),
        pytest.param(lambda body: body[:-8] + b"\0" * 8, id="no footer"),
    ],
)
def test_a_damaged_day_is_rebuilt_to_the_same_bytes(
    lake: Lake, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    put_day(lake, 8, 9)
    good = build(lake).info
    lake.store.put(good.key, damage(lake.store.get(good.key).body), content_type="x")

    with caplog.at_level(logging.WARNING):
        built = build(lake)

    assert (built.build, built.read, built.info.etag) == (Build.FULL, 2, good.etag)
    assert "is damaged and will be built anew" in caplog.text


def test_a_day_damaged_at_rest_is_rebuilt_to_the_same_bytes(lake: Lake, store_settings: StoreSettings) -> None:
    put_day(lake, 8)
    good = build(lake).info
    client = build_client(store_settings)
    body = bytearray(lake.store.get(good.key).body)
    body[200] ^= 1
    client.put_object(Bucket=lake.store.bucket, Key=good.key, Body=bytes(body), Metadata=dict(good.metadata))
    client.close()

    assert build(lake).info.etag == good.etag == etag_of(lake)


def test_a_parquet_object_of_another_program_is_rebuilt(lake: Lake) -> None:
    put_day(lake, 8)
    good = build(lake).info
    sink = pa.BufferOutputStream()
    with pa.parquet.ParquetWriter(sink, pa.schema([("station_id", pa.int64())])) as writer:
        writer.write_table(pa.table({"station_id": [1, 2]}))
    lake.store.put(good.key, sink.getvalue().to_pybytes(), content_type="x")

    assert build(lake).info.etag == good.etag


def test_a_day_of_an_older_code_version_is_read_again_from_raw(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put_day(lake, 8, 9)
    today = build(lake).info.etag
    with monkeypatch.context() as past:
        past.setattr(processed, "PROCESSED_CODE_VERSION", "0")
        assert rebuilt_from_nothing(lake) != today

    built, requests = requests_of(lake)

    assert (built.build, built.info.etag) == (Build.FULL, today)
    assert requests["get"] == 2 + 1


def test_a_raw_object_replaced_by_hand_leaves_no_row_behind(lake: Lake) -> None:
    put_day(lake, 8, 9)
    build(lake)
    put_raw(lake, at(8), raw_body(77))

    built = build(lake)

    assert built.build is Build.FULL
    assert built.rows.column("bikes").to_pylist()[::2] == [77, 9]
    assert built.info.etag == rebuilt_from_nothing(lake)


def test_a_raw_object_removed_by_hand_takes_its_rows_with_it(lake: Lake) -> None:
    put_day(lake, 8, 9)
    build(lake)
    lake.store.delete(lake.keys.raw(at(8)))

    assert build(lake).rows.column("bikes").to_pylist()[::2] == [9]


# --- While other things happen ----------------------------------------------------------------------------------------


def test_a_snapshot_that_lands_during_a_build_is_in_the_day(lake: Lake, watched: WatchedStore) -> None:
    """Without the second listing it would wait for the next snapshot, and the last one of a day for ever."""
    put_day(lake, 8)
    watched.before_put("/processed/", lambda: put_day(lake, 9), lambda: put_day(lake, 7))

    built = build(lake)

    assert built.rows.column("bikes").to_pylist()[::2] == [7, 8, 9]
    assert (built.build, built.read) == (Build.FULL, 3)
    assert built.info.etag == etag_of(lake) == rebuilt_from_nothing(lake)


def test_a_snapshot_that_lands_during_an_incremental_build_is_in_the_day(lake: Lake, watched: WatchedStore) -> None:
    put_day(lake, 8)
    build(lake)
    put_day(lake, 9)
    watched.before_put("/processed/", lambda: put_day(lake, 10))

    built = build(lake)

    assert (built.build, built.read) == (Build.INCREMENTAL, 2)
    assert built.info.etag == etag_of(lake) == rebuilt_from_nothing(lake)


def test_a_raw_object_replaced_during_a_build_leaves_no_row_behind(lake: Lake, watched: WatchedStore) -> None:
    put_day(lake, 8, 9)
    watched.before_put("/processed/", lambda: put_raw(lake, at(8), raw_body(77)))

    built = build(lake)

    assert built.rows.column("bikes").to_pylist()[::2] == [77, 9]
    assert built.info.etag == rebuilt_from_nothing(lake)


def test_another_run_that_overtakes_this_one_is_not_undone(lake: Lake, watched: WatchedStore) -> None:
    """This run has listed one object; before its PUT another run adds a second one and stores the day of two."""
    put_day(lake, 8)

    def overtake() -> None:
        put_day(lake, 9)
        assert len(build(lake, by("run-2")).manifest.sources) == 2

    watched.before_put("/processed/", overtake)

    assert len(build(lake).manifest.sources) == 2
    assert etag_of(lake) == rebuilt_from_nothing(lake)


def test_runs_at_the_same_time_end_with_the_full_day(lake: Lake) -> None:
    start = threading.Barrier(4)

    def arrive_and_build(number: int) -> None:
        start.wait()
        for hour in range(number, 20, 4):
            put_day(lake, hour)
            build(lake, by(f"run-{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(arrive_and_build, range(4)))

    stored = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert stored is not None
    assert stored.rows.column("bikes").to_pylist()[::2] == list(range(20))
    assert stored.info.etag == rebuilt_from_nothing(lake)


def test_raw_that_never_stands_still_is_an_error_and_what_was_read_is_stored(lake: Lake, watched: WatchedStore) -> None:
    put_day(lake, 0)
    watched.before_put("/processed/", *(lambda hour=hour: put_day(lake, hour) for hour in range(1, PASSES + 1)))

    with pytest.raises(RawKeepsChangingError, match=f"during each of {PASSES} passes"):
        build(lake)

    stored = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert stored is not None
    assert len(stored.manifest.sources) == PASSES
    assert build(lake).rows.column("bikes").to_pylist()[::2] == list(range(PASSES + 1))


# --- Dead letters -----------------------------------------------------------------------------------------------------


def test_a_bad_row_is_a_letter_that_says_everything(lake: Lake) -> None:
    source = put_raw(lake, at(8), WITH_A_BAD_ROW)

    built = build(lake)

    (letter,) = letters_of(lake, DAY)
    assert built.letters == (letter,)
    assert letter == DeadLetter(
        id=letter_id(source.key, Stage.PROCESSED),
        source_key=source.key,
        source_sha256=source.metadata["sha256"],
        partition=DAY,
        stage=Stage.PROCESSED,
        asset="wrm_stations_processed_data_all",
        run_id="run-1",
        code_version=recorded_code_version(PROCESSED_CODE_VERSION, FORMAT.contract.stamp),
        contract_version=FORMAT.contract.stamp,
        first_seen=NOW,
        last_seen=NOW,
        status=Status.PENDING,
        records=letter.records,
    )
    (record,) = letter.records
    assert (record.line, record.row, record.error_class) == (3, BAD_ROW.decode(), "BadRow")
    assert (record.rule, record.message) == (
        "not_a_number",
        "bikes: 'x' is not a whole number of at most nine digits",
    )


def test_a_whole_file_is_one_letter_that_points_to_it(lake: Lake) -> None:
    source = put_raw(lake, at(8), b"<html>503</html>")

    build(lake)

    (letter,) = letters_of(lake, DAY)
    (record,) = letter.records
    assert (record.line, record.row, record.pointer) == (None, None, source.key)
    assert (record.rule, record.error_class) == ("html", "BadFile")
    assert record.message == "a web page came instead of the feed, beginning '<html>503</html>'"


def test_rows_that_are_not_utf8_or_too_long_are_kept_in_their_own_ways(lake: Lake) -> None:
    latin = row("15002", name="Główny").replace("ł".encode(), b"\xb3")
    source = put_raw(lake, at(8), payload(row("15001"), latin, row("15003", name="x" * 70_000, bikes="x"), end=b"\n"))

    build(lake)

    (letter,) = letters_of(lake, DAY)
    first, second = letter.records
    assert (first.rule, first.row, first.row_base64 is None) == ("bad_encoding", None, False)
    assert (second.rule, second.row, second.pointer) == ("not_a_number", None, f"{source.key}#line=4")


def test_a_letter_of_an_object_of_an_older_lake_has_the_checksum_of_its_bytes(
    lake: Lake, store_settings: StoreSettings
) -> None:
    """Older deployments stored no sha256 beside the object."""
    client = build_client(store_settings)
    client.put_object(Bucket=lake.store.bucket, Key=lake.keys.raw(at(8)), Body=WITH_A_BAD_ROW)
    client.close()
    put_raw(lake, at(9), WITH_A_BAD_ROW)

    build(lake)

    assert len({letter.source_sha256 for letter in letters_of(lake, DAY)}) == 1


def test_letters_are_stored_before_the_day_that_leaves_their_rows_out(lake: Lake, watched: WatchedStore) -> None:
    put_raw(lake, at(8), WITH_A_BAD_ROW)
    put_raw(lake, at(9), b"<html>")
    watched.puts.clear()

    build(lake)

    assert ["dlq" if "/dlq/" in key else "processed" for key in watched.puts] == ["dlq", "dlq", "processed"]


def test_a_day_is_not_stored_when_its_letters_cannot_be(lake: Lake, proxied: StoreSettings, proxy: FaultProxy) -> None:
    put_raw(lake, at(8), WITH_A_BAD_ROW)
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="/dlq/")

    with ObjectStore(proxied) as behind, pytest.raises(StoreRefused):
        build(Lake(behind, lake.keys))

    assert lake.store.head(lake.keys.layer_object(Layer.PROCESSED, DAY)) is None


def test_building_again_overwrites_letters_and_keeps_when_they_were_first_seen(lake: Lake) -> None:
    put_raw(lake, at(8), WITH_A_BAD_ROW)
    build(lake)
    lake.store.delete(lake.keys.layer_object(Layer.PROCESSED, DAY))
    later = NOW + dt.timedelta(days=1)

    build(lake, by("run-2", later))

    (letter,) = letters_of(lake, DAY)
    assert (letter.first_seen, letter.last_seen, letter.run_id) == (NOW, later, "run-2")


def test_an_incremental_build_touches_the_letters_of_new_objects_only(lake: Lake, watched: WatchedStore) -> None:
    put_raw(lake, at(8), WITH_A_BAD_ROW)
    build(lake)
    new = put_raw(lake, at(9), WITH_A_BAD_ROW)
    watched.puts.clear()

    built = build(lake)

    (letter,) = built.letters
    assert (letter.id, letter.source_key) == (letter_id(new.key, Stage.PROCESSED), new.key)
    assert watched.puts == [lake.keys.dead_letter(DAY, letter.id), lake.keys.layer_object(Layer.PROCESSED, DAY)]
    assert len(letters_of(lake, DAY)) == 2


def test_a_damaged_letter_does_not_stop_a_build_and_is_kept_as_it_is(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    put_raw(lake, at(8), WITH_A_BAD_ROW)
    (letter,) = build(lake).letters
    key = lake.keys.dead_letter(DAY, letter.id)
    lake.store.put(key, b"{", content_type="application/json")
    before = etag_of(lake)
    lake.store.delete(lake.keys.layer_object(Layer.PROCESSED, DAY))

    built = build(lake)

    assert built.letters == (letter,)
    assert etag_of(lake) == before
    assert lake.store.get(key).body == b"{"
    assert [record.levelname for record in caplog.records if key in record.getMessage()] == ["WARNING"]


# --- Merging ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_merging_puts_each_row_where_its_source_belongs(pieces: list[tuple[int, bool]]) -> None:
    """Pieces: how many rows each source of a day keeps, and whether it is a new one."""
    sources = [Source(f"k{n:02}", "e", rows=kept, kept=kept) for n, (kept, _) in enumerate(pieces)]
    new = {source.key for source, (_, is_new) in zip(sources, pieces, strict=True) if is_new}

    def rows_of(chosen: list[Source]) -> pa.Table:
        return pa.table({"key": pa.array([s.key for s in chosen for _ in range(s.kept)], type=pa.string())})

    old_sources, new_sources = [s for s in sources if s.key not in new], [s for s in sources if s.key in new]
    rows, merged = merge(rows_of(old_sources), tuple(old_sources), rows_of(new_sources), tuple(new_sources))

    assert merged == tuple(sources)
    assert rows.equals(rows_of(sources))

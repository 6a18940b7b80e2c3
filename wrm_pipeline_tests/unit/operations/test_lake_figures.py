"""What the exporter says of the lake, and that it reads again only what has changed."""

import datetime as dt
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.dead_letters import Status, list_letters, read_letter, store_letter
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreUnavailable
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.operations.lake_figures import (
    LakeFigures,
    LakeReader,
    certificate_expiries,
    free_ratios,
    station_state,
)
from wrm_pipeline.resilience import RetryPolicy
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.certificates import loopback_tls
from wrm_pipeline_tests.fixtures.dagster import DAY, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import FaultProxy
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

NEXT_DAY = DAY + dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def reader(lake: Lake) -> LakeReader:
    return LakeReader(lake, CONTRACTS)


def build(lake: Lake, day: dt.date = DAY) -> None:
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, Provenance(run_id="r", asset="a"))


def test_an_empty_lake_says_nothing(reader: LakeReader) -> None:
    assert reader.read(at(12)) == LakeFigures(None, None, None, None, None, {})


def test_the_newest_snapshot_is_that_of_raw_however_old_it_is(lake: Lake, reader: LakeReader) -> None:
    put_raw(lake, at(9, day=DAY - dt.timedelta(days=40)))
    assert reader.read(at(12)).newest_snapshot == at(9, day=DAY - dt.timedelta(days=40))
    put_raw(lake, at(8))
    put_raw(lake, at(9))

    assert reader.read(at(12)).newest_snapshot == at(9)


def test_the_city_is_counted_by_state_and_place(lake: Lake, reader: LakeReader) -> None:
    put_raw(lake, at(8))
    put_raw(lake, at(9))
    build(lake)

    city = reader.read(at(9, 1)).city

    lines = [line.split(b",") for line in snapshot(1, at(9)).splitlines()[1:]]
    stations = [line for line in lines if line[0].isdigit()]
    assert city is not None
    assert (city.time, city.rows, city.stations, city.usual_stations) == (
        at(9),
        len(lines),
        len(stations),
        len(stations),
    )
    assert sum(city.states.values()) == len(stations)
    assert sum(count > 0 for count in city.states.values()) >= 4
    assert city.bikes["off_zone"] == 60  # the simulated depot
    assert city.bikes["free"] == len(lines) - len(stations) - 60
    assert city.bikes["station"] > len(stations)


@pytest.mark.parametrize(
    ("bikes", "docks", "state"),
    [(0, 0, "no_docks"), (3, 0, "no_docks"), (0, 10, "empty"), (1, 10, "low"), (2, 10, "ok"), (9, 10, "ok"),
     (10, 10, "full"), (1, 1, "full"), (11, 10, "overfull")],
)  # fmt: skip
def test_states_are_those_of_the_marts(bikes: int, docks: int, state: str) -> None:
    assert station_state(bikes, docks) == state


def test_the_city_is_that_of_the_marts(pipeline: Pipeline) -> None:
    """Both say what empty and full mean; they must not drift apart."""
    put_raw(pipeline.lake, at(9))
    assert pipeline.process(DAY).success
    assert pipeline.marts().success
    stored = pipeline.lake.store.get(pipeline.lake.keys.mart("mv_station_latest"))
    stations = pq.ParquetFile(pa.BufferReader(stored.body)).read().to_pylist()

    city = LakeReader(pipeline.lake, CONTRACTS).read(at(9, 1)).city

    assert city is not None
    assert {state: count for state, count in city.states.items() if count} == Counter(s["state"] for s in stations)
    assert city.bikes["station"] == sum(station["bikes"] for station in stations)


def test_a_partial_snapshot_is_seen_against_the_24_hours_before_it(lake: Lake, reader: LakeReader) -> None:
    for hour in (20, 21, 22):
        put_raw(lake, at(hour))
    build(lake)
    body = snapshot(1, at(0, 5, day=NEXT_DAY)).splitlines()
    put_raw(lake, at(0, 5, day=NEXT_DAY), b"\n".join(body[:101]))
    build(lake, NEXT_DAY)

    city = reader.read(at(0, 6, day=NEXT_DAY)).city

    whole = sum(line.partition(b",")[0].isdigit() for line in snapshot(1, at(22)).splitlines()[1:])
    assert city is not None
    assert (city.stations, city.usual_stations) == (100, whole)


def frozen(body: bytes, seconds: int) -> bytes:
    """Return a snapshot with other times and the same content."""
    time = body.splitlines()[1].split(b",")[1].partition(b".")[0]
    return body.replace(time, str(int(time) + seconds).encode())


def test_a_feed_in_which_only_times_change_stands_still_since_the_first_such_snapshot(
    lake: Lake, reader: LakeReader
) -> None:
    put_raw(lake, at(23, 40))
    body = snapshot(1, at(23, 50))
    put_raw(lake, at(23, 50), body)
    build(lake)
    assert reader.read(at(23, 51)).unchanged_since == at(23, 50)
    put_raw(lake, at(23, 55), frozen(body, 300))
    build(lake)
    assert reader.read(at(23, 56)).unchanged_since == at(23, 50)
    put_raw(lake, at(0, 5, day=NEXT_DAY), frozen(body, 900))
    build(lake, NEXT_DAY)

    assert reader.read(at(0, 6, day=NEXT_DAY)).unchanged_since == at(23, 50)  # midnight is no change

    put_raw(lake, at(0, 10, day=NEXT_DAY))
    build(lake, NEXT_DAY)
    assert reader.read(at(0, 11, day=NEXT_DAY)).unchanged_since == at(0, 10, day=NEXT_DAY)


@pytest.mark.parametrize(
    ("snapshots", "now", "covered"),
    [
        ([at(8), at(8, 5), at(8, 10)], at(8, 10), 1.0),
        ([at(8), at(8, 20)], at(8, 20), 0.5),  # a snapshot speaks for two polling intervals, 10 minutes
        ([at(8)], at(9, 40), 0.1),
        ([at(8), at(8, day=NEXT_DAY)], at(8, 10, day=NEXT_DAY), 10 / (24 * 60)),
        ([at(8, day=DAY - dt.timedelta(days=3))], at(8), 0.0),
    ],
    ids=["no gap", "a gap of two polls", "nothing for long", "a gap of a day", "nothing for days"],
)
def test_coverage_is_the_share_of_24_hours_or_of_a_younger_lakes_life(
    lake: Lake, reader: LakeReader, snapshots: list[dt.datetime], now: dt.datetime, covered: float
) -> None:
    for time in snapshots:
        put_raw(lake, time)

    assert reader.read(now).coverage == pytest.approx(covered)


def test_dead_letters_are_counted_by_rule_and_status_for_seven_days(lake: Lake, reader: LakeReader) -> None:
    for back in (0, 6, 7):
        day = DAY - dt.timedelta(days=back)
        put_raw(lake, at(9, day=day), with_bad_rows(snapshot(1, at(9, day=day)), 4, 0))
        build(lake, day)

    figures = reader.read(at(12))

    assert sum(figures.dead_letters.values()) == 8
    assert {status for _, status in figures.dead_letters} == {"pending_reprocessing"}
    (key,) = list_letters(lake.store, lake.keys, DAY)
    letter = read_letter(lake.store, key)
    store_letter(lake.store, lake.keys, letter.model_copy(update={"status": Status.REPROCESSED}))
    after = reader.read(at(12))
    by_status = {status: 0 for _, status in after.dead_letters}
    for (_, status), count in after.dead_letters.items():
        by_status[status] += count
    assert by_status == {"pending_reprocessing": 4, "reprocessed": 4}


def test_the_ratio_is_that_of_the_newest_day(lake: Lake, reader: LakeReader) -> None:
    put_raw(lake, at(9), with_bad_rows(snapshot(1, at(9)), 4, 0))
    build(lake)
    figures = reader.read(at(12))

    assert figures.city is not None
    assert figures.dead_letter_ratio == pytest.approx(4 / (figures.city.rows + 4))


def test_a_letter_that_cannot_be_read_counts_nothing_and_hides_no_other(lake: Lake, reader: LakeReader) -> None:
    put_raw(lake, at(9), with_bad_rows(snapshot(1, at(9)), 4, 0))
    build(lake)
    lake.store.put(lake.keys.dead_letter(DAY, "damaged"), b"{", content_type="application/json")

    assert sum(reader.read(at(12)).dead_letters.values()) == 4


def test_what_has_not_changed_is_not_read_again(lake: Lake, reader: LakeReader) -> None:
    put_raw(lake, at(9), with_bad_rows(snapshot(1, at(9)), 4, 0))
    build(lake)
    first = reader.read(at(12))
    before = lake.store.traffic.snapshot()
    second = reader.read(at(12))
    spent = lake.store.traffic.snapshot() - before

    assert second == first
    assert spent.requests["get"] == 0
    assert sum(spent.requests.values()) <= 6
    put_raw(lake, at(9, 5))
    build(lake)
    before = lake.store.traffic.snapshot()
    reader.read(at(12))
    assert (lake.store.traffic.snapshot() - before).requests["get"] == 1  # the day


def test_a_store_that_is_down_is_an_error(lake: Lake, store_settings: StoreSettings) -> None:
    gone = ObjectStore(replace(store_settings, endpoint_url="http://127.0.0.1:1"), policy=RetryPolicy(attempts=1))
    with gone, pytest.raises(StoreUnavailable):
        LakeReader(Lake(gone, lake.keys), CONTRACTS).read(at(12))


def test_a_disk_is_shown_once_by_the_first_path_on_it(tmp_path: Path) -> None:
    found = free_ratios([tmp_path / "not yet" / "there", tmp_path, Path("/proc")])

    (here, ratio), *_ = found.items()
    assert here == str(tmp_path / "not yet" / "there")
    assert 0 < ratio <= 1
    assert str(tmp_path) not in found


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[str, float]]:
    """An https address and when its certificate, of an authority that nobody knows, expires."""
    with FaultProxy("http://127.0.0.1:1", tls=loopback_tls(tmp_path).server) as proxy:
        pem = ssl.get_server_certificate(("127.0.0.1", proxy.port))
        path = tmp_path / "server.pem"
        path.write_text(pem)
        decoded = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
        yield proxy.url, float(ssl.cert_time_to_seconds(decoded["notAfter"]))


def test_a_certificate_has_a_date_whoever_signed_it(endpoint: tuple[str, float]) -> None:
    url, expires_at = endpoint

    assert certificate_expiries([url, "http://127.0.0.1:1", "https://127.0.0.1:1"]) == {url: expires_at}

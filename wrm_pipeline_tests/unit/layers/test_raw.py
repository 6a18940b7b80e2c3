"""Raw on a real store: bytes as they came, once; what is no snapshot lies beside a dead letter."""

import datetime as dt
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.lake.dead_letters import Stage, letter_id
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.raw import KeptSnapshot, NotASnapshotError, keep_snapshot
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline_tests.fixtures.dagster import contents, letters_of
from wrm_pipeline_tests.fixtures.snapshots import FORMAT, payload, row

TIME = dt.datetime(2025, 5, 12, 18, 10, 0, 250_000, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
WHO = Provenance("run-1", "wrm_stations_raw_data", lambda: TIME + SECOND)


def body(number: int = 0) -> bytes:
    return b"\xef\xbb\xbf" + payload(row(bikes=str(number)), b"a bad row", end=b"\r\n")


def keep(lake: Lake, data: bytes, time: dt.datetime = TIME) -> KeptSnapshot:
    return keep_snapshot(lake, FORMAT, data, time, WHO)


def raw_names(lake: Lake) -> list[str]:
    return [key.rpartition("/")[2] for key in contents(lake, "raw/")]


def test_bytes_are_kept_as_they_came_under_the_second_they_were_fetched(lake: Lake) -> None:
    """BOM, line ends and bad rows too: raw is what the feed said."""
    kept = keep(lake, body())

    assert kept.info.key == lake.keys.raw(TIME)
    assert lake.store.get(kept.info.key).body == body()
    assert kept.time == TIME.replace(microsecond=0)
    assert (kept.sha256, kept.size) == (hashlib.sha256(body()).hexdigest(), len(body()))
    assert not kept.duplicate


def test_the_key_is_in_utc_whatever_zone_the_clock_has(lake: Lake) -> None:
    local = dt.datetime(2025, 5, 13, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))

    assert keep(lake, body(), local).info.key == lake.keys.raw(dt.datetime(2025, 5, 12, 22, 30, tzinfo=dt.UTC))


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(dt.timedelta(minutes=5), id="five minutes"),
        pytest.param(dt.timedelta(hours=6), id="past midnight"),
        pytest.param(dt.timedelta(days=10), id="after an outage of ten days"),
    ],
)
def test_bytes_equal_to_the_newest_raw_object_are_not_stored_again(lake: Lake, later: dt.timedelta) -> None:
    first = keep(lake, body())

    again = keep(lake, body(), TIME + later)

    assert again.duplicate
    assert (again.info.key, again.time, again.sha256, again.size) == (
        first.info.key,
        first.time,
        first.sha256,
        first.size,
    )
    assert raw_names(lake) == ["wrm_stations_2025-05-12_18-10-00.txt"]


def test_bytes_of_the_same_length_but_not_equal_are_stored(lake: Lake) -> None:
    keep(lake, body(1))

    assert not keep(lake, body(2), TIME + dt.timedelta(minutes=5)).duplicate
    assert len(raw_names(lake)) == 2


def test_bytes_equal_to_an_older_object_are_stored(lake: Lake) -> None:
    """The city may return to what it was: only a feed that stands still is a duplicate."""
    for minute, number in enumerate([1, 2, 1]):
        assert not keep(lake, body(number), TIME + dt.timedelta(minutes=minute)).duplicate

    assert len(raw_names(lake)) == 3


def test_another_snapshot_of_the_same_second_gets_the_next_free_one(lake: Lake) -> None:
    for number in range(3):
        kept = keep(lake, body(number))

        assert kept.time == TIME.replace(microsecond=0) + number * SECOND
        assert lake.store.get(lake.keys.raw(kept.time)).body == body(number)
    assert raw_names(lake)[-1] == "wrm_stations_2025-05-12_18-10-02.txt"


def test_the_next_free_second_may_be_tomorrow(lake: Lake) -> None:
    last = dt.datetime(2025, 5, 12, 23, 59, 59, tzinfo=dt.UTC)
    keep(lake, body(1), last)

    assert keep(lake, body(2), last).info.key == lake.keys.raw(dt.datetime(2025, 5, 13, tzinfo=dt.UTC))


def test_the_bytes_that_hold_the_second_already_are_not_stored_under_the_next_one(lake: Lake) -> None:
    """A retried run: its bytes are there, but another snapshot is newer."""
    keep(lake, body(1))
    keep(lake, body(2), TIME + SECOND)

    again = keep(lake, body(1))

    assert (again.duplicate, again.info.key, again.time) == (True, lake.keys.raw(TIME), TIME.replace(microsecond=0))
    assert len(raw_names(lake)) == 2


def test_a_raw_object_is_never_changed(lake: Lake) -> None:
    first = keep(lake, body(1)).info

    keep(lake, body(2))

    assert lake.store.get(first.key).body == body(1)


def test_runs_at_the_same_moment_lose_no_snapshot(lake: Lake) -> None:
    start = threading.Barrier(6)

    def run(number: int) -> str:
        start.wait()
        return keep(lake, body(number)).info.key

    with ThreadPoolExecutor(6) as pool:
        keys = list(pool.map(run, range(6)))

    assert [lake.store.get(key).body for key in keys] == [body(number) for number in range(6)]


def test_a_minute_without_a_free_second_is_an_error_that_says_what_to_check(lake: Lake) -> None:
    for offset in range(60):
        lake.store.put(lake.keys.raw(TIME + offset * SECOND), b"%d" % offset, content_type="text/plain")

    with pytest.raises(LayerError, match="a snapshot for each of the 60 seconds") as caught:
        keep(lake, body())

    assert "Check what polls the feed that often" in str(caught.value)


NO_SNAPSHOTS = {
    "html": (b"<html>503</html>", "a web page came instead of the feed"),
    "empty": (b"", "0 bytes came and none of them is text"),
    "header_only": (HEADER, "the header came without a single row"),
    "wrong_header": (b'{"stations": []}', "not the header of the format"),
    "cut_off": (payload(row(), row("2")[:30]), "the transfer was cut off in the last row"),
}


@pytest.mark.parametrize(("kind", "data", "says"), [(kind, *rest) for kind, rest in NO_SNAPSHOTS.items()])
def test_what_is_no_snapshot_is_kept_beside_a_dead_letter_and_not_in_raw(
    lake: Lake, kind: str, data: bytes, says: str
) -> None:
    with pytest.raises(NotASnapshotError) as caught:
        keep(lake, data)

    payload_key = lake.keys.dead_payload(TIME.date(), hashlib.sha256(data).hexdigest())
    assert lake.store.get(payload_key).body == data
    assert raw_names(lake) == []
    (letter,) = letters_of(lake, TIME.date())
    assert (letter.id, letter.source_key) == (letter_id(payload_key, Stage.RAW), payload_key)
    assert (letter.stage, letter.asset, letter.run_id) == (Stage.RAW, "wrm_stations_raw_data", "run-1")
    assert letter.source_sha256 == hashlib.sha256(data).hexdigest()
    assert letter.partition == TIME.date()
    (record,) = letter.records
    assert (record.rule, record.pointer, record.line) == (kind, payload_key, None)
    assert says in record.message
    message = str(caught.value)
    assert f"({kind})" in message
    assert says in message
    assert f"Its {len(data)} bytes are kept at {lake.store.uri(payload_key)}" in message
    assert lake.store.uri(lake.keys.dead_letter(TIME.date(), letter.id)) in message


def test_a_feed_that_is_broken_all_day_leaves_one_letter_a_kind_of_answer(lake: Lake) -> None:
    for minute in range(3):
        with pytest.raises(NotASnapshotError):
            keep(lake, b"<html>503</html>", TIME + dt.timedelta(minutes=minute))

    assert len(letters_of(lake, TIME.date())) == 1


def test_the_next_good_snapshot_is_stored_as_if_nothing_had_happened(lake: Lake) -> None:
    with pytest.raises(NotASnapshotError):
        keep(lake, b"")

    assert not keep(lake, body()).duplicate

"""What the cache saves where the pipeline reads the same again, and that the bytes of a day do not depend on it."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wrm_pipeline.cache.cache import Cache
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.objects import ObjectCache
from wrm_pipeline.cache.redis_tier import RedisTier
from wrm_pipeline.cache.tiers import Tier
from wrm_pipeline.cli.local_servers import LocalRedis, free_port
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.lake.dead_letters import Stage, read_letters
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.processed import build_processed_day
from wrm_pipeline.layers.raw import keep_snapshot
from wrm_pipeline.layers.report import Build, Provenance
from wrm_pipeline.layers.trust import judge_day, require_trusted
from wrm_pipeline.resilience import OptionalRedis
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, put_raw
from wrm_pipeline_tests.fixtures.snapshots import FORMAT, payload, row
from wrm_pipeline_tests.fixtures.watched_store import watching

WHO = Provenance("run-1", "asset", lambda: at(23))
NOW = at(23)
MEGABYTE = 1024 * 1024
NewTier = Callable[[], Tier | None]


@pytest.fixture(params=["redis", "filesystem"])
def new_tier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewTier]:
    if request.param == "filesystem":
        yield lambda: FilesystemTier(tmp_path / "cache", max_bytes=64 * MEGABYTE, deadline_s=20.0)
        return
    server: LocalRedis = request.getfixturevalue("redis_server")
    yield lambda: RedisTier(OptionalRedis(server.url, deadline_s=20.0), max_bytes=64 * MEGABYTE)


@contextmanager
def process(settings: StoreSettings, tier: Tier | None) -> Iterator[Lake]:
    """Do what a process of its own does: it shares the tier with others, and its memory with nobody."""
    with watching(settings, cache=ObjectCache(Cache(tier))) as store:
        yield Lake(store, LakeKeys(store.prefix))


def ingest(settings: StoreSettings, tier: Tier | None, time: dt.datetime, body: bytes | None = None) -> Counter[str]:
    with process(settings, tier) as lake:
        keep_snapshot(lake, FORMAT, snapshot(1, time) if body is None else body, time, WHO)
        return lake.store.traffic.requests


def processing(settings: StoreSettings, tier: Tier | None) -> Counter[str]:
    """Do what the processing job does: both layers, their dead letters and their checks."""
    contracts = active_contracts()
    with process(settings, tier) as lake:
        build_processed_day(lake, FORMAT, DAY, WHO)
        build_enhanced_day(lake, FORMAT, contracts.enhanced, DAY, WHO)
        read_letters(lake.store, lake.keys, DAY)
        for layer in Layer:
            judge_day(lake, contracts, layer, DAY, now=NOW)
        return lake.store.traffic.requests


BAD = payload(row("15001"), b"a bad row", row("15002"))


def a_day(settings: StoreSettings, tier: Tier | None) -> Counter[str]:
    """Poll and process three times, the second time with a row that is set aside; return the last requests.

    The day before is there, as always but on the first day: its end is what the first snapshot is held against.
    """
    with process(settings, tier) as lake:
        yesterday = DAY - dt.timedelta(days=1)
        put_raw(lake, at(23, 55, day=yesterday))
        build_enhanced_day(lake, FORMAT, active_contracts().enhanced, yesterday, WHO)
    for minute, body in ((0, None), (5, BAD), (10, None)):
        ingest(settings, tier, at(8, minute), body)
        found = processing(settings, tier)
    return found


def test_a_warm_cache_saves_all_gets_of_an_incremental_run(store_settings: StoreSettings, new_tier: NewTier) -> None:
    a_day(store_settings, new_tier())

    assert ingest(store_settings, new_tier(), at(8, 15))["get"] == 0
    warm = processing(store_settings, new_tier())

    assert warm["get"] == 0
    with process(store_settings, None) as lake:
        assert build_processed_day(lake, FORMAT, DAY, WHO).build is Build.UNCHANGED


def test_snapshots_from_elsewhere_are_the_only_gets(
    lake: Lake, store_settings: StoreSettings, new_tier: NewTier
) -> None:
    a_day(store_settings, new_tier())
    for minute in (15, 20, 25):
        put_raw(lake, at(8, minute))

    assert processing(store_settings, new_tier())["get"] == 3


def test_without_a_cache_the_same_run_reads_the_same_again_and_again(lake: Lake, store_settings: StoreSettings) -> None:
    """So that the counts above mean something."""
    a_day(store_settings, None)
    before = lake.store.traffic.snapshot()
    put_raw(lake, at(8, 15))
    contracts = active_contracts()
    build_processed_day(lake, FORMAT, DAY, WHO)
    build_enhanced_day(lake, FORMAT, contracts.enhanced, DAY, WHO)
    read_letters(lake.store, lake.keys, DAY)
    for layer in Layer:
        judge_day(lake, contracts, layer, DAY, now=NOW)

    plain = (lake.store.traffic.snapshot() - before).requests
    put_raw(lake, at(8, 20))
    in_one_process = processing(store_settings, None)

    assert plain["get"] >= 6
    assert in_one_process["get"] <= plain["get"] - 3


def test_no_more_listings_are_made_for_it(store_settings: StoreSettings, new_tier: NewTier) -> None:
    with_cache = a_day(store_settings, new_tier())
    ingest(store_settings, None, at(8, 15))
    without = processing(store_settings, None)

    assert with_cache["list"] == without["list"]
    assert with_cache["put"] == without["put"]


def test_a_feed_that_stands_still_is_not_read_back(store_settings: StoreSettings, new_tier: NewTier) -> None:
    body = snapshot(1, at(8))
    ingest(store_settings, new_tier(), at(8), body)

    assert ingest(store_settings, new_tier(), at(8, 5), body) == {"list": 1}


def test_a_day_that_is_looked_at_again_is_read_once(store_settings: StoreSettings, new_tier: NewTier) -> None:
    a_day(store_settings, new_tier())
    contracts = active_contracts()
    with process(store_settings, new_tier()) as lake:
        expected = require_trusted(lake, contracts, DAY)
        again = require_trusted(lake, contracts, DAY)
        assert lake.store.traffic.requests["get"] == 0
    with process(store_settings, None) as lake:
        fetched = require_trusted(lake, contracts, DAY)

    assert expected.rows.equals(fetched.rows)
    assert (expected.manifest, expected.info) == (fetched.manifest, again.info)


def poison_files(directory: Path) -> int:
    """Change a byte in the middle of each value of a cache directory; return how many there are."""
    values = list(directory.glob("value-*"))
    for path in values:
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
    return len(values)


def test_the_bytes_are_the_same_with_a_cache_warm_poisoned_broken_or_absent(
    store_settings: StoreSettings, lake: Lake, tmp_path: Path
) -> None:
    directory = tmp_path / "cache"

    def warm() -> Tier:
        return FilesystemTier(directory, max_bytes=64 * MEGABYTE, deadline_s=20.0)

    def broken() -> Tier:
        return RedisTier(OptionalRedis(f"redis://127.0.0.1:{free_port()}/0"), max_bytes=MEGABYTE)

    a_day(store_settings, warm())
    expected = contents(lake)
    assert any(key.startswith("dlq/") for key in expected)

    def rebuilt(tier: Tier | None) -> dict[str, str]:
        """Process the day as if the last snapshot had just come: its letters, processed and enhanced."""
        for layer in Layer:
            lake.store.delete(lake.keys.layer_object(layer, DAY))
        processing(store_settings, tier)
        processing(store_settings, tier)
        return contents(lake)

    assert rebuilt(warm()) == expected
    assert poison_files(directory) >= 4
    assert rebuilt(warm()) == expected
    assert rebuilt(broken()) == expected
    assert rebuilt(None) == expected


def test_a_day_replaced_by_another_hand_is_not_taken_from_the_cache(
    lake: Lake, store_settings: StoreSettings, new_tier: NewTier
) -> None:
    """A stale copy would let a build start from rows that the store no longer has."""
    a_day(store_settings, new_tier())
    put_raw(lake, at(9))
    other = build_processed_day(lake, FORMAT, DAY, WHO)  # another machine, with no cache or one of its own

    with process(store_settings, new_tier()) as here:
        built = build_processed_day(here, FORMAT, DAY, WHO)

    assert built.build is Build.UNCHANGED
    assert built.info.etag == other.info.etag
    assert built.rows.equals(other.rows)


def test_a_letter_that_was_edited_is_read_again(lake: Lake, store_settings: StoreSettings, new_tier: NewTier) -> None:
    a_day(store_settings, new_tier())
    ((letter,), _) = read_letters(lake.store, lake.keys, DAY)
    key = lake.keys.dead_letter(DAY, letter.id)
    text = lake.store.get(key).body.replace(b'"run_id": "run-1"', b'"run_id": "by-hand"')
    lake.store.put(key, text, content_type="application/json")

    with process(store_settings, new_tier()) as here:
        ((found,), _) = read_letters(here.store, here.keys, DAY)

    assert (found.stage, found.run_id) == (Stage.PROCESSED, "by-hand")

"""The cache over its tiers: what is fresh, stale and dead, who builds, and what is counted."""

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.frame import ARROW, BYTES, JSON
from wrm_pipeline.cache.redis_tier import RedisTier
from wrm_pipeline.cache.tiers import Release, Tier
from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.resilience import OptionalRedis

PATIENT_S = 20.0
MEGABYTE = 1024 * 1024
KEY = cache_key("test", "what it depends on")
NewTier = Callable[[], Tier]


class Clock:
    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def redis_tier(url: str) -> Tier:
    return RedisTier(OptionalRedis(url, deadline_s=PATIENT_S), max_bytes=MEGABYTE)


def directory_tier(directory: Path) -> Tier:
    return FilesystemTier(directory, max_bytes=MEGABYTE, deadline_s=PATIENT_S)


@pytest.fixture(params=["redis", "filesystem"])
def new_tier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewTier]:
    """Makes the tier of one more process."""
    if request.param == "filesystem":
        yield lambda: directory_tier(tmp_path / "cache")
        return
    server: LocalRedis = request.getfixturevalue("redis_server")
    yield lambda: redis_tier(server.url)


def test_without_a_tier_a_process_remembers_what_it_put(clock: Clock) -> None:
    cache = Cache(clock=clock)
    cache.put(KEY, {"a": [1]}, JSON, ttl_s=60)

    assert cache.get(KEY, JSON) == {"a": [1]}
    assert cache.get(cache_key("test", "another"), JSON) is None
    assert cache.stats.requests == {("memory", "hit"): 1, ("memory", "miss"): 1}


def test_what_is_got_can_be_changed_without_changing_the_cache() -> None:
    cache = Cache()
    cache.put(KEY, [1], JSON, ttl_s=60)
    cache.get(KEY, JSON).append(2)

    assert cache.get(KEY, JSON) == [1]


def test_memory_holds_so_many_bytes_and_lets_the_least_recently_used_go() -> None:
    cache = Cache(memory_bytes=1000)
    keys = [cache_key("test", name) for name in "abc"]
    cache.put(keys[0], bytes(400), BYTES, ttl_s=60)
    cache.put(keys[1], bytes(400), BYTES, ttl_s=60)
    assert cache.get(keys[0], BYTES)
    cache.put(keys[2], bytes(400), BYTES, ttl_s=60)
    cache.put(cache_key("test", "large"), bytes(1001), BYTES, ttl_s=60)

    assert cache.get_many(keys, BYTES) == [bytes(400), None, bytes(400)]


def test_another_process_finds_it_in_the_tier_and_then_in_its_memory(new_tier: NewTier) -> None:
    table = pa.table({"rows": [1, 2]})
    Cache(new_tier()).put(KEY, table, ARROW, ttl_s=60)
    other = Cache(tier := new_tier())
    before = other.stats.snapshot()

    assert other.get(KEY, ARROW).equals(table)
    assert other.get(KEY, ARROW).equals(table)
    assert (other.stats.snapshot() - before).requests == {
        ("memory", "miss"): 1,
        (tier.name, "hit"): 1,
        ("memory", "hit"): 1,
    }


def test_what_is_not_shared_stays_in_this_process(new_tier: NewTier) -> None:
    cache, other = Cache(new_tier()), Cache(new_tier())
    cache.put(KEY, b"v", BYTES, ttl_s=60, shared=False)

    assert (cache.get(KEY, BYTES), other.get(KEY, BYTES)) == (b"v", None)


def test_a_deleted_value_is_gone_from_memory_and_tier(new_tier: NewTier) -> None:
    cache, other = Cache(new_tier()), Cache(new_tier())
    cache.put(KEY, b"v", BYTES, ttl_s=60)
    cache.delete(KEY)

    assert (cache.get(KEY, BYTES), other.get(KEY, BYTES)) == (None, None)


def test_values_of_one_moment_do_not_expire_at_one_moment(clock: Clock) -> None:
    cache = Cache(clock=clock)
    keys = [cache_key("test", str(number)) for number in range(200)]
    for key in keys:
        cache.put(key, 1, JSON, ttl_s=100)

    def fresh_after(seconds: float) -> int:
        clock.now = Clock().now + seconds
        return sum(value is not None for value in cache.get_many(keys, JSON))

    assert fresh_after(89.9) == 200
    assert 40 < fresh_after(100) < 160
    assert fresh_after(110.1) == 0


def test_what_has_expired_in_a_tier_is_not_served(new_tier: NewTier, clock: Clock) -> None:
    Cache(new_tier(), clock=clock).put(KEY, b"v", BYTES, ttl_s=60)
    clock.now += 67

    assert Cache(new_tier(), clock=clock).get(KEY, BYTES) is None


def test_poison_is_a_miss_and_is_cleared_away(new_tier: NewTier) -> None:
    tier = new_tier()
    writer = Cache(tier)
    writer.put(KEY, b"value", BYTES, ttl_s=60)
    (good,) = tier.read([KEY]) or [None]
    another = cache_key("test", "another")
    assert good is not None
    for key, poison in ((KEY, b""), (KEY, good[:-1]), (KEY, good[:-1] + b"E"), (another, good)):
        tier.write(key, poison, 60)

        assert Cache(new_tier()).get(key, BYTES) is None
        assert tier.read([key]) == [None]


def test_a_value_in_another_format_is_a_miss_and_is_cleared_away(new_tier: NewTier) -> None:
    tier = new_tier()
    Cache(tier).put(KEY, b"[1]", BYTES, ttl_s=60)

    assert Cache(new_tier()).get(KEY, JSON) is None
    assert tier.read([KEY]) == [None]


class TestBuilding:
    def test_a_value_is_built_once(self, new_tier: NewTier) -> None:
        built: list[int] = []

        def build() -> list[int]:
            built.append(1)
            return [7]

        for cache in (Cache(new_tier()), Cache(new_tier())):
            assert cache.get_or_build(KEY, build, JSON, ttl_s=60) == [7]
            assert cache.get_or_build(KEY, build, JSON, ttl_s=60) == [7]
        assert built == [1]

    def test_threads_that_want_the_same_wait_for_the_one_that_builds(self) -> None:
        cache, built, start = Cache(), Counter[str](), threading.Barrier(8)

        def build() -> int:
            built["x"] += 1
            waiting.wait(PATIENT_S)
            return 7

        waiting = threading.Event()

        def want(number: int) -> int:
            start.wait()
            if number == 0:
                threading.Timer(0.2, waiting.set).start()
            return cache.get_or_build(KEY, build, JSON, ttl_s=60, wait_s=PATIENT_S)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(want, range(8))) == [7] * 8
        assert built["x"] == 1

    def test_another_process_waits_for_the_one_that_builds(self, new_tier: NewTier) -> None:
        building, go_on = threading.Event(), threading.Event()

        def slow() -> str:
            building.set()
            go_on.wait(PATIENT_S)
            return "by the first"

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(Cache(new_tier()).get_or_build, KEY, slow, JSON, ttl_s=60)
            building.wait(PATIENT_S)
            second = pool.submit(
                lambda: Cache(new_tier()).get_or_build(KEY, lambda: "by the second", JSON, ttl_s=60, wait_s=PATIENT_S)
            )
            assert not second.done()
            go_on.set()

            assert (first.result(), second.result()) == ("by the first", "by the first")

    def test_it_waits_no_longer_than_it_is_told(self, new_tier: NewTier) -> None:
        tier = new_tier()
        release = tier.lock(KEY)  # of a process that hangs
        assert release is not None

        assert Cache(new_tier()).get_or_build(KEY, lambda: "own", JSON, ttl_s=60, wait_s=0.1) == "own"
        release()

    def test_the_stale_value_is_served_while_another_builds(self, new_tier: NewTier, clock: Clock) -> None:
        Cache(new_tier(), clock=clock).put(KEY, "old", JSON, ttl_s=60, stale_s=600)
        clock.now += 120
        release = new_tier().lock(KEY)  # somebody builds
        assert release is not None
        cache = Cache(new_tier(), clock=clock)

        assert cache.get(KEY, JSON) is None
        assert cache.get_or_build(KEY, pytest.fail, JSON, ttl_s=60, stale_s=600) == "old"
        release()
        assert cache.get_or_build(KEY, lambda: "new", JSON, ttl_s=60, stale_s=600) == "new"
        assert cache.get_or_build(KEY, pytest.fail, JSON, ttl_s=60, stale_s=600) == "new"

    def test_what_another_has_built_meanwhile_is_taken_instead_of_the_stale_one(
        self, new_tier: NewTier, clock: Clock
    ) -> None:
        cache = Cache(new_tier(), clock=clock)
        cache.put(KEY, "old", JSON, ttl_s=60, stale_s=600)
        clock.now += 120
        Cache(new_tier(), clock=clock).put(KEY, "new", JSON, ttl_s=60, stale_s=600)

        assert cache.get_or_build(KEY, pytest.fail, JSON, ttl_s=60) == "new"

    def test_a_dead_value_is_not_served(self, clock: Clock) -> None:
        cache = Cache(clock=clock)
        cache.put(KEY, "dead", JSON, ttl_s=60, stale_s=60)
        clock.now += 127

        assert cache.get_or_build(KEY, lambda: "new", JSON, ttl_s=60) == "new"

    def test_a_dead_value_is_not_served_while_another_builds_either(self, new_tier: NewTier, clock: Clock) -> None:
        cache = Cache(new_tier(), clock=clock)
        cache.put(KEY, "dead", JSON, ttl_s=60, stale_s=60)
        clock.now += 127
        release = new_tier().lock(KEY)
        assert release is not None

        assert cache.get_or_build(KEY, lambda: "new", JSON, ttl_s=60, wait_s=0) == "new"
        release()

    def test_what_was_built_before_the_lock_was_got_is_not_built_again(self, tmp_path: Path) -> None:
        class Late(FilesystemTier):
            """Gets the lock in the moment in which another process has built the value and gives it back."""

            def lock(self, key: str) -> Release | None:
                Cache(directory_tier(tmp_path)).put(key, "by another", JSON, ttl_s=60)
                return super().lock(key)

        tier = Late(tmp_path, max_bytes=MEGABYTE, deadline_s=PATIENT_S)

        assert Cache(tier).get_or_build(KEY, pytest.fail, JSON, ttl_s=60) == "by another"

    def test_a_build_that_fails_leaves_the_turn_to_the_next(self, new_tier: NewTier) -> None:
        cache, other = Cache(new_tier()), Cache(new_tier())

        def fail() -> str:
            raise LookupError("no rows")

        with pytest.raises(LookupError, match="no rows"):
            cache.get_or_build(KEY, fail, JSON, ttl_s=60)

        assert other.get_or_build(KEY, lambda: "good", JSON, ttl_s=60, wait_s=0) == "good"
        assert cache.get_or_build(KEY, fail, JSON, ttl_s=60, wait_s=0) == "good"

    @pytest.mark.usefixtures("new_tier")
    def test_processes_take_turns(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        where = request.node.callspec.params["new_tier"]
        address = request.getfixturevalue("redis_server").url if where == "redis" else str(tmp_path / "cache")
        context = multiprocessing.get_context("spawn")
        barrier, log = context.Barrier(3), tmp_path / "built"
        children = [context.Process(target=_want, args=(where, address, barrier, str(log))) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(90)

        assert [child.exitcode for child in children] == [0, 0, 0]
        assert log.read_text() == "built\n"


def _want(where: str, address: str, barrier: "threading.Barrier", log: str) -> None:
    cache = Cache(redis_tier(address) if where == "redis" else directory_tier(Path(address)))

    def build() -> str:
        with Path(log).open("a") as file:
            file.write("built\n")
        return "value"

    barrier.wait(60)
    assert cache.get_or_build(KEY, build, JSON, ttl_s=60, wait_s=PATIENT_S) == "value"

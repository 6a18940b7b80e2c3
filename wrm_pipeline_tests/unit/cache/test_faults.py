"""Redis and the disk fail in every way they can: one warning, a quarter of a second, the same result."""

import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from wrm_pipeline.cache import tiers
from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.frame import BYTES, JSON
from wrm_pipeline.cache.redis_tier import RedisTier
from wrm_pipeline.cache.tiers import Tier
from wrm_pipeline.cli.local_servers import LocalRedis, free_port
from wrm_pipeline.resilience import BreakerRules, LocalBreakerState, OptionalRedis, RedisBreakerState
from wrm_pipeline_tests.fixtures.answering import Answering, answering, hangs_up, is_a_web_page, says_nothing

KEY = cache_key("test", "key")
MEGABYTE = 1024 * 1024
# What an optional part may cost, and 0.1 s for all the rest on a busy machine.
MAY_COST_S = 0.25 + 0.1


def use(tier: Tier) -> float:
    """Do all that can be done with a cache, from many threads, as if it worked; return the seconds it took."""
    cache = Cache(tier)

    def work(number: int) -> None:
        key = cache_key("test", str(number))
        assert cache.get(key, JSON) is None
        cache.put(key, number, JSON, ttl_s=60)
        assert cache.get(key, JSON) == number  # from memory
        cache.delete(key)
        assert cache.get_or_build(key, lambda: "built", JSON, ttl_s=60) == "built"

    started = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def only_warning(caplog: pytest.LogCaptureFixture) -> str:
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return warning.getMessage()


def address(there: str) -> str:
    """Return the address of a Redis at host and port, with a password."""
    return f"redis://:pass-word@{there}/0"


def slow(connection: socket.socket) -> None:
    pause = threading.Event()
    while connection.recv(4096):
        pause.wait(2.0)
        connection.sendall(b"+OK\r\n")


def all_fine(connection: socket.socket) -> None:
    """Agrees to everything, as a proxy that has lost its server might."""
    while received := connection.recv(4096):
        connection.sendall(b"+OK\r\n" * max(1, received.count(b"*")))


def wrong_numbers(connection: socket.socket) -> None:
    while connection.recv(4096):
        connection.sendall(b"*1\r\n:7\r\n" * 8)


@pytest.mark.parametrize(
    "answer", [says_nothing, slow, is_a_web_page, all_fine, wrong_numbers, hangs_up], ids=lambda a: a.__name__
)
def test_redis_answers_badly(answer: Answering, caplog: pytest.LogCaptureFixture) -> None:
    with answering(answer) as there:
        seconds = use(RedisTier(OptionalRedis(address(there)), max_bytes=MEGABYTE))

    assert seconds < MAY_COST_S
    warning = only_warning(caplog)
    assert warning.startswith("Redis does not work (")
    assert "Check REDIS_URL" in warning
    assert "pass-word" not in warning


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "unix:///nowhere/redis.sock", "redis://127.0.0.1:x/0"])
def test_redis_is_not_there(url: str, caplog: pytest.LogCaptureFixture) -> None:
    seconds = use(RedisTier(OptionalRedis(url.format(port=free_port())), max_bytes=MEGABYTE))

    assert seconds < MAY_COST_S
    assert "Check REDIS_URL" in only_warning(caplog)


def test_cache_and_breakers_that_share_a_redis_share_the_warning_and_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    with answering(says_nothing) as there:
        shared = OptionalRedis(address(there))
        started = time.monotonic()
        RedisBreakerState(shared).failed(BreakerRules("store", 3, 60), "token", "error")
        use(RedisTier(shared, max_bytes=MEGABYTE))

        assert time.monotonic() - started < MAY_COST_S
    assert "circuit breakers and cached values are not shared" in only_warning(caplog)


@pytest.fixture
def small_redis(tmp_path: Path) -> Iterator[LocalRedis]:
    """A Redis with no memory left, that refuses rather than forgets."""
    with LocalRedis(tmp_path) as server:
        yield server


def fill(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")


def test_redis_out_of_memory_still_serves_what_it_has(
    small_redis: LocalRedis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "FULL_QUIET_S", 0.0)  # it is tried again each time, and warned of once
    tier = RedisTier(OptionalRedis(small_redis.url, deadline_s=20.0), max_bytes=MEGABYTE)
    Cache(tier).put(KEY, b"kept before", BYTES, ttl_s=60)
    with redis.Redis.from_url(small_redis.url) as client:
        fill(client)

        use(tier)

        assert Cache(tier).get(KEY, BYTES) == b"kept before"
        warning = only_warning(caplog)
        assert warning.startswith("Redis has no memory left: nothing new is cached meanwhile.")
        assert "maxmemory-policy" in warning
        Cache(tier).delete(KEY)
        assert Cache(tier).get(KEY, BYTES) is None
        client.config_set("maxmemory", "0")
    Cache(tier).put(KEY, b"room again", BYTES, ttl_s=60)
    assert Cache(tier).get(KEY, BYTES) == b"room again"
    only_warning(caplog)


def test_redis_out_of_memory_is_not_asked_to_take_more_for_a_while(small_redis: LocalRedis) -> None:
    tier = RedisTier(OptionalRedis(small_redis.url, deadline_s=20.0), max_bytes=MEGABYTE)
    with redis.Redis.from_url(small_redis.url) as client:
        fill(client)
        Cache(tier).put(KEY, b"v", BYTES, ttl_s=60)
        client.config_set("maxmemory", "0")

        Cache(tier).put(KEY, b"v", BYTES, ttl_s=60)

        assert client.get(KEY) is None


def test_redis_that_comes_back_is_used_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LocalRedis(tmp_path) as server:
        shared = OptionalRedis(server.url, quiet_s=0.0)
        tier = RedisTier(shared, max_bytes=MEGABYTE)
        server.kill()
        Cache(tier).put(KEY, b"lost", BYTES, ttl_s=60)
        server.start()
        Cache(tier).put(KEY, b"kept", BYTES, ttl_s=60)

        assert Cache(tier).get(KEY, BYTES) == b"kept"
    only_warning(caplog)


def test_the_breaker_is_local_while_redis_is_down() -> None:
    rules, state = BreakerRules("store", 1, 60), RedisBreakerState(f"redis://127.0.0.1:{free_port()}/0")
    expected = LocalBreakerState()
    for each in (state, expected):
        each.failed(rules, "token", "error")

    found, wanted = state.refusal(rules), expected.refusal(rules)

    assert found is not None
    assert wanted is not None
    assert found.last_error == wanted.last_error


def test_the_directory_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")

    seconds = use(FilesystemTier(tmp_path / "file" / "cache", max_bytes=MEGABYTE))

    assert seconds < MAY_COST_S
    warning = only_warning(caplog)
    assert warning.startswith("The cache directory does not work (Not a directory)")
    assert "Check WRM_CACHE_DIR" in warning


# The disk takes no byte more for this process: its files may have 20 kB at most, and EFBIG is what writing says.
_ON_A_FULL_DISK = """
import logging, sys, resource
from pathlib import Path
from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.frame import BYTES

logging.basicConfig(format="%(message)s")
tier = FilesystemTier(Path(sys.argv[1]), max_bytes=1024 * 1024, deadline_s=20.0)
small, large = cache_key("test", "small"), cache_key("test", "large")
Cache(tier).put(small, bytes(1000), BYTES, ttl_s=60)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for _ in range(3):
    cache = Cache(tier)
    assert cache.get_or_build(large, lambda: bytes(100_000), BYTES, ttl_s=60) == bytes(100_000)
    assert cache.get(large, BYTES) == bytes(100_000)
assert Cache(tier).get(small, BYTES) == bytes(1000)
assert Cache(tier).get(large, BYTES) is None
"""


def test_the_disk_fills_up(tmp_path: Path) -> None:
    # What measures coverage would write a file when the process ends, and find the disk full too.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    run = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path / "cache")],
        env=unmeasured,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    (warning,) = run.stderr.splitlines()
    assert warning.startswith("The disk of the cache directory takes no more (File too large): nothing new is cached")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("new-")] == []


def test_the_directory_vanishes_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tier = FilesystemTier(tmp_path / "cache", max_bytes=MEGABYTE, deadline_s=20.0)
    Cache(tier).put(KEY, b"v", BYTES, ttl_s=60)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")

    assert Cache(tier).get(KEY, BYTES) is None
    Cache(tier).put(KEY, b"again", BYTES, ttl_s=60)

    assert Cache(tier).get(KEY, BYTES) == b"again"
    assert caplog.records == []


def test_a_directory_that_hangs_costs_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a network file system does; here its lock file is a pipe that nobody reads, and its values are pipes."""
    directory = tmp_path / "cache"
    directory.mkdir()
    os.mkfifo(directory / f"lock-{KEY[-2:]}")

    started = time.monotonic()
    built = Cache(FilesystemTier(directory, max_bytes=MEGABYTE)).get_or_build(KEY, lambda: 7, JSON, ttl_s=60)

    assert built == 7
    assert time.monotonic() - started < MAY_COST_S
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert len(caplog.records) <= 1

"""Redis and the directory, as two processes on real ones see them."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from wrm_pipeline.cache.cache import cache_key
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.redis_tier import RedisTier
from wrm_pipeline.cache.tiers import Tier
from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.resilience import OptionalRedis
from wrm_pipeline_tests.fixtures.servers import wait_until

# What is tested here is not how long a busy machine takes.
PATIENT_S = 20.0
MAX_BYTES = 10_000
KEYS = [cache_key("test", str(number)) for number in range(40)]


_HOLD_A_LOCK = """
import sys
from pathlib import Path
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
release = FilesystemTier(Path(sys.argv[1]), max_bytes=1000, deadline_s=20.0).lock(sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


class SocketRedis(LocalRedis):
    """A Redis on a unix socket beside its port."""

    def _command(self) -> tuple[list[str], dict[str, str]]:
        command, environment = super()._command()
        return [*command, "--unixsocket", "redis.sock", "--unixsocketperm", "700"], environment


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketRedis]:
    with SocketRedis(tmp_path_factory.mktemp("r")) as server:
        yield server


@pytest.fixture
def client(servers: SocketRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.url) as client:
        client.flushall()
        yield client


class Contract:
    """What holds for either; `other` is the tier of another process."""

    @pytest.fixture
    def tier(self) -> Tier:
        raise NotImplementedError

    @pytest.fixture
    def other(self) -> Tier:
        raise NotImplementedError

    def test_what_one_writes_the_other_reads(self, tier: Tier, other: Tier) -> None:
        tier.write(KEYS[0], b"\x00value", 60)

        assert other.read([KEYS[1], KEYS[0]]) == [None, b"\x00value"]

    def test_a_value_takes_the_place_of_the_one_before(self, tier: Tier, other: Tier) -> None:
        tier.write(KEYS[0], b"long before", 60)
        other.write(KEYS[0], b"now", 60)

        assert tier.read([KEYS[0]]) == [b"now"]

    def test_what_is_deleted_is_gone(self, tier: Tier, other: Tier) -> None:
        for key in KEYS[:3]:
            tier.write(key, b"v", 60)

        other.delete(KEYS[1:3])
        other.delete(KEYS[1:3])

        assert tier.read(KEYS[:3]) == [b"v", None, None]

    def test_all_values_together_stay_below_the_bound_and_the_oldest_go_first(self, tier: Tier) -> None:
        for key in KEYS:
            tier.write(key, bytes(1000), 60)

        kept = [value is not None for value in tier.read(KEYS) or []]

        assert 8 <= sum(kept) <= 10
        assert kept == sorted(kept)

    def test_a_value_above_the_bound_is_not_kept_and_drives_nothing_out(self, tier: Tier) -> None:
        tier.write(KEYS[0], bytes(1000), 60)
        tier.write(KEYS[1], bytes(MAX_BYTES + 1), 60)

        assert tier.read(KEYS[:2]) == [bytes(1000), None]

    def test_one_at_a_time_has_a_lock(self, tier: Tier, other: Tier) -> None:
        release = tier.lock(KEYS[0])
        assert release is not None
        assert other.lock(KEYS[0]) is None
        assert tier.lock(KEYS[0]) is None
        different = other.lock(KEYS[1])
        assert different is not None

        release()

        again = other.lock(KEYS[0])
        assert again is not None
        again()
        different()


class TestFilesystem(Contract):
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path / "deep" / "cache"

    @pytest.fixture
    def tier(self, directory: Path) -> Tier:
        return FilesystemTier(directory, max_bytes=MAX_BYTES, deadline_s=PATIENT_S)

    @pytest.fixture
    def other(self, directory: Path) -> Tier:
        return FilesystemTier(directory, max_bytes=MAX_BYTES, deadline_s=PATIENT_S)

    def test_only_this_user_can_read_it(self, tier: Tier, directory: Path) -> None:
        before = os.umask(0)
        try:
            tier.write(KEYS[0], b"v", 60)
            release = tier.lock(KEYS[0])
        finally:
            os.umask(before)
        assert release is not None
        release()

        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}

    def test_a_write_leaves_nothing_unfinished(self, tier: Tier, directory: Path) -> None:
        tier.write(KEYS[0], b"v", 60)

        assert [path.name for path in directory.iterdir()] == [f"value-{KEYS[0].replace(':', '-')}"]

    def test_what_others_keep_in_the_directory_stays(self, tier: Tier, directory: Path) -> None:
        """Somebody will name a directory that has other things in it."""
        directory.mkdir(parents=True)
        foreign = directory / "thesis.tex"
        foreign.write_bytes(bytes(3 * MAX_BYTES))
        os.utime(foreign, (0, 0))
        for key in KEYS:
            tier.write(key, bytes(1000), 60)

        assert foreign.stat().st_size == 3 * MAX_BYTES

    def test_what_a_killed_process_left_unfinished_is_cleared_away(self, tier: Tier, directory: Path) -> None:
        directory.mkdir(parents=True)
        left = directory / "new-0123"
        left.write_bytes(bytes(MAX_BYTES))
        os.utime(left, (0, 0))

        tier.write(KEYS[0], b"v", 60)

        assert not left.exists()

    def test_a_link_or_a_pipe_in_place_of_a_value_is_none(self, tier: Tier, directory: Path, tmp_path: Path) -> None:
        directory.mkdir(parents=True)
        secret = tmp_path / "secret"
        secret.write_text("secret")
        paths = [directory / f"value-{key.replace(':', '-')}" for key in KEYS[:3]]
        paths[0].symlink_to(secret)
        os.mkfifo(paths[1])
        paths[2].write_bytes(bytes(MAX_BYTES + 1))

        assert tier.read(KEYS[:3]) == [b"", b"", b""]

    def test_a_lock_ends_with_its_process(self, tier: Tier, directory: Path) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD_A_LOCK, str(directory), KEYS[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            assert tier.lock(KEYS[0]) is None

            holder.kill()
            holder.wait()

            release = tier.lock(KEYS[0])
            assert release is not None
            release()


@pytest.mark.usefixtures("client")  # which empties it
class TestRedis(Contract):
    @pytest.fixture
    def tier(self, servers: SocketRedis) -> Tier:
        return RedisTier(OptionalRedis(servers.url, deadline_s=PATIENT_S), max_bytes=MAX_BYTES)

    @pytest.fixture
    def other(self, servers: SocketRedis) -> Tier:
        socket = f"unix://{servers.directory}/redis.sock?db=0"
        return RedisTier(OptionalRedis(socket, deadline_s=PATIENT_S), max_bytes=MAX_BYTES)

    def test_values_expire_by_themselves(self, tier: Tier, client: redis.Redis) -> None:
        tier.write(KEYS[0], b"v", 60)
        assert 59_000 < client.pttl(KEYS[0]) <= 60_000
        tier.write(KEYS[1], b"v", 0.01)

        wait_until(lambda: tier.read(KEYS[:2]) == [b"v", None])

    def test_what_has_expired_does_not_count(self, tier: Tier) -> None:
        for key in KEYS[:9]:
            tier.write(key, bytes(1000), 0.01)
        wait_until(lambda: tier.read(KEYS[:9]) == [None] * 9)
        tier.write(KEYS[10], b"early", 60)

        for key in KEYS[20:29]:
            tier.write(key, bytes(1000), 60)

        assert tier.read([KEYS[10]]) == [b"early"]

    def test_what_is_written_twice_or_deleted_counts_once_or_not(self, tier: Tier, client: redis.Redis) -> None:
        for _ in range(30):
            tier.write(KEYS[0], bytes(1000), 60)
        tier.write(KEYS[1], bytes(500), 60)
        tier.delete([KEYS[1]])

        assert client.hgetall("wrm:v1:sizes") == {b"total": b"1000", KEYS[0].encode(): b"1000"}
        assert client.zrange("wrm:v1:index", 0, -1) == [KEYS[0].encode()]

    @pytest.mark.parametrize("lost", ["wrm:v1:index", "wrm:v1:sizes"])
    def test_what_the_server_drops_of_the_index_costs_nothing_but_order(
        self, tier: Tier, client: redis.Redis, lost: str
    ) -> None:
        for key in KEYS[:9]:
            tier.write(key, bytes(1000), 60)
        client.delete(lost)

        for key in KEYS[20:]:
            tier.write(key, bytes(1000), 60)

        assert tier.read(KEYS[-3:]) == [bytes(1000)] * 3

    def test_other_keys_are_left_alone_and_nothing_stays_for_ever(self, tier: Tier, client: redis.Redis) -> None:
        client.set("somebody-else", "x")
        release = tier.lock(KEYS[0])
        for key in KEYS:
            tier.write(key, bytes(1000), 60)

        assert client.get("somebody-else") == b"x"
        assert all(client.pttl(key) > 0 for key in client.scan_iter("wrm:*"))
        assert release is not None
        release()

    def test_a_lock_that_was_lost_is_not_taken_from_the_next_one(
        self, tier: Tier, other: Tier, client: redis.Redis
    ) -> None:
        release = tier.lock(KEYS[0])
        assert release is not None
        client.delete(f"{KEYS[0]}:lock")  # its lease has run out
        next_one = other.lock(KEYS[0])

        release()

        assert next_one is not None
        assert tier.lock(KEYS[0]) is None

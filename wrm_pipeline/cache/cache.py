"""The cache: an in-process store of the least recently used in front, and a tier that processes share behind it.

A key is made of all that its value depends on, so a value is never wrong, only gone.
"""

import contextlib
import hashlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from cachetools import LRUCache

from wrm_pipeline.cache.frame import Codec, Entry, PoisonedValueError, frame, unframe
from wrm_pipeline.cache.tiers import Tier

T = TypeVar("T")

# Another meaning of a kind's values or digests is another kind; another frame is another version.
_SCHEMA: Final = "wrm:v1"
_KIND: Final = re.compile(r"[a-z][a-z0-9-]*")
# Some ten bodies of a day, or all raw snapshots of one: what a single run reads twice.
MEMORY_BYTES: Final = 32 * 1024 * 1024
# Values that expire together are built together.
_JITTER: Final = 0.1
# How long to wait for somebody else's build before building as well, and how often to look.
WAIT_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.05
_MEMORY: Final = "memory"


def cache_key(kind: str, *depends_on: str) -> str:
    """Return the key of a value: its kind (lower-case letters, digits, hyphens), and a digest of all it depends on."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"not a kind of cached values: {kind!r}")
    digest = hashlib.sha256()
    for part in depends_on:  # with its length, so that no two lists of parts look alike
        digest.update(f"{len(part)}:{part}".encode())
    return f"{_SCHEMA}:{kind}:{digest.hexdigest()}"


@dataclass
class CacheStats:
    """Lookups so far by (tier, "hit" or "miss"), and S3 requests and body bytes saved. Safe between threads.

    A lookup that misses in memory is one in the tier behind it, when that can be used.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests_saved: Counter[str] = field(default_factory=Counter)
    bytes_saved: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, tier: str, *, hits: int, misses: int) -> None:
        """Count lookups."""
        with self._lock:
            self.requests.update({(tier, "hit"): hits, (tier, "miss"): misses})

    def add_saved(self, operation: str, size: int) -> None:
        """Count a request to the store that was not made, and the bytes of its body."""
        with self._lock:
            self.requests_saved[operation] += 1
            self.bytes_saved += size

    def snapshot(self) -> "CacheStats":
        """Return a copy that stands still."""
        with self._lock:
            return CacheStats(Counter(self.requests), Counter(self.requests_saved), self.bytes_saved)

    def __sub__(self, earlier: "CacheStats") -> "CacheStats":
        return CacheStats(
            self.requests - earlier.requests,
            self.requests_saved - earlier.requests_saved,
            self.bytes_saved - earlier.bytes_saved,
        )


@dataclass(frozen=True)
class _Found(Generic[T]):
    value: T
    is_fresh: bool


class Cache:
    """Values by key, for many threads. None is no value. Nothing here raises because of a tier.

    Args:
        tier: what processes share; None for this process's memory alone.
        memory_bytes: of the values in memory.
        clock: seconds since 1970, the same in all processes that share a tier.
    """

    def __init__(
        self, tier: Tier | None = None, *, memory_bytes: int = MEMORY_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.stats = CacheStats()
        self._tier = tier
        self._clock = clock
        self._memory: LRUCache[str, Entry] = LRUCache(memory_bytes, getsizeof=lambda entry: len(entry.payload))
        self._lock = threading.Lock()
        self._building: set[str] = set()

    def get(self, key: str, codec: Codec[T]) -> T | None:
        """Return a value that is fresh; None when there is none."""
        return self.get_many([key], codec)[0]

    def get_many(self, keys: Sequence[str], codec: Codec[T]) -> list[T | None]:
        """Return the fresh value of each key, with one question to the tier."""
        found = self._look(keys, codec)
        return [entry.value if entry is not None and entry.is_fresh else None for entry in found]

    def put(
        self, key: str, value: T, codec: Codec[T], *, ttl_s: float, stale_s: float = 0.0, shared: bool = True
    ) -> None:
        """Keep a value, fresh for `ttl_s` (± 10 %), stale for `stale_s` more; in memory only unless `shared`."""
        ttl_s *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
        now = self._clock()
        entry = Entry(codec.tag, now + ttl_s, now + ttl_s + stale_s, codec.encode(value))
        self._remember(key, entry)
        if self._tier is not None and shared:
            self._tier.write(key, frame(key, entry), ttl_s + stale_s)

    def delete(self, key: str) -> None:
        """Forget a value."""
        with self._lock:
            self._memory.pop(key, None)
        if self._tier is not None:
            self._tier.delete([key])

    def get_or_build(
        self,
        key: str,
        build: Callable[[], T],
        codec: Codec[T],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        wait_s: float = WAIT_S,
    ) -> T:
        """Return a value, built by one thread of one process while there is none that is fresh.

        Others get the stale value meanwhile. Where there is none they wait for the one that builds, for `wait_s` at
        most, and then build as well. What `build` raises, this raises.
        """
        (found,) = self._look([key], codec)
        deadline = time.monotonic() + wait_s
        while found is None or not found.is_fresh:
            with self._turn(key) as mine:
                if mine:
                    (found,) = self._look([key], codec, count=False)  # somebody else may just have built it
                if found is not None and (found.is_fresh or not mine):
                    break
                if mine or time.monotonic() >= deadline:
                    value = build()
                    self.put(key, value, codec, ttl_s=ttl_s, stale_s=stale_s)
                    return value
            time.sleep(_LOOK_EVERY_S)
            (found,) = self._look([key], codec, count=False)
        return found.value

    @contextlib.contextmanager
    def _turn(self, key: str) -> Iterator[bool]:
        """Tell whether this thread is the one that builds a value, without waiting; it is until the context ends."""
        with self._lock:
            mine = key not in self._building
            if mine:
                self._building.add(key)
        if not mine:
            yield False
            return
        try:
            release = self._tier.lock(key) if self._tier is not None else _nothing
            if release is None:
                yield False
                return
            try:
                yield True
            finally:
                release()
        finally:
            with self._lock:
                self._building.discard(key)

    def _look(self, keys: Sequence[str], codec: Codec[T], *, count: bool = True) -> list[_Found[T] | None]:
        """Return what there is of each key, fresh or stale."""
        with self._lock:
            entries = {key: entry for key in keys if (entry := self._memory.get(key)) is not None}
        found = self._decoded(entries, codec)
        self._count(_MEMORY, keys, found, count=count)
        rest = [key for key in keys if key not in found or not found[key].is_fresh]
        framed = self._tier.read(rest) if self._tier is not None and rest else None
        if self._tier is not None and framed is not None:
            entries = {}
            poisoned: list[str] = []
            for key, value in zip(rest, framed, strict=True):
                if value is not None:
                    try:
                        entries[key] = unframe(key, value)
                    except PoisonedValueError:
                        poisoned.append(key)
            behind = self._decoded(entries, codec)
            for key in behind:
                self._remember(key, entries[key])
            self._count(self._tier.name, rest, behind, count=count)
            useless = [*poisoned, *(key for key in entries if key not in behind)]
            if useless:
                self._tier.delete(useless)
            found |= behind
        return [found.get(key) for key in keys]

    def _decoded(self, entries: dict[str, Entry], codec: Codec[T]) -> dict[str, _Found[T]]:
        """Return the values that are not dead and can be read by a codec."""
        now = self._clock()
        found: dict[str, _Found[T]] = {}
        for key, entry in entries.items():
            if entry.dies_at > now and entry.tag == codec.tag:
                with contextlib.suppress(ValueError, OSError):
                    found[key] = _Found(codec.decode(entry.payload), entry.fresh_until > now)
        return found

    def _remember(self, key: str, entry: Entry) -> None:
        with self._lock, contextlib.suppress(ValueError):  # larger than all the memory
            self._memory[key] = entry

    def _count(self, tier: str, keys: Sequence[str], found: dict[str, _Found[T]], *, count: bool) -> None:
        if count:
            self.stats.add(tier, hits=len(found), misses=len(keys) - len(found))


def _nothing() -> None:
    return None

"""Bodies of objects on a real store: what may come from the cache, and that it is what the store has."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.frame import BYTES
from wrm_pipeline.cache.objects import LARGEST_BYTES, ObjectCache
from wrm_pipeline.lake.object_store import ObjectInfo, ObjectNotFound, ObjectStore, StoreRefused
from wrm_pipeline.settings import StoreSettings

TEXT = "text/plain"


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def cached(store_settings: StoreSettings, cache: Cache) -> Iterator[ObjectStore]:
    with ObjectStore(store_settings, cache=ObjectCache(cache)) as store:
        yield store


@pytest.fixture
def key(store: ObjectStore) -> str:
    return f"{store.prefix}object"


def requests(store: ObjectStore) -> dict[str, int]:
    """Return the requests since the last time."""
    found = dict(store.traffic.requests)
    store.traffic.requests.clear()
    return found


def listed(store: ObjectStore, key: str) -> ObjectInfo:
    (info,) = store.list(key)
    store.traffic.requests.clear()
    return info


def test_what_was_written_to_be_read_again_is_not_fetched(cached: ObjectStore, key: str, cache: Cache) -> None:
    cached.put(key, b"body", content_type=TEXT, read_again_by="listing")
    info = listed(cached, key)

    found = cached.get(info)
    (again,) = cached.get_many([info])

    assert requests(cached) == {}
    assert found == again
    assert (found.body, found.info, found.sha256) == (b"body", info, cached.get(key).sha256)
    assert (cache.stats.requests_saved, cache.stats.bytes_saved) == ({"get": 2}, 8)


def test_what_was_written_otherwise_is_fetched_once(cached: ObjectStore, key: str) -> None:
    cached.put(key, b"body", content_type=TEXT)
    info = listed(cached, key)

    assert [cached.get(info).body for _ in range(2)] == [b"body"] * 2
    assert requests(cached) == {"get": 1}


def test_a_key_alone_is_always_fetched(cached: ObjectStore, key: str) -> None:
    cached.put(key, b"body", content_type=TEXT, read_again_by="key")
    requests(cached)

    assert cached.get(key).body == b"body"
    assert [found.body for found in cached.get_many([key])] == [b"body"]
    assert requests(cached) == {"get": 2}


def test_of_many_only_those_that_are_missing_are_fetched_and_all_come_in_order(cached: ObjectStore) -> None:
    keys = [f"{cached.prefix}many/{number:03d}" for number in range(50)]
    for number, key in enumerate(keys):
        cached.put(key, key.encode(), content_type=TEXT, read_again_by="listing" if number % 3 else None)
    infos = list(cached.list(f"{cached.prefix}many/"))
    requests(cached)

    assert [found.body.decode() for found in cached.get_many(infos)] == keys
    assert requests(cached) == {"get": 17}
    assert [found.body.decode() for found in cached.get_many(infos)] == keys
    assert requests(cached) == {}


def test_many_that_were_fetched_stay_in_memory_only(store_settings: StoreSettings, tmp_path: Path, key: str) -> None:
    tier = FilesystemTier(tmp_path, max_bytes=10_000, deadline_s=20.0)
    with ObjectStore(store_settings, cache=ObjectCache(Cache(tier))) as store:
        store.put(key, b"body", content_type=TEXT)
        list(store.get_many([listed(store, key)]))
        assert list(tmp_path.iterdir()) == []
        store.get(replace(listed(store, key)))
        assert list(tmp_path.iterdir()) == []  # from memory
    with ObjectStore(store_settings, cache=ObjectCache(Cache(tier))) as store:
        store.get(listed(store, key))
        assert len(list(tmp_path.iterdir())) == 1


def test_an_object_that_was_replaced_behind_our_back_is_fetched(
    cached: ObjectStore, store: ObjectStore, key: str
) -> None:
    cached.put(key, b"old!", content_type=TEXT, read_again_by="key")
    store.put(key, b"new!", content_type=TEXT)
    info = listed(cached, key)

    assert cached.get(info).body == b"new!"
    assert cached.get_again(key).body == b"new!"
    assert requests(cached) == {"get": 1, "head": 1}


class TestReadAgain:
    def test_the_store_is_asked_only_whether_it_is_still_the_same(self, cached: ObjectStore, key: str) -> None:
        cached.put(key, b"body", content_type=TEXT, metadata={"rows": "7"}, read_again_by="key")
        requests(cached)

        found = cached.get_again(key)

        assert requests(cached) == {"head": 1}
        assert found == cached.get(key)

    def test_what_nobody_has_kept_costs_no_head(self, cached: ObjectStore, key: str) -> None:
        cached.put(key, b"body", content_type=TEXT)
        requests(cached)

        assert cached.get_again(key).body == b"body"
        assert requests(cached) == {"get": 1}
        assert cached.get_again(key).body == b"body"
        assert requests(cached) == {"head": 1}

    def test_the_newer_body_takes_the_place_of_the_older(self, cached: ObjectStore, key: str, cache: Cache) -> None:
        first = cached.put(key, b"old!", content_type=TEXT, read_again_by="key")
        cached.put(key, b"new!", content_type=TEXT, read_again_by="key")

        old = cache_key("body", f"{cached.endpoint_url}/{cached.bucket}/{key}", first.etag)

        assert cached.get_again(key).body == b"new!"
        assert cache.get(old, BYTES) is None
        assert len(cache._memory) == 2  # the body, and its ETag

    def test_an_object_that_is_gone_is_gone(self, cached: ObjectStore, store: ObjectStore, key: str) -> None:
        cached.put(key, b"body", content_type=TEXT, read_again_by="key")
        store.delete(key)

        with pytest.raises(ObjectNotFound):
            cached.get_again(key)

    def test_a_bucket_that_is_gone_is_named(self, store_settings: StoreSettings, cache: Cache, key: str) -> None:
        """A HEAD cannot tell a missing bucket from a missing object."""
        nowhere = replace(store_settings, bucket="no-such-bucket")
        with ObjectStore(nowhere, cache=ObjectCache(cache)) as store:
            ObjectCache(cache).keep(store._address(key), "a" * 32, b"", by_address=True)
            ObjectCache(cache).keep(store._address(key), "d41d8cd98f00b204e9800998ecf8427e", b"", by_address=True)
            with pytest.raises(StoreRefused, match="BUCKET_NAME"):
                store.get_again(key)


def test_the_same_key_in_another_bucket_or_store_is_another_object(cache: Cache, store_settings: StoreSettings) -> None:
    objects = ObjectCache(cache)
    etag = "841a2d689ad86bd1611447453c22c6fc"  # of b"body"
    objects.keep("https://one/bucket/key", etag, b"body")

    assert objects.find("https://one/bucket/key", etag) == b"body"
    assert objects.find("https://one/other/key", etag) is None
    assert objects.find("https://two/bucket/key", etag) is None


def test_a_body_that_is_not_what_the_etag_says_is_neither_kept_nor_served(cache: Cache) -> None:
    """Whoever can write to the cache can make a good frame, but no body of the same MD5 that means something."""
    objects, etag = ObjectCache(cache), "841a2d689ad86bd1611447453c22c6fc"
    objects.keep("a", etag, b"other", by_address=True)
    assert not objects.knows("a")
    key = cache_key("body", "a", etag)
    cache.put(key, b"forged", BYTES, ttl_s=60)

    assert objects.find("a", etag) is None
    assert cache.get(key, BYTES) is None
    assert cache.stats.requests_saved == {}


@pytest.mark.parametrize("etag", ["841a2d689ad86bd1611447453c22c6fc-2", "", "not-an-md5"])
def test_an_etag_that_says_nothing_of_the_bytes_is_no_key(cache: Cache, etag: str) -> None:
    objects = ObjectCache(cache)
    objects.keep("a", etag, b"body", by_address=True)

    assert objects.find("a", etag) is None
    assert not objects.knows("a")


def test_a_large_body_is_not_kept(cached: ObjectStore, key: str) -> None:
    cached.put(key, bytes(LARGEST_BYTES + 1), content_type=TEXT, read_again_by="key")
    requests(cached)

    assert len(cached.get_again(key).body) == LARGEST_BYTES + 1
    assert len(cached.get_again(key).body) == LARGEST_BYTES + 1
    assert requests(cached) == {"get": 2}


def test_a_put_that_fails_keeps_nothing(cache: Cache, store_settings: StoreSettings, key: str) -> None:
    nowhere = replace(store_settings, bucket="no-such-bucket")
    with ObjectStore(nowhere, cache=ObjectCache(cache)) as store:
        with pytest.raises(StoreRefused):
            store.put(key, b"body", content_type=TEXT, read_again_by="key")

        assert not ObjectCache(cache).knows(store._address(key))

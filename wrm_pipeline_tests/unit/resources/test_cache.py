"""The cache that the settings ask for, one a process, in the resource and behind the lake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redis

from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.frame import BYTES
from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.resources import cache as resources_cache
from wrm_pipeline.resources import shared_redis
from wrm_pipeline.resources.breakers import breaker_state
from wrm_pipeline.resources.cache import CacheResource, shared_cache
from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.settings import SettingsError, StoreSettings, load_settings
from wrm_pipeline_tests.fixtures.dagster import environment_of

KEY = cache_key("test", "resource")


@pytest.fixture(autouse=True)
def _fresh(fresh_breakers: None) -> Iterator[None]:
    """As in a new process."""
    resources_cache._cache.cache_clear()
    shared_redis._redis.cache_clear()
    yield
    resources_cache._cache.cache_clear()
    shared_redis._redis.cache_clear()


def another_process(**settings: Any) -> Cache:
    resources_cache._cache.cache_clear()
    return shared_cache(load_settings(**settings))


def is_shared(**settings: Any) -> bool:
    """Tell whether another process finds what one has put."""
    another_process(**settings).put(KEY, b"v", BYTES, ttl_s=60)
    other = another_process(**settings)
    found = other.get(KEY, BYTES)
    other.delete(KEY)
    return found == b"v"


def test_nothing_set_is_memory_only(tmp_path: Path) -> None:
    assert not is_shared()
    assert list(tmp_path.iterdir()) == []


def test_a_redis_is_used_unless_something_else_is_asked_for(redis_server: LocalRedis, tmp_path: Path) -> None:
    assert is_shared(redis_url=redis_server.url)
    assert is_shared(redis_url=redis_server.url, wrm_cache="redis")
    assert not is_shared(redis_url=redis_server.url, wrm_cache="none")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_used_when_asked_for(tmp_path: Path) -> None:
    assert is_shared(wrm_cache="filesystem", wrm_cache_dir=str(tmp_path / "here"))
    assert (tmp_path / "here").is_dir()


def test_redis_without_an_address_names_the_variable() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL not set"):
        shared_cache(load_settings(wrm_cache="redis"))


def test_the_bound_is_that_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(wrm_cache="filesystem", wrm_cache_dir=str(tmp_path), wrm_cache_max_mb=1)
    cache = shared_cache(settings)
    for number in range(8):
        cache.put(cache_key("test", str(number)), bytes(300_000), BYTES, ttl_s=60)

    assert 600_000 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1024 * 1024


def test_one_process_has_one_cache_and_one_redis(redis_server: LocalRedis) -> None:
    settings = load_settings(redis_url=redis_server.url)

    assert shared_cache(settings) is shared_cache(load_settings(redis_url=redis_server.url))
    assert shared_redis.shared_redis(settings) is shared_redis.shared_redis(settings)
    assert breaker_state(settings)._redis is shared_redis.shared_redis(settings)  # type: ignore[attr-defined]


def test_the_resource_takes_its_fields_or_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = CacheResource(kind="filesystem", directory=str(tmp_path / "field"))
    resource.setup_for_execution(dg.build_init_resource_context())
    resource.cache.put(KEY, b"v", BYTES, ttl_s=60)
    monkeypatch.setenv("WRM_CACHE", "filesystem")
    monkeypatch.setenv("WRM_CACHE_DIR", str(tmp_path / "setting"))
    from_settings = CacheResource()
    from_settings.setup_for_execution(dg.build_init_resource_context())
    from_settings.cache.put(KEY, b"v", BYTES, ttl_s=60)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["field", "setting"]
    assert from_settings.cache is shared_cache(load_settings())


def test_a_wrong_field_is_refused_like_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="WRM_CACHE"):
        CacheResource(kind="memcached").setup_for_execution(dg.build_init_resource_context())


def test_lakes_of_one_process_share_the_cache(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(store_settings).items():
        monkeypatch.setenv(name, value)
    one, other = open_lake(load_settings()), open_lake(load_settings())
    key = f"{store_settings.prefix}object"
    with one.store, other.store:
        one.store.put(key, b"body", content_type="text/plain", read_again_by="key")

        assert other.store.get_again(key).body == b"body"
        assert other.store.traffic.requests == {"head": 1}


def test_no_password_is_shown_or_stored(redis_server: LocalRedis) -> None:
    address = redis_server.url.replace("redis://", "redis://:pass-word@")
    cache = shared_cache(load_settings(redis_url=address))
    cache.put(KEY, b"v", BYTES, ttl_s=60)

    shown = repr([cache, vars(cache), CacheResource(), shared_redis.shared_redis(load_settings(redis_url=address))])

    assert "pass-word" not in shown
    with redis.Redis.from_url(redis_server.url) as client:
        assert not any(b"pass-word" in key for key in client.scan_iter("*"))

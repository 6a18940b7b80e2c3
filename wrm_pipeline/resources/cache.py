"""The cache as a resource, and the one that all of a process share."""

import functools
from pathlib import Path
from typing import Any

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from wrm_pipeline.cache.cache import Cache
from wrm_pipeline.cache.filesystem_tier import FilesystemTier
from wrm_pipeline.cache.redis_tier import RedisTier
from wrm_pipeline.cache.tiers import Tier
from wrm_pipeline.resilience import OptionalRedis
from wrm_pipeline.resources.shared_redis import shared_redis
from wrm_pipeline.settings import Settings, SettingsError
from wrm_pipeline.vault.run_settings import load_run_settings


@functools.cache
def _cache(redis: OptionalRedis | None, directory: Path | None, max_bytes: int) -> Cache:
    tier: Tier | None = None
    if redis is not None:
        tier = RedisTier(redis, max_bytes=max_bytes)
    elif directory is not None:
        tier = FilesystemTier(directory, max_bytes=max_bytes)
    return Cache(tier)


def shared_cache(settings: Settings) -> Cache:
    """Return the cache of this process: in Redis when there is one and `WRM_CACHE` says nothing else.

    Without Redis and directory it is this process's memory alone.

    Raises:
        SettingsError: `WRM_CACHE` is redis, and `REDIS_URL` is not set.
    """
    redis = shared_redis(settings) if settings.wrm_cache in {None, "redis"} else None
    if settings.wrm_cache == "redis" and redis is None:
        raise SettingsError(
            "WRM_CACHE is redis, but REDIS_URL not set. Set it, or set WRM_CACHE to filesystem or none."
        )
    directory = settings.wrm_cache_dir.absolute() if settings.wrm_cache == "filesystem" else None
    return _cache(redis, directory, settings.wrm_cache_max_mb * 1024 * 1024)


class CacheResource(ConfigurableResource["CacheResource"]):
    """What was read or computed before, kept in memory and in Redis or a directory. Nothing fails without it.

    Fields left empty are read from the settings.
    """

    kind: str | None = Field(default=None, description="redis, filesystem or none; empty: WRM_CACHE")
    directory: str | None = Field(default=None, description="For filesystem; empty: WRM_CACHE_DIR")
    max_mb: int | None = Field(default=None, description="Of all values together; empty: WRM_CACHE_MAX_MB")

    _cache: Cache = PrivateAttr()

    def setup_for_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Read the settings."""
        given: dict[str, Any] = {
            "wrm_cache": self.kind,
            "wrm_cache_dir": self.directory,
            "wrm_cache_max_mb": self.max_mb,
        }
        settings = load_run_settings(**{name: value for name, value in given.items() if value is not None})
        self._cache = shared_cache(settings)

    @property
    def cache(self) -> Cache:
        """The cache, after setup."""
        return self._cache

"""The Redis that circuit breakers and the cache share: one connection, and one warning when it fails."""

import functools

from wrm_pipeline.resilience import OptionalRedis
from wrm_pipeline.settings import Settings


@functools.cache
def _redis(url: str) -> OptionalRedis:
    return OptionalRedis(url)


def shared_redis(settings: Settings) -> OptionalRedis | None:
    """Return this process's Redis at `REDIS_URL`; None when it is not set."""
    return _redis(settings.redis_url.get_secret_value()) if settings.redis_url else None

"""Where circuit breakers keep their state: Redis when there is one, this process otherwise."""

import functools

from wrm_pipeline.resilience import BreakerState, LocalBreakerState, RedisBreakerState
from wrm_pipeline.settings import Settings


@functools.cache
def _state(redis_url: str | None) -> BreakerState:
    return RedisBreakerState(redis_url) if redis_url else LocalBreakerState()


def breaker_state(settings: Settings) -> BreakerState:
    """Return the state shared by all breakers of this process, and of all processes that use the same Redis."""
    return _state(settings.redis_url.get_secret_value() if settings.redis_url else None)

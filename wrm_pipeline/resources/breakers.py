"""Where circuit breakers keep their state: Redis when there is one, this process otherwise."""

import functools

from wrm_pipeline.resilience import BreakerState, LocalBreakerState, OptionalRedis, RedisBreakerState
from wrm_pipeline.resources.shared_redis import shared_redis
from wrm_pipeline.settings import Settings


@functools.cache
def _state(redis: OptionalRedis | None) -> BreakerState:
    return RedisBreakerState(redis) if redis else LocalBreakerState()


def breaker_state(settings: Settings) -> BreakerState:
    """Return the state shared by all breakers of this process, and of all processes that use the same Redis."""
    return _state(shared_redis(settings))

"""Values in a Redis server, for all machines that reach it."""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from wrm_pipeline.cache.tiers import Release, Room, nothing
from wrm_pipeline.resilience import OptionalRedis

if TYPE_CHECKING:
    from redis import Redis

# A builder that has not given its lock back by then is dead, or another one may as well build too.
LOCK_LEASE_S: Final = 60.0
# Keeps the sum of all values below a bound, in one step. The index holds keys by the time they expire, so that those
# that have gone by themselves are forgotten first. KEYS: index, sizes, [value, …]; ARGV: word, bytes at most, lifetime
# in ms, [value].
_SCRIPT: Final = """
local index, sizes = KEYS[1], KEYS[2]
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
-- In microseconds, as text: Lua writes a number with 14 digits.
local function text(time) return string.format('%.0f', time) end
local function forget(key)
  redis.call('ZREM', index, key)
  local size = redis.call('HGET', sizes, key)
  if size then
    redis.call('HDEL', sizes, key)
    redis.call('HINCRBY', sizes, 'total', -size)
  end
end
if ARGV[1] == 'delete' then
  for i = 3, #KEYS do
    redis.call('DEL', KEYS[i])
    forget(KEYS[i])
  end
  return 1
end
local key, most, lives = KEYS[3], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('SET', key, ARGV[4], 'PX', lives)
-- The server has dropped it: what is left of the sizes would count for ever.
if redis.call('EXISTS', index) == 0 then redis.call('DEL', sizes) end
forget(key)
redis.call('HSET', sizes, key, #ARGV[4])
local total = redis.call('HINCRBY', sizes, 'total', #ARGV[4])
redis.call('ZADD', index, text(now + 1000 * lives), key)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', text(now), 'LIMIT', 0, 100)) do forget(gone) end
total = tonumber(redis.call('HGET', sizes, 'total'))
while total > most do
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest then break end
  redis.call('DEL', oldest)
  forget(oldest)
  total = tonumber(redis.call('HGET', sizes, 'total'))
end
for _, own in ipairs({index, sizes}) do
  if redis.call('PTTL', own) < 2 * lives then redis.call('PEXPIRE', own, 2 * lives) end
end
return 1
"""
_INDEX: Final = ("wrm:v1:index", "wrm:v1:sizes")
_UNLOCK: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisTier:
    """A Redis server, for all machines that reach it.

    Args:
        redis: the server.
        max_bytes: of all values together.
    """

    name = "redis"

    def __init__(self, redis: OptionalRedis, *, max_bytes: int) -> None:
        self._redis = redis
        self._max_bytes = max_bytes
        self._room = Room("Give the Redis at REDIS_URL more memory, or set its maxmemory-policy to allkeys-lru.")

    def read(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """See `Tier`."""
        return self._redis.ask(lambda client: _values(client.mget(keys), len(keys)))

    def write(self, key: str, framed: bytes, lives_s: float) -> None:
        """See `Tier`."""
        if not self._room.is_there() or len(framed) > self._max_bytes:
            return

        def put(client: "Redis") -> bool:
            from redis.exceptions import OutOfMemoryError

            numbers = (str(self._max_bytes), str(max(1, int(lives_s * 1000))))
            try:
                client.eval(_SCRIPT, 3, *_INDEX, key, "put", *numbers, cast("str", framed))  # its types know text only
            except OutOfMemoryError:
                return False
            return True

        taken = self._redis.ask(put)
        if taken is False:
            self._room.refused("Redis has no memory left")
        elif taken:
            self._room.taken()

    def delete(self, keys: Sequence[str]) -> None:
        """See `Tier`."""
        if keys:
            self._redis.ask(lambda client: client.eval(_SCRIPT, 2 + len(keys), *_INDEX, *keys, "delete"))

    def lock(self, key: str) -> Release | None:
        """See `Tier`."""
        name, token = f"{key}:lock", secrets.token_hex(8)

        def take(client: "Redis") -> bool:
            from redis.exceptions import OutOfMemoryError

            try:
                return bool(client.set(name, token, nx=True, px=int(LOCK_LEASE_S * 1000)))
            except OutOfMemoryError:
                return True

        taken = self._redis.ask(take)
        if taken is False:
            return None

        def give_back() -> None:
            self._redis.ask(lambda client: client.eval(_UNLOCK, 1, name, token))

        return give_back if taken else nothing


def _values(reply: Any, count: int) -> list[bytes | None]:
    """Return the values of an answer; TypeError for one that is none."""
    values = list(reply)
    if len(values) != count or not all(value is None or isinstance(value, bytes) for value in values):
        raise TypeError("not an answer to MGET")
    return values

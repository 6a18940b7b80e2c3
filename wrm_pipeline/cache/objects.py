"""Bodies of S3 objects, by address and ETag.

An ETag that is the MD5 of a body says which body it is, so nothing else is kept, and what is found is held against it:
whoever can write to the cache cannot make the pipeline read other bytes than the store has.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from wrm_pipeline.cache.cache import Cache, cache_key
from wrm_pipeline.cache.frame import BYTES, JSON

# A day of processed or enhanced has about 1 MB; what is much larger is not read every few minutes.
LARGEST_BYTES: Final = 8 * 1024 * 1024
# Longer than from the last snapshot of a day to the jobs of the night that look at the day.
TTL_S: Final = 6 * 3600.0
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_BODY: Final = "body"
_ETAG: Final = "etag"


class ObjectCache:
    """What a store's objects hold. An address is anything that names one object, with its bucket and endpoint."""

    def __init__(self, values: Cache) -> None:
        self.values = values

    def find(self, address: str, etag: str) -> bytes | None:
        """Return the body that an object has now, when `etag` is its ETag now."""
        return self.find_many([(address, etag)])[0]

    def find_many(self, objects: Sequence[tuple[str, str]]) -> list[bytes | None]:
        """Return the bodies of objects, each given with its ETag now."""
        keys = [cache_key(_BODY, *each) for each in objects]
        bodies = self.values.get_many(keys, BYTES)
        for index, ((_, etag), body) in enumerate(zip(objects, bodies, strict=True)):
            if body is None:
                continue
            if _md5(body) == etag:
                self.values.stats.add_saved("get", len(body))
            else:
                self.values.delete(keys[index])
                bodies[index] = None
        return bodies

    def keep(self, address: str, etag: str, body: bytes, *, by_address: bool = False, shared: bool = True) -> None:
        """Keep a body, in memory only unless `shared`.

        With `by_address` it takes the place of the one before, and `knows` tells of it.
        """
        if len(body) > LARGEST_BYTES or not _MD5.fullmatch(etag) or (shared and _md5(body) != etag):
            return
        before = self._etag(address) if by_address else None
        self.values.put(cache_key(_BODY, address, etag), body, BYTES, ttl_s=TTL_S, shared=shared)
        if by_address:
            self.values.put(cache_key(_ETAG, address), etag, JSON, ttl_s=TTL_S)
            if before not in {None, etag}:
                self.values.delete(cache_key(_BODY, address, str(before)))

    def knows(self, address: str) -> bool:
        """Tell whether a body was kept by the object's address; it may be an old one."""
        return self._etag(address) is not None

    def _etag(self, address: str) -> str | None:
        etag = self.values.get(cache_key(_ETAG, address), JSON)
        return etag if isinstance(etag, str) else None


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()

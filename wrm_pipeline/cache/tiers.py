"""What a cache asks of a place that processes share, and what its kinds have in common.

A tier is an optional part, never raises, and is bounded. It knows nothing of what it keeps but keys and sizes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

_log = logging.getLogger(__name__)

Release = Callable[[], None]
# After a value was refused for want of room.
FULL_QUIET_S: Final = 30.0


class Tier(Protocol):
    """A place for values that other processes share. Nothing here raises because of it."""

    name: str

    def read(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """Return what lies at each key; None when the tier cannot be used now."""
        ...

    def write(self, key: str, framed: bytes, lives_s: float) -> None:
        """Put bytes at a key for so long at most."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete what lies at the keys."""
        ...

    def lock(self, key: str) -> Release | None:
        """Take the lock of a key; None when somebody else has it. Without a usable tier everybody gets it."""
        ...


def nothing() -> None:
    """Give back a lock that nobody had to take."""


class Room:
    """Whether a tier takes values: for a while not, after it refused one for want of room, with one warning."""

    def __init__(self, what_to_do: str) -> None:
        self._what_to_do = what_to_do
        self._quiet_until = 0.0
        self._warned = False

    def is_there(self) -> bool:
        """Tell whether to try."""
        return time.monotonic() >= self._quiet_until

    def refused(self, reason: str) -> None:
        """Note that there was none."""
        self._quiet_until = time.monotonic() + FULL_QUIET_S
        if not self._warned:
            self._warned = True
            _log.warning("%s: nothing new is cached meanwhile. %s", reason, self._what_to_do)

    def taken(self) -> None:
        """Note that a value was taken."""
        self._warned = False

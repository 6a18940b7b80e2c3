"""How a value lies in a cache: its format, how long it is good for, and a checksum that also binds it to its key.

Formats are JSON, Arrow IPC and bytes as they are; never pickle, since whoever can write to the cache could run code.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_MAGIC: Final = b"wrm1"
# Format, fresh until, dies at: a letter, and seconds since 1970.
_HEADER: Final = struct.Struct(">cdd")
_DIGEST_BYTES: Final = 32
_BEFORE_PAYLOAD: Final = len(_MAGIC) + _DIGEST_BYTES + _HEADER.size


class PoisonedValueError(ValueError):
    """Bytes in a cache that are no value of their key: damaged, cut off, of another key, or of somebody else."""


class Codec(Protocol[T]):
    """Turns values of a type into bytes and back. `tag` is one letter that no other codec has."""

    tag: bytes

    def encode(self, value: T) -> bytes:
        """Return the value as bytes."""
        ...

    def decode(self, payload: bytes) -> T:
        """Return the value that `encode` made bytes of; ValueError (Arrow's errors are such) for any other bytes."""
        ...


class _Bytes:
    tag = b"B"

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, payload: bytes) -> bytes:
        return payload


class _Json:
    tag = b"J"

    def encode(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()

    def decode(self, payload: bytes) -> Any:
        return json.loads(payload)


class _Arrow:
    tag = b"A"

    def encode(self, value: "pa.Table") -> bytes:
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def decode(self, payload: bytes) -> "pa.Table":
        import pyarrow as pa

        return pa.ipc.open_stream(payload).read_all()


BYTES: Final[Codec[bytes]] = _Bytes()
JSON: Final[Codec[Any]] = _Json()
ARROW: Final[Codec["pa.Table"]] = _Arrow()


@dataclass(frozen=True)
class Entry:
    """An encoded value: fresh until, and stale until it dies; both in seconds since 1970."""

    tag: bytes
    fresh_until: float
    dies_at: float
    payload: bytes


def frame(key: str, entry: Entry) -> bytes:
    """Return an entry as it lies under a key."""
    header = _HEADER.pack(entry.tag, entry.fresh_until, entry.dies_at)
    return b"".join((_MAGIC, _digest(key, header, entry.payload), header, entry.payload))


def unframe(key: str, framed: bytes) -> Entry:
    """Return the entry that `frame` made these bytes of.

    Raises:
        PoisonedValueError: it did not, or for another key.
    """
    header = framed[len(_MAGIC) + _DIGEST_BYTES : _BEFORE_PAYLOAD]
    payload = framed[_BEFORE_PAYLOAD:]
    digest = framed[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]
    if not framed.startswith(_MAGIC) or len(framed) < _BEFORE_PAYLOAD or digest != _digest(key, header, payload):
        raise PoisonedValueError(f"what lies at {key} is not what was put there")
    tag, fresh_until, dies_at = _HEADER.unpack(header)
    return Entry(tag, fresh_until, dies_at, payload)


def _digest(key: str, header: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\0" + header)
    digest.update(payload)
    return digest.digest()

"""Getting the feed's bytes over HTTP, with limits on everything a server can overdo. What the bytes mean is not asked.

One plain connection an attempt: a poll every few minutes has none to reuse, and only who holds the socket from the
start can cut it when an attempt lasts too long. Read timeouts alone let a server drip its headers a byte at a time, and
urllib3's pool hands out the socket only after the headers; it also logs the whole URL when they are cut short.
"""

import contextlib
import datetime as dt
import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from urllib3.exceptions import InvalidHeader, LocationParseError
from urllib3.util import Retry, Url, parse_url

from wrm_pipeline import __version__
from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.resilience import CircuitBreaker, Failure, RetryPolicy, call
from wrm_pipeline.settings import is_secure_or_loopback

# A snapshot is 40 to 60 KB; London's, the largest city of this source, 60 KB. 16 MiB is a mistake or an attack.
MAX_BODY_BYTES: Final = 16 * 2**20
CONNECT_TIMEOUT_S: Final = 5.0
# A whole attempt may last this many times `timeout_s`, however busily the server keeps sending.
ATTEMPT_FACTOR: Final = 2.0
# The last attempt begins within the budget and lasts at most 40 s by default: done long before the next poll, 5 minutes
# after this one.
FEED_POLICY: Final = RetryPolicy(attempts=3, budget_s=60.0, base_s=1.0, cap_s=10.0)
_CHUNK_BYTES: Final = 64 * 2**10
_SHOWN_CHARACTERS: Final = 120
_TRANSIENT_STATUS: Final = frozenset({429, 500, 502, 503, 504})
_NETWORK_ERRORS: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Payload:
    """What the feed answered.

    Attributes:
        body: decoded bytes.
        fetched_at: aware, UTC: when the last byte had come.
        content_type: as the server said, printable, cut to 120 characters; empty when it said nothing.
        encoded_bytes: as they came over the wire.
        seconds: from the first attempt to the last byte, waits included.
        attempts: 1 when the first one succeeded.
    """

    body: bytes
    fetched_at: dt.datetime
    status: int
    content_type: str
    encoded_bytes: int
    seconds: float
    attempts: int


class FeedError(ExpectedError):
    """The feed gave no payload; the message is for the person who must act, and holds nothing secret."""


class FeedUnavailable(FeedError):  # noqa: N818 - says what happened
    """The feed was down, overloaded or too slow in every attempt; the next poll may find it well.

    Attributes:
        retry_after_s: what the server asked for, if it did.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class FeedRefused(FeedError):  # noqa: N818 - says what happened
    """The address or the answer is one that trying again does not change."""


class FeedTooLarge(FeedError):  # noqa: N818 - says what happened
    """The answer is larger than any snapshot."""


class FeedCutOff(FeedError):  # noqa: N818 - says what happened
    """The transfer ended early, in the last attempt at least.

    Attributes:
        body: the decoded bytes that had come, or the raw ones when none could be decoded; never empty.
    """

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body


class FeedDamaged(FeedCutOff):
    """The bytes that came are no valid gzip."""


def fetch(
    url: str,
    *,
    contact: str,
    timeout_s: float,
    policy: RetryPolicy = FEED_POLICY,
    breaker: CircuitBreaker | None = None,
    on_retry: Callable[[], None] = lambda: None,
) -> Payload:
    """Get what is at a URL now.

    Args:
        url: https, or http on this machine.
        contact: whom the feed's owner can write to; goes into the User-Agent.
        timeout_s: without a byte, and half of what a whole attempt may take.
        policy: how often and how long to try.
        breaker: counts the attempts that fail in a way that passes.
        on_retry: called before each retry.

    Raises:
        FeedRefused: the address may not be asked, or the answer is permanent: a redirect, a 4xx, TLS.
        FeedTooLarge: more than 16 MiB, decoded or not.
        FeedUnavailable: no answer, or one that says to come later.
        FeedCutOff: part of an answer.
        FeedDamaged: an answer that cannot be decoded, twice.
        BreakerOpen: not asked at all.
    """
    target = _Target.of(url)
    agent = f"wrm_pipeline/{__version__} (Wroclaw city bike archive; contact: {_printable(contact)})"
    headers = {"User-Agent": agent.encode("ascii", "replace").decode(), "Accept-Encoding": "gzip"}
    began = time.monotonic()
    attempts = 0

    def attempt() -> Payload:
        nonlocal attempts
        attempts += 1
        with _Connection(target, timeout_s) as connection:
            response = connection.get(headers)
            _require_ok(response, target)
            body, encoded_bytes = _read_body(response, target, connection)
        return Payload(
            body=body,
            fetched_at=dt.datetime.now(dt.UTC),
            status=response.status,
            content_type=_printable(response.headers.get("Content-Type", "")),
            encoded_bytes=encoded_bytes,
            seconds=time.monotonic() - began,
            attempts=attempts,
        )

    return call(
        attempt,
        what=f"GET {target}",
        policy=policy,
        classify=_classify,
        breaker=breaker,
        retry_after=lambda error: error.retry_after_s if isinstance(error, FeedUnavailable) else None,
        on_retry=on_retry,
    )


def _classify(error: BaseException) -> Failure:
    if isinstance(error, FeedDamaged):
        return Failure.CORRUPT
    if isinstance(error, FeedUnavailable | FeedCutOff):
        return Failure.TRANSIENT
    return Failure.PERMANENT


@dataclass(frozen=True)
class _Target:
    """An address taken apart; as text, without the query, which may hold a token."""

    secure: bool
    host: str
    port: int
    request_uri: str
    shown: str

    @classmethod
    def of(cls, url: str) -> Self:
        try:
            parsed = parse_url(url)
            # As read here: parsers differ on odd addresses, and this reading decides where the request goes.
            allowed = is_secure_or_loopback(parsed.url)
            (parsed.host or "").encode("idna")
        except (LocationParseError, ValueError):
            raise FeedRefused("The feed's address cannot be read. Check WRM_FEED_URL.") from None
        if not allowed or parsed.host is None:
            raise FeedRefused(
                f"The feed at {_place(url)} is not asked: only https, or http on this machine, is allowed. "
                "Check WRM_FEED_URL."
            )
        if parsed.auth is not None:
            raise FeedRefused(
                f"The feed at {_place(url)} is not asked: its address holds a user name or password, which the feed "
                "has no use for and which would end up in logs. Check WRM_FEED_URL."
            )
        secure = parsed.scheme == "https"
        return cls(
            secure=secure,
            host=parsed.host.strip("[]"),
            port=parsed.port or (443 if secure else 80),
            request_uri=parsed.request_uri,
            shown=_place(url),
        )

    def __str__(self) -> str:
        return self.shown


class _Connection:
    """One connection for one request, which a timer cuts when the attempt has lasted too long."""

    def __init__(self, target: _Target, timeout_s: float) -> None:
        connect_s = min(CONNECT_TIMEOUT_S, timeout_s)
        self._http: http.client.HTTPConnection
        if target.secure:
            context = ssl.create_default_context()  # verifies certificate and name
            self._http = http.client.HTTPSConnection(target.host, target.port, timeout=connect_s, context=context)
        else:
            self._http = http.client.HTTPConnection(target.host, target.port, timeout=connect_s)
        self._target = target
        self._timeout_s = timeout_s
        self._limit_s = ATTEMPT_FACTOR * timeout_s
        self._expired = threading.Event()
        self._timer = threading.Timer(self._limit_s, self._cut)
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None

    def __enter__(self) -> Self:
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._response is not None:
            self._response.close()
        self._http.close()

    def get(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Connect, ask, and return the answer when its headers have come.

        Raises:
            FeedUnavailable: no answer.
            FeedRefused: TLS failed.
        """
        try:
            self._http.connect()
            # Kept, since the connection forgets its socket as soon as the server says that it will close it.
            self._socket = self._http.sock
            self._socket.settimeout(self._timeout_s)
            self.check_time()
            self._http.request("GET", self._target.request_uri, headers=headers)
            self._response = self._http.getresponse()
        except _NETWORK_ERRORS as error:
            self.check_time()
            raise _explained(error, self._target) from error
        return self._response

    def check_time(self) -> None:
        """Raise FeedUnavailable when the timer has cut the connection, whatever that looked like."""
        if self._expired.is_set():
            raise FeedUnavailable(
                f"The feed at {self._target} had not finished its answer after {self._limit_s:g} s. It is too slow or "
                "stuck; if it always is, raise WRM_FEED_TIMEOUT_S."
            )

    def _cut(self) -> None:
        self._expired.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which takes the TLS state away from under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _require_ok(response: http.client.HTTPResponse, target: _Target) -> None:
    status = response.status
    if status == HTTPStatus.OK:
        return
    answer = f"The feed at {target} answered {status} {http.client.responses.get(status, '')}".rstrip()
    if status in _TRANSIENT_STATUS:
        raise FeedUnavailable(f"{answer}. It is down or overloaded.", _retry_after_s(response))
    if 300 <= status < 400:
        place = _place(response.headers.get("Location", "")) or "nowhere"
        raise FeedRefused(f"{answer} and pointed to {place}. Redirects are not followed; check WRM_FEED_URL.")
    raise FeedRefused(f"{answer}, which trying again does not change. Check WRM_FEED_URL.")


def _retry_after_s(response: http.client.HTTPResponse) -> float | None:
    value = response.headers.get("Retry-After", "")[:_SHOWN_CHARACTERS]
    try:
        return Retry().parse_retry_after(value)
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _read_body(response: http.client.HTTPResponse, target: _Target, connection: _Connection) -> tuple[bytes, int]:
    """Return the decoded body and the number of bytes that came over the wire."""
    decoder = _decoder(response.headers.get("Content-Encoding", ""), target)
    encoded_bytes = 0
    try:
        # read1 returns what has come, where read would wait for the whole chunk.
        while chunk := response.read1(_CHUNK_BYTES):
            encoded_bytes += len(chunk)
            decoder.feed(chunk)
            if max(encoded_bytes, len(decoder.body)) > MAX_BODY_BYTES:
                raise FeedTooLarge(
                    f"The answer of the feed at {target} is larger than {MAX_BODY_BYTES // 2**20} MiB, which no "
                    "snapshot comes near. Check WRM_FEED_URL."
                )
    except _NETWORK_ERRORS as error:
        connection.check_time()
        if not decoder.body or isinstance(error, TimeoutError):
            raise _explained(error, target) from error
        raise _cut_off(target, decoder, encoded_bytes) from error
    except zlib.error as error:
        raise FeedDamaged(
            f"The answer of the feed at {target} says that it is gzip, but cannot be unpacked: {error}",
            bytes(decoder.body) or chunk,
        ) from error
    connection.check_time()
    # Headers that were cut off read like an answer without a length and without a body.
    no_body = not encoded_bytes and response.length is None and not response.chunked
    if response.length or no_body or (encoded_bytes and not decoder.complete):
        raise _cut_off(target, decoder, encoded_bytes)
    return bytes(decoder.body), encoded_bytes


def _cut_off(target: _Target, decoder: "_Identity | _Gunzip", encoded_bytes: int) -> FeedError:
    message = f"The transfer from the feed at {target} was cut off after {encoded_bytes} bytes."
    return FeedCutOff(message, bytes(decoder.body)) if decoder.body else FeedUnavailable(message)


class _Identity:
    """A body as it is."""

    complete = True

    def __init__(self) -> None:
        self.body = bytearray()

    def feed(self, data: bytes) -> None:
        self.body += data


class _Gunzip:
    """A body from one or more gzip members; stops one byte above the limit, whatever they hold."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._member = zlib.decompressobj(wbits=31)

    @property
    def complete(self) -> bool:
        return self._member.eof

    def feed(self, data: bytes) -> None:
        while data and len(self.body) <= MAX_BODY_BYTES:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            self.body += self._member.decompress(data, MAX_BODY_BYTES + 1 - len(self.body))
            data = self._member.unused_data


def _decoder(encoding: str, target: _Target) -> _Identity | _Gunzip:
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Gunzip()
        case other:
            raise FeedRefused(
                f"The feed at {target} answered with Content-Encoding {_printable(other)!r}, but gzip was asked for. "
                "Check WRM_FEED_URL."
            )


def _explained(error: Exception, target: _Target) -> FeedError:
    reason = _printable(str(error)) or type(error).__name__
    # An end of file inside TLS is a connection that broke, like any other; the rest is keys and certificates.
    broken = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(error, ssl.SSLError) and not broken:
        return FeedRefused(
            f"The TLS connection to the feed at {target} failed: {reason}. "
            "Check WRM_FEED_URL, and the clock and the CA certificates of this machine."
        )
    return FeedUnavailable(f"The feed at {target} cannot be reached or broke off: {reason}.")


def _place(url: str) -> str:
    """Return scheme, host and path of an address for a message: credentials and query may be secret."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return "an unreadable address"
    return _printable(Url(scheme=parts.scheme, host=parts.host, port=parts.port, path=parts.path).url)


def _printable(text: str) -> str:
    """Return a server's or a user's words on one short line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[:_SHOWN_CHARACTERS]).strip()

"""Fetching the feed: what comes back, what is tried again, what is refused, and what no server can make it do."""

import contextlib
import datetime as dt
import gzip
import logging
import random
import re
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline import __version__
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.feed.fetch import (
    ATTEMPT_FACTOR,
    MAX_BODY_BYTES,
    FeedCutOff,
    FeedDamaged,
    FeedError,
    FeedRefused,
    FeedTooLarge,
    FeedUnavailable,
    Payload,
    _Gunzip,
    fetch,
)
from wrm_pipeline.feed.simulator import BadDay, SimulatorServer
from wrm_pipeline.resilience import BreakerOpen, CircuitBreaker, LocalBreakerState, RetryPolicy
from wrm_pipeline_tests.fixtures.certificates import loopback_tls

QUICK = RetryPolicy(attempts=3, budget_s=20.0, base_s=0.01, cap_s=0.02)
NOON = dt.datetime(2025, 8, 20, 12, tzinfo=dt.UTC)
BODY = snapshot(7, NOON)

Turn = bytes | Callable[[socket.socket, threading.Event], None]


class RawServer:
    """A server that says exactly what a test tells it: one turn a connection, the last one again and again.

    A turn is the bytes to send before closing, or a function that is given the connection.
    """

    def __init__(self, *turns: Turn, tls: ssl.SSLContext | None = None) -> None:
        self.heard: list[bytes] = []
        self.connections = 0
        self._turns: Sequence[Turn] = turns
        self._tls = tls
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/load.php?scheme=wroclaw&token=hush"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                plain, _ = self._listener.accept()
                turn = self._turns[min(self.connections, len(self._turns) - 1)]
                self.connections += 1
                plain.settimeout(5)
                with self._tls.wrap_socket(plain, server_side=True) if self._tls else plain as connection:
                    self.heard.append(self._request(connection))
                    if callable(turn):
                        turn(connection, self._stopping)
                    else:
                        connection.sendall(turn)

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += connection.recv(1)
        return heard


def answer(body: bytes = BODY, *, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """An HTTP answer; `Content_Encoding="gzip"` gives that header."""
    lines = {"Content-Length": str(len(body) if length is None else length)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end


def dripping(beginning: bytes, drop: bytes = b"x") -> Turn:
    """Send the beginning, then a drop every twentieth of a second."""

    def turn(connection: socket.socket, stopping: threading.Event) -> None:
        connection.sendall(beginning)
        while not stopping.wait(0.05):
            connection.sendall(drop)

    return turn


def silent(beginning: bytes) -> Turn:
    """Send the beginning, then nothing."""

    def turn(connection: socket.socket, stopping: threading.Event) -> None:
        connection.sendall(beginning)
        connection.recv(1)  # until the client leaves

    return turn


def resetting(beginning: bytes) -> Turn:
    """Send the beginning, then reset the connection."""

    def turn(connection: socket.socket, stopping: threading.Event) -> None:
        connection.sendall(beginning)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return turn


def get(
    url: str,
    *,
    timeout_s: float = 5.0,
    contact: str = "ops@example.org",
    policy: RetryPolicy = QUICK,
    breaker: CircuitBreaker | None = None,
    on_retry: Callable[[], None] = lambda: None,
) -> Payload:
    return fetch(url, contact=contact, timeout_s=timeout_s, policy=policy, breaker=breaker, on_retry=on_retry)


def failure(url: str, *, timeout_s: float = 5.0, policy: RetryPolicy = QUICK) -> FeedError:
    with pytest.raises(FeedError) as caught:
        get(url, timeout_s=timeout_s, policy=policy)
    return caught.value


@pytest.fixture
def feed() -> Iterator[SimulatorServer]:
    with SimulatorServer(seed=7, clock=lambda: NOON) as server:
        yield server


class TestWhatComesBack:
    def test_the_bytes_of_the_snapshot_and_the_facts_about_them(self, feed: SimulatorServer) -> None:
        before = dt.datetime.now(dt.UTC)

        payload = get(feed.url)

        assert payload.body == BODY
        assert payload.encoded_bytes == len(gzip.compress(BODY, mtime=0))
        assert before <= payload.fetched_at <= dt.datetime.now(dt.UTC)
        assert payload.fetched_at.utcoffset() == dt.timedelta(0)
        assert 0 < payload.seconds < 5
        assert (payload.status, payload.content_type) == (200, "text/plain; charset=utf-8")
        assert payload.attempts == feed.requests == 1

    def test_the_time_is_that_of_the_last_byte(self) -> None:
        def late(connection: socket.socket, stopping: threading.Event) -> None:
            connection.sendall(answer(b"12345")[:-1])
            stopping.wait(0.4)
            connection.sendall(b"5")

        with RawServer(late) as server:
            asked = dt.datetime.now(dt.UTC)
            payload = get(server.url)

        assert payload.fetched_at - asked > dt.timedelta(seconds=0.4)
        assert payload.seconds > 0.4

    def test_the_request_says_who_asks_and_whom_to_write_to(self) -> None:
        with RawServer(answer()) as server:
            get(server.url, contact="ops@example.org")

        lines = server.heard[0].decode().split("\r\n")
        assert lines[0] == "GET /load.php?scheme=wroclaw&token=hush HTTP/1.1"
        assert f"Host: 127.0.0.1:{server.port}" in lines
        assert "Accept-Encoding: gzip" in lines
        assert f"User-Agent: wrm_pipeline/{__version__} (Wroclaw city bike archive; contact: ops@example.org)" in lines

    def test_a_contact_cannot_smuggle_in_a_header(self) -> None:
        with RawServer(answer()) as server:
            get(server.url, contact="Łukasz <ops@example.org>\r\nX-Evil: 1")

        assert b"contact: ?ukasz <ops@example.org>  X-Evil: 1)" in server.heard[0]
        assert b"\r\nX-Evil" not in server.heard[0]

    @pytest.mark.parametrize("encoding", ["identity", ""])
    def test_a_body_that_is_not_packed_is_taken_as_it_is(self, encoding: str) -> None:
        with RawServer(answer(Content_Encoding=encoding)) as server:
            payload = get(server.url)

        assert payload.body == BODY
        assert payload.encoded_bytes == len(payload.body)

    @pytest.mark.parametrize("name", ["gzip", "x-gzip", " GZIP "])
    def test_gzip_goes_by_several_names(self, name: str) -> None:
        with RawServer(answer(gzip.compress(BODY), Content_Encoding=name)) as server:
            assert get(server.url).body == BODY

    def test_several_gzip_members_make_one_body(self) -> None:
        with RawServer(
            answer(gzip.compress(BODY[:999]) + gzip.compress(BODY[999:]), Content_Encoding="gzip")
        ) as server:
            assert get(server.url).body == BODY

    def test_an_empty_answer_is_an_empty_body_packed_or_not(self) -> None:
        with RawServer(answer(b""), answer(b"", Content_Encoding="gzip")) as server:
            assert [get(server.url).body for _ in range(2)] == [b"", b""]

    def test_a_chunked_body_is_put_together(self) -> None:
        with RawServer(chunked(BODY[:1], BODY[1:30_000], BODY[30_000:])) as server:
            assert get(server.url).body == BODY

    def test_a_body_without_a_length_ends_with_the_connection(self) -> None:
        with RawServer(b"HTTP/1.1 200 OK\r\n\r\n" + BODY) as server:
            assert get(server.url).body == BODY

    def test_a_payload_that_is_no_snapshot_is_not_its_business(self, feed: SimulatorServer) -> None:
        feed.fault = BadDay.HTML

        payload = get(feed.url)

        assert payload.body.startswith(b"<!DOCTYPE html>")
        assert payload.content_type == "text/html; charset=utf-8"
        assert feed.requests == 1

    def test_a_content_type_is_shown_on_one_short_line(self) -> None:
        with RawServer(answer(Content_Type="text/\x1b[31mplain" + "x" * 500)) as server:
            content_type = get(server.url).content_type

        assert content_type.startswith("text/ [31mplain")
        assert len(content_type) <= 120

    def test_the_environment_cannot_send_it_to_a_proxy(
        self, feed: SimulatorServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")

        assert get(feed.url).body == BODY


class TestWhatIsTriedAgain:
    @pytest.mark.parametrize("status", ["429", "500", "502", "503", "504"])
    def test_a_server_in_trouble(self, status: str) -> None:
        with RawServer(answer(b"<html>", status=f"{status} Trouble")) as server:
            error = failure(server.url)

        assert isinstance(error, FeedUnavailable)
        assert status in str(error)
        assert server.connections == 3

    def test_a_server_that_recovers_in_time(self) -> None:
        retries: list[None] = []
        with RawServer(answer(status="503 Down"), resetting(answer()[:9000]), answer()) as server:
            payload = get(server.url, on_retry=lambda: retries.append(None))

        assert payload.body == BODY
        assert payload.attempts == 3
        assert len(retries) == 2

    @pytest.mark.parametrize(
        "turn",
        [
            b"",
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            resetting(b""),
            b"\x00\x1b[2J\r\n\r\n",
            b"SSH-2.0-x\r\n",
        ],
        ids=["closed", "status line", "headers", "reset", "garbage", "another protocol"],
    )
    def test_no_answer_at_all(self, turn: Turn, caplog: pytest.LogCaptureFixture) -> None:
        with RawServer(turn) as server:
            error = failure(server.url)

        assert isinstance(error, FeedUnavailable)
        assert str(error).isprintable()
        assert server.connections == 3
        assert "hush" not in caplog.text

    def test_nobody_listening(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/load.php"
        retries: list[None] = []

        with pytest.raises(FeedUnavailable, match="Connection refused"):
            get(url, on_retry=lambda: retries.append(None))

        assert len(retries) == 2

    def test_a_transfer_cut_every_time_keeps_what_had_come(self, feed: SimulatorServer) -> None:
        feed.fault = BadDay.CUT_TRANSFER

        error = failure(feed.url)

        assert isinstance(error, FeedCutOff)
        assert BODY.startswith(error.body)
        assert len(error.body) > 10_000
        assert feed.requests == 3

    @pytest.mark.parametrize(
        "turn",
        [
            answer(BODY[:9000], length=len(BODY)),
            resetting(answer(BODY[:9000], length=len(BODY))),
            chunked(BODY[:9000], end=b""),
            chunked(BODY[:9000], end=b"ffff\r\n" + BODY[9000:9005]),
            answer(gzip.compress(BODY[:9000])[:-4], Content_Encoding="gzip"),
            answer(gzip.compress(BODY[:9000]) + gzip.compress(BODY)[:5], Content_Encoding="gzip"),
        ],
        ids=["length", "reset", "between chunks", "in a chunk", "in a gzip stream", "in a second gzip stream"],
    )
    def test_every_kind_of_cut_is_seen(self, turn: Turn) -> None:
        with RawServer(turn) as server:
            error = failure(server.url)

        assert type(error) is FeedCutOff
        assert BODY.startswith(error.body)
        assert len(error.body) >= 1000
        assert server.connections == 3

    def test_a_transfer_cut_before_its_first_byte_is_an_outage_and_leaves_nothing_to_keep(self) -> None:
        with RawServer(answer(b"", length=100)) as server:
            assert isinstance(failure(server.url), FeedUnavailable)
            assert server.connections == 3

    def test_a_gzip_stream_cut_inside_its_head_is_an_outage_too(self) -> None:
        with RawServer(answer(gzip.compress(BODY)[:5], Content_Encoding="gzip")) as server:
            assert isinstance(failure(server.url), FeedUnavailable)
            assert server.connections == 3

    def test_a_damaged_transfer_is_asked_for_once_more(self) -> None:
        packed = bytearray(gzip.compress(BODY))
        packed[-6] ^= 1  # in the checksum
        with RawServer(answer(bytes(packed), Content_Encoding="gzip")) as server:
            error = failure(server.url)

        assert isinstance(error, FeedDamaged)
        assert error.body
        assert server.connections == 2

    def test_plain_text_that_calls_itself_gzip_is_damaged_and_kept(self) -> None:
        with RawServer(answer(b"<html>oops</html>", Content_Encoding="gzip")) as server:
            error = failure(server.url)

        assert isinstance(error, FeedDamaged)
        assert error.body == b"<html>oops</html>"

    def test_retries_say_where_and_why_but_not_the_query(self, caplog: pytest.LogCaptureFixture) -> None:
        with RawServer(answer(status="503 Down"), answer()) as server, caplog.at_level(logging.WARNING):
            get(server.url)

        assert f"GET http://127.0.0.1:{server.port}/load.php: attempt 1 of 3 failed" in caplog.text
        assert "503 Service Unavailable" in caplog.text
        assert "hush" not in caplog.text


class TestWhenTheServerNamesATime:
    def test_it_is_waited_for(self) -> None:
        with RawServer(answer(status="503 Down", Retry_After="1"), answer()) as server:
            payload = get(server.url)

        assert payload.seconds >= 1.0
        assert payload.attempts == 2

    @pytest.mark.parametrize(
        "value",
        ["3600", format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(days=400), usegmt=True), "9" * 100, "9" * 9000],
        # Names of their own: each process that runs tests has to find the same ones, also a second later.
        ids=["an hour", "a date", "100 digits", "9000 digits"],
    )
    def test_one_beyond_the_budget_is_the_end(self, value: str) -> None:
        with RawServer(answer(status="429 Slow down", Retry_After=value), answer()) as server:
            began = time.monotonic()
            error = failure(server.url)

        assert isinstance(error, FeedUnavailable)
        assert error.retry_after_s is not None
        assert error.retry_after_s >= 3600
        assert time.monotonic() - began < 2
        assert server.connections == 1

    @pytest.mark.parametrize("value", ["soon", "-5", "", "Mon, 99 Foo 2025 99:99:99 GMT", "0"])
    def test_one_that_makes_no_sense_is_ignored(self, value: str) -> None:
        with RawServer(answer(status="503 Down", Retry_After=value), answer()) as server:
            assert get(server.url).attempts == 2


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "status", ["201", "204", "206", "304", "400", "401", "403", "404", "410", "418", "501", "599"]
    )
    def test_any_other_status_at_once(self, status: str) -> None:
        with RawServer(answer(b"", status=f"{status} \x1b[31mNo")) as server:
            error = failure(server.url)

        assert isinstance(error, FeedRefused)
        assert f"answered {status}" in str(error)
        assert "WRM_FEED_URL" in str(error)
        assert str(error).isprintable()
        assert server.connections == 1

    def test_a_redirect_is_named_and_not_followed(self, feed: SimulatorServer) -> None:
        feed.fault = BadDay.REDIRECT

        error = failure(feed.url)

        assert isinstance(error, FeedRefused)
        assert "302 Found and pointed to /moved/here." in str(error)
        assert "hush" not in str(error)
        assert feed.requests == 1

    @pytest.mark.parametrize(
        ("location", "shown"),
        [
            ("https://me:hush@example.org:8443/new?key=hush#hush", "https://example.org:8443/new."),
            ("//example.org/new", "example.org/new."),
            ("http://[::1", "an unreadable address."),
            ("/\x1b[31m" + "x" * 5000, "/%1B%5B31mxxx"),
            ("", "nowhere."),
        ],
    )
    def test_where_a_redirect_points_is_shown_without_secrets_and_in_short(self, location: str, shown: str) -> None:
        with RawServer(answer(b"", status="301 Moved", Location=location)) as server:
            message = str(failure(server.url))

        assert f"pointed to {shown}" in message
        assert "hush" not in message
        assert message.isprintable()
        assert len(message) < 400

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "\x1b[31mzip" + "x" * 500])
    def test_an_encoding_that_was_not_asked_for(self, encoding: str) -> None:
        with RawServer(answer(Content_Encoding=encoding)) as server:
            error = failure(server.url)

        assert isinstance(error, FeedRefused)
        assert "Content-Encoding" in str(error)
        assert str(error).isprintable()
        assert len(str(error)) < 400
        assert server.connections == 1

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.org/load.php?token=hush",
            "http://127.0.0.1.example.org/?token=hush",
            "http://127.0.0.1@example.org/?token=hush",
            "http://example.org\\@127.0.0.1/?token=hush",
            "ftp://127.0.0.1/?token=hush",
            "file:///etc/passwd",
            "https:///nowhere?token=hush",
            "http://[::1?token=hush",
            "http://127.0.0.1:99999/?token=hush",
            "https://a..b/?token=hush",
            "https://exa mple.org/?token=hush",
            "https://example.org:x/?token=hush",
            "nonsense",
            "",
        ],
    )
    def test_an_address_that_is_neither_https_nor_this_machine(self, url: str) -> None:
        error = failure(url)

        assert isinstance(error, FeedRefused)
        assert "WRM_FEED_URL" in str(error)
        assert "hush" not in str(error)

    def test_an_address_with_a_password_in_it(self, feed: SimulatorServer) -> None:
        error = failure(feed.url.replace("://", "://me:hush@"))

        assert isinstance(error, FeedRefused)
        assert "hush" not in str(error)
        assert feed.requests == 0

    def test_a_server_that_speaks_no_tls(self, feed: SimulatorServer) -> None:
        error = failure(feed.url.replace("http://", "https://"))

        assert isinstance(error, FeedRefused)
        assert "TLS" in str(error)

    def test_a_certificate_that_nobody_vouches_for(self, tmp_path: Path) -> None:
        with RawServer(answer(), tls=loopback_tls(tmp_path).server) as server:
            error = failure(server.url)

        assert isinstance(error, FeedRefused)
        assert "certificate" in str(error).lower()
        assert (server.connections, server.heard) == (1, [])


class TestOverTls:
    @pytest.fixture
    def tls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
        made = loopback_tls(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority_file))  # OpenSSL's own way to be told whom to trust
        return made.server

    def test_a_server_with_a_trusted_certificate_is_asked(self, tls: ssl.SSLContext) -> None:
        with RawServer(answer(), tls=tls) as server:
            assert get(server.url).body == BODY

    def test_a_certificate_for_another_name_is_refused(self, tls: ssl.SSLContext) -> None:
        with RawServer(answer(), tls=tls) as server:
            error = failure(server.url.replace("127.0.0.1", "localhost"))

        assert isinstance(error, FeedRefused)
        assert server.heard == []

    def test_a_connection_that_breaks_is_tried_again(self, tls: ssl.SSLContext) -> None:
        with RawServer(resetting(answer(BODY[:9000], length=len(BODY))), answer(), tls=tls) as server:
            assert get(server.url).attempts == 2

    def test_a_drip_is_ended(self, tls: ssl.SSLContext) -> None:
        with RawServer(dripping(b"HTTP/1.1 200 OK\r\n\r\n"), tls=tls) as server:
            began = time.monotonic()
            error = failure(server.url, timeout_s=0.3, policy=RetryPolicy(attempts=1))

        assert isinstance(error, FeedUnavailable)
        assert time.monotonic() - began < 3


class TestLimits:
    def test_a_bomb_is_refused_and_never_in_memory(self, feed: SimulatorServer) -> None:
        feed.fault = BadDay.GZIP_BOMB
        tracemalloc.start()
        try:
            error = failure(feed.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert isinstance(error, FeedTooLarge)
        assert "16 MiB" in str(error)
        assert feed.requests == 1
        assert peak < 48 * 2**20  # inflated whole, the bomb is 64 MiB

    @pytest.mark.parametrize("members", [[128 * 2**20], [MAX_BODY_BYTES + 1, 128 * 2**20]])
    def test_a_bomb_that_comes_in_one_piece_is_not_unpacked_either(self, members: list[int]) -> None:
        bomb = b"".join(gzip.compress(bytes(size)) for size in members)
        unpacker = _Gunzip()
        tracemalloc.start()
        try:
            unpacker.feed(bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert len(unpacker.body) == MAX_BODY_BYTES + 1
        assert peak < 48 * 2**20

    def test_an_endless_body_is_refused(self) -> None:
        block = bytes(2**20)

        def pour(connection: socket.socket, stopping: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not stopping.is_set():
                connection.sendall(block)

        with RawServer(pour) as server:
            assert isinstance(failure(server.url), FeedTooLarge)
            assert server.connections == 1

    def test_endless_gzip_that_holds_nothing_is_refused(self) -> None:
        block = gzip.compress(b"") * 50_000

        def pour(connection: socket.socket, stopping: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
            while not stopping.is_set():
                connection.sendall(block)

        with RawServer(pour) as server:
            assert isinstance(failure(server.url, timeout_s=60), FeedTooLarge)

    @pytest.mark.parametrize("pack", [lambda body: body, gzip.compress], ids=["plain", "gzip"])
    def test_the_limit_is_exact(self, pack: Callable[[bytes], bytes]) -> None:
        encoding = "gzip" if pack is gzip.compress else "identity"
        largest, larger = (answer(pack(bytes(MAX_BODY_BYTES + extra)), Content_Encoding=encoding) for extra in (0, 1))
        with RawServer(largest, larger) as server:
            assert len(get(server.url).body) == MAX_BODY_BYTES
            assert isinstance(failure(server.url), FeedTooLarge)

    @pytest.mark.parametrize(
        "beginning",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nX-Drip: ",
            answer(b"", length=10**6),
            b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:9000],
        ],
        ids=["status line", "headers", "body", "body without a length"],
    )
    def test_a_drip_is_ended_wherever_it_is_and_never_taken_for_the_whole(self, beginning: bytes) -> None:
        with RawServer(dripping(beginning)) as server:
            began = time.monotonic()
            error = failure(server.url, timeout_s=0.4, policy=RetryPolicy(attempts=1))
            took = time.monotonic() - began

        assert isinstance(error, FeedUnavailable)
        assert "too slow or stuck" in str(error)
        assert 0.4 * ATTEMPT_FACTOR <= took < 0.4 * ATTEMPT_FACTOR + 2

    @pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200", answer(BODY[:9000], length=len(BODY))])
    def test_silence_is_ended_by_the_timeout(self, beginning: bytes) -> None:
        with RawServer(silent(beginning)) as server:
            began = time.monotonic()
            error = failure(server.url, timeout_s=0.3, policy=RetryPolicy(attempts=1))

        assert isinstance(error, FeedUnavailable)
        assert 0.3 <= time.monotonic() - began < 2

    def test_no_timer_is_left_behind(self, feed: SimulatorServer) -> None:
        for bad_day in (None, BadDay.CUT_TRANSFER, BadDay.REDIRECT, BadDay.GZIP_BOMB, BadDay.UNAVAILABLE):
            feed.fault = bad_day
            with contextlib.suppress(FeedError):
                get(feed.url)

        assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


class TestTheBreaker:
    @staticmethod
    def breaker() -> CircuitBreaker:
        return CircuitBreaker("feed", failure_threshold=3, open_s=60, state=LocalBreakerState())

    def test_after_three_failures_the_feed_is_left_alone(self, feed: SimulatorServer) -> None:
        breaker = self.breaker()
        feed.fault = BadDay.UNAVAILABLE
        with pytest.raises(FeedUnavailable):
            get(feed.url, breaker=breaker)

        with pytest.raises(BreakerOpen, match="503"):
            get(feed.url, breaker=breaker)

        assert feed.requests == 3

    def test_an_answer_that_is_refused_is_no_outage(self, feed: SimulatorServer) -> None:
        breaker = self.breaker()
        feed.fault = BadDay.REDIRECT
        for _ in range(5):
            with pytest.raises(FeedRefused):
                get(feed.url, breaker=breaker)

        assert not breaker.is_open()


@settings(max_examples=100, deadline=None)
@given(bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=5), seed=st.integers(0, 10_000))
def test_gzip_is_unpacked_the_same_wherever_the_network_splits_it(bodies: list[bytes], seed: int) -> None:
    packed = b"".join(map(gzip.compress, bodies))
    rng = random.Random(seed)  # noqa: S311
    cuts = sorted(rng.randrange(len(packed)) for _ in range(10))
    unpacker = _Gunzip()

    for start, end in zip([0, *cuts], [*cuts, len(packed)], strict=True):
        unpacker.feed(packed[start:end])

    assert bytes(unpacker.body) == b"".join(bodies)
    assert unpacker.complete


def test_messages_name_the_place_and_stay_sentences(feed: SimulatorServer) -> None:
    feed.fault = BadDay.UNAVAILABLE

    message = str(failure(feed.url))

    assert re.fullmatch(r"The feed at http://127\.0\.0\.1:\d+/bikesapi/load\.php answered 503 .*\.", message)
    assert "scheme=" not in message

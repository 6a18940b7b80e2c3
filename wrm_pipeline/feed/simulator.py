"""A feed server on this machine: a made-up city or recorded files, on good days and on bad ones.

It listens on 127.0.0.1 only. What it serves comes from `city.snapshot`, or from a directory of recordings.
"""

import datetime as dt
import gzip
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.feed.city import snapshot, with_bad_rows

HOST: Final = "127.0.0.1"
CONTROL_PATH: Final = "/_fault"
RECORDINGS: Final = "wrm_stations_*.txt"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
# 64 MiB of zeros: four times what a client of this pipeline accepts, in 64 KB.
BOMB_MIB: Final = 64
_DRIP_S: Final = 0.1
_ERROR_PAGE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>Service error</title></head>\n"
    b"<body><h1>Something went wrong</h1><p>The database is being updated. Please try again later.</p></body></html>\n"
)


class BadDay(StrEnum):
    """A way in which the feed goes wrong."""

    HTML = "html"  # 200 with an error page
    EMPTY = "empty"  # 200 with nothing
    HEADER_ONLY = "header_only"
    WRONG_HEADER = "wrong_header"
    TRUNCATED = "truncated"  # ends inside a row, and HTTP says that this is all
    CUT_TRANSFER = "cut_transfer"  # the connection closes before Content-Length bytes have come
    FROZEN = "frozen"  # the same bytes for ever
    SLOW = "slow"  # one byte every tenth of a second
    UNAVAILABLE = "unavailable"  # 503
    GZIP_BOMB = "gzip_bomb"  # 64 KB that inflate to 64 MiB
    REDIRECT = "redirect"  # 302


class SimulatorError(ExpectedError):
    """The simulator cannot start; the message says why and what to do."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class SimulatorServer:
    """A feed simulator. A context manager; GET of any path serves the snapshot of the moment.

    `POST /_fault?name=html` switches a bad day on while it runs, `name=none` off; so does the attribute `fault`.

    Args:
        port: 0 chooses a free one.
        seed: which city and which chance.
        clock: gives aware times; the simulated time begins at its first answer.
        speed: simulated seconds in a second.
        replay: a directory with recorded files, at any depth; each snapshot served is the next by name, then the last
            one stays. Faults do not use files up.
        fault: the bad day to start with.
        bad_rows: rows to spoil in each snapshot.

    Raises:
        SimulatorError: the directory holds no recordings, or the port is in use.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 1,
        clock: Callable[[], dt.datetime] = _utc_now,
        speed: float = 1.0,
        replay: Path | None = None,
        fault: BadDay | None = None,
        bad_rows: int = 0,
    ) -> None:
        self.seed = seed
        self.bad_rows = bad_rows
        self.stopping = threading.Event()
        self._clock = clock
        self._speed = speed
        self._began = clock()
        self._recordings = _recordings(replay) if replay is not None else []
        self._lock = threading.Lock()
        self._requests = 0
        self._served = 0
        self._fault = fault
        self._frozen: bytes | None = None
        try:
            self._server = _Server((HOST, port), self)
        except OSError as error:
            raise SimulatorError(
                f"the feed simulator cannot listen on {HOST}:{port}: {error.strerror}. "
                "Is one running already? Choose another port, or 0 for any."
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="feed-simulator")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End at once; answers that are under way are cut off."""
        self.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """An address of the feed."""
        return f"http://{HOST}:{self.port}/bikesapi/load.php?scheme=simulated"

    @property
    def requests(self) -> int:
        """How many GET requests it has received."""
        return self._requests

    @property
    def fault(self) -> BadDay | None:
        """The bad day it has now, None on a good one."""
        return self._fault

    @fault.setter
    def fault(self, fault: BadDay | None) -> None:
        with self._lock:
            self._fault = fault
            self._frozen = None

    def now(self) -> dt.datetime:
        """Return the simulated time."""
        return self._began + (self._clock() - self._began) * self._speed

    def count_request(self) -> BadDay | None:
        """Note one GET, and return the bad day that it meets."""
        with self._lock:
            self._requests += 1
            return self._fault

    def body(self) -> bytes:
        """Return the snapshot to serve now; on a good day, the next call goes on to the next one."""
        with self._lock:
            if self._fault is BadDay.FROZEN and self._frozen is not None:
                return self._frozen
            if self._recordings:
                body = self._recordings[min(self._served, len(self._recordings) - 1)].read_bytes()
            else:
                body = snapshot(self.seed, self.now())
            if self.bad_rows:
                body = with_bad_rows(body, self.bad_rows, self._served * self.bad_rows)
            if self._fault is None:
                self._served += 1
            elif self._fault is BadDay.FROZEN:
                self._frozen = body
            return body


def _recordings(directory: Path) -> list[Path]:
    found = sorted(directory.rglob(RECORDINGS), key=lambda path: path.name)
    if not found:
        raise SimulatorError(f"there is no file named {RECORDINGS} in {directory}; name a directory with recordings")
    return found


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # the default of 5 makes the sixth client of a burst wait a second for its SYN

    def __init__(self, address: tuple[str, int], simulator: SimulatorServer) -> None:
        self.simulator = simulator
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error of ours; a client that has gone is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "FeedSimulator"
    timeout = 10  # seconds for a client that connects and says nothing

    def do_GET(self) -> None:
        self._answer(self.server.simulator.count_request())

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        name = parse_qs(address.query).get("name", [""])[-1]
        if address.path != CONTROL_PATH:
            self._send(f"POST {CONTROL_PATH}?name=… is the only one there is\n".encode(), status=HTTPStatus.NOT_FOUND)
        elif name not in {"none", *BadDay}:
            known = ", ".join(["none", *BadDay])
            self._send(f"name must be one of {known}\n".encode(), status=HTTPStatus.BAD_REQUEST)
        else:
            self.server.simulator.fault = None if name == "none" else BadDay(name)
            self._send(f"{name}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the access log of a demonstration is noise."""

    def _answer(self, fault: BadDay | None) -> None:
        match fault:
            case BadDay.UNAVAILABLE:
                self._send(_ERROR_PAGE, status=HTTPStatus.SERVICE_UNAVAILABLE, content_type=HTML)
            case BadDay.REDIRECT:
                self._send(b"", status=HTTPStatus.FOUND, headers={"Location": "/moved/here?token=hush"})
            case BadDay.HTML:
                self._send(_ERROR_PAGE, content_type=HTML)
            case BadDay.GZIP_BOMB:
                self._send_bomb()
            case BadDay.SLOW:
                self._drip(self.server.simulator.body())
            case BadDay.CUT_TRANSFER:
                body = self._encoded(self.server.simulator.body())
                self._send(body[: len(body) // 2], length=len(body), encoding=self._encoding())
            case _:
                body = _spoilt(self.server.simulator.body(), fault)
                self._send(self._encoded(body), encoding=self._encoding())

    def _encoding(self) -> str | None:
        return "gzip" if "gzip" in self.headers.get("Accept-Encoding", "").lower() else None

    def _encoded(self, body: bytes) -> bytes:
        return gzip.compress(body, mtime=0) if self._encoding() else body

    def _send(
        self,
        body: bytes,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        content_type: str = TEXT,
        length: int | None = None,
        encoding: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._begin(status, {
            "Content-Type": content_type,
            "Content-Length": str(len(body) if length is None else length),
            **({"Content-Encoding": encoding} if encoding else {}),
            **(headers or {}),
        })  # fmt: skip
        self.wfile.write(body)

    def _begin(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        # One answer a connection, so that a stopped simulator has no idle connection on which it goes on answering.
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self, body: bytes) -> None:
        self._begin(HTTPStatus.OK, {"Content-Type": TEXT, "Content-Length": str(len(body))})
        for byte in body:
            self.wfile.write(bytes([byte]))
            if self.server.simulator.stopping.wait(_DRIP_S):
                return

    def _send_bomb(self) -> None:
        self._begin(HTTPStatus.OK, {"Content-Type": TEXT, "Content-Encoding": "gzip", "Transfer-Encoding": "chunked"})
        for piece in _bomb():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


def _bomb() -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    for _ in range(BOMB_MIB):
        if piece := packer.compress(bytes(2**20)):
            yield piece
    yield packer.flush()


def _spoilt(body: bytes, fault: BadDay | None) -> bytes:
    match fault:
        case BadDay.EMPTY:
            return b""
        case BadDay.HEADER_ONLY:
            return HEADER
        case BadDay.WRONG_HEADER:
            return body.replace(b"#id,", b"station,", 1)
        case BadDay.TRUNCATED:
            row = body.rindex(b"\n", 0, len(body) * 3 // 5)
            return body[: body.index(b"|", row)]  # in the second of thirteen fields
        case _:
            return body

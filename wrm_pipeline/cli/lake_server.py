"""A small web server on this machine for the lake's pages, so that a link in the Dagster UI opens one in a browser."""

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectNotFound, StoreError

_TYPES: Final = {"html": "text/html; charset=utf-8", "json": "application/json"}


class LakeServer:
    """Serves what lies under the lake's profiles/, to this machine alone, for reading; nothing else of the lake.

    A context manager: it listens from its making on and answers between entry and exit.
    """

    def __init__(self, lake: Lake, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.lake = lake
        self._thread = threading.Thread(target=self._server.serve_forever, name="lake-server", daemon=True)

    @property
    def url(self) -> str:
        """The address that stands for the lake's prefix."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    lake: Lake
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with an object of the lake."""
        lake = self.server.lake
        key = lake.keys.prefix + unquote(urlsplit(self.path).path).lstrip("/")
        kind = _TYPES.get(key.rpartition(".")[2])
        if kind is None or not key.startswith(lake.keys.profile_root) or ".." in key:
            self._answer(HTTPStatus.NOT_FOUND, _TYPES["json"], b'{"error": "there is no such page"}')
            return
        try:
            body = lake.store.get(key).body
        except ObjectNotFound:
            message = b'{"error": "this page has not been made yet; materialize wrm_stations_profile for its day"}'
            self._answer(HTTPStatus.NOT_FOUND, _TYPES["json"], message)
        except StoreError:
            self._answer(HTTPStatus.BAD_GATEWAY, _TYPES["json"], b'{"error": "the store does not answer"}')
        else:
            self._answer(HTTPStatus.OK, kind, body)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the terminal is Dagster's."""

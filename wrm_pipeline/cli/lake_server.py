"""A small web server on this machine for the lake's pages, so that a link in the Dagster UI opens one in a browser."""

import gzip
import re
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from wrm_pipeline.background_server import BackgroundServer
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectNotFound, StoreError
from wrm_pipeline.layers.site import CONTENT_TYPES

# Of names that the lake gives: nothing that a store could take for a way up, and no second way to write a key.
_PATH: Final = re.compile(r"\w[\w=.,~-]*(/\w[\w=.,~-]*)*", re.ASCII)
# What is packed already gets no smaller.
_PACKED: Final = frozenset({".parquet", ".png"})
# Below this a packed answer is not worth the work: it is one network packet either way.
_PACK_FROM_BYTES: Final = 1400
# What the pages of the site say themselves, and that no other page may frame them, which only a header can say.
_SITE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NOTHING_MAY_LOAD: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class _Shelf:
    """A part of the lake that is shown: its prefix, the policy of its pages, and what makes what is missing."""

    root: str
    policy: str
    made_by: str


def _shelves(keys: LakeKeys) -> tuple[_Shelf, ...]:
    return (
        _Shelf(keys.profile_root, _NOTHING_MAY_LOAD, "wrm_stations_profile for its day"),
        _Shelf(keys.site_root, _SITE_POLICY, "wrm_station_site"),
        _Shelf(keys.marts_root, _NOTHING_MAY_LOAD, "the marts"),
    )


class LakeServer(BackgroundServer):
    """Serves what lies under the lake's site/, marts/ and profiles/, to this machine alone, for reading; no listings.

    Its address stands for the lake's prefix.
    """

    def __init__(self, lake: Lake, port: int = 0) -> None:
        server = _Server(("127.0.0.1", port), _Handler)
        server.lake = lake
        server.shelves = _shelves(lake.keys)
        super().__init__(server, "lake-server")


class _Server(ThreadingHTTPServer):
    lake: Lake
    shelves: tuple[_Shelf, ...]
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: the second would wait 40 ms for the first one's acknowledgement.
    disable_nagle_algorithm = True
    _policy = _NOTHING_MAY_LOAD

    def do_HEAD(self) -> None:
        """Answer with the headers that a GET would have."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with an object of the lake."""
        self._policy = _NOTHING_MAY_LOAD  # not that of what the same connection asked for before
        lake, path = self.server.lake, unquote(urlsplit(self.path).path).removeprefix("/")
        if path in {"", "site"}:  # links in the pages are relative, so the final slash matters
            self._answer(HTTPStatus.FOUND, headers={"Location": "/site/"})
            return
        if path.endswith("/"):
            path += "index.html"
        key, ending = lake.keys.prefix + path, PurePosixPath(path).suffix
        shelf = next((shelf for shelf in self.server.shelves if key.startswith(shelf.root)), None)
        if shelf is None or ending not in CONTENT_TYPES or not _PATH.fullmatch(path):
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        self._policy = shelf.policy
        try:
            self._send(key, ending)
        except ObjectNotFound:
            self._refuse(HTTPStatus.NOT_FOUND, f"this page has not been made yet; materialize {shelf.made_by}")
        except StoreError:
            self._refuse(HTTPStatus.BAD_GATEWAY, "the store does not answer")

    def _send(self, key: str, ending: str) -> None:
        known = self.headers.get("If-None-Match", "")
        if known and (there := self.server.lake.store.head(key)) is not None and there.etag in known:
            self._answer(HTTPStatus.NOT_MODIFIED, headers={"ETag": f'W/"{there.etag}"'})
            return
        stored = self.server.lake.store.get(key)
        body = stored.body
        # Weak: the same for the bytes as they are and for the packed ones.
        headers = {"ETag": f'W/"{stored.info.etag}"'}
        if ending not in _PACKED and len(body) >= _PACK_FROM_BYTES:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                headers["Content-Encoding"] = "gzip"
                body = gzip.compress(body, 6, mtime=0)
        self._answer(HTTPStatus.OK, CONTENT_TYPES[ending], body, headers)

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._answer(status, CONTENT_TYPES[".json"], f'{{"error": "{sentence}"}}'.encode())

    def _answer(
        self, status: HTTPStatus, kind: str | None = None, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", self._policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # the reader has gone elsewhere
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the terminal is Dagster's."""

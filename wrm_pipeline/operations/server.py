"""The web server of `wrm metrics serve`: /metrics for Prometheus, /healthz and /readyz for who watches processes."""

import html
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from wrm_pipeline.background_server import BackgroundServer
from wrm_pipeline.lake.doctor import Finding
from wrm_pipeline.operations.exporter import Source
from wrm_pipeline.operations.health import is_healthy

# Who asks more often gets the same answer, so that asking is no load.
_FINDINGS_LAST_S: Final = 2.0
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_JSON: Final = "application/json; charset=utf-8"
_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem 1.2rem .2rem 0}th{white-space:nowrap}"
    "td:nth-child(2){font-weight:600;white-space:nowrap}"
    ".ok td:nth-child(2){color:light-dark(#17692f,#7fd69a)}.warn td:nth-child(2){color:light-dark(#8a5a00,#f0c060)}"
    ".fail td:nth-child(2){color:light-dark(#b3261e,#ff9a92)}"
    "@media(max-width:40rem){th{display:none}tr{display:block;margin-bottom:1rem}"
    "td{display:block;padding:0;overflow-wrap:anywhere}}"
)


class MetricsServer(BackgroundServer):
    """Serves metrics and health.

    Args:
        registry: what /metrics shows.
        sources: whose state the start page shows.
        check_health: what /readyz asks; one call at a time.
        links: further addresses for the start page, by what they lead to.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        sources: Iterable[Source[object]],
        check_health: Callable[[], list[Finding]],
        links: Mapping[str, str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        server = _Server((host, port), _Handler)
        server.registry = registry
        server.sources = tuple(sources)
        server.readiness = _Readiness(check_health)
        server.links = dict(links)
        super().__init__(server, "metrics-server")


class _Readiness:
    """The newest findings, at most two seconds old."""

    def __init__(self, check: Callable[[], list[Finding]]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._findings: list[Finding] = []
        self._until = 0.0

    def findings(self) -> list[Finding]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._findings = self._check()
                self._until = time.monotonic() + _FINDINGS_LAST_S
            return self._findings


class _Server(ThreadingHTTPServer):
    registry: CollectorRegistry
    sources: tuple[Source[object], ...]
    readiness: _Readiness
    links: dict[str, str]
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # A connection that says nothing gives its thread back.
    timeout = 60

    def do_HEAD(self) -> None:
        """Answer with the headers that a GET would have."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer."""
        match urlsplit(self.path).path:
            case "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, kind, encode(self.server.registry))
            case "/healthz":
                self._answer(HTTPStatus.OK, _JSON, b'{"status": "alive"}')
            case "/readyz":
                findings = self.server.readiness.findings()
                ready = is_healthy(findings)
                document = {"ready": ready, "findings": [asdict(finding) for finding in findings]}
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, _JSON, json.dumps(document, ensure_ascii=False, indent=1).encode())
            case "/":
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self._page().encode())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, _JSON, b'{"error": "there is no such page"}')

    def _page(self) -> str:
        links = {
            "Metrics, for Prometheus": "/metrics",
            "Is this process alive?": "/healthz",
            "Are all parts there?": "/readyz",
        }
        items = "".join(
            f'<li><a href="{html.escape(address)}">{html.escape(name)}</a></li>'
            for name, address in (links | self.server.links).items()
        )
        parts = "".join(
            _row(finding.status, finding.name, finding.status, finding.found, finding.remedy)
            for finding in self.server.readiness.findings()
        )
        sources = "".join(_source(source) for source in self.server.sources)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><title>wrm metrics</title>'
            f"<style>{_STYLE}</style></head><body><h1>wrm metrics</h1><ul>{items}</ul>"
            f"<h2>Parts</h2><table><tr><th>part</th><th>state</th><th>found</th><th>what to do</th></tr>{parts}</table>"
            "<h2>Sources of the metrics</h2>"
            f"<table><tr><th>source</th><th>state</th><th>last good reading (UTC)</th></tr>{sources}</table>"
            "</body></html>"
        )

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # who asked has given up
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: a scrape every few seconds is no news."""


def _source(source: Source[object]) -> str:
    _, is_up, read_at = source.last()
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(read_at)) if read_at is not None else "never"
    return _row("ok" if is_up else "fail", source.name, "answers" if is_up else "does not answer", when)


def _row(state: str, *cells: str) -> str:
    return f'<tr class="{state}">{"".join(f"<td>{html.escape(cell)}</td>" for cell in cells)}</tr>'

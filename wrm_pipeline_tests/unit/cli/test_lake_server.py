"""The server of the lake's pages: site/, marts/ and profiles/ and nothing else, to this machine alone, for reading."""

import gzip
import http.client
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from wrm_pipeline.cli.lake_server import LakeServer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.site import pages
from wrm_pipeline_tests.fixtures.dagster import DAY, at, put_raw

PAGE = f"/profiles/dt={DAY}/profile.html"
LONG = b'{"name":[' + b'"Rynek",' * 2000 + b'""]}'
SITE = {
    "site/index.html": b"<h1>the site</h1>",
    "site/en/now.html": b"<h1>now</h1>",
    "site/static/js/now.js": b"export default 1;",
    "site/static/css/site.css": b"body{}",
    "site/static/icon.svg": b"<svg/>",
    "site/static/vendor/echarts/LICENSE": b"Apache",
    "site/data/now.json": LONG,
    "site/downloads/dim_station.csv": b"a,b",
    "marts/dim_station/dim_station.parquet": b"PAR1" * 1000,
    "marts/fct_station_hour/dt=2025-05-12/fct_station_hour.parquet": b"PAR1",
    "state/index.json": b"{}",
    "state/state_bike/dt=2025-05-12/state_bike.parquet": b"PAR1",
}


@pytest.fixture
def server(lake: Lake) -> Iterator[LakeServer]:
    lake.store.put(lake.keys.profile_page(DAY), b"<h1>a page</h1>", content_type="text/html")
    lake.store.put(lake.keys.profile(DAY), b"{}", content_type="application/json")
    with ThreadPoolExecutor() as pool:
        for path, body in SITE.items():
            pool.submit(lake.store.put, lake.keys.prefix + path, body, content_type="application/octet-stream")
    put_raw(lake, at(8))
    with LakeServer(lake) as running:
        yield running


def ask(server: LakeServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask; underscores in the names of headers are hyphens."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_page_comes_as_it_lies_in_the_lake_and_may_load_nothing(server: LakeServer) -> None:
    status, headers, body = ask(server, PAGE)

    assert (status, body) == (200, b"<h1>a page</h1>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_data_comes_as_json(server: LakeServer) -> None:
    status, headers, body = ask(server, PAGE.replace("html", "json"))

    assert (status, headers["content-type"], body) == (200, "application/json", b"{}")


@pytest.mark.parametrize(
    "path",
    [
        f"/raw/dt={DAY}/wrm_stations_{DAY}_08-00-00.txt",
        "/profiles/",
        "/marts/",
        "/marts/dim_station/",
        "/site/data/",
        "/site/data",
        "/state/index.json",
        "/state/state_bike/dt=2025-05-12/state_bike.parquet",
        "/site/../state/index.json",
        "/site/%2e%2e/state/index.json",
        "/site/..%2fstate/index.json",
        "/site/./index.html",
        "/site//index.html",
        "/site/.hidden/index.html",
        "/site/\\index.html",
        "/site/data/now.json%00.html",
        "/site/data/now.exe",
        "/sitemap.html",
        "/profiles/../raw/x.html",
        "/profiles/%2e%2e/raw/x.html",
        f"/enhanced/all/dt={DAY}/all_enhanced.parquet",
        f"/dlq/dt={DAY}/x.json",
    ],
)
def test_nothing_else_of_the_lake_is_shown(server: LakeServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/site/index.html", "text/html; charset=utf-8"),
        ("/site/static/js/now.js", "text/javascript; charset=utf-8"),
        ("/site/static/css/site.css", "text/css; charset=utf-8"),
        ("/site/static/icon.svg", "image/svg+xml"),
        ("/site/static/vendor/echarts/LICENSE", "text/plain; charset=utf-8"),
        ("/site/data/now.json", "application/json"),
        ("/site/downloads/dim_station.csv", "text/csv; charset=utf-8"),
        ("/marts/dim_station/dim_station.parquet", "application/vnd.apache.parquet"),
        ("/marts/fct_station_hour/dt%3D2025-05-12/fct_station_hour.parquet", "application/vnd.apache.parquet"),
    ],
)
def test_site_and_tables_come_with_their_type(server: LakeServer, path: str, kind: str) -> None:
    status, headers, body = ask(server, path)

    assert (status, headers["content-type"]) == (200, kind)
    assert body == SITE[path.removeprefix("/").replace("%3D", "=")]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/site"])
def test_the_short_address_leads_to_the_site(server: LakeServer, path: str) -> None:
    status, headers, _ = ask(server, path)

    assert (status, headers["location"]) == (302, "/site/")


def test_the_folder_of_the_site_is_its_first_page(server: LakeServer) -> None:
    assert ask(server, "/site/")[2] == SITE["site/index.html"]
    assert ask(server, "/site/index.html?lang=pl")[2] == SITE["site/index.html"]


def test_pages_of_the_site_have_the_policy_that_they_state_themselves(server: LakeServer) -> None:
    """A browser holds a page to both; what the header forbids and the page allows would break it here alone."""
    template = (Path(pages.__file__).parent / "templates" / "base.html.j2").read_text(encoding="utf-8")
    stated = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', template)
    assert stated is not None

    policy = ask(server, "/site/en/now.html")[1]["content-security-policy"]

    assert policy == f"{stated[1]}; frame-ancestors 'none'"
    for path in (PAGE, "/nothing"):
        assert ask(server, path)[1]["content-security-policy"].startswith("default-src 'none'; style-src")


def test_a_long_text_is_packed_for_who_can_unpack_it(server: LakeServer) -> None:
    _, plain, body = ask(server, "/site/data/now.json")
    _, packed, short = ask(server, "/site/data/now.json", Accept_Encoding="gzip, deflate")

    assert body == LONG
    assert "content-encoding" not in plain
    assert packed["content-encoding"] == "gzip"
    assert gzip.decompress(short) == LONG
    assert len(short) < len(LONG) / 10
    assert plain["vary"] == packed["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/site/index.html", "/marts/dim_station/dim_station.parquet"])
def test_what_is_short_or_packed_already_comes_as_it_is(server: LakeServer, path: str) -> None:
    _, headers, body = ask(server, path, Accept_Encoding="gzip")

    assert "content-encoding" not in headers
    assert body == SITE[path[1:]]


def test_what_a_browser_has_is_not_sent_again(server: LakeServer, lake: Lake) -> None:
    etag = ask(server, "/site/data/now.json")[1]["etag"]
    received = lake.store.traffic.bytes_received

    status, headers, body = ask(server, "/site/data/now.json", If_None_Match=f'"other", {etag}')

    assert (status, headers["etag"], body) == (304, etag, b"")
    assert "content-security-policy" in headers
    assert lake.store.traffic.bytes_received == received
    assert ask(server, "/site/data/now.json", If_None_Match='"other"')[0] == 200


def test_head_is_a_get_without_a_body(server: LakeServer) -> None:
    status, headers, body = ask(server, "/site/data/now.json", "HEAD")

    assert (status, headers["content-length"], body) == (200, str(len(LONG)), b"")


def test_one_connection_serves_many_requests(server: LakeServer) -> None:
    """A 304 or a HEAD with a body, or a wrong length, would garble what comes after it."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    etag = ask(server, "/site/index.html")[1]["etag"]
    for method, path, headers in (
        ("GET", "/site/index.html", {"If-None-Match": etag}),
        ("HEAD", "/site/index.html", {}),
        ("GET", "/", {}),
        ("GET", "/nothing", {}),
        ("GET", "/site/data/now.json", {"Accept-Encoding": "gzip"}),
        ("GET", "/site/en/now.html", {}),
    ):
        connection.request(method, path, headers=headers)
        last = connection.getresponse().read()
    connection.close()

    assert last == SITE["site/en/now.html"]


def test_a_site_that_is_not_made_yet_says_how_to_make_it(lake: Lake) -> None:
    with LakeServer(lake) as empty:
        status, _, body = ask(empty, "/site/")

    assert status == 404
    assert b"materialize wrm_station_site" in body


def test_a_page_that_is_not_made_yet_says_how_to_make_it(server: LakeServer) -> None:
    status, _, body = ask(server, "/profiles/dt=2025-05-02/profile.html")

    assert status == 404
    assert b"materialize wrm_stations_profile" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_for_reading(server: LakeServer, method: str) -> None:
    assert ask(server, PAGE, method)[0] == 501


def test_it_listens_on_this_machine_alone(server: LakeServer) -> None:
    address = urlsplit(server.url)
    assert address.hostname == "127.0.0.1"
    other = next(
        (str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)), "127.0.1.1"
    )
    if other != "127.0.0.1":
        with pytest.raises(ConnectionRefusedError), socket.create_connection((other, address.port or 0), timeout=1):
            pass

"""The server of the lake's pages: what lies under profiles/ and nothing else, to this machine alone, for reading."""

import http.client
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from wrm_pipeline.cli.lake_server import LakeServer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline_tests.fixtures.dagster import DAY, at, put_raw

PAGE = f"/profiles/dt={DAY}/profile.html"


@pytest.fixture
def server(lake: Lake) -> Iterator[LakeServer]:
    lake.store.put(lake.keys.profile_page(DAY), b"<h1>a page</h1>", content_type="text/html")
    lake.store.put(lake.keys.profile(DAY), b"{}", content_type="application/json")
    put_raw(lake, at(8))
    with LakeServer(lake) as running:
        yield running


def ask(server: LakeServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request(method, path)
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
        "/",
        "/profiles/",
        "/profiles/../raw/x.html",
        "/profiles/%2e%2e/raw/x.html",
        f"/enhanced/all/dt={DAY}/all_enhanced.parquet",
        f"/dlq/dt={DAY}/x.json",
    ],
)
def test_nothing_else_of_the_lake_is_shown(server: LakeServer, path: str) -> None:
    assert ask(server, path)[0] == 404


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

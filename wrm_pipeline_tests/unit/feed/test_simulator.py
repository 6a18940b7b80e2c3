"""The feed simulator as a server: what it serves, on good days and bad ones. Asked over real connections."""

import datetime as dt
import gzip
import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrm_pipeline.feed.base import PayloadFault
from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.feed.simulator import BadDay, SimulatorError, SimulatorServer
from wrm_pipeline_tests.fixtures.snapshots import FORMAT

NOON = dt.datetime(2025, 8, 20, 12, tzinfo=dt.UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> dt.datetime:
        return self.time


class Answer:
    """One answer as it came."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


def ask(server: SimulatorServer, path: str = "/", *, method: str = "GET", accept: str = "identity") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={"Accept-Encoding": accept})
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[SimulatorServer]:
    with SimulatorServer(seed=7, clock=clock) as running:
        yield running


def test_any_path_gives_the_snapshot_of_the_moment(server: SimulatorServer, clock: Clock) -> None:
    first = ask(server, "/bikesapi/load.php?scheme=wroclaw")
    clock.time += dt.timedelta(minutes=5)
    second = ask(server, "/")

    assert first.status == 200
    assert first.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert first.body == snapshot(7, NOON)
    assert second.body == snapshot(7, NOON + dt.timedelta(minutes=5))
    assert server.requests == 2


def test_gzip_is_sent_to_those_who_accept_it_and_is_the_same_each_time(server: SimulatorServer) -> None:
    first, second = (ask(server, accept="deflate, gzip") for _ in range(2))

    assert first.headers["Content-Encoding"] == "gzip"
    assert int(first.headers["Content-Length"]) == len(first.body) < 20_000
    assert gzip.decompress(first.body) == snapshot(7, NOON)
    assert first.body == second.body


def test_simulated_time_runs_faster_on_demand(clock: Clock) -> None:
    with SimulatorServer(seed=7, clock=clock, speed=60) as server:
        clock.time += dt.timedelta(seconds=10)

        assert ask(server).body == snapshot(7, NOON + dt.timedelta(minutes=10))


def test_the_clock_is_ours_unless_another_is_given() -> None:
    with SimulatorServer() as server:
        before, shown, after = dt.datetime.now(dt.UTC), server.now(), dt.datetime.now(dt.UTC)

        assert before <= shown <= after


def test_recordings_are_served_by_name_one_a_request_and_then_the_last_for_ever(tmp_path: Path) -> None:
    for folder, name in (("dt=2025-05-13", "05-13_00"), ("dt=2025-05-12", "05-12_18"), ("dt=2025-05-12", "05-12_19")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"wrm_stations_2025-{name}-00-00.txt").write_text(name)
    (tmp_path / "notes.txt").write_text("not a recording")

    with SimulatorServer(replay=tmp_path) as server:
        served = [ask(server).body.decode() for _ in range(4)]

    assert served == ["05-12_18", "05-12_19", "05-13_00", "05-13_00"]


def test_a_bad_day_uses_no_recording_up(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"wrm_stations_{name}.txt").write_text(name * 100)

    with SimulatorServer(replay=tmp_path, fault=BadDay.UNAVAILABLE) as server:
        ask(server)
        server.fault = BadDay.FROZEN
        assert {ask(server).body[:1] for _ in range(3)} == {b"a"}
        server.fault = None
        assert [ask(server).body[:1] for _ in range(2)] == [b"a", b"b"]


def test_a_directory_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=f"no file named wrm_stations_.* in {tmp_path}"):
        SimulatorServer(replay=tmp_path)


def test_a_port_in_use_is_named_with_a_remedy(server: SimulatorServer) -> None:
    with pytest.raises(SimulatorError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}.*another port"):
        SimulatorServer(port=server.port)


def test_spoilt_rows_take_turns_from_snapshot_to_snapshot(clock: Clock) -> None:
    good = snapshot(7, NOON).split(b"\n")
    with SimulatorServer(seed=7, clock=clock, bad_rows=1) as server:
        spoilt = [set(ask(server).body.split(b"\n")) - set(good) for _ in range(6)]

    assert [len(rows) for rows in spoilt] == [1] * 6
    assert len(set(map(frozenset, spoilt))) == 6


@pytest.mark.parametrize(
    ("bad_day", "verdict"),
    [
        (BadDay.HTML, PayloadFault.HTML),
        (BadDay.EMPTY, PayloadFault.EMPTY),
        (BadDay.HEADER_ONLY, PayloadFault.HEADER_ONLY),
        (BadDay.WRONG_HEADER, PayloadFault.WRONG_HEADER),
        (BadDay.TRUNCATED, PayloadFault.CUT_OFF),
    ],
)
def test_a_bad_payload_comes_with_status_200_and_is_what_it_is_called(
    server: SimulatorServer, bad_day: BadDay, verdict: PayloadFault
) -> None:
    server.fault = bad_day

    answer = ask(server)

    fault = FORMAT.inspect(answer.body)
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert fault is not None
    assert fault.kind is verdict


def test_an_error_page_says_that_it_is_html(server: SimulatorServer) -> None:
    server.fault = BadDay.HTML

    assert ask(server).headers["Content-Type"].startswith("text/html")


def test_a_truncated_snapshot_is_the_beginning_of_the_real_one(server: SimulatorServer) -> None:
    server.fault = BadDay.TRUNCATED

    body = ask(server).body

    assert snapshot(7, NOON).startswith(body)
    assert len(body) > 10_000


def test_a_cut_transfer_promises_more_than_it_sends(server: SimulatorServer) -> None:
    server.fault = BadDay.CUT_TRANSFER

    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server)

    assert caught.value.partial == snapshot(7, NOON)[: len(snapshot(7, NOON)) // 2]


def test_a_frozen_feed_repeats_its_bytes_until_it_thaws(server: SimulatorServer, clock: Clock) -> None:
    server.fault = BadDay.FROZEN
    frozen = ask(server).body
    clock.time += dt.timedelta(hours=1)

    assert ask(server).body == frozen == snapshot(7, NOON)
    server.fault = None
    assert ask(server).body == snapshot(7, NOON + dt.timedelta(hours=1))


def test_a_slow_feed_drips_and_does_not_hold_up_the_end() -> None:
    with SimulatorServer(fault=BadDay.SLOW) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/")
        response = connection.getresponse()
        began = time.monotonic()
        assert response.read(3) == HEADER[:3]
        assert time.monotonic() - began > 0.1
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 5
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    response.close()
    connection.close()


def test_an_unavailable_feed_answers_503(server: SimulatorServer) -> None:
    server.fault = BadDay.UNAVAILABLE

    assert ask(server).status == 503


def test_a_bomb_is_small_on_the_wire_and_inflates_beyond_16_mib(server: SimulatorServer) -> None:
    server.fault = BadDay.GZIP_BOMB

    answer = ask(server, accept="gzip")

    assert len(answer.body) < 100_000
    assert len(gzip.decompress(answer.body)) > 16 * 2**20


def test_a_redirect_points_to_a_place_that_would_answer(server: SimulatorServer) -> None:
    server.fault = BadDay.REDIRECT
    answer = ask(server)
    server.fault = None

    assert answer.status == 302
    assert FORMAT.inspect(ask(server, answer.headers["Location"]).body) is None


def test_a_bad_day_is_switched_on_and_off_over_http(server: SimulatorServer) -> None:
    assert ask(server, "/_fault?name=html", method="POST").status == 200
    assert server.fault is BadDay.HTML
    assert ask(server, "/_fault?name=none", method="POST").status == 200
    assert server.fault is None
    assert server.requests == 0


@pytest.mark.parametrize("query", ["", "?name=", "?name=flood"])
def test_an_unknown_bad_day_is_refused_with_the_list(server: SimulatorServer, query: str) -> None:
    server.fault = BadDay.HTML

    answer = ask(server, f"/_fault{query}", method="POST")

    assert answer.status == 400
    assert all(day.encode() in answer.body for day in BadDay)
    assert server.fault is BadDay.HTML


def test_nothing_else_can_be_posted(server: SimulatorServer) -> None:
    assert ask(server, "/elsewhere?name=html", method="POST").status == 404
    assert server.fault is None


def test_many_clients_are_served_and_counted_at_once(server: SimulatorServer) -> None:
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server).body)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [snapshot(7, NOON)] * 20
    assert server.requests == 20


def test_a_client_that_goes_away_is_no_error(server: SimulatorServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.fault = BadDay.SLOW
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    response.close()
    connection.close()
    pause = threading.Event()
    for _ in range(100):
        if not any(
            thread.name.startswith("Thread-") and "process_request" in thread.name for thread in threading.enumerate()
        ):
            break
        pause.wait(0.05)

    assert server.requests == 1
    assert capfd.readouterr().err == ""


def test_a_stopped_simulator_can_be_stopped_again_and_does_not_answer() -> None:
    with SimulatorServer() as server:
        ask(server)
    server.stop()

    with pytest.raises(ConnectionRefusedError):
        ask(server)

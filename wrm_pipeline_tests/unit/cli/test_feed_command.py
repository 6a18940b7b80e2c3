"""`wrm feed`: what a person in a terminal gets."""

import contextlib
import datetime as dt
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from wrm_pipeline.cli.feed import feed
from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.feed.fetch import FeedUnavailable, fetch
from wrm_pipeline.feed.simulator import BadDay
from wrm_pipeline.resilience import RetryPolicy
from wrm_pipeline.transform.zone import LOCAL_ZONE
from wrm_pipeline_tests.fixtures.snapshots import FORMAT

NOON = dt.datetime(2025, 8, 20, 12, tzinfo=dt.UTC)
ONE_TRY = RetryPolicy(attempts=1)


@contextlib.contextmanager
def terminal(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `wrm feed` on a free port; gives the process and the address that it prints."""
    program = "from wrm_pipeline.cli.feed import feed; feed(prog_name='wrm feed')"
    command = [sys.executable, "-c", program, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+/\S*", process.stdout.readline())
            assert address is not None
            yield process, address[0]
        finally:
            if process.poll() is None:
                process.kill()


def test_it_serves_until_ctrl_c_and_then_ends_well() -> None:
    with terminal("--seed", "7", "--at", "2025-08-20T12:00:00", "--speed", "0") as (process, url):
        body = fetch(url, contact="tests", timeout_s=10, policy=ONE_TRY).body
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)

    stations = [row.split(b",", 1)[0] for row in body.split(b"\n")]
    assert stations == [row.split(b",", 1)[0] for row in snapshot(7, NOON).split(b"\n")]
    assert process.returncode == 0
    assert "The feed simulator has ended." in output
    assert "Traceback" not in output


def test_a_bad_day_and_spoilt_rows_can_be_asked_for_at_the_start() -> None:
    with (
        terminal("--fault", "unavailable") as (_, url),
        pytest.raises(FeedUnavailable, match="503"),
    ):
        fetch(url, contact="tests", timeout_s=10, policy=ONE_TRY)

    with terminal("--bad-rows", "4") as (_, url):
        body = fetch(url, contact="tests", timeout_s=10, policy=ONE_TRY).body
    assert len(FORMAT.parse([Snapshot("raw/a.txt", NOON, body)]).rejects) == 4


def test_recordings_can_be_replayed(tmp_path: Path) -> None:
    (tmp_path / "wrm_stations_2025-05-12_18-10-00.txt").write_bytes(b"as recorded")

    with terminal("--replay", str(tmp_path)) as (_, url):
        assert fetch(url, contact="tests", timeout_s=10, policy=ONE_TRY).body == b"as recorded"


@pytest.mark.parametrize("at", ["2025-08-20T12:00:00", "2025-08-20T14:00:00+02:00", "2025-08-20 12:00Z"])
def test_one_snapshot_is_printed_to_the_byte(at: str) -> None:
    result = CliRunner().invoke(feed, ["--once", "--seed", "7", "--at", at])

    assert result.exit_code == 0
    assert result.stdout_bytes == snapshot(7, NOON)


def test_one_snapshot_is_of_now_unless_told_otherwise() -> None:
    result = CliRunner().invoke(feed, ["--once", "--bad-rows", "2"])

    parsed = FORMAT.parse([Snapshot("raw/a.txt", NOON, result.stdout_bytes)])
    assert len(parsed.rejects) == 2
    epoch = result.stdout_bytes.rpartition(b"\n")[2].split(b",")[1].split(b".")[0]
    assert abs(int(epoch) - dt.datetime.now(LOCAL_ZONE).timestamp()) < 60


def test_help_names_every_option_and_every_bad_day() -> None:
    result = CliRunner().invoke(feed, ["--help"], terminal_width=300)

    assert result.exit_code == 0
    for option in ("--port", "--seed", "--speed", "--at", "--replay", "--fault", "--bad-rows", "--once"):
        assert option in result.output
    assert all(day.value in result.output for day in BadDay)
    assert "WRM_FEED_URL" in result.output


def test_a_port_in_use_is_an_error_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(feed, ["--port", str(taken.getsockname()[1])])

    assert result.exit_code == 1
    assert re.fullmatch(r"Error: the feed simulator cannot listen on 127\.0\.0\.1:\d+: .*\n", result.output)


def test_a_directory_without_recordings_is_an_error_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(feed, ["--port", "0", "--replay", str(tmp_path)])

    assert result.exit_code == 1
    assert result.output == (
        f"Error: there is no file named wrm_stations_*.txt in {tmp_path}; name a directory with recordings\n"
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--at", "yesterday", "--once"], "'yesterday' is not an ISO time such as 2025-05-12T18:10:00+00:00"),
        (["--fault", "flood"], "'flood' is not one of 'html', 'empty'"),
        (["--speed", "-1"], "-1.0 is not in the range"),
        (["--replay", "/no/such/directory"], "does not exist"),
        (["--once", "--fault", "html"], "--once prints a simulated snapshot"),
    ],
)
def test_a_wrong_option_is_explained(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(feed, options)

    assert result.exit_code == 2
    assert complaint in result.output

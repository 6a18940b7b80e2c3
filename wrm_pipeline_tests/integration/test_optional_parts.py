"""All parts that a run can do without broken at once: it succeeds with the same bytes, and says each of them once."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.settings import StoreSettings, subprocess_environment
from wrm_pipeline_tests.fixtures.answering import Answering, answering, hangs_up, is_a_web_page, says_nothing
from wrm_pipeline_tests.fixtures.dagster import DAY, PROCESSING, at, contents, environment_of, put_raw


def drips(connection: socket.socket) -> None:
    """Answers a byte at a time, so that no timeout of a socket ends it."""
    connection.recv(4096)
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + 1000 * b"*":
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def has_no_memory(connection: socket.socket) -> None:
    """Says so in Redis's words, which are no answer at all to whoever speaks HTTP."""
    while connection.recv(4096):
        connection.sendall(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")


def process(store_settings: StoreSettings, **environment: str) -> list[dict[str, str]]:
    """Run the day's job in a process of its own, as Dagster does; return its log lines."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "job", "execute", "-m", "wrm_pipeline.definitions", "-j", PROCESSING),
            *("--tags", json.dumps({"dagster/partition": DAY.isoformat()})),
        ],
        env=subprocess_environment(**environment_of(store_settings, WRM_LOG_FORMAT="json"), **environment, **measured),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def made(lake: Lake) -> dict[str, str]:
    """Return the ETags of the day in both layers, and forget them."""
    found = {key: etag for key, etag in contents(lake).items() if key.startswith(("processed/", "enhanced/"))}
    for key in found:
        lake.store.delete(lake.keys.prefix + key)
    return found


@pytest.mark.parametrize("answer", [None, says_nothing, drips, is_a_web_page, has_no_memory, hangs_up])
def test_a_run_goes_on_without_all_of_them(lake: Lake, store_settings: StoreSettings, answer: Answering | None) -> None:
    put_raw(lake, at(8))
    put_raw(lake, at(9), with_bad_rows(snapshot(1, at(9)), 3, 0))
    undisturbed = process(store_settings)
    expected = made(lake)

    with ExitStack() as parts:
        there = f"127.0.0.1:{free_port()}" if answer is None else parts.enter_context(answering(answer))
        lines = process(
            store_settings,
            REDIS_URL=f"redis://{there}/0",
            WRM_PUSHGATEWAY_URL=f"http://{there}",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{there}",
        )

    assert len(expected) == 2
    assert made(lake) == expected
    said = sorted(line["event"].split(" does not work")[0] for line in lines if line["level"] != "info")
    usual = sorted(line["event"] for line in undisturbed if line["level"] != "info")
    assert said == sorted([*usual, "Redis", "The Pushgateway", "The trace collector"])

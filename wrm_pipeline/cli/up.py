"""`wrm up`: the Dagster UI and daemon, with a local store and feed where the settings name none."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from wrm_pipeline.cli.local_servers import LocalServerError, is_free
from wrm_pipeline.cli.local_stack import local_stack
from wrm_pipeline.settings import subprocess_environment

_GRACE_S = 20.0


def run_until_interrupted(host: str, port: int, bad_rows: int) -> int:
    """Run until Ctrl-C or SIGTERM and return the exit code.

    Raises:
        LocalServerError: a part does not start.
    """
    dagster = _dagster_command()
    if not is_free(port):
        raise LocalServerError(f"Port {port} is taken. Give another one: wrm up --port {port + 1}")
    with _sigterm_as_interrupt(), local_stack(bad_rows=bad_rows) as stack:
        click.echo(f"Dagster UI  http://{host}:{port}")
        click.echo(f"store       {stack.store_address}{'  (SeaweedFS, started here)' if stack.store else ''}")
        click.echo(f"feed        {stack.feed_address}{'  (simulated, started here)' if stack.simulator else ''}")
        click.echo("Ctrl-C ends it. In another shell: wrm status")
        process = subprocess.Popen(  # noqa: S603 - our own interpreter's command, our own arguments
            [dagster, "dev", "-m", "wrm_pipeline.definitions", "-h", host, "-p", str(port)],
            env=subprocess_environment(),
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            click.echo("Everything that was started here has ended.")
            return 0


def _dagster_command() -> str:
    beside = Path(sys.executable).with_name("dagster")
    command = str(beside) if beside.exists() else shutil.which("dagster")
    if command is None or shutil.which("dagster-webserver", path=str(Path(command).parent)) is None:
        raise LocalServerError(
            "The Dagster UI is not installed. Install the `ui` extra: pip install 'wrm-pipeline[ui]'"
        )
    return command


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

"""`wrm up`: the Dagster UI and daemon, with a local store and feed where the settings name none."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

import click

from wrm_pipeline.cli.lake_server import LakeServer
from wrm_pipeline.cli.local_servers import HOST, LocalServerError, is_free
from wrm_pipeline.cli.local_stack import local_stack
from wrm_pipeline.cli.metrics import PORT, metrics_server
from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.settings import set_environment, subprocess_environment
from wrm_pipeline.telemetry import logs
from wrm_pipeline.vault.run_settings import load_run_settings

_GRACE_S = 20.0
_PAGES_PORT = 8788


def run_until_interrupted(host: str, port: int, bad_rows: int) -> int:
    """Run until Ctrl-C or SIGTERM and return the exit code.

    Raises:
        LocalServerError: a part does not start.
    """
    dagster = _dagster_command()
    if not is_free(port):
        raise LocalServerError(f"Port {port} is taken. Give another one: wrm up --port {port + 1}")
    address = f"http://{host}:{port}"
    with _interruptible(), local_stack(bad_rows=bad_rows) as stack, _pages(address) as pages, _metrics() as metrics:
        click.echo(f"Dagster UI  {address}")
        click.echo(f"store       {stack.store_address}{'  (SeaweedFS, started here)' if stack.store else ''}")
        click.echo(f"feed        {stack.feed_address}{'  (simulated, started here)' if stack.simulator else ''}")
        click.echo(f"site        {pages}/site/index.html")
        click.echo(f"metrics     {metrics}")
        click.echo("Ctrl-C ends it. In another shell: wrm status, wrm health")
        process = subprocess.Popen(  # noqa: S603 - our own interpreter's command, our own arguments
            [dagster, "dev", *_code_location(), "-h", host, "-p", str(port), "--log-format", _log_format()],
            env=subprocess_environment(),
            start_new_session=True,  # a group of its own, so that whatever it started can be ended with it
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            return 0
        finally:
            _end_group(process)
            click.echo("Everything that was started here has ended.")


def _metrics() -> AbstractContextManager[str]:
    """Serve the metrics here, as `wrm metrics serve` does on a server."""
    return metrics_server(HOST, PORT if is_free(PORT) else 0)


@contextmanager
def _pages(dagster_url: str) -> Iterator[str]:
    """Serve the lake's pages here, unless the settings say where they can be read; yield their address."""
    settings = load_run_settings()
    if settings.wrm_dagster_url is None:
        set_environment({"WRM_DAGSTER_URL": dagster_url})
    if settings.wrm_public_url is not None:
        yield settings.wrm_public_url
        return
    lake = open_lake(settings)
    with lake.store, LakeServer(lake, _PAGES_PORT if is_free(_PAGES_PORT) else 0) as server:
        set_environment({"WRM_PUBLIC_URL": server.url})
        yield server.url


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was told to end, then end what is left of its group."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _code_location() -> list[str]:
    # The same file that a server uses, so that schedules and runs go by the same names here and there.
    return ["-w", "workspace.yaml"] if Path("workspace.yaml").exists() else ["-m", "wrm_pipeline.definitions"]


def _log_format() -> str:
    """Return the format for what Dagster's own processes say of themselves; ours have a handler of their own."""
    return "json" if logs.is_json(load_run_settings()) else "colored"


def _dagster_command() -> str:
    beside = Path(sys.executable).with_name("dagster")
    command = str(beside) if beside.exists() else shutil.which("dagster")
    if command is None or shutil.which("dagster-webserver", path=str(Path(command).parent)) is None:
        raise LocalServerError(
            "The Dagster UI is not installed. Install the `ui` extra: pip install 'wrm-pipeline[ui]'"
        )
    return command


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end us as Ctrl-C does, and Ctrl-C too: a shell's background jobs and their children ignore it."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: interrupt}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

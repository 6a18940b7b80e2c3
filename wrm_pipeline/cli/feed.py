"""`wrm feed`: the feed simulator in a terminal."""

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path

import click

from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.feed.simulator import CONTROL_PATH, HOST, BadDay, SimulatorError, SimulatorServer

DEFAULT_PORT = 8787


def _aware_time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an ISO time such as 2025-05-12T18:10:00+00:00") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--seed", type=int, default=1, show_default=True, help="Which city; the same seed gives the same bytes.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Simulated seconds in a second; 0 stops the clock.",
)
@click.option(
    "--at",
    type=_aware_time,
    metavar="TIME",
    help="Simulated time to begin at, ISO; UTC unless it says otherwise. Default: now.",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the wrm_stations_*.txt files in this directory instead, one after another, then the last one for ever.",
)
@click.option("--fault", type=click.Choice([day.value for day in BadDay]), help="Begin with a bad day.")
@click.option(
    "--bad-rows", type=click.IntRange(0, 200), default=0, show_default=True, help="Rows to spoil in a snapshot."
)
@click.option("--once", is_flag=True, help="Print one snapshot and end.")
def feed(
    *,
    port: int,
    seed: int,
    speed: float,
    at: dt.datetime | None,
    replay: Path | None,
    fault: str | None,
    bad_rows: int,
    once: bool,
) -> None:
    r"""Serve a simulated bike feed on this machine.

    It speaks the format of the real feed: some 235 stations and 120 to 500 free-standing bikes of a made-up city, with
    commuters, weekends, overfull stations and a depot far away. Point WRM_FEED_URL at the address it prints.

    A bad day is switched on while it runs, and off with name=none:

    \b
        curl -X POST 'http://127.0.0.1:8787/_fault?name=html'
    """
    if once and (replay is not None or fault is not None):
        raise click.UsageError("--once prints a simulated snapshot; it goes with --seed, --at and --bad-rows only")
    if once:
        body = snapshot(seed, at or dt.datetime.now(dt.UTC))
        click.echo(with_bad_rows(body, bad_rows, 0), nl=False)
        return
    try:
        with SimulatorServer(
            port=port,
            seed=seed,
            clock=_clock_from(at),
            speed=speed,
            replay=replay,
            fault=BadDay(fault) if fault is not None else None,
            bad_rows=bad_rows,
        ) as server:
            click.echo(f"The feed simulator answers at {server.url}")
            click.echo(
                f"Bad days: POST http://{HOST}:{server.port}{CONTROL_PATH}?name=… ({', '.join(['none', *BadDay])})"
            )
            click.echo("Ctrl-C ends it.")
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("The feed simulator has ended.")
    except SimulatorError as error:
        raise click.ClickException(str(error)) from None


def _clock_from(at: dt.datetime | None) -> Callable[[], dt.datetime]:
    """Return a clock that goes as fast as ours and shows `at` now."""
    ahead = dt.timedelta() if at is None else at - dt.datetime.now(dt.UTC)
    return lambda: dt.datetime.now(dt.UTC) + ahead

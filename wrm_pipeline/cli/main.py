"""The `wrm` command: what each subcommand takes and prints. Subcommands import what they need when they are called."""

import atexit
import gc
import sys
from dataclasses import asdict
from importlib import import_module
from typing import Final

import click

from wrm_pipeline import __version__
from wrm_pipeline.cli.errors import expected_errors

# Each is a module of this package with a command of the same name; it is imported when it is asked for, since some take
# long, and `wrm health` has 2 s in all.
_MODULES: Final = ("alerts", "contracts", "dlq", "feed", "health", "lineage", "marts", "metrics", "secrets", "sql")


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"wrm_pipeline.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wrm")
def cli() -> None:
    """Wrocław's city bike as data: feed, lake, Dagster.

    Settings come from the environment, .env and WRM_SECRETS_DIR; .env.example explains each. Times are UTC.
    """


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the Dagster UI listens on.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option(
    "--bad-rows", type=click.IntRange(0, 200), default=2, show_default=True, help="Spoilt rows a simulated snapshot."
)
def up(host: str, port: int, bad_rows: int) -> None:
    """Run everything here: the Dagster UI, its schedules and sensor, until Ctrl-C.

    A SeaweedFS S3 server is started unless S3_ENDPOINT_URL is set, and a simulated feed unless WRM_FEED_URL is set.
    While it runs, `wrm status` and `dagster` in this folder find both by themselves.
    """
    from wrm_pipeline.cli.up import run_until_interrupted

    sys.exit(run_until_interrupted(host, port, bad_rows))


@cli.command()
@click.option(
    "--snapshots",
    type=click.IntRange(1, 1000),
    help="How many to fetch. Default: 6 of the simulated feed, 1 of a real one.",
)
def run(snapshots: int | None) -> None:
    """Send snapshots through the whole pipeline once, in this shell, and show what arrived.

    A SeaweedFS S3 server is started unless S3_ENDPOINT_URL is set, and a simulated feed unless WRM_FEED_URL is set; the
    simulated feed has some spoilt rows and one bad day, so that dead letters can be seen.
    """
    from wrm_pipeline.cli.run import run_once

    run_once(snapshots)


@cli.command()
@click.option("--days", type=click.IntRange(1, 366), default=3, show_default=True, help="How many days to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables; times are ISO, durations seconds.")
def status(days: int, *, as_json: bool) -> None:
    """Show the newest snapshot, rows, dead letters, and how far processing lags behind the feed."""
    import datetime as dt

    from wrm_pipeline.cli.tables import print_status, to_json
    from wrm_pipeline.contracts.active import active_contracts
    from wrm_pipeline.layers.status import lake_status
    from wrm_pipeline.resources.object_store import open_lake
    from wrm_pipeline.vault.run_settings import load_run_settings

    active_contracts()  # counts made by a contract that stops the code location would be of no use
    lake = open_lake(load_run_settings())
    with lake.store:
        found = lake_status(lake, dt.datetime.now(dt.UTC), days=days)
    if as_json:
        click.echo(to_json(asdict(found)))
    else:
        print_status(found)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(*, as_json: bool) -> None:
    """Check the object store and say what to do about each finding.

    Reachable, credentials, path style, wrong MD5 refused, conditional PUT, an upload read back byte for byte, clock.
    A small object is written under the prefix and removed. Exit code 1 when something fails.
    """
    from wrm_pipeline.cli.tables import print_findings, to_json
    from wrm_pipeline.lake.doctor import examine
    from wrm_pipeline.vault.run_settings import load_run_settings

    findings = list(examine(load_run_settings().require_store()))
    if as_json:
        click.echo(to_json([asdict(finding) for finding in findings]))
    else:
        print_findings(findings)
    if any(finding.status == "fail" for finding in findings):
        sys.exit(1)


def main() -> None:
    """Run the command; an expected error is one sentence on standard error and exit code 1."""
    atexit.register(gc.freeze)  # else the interpreter looks at all that was imported once more: 0.3 s with Dagster
    with expected_errors():
        cli()

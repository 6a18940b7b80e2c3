"""`python -m bench`: time the pipeline against a naive way and a floor on a local S3 server, and say what misses."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from bench.anomalies import measure_anomalies
from bench.day import measure_day
from bench.imports import measure_import
from bench.marts import measure_marts
from bench.memory import measure_memory
from bench.operations import measure_operations
from bench.quality import measure_quality
from bench.results import Report, WrongResultError, say
from bench.scrape import measure_scrape
from bench.sensor import measure_sensor
from bench.snapshots import RECORDED, RecordedFilesError, snapshots
from bench.year import YEAR_DIRECTORY
from wrm_pipeline.cli.local_servers import LocalServerError, LocalStore
from wrm_pipeline.settings import set_environment

PARTS = ("day", "incremental", "memory", "sensor", "import", "quality", "operations", "anomalies", "scrape", "marts")


# Whole runs, each under a prefix of its own.
_RUNS = {"memory": measure_memory, "quality": measure_quality, "operations": measure_operations}


def _parts(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    chosen = [part.strip() for part in value.split(",")]
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(PARTS)}")
    return chosen


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", "parts", default=",".join(PARTS), callback=_parts, help="Parts to run, with commas between.")
@click.option("--rounds", type=click.IntRange(1), default=7, help="Rounds of day and incremental.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(__file__).with_name("results.json"),
    show_default="bench/results.json",
    help="Where all samples go.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=RECORDED,
    show_default="../shared/data/replay_wroclaw",
    help="Recorded snapshots that the day is built from.",
)
@click.option(
    "--year-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=YEAR_DIRECTORY,
    show_default=".wrm/bench-year",
    help="Where the simulated year of the part marts is kept; made the first time, which takes minutes.",
)
def main(parts: list[str], rounds: int, json_path: Path, data: Path, year_dir: Path) -> None:
    """Time the pipeline on this machine, on a real S3 server, and hold it against its targets.

    Ends with 0 when all targets are met, with 1 when one is missed, with 2 when something could not be measured.
    """
    try:
        report = _measure(set(parts), rounds, data, year_dir)
    except (RecordedFilesError, LocalServerError, WrongResultError) as error:
        click.echo(error, err=True)
        sys.exit(2)
    report.show()
    report.write(json_path)
    say(f"All samples are in {json_path}")
    sys.exit(0 if report.met else 1)


def _measure(parts: set[str], rounds: int, data: Path, year_dir: Path) -> Report:
    report = Report()
    if parts & {"day", "incremental", "memory", "operations", "quality"}:
        snapshots(data)  # a missing file is better known now than in minutes
    # First, while no server takes its share of the cores.
    if "import" in parts:
        report.extend(measure_import())
    with tempfile.TemporaryDirectory(prefix="wrm-bench-") as directory, LocalStore(Path(directory)) as server:
        settings = server.settings()
        set_environment(server.environment())
        if parts & {"day", "incremental"}:
            report.extend(
                measure_day(settings, data, rounds, compare="day" in parts, incremental="incremental" in parts)
            )
        for part, measure in _RUNS.items():
            if part in parts:
                elsewhere = replace(settings, prefix=f"{part}/")
                report.extend(measure(elsewhere, server.environment(), data))
        if "sensor" in parts:
            report.extend(measure_sensor(settings))
    # Last, since they take minutes.
    if "anomalies" in parts:
        report.extend(measure_anomalies())
    if "scrape" in parts:
        report.extend(measure_scrape())
    if "marts" in parts:
        report.extend(measure_marts(year_dir))
    return report


if __name__ == "__main__":
    main()

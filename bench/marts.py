"""The marts and the site of a simulated year: from nothing, after one more snapshot, and every query behind the site.

One more snapshot is held against the naive way, which makes everything again from all days each time, and against a
floor: a process that reads the day and the tables that the run writes, with DuckDB, and computes nothing.
"""

import datetime as dt
import gzip
import json
import posixpath
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.results import Report, Samples, Target, WrongResultError, say
from bench.year import YEAR_DIRECTORY, fill_lake, open_year, snapshot_times, store_day, year_days
from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.marts.database import open_database
from wrm_pipeline.settings import subprocess_environment
from wrm_pipeline.site.downloads import download_queries
from wrm_pipeline.site.export import queries

REBUILD_LIMIT_S: Final = 600.0
MEMORY_LIMIT_MB: Final = 2000.0
SNAPSHOT_LIMIT_S: Final = 20.0
QUERY_LIMIT_S: Final = 0.5
FIRST_VIEW_LIMIT_KB: Final = 1500.0
# On two weeks; on the year it is the full rebuild, some hundred times ours.
NAIVE_AT_LEAST: Final = 2.0

_MARTS_STEP: Final = "wrm_stations_marts"
_SNAPSHOTS: Final = 5
_WEEKS_DAYS: Final = 14
_QUERY_ROUNDS: Final = 20
_TEXT: Final = "text/plain; charset=utf-8"
# The simulated bikes need no secret.
_PSEUDONYM_KEY: Final = "0123456789abcdef" * 2
_LOADED: Final = re.compile(r'<(?:link rel="(?:icon|stylesheet|modulepreload|preload)" href|script[^>]* src)="([^"]+)"')


@dataclass(frozen=True)
class Run:
    """What a process took: seconds from its start to its end, those of its parts, processor time, and peak memory."""

    seconds: float
    cpu_s: float
    parts: Mapping[str, float]
    peak_mb: float


class Year:
    """A lake with simulated days, whose newest day can be given one more snapshot, and a DuckDB file beside it."""

    def __init__(self, server: LocalStore, lake: Lake, days: Sequence[dt.date], database: Path) -> None:
        self.lake = lake
        self.database = database
        self._newest = days[-1]
        self._environment = {
            **server.environment(),
            "WRM_DUCKDB_PATH": str(database),
            "WRM_PSEUDONYM_KEY": _PSEUDONYM_KEY,
        }
        self._times = snapshot_times(self._newest)
        self._held = len(self._times) - _SNAPSHOTS
        for time_ in self._times[self._held :]:
            lake.store.delete(lake.keys.raw(time_))
        store_day(lake, self._newest, self._held)

    def restore(self) -> None:
        """Give the newest day all its snapshots."""
        while self._held < len(self._times):
            self.one_more_snapshot()

    def one_more_snapshot(self) -> None:
        """Store one more raw object, and enhanced with it."""
        self.lake.store.put(self.lake.keys.raw(self._times[self._held]), b"#", content_type=_TEXT)
        self._held += 1
        store_day(self.lake, self._newest, self._held)

    def forget(self) -> None:
        """Remove all that was ever made of enhanced."""
        keys = self.lake.keys
        for root in (keys.marts_root, keys.state_root, keys.site_root):
            for info in list(self.lake.store.list(root)):
                self.lake.store.delete(info.key)
        self.database.unlink(missing_ok=True)

    def tables(self) -> dict[str, str]:
        """Return the ETag of each table's objects, by key."""
        roots = (self.lake.keys.marts_root, self.lake.keys.state_root)
        listed = (info for root in roots for info in self.lake.store.list(root))
        return {info.key: info.etag for info in listed if info.key.endswith(".parquet")}

    def written_since(self, before: Mapping[str, str]) -> list[str]:
        """Return the keys of the newest day of enhanced and of the tables' objects that are not as they were."""
        written = [key for key, etag in self.tables().items() if before.get(key) != etag]
        return [self.lake.keys.layer_object(Layer.ENHANCED, self._newest), *written]

    def run(self, *arguments: str) -> Run:
        """Run bench.one_marts_run in a process of its own.

        Raises:
            WrongResultError: it failed.
        """
        started = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-m", "bench.one_marts_run", *arguments],
            env=subprocess_environment(**self._environment),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        if child.returncode:
            raise WrongResultError(
                f"bench.one_marts_run {arguments[0]} ended with {child.returncode}:\n{child.stderr[-4000:]}"
            )
        said: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        return Run(seconds, said["cpu_s"], said["parts"], said["peak_kb"] * 1024 / 1e6)


def measure_marts(directory: Path = YEAR_DIRECTORY) -> Report:
    """Measure on the year that is kept in a directory, which is made first when there is none."""
    days = year_days()
    with ExitStack() as open_:
        weeks_directory = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="wrm-bench-weeks-")))
        year = _lake(open_, open_.enter_context(open_year(directory)), days, directory / "wrm.duckdb")
        open_.callback(year.restore)
        weeks_server = open_.enter_context(LocalStore(weeks_directory / "store"))
        fill_lake(weeks_server.settings(), days[-_WEEKS_DAYS:])
        weeks = _lake(open_, weeks_server, days[-_WEEKS_DAYS:], weeks_directory / "wrm.duckdb")
        year.forget()
        say(f"Marts and site of {len(days)} days, from nothing")
        full = year.run("job")
        weeks.run("job")
        ours, floors, weeks_ours, weeks_naive = [], [], [], []
        for number in range(1, _SNAPSHOTS + 1):
            say(f"One more snapshot, {number} of {_SNAPSHOTS}")
            before = year.tables()
            year.one_more_snapshot()
            ours.append(year.run("job"))
            floors.append(year.run("floor", *year.written_since(before)))
            weeks.one_more_snapshot()
            weeks_ours.append(weeks.run("job"))
            weeks.forget()
            weeks_naive.append(weeks.run("job"))
        report = _builds(full, ours, floors, weeks_ours, weeks_naive)
        report.extend(_queries(year.database))
        report.extend(_first_views(year.lake))
        report.notes["DuckDB file of the year"] = f"{year.database.stat().st_size / 1e6:.0f} MB"
    return report


def _lake(open_: ExitStack, server: LocalStore, days: Sequence[dt.date], database: Path) -> Year:
    settings = server.settings()
    store = open_.enter_context(ObjectStore(settings))
    return Year(server, Lake(store, LakeKeys(settings.prefix)), days, database)


def _builds(
    full: Run, ours: Sequence[Run], floors: Sequence[Run], weeks_ours: Sequence[Run], weeks_naive: Sequence[Run]
) -> Report:
    rebuild = Samples("all marts of the year from nothing", "s", [full.parts[_MARTS_STEP]])
    peak = Samples("all marts and the site from nothing: peak memory, process with Dagster", "MB", [full.peak_mb])
    more = _seconds("one more snapshot, marts and site of the year, whole process", ours)
    floor = _seconds("one more snapshot, floor: import Dagster and DuckDB, read, compute nothing", floors)
    more_cpu = Samples(
        "one more snapshot, marts and site of the year: processor time", "s", [run.cpu_s for run in ours]
    )
    more_peak = Samples("one more snapshot: peak memory", "MB", [run.peak_mb for run in ours])
    weeks_more = _seconds(f"one more snapshot, marts and site of {_WEEKS_DAYS} days", weeks_ours)
    naive = _seconds(f"one more snapshot, naive: all of {_WEEKS_DAYS} days again", weeks_naive)
    year_again = Samples("one more snapshot, naive: all of the year again", "s", [full.seconds])
    return Report(
        samples=[rebuild, peak, year_again, more, more_cpu, more_peak, floor, weeks_more, naive],
        targets=[
            Target("all marts of the year from nothing", rebuild, REBUILD_LIMIT_S),
            Target("all marts and the site from nothing: peak memory", peak, MEMORY_LIMIT_MB),
            Target("one more snapshot to fresh marts and site, year", more, SNAPSHOT_LIMIT_S),
            Target(f"naive, against ours, {_WEEKS_DAYS} days", naive, NAIVE_AT_LEAST, weeks_more, at_least=True),
        ],
        notes={
            "all from nothing, parts": _parts([full]),
            "one more snapshot, parts": _parts(ours),
            "one more snapshot, against the floor": f"{more.median / floor.median:.3g} times",
            "one more snapshot, naive on the year (once), against ours": f"{full.seconds / more.median:.3g} times",
            "one more snapshot, year against 14 days": f"{more.median / weeks_more.median:.3g} times",
        },
    )


def _seconds(name: str, runs: Iterable[Run]) -> Samples:
    return Samples(name, "s", [run.seconds for run in runs])


def _parts(runs: Sequence[Run]) -> str:
    """Return the medians of the seconds of each part, and of what is none: starting Python, Dagster, ending."""
    medians = {name: float(np.median([run.parts[name] for run in runs])) for name in runs[0].parts}
    rest = float(np.median([run.seconds - sum(run.parts.values()) for run in runs]))
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in {**medians, "rest": rest}.items())


def _queries(database: Path) -> Report:
    """Time every query behind the site, rows fetched, in turns; the first round warms up."""
    asked = {**queries(), **{f"download of {name}": sql for name, sql in download_queries().items()}}
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    with open_database(database) as connection:
        for number in range(_QUERY_ROUNDS + 1):
            say(f"Queries behind the site, round {number} of {_QUERY_ROUNDS}" if number else "Queries, warm-up")
            for name, sql in asked.items():
                started = time.perf_counter()
                connection.execute(sql).to_arrow_table()
                if number:
                    seconds[name].append(time.perf_counter() - started)
    p95 = {name: float(np.percentile(values, 95)) for name, values in seconds.items()}
    slowest = sorted(p95, key=lambda name: -p95[name])
    worst = Samples(
        f"p95 of the slowest of {len(asked)} queries behind the site ({slowest[0]})", "s", [p95[slowest[0]]]
    )
    return Report(
        samples=[Samples(f"query {name}", "s", seconds[name]) for name in slowest[:5]] + [worst],
        targets=[Target("p95 of each query behind the site, year", worst, QUERY_LIMIT_S)],
        notes={
            "p95 of the queries behind the site, ms": ", ".join(f"{name} {1000 * p95[name]:.0f}" for name in slowest)
        },
    )


def _first_views(lake: Lake) -> Report:
    """Add up what each page loads at first, compressed."""
    root = lake.keys.site_root
    pages = [info.key for info in lake.store.list(f"{root}en/") if info.key.endswith(".html")]
    sizes = {page.removeprefix(root): _first_view_bytes(lake, page) / 1000 for page in pages}
    if not sizes:
        raise WrongResultError(f"there is no page under {lake.store.uri(root)}en/")
    largest = Samples("first view of the largest page, compressed", "kB", [max(sizes.values())])
    return Report(
        samples=[largest],
        targets=[Target("first view of a page, compressed", largest, FIRST_VIEW_LIMIT_KB)],
        notes={"first views, compressed": ", ".join(f"{page} {kb:.0f} kB" for page, kb in sorted(sizes.items()))},
    )


def _first_view_bytes(lake: Lake, page: str) -> int:
    html = lake.store.get(page).body
    found = {
        posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) for path in _LOADED.findall(html.decode())
    }
    return sum(len(gzip.compress(body, 6)) for body in (html, *(lake.store.get(key).body for key in sorted(found))))

"""The site: pages, data and downloads under site/ in the lake and in a folder here; only what differs is written.

Whatever is shown is written before what shows it, and nothing is removed before all is written: a reader, and a build
that fails half-way, leave a site that works.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.lake import PARQUET, Lake
from wrm_pipeline.layers.marts import MARTS_CODE_VERSION
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.layers.site_facts import read_facts
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.marts.database import MartsError, open_database
from wrm_pipeline.site.downloads import downloads
from wrm_pipeline.site.export import LakeFacts, empty_database, export
from wrm_pipeline.site.folder import write_folder
from wrm_pipeline.site.pages import BuiltFrom, render_pages
from wrm_pipeline.telemetry.traces import span
from wrm_pipeline.transform.zone import LOCAL_ZONE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Raise it whenever the same marts give another site.
SITE_CODE_VERSION: Final = "1"
# Small requests that do not wait for each other.
_AT_ONCE: Final = 8

# By the end of a name; what has none is a licence.
CONTENT_TYPES: Final[Mapping[str, str]] = {
    "": "text/plain; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".parquet": PARQUET,
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class SiteFolderError(LayerError):
    """The folder on this machine cannot be written; the site in the lake is up to date."""


@dataclass(frozen=True)
class SiteReport:
    """A site after a build.

    Attributes:
        pages: HTML pages.
        objects: all objects of it, and `size` their bytes.
        written: objects that were written, and `sent` their bytes.
        removed: objects that no longer belong to it.
        copied: files that were written in the folder here.
        newest_snapshot_at: of the data, UTC; None when there is none.
        problem: why there is no data, or nothing.
        version: a digest of all of it.
    """

    pages: int
    objects: int
    size: int
    written: int
    sent: int
    removed: int
    copied: int
    newest_snapshot_at: dt.datetime | None
    problem: str
    version: str


def build_site(lake: Lake, contracts: Contracts, database: Path, folder: Path) -> SiteReport:
    """Bring the site in the lake, and the copy of it in a folder here, up to date with the DuckDB file.

    Without a usable file a site is made that says so, unless there is one already: that one is left alone.

    Args:
        lake: the lake.
        contracts: they have the nominal time between two snapshots, and the rules whose outcome the site shows.
        database: the DuckDB file.
        folder: on this machine; made if it is not there.

    Raises:
        StoreError: the store does not answer. The old site stays, with some of the new data.
        MartsError: the file cannot be used, and there is a site.
        SiteFolderError: the folder cannot be written.
    """
    with span("list"):
        there = {info.key: info.etag for info in lake.store.list(lake.keys.site_root) if not info.key.endswith("/")}
    problem = ""
    try:
        connection = open_database(database)
    except MartsError as error:
        if there:
            raise
        connection, problem = empty_database(), str(error)
    with connection, span("render"):
        files, newest = _files(lake, contracts, connection)
    bodies = {f"{lake.keys.site_root}{path}": body for path, body in files.items()}
    changed = [key for key, body in bodies.items() if there.get(key) != _md5(body)]
    pages = {key for key in bodies if key.endswith(".html")}

    def put(key: str) -> None:
        lake.store.put(key, bodies[key], content_type=CONTENT_TYPES[PurePosixPath(key).suffix])

    gone = sorted(there.keys() - bodies.keys())
    with span("write", objects=len(changed), bytes=sum(len(bodies[key]) for key in changed)):
        _each(put, [key for key in changed if key not in pages])
        _each(put, [key for key in changed if key in pages])
        _each(lake.store.delete, gone)
    try:
        copied = write_folder(files, folder)
    except OSError as error:
        raise SiteFolderError(
            f"The site is in the lake, but not in {folder}: {error.strerror or error}. Check WRM_SITE_DIR and the disk."
        ) from error
    return SiteReport(
        pages=len(pages),
        objects=len(bodies),
        size=sum(map(len, bodies.values())),
        written=len(changed),
        sent=sum(len(bodies[key]) for key in changed),
        removed=len(gone),
        copied=copied,
        newest_snapshot_at=newest,
        problem=problem,
        version=_md5("".join(f"{path} {_md5(body)}\n" for path, body in sorted(files.items())).encode()),
    )


def _files(
    lake: Lake, contracts: Contracts, connection: "DuckDBPyConnection"
) -> tuple[dict[str, bytes], dt.datetime | None]:
    """Return every file of the site by its path under site/, and the time of the newest snapshot."""
    interval_s = int(contracts.raw.interval_s)
    code_version = f"marts {MARTS_CODE_VERSION}, site {SITE_CODE_VERSION}"
    built = connection.execute("SELECT epoch(newest_snapshot_at), first_day, newest_day FROM marts_built").fetchone()
    newest_s, first_day, newest_day = built or (None, None, None)
    newest = None if newest_s is None else dt.datetime.fromtimestamp(newest_s, dt.UTC)
    days = connection.execute("SELECT utc_date FROM mart_data_quality_day").fetchall()
    facts = LakeFacts() if newest is None else read_facts(lake, contracts, {day for (day,) in days}, newest)
    data = export(connection, interval_s=interval_s, code_version=code_version, facts=facts)
    built_from = BuiltFrom(
        time_zone=LOCAL_ZONE.key,
        interval_s=interval_s,
        first_day=first_day,
        newest_day=newest_day,
        code_version=code_version,
    )
    files = {f"data/{path}": body for path, body in data.items()}
    return {**files, **downloads(connection), **render_pages(published(), built_from)}, newest


def _each(act: Callable[[str], None], keys: Iterable[str]) -> None:
    """Do something for each of some keys, a few at once; the first error ends it."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="site") as pool:
        try:
            for future in [pool.submit(act, key) for key in keys]:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _md5(body: bytes) -> str:
    """Return what the store gives as ETag of bytes that were written with one PUT."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()

"""The DuckDB file that analysts and the site query: a cache, which can be deleted and is then made again.

It is written beside and renamed: a reader has the old file or the new one, whole. Only one writer may be at work on a
draft, and each writer has a draft of its own; the last one to rename wins.
"""

import datetime as dt
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.marts.catalogue import Grain, Mart, catalogue
from wrm_pipeline.marts.connection import clear_store_errors, connect, quoted, use_lake
from wrm_pipeline.settings import Settings
from wrm_pipeline.transform.schema import ENHANCED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Raise it whenever the file's layout changes; a file of another layout is made anew.
LAYOUT: Final = "1"
# Under this name a draft is attached to the connection that fills it.
ATTACHED: Final = "marts"
# A draft that nobody has written to for as long is what a killed run left.
_ABANDONED_S: Final = 3600.0

# What users of older deployments query: enhanced as it lies in the lake, and the newest row of each station.
_VIEWS: Final = {
    "wrm_stations_only": "SELECT * FROM wrm_stations_enhanced_data WHERE record_type = 'station'",
    "wrm_bikes_only": "SELECT * FROM wrm_stations_enhanced_data WHERE record_type = 'bike'",
    "wrm_stations_latest": "SELECT * FROM mv_station_latest",
}
_BUILT: Final = "marts_built"


class MartsError(ExpectedError):
    """The DuckDB file is missing, damaged or of another version; the sentence says how to get it."""


@dataclass(frozen=True)
class Built:
    """What the file was made from: the marts' index by its digest, UTC days, and the newest snapshot's time (UTC)."""

    index: str
    first_day: dt.date | None
    newest_day: dt.date | None
    newest_snapshot_at: dt.datetime | None


class Draft:
    """A file in the making, attached to a connection as `marts`."""

    def __init__(self, connection: "DuckDBPyConnection") -> None:
        self._connection = connection

    def stored(self, table: str) -> str:
        """Return the name by which the connection knows a table of the draft."""
        return f"{ATTACHED}.{table}"

    def create_all(self) -> None:
        """Make all tables without rows, with what they and their columns mean as comments."""
        for mart in catalogue().values():
            if mart.grain in (Grain.DAY, Grain.LOCAL_DAY, Grain.TABLE):
                self._create(mart)

    def _create(self, mart: Mart) -> None:
        columns = {**mart.types, **({"dt": "DATE"} if mart.grain is Grain.DAY else {})}
        listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        name = self.stored(mart.name)
        self._connection.execute(f"CREATE OR REPLACE TABLE {name} ({listed})")
        self._connection.execute(f"COMMENT ON TABLE {name} IS {quoted(mart.description['en'])}")
        for column in mart.columns:
            meaning = f"{column.en} ({column.unit})" if column.unit else column.en
            self._connection.execute(f'COMMENT ON COLUMN {name}."{column.name}" IS {quoted(meaning)}')

    def load(self, mart: Mart, addresses: Sequence[str]) -> None:
        """Fill a table from objects of the lake, by their s3:// addresses."""
        if not addresses:
            return
        listed = ", ".join(map(quoted, addresses))
        columns = ", ".join(f'"{column.name}"' for column in mart.columns)
        # The UTC day of an object is in its key alone.
        day, hive = (", dt", ", hive_types = {'dt': DATE}") if mart.grain is Grain.DAY else ("", "")
        with clear_store_errors(f"{mart.name} in the lake"):
            self._connection.execute(
                f"INSERT INTO {self.stored(mart.name)} SELECT {columns}{day} FROM read_parquet([{listed}]{hive})"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is put and dropped within at once: each write by itself would wait for the disk."""
        self._connection.begin()
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def put(self, mart: Mart, rows: pa.Table, *, day: dt.date | None = None) -> None:
        """Put rows in the place of those that a table has, or that it has of a UTC day or local date."""
        name = self.stored(mart.name)
        if day is None:
            self._connection.execute(f"TRUNCATE {name}")
        else:
            self.drop(mart, day)
        self._connection.register("incoming", rows)
        more = f", DATE '{day}'" if mart.grain is Grain.DAY else ""
        self._connection.execute(f"INSERT INTO {name} SELECT *{more} FROM incoming")
        self._connection.unregister("incoming")

    def drop(self, mart: Mart, day: dt.date) -> None:
        """Take a UTC day or local date out of a table."""
        column = "dt" if mart.grain is Grain.DAY else "local_date"
        self._connection.execute(f"DELETE FROM {self.stored(mart.name)} WHERE {column} = $1", [day])

    def finish(self, built: Built, enhanced: str | None) -> None:
        """Add the views that users of older deployments query, and what the file was made from.

        `enhanced` is the s3:// pattern of all days of enhanced, None when there is none.
        """
        views = {"wrm_stations_enhanced_data": self._enhanced(enhanced), **_VIEWS}
        self._connection.execute(f"USE {ATTACHED}")
        try:
            with clear_store_errors("Enhanced"):
                for name, query in views.items():
                    self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
            self._connection.execute(
                f"CREATE OR REPLACE TABLE {_BUILT} AS SELECT $1 AS layout, $2 AS duckdb_version, $3 AS index_digest, "
                "$4::DATE AS first_day, $5::DATE AS newest_day, $6::TIMESTAMP WITH TIME ZONE AS newest_snapshot_at",
                [LAYOUT, _duckdb_version(), built.index, built.first_day, built.newest_day, built.newest_snapshot_at],
            )
        finally:
            self._connection.execute("USE memory")

    def _enhanced(self, pattern: str | None) -> str:
        if pattern is not None:
            return f"SELECT * FROM read_parquet({quoted(pattern)}, hive_partitioning = false)"
        rows = self._connection.from_arrow(ENHANCED.empty_table())
        columns = zip(rows.columns, rows.types, strict=True)
        return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in columns)} WHERE false"


@contextmanager
def drafting(connection: "DuckDBPyConnection", path: Path, index: str) -> Iterator[tuple[Draft, bool]]:
    """Yield a draft of the file, and whether it begins as a copy of one made from the index with this digest.

    When the block ends well, the draft takes the file's place; when it fails, the old file stays.

    Raises:
        MartsError: the folder cannot be written to, or has no room.
    """
    import duckdb

    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        usable = _made_from(path) == index
        if usable:
            shutil.copyfile(path, beside)
        connection.execute(f"ATTACH {quoted(str(beside))} AS {ATTACHED}")
        try:
            draft = Draft(connection)
            if not usable:
                draft.create_all()
            yield draft, usable
            connection.execute(f"CHECKPOINT {ATTACHED}")
        finally:
            connection.execute(f"DETACH {ATTACHED}")
        beside.replace(path)
    except (OSError, duckdb.IOException) as error:
        reason = str(error).partition("\n")[0]
        raise MartsError(
            f"The DuckDB file {path} cannot be written: {reason}. Check WRM_DUCKDB_PATH, the rights and the room there."
        ) from error
    finally:
        for left in (beside, Path(f"{beside}.wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def is_made_from(path: Path, index: str) -> bool:
    """Tell whether the file is there, whole, of this version, and made from the index with this digest."""
    return _made_from(path) == index


def open_database(path: Path, settings: Settings | None = None) -> "DuckDBPyConnection":
    """Open the file for reading; with settings that name a store, views on the lake work too.

    Raises:
        MartsError: it is missing, damaged, or made by another version.
    """
    remedy = "Run wrm_stations_marts_job in the Dagster UI, or `dagster job execute -j wrm_stations_marts_job`."
    if not path.exists():
        raise MartsError(f"There is no DuckDB file {path} yet. {remedy}")
    if _made_from(path) is None:
        raise MartsError(f"The DuckDB file {path} is damaged or was made by another version. {remedy}")
    connection = connect(str(path), read_only=True)
    if settings is not None and settings.has_store:
        use_lake(connection, settings.require_store())
    return connection


def empty_database() -> "DuckDBPyConnection":
    """Open a database in memory with all tables and no rows, for who has something to say without data too."""
    connection = connect()
    connection.execute(f"ATTACH ':memory:' AS {ATTACHED}")
    draft = Draft(connection)
    draft.create_all()
    draft.finish(Built("", None, None, None), None)
    connection.execute(f"USE {ATTACHED}")
    return connection


def _made_from(path: Path) -> str | None:
    """Return the digest of the index that a file was made from; None when it is not whole or not of this version."""
    import duckdb

    if not path.exists():
        return None
    try:
        with connect(str(path), read_only=True) as connection:
            found = connection.execute(f"SELECT layout, duckdb_version, index_digest FROM {_BUILT}").fetchone()
    except duckdb.Error:
        return None
    if found is None or found[:2] != (LAYOUT, _duckdb_version()):
        return None
    return str(found[2])


def _duckdb_version() -> str:
    import duckdb

    return str(duckdb.__version__)


def _sweep(path: Path) -> None:
    """Remove the drafts of runs that were killed."""
    for left in path.parent.glob(f".{path.name}.*.draft*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()

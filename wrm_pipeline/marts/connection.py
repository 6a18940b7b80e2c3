"""DuckDB connections: nothing fetched from the network, S3 by the httpfs extension that comes as a wheel."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from wrm_pipeline.lake.object_store import StoreUnavailable
from wrm_pipeline.settings import StoreSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Half of the 2 GB that a build may take; DuckDB writes to disk beyond it, Python and Arrow need the rest.
_MEMORY: Final = "1GB"
_OPTIONS: Final[dict[str, str]] = {
    # An extension that is not there is an error to be seen, not something to be fetched from the network.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "memory_limit": _MEMORY,
}


def connect(database: str = ":memory:", *, read_only: bool = False) -> "DuckDBPyConnection":
    """Open a DuckDB database, by default one in memory, with the clock in UTC."""
    import duckdb

    # Made when something does not fit into memory, and removed when the connection is closed. Its default is `.tmp`,
    # wherever the process happens to run.
    spill = Path(tempfile.gettempdir()) / f"wrm-duckdb-{secrets.token_hex(8)}"
    options: dict[str, bool | int | float | str | list[str]] = {**_OPTIONS, "temp_directory": str(spill)}
    connection = duckdb.connect(database, read_only=read_only, config=options)
    connection.execute("SET TimeZone = 'UTC'")
    # It would be drawn into what a command prints.
    connection.execute("SET enable_progress_bar = false")
    return connection


def use_lake(connection: "DuckDBPyConnection", settings: StoreSettings) -> None:
    """Let a connection read s3:// addresses of the lake's bucket. The keys stay in its memory."""
    import duckdb_extension_httpfs

    address = urlsplit(settings.endpoint_url)
    (extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    connection.load_extension(str(extension))
    connection.execute(f"SET http_timeout = {max(1, round(settings.timeout_s))}")
    values = {
        "KEY_ID": settings.access_key_id.get_secret_value(),
        "SECRET": settings.secret_access_key.get_secret_value(),
        "REGION": settings.region,
        "ENDPOINT": address.netloc + address.path,
        "URL_STYLE": "path",
        "SCOPE": f"s3://{settings.bucket}",
    }
    given = ", ".join(f"{name} {quoted(value)}" for name, value in values.items())
    ssl = str(address.scheme == "https").lower()
    connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET lake (TYPE s3, USE_SSL {ssl}, {given})")


def quoted(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def clear_store_errors(what: str) -> Iterator[None]:
    """Turn what DuckDB says when the store does not answer into the store's own error.

    Raises:
        StoreUnavailable: `what` could not be read.
    """
    import duckdb

    try:
        yield
    except (duckdb.HTTPException, duckdb.IOException) as error:
        first_line = str(error).partition("\n")[0]
        raise StoreUnavailable(f"{what} could not be read by DuckDB: {first_line}") from error

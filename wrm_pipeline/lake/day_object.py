"""One day of a layer as one Parquet object: its bytes, and the manifest inside that says what it was built from.

The same rows and manifest always give the same bytes: fixed codec, encodings and row groups, nothing of the clock.
The bytes also depend on the Parquet writer, so its version is part of the recorded code version.
"""

import datetime as dt
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.object_store import ObjectInfo

_MANIFEST_KEY = b"wrm_manifest"
_ROW_GROUP_ROWS = 128 * 1024
_TIME_COLUMNS = ("timestamp", "file_timestamp", "date")
# Nearly all different and rising: deltas take a tenth of a dictionary's space. The rest repeats.
_DELTA_ENCODED = {"timestamp": "DELTA_BINARY_PACKED"}


class UnreadableDayError(ValueError):
    """A stored day is no Parquet object of this pipeline, or is damaged."""


@dataclass(frozen=True)
class Source:
    """One input object of a day, and what became of its rows: `rows == kept + dead + duplicates`.

    `fault` names why the whole object was set aside; it then counts no rows.
    """

    key: str
    etag: str
    rows: int = 0
    kept: int = 0
    dead: int = 0
    duplicates: int = 0
    fault: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a day's object was built from: its sources in the order of their keys, and by which code and contract."""

    layer: Layer
    day: dt.date
    code_version: str
    sources: tuple[Source, ...]

    def inputs(self) -> dict[str, str]:
        """The ETag of each source, by key."""
        return {source.key: source.etag for source in self.sources}

    def total(self, count: str) -> int:
        """Sum of `rows`, `kept`, `dead` or `duplicates` over the sources."""
        return sum(getattr(source, count) for source in self.sources)


def inputs_digest(inputs: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 over (key, ETag) pairs in the order of the keys: equal digests mean equal inputs."""
    digest = hashlib.sha256()
    for key, etag in sorted(inputs):
        digest.update(f"{key}\0{etag}\n".encode())
    return digest.hexdigest()


def listing_inputs(listing: Iterable[ObjectInfo]) -> dict[str, str]:
    """The ETag of each object of a listing, by key."""
    return {info.key: info.etag for info in listing}


def recorded_code_version(code_version: str, contract: str) -> str:
    """Return what is recorded as code version: the code's own, the contract's stamp and the Parquet writer's."""
    return f"{code_version}+contract{contract}+pyarrow{pa.__version__}"


def object_metadata(manifest: Manifest) -> dict[str, str]:
    """Return the S3 metadata of a day's object, so that one HEAD tells whether it is up to date."""
    return {
        "inputs-sha256": inputs_digest(manifest.inputs().items()),
        "code-version": manifest.code_version,
        "rows": str(manifest.total("kept")),
        "snapshots": str(sum(source.fault is None for source in manifest.sources)),
    }


def encode(rows: pa.Table, manifest: Manifest) -> bytes:
    """Return the bytes of a day's object."""
    document = {
        "layer": manifest.layer,
        "day": manifest.day.isoformat(),
        "code_version": manifest.code_version,
        "inputs": [{k: v for k, v in vars(source).items() if v is not None} for source in manifest.sources],
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return parquet_bytes(rows, {_MANIFEST_KEY: text.encode()})


def parquet_bytes(rows: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """Return rows as a Parquet file with key-value metadata: the same ones always give the same bytes."""
    # One chunk: the page boundaries must not depend on the pieces a table was put together from.
    table = rows.combine_chunks()
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        # A day is encoded anew with each snapshot, and zstd takes 40 % longer for files a third smaller.
        compression="snappy",
        # Bounds of a row group help a reader who asks for a time; every group holds all stations.
        write_statistics=[name for name in _TIME_COLUMNS if name in table.schema.names],
        use_dictionary=[path for path in _leaf_paths(table.schema) if path not in _DELTA_ENCODED],
        column_encoding=_DELTA_ENCODED,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        writer.add_key_value_metadata(metadata)
    return sink.getvalue()


def decode(body: bytes, schema: pa.Schema) -> tuple[pa.Table, Manifest]:
    """Return the rows, in `schema`, and the manifest of a day's object.

    Raises:
        UnreadableDayError: the bytes are not such an object.
    """
    try:
        # Not pq.read_table: with pyarrow 26 its thread pool aborts the process at exit, one time in three.
        # Texts as dictionaries first: a day repeats a few hundred, and reading takes 6 ms instead of 18.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=texts)
        document = json.loads((file.metadata.metadata or {})[_MANIFEST_KEY])
        manifest = Manifest(
            layer=Layer(document["layer"]),
            day=dt.date.fromisoformat(document["day"]),
            code_version=document["code_version"],
            sources=tuple(Source(**source) for source in document["inputs"]),
        )
        rows = file.read(columns=schema.names).select(schema.names).cast(schema)
        kept = manifest.total("kept")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UnreadableDayError(f"not a readable day object: {error}") from error
    if rows.num_rows != kept:
        raise UnreadableDayError(f"holds {rows.num_rows} rows where its manifest counts {kept}")
    return rows, manifest


def _leaf_paths(schema: pa.Schema) -> list[str]:
    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema]

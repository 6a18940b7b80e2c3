"""The two ways that the pipeline is compared with: the straightforward one, and as little as one can do.

Both read the same raw objects from the same server and store one Parquet object a day, with a plain boto3 client.
"""

import csv
import datetime as dt
import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from botocore.config import Config

from wrm_pipeline.settings import StoreSettings

CONNECTIONS = 16
_COLUMNS = [
    *("station_id", "packed_time", "name", "lat", "lon", "bikes", "spaces", "installed", "locked", "temporary"),
    *("total_docks", "givesbonus_acceptspedelecs_fbbattlevel", "pedelecs"),
]
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("lat", "lon"), "float64"),
    **dict.fromkeys(("bikes", "spaces", "total_docks", "pedelecs"), "int64"),
}
_COUNT = pandera.Column(int, pandera.Check.ge(0))
_SCHEMA = pandera.DataFrameSchema(
    {
        "station_id": pandera.Column(str, pandera.Check.str_length(min_value=1)),
        "name": pandera.Column(str),
        "timestamp": pandera.Column("datetime64[us, UTC]"),
        "lat": pandera.Column(float, pandera.Check.in_range(-90, 90)),
        "lon": pandera.Column(float, pandera.Check.in_range(-180, 180)),
        **dict.fromkeys(("bikes", "spaces", "total_docks", "pedelecs"), _COUNT),
        **dict.fromkeys(("installed", "locked", "temporary"), pandera.Column(bool)),
    }
)


def plain_client(settings: StoreSettings) -> Any:
    """Return a boto3 client as everybody makes one, with enough connections for the floor."""
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id.get_secret_value(),
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        config=Config(max_pool_connections=CONNECTIONS),
    )


def naive(client: Any, bucket: str, prefix: str, target: str) -> int:
    """One object after another, a DataFrame each, and all rows checked with pandera; returns the number of rows."""
    frames = []
    for key in _keys(client, bucket, prefix):
        text = client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        rows = list(csv.reader(io.StringIO(text)))[1:]
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        for column, kind in _TYPES.items():
            frame[column] = frame[column].astype(kind)
        for column in ("installed", "locked", "temporary"):
            frame[column] = frame[column] == "true"
        packed = frame.pop("packed_time").str.split("|", expand=True)
        frame["timestamp"] = pd.to_datetime(packed[0].astype("float64"), unit="s", utc=True).dt.as_unit("us")
        frame["gmt_local_diff_sec"] = packed[1].astype("int64")
        frame["gmt_servertime_diff_sec"] = packed[2].astype("int64")
        frame["s3_source_key"] = key
        frame["file_timestamp"] = _file_time(key)
        frames.append(frame)
    day = _SCHEMA.validate(pd.concat(frames, ignore_index=True))
    sink = io.BytesIO()
    day.to_parquet(sink, index=False)
    client.put_object(Bucket=bucket, Key=target, Body=sink.getvalue())
    return len(day)


def floor(client: Any, bucket: str, prefix: str, target: str) -> int:
    """Concurrent GETs, one Arrow parse, one PUT, and not a single check; returns the number of rows."""

    def rows(key: str) -> bytes:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body.partition(b"\n")[2]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        bodies = list(pool.map(rows, _keys(client, bucket, prefix)))
    table = pacsv.read_csv(
        pa.py_buffer(b"\n".join(bodies)),
        read_options=pacsv.ReadOptions(column_names=_COLUMNS),
        convert_options=pacsv.ConvertOptions(column_types={"station_id": pa.string()}),
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    client.put_object(Bucket=bucket, Key=target, Body=sink.getvalue())
    return int(table.num_rows)


def _keys(client: Any, bucket: str, prefix: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def _file_time(key: str) -> pd.Timestamp:
    found = re.search(r"wrm_stations_(.*)\.txt", key)
    if found is None:
        raise ValueError(f"{key} carries no time")
    return pd.Timestamp(dt.datetime.strptime(found[1], "%Y-%m-%d_%H-%M-%S").replace(tzinfo=dt.UTC))

"""Anomalies of a day: what is odd about its stations, held against up to four weeks before it."""

import datetime as dt
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from wrm_pipeline.cache.cache import Cache
from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.day_object import parquet_bytes
from wrm_pipeline.lake.lake import PARQUET, Lake
from wrm_pipeline.lake.object_store import ObjectInfo
from wrm_pipeline.layers.derived import Inputs, past_days
from wrm_pipeline.layers.trust import require_trusted
from wrm_pipeline.transform.anomalies import Anomalies, find_anomalies
from wrm_pipeline.transform.anomalies.tables import station_hours

# Raise it whenever the same enhanced days give other findings.
ANOMALIES_CODE_VERSION: Final = "1"
HISTORY_DAYS: Final = 28
# All that the search reads of a day.
_COLUMNS: Final = ("station_id", "name", "file_timestamp", "bikes", "total_docks", "lat", "lon", "record_type")
_INPUTS_KEY: Final = b"wrm_inputs"


@dataclass(frozen=True)
class BuiltAnomalies:
    """A day's anomalies as they lie in the lake, and the days they were found with."""

    found: Anomalies
    info: ObjectInfo
    inputs: Inputs


def build_anomalies(lake: Lake, contracts: Contracts, day: dt.date, cache: Cache | None = None) -> BuiltAnomalies:
    """Find the anomalies of a day and store them, as Parquet, in place of earlier ones.

    Args:
        lake: the lake.
        contracts: they say which days are blocked.
        day: the UTC day.
        cache: keeps the hours of the days before it for the next night.

    Raises:
        LayerError: the day is not there, or a blocking check fails.
    """
    stored = require_trusted(lake, contracts, day)
    history: list[pa.Table] = []
    used: list[tuple[dt.date, str]] = []
    past = past_days(
        lake,
        contracts,
        day,
        HISTORY_DAYS,
        _COLUMNS,
        lambda rows, _: station_hours(rows),
        cache=cache,
        kept_as=f"station_hours {_code_version()}",
    )
    for past_day, etag, hours in past:
        used.append((past_day, etag))
        history.append(hours)
    found = find_anomalies(stored.rows, history)
    inputs = Inputs((*used, (day, stored.info.etag)), _code_version())
    body = parquet_bytes(found.rows, {_INPUTS_KEY: inputs.as_json()})
    info = lake.store.put(lake.keys.anomalies(day), body, content_type=PARQUET)
    return BuiltAnomalies(found, info, inputs)


def _code_version() -> str:
    import sklearn

    return f"{ANOMALIES_CODE_VERSION}+sklearn{sklearn.__version__}+pyarrow{pa.__version__}"

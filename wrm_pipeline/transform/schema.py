"""The columns of processed and enhanced: Arrow types and what each one means. Nothing else decides a type."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

_UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, whether it may be null, and its meaning with unit and time zone."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False


PROCESSED_COLUMNS: Final = (
    Column("station_id", pa.string(), "Id in the feed: digits for a station, `fb` and digits for a free-standing bike"),
    Column("name", pa.string(), "Name, normalised: entities, NBSP, blanks and mojibake repaired"),
    Column("timestamp", _UTC_MICROSECONDS, "The row's own time in the feed, UTC; differs by row, never a time axis"),
    Column("gmt_local_diff_sec", pa.int32(), "GMT minus local time, seconds (-7200 in summer)"),
    Column("gmt_servertime_diff_sec", pa.int32(), "GMT minus the feed server's time, seconds"),
    Column("lat", pa.float64(), "Latitude, WGS 84 degrees"),
    Column("lon", pa.float64(), "Longitude, WGS 84 degrees"),
    Column("bikes", pa.int32(), "Bikes at the station; 1 for a free-standing bike; may exceed total_docks"),
    Column("spaces", pa.int32(), "Free docks as published; the source never goes below 1 for a station in Wrocław"),
    Column("installed", pa.bool_(), "Installed, as published"),
    Column("locked", pa.bool_(), "Locked, as published"),
    Column("temporary", pa.bool_(), "Temporary, as published; true for free-standing bikes"),
    Column("total_docks", pa.int32(), "Docks; may be 0"),
    Column(
        "givesbonus_acceptspedelecs_fbbattlevel",
        pa.string(),
        "The overloaded column as received: true/false for a station, battery percent or -1 for a bike",
    ),
    Column("pedelecs", pa.int32(), "Electric bikes among `bikes`"),
    Column(
        "gives_bonus", pa.bool_(), "Bonus for returning here; null for bikes and where not published", nullable=True
    ),
    Column("battery_level", pa.int32(), "Battery, percent 0-100; null when unknown and for stations", nullable=True),
    Column("s3_source_key", pa.string(), "Key of the raw object the row came from"),
    Column("file_timestamp", _UTC_MICROSECONDS, "Time of the snapshot, UTC, from the raw key: the time axis"),
)

ENHANCED_COLUMNS: Final = (
    *PROCESSED_COLUMNS,
    Column("record_type", pa.string(), "`station`, `bike` or `unknown`"),
    Column("date", pa.date32(), "UTC day of the snapshot"),
    Column("in_service_area", pa.bool_(), "Inside 51.0-51.2 N, 16.8-17.2 E"),
    Column("quality_flags", pa.list_(pa.string()), "Names of the warning rules the row meets, sorted; empty when none"),
)


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of some columns."""
    return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in columns])


PROCESSED: Final = arrow_schema(PROCESSED_COLUMNS)
ENHANCED: Final = arrow_schema(ENHANCED_COLUMNS)

DEAD_RECORD_COLUMNS: Final = (
    Column("source_key", pa.string(), "Object that the row or file came from"),
    Column("stage", pa.string(), "Where it was set aside: raw, processed or enhanced"),
    Column("line", pa.int32(), "Line in the source, from 1; null for a whole file", nullable=True),
    Column("row", pa.string(), "The row as received; null when it is not UTF-8, over 64 KiB or a file", nullable=True),
    Column("rule", pa.string(), "Name of the rule that it broke"),
    Column("message", pa.string(), "Why, in words"),
    Column("status", pa.string(), "pending_reprocessing, reprocessed or failed_permanently"),
)

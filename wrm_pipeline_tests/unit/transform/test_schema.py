"""The columns that people depend on, spelled out: a change here is a change for them."""

import pyarrow as pa

from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS

UTC_US = pa.timestamp("us", tz="UTC")
NULLABLE = {"gives_bonus", "battery_level"}


def test_processed() -> None:
    assert list(zip(PROCESSED.names, PROCESSED.types, strict=True)) == [
        ("station_id", pa.string()),
        ("name", pa.string()),
        ("timestamp", UTC_US),
        ("gmt_local_diff_sec", pa.int32()),
        ("gmt_servertime_diff_sec", pa.int32()),
        ("lat", pa.float64()),
        ("lon", pa.float64()),
        ("bikes", pa.int32()),
        ("spaces", pa.int32()),
        ("installed", pa.bool_()),
        ("locked", pa.bool_()),
        ("temporary", pa.bool_()),
        ("total_docks", pa.int32()),
        ("givesbonus_acceptspedelecs_fbbattlevel", pa.string()),
        ("pedelecs", pa.int32()),
        ("gives_bonus", pa.bool_()),
        ("battery_level", pa.int32()),
        ("s3_source_key", pa.string()),
        ("file_timestamp", UTC_US),
    ]


def test_enhanced_adds_four_columns_at_the_end() -> None:
    assert list(ENHANCED)[: len(PROCESSED)] == list(PROCESSED)
    assert list(zip(ENHANCED.names, ENHANCED.types, strict=True))[len(PROCESSED) :] == [
        ("record_type", pa.string()),
        ("date", pa.date32()),
        ("in_service_area", pa.bool_()),
        ("quality_flags", pa.list_(pa.string())),
    ]


def test_only_what_may_be_unknown_may_be_null() -> None:
    assert {field.name for field in ENHANCED if field.nullable} == NULLABLE


def test_every_column_is_described_once() -> None:
    for contract in CONTRACTS:
        assert len({column.name for column in contract.columns}) == len(contract.columns)
        assert all(column.description for column in contract.columns)

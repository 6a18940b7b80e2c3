"""What the asset graph says of itself: keys, owners, kinds, groups, versions, partitions, dependencies."""

import datetime as dt

import dagster as dg
import pytest

from wrm_pipeline.assets.partitions import FIRST_DAY, daily_partitions
from wrm_pipeline.definitions import build_defs


def test_all_assets_are_these() -> None:
    found = {
        spec.key.to_user_string(): (
            spec.group_name,
            sorted(spec.kinds),
            spec.owners,
            spec.code_version,
            spec.partitions_def is not None,
            [dep.asset_key.to_user_string() for dep in spec.deps],
        )
        for spec in build_defs().resolve_all_asset_specs()
    }

    owners = ["team:bike-data"]
    raw, processed, enhanced = (
        "wrm_stations_raw_data",
        "wrm_stations_processed_data_all",
        "wrm_stations_enhanced_data_all",
    )
    assert found == {
        raw: ("wrm_data_acquisition", ["csv", "s3"], owners, "1", False, []),
        processed: ("processed_data", ["arrow", "parquet", "s3"], owners, "1", True, [raw]),
        enhanced: ("enhanced_data", ["arrow", "parquet", "s3"], owners, "1", True, [processed]),
        "wrm_stations_dlq": ("dead_letters", ["json", "s3"], owners, "1", True, [enhanced]),
    }


def test_each_asset_explains_itself_and_its_columns_in_the_ui_before_the_first_run() -> None:
    for spec in build_defs().resolve_all_asset_specs():
        assert len(spec.description or "") > 40, spec.key
        schema = spec.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        assert schema.columns
        assert all(column.description for column in schema.columns), spec.key


def test_a_backfill_of_many_days_is_one_run() -> None:
    graph = build_defs().resolve_asset_graph()
    policies = {
        key.to_user_string(): graph.get(key).backfill_policy
        for key in graph.get_all_asset_keys()
        if graph.get(key).is_partitioned
    }

    assert set(policies.values()) == {dg.BackfillPolicy.single_run()}
    assert len(policies) == 3


@pytest.mark.parametrize("moment", ["2025-08-20T00:00:00+00:00", "2025-08-20T23:59:59+00:00"])
def test_days_are_utc_and_the_running_day_is_one(moment: str) -> None:
    now = dt.datetime.fromisoformat(moment)

    keys = daily_partitions.get_partition_keys(current_time=now)

    assert keys[0] == FIRST_DAY.isoformat() == "2025-05-01"
    assert keys[-1] == "2025-08-20"
    assert daily_partitions.timezone == "UTC"

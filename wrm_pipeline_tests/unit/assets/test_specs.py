"""What the asset graph says of itself: keys, owners, kinds, groups, versions, partitions, dependencies.

Owners, columns and freshness are the contracts'.
"""

import datetime as dt

import dagster as dg
import pytest

from wrm_pipeline.assets.marts import DUCKDB_ASSET
from wrm_pipeline.assets.metadata import table_schema
from wrm_pipeline.assets.partitions import FIRST_DAY, daily_partitions
from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.layers.anomalies import ANOMALIES_CODE_VERSION
from wrm_pipeline.layers.enhanced import ENHANCED_CODE_VERSION
from wrm_pipeline.layers.marts import MARTS_CODE_VERSION
from wrm_pipeline.layers.processed import PROCESSED_CODE_VERSION
from wrm_pipeline.layers.profile import PROFILE_CODE_VERSION
from wrm_pipeline.layers.site import SITE_CODE_VERSION
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS


def test_all_assets_are_these() -> None:
    found = {
        spec.key.to_user_string(): (
            spec.group_name,
            sorted(spec.kinds),
            spec.code_version,
            spec.partitions_def is not None,
            [dep.asset_key.to_user_string() for dep in spec.deps],
        )
        for spec in build_defs().resolve_all_asset_specs()
    }

    raw, processed, enhanced = (
        "wrm_stations_raw_data",
        "wrm_stations_processed_data_all",
        "wrm_stations_enhanced_data_all",
    )
    columnar = ["arrow", "parquet", "s3"]
    tables = {mart.name for mart in published()}
    marts = {name: found.pop(name) for name in tables}
    assert found == {
        raw: ("wrm_data_acquisition", ["csv", "s3"], "1", False, []),
        processed: ("processed_data", columnar, PROCESSED_CODE_VERSION, True, [raw]),
        enhanced: ("enhanced_data", columnar, ENHANCED_CODE_VERSION, True, [processed]),
        # Not of enhanced: a day that is blocked there is when this report is wanted most.
        "wrm_stations_dlq": ("dead_letters", ["json", "s3"], "1", True, [processed]),
        "wrm_stations_anomalies": (
            "quality",
            ["parquet", "s3", "scikitlearn"],
            ANOMALIES_CODE_VERSION,
            True,
            [enhanced],
        ),
        "wrm_stations_profile": ("quality", ["html", "json", "s3"], PROFILE_CODE_VERSION, True, [enhanced]),
        DUCKDB_ASSET: ("marts", ["duckdb"], MARTS_CODE_VERSION, False, found[DUCKDB_ASSET][4]),
        "wrm_station_site": ("site", ["html", "json", "s3"], SITE_CODE_VERSION, False, found["wrm_station_site"][4]),
    }
    assert set(found[DUCKDB_ASSET][4]) == tables
    assert set(found["wrm_station_site"][4]) == {*tables, DUCKDB_ASSET}
    for name, (*said, upstream) in marts.items():
        assert said == ["marts", ["duckdb", "parquet", "s3"], MARTS_CODE_VERSION, False], name
        assert upstream, name
        assert set(upstream) <= {*tables, enhanced}, name


@pytest.mark.parametrize("contract", tuple(CONTRACTS), ids=lambda contract: contract.id)
def test_owner_columns_and_freshness_are_those_of_the_contract(contract: Contract) -> None:
    (spec,) = [spec for spec in build_defs().resolve_all_asset_specs() if spec.key == dg.AssetKey(contract.id)]

    assert spec.owners == [contract.owner]
    assert spec.metadata["contract"] == contract.stamp
    assert spec.metadata["dagster/column_schema"] == table_schema(contract.columns)
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(
        warn_window=dt.timedelta(seconds=contract.freshness_warn_s),
        fail_window=dt.timedelta(seconds=contract.freshness_fail_s),
    )


def test_freshness_warns_after_a_quarter_of_an_hour_and_fails_after_two_hours() -> None:
    assert {(contract.freshness_warn_s, contract.freshness_fail_s) for contract in CONTRACTS} == {(15 * 60, 2 * 3600)}


def test_a_column_shows_type_unit_bounds_and_classification_of_the_contract() -> None:
    (spec,) = [
        spec for spec in build_defs().resolve_all_asset_specs() if spec.key == dg.AssetKey(CONTRACTS.enhanced.id)
    ]
    shown = {column.name: column for column in spec.metadata["dagster/column_schema"].columns}

    assert list(shown) == [column.name for column in CONTRACTS.enhanced.columns]
    lat, battery, station_id = shown["lat"], shown["battery_level"], shown["station_id"]
    assert (lat.type, lat.description) == ("double", "Latitude, WGS 84 (degrees)")
    assert (lat.constraints.nullable, lat.constraints.other) == (False, [">= -90.0", "<= 90.0"])
    assert (battery.constraints.nullable, battery.constraints.other) == (True, [">= 0", "<= 100"])
    assert station_id.constraints.other == ["length >= 1"]
    assert shown["record_type"].constraints.other == ["one of station, bike, unknown"]
    assert shown["spaces"].constraints.other == [">= 0"]
    assert {column.tags["classification"] for column in shown.values()} == {"public"}


def test_each_asset_explains_itself_and_its_columns_in_the_ui_before_the_first_run() -> None:
    for spec in build_defs().resolve_all_asset_specs():
        assert len(spec.description or "") > 40, spec.key
        if spec.key.to_user_string() in {DUCKDB_ASSET, "wrm_station_site"}:
            continue  # a file of tables, and pages: neither has columns of its own
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
    assert len(policies) == 5


@pytest.mark.parametrize("moment", ["2025-08-20T00:00:00+00:00", "2025-08-20T23:59:59+00:00"])
def test_days_are_utc_and_the_running_day_is_one(moment: str) -> None:
    now = dt.datetime.fromisoformat(moment)

    keys = daily_partitions.get_partition_keys(current_time=now)

    assert keys[0] == FIRST_DAY.isoformat() == "2025-05-01"
    assert keys[-1] == "2025-08-20"
    assert daily_partitions.timezone == "UTC"

"""Cleaning up after older deployments: only what the fixed key has taken over is deleted."""

import datetime as dt

from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.cleanup import remove_superseded
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

PARQUET = "application/vnd.apache.parquet"


def build(lake: Lake) -> None:
    put_raw(lake, at(8))
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, Provenance(run_id="r", asset="a"))


def leave_older(lake: Lake, day: dt.date = DAY) -> list[str]:
    """Leave two objects a layer, as older deployments did, and return their keys in the order of deletion."""
    folders = {layer: lake.keys.layer_day(layer, day) for layer in Layer}
    names = [f"{folders[layer]}all_{layer}_20250512_18{n}000.parquet" for layer in Layer for n in (1, 2)]
    for name in names:
        lake.store.put(name, b"x", content_type=PARQUET)
    return names


def test_older_objects_of_a_day_that_the_fixed_key_holds_are_deleted_and_nothing_else(lake: Lake) -> None:
    build(lake)
    kept = contents(lake)
    older = leave_older(lake)

    assert remove_superseded(lake) == older
    assert contents(lake) == kept
    assert remove_superseded(lake) == []


def test_without_the_fixed_key_they_are_the_only_copy_and_stay(lake: Lake) -> None:
    older = leave_older(lake)

    assert remove_superseded(lake) == []
    assert sorted(info.key for info in lake.store.list(lake.keys.prefix)) == sorted(older)


def test_a_fixed_key_that_cannot_be_read_has_taken_nothing_over(lake: Lake) -> None:
    build(lake)
    older = leave_older(lake)
    lake.store.put(lake.keys.layer_object(Layer.PROCESSED, DAY), b"PAR1 damaged", content_type=PARQUET)

    removed = remove_superseded(lake)

    assert removed == [key for key in older if "/enhanced/" in key]
    assert all(lake.store.head(key) for key in older if "/processed/" in key)


def test_objects_with_other_names_are_somebody_s_and_stay(lake: Lake) -> None:
    build(lake)
    folder = lake.keys.layer_day(Layer.PROCESSED, DAY)
    for name in ("notes.txt", "all_processed_latest.parquet", "all_enhanced_20250512_181000.parquet"):
        lake.store.put(folder + name, b"x", content_type=PARQUET)
    elsewhere = f"{lake.keys.layer_root(Layer.PROCESSED)}backup/"
    lake.store.put(f"{elsewhere}all_processed_20250512_181000.parquet", b"x", content_type=PARQUET)
    before = contents(lake)

    assert remove_superseded(lake) == []
    assert contents(lake) == before

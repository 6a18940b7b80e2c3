"""Which days are stale: found by comparing what is recorded with what raw holds, without reading an object."""

import datetime as dt

import pytest

from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreUnavailable
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.processed import build_processed_day
from wrm_pipeline.layers.reconcile import StaleDay, stale_days
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.resilience import RetryPolicy
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.dagster import DAY, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

PROVENANCE = Provenance(run_id="r", asset="a")


def build(lake: Lake, day: dt.date = DAY) -> None:
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, PROVENANCE)


def reasons(lake: Lake) -> list[str]:
    return [stale.reason for stale in stale_days(lake, [DAY])]


def test_a_day_built_from_what_raw_holds_is_not_stale(lake: Lake) -> None:
    put_raw(lake, at(8))
    build(lake)

    assert reasons(lake) == []


def test_a_day_with_no_raw_objects_is_not_stale(lake: Lake) -> None:
    assert reasons(lake) == []


@pytest.mark.parametrize("layer", Layer)
def test_a_missing_layer_makes_a_day_stale(lake: Lake, layer: Layer) -> None:
    put_raw(lake, at(8))
    build(lake)
    lake.store.delete(lake.keys.layer_object(layer, DAY))

    assert reasons(lake) == [f"{layer} is missing"]


def test_enhanced_that_lags_behind_processed_makes_a_day_stale(lake: Lake) -> None:
    put_raw(lake, at(8))
    build(lake)
    put_raw(lake, at(9))
    build_processed_day(lake, FORMAT, DAY, PROVENANCE)

    assert reasons(lake) == ["enhanced was built from other raw objects than the 2 there are"]


def test_a_removed_raw_object_makes_a_day_stale(lake: Lake) -> None:
    put_raw(lake, at(8))
    put_raw(lake, at(9))
    build(lake)
    lake.store.delete(lake.keys.raw(at(9)))

    assert reasons(lake) == ["processed was built from other raw objects than the 1 there are"]


def test_days_come_in_order_and_cost_three_requests_each(lake: Lake) -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(4)]
    for day in days:
        put_raw(lake, at(8, day=day))
    build(lake, days[1])
    before = lake.store.traffic.snapshot()

    found = list(stale_days(lake, days))

    assert found == [StaleDay(day, "processed is missing") for day in (days[0], days[2], days[3])]
    assert (lake.store.traffic.snapshot() - before).requests == {"list": 4, "head": 5}


def test_a_store_that_fails_is_an_error_and_never_a_stale_day(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Answer(503), times=None)

    with ObjectStore(proxied, policy=RetryPolicy(attempts=1)) as store, pytest.raises(StoreUnavailable):
        list(stale_days(Lake(store, LakeKeys(store.prefix)), [DAY]))

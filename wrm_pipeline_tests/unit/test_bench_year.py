"""The benchmark's simulated year: a day made again is the same one, and days fit together."""

import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bench.year import day_rows, snapshot_times
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.transform.schema_check import schema_problems

KEYS = LakeKeys("year/")
SPRING = dt.date(2025, 3, 30)  # the clocks go forward
AUTUMN = dt.date(2025, 10, 26)  # and back


@pytest.fixture(scope="module")
def spring() -> pa.Table:
    return day_rows(KEYS, SPRING)


@pytest.fixture(scope="module")
def day_after() -> pa.Table:
    return day_rows(KEYS, SPRING + dt.timedelta(days=1))


def test_a_day_fits_the_contract_and_has_the_rows_of_a_real_one(spring: pa.Table) -> None:
    assert schema_problems(spring, packaged_contracts().enhanced) == []
    assert pc.count_distinct(spring.column("file_timestamp")).as_py() == len(snapshot_times(SPRING))
    assert 700 < spring.num_rows / len(snapshot_times(SPRING)) < 780


def test_a_day_made_again_is_the_same_and_one_cut_short_is_its_beginning(spring: pa.Table) -> None:
    assert day_rows(KEYS, SPRING).equals(spring)
    short = day_rows(KEYS, SPRING, 10)
    assert pc.count_distinct(short.column("file_timestamp")).as_py() == 10
    columns = [name for name in spring.column_names if name != "timestamp"]
    assert spring.slice(0, short.num_rows).select(columns).equals(short.select(columns))


def test_midnight_is_a_moment_like_any_other(spring: pa.Table, day_after: pa.Table) -> None:
    """At midnight UTC, as from any snapshot to the next, few stations change and few bikes move."""
    before = at(spring, snapshot_times(SPRING)[-1])
    after = at(day_after, snapshot_times(SPRING + dt.timedelta(days=1))[0])
    kept = before.keys() & after.keys()
    assert len(kept) > 0.95 * len(before)
    assert sum(before[name] != after[name] for name in kept) < 0.1 * len(kept)


def test_the_clocks_going_back_moves_no_bike_back() -> None:
    """Local two o'clock comes twice on this day; a bike that rode by wall time would stand where it stood before."""
    rows = day_rows(KEYS, AUTUMN)
    times = [time for time in snapshot_times(AUTUMN) if time.hour < 3]
    seen = [at(rows, time) for time in times]
    changes = [
        np.mean([one[name] != other[name] for name in one.keys() & other.keys()])
        for one, other in itertools.pairwise(seen)
    ]
    assert max(changes) < 0.05


def at(rows: pa.Table, time: dt.datetime) -> dict[str, tuple[object, ...]]:
    """Where each station and bike of a snapshot is, and how many bikes are there."""
    found = rows.filter(pc.equal(rows.column("file_timestamp"), pa.scalar(time, pa.timestamp("us", "UTC"))))
    values = (found.column(name).to_pylist() for name in ("lat", "lon", "bikes"))
    return dict(zip(found.column("station_id").to_pylist(), zip(*values, strict=True), strict=True))

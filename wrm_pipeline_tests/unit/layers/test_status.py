"""The state of the lake: newest snapshot, lag, rows, dead letters."""

import datetime as dt
from dataclasses import replace

import pytest

from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import NotASnapshotError, keep_snapshot
from wrm_pipeline.layers.report import BuiltDay, Provenance
from wrm_pipeline.layers.status import DayStatus, LakeStatus, lake_status
from wrm_pipeline_tests.fixtures.dagster import DAY, at, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

NEXT_DAY = DAY + dt.timedelta(days=1)
PROVENANCE = Provenance(run_id="r", asset="a")


def build(lake: Lake, day: dt.date = DAY) -> BuiltDay:
    return build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, PROVENANCE)


def look(lake: Lake, now: dt.datetime, *, days: int = 3) -> LakeStatus:
    return lake_status(lake, now, days=days)


def test_an_empty_lake_has_no_snapshot_no_age_and_no_lag(lake: Lake) -> None:
    status = look(lake, at(12))

    assert status == LakeStatus(at=at(12), store=lake.store.uri(lake.keys.prefix))
    assert (status.newest_snapshot, status.age_s, status.lag_s, status.days) == (None, None, None, ())


def test_a_day_counts_what_came_and_what_became_of_it(lake: Lake) -> None:
    put_raw(lake, at(8))
    put_raw(lake, at(9), with_bad_rows(snapshot(1, at(9)), 4, 0))
    put_raw(lake, at(10), b"<html>")
    built = build(lake)

    status = look(lake, at(10, 1))

    assert status.newest_snapshot == at(10)
    assert (status.age_s, status.lag_s) == (60.0, 0.0)
    (day,) = status.days
    letters = day.dead_letters
    assert day == DayStatus(
        day=DAY,
        raw_objects=3,
        enhanced_objects=3,
        rows_in=built.rows.num_rows + 4,
        rows_kept=built.rows.num_rows,
        rows_dead=4,
        rows_duplicate=0,
        files_set_aside=1,
        dead_letters=letters,
        unreadable_letters=0,
    )
    assert letters["html"] == 1
    assert sum(letters.values()) == 5
    counts = list(letters.values())
    assert counts == sorted(counts, reverse=True)


def test_latest_rows_are_those_of_the_newest_snapshot_in_enhanced(lake: Lake) -> None:
    put_raw(lake, at(8))
    put_raw(lake, at(9))
    build(lake)
    put_raw(lake, at(10))

    status = look(lake, at(10))

    lines = [line.partition(b",")[0] for line in snapshot(1, at(9)).splitlines()[1:]]
    stations = sum(line.isdigit() for line in lines)
    assert status.latest_rows == {"station": stations, "bike": len(lines) - stations, "unknown": 0}


def test_the_lag_is_how_long_the_oldest_waiting_snapshot_has_waited(lake: Lake) -> None:
    put_raw(lake, at(8))
    build(lake)
    put_raw(lake, at(9))
    put_raw(lake, at(10))

    status = look(lake, at(10, 5))

    assert (status.age_s, status.lag_s) == (5 * 60.0, 65 * 60.0)


def test_a_lake_that_was_never_processed_lags_since_its_first_snapshot(lake: Lake) -> None:
    put_raw(lake, at(8))
    put_raw(lake, at(9, day=NEXT_DAY))

    status = look(lake, at(9, day=NEXT_DAY))

    assert status.lag_s == 25 * 3600.0
    assert [(day.raw_objects, day.enhanced_objects, day.rows_in) for day in status.days] == [(1, 0, 0), (1, 0, 0)]


def test_a_clock_that_is_behind_the_store_s_gives_no_negative_lag(lake: Lake) -> None:
    put_raw(lake, at(8))

    assert look(lake, at(7)).lag_s == 0.0


def test_only_the_newest_days_are_looked_at(lake: Lake) -> None:
    for n in range(4):
        put_raw(lake, at(8, day=DAY + n * dt.timedelta(days=1)))

    assert [day.day.day for day in look(lake, at(12), days=2).days] == [14, 15]


def test_a_letter_that_cannot_be_read_is_counted(lake: Lake) -> None:
    put_raw(lake, at(8))
    lake.store.put(lake.keys.dead_letter(DAY, "x"), b"{}", content_type="application/json")

    (day,) = look(lake, at(9)).days

    assert (day.dead_letters, day.unreadable_letters) == ({}, 1)


def test_a_day_on_which_the_feed_sent_nothing_but_error_pages_is_shown(lake: Lake) -> None:
    """Such a day has letters and nothing in raw; it once was not shown at all."""
    put_raw(lake, at(8))
    build(lake)
    morning = replace(PROVENANCE, now=lambda: at(8, day=NEXT_DAY))
    with pytest.raises(NotASnapshotError):
        keep_snapshot(lake, FORMAT, b"<html>", at(8, day=NEXT_DAY), morning)

    status = look(lake, at(9, day=NEXT_DAY))

    assert [(day.day, day.raw_objects, day.dead_letters) for day in status.days] == [
        (DAY, 1, {}),
        (NEXT_DAY, 0, {"html": 1}),
    ]
    assert (status.newest_snapshot, status.lag_s) == (at(8), 0.0)


def test_letters_of_an_otherwise_empty_lake_are_shown(lake: Lake) -> None:
    with pytest.raises(NotASnapshotError):
        keep_snapshot(lake, FORMAT, b"<html>", at(8), replace(PROVENANCE, now=lambda: at(8)))

    status = look(lake, at(9))

    assert (status.newest_snapshot, status.age_s, status.lag_s) == (None, None, None)
    assert [day.dead_letters for day in status.days] == [{"html": 1}]

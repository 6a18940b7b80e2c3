"""How complete and how clean a day is."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from wrm_pipeline.marts.engine import SOURCE_SCHEMA
from wrm_pipeline_tests.fixtures.marts import bike, build_day, build_days, enhanced, one, station

DAY = dt.date(2025, 6, 2)
NAME = "mart_data_quality_day"


def at(hour: int, minute: int = 0, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)


def every_five_minutes(first_hour: int, last_hour: int) -> list[dt.datetime]:
    """From one hour to before the other."""
    return [at(hour, minute) for hour in range(first_hour, last_hour) for minute in range(0, 60, 5)]


def quality(rows: Iterable[dict[str, Any]], *, is_newest: bool = False, **arguments: Any) -> dict[str, Any]:
    built = build_day(enhanced(*rows), DAY, is_newest=is_newest, only={NAME}, **arguments)
    return one(built[NAME], utc_date=DAY)


def snapshots(times: Iterable[dt.datetime]) -> list[dict[str, Any]]:
    return [station("15001", time) for time in times]


def source(*rows: tuple[int, int, int, int, str | None]) -> pa.Table:
    """Raw objects: rows, kept, dead, duplicates, fault."""
    objects = [
        {"key": f"raw/{number}", "rows": count, "kept": kept, "dead": dead, "duplicates": duplicates, "fault": fault}
        for number, (count, kept, dead, duplicates, fault) in enumerate(rows)
    ]
    return pa.Table.from_pylist(objects, schema=SOURCE_SCHEMA)


def test_a_whole_day_is_covered() -> None:
    row = quality(snapshots(every_five_minutes(0, 24)))
    assert (row["utc_date"], row["snapshots"], row["snapshots_expected"]) == (DAY, 288, 288)
    assert (row["coverage"], row["longest_gap_minutes"]) == (1.0, 5.0)
    assert (row["first_snapshot_at"], row["last_snapshot_at"]) == (at(0), at(23, 55))


def test_of_a_gap_of_six_hours_the_first_ten_minutes_are_covered() -> None:
    # 00:00 to 06:00 and 12:00 to 24:00 are 18 h, and the snapshot of 06:00 covers 2 x 5 min: 1,090 of 1,440 minutes.
    row = quality(snapshots([*every_five_minutes(0, 6), at(6), *every_five_minutes(12, 24)]))
    assert (row["snapshots"], row["snapshots_expected"]) == (73 + 144, 288)
    assert row["coverage"] == pytest.approx(1_090 / 1_440, abs=5e-5)
    assert row["longest_gap_minutes"] == 360.0


def test_a_gap_of_two_intervals_is_covered_and_of_three_is_not() -> None:
    without = [time for time in every_five_minutes(0, 24) if time != at(8, 5)]
    assert quality(snapshots(without))["coverage"] == 1.0
    without.remove(at(8, 10))
    assert quality(snapshots(without))["coverage"] == pytest.approx(1_435 / 1_440, abs=5e-5)


def test_before_the_first_and_after_the_last_snapshot_is_a_gap() -> None:
    # 12:00 covers 10 minutes; from midnight to it are 720 minutes, from it to midnight as many.
    row = quality(snapshots([at(12, 30)]))
    assert row["coverage"] == pytest.approx(10 / 1_440, abs=5e-5)
    assert row["longest_gap_minutes"] == 750.0


def test_the_last_snapshot_of_the_day_before_covers_the_beginning() -> None:
    # 23:55 covers to 00:05. The gap from it to 00:20 is of this day only from midnight on.
    earlier = DAY - dt.timedelta(days=1)
    rows = enhanced(*snapshots([at(0, 20), at(0, 25)]))
    days = build_days({earlier: enhanced(*snapshots([at(23, 55, earlier)])), DAY: rows}, only={NAME, "state_station"})
    (row,) = days[DAY][NAME].to_pylist()
    # The newest day ends with its newest snapshot: of 25 minutes, 5 and those from 00:20 on.
    assert (row["coverage"], row["longest_gap_minutes"]) == (10 / 25, 20.0)


def test_the_newest_day_is_judged_up_to_its_newest_snapshot() -> None:
    row = quality(snapshots([*every_five_minutes(0, 6), at(6)]), is_newest=True)
    assert (row["snapshots"], row["snapshots_expected"], row["coverage"]) == (73, 72, 1.0)
    assert row["longest_gap_minutes"] == 5.0


def test_a_newest_day_with_a_snapshot_at_midnight_is_covered() -> None:
    row = quality(snapshots([at(0)]), is_newest=True)
    assert (row["snapshots"], row["snapshots_expected"], row["coverage"], row["longest_gap_minutes"]) == (
        1,
        0,
        1.0,
        0.0,
    )


@pytest.mark.parametrize(("is_newest", "gap"), [(False, 1440.0), (True, 0.0)])
def test_a_day_without_a_row_is_not_covered(is_newest: bool, gap: float) -> None:
    row = quality([], is_newest=is_newest, source=source((0, 0, 0, 0, "html_page")))
    assert (row["snapshots"], row["coverage"], row["faulty_files"]) == (0, 0.0, 1)
    assert (row["first_snapshot_at"], row["last_snapshot_at"], row["longest_gap_minutes"]) == (None, None, gap)


def test_what_became_of_the_rows_is_summed_over_the_raw_objects() -> None:
    objects = source((10, 7, 2, 1, None), (10, 10, 0, 0, None), (0, 0, 0, 0, "empty_body"))
    row = quality(snapshots([at(0), at(0, 5)]), source=objects)
    assert [row[f"rows_{name}"] for name in ("raw", "kept", "dead", "duplicate")] == [20, 17, 2, 1]
    assert (row["dead_share"], row["faulty_files"]) == (0.1, 1)


def test_a_day_of_an_older_deployment_has_the_rows_that_are_there() -> None:
    row = quality(snapshots([at(0), at(0, 5)]), source=source())
    assert [row[f"rows_{name}"] for name in ("raw", "kept", "dead", "duplicate")] == [2, 2, 0, 0]
    assert (row["dead_share"], row["faulty_files"]) == (0.0, 0)


def test_stations_and_bikes_are_counted_once() -> None:
    times = [at(8), at(8, 5)]
    rows = [station("15001", time) for time in times] + [bike("fb600001", time) for time in times]
    row = quality([*rows, bike("fb600002", at(8)), station("x", at(8), record_type="unknown")])
    assert (row["stations"], row["bikes"], row["snapshots"]) == (1, 2, 2)


def test_each_warning_is_counted() -> None:
    flags = [
        "battery_out_of_range",
        "future_row_time",
        "moved",
        "name_changed",
        "non_monotonic_time",
        "off_zone",
        "overfull",
        "racks_out_of_use",
        "stale_row_time",
        "unknown_record_type",
        "zero_docks",
    ]
    # The first flag on one row, the second on two, and so on.
    rows = [
        station(f"15{number:03}", at(8), quality_flags=[flag for place, flag in enumerate(flags) if place >= number])
        for number in range(len(flags))
    ]
    row = quality(rows)
    assert {name: value for name, value in row.items() if name.startswith("flag_")} == {
        f"flag_{flag}": place + 1 for place, flag in enumerate(flags)
    }

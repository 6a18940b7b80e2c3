"""The system by the hour and the fleet by the day, on paper: weights, batteries, idle bikes, both clock changes."""

import datetime as dt
from typing import Any, Final

import pyarrow as pa
import pytest

from wrm_pipeline_tests.fixtures.marts import bike, build_day, build_days, build_tables, column, enhanced, one, station

DAY: Final = dt.date(2025, 6, 3)
FLEET: Final = ("mart_system_hour", "state_bike", "state_station")
PLACES: Final = ("mart_system_hour", "fct_fleet_day", "mv_free_bike_latest")


def at(hour: int, minute: int = 0, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)


def snapshot(
    time: dt.datetime, *, at_station: int = 5, free: int = 0, away: int = 0, first: int = 600_000
) -> list[dict[str, Any]]:
    """Return a station and bikes, the same ones each time."""
    return [
        station("15001", time, bikes=at_station),
        *(bike(f"fb{first + number}", time) for number in range(free)),
        *(bike(f"fb{590_000 + number}", time, lat=52.28, lon=21.01, in_service_area=False) for number in range(away)),
    ]


def system_hours(*snapshots: list[dict[str, Any]]) -> pa.Table:
    return build_day(enhanced(*(row for rows in snapshots for row in rows)), only=FLEET)["mart_system_hour"]


def hour_at(hours: pa.Table, time: dt.datetime) -> dict[str, Any]:
    return one(hours, hour_start=time)


THREE: Final = (
    snapshot(at(10, 50), at_station=4, free=2, away=1),
    snapshot(at(10, 58), at_station=6, free=1, away=1),
    snapshot(at(11, 20), at_station=1, free=0, away=0),
)


def test_means_are_weighted_by_the_time_that_snapshots_cover() -> None:
    """10:50 speaks for 8 minutes, 10:58 for ten: two before eleven and eight after; 11:20, the last one, for ten.

    hour 10: 10 minutes; stations (4*8 + 6*2) / 10 = 4.4; free (2*8 + 1*2) / 10 = 1.8; off zone 1
    hour 11: 18 minutes; stations (6*8 + 1*10) / 18 = 3.2222; free 8/18 = 0.4444; off zone 8/18
    """
    hours = system_hours(*THREE)

    assert column(hours, "hour_start") == [at(10), at(11)]
    ten, eleven = hours.to_pylist()
    means = ("minutes_observed", "bikes_at_stations", "bikes_free_in_zone", "bikes_off_zone")
    assert [ten[name] for name in means] == [10, 4.4, 1.8, 1]
    assert [eleven[name] for name in means] == [18, 3.2222, 0.4444, 0.4444]
    assert (ten["snapshots"], eleven["snapshots"], ten["stations"], eleven["stations"]) == (2, 1, 1, 1)
    # 8 minutes before 10:58, 22 before 11:20; nothing before 10:50.
    assert (ten["sampling_interval_s"], eleven["sampling_interval_s"]) == (480, 1320)
    assert (ten["hour_end"], ten["local_date"], ten["local_hour"], ten["utc_offset_h"]) == (at(11), DAY, 12, 2)


def test_a_fleet_day_is_exact_although_the_hours_are_rounded() -> None:
    """Of the same 28 minutes: stations (44 + 58) / 28 = 3.6429; free 26/28 = 0.92857; off zone 18/28 = 0.64286.

    Weighted means of rounded hours would say 0.9285.
    """
    days = build_days({DAY: enhanced(*(row for rows in THREE for row in rows))})

    fleet = one(build_tables(days, only=PLACES)["fct_fleet_day"])

    assert fleet["local_date"] == DAY
    assert fleet["minutes_observed"] == 28
    parts = (fleet["bikes_at_stations"], fleet["bikes_free_in_zone"], fleet["bikes_off_zone"])
    assert parts == (3.6429, 0.9286, 0.6429)
    assert fleet["bikes_total"] == 5.2144


def test_the_last_snapshot_of_the_day_before_covers_the_beginning() -> None:
    """23:55 with 3 bikes covers five minutes of its day and two of the next; then 0:02 covers ten with 1 bike.

    hour 0: (3*2 + 1*10) / 12 = 1.3333 free, (9*2 + 3*10) / 12 = 4 at the station.
    """
    tomorrow = DAY + dt.timedelta(days=1)
    days = build_days(
        {
            # A bike that was gone from the day's last snapshot is not handed on.
            DAY: enhanced(*snapshot(at(23, 50), free=7), *snapshot(at(23, 55), at_station=9, free=3, away=2)),
            tomorrow: enhanced(*snapshot(at(0, 2, tomorrow), at_station=3, free=1)),
        },
        only=FLEET,
    )

    assert hour_at(days[DAY]["mart_system_hour"], at(23))["minutes_observed"] == 10
    first = one(days[tomorrow]["mart_system_hour"])
    assert (first["hour_start"], first["minutes_observed"], first["snapshots"]) == (at(0, 0, tomorrow), 12, 1)
    assert (first["bikes_free_in_zone"], first["bikes_at_stations"]) == (1.3333, 4)
    assert first["bikes_off_zone"] == round(2 * 2 / 12, 4)
    assert first["sampling_interval_s"] == 420


def test_an_hour_that_only_the_day_before_covers_has_a_row_without_a_snapshot() -> None:
    tomorrow = DAY + dt.timedelta(days=1)
    days = build_days(
        {DAY: enhanced(*snapshot(at(23, 58), free=1)), tomorrow: enhanced(*snapshot(at(5, 0, tomorrow)))}, only=FLEET
    )

    night = hour_at(days[tomorrow]["mart_system_hour"], at(0, 0, tomorrow))

    assert (night["minutes_observed"], night["snapshots"], night["bikes_free_in_zone"]) == (8, 0, 1)
    assert night["sampling_interval_s"] is None


def test_a_snapshot_of_two_days_ago_covers_nothing() -> None:
    later = DAY + dt.timedelta(days=2)
    days = build_days(
        {DAY: enhanced(*snapshot(at(23, 59), free=5)), later: enhanced(*snapshot(at(0, 3, later), free=1))}, only=FLEET
    )

    first = one(days[later]["mart_system_hour"])
    assert (first["minutes_observed"], first["bikes_free_in_zone"]) == (10, 1)
    assert first["sampling_interval_s"] is None


def test_a_snapshot_without_free_bikes_counts_as_none_of_them() -> None:
    """Half of the time two bikes, half of the time none: one on average."""
    hours = system_hours(snapshot(at(10), free=2), snapshot(at(10, 10)))

    assert one(hours)["bikes_free_in_zone"] == 1


def test_an_hour_without_any_free_bike_has_none_rather_than_an_unknown_number() -> None:
    hour = one(system_hours(snapshot(at(10))))

    names = ("bikes_free_in_zone", "bikes_off_zone", "battery_low", "battery_unknown", "idle_14_days")
    assert [hour[name] for name in names] == [0] * 5


def test_a_carried_snapshot_without_free_bikes_still_covers_the_beginning() -> None:
    tomorrow = DAY + dt.timedelta(days=1)
    days = build_days(
        {
            DAY: enhanced(*snapshot(at(23, 50), free=4), *snapshot(at(23, 55), at_station=2)),
            tomorrow: enhanced(*snapshot(at(0, 5, tomorrow), at_station=2, free=2)),
        },
        only=FLEET,
    )

    first = one(days[tomorrow]["mart_system_hour"])
    # Five minutes without, ten with two: 20/15.
    assert (first["minutes_observed"], first["bikes_free_in_zone"], first["bikes_at_stations"]) == (15, 1.3333, 2)


@pytest.mark.parametrize(
    ("battery", "low", "unknown"),
    [(0, 1, 0), (19, 1, 0), (20, 1, 0), (21, 0, 0), (100, 0, 0), (None, 0, 1), (-1, 0, 1)],
)
def test_batteries_are_low_up_to_20_percent_and_unknown_apart(battery: int | None, low: int, unknown: int) -> None:
    hours = system_hours([station("15001", at(10)), bike("fb600001", at(10), battery=battery)])

    assert (one(hours)["battery_low"], one(hours)["battery_unknown"]) == (low, unknown)


def test_batteries_in_the_depot_count_neither_way() -> None:
    away = {"in_service_area": False, "lat": 52.28, "lon": 21.01}

    hours = system_hours(
        [bike("fb600001", at(10), battery=5, **away), bike("fb600002", at(10), battery=None, **away)],
    )

    assert (one(hours)["battery_low"], one(hours)["battery_unknown"], one(hours)["bikes_off_zone"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("again", "idle"),
    [
        pytest.param(dt.timedelta(days=14, minutes=-15), 0, id="13.99 days"),
        pytest.param(dt.timedelta(days=14), 1, id="14 days"),
        pytest.param(dt.timedelta(days=30), 1, id="30 days"),
    ],
)
def test_a_bike_is_idle_when_it_stands_for_14_days(again: dt.timedelta, idle: int) -> None:
    seen, later = at(12), at(12) + again
    days = build_days(
        {DAY: enhanced(*snapshot(seen, free=1)), later.date(): enhanced(*snapshot(later, free=1, away=1))}, only=FLEET
    )

    assert one(days[later.date()]["mart_system_hour"])["idle_14_days"] == idle


def test_a_bike_becomes_idle_in_the_middle_of_a_day() -> None:
    """11:55 is five minutes short of 14 days, 12:00 is not."""
    later = DAY + dt.timedelta(days=14)
    days = build_days(
        {
            DAY: enhanced(*snapshot(at(12), free=1)),
            later: enhanced(*snapshot(at(11, 55, later), free=1), *snapshot(at(12, 0, later), free=1)),
        },
        only=FLEET,
    )

    assert column(days[later]["mart_system_hour"], "idle_14_days") == [0, 1]


@pytest.mark.parametrize(
    ("metres_later", "absent", "idle"),
    [pytest.param(0.0001, False, 1, id="jitter"), pytest.param(0.001, False, 0, id="moved"), (0, True, 0)],
)
def test_idle_ends_with_a_move_other_than_jitter(metres_later: float, absent: bool, idle: int) -> None:
    """0.0001 degrees are 11 m, 0.001 are 111 m."""
    middle, later = DAY + dt.timedelta(days=7), DAY + dt.timedelta(days=14)
    rows = snapshot(at(12, 0, middle)) if absent else []
    days = build_days(
        {
            DAY: enhanced(station("15001", at(12)), bike("fb600001", at(12), lat=51.1)),
            middle: enhanced(*rows, station("15001", at(13, 0, middle)), bike("fb600001", at(13, 0, middle), lat=51.1)),
            later: enhanced(bike("fb600001", at(13, 0, later), lat=51.1 + metres_later)),
        },
        only=FLEET,
    )

    assert one(days[later]["mart_system_hour"])["idle_14_days"] == idle


def test_service_empty_and_full_are_those_of_the_stations() -> None:
    """For ten minutes one station is empty and one full; for the next ten one has 2 of 4 bikes (service), one is full.

    15 docks are 15001's, 4 are 15002's. hour 10: 20 minutes; empty 10/20, full 20/20, service 10 of 40 station minutes.
    15001 falls by 3 - never below 0 - and rises by nothing; 15002 goes from 0 to 2.
    """
    hours = system_hours(
        [
            station("15001", at(10), bikes=18, total_docks=15),
            station("15002", at(10), bikes=0, total_docks=4),
        ],
        [
            station("15001", at(10, 10), bikes=15, total_docks=15),
            station("15002", at(10, 10), bikes=2, total_docks=4),
        ],
    )

    hour = one(hours)
    assert (hour["stations"], hour["stations_empty"], hour["stations_full"]) == (2, 0.5, 1)
    assert hour["minutes_service_share"] == 0.25
    assert (hour["inflow"], hour["outflow"]) == (2, 3)


def test_without_stations_the_share_of_service_is_unknown() -> None:
    hour = one(system_hours([bike("fb600001", at(10))]))

    assert hour["minutes_service_share"] is None
    assert (hour["stations"], hour["bikes_at_stations"], hour["stations_empty"], hour["bikes_free_in_zone"]) == (
        0,
        0,
        0,
        1,
    )


def test_moves_count_in_the_hour_and_on_the_date_of_their_end() -> None:
    """At 11:00 one bike has moved 111 m and one 11 m; at 11:05 a third one is back where it was.

    At 22:00 UTC, which is 0:00 in Wrocław, the first one has moved again.
    """
    rows = [
        station("15001", at(10, 55)),
        *(bike(f"fb60000{number}", at(10, 55), lat=51.1) for number in (1, 2, 3)),
        station("15001", at(11)),
        bike("fb600001", at(11), lat=51.101),
        bike("fb600002", at(11), lat=51.1001),
        bike("fb600003", at(11, 5), lat=51.1),
        bike("fb600001", at(22), lat=51.1),
    ]

    days = build_days({DAY: enhanced(*rows)})
    fleet = build_tables(days, only=PLACES)["fct_fleet_day"]

    hours = days[DAY]["mart_system_hour"]
    assert [(hour["candidate_trips"], hour["moves_other"]) for hour in hours.to_pylist()] == [(0, 0), (1, 2), (1, 0)]
    names = ("candidate_trips", "moves_jitter", "moves_aborted", "moves_off_zone", "moves_reassignment")
    assert [[day[name] for name in names] for day in fleet.to_pylist()] == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert column(fleet, "local_date") == [DAY, DAY + dt.timedelta(days=1)]


@pytest.mark.parametrize(
    ("date", "first", "hours", "local_hours", "offsets"),
    [
        pytest.param(
            dt.date(2025, 3, 30),
            dt.datetime(2025, 3, 29, 23, tzinfo=dt.UTC),
            23,
            [0, 1, *range(3, 24)],
            [1] * 2 + [2] * 21,
            id="23 hours: there is no hour 2",
        ),
        pytest.param(
            dt.date(2025, 10, 26),
            dt.datetime(2025, 10, 25, 22, tzinfo=dt.UTC),
            25,
            [0, 1, 2, *range(2, 24)],
            [2] * 3 + [1] * 22,
            id="25 hours: the hour 2 comes twice",
        ),
    ],
)
def test_days_on_which_the_clocks_change(
    date: dt.date, first: dt.datetime, hours: int, local_hours: list[int], offsets: list[int]
) -> None:
    """A snapshot an hour covers ten minutes of it. One bike within the date; ten in the hours on both sides of it."""
    rows: list[dict[str, Any]] = []
    for number in range(-1, hours + 1):
        within = 0 <= number < hours
        rows += snapshot(first + number * dt.timedelta(hours=1), at_station=3, free=1 if within else 10)
    days = {day: enhanced(*(row for row in rows if row["date"] == day)) for day in {row["date"] for row in rows}}

    tables = build_tables(build_days(days), only=PLACES)

    on_date = [hour for hour in tables["mart_system_hour"].to_pylist() if hour["local_date"] == date]
    assert [hour["local_hour"] for hour in on_date] == local_hours
    assert [hour["utc_offset_h"] for hour in on_date] == offsets
    fleet = one(tables["fct_fleet_day"], local_date=date)
    assert (fleet["minutes_observed"], fleet["bikes_free_in_zone"]) == (10 * hours, 1)
    # Nine bikes are gone with the first hour and come back after the last.
    assert fleet["moves_aborted"] == 0
    assert sum(column(tables["fct_fleet_day"], "moves_aborted")) == 9


def test_the_newest_free_bikes_are_those_of_the_newest_snapshot_without_an_id() -> None:
    rows = [
        station("15001", at(10)),
        bike("fb600009", at(10)),
        station("15001", at(10, 5)),
        bike("fb600002", at(10, 5), lat=51.12, battery=None),
        bike("fb600001", at(10, 5), lat=51.11, battery=70),
        bike("fb600003", at(10, 5), lat=52.28, lon=21.01, battery=3, in_service_area=False),
    ]

    tables = build_tables(build_days({DAY: enhanced(*rows)}), only=PLACES)

    assert tables["mv_free_bike_latest"].to_pylist() == [
        {"lat": 51.11, "lon": 17.03, "battery_level": 70, "in_service_area": True, "snapshot_at": at(10, 5)},
        {"lat": 51.12, "lon": 17.03, "battery_level": None, "in_service_area": True, "snapshot_at": at(10, 5)},
        {"lat": 52.28, "lon": 21.01, "battery_level": 3, "in_service_area": False, "snapshot_at": at(10, 5)},
    ]


def test_a_newest_snapshot_without_free_bikes_leaves_none() -> None:
    rows = [*snapshot(at(10), free=3), *snapshot(at(10, 5))]

    tables = build_tables(build_days({DAY: enhanced(*rows)}), only=PLACES)

    assert tables["mv_free_bike_latest"].num_rows == 0

"""History of the stations: when a version begins, what it says of the one before, and when it ends."""

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline_tests.fixtures.marts import LAT, LON, build_days, build_tables, enhanced, one, station

DAY = dt.date(2025, 6, 2)
# On a sphere of 6,371,008.8 m a degree of latitude is 2 x pi x 6,371,008.8 / 360 = 111,195.08 m.
DEGREES_A_METRE = 1 / 111_195.08
# A station that is gone for three whole snapshots is closed.
CLOSED_AFTER = 3
# With two others a snapshot of one station would be cut short: 10 stay, and 10 of 11 are more than 90 %.
OTHERS = [f"16{number:03}" for number in range(10)]


def at(hour: int, minute: int = 0, day: dt.date = DAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)


def seen(time: dt.datetime, *, north_m: float = 0, **other: Any) -> dict[str, Any]:
    return station("15001", time, lat=LAT + north_m * DEGREES_A_METRE, **other)


def others(*times: dt.datetime) -> list[dict[str, Any]]:
    return [station(station_id, time) for time in times for station_id in OTHERS]


def state_of(*rows: dict[str, Any], closed_after: int = CLOSED_AFTER) -> pa.Table:
    """The history at the end of the last of the days of the rows, which are built one after another."""
    days = sorted({row["date"] for row in rows})
    built = build_days(
        {day: enhanced(*(row for row in rows if row["date"] == day)) for day in days},
        only={"state_station_version"},
        parameters={"state_station_version.closed_after": closed_after},
    )
    return built[days[-1]]["state_station_version"]


def versions(*rows: dict[str, Any], closed_after: int = CLOSED_AFTER) -> list[dict[str, Any]]:
    table = state_of(*rows, closed_after=closed_after)
    return [row for row in table.to_pylist() if row["station_id"] == "15001"]


def changes(*rows: dict[str, Any]) -> list[str]:
    return [version["change"] for version in versions(*rows)]


def test_a_station_begins_with_its_first_row() -> None:
    (version,) = versions(seen(at(8)), seen(at(8, 5)))
    assert version == {
        "station_key": "15001-1",
        "station_id": "15001",
        "version": 1,
        "name": "Stacja 15001",
        "previous_name": None,
        "lat": LAT,
        "lon": LON,
        "total_docks": 15,
        "valid_from": at(8),
        "valid_to": None,
        "is_current": True,
        "change": "first",
        "reused": False,
        "moved_m": None,
        "last_seen_at": at(8, 5),
        "missed": 0,
        "missing_since": None,
    }


def test_a_free_standing_bike_has_no_history() -> None:
    table = state_of(
        seen(at(8)), station("fb600001", at(8), record_type="bike"), station("x", at(8), record_type="unknown")
    )
    assert table.column("station_id").to_pylist() == ["15001"]


def test_a_rename_begins_a_version_where_the_old_one_ends_and_keeps_the_name_before() -> None:
    first, second = versions(seen(at(8), name="Rynek"), seen(at(8, 5), name="Rynek 2"), seen(at(8, 10), name="Rynek 2"))
    assert (first["valid_from"], first["valid_to"], first["last_seen_at"]) == (at(8), at(8, 5), at(8))
    assert (second["valid_from"], second["valid_to"], second["last_seen_at"]) == (at(8, 5), None, at(8, 10))
    assert (first["is_current"], second["is_current"]) == (False, True)
    assert (second["station_key"], second["change"], second["moved_m"]) == ("15001-2", "renamed", 0.0)
    assert (first["previous_name"], second["previous_name"]) == (None, "Rynek")


def test_the_name_before_stays_until_the_next_rename() -> None:
    history = versions(
        seen(at(8), name="A"),
        seen(at(9), name="B"),
        seen(at(10), name="B", total_docks=20),
        seen(at(11), name="C", total_docks=20),
    )
    assert [(row["name"], row["previous_name"]) for row in history] == [("A", None), ("B", "A"), ("B", "A"), ("C", "B")]


@pytest.mark.parametrize(("metres", "expected"), [(29, ["first"]), (31, ["first", "moved"])])
def test_a_move_counts_over_30_metres(metres: float, expected: list[str]) -> None:
    assert changes(seen(at(8)), seen(at(8, 5), north_m=metres)) == expected


def test_a_move_says_how_far() -> None:
    _, moved = versions(seen(at(8)), seen(at(8, 5), north_m=31))
    assert (moved["moved_m"], moved["reused"]) == (31.0, False)
    assert moved["lat"] == LAT + 31 * DEGREES_A_METRE


def test_steps_that_are_small_alone_add_up() -> None:
    # 20 m and 40 m from where the version began: the second step leaves it.
    history = versions(seen(at(8)), seen(at(8, 5), north_m=20), seen(at(8, 10), north_m=40))
    assert [(row["change"], row["valid_from"], row["moved_m"]) for row in history] == [
        ("first", at(8), None),
        ("moved", at(8, 10), 40.0),
    ]


@pytest.mark.parametrize(
    ("metres", "name", "expected"),
    [
        (301, "Other", ("renamed+moved", True)),
        (299, "Other", ("renamed+moved", False)),
        (301, "Stacja 15001", ("moved", False)),
    ],
)
def test_an_id_is_reused_when_it_moved_over_300_metres_and_was_renamed(
    metres: float, name: str, expected: tuple[str, bool]
) -> None:
    _, version = versions(seen(at(8)), seen(at(8, 5), north_m=metres, name=name))
    assert (version["change"], version["reused"]) == expected


def test_a_version_after_a_reused_one_is_not_reused_itself() -> None:
    *_, last = versions(
        seen(at(8)), seen(at(9), north_m=400, name="B"), seen(at(10), north_m=400, name="B", total_docks=1)
    )
    assert (last["change"], last["reused"]) == ("docks", False)


def test_docks_to_0_and_back_are_three_versions() -> None:
    history = versions(seen(at(8)), seen(at(8, 5), total_docks=0), seen(at(8, 10)))
    assert [(row["total_docks"], row["change"]) for row in history] == [(15, "first"), (0, "docks"), (15, "docks")]


def test_all_that_changes_at_once_is_one_version() -> None:
    assert changes(seen(at(8)), seen(at(9), north_m=50, name="B", total_docks=9)) == ["first", "renamed+moved+docks"]


def test_the_first_row_of_a_day_is_held_against_the_day_before() -> None:
    later = DAY + dt.timedelta(days=1)
    assert changes(seen(at(23, 55)), seen(at(0, 0, later))) == ["first"]
    assert changes(seen(at(23, 55)), seen(at(0, 0, later), total_docks=16)) == ["first", "docks"]


def test_missing_for_one_snapshot_less_than_the_limit_changes_nothing() -> None:
    gone = [at(8, 5), at(8, 10)]
    (version,) = versions(seen(at(8)), seen(at(8, 15)), *others(at(8), *gone, at(8, 15)))
    assert (version["valid_to"], version["last_seen_at"], version["missed"]) == (None, at(8, 15), 0)


def test_missing_for_as_many_snapshots_as_the_limit_closes_from_the_first_of_them() -> None:
    (version,) = versions(seen(at(8)), *others(at(8), at(8, 5), at(8, 10), at(8, 15)))
    assert (version["valid_to"], version["is_current"], version["last_seen_at"]) == (at(8, 5), False, at(8))


def test_a_station_that_comes_back_is_reopened_and_the_time_between_belongs_to_no_version() -> None:
    gone = [at(8, 5), at(8, 10), at(8, 15)]
    first, second = versions(seen(at(8)), seen(at(8, 20)), *others(at(8), *gone, at(8, 20)))
    assert (first["valid_to"], first["last_seen_at"]) == (at(8, 5), at(8))
    assert (second["valid_from"], second["change"], second["previous_name"]) == (at(8, 20), "reopened", None)


def test_a_station_may_come_back_as_another() -> None:
    gone = [at(8, 5), at(8, 10), at(8, 15)]
    _, second = versions(seen(at(8)), seen(at(8, 20), north_m=500, name="Other"), *others(at(8), *gone, at(8, 20)))
    assert (second["change"], second["reused"], second["moved_m"]) == ("reopened+renamed+moved", True, 500.0)


def test_missed_snapshots_are_counted_over_days() -> None:
    second, third = DAY + dt.timedelta(days=1), DAY + dt.timedelta(days=2)
    rows = [seen(at(8)), *others(at(8), at(23, 55), at(0, 0, second))]
    (open_still,) = versions(*rows)
    assert (open_still["valid_to"], open_still["missed"], open_still["missing_since"]) == (None, 2, at(23, 55))
    (closed,) = versions(*rows, *others(at(0, 0, third)))
    assert (closed["valid_to"], closed["missed"], closed["missing_since"]) == (at(23, 55), 0, None)


def test_a_station_that_comes_back_days_later_was_gone_from_the_first_snapshot_without_it() -> None:
    # Two snapshots without it on the first day and one on the next, before its first row there: three.
    second = DAY + dt.timedelta(days=1)
    gone = [at(23, 50), at(23, 55), at(0, 0, second)]
    first, reopened = versions(seen(at(8)), seen(at(0, 5, second)), *others(at(8), *gone, at(0, 5, second)))
    assert (first["valid_to"], first["last_seen_at"]) == (at(23, 50), at(8))
    assert (reopened["change"], reopened["valid_from"]) == ("reopened", at(0, 5, second))


def test_a_closed_station_stays_closed_and_in_the_history() -> None:
    later = [DAY + dt.timedelta(days=more) for more in (1, 2, 3)]
    rows = [seen(at(8)), *others(at(8), at(8, 5), at(8, 10), at(8, 15), *(at(12, 0, day) for day in later[:2]))]
    (closed,) = versions(*rows)
    assert closed["valid_to"] == at(8, 5)
    closed_still, reopened = versions(*rows, seen(at(9, 0, later[2])), *others(at(9, 0, later[2])))
    assert closed_still == closed
    assert (reopened["version"], reopened["change"], reopened["valid_from"]) == (2, "reopened", at(9, 0, later[2]))


def test_a_snapshot_cut_short_is_not_one_without_the_station() -> None:
    # Whole ones have 10 or 11 stations, the median is 10: of 9 x 0.9 = 9 stations at least. Five are not enough.
    cut = [station(station_id, at(8, minute)) for minute in (6, 7, 8, 9) for station_id in OTHERS[:5]]
    whole = others(at(8), at(8, 1), at(8, 2), at(8, 3), at(8, 4), at(8, 5), at(8, 10), at(8, 12))
    first = [seen(at(8, minute)) for minute in range(6)]
    (version,) = versions(*first, *whole, *cut)
    assert (version["valid_to"], version["missed"], version["missing_since"]) == (None, 2, at(8, 10))


def test_a_station_seen_in_a_snapshot_cut_short_is_there() -> None:
    whole = others(*(at(8, minute) for minute in (0, 1, 2, 5, 6)))
    (version,) = versions(seen(at(8)), seen(at(8, 4)), *whole)
    assert (version["valid_to"], version["last_seen_at"], version["missed"]) == (None, at(8, 4), 2)


def test_a_day_that_is_not_there_counts_nothing() -> None:
    (version,) = versions(seen(at(8)), *others(at(8)), seen(at(8, 0, DAY + dt.timedelta(days=30))))
    assert version["valid_to"] is None


def test_the_dimension_is_the_newest_history_without_what_is_internal() -> None:
    later = DAY + dt.timedelta(days=1)
    built = build_days(
        {DAY: enhanced(seen(at(8))), later: enhanced(seen(at(8, 0, later), total_docks=16))},
        only={"state_station", "state_station_version"},
    )
    dim = build_tables(built, only={"dim_station"})["dim_station"]
    state = built[later]["state_station_version"]
    assert dim.column_names == [name for name in state.column_names if name not in ("missed", "missing_since")]
    assert dim.to_pylist() == state.select(dim.column_names).to_pylist()
    assert one(dim, is_current=True)["station_key"] == "15001-2"


# What a station is like in a snapshot: name, metres north, docks; None where it is missing.
Look = tuple[str, int, int] | None


@dataclass
class Known:
    """What the oracle knows of a station as it walks along."""

    history: list[dict[str, Any]]
    missed: int = 0
    since: dt.datetime | None = None


def oracle(snapshots: Sequence[tuple[dt.datetime, Mapping[str, Look]]], ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """The histories as one reads the definition: all snapshots of all days in one walk."""
    counts = {time: sum(look is not None for look in looks.values()) for time, looks in snapshots}

    def is_whole(time: dt.datetime) -> bool:
        of_the_day = [count for other, count in counts.items() if other.date() == time.date() and count]
        return counts[time] > 0 and counts[time] >= 0.9 * statistics.median(of_the_day)

    known = {station_id: Known([]) for station_id in ids}
    for time, looks in snapshots:
        for station_id in ids:
            look, it = looks[station_id], known[station_id]
            current = it.history[-1] if it.history else None
            if look is None:
                if current is not None and current["to"] is None and is_whole(time):
                    it.since = it.since or time
                    it.missed += 1
                    if it.missed >= CLOSED_AFTER:
                        current["to"] = it.since
                continue
            it.missed, it.since = 0, None
            name, metres, docks = look
            begun = []
            if current is None:
                begun = ["first"]
            else:
                far = abs(metres - current["metres"])
                begun += ["reopened"] * (current["to"] is not None)
                begun += ["renamed"] * (name != current["name"])
                begun += ["moved"] * (far > 30)
                begun += ["docks"] * (docks != current["docks"])
            if begun:
                before = None
                if current is not None:
                    current["to"] = current["to"] or time
                    before = current["name"] if "renamed" in begun else current["before"]
                it.history.append(
                    {"name": name, "before": before, "metres": metres, "docks": docks, "from": time, "to": None}
                    | {"change": "+".join(begun), "reused": "renamed" in begun and current is not None and far > 300}
                )
            it.history[-1]["seen"] = time
    names = ("name", "before", "docks", "from", "to", "change", "reused", "seen")
    return [
        (f"{station_id}-{number}", *(version[name] for name in names))
        for station_id in ids
        for number, version in enumerate(known[station_id].history, start=1)
    ]


looks = st.one_of(
    st.none(), st.tuples(st.sampled_from("AB"), st.sampled_from([0, 20, 40, 400]), st.sampled_from([0, 9]))
)
# Two stations that change, and how many of ten that do not are in the snapshot.
snapshot_looks = st.tuples(looks, looks, st.sampled_from([10, 10, 10, 10, 3, 0]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(snapshot_looks, max_size=6), min_size=1, max_size=4))
def test_days_one_after_another_give_what_one_walk_over_all_of_them_gives(
    days: list[list[tuple[Look, Look, int]]],
) -> None:
    ids = ["15001", "15002", *OTHERS]
    snapshots = [
        (
            at(8, 5 * number, DAY + dt.timedelta(days=day)),
            {"15001": first, "15002": second}
            | {other: ("O", 0, 9) if place < size else None for place, other in enumerate(OTHERS)},
        )
        for day, listed in enumerate(days)
        for number, (first, second, size) in enumerate(listed)
    ]
    rows = [
        station(station_id, time, name=look[0], lat=LAT + look[1] * DEGREES_A_METRE, total_docks=look[2])
        for time, looks_of in snapshots
        for station_id, look in looks_of.items()
        if look is not None
    ]
    if not rows:
        return
    found = state_of(*rows).to_pylist()
    names = (
        "station_key",
        "name",
        "previous_name",
        "total_docks",
        "valid_from",
        "valid_to",
        "change",
        "reused",
        "last_seen_at",
    )
    assert sorted(tuple(row[name] for name in names) for row in found) == sorted(oracle(snapshots, ids))
    assert all(row["is_current"] == (row["valid_to"] is None) for row in found)

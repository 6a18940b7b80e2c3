"""Moves of free bikes: each kind at its borders, over midnight and over missing days; what nobody may learn from them.

A series is what the snapshots of every five minutes show of one bike: metres north of a place in the city, None when
the bike is absent, or `AWAY`. A station is in every snapshot, so that there is one. Along a meridian the distance is
the radius times the difference of latitude, so metres north are metres.
"""

import datetime as dt
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pytest

from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline_tests.fixtures.marts import LAT, LON, bike, build_day, build_days, column, enhanced, one, station

DAY: Final = dt.date(2025, 6, 3)
NOON: Final = dt.datetime(2025, 6, 3, 12, tzinfo=dt.UTC)
STEP: Final = dt.timedelta(minutes=5)
MOVES: Final = ("fct_bike_move", "state_bike")
AWAY: Final = "off zone"
Place = float | str | None
EARTH_M: Final = 6_371_008.8


def rows_of(series: Mapping[str, Sequence[Place]], start: dt.datetime = NOON, step: dt.timedelta = STEP) -> list[Any]:
    """Return the rows of snapshots at `start`, `start + step`, … with the bikes of the series."""
    count = max(len(places) for places in series.values())
    rows = [station("15001", start + number * step) for number in range(count)]
    for bike_id, places in series.items():
        for number, place in enumerate(places):
            if place == AWAY:
                rows.append(bike(bike_id, start + number * step, lat=52.28, lon=21.01, in_service_area=False))
            elif isinstance(place, float | int):
                north = LAT + math.degrees(place / EARTH_M)
                rows.append(bike(bike_id, start + number * step, lat=north))
    return rows


def days_of(rows: list[dict[str, Any]]) -> dict[dt.date, pa.Table]:
    """Return rows by their UTC day."""
    days = sorted({row["date"] for row in rows})
    return {day: enhanced(*(row for row in rows if row["date"] == day)) for day in days}


def moves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the moves of all days that rows are of, in order."""
    built = build_days(days_of(rows), only=MOVES)
    return [move for day in sorted(built) for move in built[day]["fct_bike_move"].to_pylist()]


def kinds(*places: Place) -> list[str]:
    return [move["kind"] for move in moves(rows_of({"fb600001": places}))]


# 30 km/h are 2,500 m in five minutes, and 5,000 m in ten.
@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param([0, 0], [], id="a bike that stands does not move"),
        pytest.param([0, 49], ["jitter"], id="49 m in consecutive snapshots"),
        pytest.param([0, 51], ["candidate_trip"], id="51 m in consecutive snapshots"),
        pytest.param([0, None, 0], ["aborted"], id="absent from one snapshot and back at its place"),
        pytest.param([0, None, 49], ["aborted"], id="absent, then 49 m away"),
        pytest.param([0, None, 51], ["candidate_trip"], id="absent, then 51 m away"),
        pytest.param([0, None, None, None, 0], ["aborted"], id="absent from three"),
        pytest.param([0, 2491.7], ["candidate_trip"], id="29.9 km/h"),
        pytest.param([0, 2508.3], ["reassignment"], id="30.1 km/h"),
        pytest.param([0, None, 4983.3], ["candidate_trip"], id="29.9 km/h over ten minutes"),
        pytest.param([0, None, 5016.7], ["reassignment"], id="30.1 km/h over ten minutes"),
        pytest.param([AWAY, 0], ["off_zone"], id="into the zone, however fast"),
        pytest.param([0, None, AWAY], ["off_zone"], id="out of the zone"),
        pytest.param([AWAY, None, AWAY], ["off_zone"], id="absent from the depot"),
        pytest.param([AWAY, AWAY], [], id="standing in the depot"),
        pytest.param([None, 0, 0], [], id="seen for the first time"),
        pytest.param([0, 0, None], [], id="gone, and not back yet"),
        pytest.param([0, 49, 98], ["jitter", "jitter"], id="each pair by itself"),
        pytest.param([0, 100, None, 100, AWAY], ["candidate_trip", "aborted", "off_zone"], id="one after another"),
    ],
)
def test_kinds_at_their_borders(places: list[Place], expected: list[str]) -> None:
    assert kinds(*places) == expected


def test_a_move_is_measured_between_the_two_sightings() -> None:
    """1,000 m in 15 minutes are 4 km/h. 12:15 UTC is 14:15 in Wrocław."""
    (move,) = moves(rows_of({"fb600001": [0, None, None, 1000]}))

    assert (move["from_seen_at"], move["to_seen_at"]) == (NOON, NOON + 3 * STEP)
    assert (move["minutes"], move["distance_m"], move["speed_kmh"]) == (15.0, 1000.0, 4.0)
    assert (move["local_date"], move["local_hour"]) == (DAY, 14)


def test_a_move_along_a_parallel_is_one_too() -> None:
    """0.001 degrees of longitude are 111.19 m on the equator; times cos 51.11 degrees, 0.62783, they are 69.8 m."""
    rows = [bike("fb600001", NOON), bike("fb600001", NOON + STEP, lon=LON + 0.001)]

    assert [(move["kind"], move["distance_m"]) for move in moves(rows)] == [("candidate_trip", 69.8)]


def test_parameters_move_the_borders() -> None:
    rows = enhanced(*rows_of({"fb600001": [0, 40]}))

    built = build_day(rows, only=MOVES, parameters={"fct_bike_move.moved_from_m": 30})

    assert column(built["fct_bike_move"], "kind") == ["candidate_trip"]


def test_stations_and_unknown_records_do_not_move() -> None:
    rows = [
        station("15001", NOON),
        station("15001", NOON + STEP, lat=LAT + 0.01),
        bike("fb600001", NOON, record_type="unknown"),
        bike("fb600001", NOON + STEP, record_type="unknown", lat=LAT + 0.01),
    ]

    assert moves(rows) == []


LATE: Final = dt.datetime(2025, 6, 3, 23, 50, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        # The third snapshot is the next day's first.
        pytest.param([0, 0, 0], [], id="standing over midnight"),
        pytest.param([0, 0, 49], ["jitter"], id="jitter over midnight"),
        pytest.param([0, 0, 51], ["candidate_trip"], id="a move over midnight"),
        pytest.param([0, None, 0], ["aborted"], id="absent from the last snapshot of the day"),
        pytest.param([0, 0, None, 0], ["aborted"], id="absent from the first snapshot of the day"),
        pytest.param([0, None, None, 0], ["aborted"], id="absent from both"),
    ],
)
def test_over_midnight(places: list[Place], expected: list[str]) -> None:
    built = build_days(days_of(rows_of({"fb600001": places}, LATE)), only=MOVES)

    assert column(built[DAY]["fct_bike_move"], "kind") == []
    assert column(built[DAY + dt.timedelta(days=1)]["fct_bike_move"], "kind") == expected


def test_a_move_counts_on_the_local_date_of_its_later_sighting() -> None:
    """21:50 and 22:00 UTC are 23:50 and 0:00 of the next date in summer."""
    (move,) = moves(rows_of({"fb600001": [0, 100]}, LATE - dt.timedelta(hours=2), 2 * STEP))

    assert (move["local_date"], move["local_hour"]) == (DAY + dt.timedelta(days=1), 0)


@pytest.mark.parametrize(("metres", "expected"), [(0, []), (49, ["jitter"]), (51, ["candidate_trip"])])
def test_over_a_missing_day_the_snapshots_on_both_sides_are_consecutive(metres: int, expected: list[str]) -> None:
    """Nobody knows where the bike was meanwhile: it was absent from no snapshot."""
    before = rows_of({"fb600001": [0]}, LATE + STEP)
    after = rows_of({"fb600001": [metres]}, LATE + STEP + dt.timedelta(days=1, minutes=5))

    found = moves(before + after)

    assert [move["kind"] for move in found] == expected
    assert [move["minutes"] for move in found] == [1445.0] * len(expected)


def test_a_bike_that_was_in_no_snapshot_of_a_day_was_absent() -> None:
    days = (
        rows_of({"fb600001": [place]}, LATE + dt.timedelta(days=number)) for number, place in enumerate([0, None, 0])
    )

    assert [move["kind"] for move in moves([row for rows in days for row in rows])] == ["aborted"]


def test_a_day_whose_snapshots_were_all_faults_changes_nothing() -> None:
    first = days_of(rows_of({"fb600001": [0], "fb600002": [0]}, LATE))[DAY]
    nothing = ENHANCED.empty_table()
    third = days_of(rows_of({"fb600001": [0], "fb600002": [60]}, LATE + dt.timedelta(days=2)))

    built = build_days({DAY: first, DAY + dt.timedelta(days=1): nothing} | third, only=MOVES)

    assert built[DAY + dt.timedelta(days=1)]["state_bike"].equals(built[DAY]["state_bike"])
    assert column(built[DAY + dt.timedelta(days=2)]["fct_bike_move"], "kind") == ["candidate_trip"]


def unseen_for(gap: dt.timedelta, *days_between: int) -> dict[dt.date, dict[str, pa.Table]]:
    """Build a bike seen at noon and again after a gap, with snapshots without it on days between."""
    rows = rows_of({"fb600001": [0, None]})
    for number in days_between:
        rows += rows_of({"fb600001": [None]}, NOON + dt.timedelta(days=number))
    return build_days(days_of(rows + rows_of({"fb600001": [0]}, NOON + gap)), only=MOVES)


@pytest.mark.parametrize("days_between", [(), (1, 30), (59,), (60,)])
def test_a_bike_unseen_for_more_than_60_days_is_a_new_bike(days_between: tuple[int, ...]) -> None:
    """Whether days between were built, and the bike was forgotten at the end of one, makes no difference."""
    just = unseen_for(dt.timedelta(days=60), *(day for day in days_between if day < 60))
    longer = unseen_for(dt.timedelta(days=61), *days_between)

    after_60, after_61 = just[max(just)], longer[max(longer)]
    assert column(after_60["fct_bike_move"], "kind") == ["aborted"]
    assert column(after_60["fct_bike_move"], "minutes") == [60 * 1440.0]
    assert column(after_61["fct_bike_move"], "kind") == []
    assert column(after_61["state_bike"], "standing_since") == [NOON + dt.timedelta(days=61)]


def test_a_bike_is_forgotten_after_60_days() -> None:
    """Seen at 12:00 on 3 June, it is 60 days unseen at 12:00 on 2 August: the end of that day has forgotten it."""
    built = unseen_for(dt.timedelta(days=90), 59, 60)

    assert one(built[DAY + dt.timedelta(days=59)]["state_bike"])["last_seen_at"] == NOON
    assert built[DAY + dt.timedelta(days=60)]["state_bike"].num_rows == 0


@pytest.mark.parametrize(
    ("places", "snapshot"),
    [
        pytest.param([0, 0, 0], 0, id="since it was first seen"),
        pytest.param([None, 0, 0], 1, id="first seen later"),
        pytest.param([0, 49, 49], 0, id="jitter does not end it"),
        pytest.param([0, None, 0, 0], 2, id="rented and put back"),
        pytest.param([0, 100, 100, 140], 1, id="moved, then jitter"),
        pytest.param([AWAY, 0, 0], 1, id="back from the depot"),
        pytest.param([0, 9000, 9000], 1, id="the id is another bike's"),
    ],
)
def test_a_bike_stands_since_its_last_move_other_than_jitter(places: list[Place], snapshot: int) -> None:
    at_once = build_day(enhanced(*rows_of({"fb600001": places})), only=MOVES)["state_bike"]
    late = LATE + STEP
    split = build_days(days_of(rows_of({"fb600001": places}, late)), only=MOVES)

    assert one(at_once)["standing_since"] == NOON + snapshot * STEP
    assert one(split[max(split)]["state_bike"])["standing_since"] == late + snapshot * STEP


def test_a_bike_cannot_be_followed_by_its_pseudonym_nor_by_the_order_of_rows() -> None:
    """Three bikes move at the same times: ids of six moves, and an order that is that of the ids alone."""
    series = {f"fb60000{number}": [0, 100 + number, 0] for number in (1, 2, 3)}

    found = moves(rows_of(series))

    ids = [move["move_id"] for move in found]
    assert len(set(ids)) == 6
    assert all(len(move_id) == 16 and set(move_id) <= set("0123456789abcdef") for move_id in ids)
    assert [(move["to_seen_at"], move["move_id"]) for move in found] == sorted(
        (move["to_seen_at"], move["move_id"]) for move in found
    )


def test_the_bikes_that_move_are_told_apart_by_nothing_but_the_pseudonym() -> None:
    """Two bikes side by side make two rows with equal places: their cell's centre."""
    rows = [
        *rows_of({"fb600001": [0, 3000], "fb600002": [2, 3002]}),
        *[row for row in rows_of({"fb600003": [0, AWAY]}) if row["record_type"] == "bike"],
    ]

    found = moves(rows)

    places = ("from_cell", "to_cell", "from_lat", "from_lon", "to_lat", "to_lon")
    first, second = ([move[name] for name in places] for move in found if move["kind"] == "reassignment")
    assert first == second
    (away,) = (move for move in found if move["kind"] == "off_zone")
    for lat, lon, end_lat, end_lon in [
        (LAT, LON, first[2], first[3]),
        (52.28, 21.01, away["to_lat"], away["to_lon"]),
    ]:
        # Half a diagonal of 250 m is 177 m; 1.2 degrees north of the city the projection stretches by 3 %.
        north = math.radians(lat - end_lat) * EARTH_M
        east = math.radians(lon - end_lon) * EARTH_M * math.cos(math.radians(lat))
        assert 0 < math.hypot(north, east) < 183


def random_series(seed: int, snapshots: int) -> dict[str, list[Place]]:
    """Return six bikes that stand, wander, leave, ride, race and go to the depot."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    series: dict[str, list[Place]] = {}
    for number in range(6):
        place: float = 0
        places: list[Place] = []
        for _ in range(snapshots):
            place += rng.choice([0, 0, 0, 20, -20, 300, -300, 3000])
            places.append(rng.choices([place, None, AWAY], [8, 2, 1])[0])
        series[f"fb60000{number}"] = places
    return series


@pytest.mark.parametrize("seed", range(4))
def test_split_in_days_or_built_at_once_the_moves_are_the_same(seed: int) -> None:
    """The same series within one day, and over midnight."""
    series = random_series(seed, 24)
    at_once = build_days(days_of(rows_of(series, NOON)), only=MOVES)
    midnight = dt.datetime(2025, 6, 4, tzinfo=dt.UTC)
    start = midnight - 7 * STEP
    split = build_days(days_of(rows_of(series, start)), only=MOVES)

    def told(built: dict[dt.date, dict[str, pa.Table]], begin: dt.datetime) -> list[tuple[Any, ...]]:
        same = ("kind", "minutes", "distance_m", "speed_kmh", "from_cell", "to_cell", "from_lat", "to_lat")
        return sorted(
            (move["to_seen_at"] - begin, move["from_seen_at"] - begin, *(move[name] for name in same))
            for tables in built.values()
            for move in tables["fct_bike_move"].to_pylist()
        )

    assert (len(at_once), len(split)) == (1, 2)
    assert len({kind for _, _, kind, *_ in told(at_once, NOON)}) == 5
    assert told(split, start) == told(at_once, NOON)
    states = [one_day[max(one_day)]["state_bike"].to_pylist() for one_day in (at_once, split)]
    for whole, parts in zip(*states, strict=True):
        shifted = {
            name: value - start + NOON if isinstance(value, dt.datetime) else value for name, value in parts.items()
        }
        assert shifted == whole


@pytest.mark.parametrize("seed", range(4))
def test_dropping_every_second_snapshot_never_raises_the_number_of_moves(seed: int) -> None:
    """A move that is seen with fewer snapshots spans at least one that is seen with all of them."""
    series = random_series(seed, 24)
    thinned = {bike_id: places[::2] for bike_id, places in series.items()}

    all_moves = moves(rows_of(series))
    fewer_moves = moves(rows_of(thinned, NOON, 2 * STEP))

    assert 0 < len(fewer_moves) <= len(all_moves)
    assert sum(move["distance_m"] for move in fewer_moves) <= sum(move["distance_m"] for move in all_moves) + 1


@pytest.mark.parametrize(
    ("places", "all_kinds"),
    [
        pytest.param([0, 40, 80], {"jitter": 2}, id="two jitters are one trip"),
        pytest.param([0, 3000, 3000], {"reassignment": 1}, id="36 km/h become 18"),
        pytest.param([0, AWAY, 100], {"off_zone": 2}, id="out and in becomes a trip in the zone"),
    ],
)
def test_dropping_every_second_snapshot_can_make_candidate_trips_of_other_moves(
    places: list[Place], all_kinds: dict[str, int]
) -> None:
    """So the number of candidate trips alone may rise; that of all moves does not."""
    assert Counter(kinds(*places)) == all_kinds
    thinned = moves(rows_of({"fb600001": places[::2]}, NOON, 2 * STEP))
    assert [move["kind"] for move in thinned] == ["candidate_trip"]

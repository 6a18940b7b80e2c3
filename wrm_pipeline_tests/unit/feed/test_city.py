"""The made-up city: the same for ever, shaped like the recorded feed, and plausible from one poll to the next."""

import csv
import datetime as dt
import io
from collections import Counter
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.feed.catalogue import stations_on
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline_tests.fixtures.snapshots import FORMAT

WEDNESDAY = dt.datetime(2025, 8, 20, tzinfo=dt.UTC)
POLL = dt.timedelta(minutes=5)
SEEDS = st.integers(min_value=0, max_value=2**32)
TIMES = st.datetimes(dt.datetime(2015, 1, 1), dt.datetime(2045, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001


def rows_of(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))[1:]


def stations(body: bytes) -> dict[str, list[str]]:
    return {row[0]: row for row in rows_of(body) if not row[0].startswith("fb")}


def bikes(body: bytes) -> dict[str, list[str]]:
    return {row[0]: row for row in rows_of(body) if row[0].startswith("fb")}


def time_us(row: list[str]) -> int:
    return int(row[1].split("|")[0].replace(".", ""))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, at=TIMES)
def test_every_snapshot_of_every_city_has_the_shape_of_the_recorded_feed(seed: int, at: dt.datetime) -> None:
    body = snapshot(seed, at)

    assert body.startswith(HEADER + b"\n15001,")
    assert not body.endswith(b"\n")
    assert b"\r" not in body
    rows = rows_of(body)
    assert {len(row) for row in rows} == {13}
    assert len({row[0] for row in rows}) == len(rows)
    assert all(100 <= later - earlier <= 300 for earlier, later in pairwise(map(time_us, rows)))
    assert time_us(rows[-1]) == (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    assert 225 <= len(stations(body)) <= 245
    assert 120 <= len(bikes(body)) <= 500
    assert all(int(row[5]) >= 0 and int(row[6]) >= 1 for row in stations(body).values())
    assert all(51.03 <= float(row[3]) <= 51.17 and 16.85 <= float(row[4]) <= 17.15 for row in stations(body).values())
    assert all(row[2] == f"BIKE {row[0][2:]}" and -1 <= int(row[11]) <= 100 for row in bikes(body).values())


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, at=TIMES, offset=st.integers(min_value=-12, max_value=12))
def test_the_same_instant_gives_the_same_bytes_in_any_time_zone(seed: int, at: dt.datetime, offset: int) -> None:
    elsewhere = at.astimezone(dt.timezone(dt.timedelta(hours=offset)))

    assert snapshot(seed, elsewhere) == snapshot(seed, at)
    assert snapshot(seed + 1, at) != snapshot(seed, at)
    assert snapshot(seed, at + dt.timedelta(seconds=1)) != snapshot(seed, at)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, at=TIMES)
def test_the_parser_keeps_every_row(seed: int, at: dt.datetime) -> None:
    body = snapshot(seed, at)

    parsed = FORMAT.parse([Snapshot("raw/a.txt", at, body)])

    assert FORMAT.inspect(body) is None
    assert (parsed.rejects, parsed.faults) == ((), {})
    assert parsed.tallies[0].kept == body.count(b"\n")


@pytest.mark.parametrize(
    ("at", "offsets"),
    [
        ("2025-07-01T12:00+00:00", "-7200|-3600"),
        ("2025-01-01T12:00+00:00", "-3600|0"),
        ("2025-03-30T00:59:59+00:00", "-3600|0"),
        ("2025-03-30T01:00:00+00:00", "-7200|-3600"),
        ("2025-10-26T00:59:59+00:00", "-7200|-3600"),
        ("2025-10-26T01:00:00+00:00", "-3600|0"),
    ],
)
def test_the_offsets_follow_summer_time_to_the_second(at: str, offsets: str) -> None:
    body = snapshot(1, dt.datetime.fromisoformat(at))

    assert {row[1].partition("|")[2] for row in rows_of(body)} == {offsets}


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        snapshot(1, dt.datetime(2025, 8, 20))  # noqa: DTZ001


def test_stations_are_filled_as_recorded() -> None:
    samples = [list(stations(snapshot(seed, WEDNESDAY.replace(hour=10))).values()) for seed in range(10)]

    def share(condition: object) -> float:
        assert callable(condition)
        return mean(condition(int(row[5]), int(row[6]), int(row[10])) for rows in samples for row in rows)

    assert 0.15 < share(lambda bikes, _, docks: bikes > docks) < 0.25
    assert 0.05 < share(lambda bikes, _, __: bikes == 0) < 0.2
    assert 0.01 < share(lambda bikes, spaces, docks: bikes + spaces < docks) < 0.05
    docks = Counter(int(row[10]) for rows in samples for row in rows)
    assert [size for size, _ in docks.most_common(3)] == [10, 6, 16]


def test_names_have_the_oddities_of_recorded_names() -> None:
    body = snapshot(1, WEDNESDAY)
    names = [row[2] for row in stations(body).values()]

    for oddity in (", ", "&amp;", "\u00a0", " / ", "ł", "("):
        assert any(oddity in name for name in names), oddity
    assert any(name.endswith(" ") for name in names)
    assert b',"' in body


def test_about_sixty_bikes_stand_in_a_depot_far_away() -> None:
    body = snapshot(1, WEDNESDAY)

    depot = [
        row for row in bikes(body).values() if abs(float(row[3]) - 52.28) < 0.01 and abs(float(row[4]) - 21.01) < 0.01
    ]
    in_town = [row for row in bikes(body).values() if 51.0 < float(row[3]) < 51.2 and 16.8 < float(row[4]) < 17.2]

    assert len(depot) == 60
    assert len(depot) + len(in_town) == len(bikes(body))


def test_some_free_bikes_are_electric_and_show_their_battery() -> None:
    batteries = [int(row[11]) for row in bikes(snapshot(1, WEDNESDAY)).values()]

    assert batteries.count(-1) > 0.8 * len(batteries)
    assert len({level for level in batteries if level >= 0}) > 3


def test_from_one_poll_to_the_next_little_changes_but_something_does() -> None:
    day = [snapshot(1, WEDNESDAY + POLL * step) for step in range(288)]
    docked = [{key: int(row[5]) for key, row in stations(body).items()} for body in day]
    free = [{key: (row[3], row[4]) for key, row in bikes(body).items()} for body in day]

    changes = [[abs(new[key] - old[key]) for key in new.keys() & old.keys()] for old, new in pairwise(docked)]
    assert max(map(max, changes)) <= 3
    assert mean(map(sum, changes[60:240])) > 20  # by day
    assert mean(map(sum, changes[:24])) < 10  # from two to four at night
    for old, new in pairwise(free):
        stayed = old.keys() & new.keys()
        assert len(stayed) > 0.9 * len(new)
        assert sum(old[key] != new[key] for key in stayed) < 0.1 * len(new)
    assert len(free[0].keys() - free[-1].keys()) > 20
    assert max(map(len, free)) - min(map(len, free)) > 20


def test_work_places_fill_on_a_weekday_morning_and_hardly_at_the_weekend() -> None:
    def rise(day: dt.datetime, seed: int) -> float:
        """Bikes that central stations gain between 5 and 11 in the morning, less what residential ones do."""
        early, late = (stations(snapshot(seed, day.replace(hour=hour))) for hour in (3, 9))
        gains = {True: [0], False: [0]}
        for station in stations_on(seed, day.date()):
            if abs(station.pull) > 0.3:
                gains[station.pull > 0].append(int(late[str(station.id)][5]) - int(early[str(station.id)][5]))
        return mean(gains[True]) - mean(gains[False])

    weekday = mean(rise(WEDNESDAY, seed) for seed in range(5))
    weekend = mean(rise(WEDNESDAY + dt.timedelta(days=4), seed) for seed in range(5))

    assert weekday > 2
    assert weekend < weekday / 2


def test_stations_open_close_for_good_and_change_their_names() -> None:
    days = [WEDNESDAY.date() + dt.timedelta(days=day) for day in range(200)]
    names = [{station.id: station.name for station in stations_on(1, day)} for day in days]

    pairs = list(pairwise(names))
    closed = [(day, key) for day, (before, after) in enumerate(pairs) for key in before.keys() - after.keys()]
    opened = [key for before, after in pairs for key in after.keys() - before.keys()]
    renamed = [key for before, after in pairs for key in before.keys() & after.keys() if before[key] != after[key]]

    assert 1 <= len(closed) <= 20
    assert 1 <= len(opened) <= 20
    assert 5 <= len(renamed) <= 40
    assert not any(key in later for day, key in closed for later in names[day + 1 :])


def test_spoilt_rows_are_exactly_what_the_parser_rejects() -> None:
    good = snapshot(1, WEDNESDAY)

    bad = with_bad_rows(good, 6, turn=0)
    parsed = FORMAT.parse([Snapshot("raw/a.txt", WEDNESDAY, bad)])

    assert FORMAT.inspect(bad) is None
    assert len({reject.rule for reject in parsed.rejects}) == 6
    assert len(parsed.rejects) == 6
    assert len(set(good.split(b"\n")) - set(bad.split(b"\n"))) == 5  # the sixth way adds a row and spoils none
    assert with_bad_rows(good, 0, turn=0) == good


@settings(max_examples=20, deadline=None)
@given(count=st.integers(min_value=1, max_value=1000), turn=st.integers(min_value=0, max_value=100))
def test_any_number_of_rows_can_be_spoilt(count: int, turn: int) -> None:
    good = snapshot(1, WEDNESDAY)

    parsed = FORMAT.parse([Snapshot("raw/a.txt", WEDNESDAY, with_bad_rows(good, count, turn))])

    assert parsed.tallies[0].dead == min(count, good.count(b"\n"))

"""What the raw sensor decides, as a pure function: each key is news once, whatever the order in which keys land."""

import datetime as dt
from itertools import islice, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.automation.raw_cursor import MAX_SEEN, OVERLAP, Decision, RawCursor, decide
from wrm_pipeline.automation.sensors import DAYS_PER_TICK, KEYS_PER_TICK
from wrm_pipeline.lake.keys import LakeKeys, day_of

KEYS = LakeKeys()
FIRST_DAY, LAST_DAY = dt.date(2025, 5, 1), dt.date(2025, 8, 31)
NOON = dt.datetime(2025, 5, 12, 12, tzinfo=dt.UTC)
# The most a cursor may take in Dagster's database; it is read and written every 15 seconds.
MAX_CURSOR_BYTES = 20_000


def key(time: dt.datetime) -> str:
    return KEYS.raw(time)


def tick(cursor: RawCursor, lake: set[str], *, max_days: int = DAYS_PER_TICK) -> Decision:
    """Decide as the sensor does, from one page of the listing after the cursor."""
    page = list(islice((k for k in sorted(lake) if k > cursor.after), KEYS_PER_TICK))
    return decide(cursor, page, first_day=FIRST_DAY, last_day=LAST_DAY, max_days=max_days)


def ticks(
    cursor: RawCursor, lake: set[str], *, max_days: int = DAYS_PER_TICK
) -> tuple[list[tuple[dt.date, str]], RawCursor]:
    """Tick until nothing is new; return what was requested, and the cursor."""
    requested: list[tuple[dt.date, str]] = []
    while True:
        decision = tick(cursor, lake, max_days=max_days)
        assert len(decision.requests) <= max_days
        if decision.cursor == cursor:
            return requested, cursor
        requested += [(request.day, request.run_key) for request in decision.requests]
        cursor = RawCursor.load(decision.cursor.model_dump_json())


def after(minutes: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minutes)


def test_news_of_a_day_is_one_request_named_after_its_newest_key() -> None:
    decision = tick(RawCursor(), {key(after(0)), key(after(5)), key(after(2 * 1440))})

    assert [(request.day.isoformat(), request.run_key) for request in decision.requests] == [
        ("2025-05-12", "2025-05-12:wrm_stations_2025-05-12_12-05-00.txt"),
        ("2025-05-14", "2025-05-14:wrm_stations_2025-05-14_12-00-00.txt"),
    ]


def test_nothing_new_asks_for_nothing_and_moves_nothing() -> None:
    lake = {key(after(0)), key(after(5))}
    _, cursor = ticks(RawCursor(), lake)

    again = tick(cursor, lake)

    assert again.requests == ()
    assert again.cursor == cursor


def test_a_key_that_lands_late_within_the_overlap_is_news() -> None:
    lake = {key(after(0)), key(after(20))}
    _, cursor = ticks(RawCursor(), lake)
    late = key(after(6))

    requested, _ = ticks(cursor, lake | {late})

    assert requested == [(NOON.date(), f"{NOON.date()}:{late.rpartition('/')[2]}")]


def test_a_late_key_of_yesterday_is_news_after_midnight() -> None:
    midnight = dt.datetime(2025, 5, 13, tzinfo=dt.UTC)
    lake = {key(midnight - dt.timedelta(minutes=12)), key(midnight + dt.timedelta(minutes=1))}
    _, cursor = ticks(RawCursor(), lake)

    requested, _ = ticks(cursor, lake | {key(midnight - dt.timedelta(minutes=3))})

    assert [day for day, _ in requested] == [dt.date(2025, 5, 12)]


@st.composite
def landings(draw: st.DrawFn) -> list[list[dt.datetime]]:
    """Snapshots in the order in which they land, batch by batch, none later than the overlap behind the newest."""
    gaps = draw(st.lists(st.sampled_from([1, 7, 61, 290, 300, 310, 1800, 50_000, 90_000]), min_size=1, max_size=40))
    times, time = [], NOON
    for gap in gaps:
        time += dt.timedelta(seconds=gap)
        times.append(time)
    # A key lands at its time plus a delay of less than the overlap.
    limit = int(OVERLAP.total_seconds()) - 1
    delays = draw(st.lists(st.integers(0, limit), min_size=len(times), max_size=len(times)))
    landed = sorted(zip((t + dt.timedelta(seconds=d) for t, d in zip(times, delays, strict=True)), times, strict=True))
    cuts = draw(st.lists(st.integers(0, len(landed)), max_size=8))
    edges = sorted({0, *cuts, len(landed)})
    return [[t for _, t in landed[a:b]] for a, b in pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(landings(), st.integers(1, 3))
def test_each_key_is_in_exactly_one_request_in_whatever_order_they_land(
    batches: list[list[dt.datetime]], max_days: int
) -> None:
    lake: set[str] = set()
    cursor = RawCursor()
    run_keys: list[str] = []
    for batch in batches:
        new = {key(time) for time in batch}
        lake |= new
        requested, cursor = ticks(cursor, lake, max_days=max_days)
        # Exactly the days that have news, each of them once, and named by the newest of what is new.
        newest = {day: max(k for k in new if day_of(k) == day) for day in {day_of(k) for k in new}}
        assert sorted(requested) == sorted((d, f"{d}:{k.rpartition('/')[2]}") for d, k in newest.items())
        run_keys += [run_key for _, run_key in requested]
        assert len(cursor.model_dump_json()) < MAX_CURSOR_BYTES
    assert len(run_keys) == len(set(run_keys))
    assert tick(cursor, lake).requests == ()


def test_a_first_start_on_a_large_lake_asks_for_every_day_with_few_at_a_time() -> None:
    days = [FIRST_DAY + dt.timedelta(days=n) for n in range(60)]
    lake = {
        key(dt.datetime.combine(day, dt.time(hour, minute), dt.UTC))
        for day in days
        for hour in range(24)
        for minute in (0, 20, 40)
    }

    requested, cursor = ticks(RawCursor(), lake)

    assert {day for day, _ in requested} == set(days)
    assert len(cursor.seen) <= MAX_SEEN
    assert cursor.after > key(dt.datetime.combine(days[-1], dt.time(22), dt.UTC))


def test_the_cursor_stays_small_and_goes_on_when_the_overlap_holds_more_keys_than_it_may_remember() -> None:
    lake = {key(NOON + dt.timedelta(seconds=n)) for n in range(3000)}

    requested, cursor = ticks(RawCursor(), lake)

    assert {day for day, _ in requested} == {NOON.date()}
    assert len(cursor.model_dump_json()) < MAX_CURSOR_BYTES
    assert [day for day, _ in ticks(cursor, lake | {key(NOON + dt.timedelta(seconds=3000))})[0]] == [NOON.date()]


def test_keys_of_no_partition_are_named_and_never_requested() -> None:
    old, future = dt.datetime(2025, 4, 30, 12, tzinfo=dt.UTC), dt.datetime(2025, 9, 1, 12, tzinfo=dt.UTC)
    nameless = f"{KEYS.raw_root}notes.txt"

    decision = tick(RawCursor(), {key(old), key(after(0)), key(future), nameless})

    assert [request.day for request in decision.requests] == [NOON.date()]
    assert sorted(decision.ignored) == sorted([key(old), key(future), nameless])


def test_a_page_of_keys_before_the_first_day_is_passed() -> None:
    old = dt.datetime(2025, 4, 1, tzinfo=dt.UTC)
    lake = {key(old + dt.timedelta(minutes=n)) for n in range(2 * KEYS_PER_TICK)}

    requested, _ = ticks(RawCursor(), lake | {key(after(0))})

    assert [day for day, _ in requested] == [NOON.date()]


def test_a_key_from_the_future_does_not_hide_what_comes_before_it() -> None:
    """A clock that was wrong once left a key months ahead; the cursor once jumped to it and lost the overlap."""
    future = {key(dt.datetime(2026, 1, 1, minute=m, tzinfo=dt.UTC)) for m in range(60)}
    lake = future | {key(after(0)), key(after(14))}
    _, cursor = ticks(RawCursor(), lake)

    for news in (after(7), after(20), after(19)):
        lake.add(key(news))
        requested, cursor = ticks(cursor, lake)
        assert [day for day, _ in requested] == [NOON.date()], news


def test_a_key_of_tomorrow_is_requested_when_its_day_has_come() -> None:
    early = key(dt.datetime(2025, 9, 1, tzinfo=dt.UTC))
    _, cursor = ticks(RawCursor(), {early, key(after(0))})

    decision = decide(cursor, [early], first_day=FIRST_DAY, last_day=dt.date(2025, 9, 1), max_days=1)

    assert [request.day.isoformat() for request in decision.requests] == ["2025-09-01"]


def test_the_empty_object_of_a_folder_is_no_news() -> None:
    marker = KEYS.raw_day(NOON.date())

    decision = tick(RawCursor(), {marker})

    assert (decision.requests, decision.ignored) == ((), ())


def test_an_object_with_another_name_in_a_day_is_news_for_that_day() -> None:
    """It becomes a whole-file dead letter there, so somebody learns of it."""
    decision = tick(RawCursor(), {f"{KEYS.raw_day(NOON.date())}notes.txt"})

    assert [request.run_key for request in decision.requests] == ["2025-05-12:notes.txt"]


def test_an_unknown_cursor_starts_over() -> None:
    for text in (None, "", "{}x", '{"version": 2, "after": "raw/dt=2030"}', '{"version": 1, "more": 1}', "17"):
        assert RawCursor.load(text) == RawCursor(after="", seen=())


def test_a_cursor_survives_being_stored() -> None:
    _, cursor = ticks(RawCursor(), {key(after(0)), key(after(30))})

    assert cursor.after
    assert RawCursor.load(cursor.model_dump_json()) == cursor

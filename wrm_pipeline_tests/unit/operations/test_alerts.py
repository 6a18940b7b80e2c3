"""What alerts decide and say, as pure functions: nothing is lost, nothing is told twice, nobody is woken."""

import datetime as dt
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.operations.alerts import (
    ADVICE,
    FORGET_AFTER,
    MAX_CURSOR_BYTES,
    MAX_SEEN,
    MAX_STREAKS,
    REMIND_AFTER,
    AlertState,
    Attempts,
    Cause,
    Failed,
    Grade,
    Kind,
    News,
    Observation,
    Passed,
    Subject,
    Tone,
    What,
    cause_of,
    compose,
    duration,
    first_line,
    is_quiet,
    local_and_utc,
    observe,
    owed,
    read_on,
    settle,
    tell,
)
from wrm_pipeline.telemetry.redaction import register_secret

NOON = dt.datetime(2025, 5, 12, 12, tzinfo=dt.UTC)
JOB = Subject(kind=Kind.RUN, name="wrm_stations_processing_job", partition="2025-05-12")
INGEST = Subject(kind=Kind.RUN, name="wrm_stations_ingest_job")
CHECK = Subject(kind=Kind.CHECK, name="completeness", asset="wrm_stations_enhanced_data_all", partition="2025-05-12")
EMPTY = AlertState(version=1, after=0)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)


def failed(event: int, subject: Subject = JOB, *, at: dt.datetime = NOON, **more: object) -> Failed:
    facts = Failed(
        event, subject, at, "The store does not answer.", Cause.STORE, run_id=f"run-{event}", step="processed"
    )
    return replace(facts, **more)  # type: ignore[arg-type]


def passed(
    event: int, subject: Subject = JOB, *, at: dt.datetime = NOON, steps: frozenset[str] = frozenset()
) -> Passed:
    return Passed(event, subject, at, steps)


def told(state: AlertState, now: dt.datetime = NOON, channel: int = 1) -> tuple[list[What], AlertState]:
    """What a channel is owed, and the state once it has it."""
    news = owed(state, channel)
    return [each.what for each in news], tell(state, channel, news, now)


# --- A streak ---------------------------------------------------------------------------------------------------------


def test_a_streak_is_told_when_it_begins_and_when_it_ends_and_not_between() -> None:
    first, state = told(observe(EMPTY, [failed(1)]))
    between, state = told(observe(state, [failed(2, at=NOON + HOUR), failed(3, at=NOON + 2 * HOUR)]))
    after, state = told(observe(state, [passed(4, at=NOON + 3 * HOUR)]))

    assert (first, between, after) == ([What.FAILS], [], [What.RECOVERED])
    (streak,) = state.streaks
    assert (streak.first_at, streak.last_at, streak.count) == (NOON, NOON + 2 * HOUR, 3)
    assert streak.recovered_at == NOON + 3 * HOUR
    assert settle(state, [1], NOON).streaks == ()


def test_what_fails_again_after_it_recovered_is_another_streak() -> None:
    _, state = told(observe(EMPTY, [failed(1)]))

    again, _ = told(observe(state, [passed(2), failed(3)]))

    assert again == [What.RECOVERED, What.FAILS]


def test_what_failed_and_recovered_before_it_could_be_told_is_told_once() -> None:
    what, state = told(observe(EMPTY, [failed(1), failed(2), passed(3)]))

    assert what == [What.PASSED_BY]
    assert told(state)[0] == []


def test_jobs_partitions_and_checks_fail_each_for_themselves() -> None:
    others = [JOB.model_copy(update={"partition": "2025-05-13"}), INGEST, CHECK]
    state = observe(EMPTY, [failed(n, subject) for n, subject in enumerate([JOB, *others])])

    assert [streak.subject for streak in observe(state, [passed(9)]).streaks if streak.recovered_at] == [JOB]
    assert len(state.streaks) == 4


def test_a_success_of_what_did_not_fail_is_nothing() -> None:
    assert observe(EMPTY, [passed(1)]) == EMPTY


def test_a_run_that_does_the_step_that_failed_for_the_same_partition_repairs_it() -> None:
    """Whoever materializes the day by hand does not run the job that failed."""
    by_hand = Subject(kind=Kind.RUN, name="__ASSET_JOB", asset="processed", partition="2025-05-12")
    state = observe(EMPTY, [failed(1)])

    def recovers(run: Passed) -> bool:
        return observe(state, [run]).streaks[0].recovered_at is not None

    assert recovers(passed(2, by_hand, steps=frozenset({"processed", "other"})))
    assert not recovers(passed(2, by_hand, steps=frozenset({"other"})))
    assert not recovers(passed(2, by_hand))
    other_day = by_hand.model_copy(update={"partition": "2025-05-13"})
    assert not recovers(passed(2, other_day, steps=frozenset({"processed"})))


def test_a_check_is_not_repaired_by_another_check() -> None:
    state = observe(EMPTY, [failed(1, CHECK, step="")])

    again = observe(state, [passed(2, CHECK.model_copy(update={"name": "validity"}))])

    assert again.streaks[0].recovered_at is None


def test_what_still_fails_a_day_after_it_was_told_is_told_again_once() -> None:
    _, state = told(observe(EMPTY, [failed(1)]))
    just_before = observe(state, [failed(2, at=NOON + REMIND_AFTER - MINUTE)])
    a_day_later = observe(just_before, [failed(3, at=NOON + REMIND_AFTER)])

    assert told(just_before, NOON + 2 * REMIND_AFTER)[0] == []
    still, state = told(a_day_later, NOON + REMIND_AFTER)
    assert still == [What.STILL]
    assert told(observe(state, [failed(4, at=NOON + REMIND_AFTER + HOUR)]))[0] == []


def test_a_warning_that_becomes_an_error_is_told_at_once() -> None:
    _, state = told(observe(EMPTY, [failed(1, CHECK, grade=Grade.WARNING)]))

    worse, state = told(observe(state, [failed(2, CHECK)]))
    better, _ = told(observe(state, [failed(3, CHECK, grade=Grade.WARNING)]))

    assert (worse, better) == ([What.WORSE], [])


def test_a_notice_is_told_once_and_never_ends() -> None:
    notice = Subject(kind=Kind.NOTICE, name="3 dead letters are given up on")
    first, state = told(observe(EMPTY, [failed(1, notice)]))
    second, _ = told(observe(state, [failed(2, notice), passed(3, notice)]))

    assert (first, second) == ([What.NOTICE], [What.NOTICE])
    assert settle(state, [1], NOON).streaks == ()


def test_each_channel_knows_what_it_was_told_and_no_more() -> None:
    _, state = told(observe(EMPTY, [failed(1)]), channel=1)
    state = settle(state, [1, 2], NOON)

    assert told(state, channel=1)[0] == []
    assert told(state, channel=2)[0] == [What.FAILS]
    state = observe(state, [passed(2)])
    _, state = told(state, channel=1)
    assert told(settle(state, [1, 2], NOON), channel=2)[0] == [What.PASSED_BY]


# --- No failure is lost, whatever happens -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tick:
    """A tick `minutes` after the one before, in which things failed (True) or not, and some channels work."""

    minutes: int
    events: tuple[tuple[Subject, bool], ...]
    working: frozenset[int]


CHANNELS = (1, 2)
TICKS = st.builds(
    Tick,
    # At most 30 ticks make less than the three days after which what somebody knows is forgotten.
    minutes=st.sampled_from([1, 1, 5, 40, 61, 120]),
    events=st.lists(st.tuples(st.sampled_from([JOB, INGEST, CHECK]), st.booleans()), max_size=4).map(tuple),
    working=st.frozensets(st.sampled_from(CHANNELS)),
)
# Both changes of the clock lie within a day of a beginning.
BEGINNINGS = [NOON, dt.datetime(2025, 3, 29, 20, tzinfo=dt.UTC), dt.datetime(2025, 10, 25, 20, tzinfo=dt.UTC)]


@settings(max_examples=250, deadline=None)
@given(
    st.lists(TICKS, max_size=30),
    st.sampled_from(BEGINNINGS),
    st.sampled_from([None, "22-06", "00-01", "12-14", "23-22"]),
    st.integers(1, 3),
)
def test_each_streak_is_told_once_to_each_channel_and_so_is_its_end(
    ticks: list[Tick], beginning: dt.datetime, quiet: str | None, max_per_hour: int
) -> None:
    # In the end all channels work, and there is time: more than a day with nothing new.
    ticks = [*ticks, *[Tick(31, (), frozenset(CHANNELS))] * 60]
    state, attempts, now, event = EMPTY, Attempts(), beginning, 0
    heard: dict[int, list[News]] = defaultdict(list)
    written: dict[int, list[dt.datetime]] = defaultdict(list)
    streaks: dict[Subject, list[list[int]]] = defaultdict(list)  # by subject: first event, last event or nothing
    for tick in ticks:
        now += tick.minutes * MINUTE
        observations: list[Observation] = []
        for subject, good in tick.events:
            event += 1
            observations.append(passed(event, subject, at=now) if good else failed(event, subject, at=now))
            known = streaks[subject]
            if not good and (not known or len(known[-1]) == 2):
                known.append([event])
            elif good and known and len(known[-1]) == 1:
                known[-1].append(event)
        state = settle(observe(state, observations), CHANNELS, now)
        if not is_quiet(now, quiet):
            due = [channel for channel in CHANNELS if owed(state, channel)]
            attempts, free = attempts.reserve(due, now.timestamp(), max_per_hour)
            for channel in free:
                written[channel].append(now)
                if channel in tick.working:
                    news = owed(state, channel)
                    heard[channel] += news
                    state = tell(state, channel, news, now)
        state = settle(state, CHANNELS, now)
        loaded = AlertState.load(state.dump())
        assert loaded == state
        attempts = Attempts.load(attempts.model_dump_json())

    ends = {subject: [streak for streak in found if len(streak) == 2] for subject, found in streaks.items()}
    for channel in CHANNELS:
        began = [(n.streak.subject, n.streak.event) for n in heard[channel] if n.what in {What.FAILS, What.PASSED_BY}]
        ended = [
            (n.streak.subject, n.streak.event) for n in heard[channel] if n.what in {What.RECOVERED, What.PASSED_BY}
        ]
        key = lambda pair: (pair[1], str(pair[0]))  # noqa: E731
        assert sorted(began, key=key) == sorted(((s, x[0]) for s, found in streaks.items() for x in found), key=key)
        assert sorted(ended, key=key) == sorted(((s, x[0]) for s, found in ends.items() for x in found), key=key)
        for first, last in zip(written[channel], written[channel][max_per_hour:], strict=False):
            assert last - first >= HOUR
        assert not any(is_quiet(at, quiet) for at in written[channel])
    assert state.unnamed == {}
    assert {(s.subject, s.event) for s in state.streaks} == {
        (subject, found[-1][0]) for subject, found in streaks.items() if found and len(found[-1]) == 1
    }


def test_more_than_can_be_remembered_is_counted_and_the_count_told_once() -> None:
    days = [JOB.model_copy(update={"partition": f"day {n}"}) for n in range(MAX_STREAKS + 30)]
    state = settle(observe(EMPTY, [failed(n, day) for n, day in enumerate(days)]), [1, 2], NOON)

    assert len(state.streaks) == MAX_STREAKS
    assert state.unnamed == {1: 30, 2: 30}
    assert "And 30 more" in compose(owed(state, 1), environment="x", unnamed=30).body
    assert told(state, channel=1)[1].unnamed == {2: 30}


def test_what_was_told_makes_room_for_what_was_not_and_what_recovered_does_so_first() -> None:
    _, state = told(observe(EMPTY, [failed(1, INGEST), failed(2, CHECK)]))
    state = observe(state, [passed(3, CHECK)])

    def kept_of_the_told(new: int) -> set[Subject]:
        days = [JOB.model_copy(update={"partition": f"day {n}"}) for n in range(new)]
        after = settle(observe(state, [failed(10 + n, day) for n, day in enumerate(days)]), [1], NOON)
        kept = {streak.subject for streak in after.streaks}
        assert kept >= {*days}
        assert after.unnamed == {}
        return kept - {*days}

    assert kept_of_the_told(MAX_STREAKS - 2) == {INGEST, CHECK}
    assert kept_of_the_told(MAX_STREAKS - 1) == {INGEST}
    assert kept_of_the_told(MAX_STREAKS) == set()


def test_an_error_is_kept_until_all_have_been_told_of_it() -> None:
    untold = settle(observe(EMPTY, [failed(1)]), [1, 2], NOON)
    _, half = told(untold, channel=1)
    _, whole = told(half, channel=2)

    assert [settle(state, [1, 2], NOON).streaks[0].error != "" for state in (untold, half, whole)] == [
        True,
        True,
        False,
    ]


def test_the_cursor_stays_small_at_the_worst() -> None:
    names = [Subject(kind=Kind.CHECK, name="n" * 60, asset="a" * 60, partition=f"2025-05-{n:04}") for n in range(500)]
    state = observe(
        EMPTY, [failed(n, name, error=first_line("e" * 999), run_id="r" * 36) for n, name in enumerate(names)]
    )
    for channel in (1, 2, 3):
        _, state = told(settle(state, [1, 2, 3, 4], NOON), channel=channel)
    state = read_on(state, range(10**9, 10**9 + 5000))

    assert len(settle(state, [1, 2, 3, 4], NOON).dump()) < MAX_CURSOR_BYTES


def test_what_all_know_and_what_has_not_failed_for_days_is_forgotten() -> None:
    _, state = told(observe(EMPTY, [failed(1)]))

    assert settle(state, [1], NOON + FORGET_AFTER - MINUTE).streaks != ()
    assert settle(state, [1], NOON + FORGET_AFTER).streaks == ()
    # A channel that did not work for as long is told that there was something.
    assert settle(state, [1, 2], NOON + FORGET_AFTER).unnamed == {2: 1}


def test_what_nobody_knows_is_not_forgotten_however_old_it_is() -> None:
    """After a week without a daemon, the first tick reads failures that are a week old."""
    state = settle(observe(EMPTY, [failed(1)]), [1], NOON + 7 * REMIND_AFTER)

    assert told(state)[0] == [What.FAILS]


@pytest.mark.parametrize("text", [None, "", "off", "{}", "17", '{"version": 2, "after": 3}', '{"version": 1}'])
def test_an_unknown_cursor_is_none(text: str | None) -> None:
    assert AlertState.load(text) is None


# --- Which events were read -------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=8), st.integers(1, 4))
def test_each_event_is_read_once_also_one_whose_transaction_ended_a_tick_late(lags: list[list[int]], page: int) -> None:
    """PostgreSQL hands out ids when a transaction writes, and shows what it wrote when it ends."""
    visible: list[set[int]] = []
    number = 0
    for tick, batch in enumerate(lags):
        for lag in batch:
            number += 1
            while len(visible) <= tick + 1:
                visible.append(set())
            visible[tick + (lag == 3)].add(number)  # one in four is late by a tick
    state, read, log = EMPTY, [], set[int]()
    for batch_visible in [*visible, *[set[int]()] * (2 * number + 3)]:
        log |= batch_visible
        # Large enough for all that is new in a tick, when there is no backlog.
        found = sorted(n for n in log if n > state.after)[: page * 6 + len(state.seen)]
        read += [n for n in found if n not in state.seen]
        state = read_on(state, found)
    assert sorted(read) == list(range(1, number + 1))


def test_a_backlog_is_read_page_by_page_and_only_so_much_is_remembered() -> None:
    state, read = EMPTY, []
    for _ in range(40):
        page = [n for n in range(1, 3001) if n > state.after][: 500 + len(state.seen)]
        read += [n for n in page if n not in state.seen]
        state = read_on(state, page)
        assert len(state.seen) <= MAX_SEEN

    assert read == list(range(1, 3001))
    assert (state.after, state.seen) == (3000, ())


# --- When -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "quiet"),
    [
        (None, set()),
        ("22-06", {22, 23, 0, 1, 2, 3, 4, 5}),
        ("12-14", {12, 13}),
        ("00-23", {*range(23)}),
        ("08-08", set()),
    ],
)
def test_quiet_hours_are_those_of_the_citys_clocks_in_summer_and_in_winter(hours: str | None, quiet: set[int]) -> None:
    for day, offset in ((dt.date(2025, 7, 1), 2), (dt.date(2025, 1, 10), 1)):
        midnight = dt.datetime.combine(day, dt.time(), dt.timezone(offset * HOUR))
        assert {h for h in range(24) if is_quiet(midnight + h * HOUR + 59 * MINUTE, hours)} == quiet


@pytest.mark.parametrize(
    ("night", "ends"),
    [
        (dt.datetime(2025, 3, 29, 21, tzinfo=dt.UTC), dt.datetime(2025, 3, 30, 4, tzinfo=dt.UTC)),
        (dt.datetime(2025, 10, 25, 20, tzinfo=dt.UTC), dt.datetime(2025, 10, 26, 5, tzinfo=dt.UTC)),
    ],
    ids=["a short night", "a long night"],
)
def test_the_night_in_which_the_clock_changes_is_quiet_from_22_to_06(night: dt.datetime, ends: dt.datetime) -> None:
    minutes = [night - MINUTE + n * MINUTE for n in range(700)]
    quiet = [time for time in minutes if is_quiet(time, "22-06")]

    assert (quiet[0], quiet[-1]) == (night, ends - MINUTE)
    assert {later - earlier for earlier, later in pairwise(quiet)} == {MINUTE}


def test_an_attempt_that_was_not_made_does_not_count() -> None:
    attempts, free = Attempts().reserve([1, 2], 1000.0, 1)
    assert free == {1, 2}

    attempts = attempts.release([2], 1000.0)

    assert attempts.reserve([1, 2], 1001.0, 1)[1] == {2}
    both = attempts.reserve([1], 1000.0, 2)[0].release([1], 1000.0)
    assert both == attempts, "what the other sensor wrote in the same second still counts"
    assert attempts.reserve([1, 2], 4599.0, 1)[1] == {2}
    assert attempts.reserve([1, 2], 4600.0, 1)[1] == {1, 2}


@pytest.mark.parametrize("text", [None, "", "nonsense", '{"version": 2}'])
def test_attempts_that_are_not_understood_are_none(text: str | None) -> None:
    assert Attempts.load(text) == Attempts()


# --- Words ------------------------------------------------------------------------------------------------------------


def message_of(
    *observations: Observation, told_at: dt.datetime | None = None, url: str | None = "http://d:3000"
) -> str:
    state = observe(EMPTY, [each for each in observations if told_at is None or each.at < told_at])
    if told_at is not None:
        _, state = told(state, told_at)
        state = observe(state, [each for each in observations if each.at >= told_at])
    message = compose(owed(state, 1), environment="production", dagster_url=url)
    return f"{message.tone}: {message.title}\n{message.body}"


def test_a_failure_says_what_since_when_how_often_why_where_and_what_to_do() -> None:
    assert message_of(failed(1), failed(2, at=NOON + 5 * MINUTE)) == (
        "failure: [wrm production] wrm_stations_processing_job for 2025-05-12 failed\n"
        "wrm_stations_processing_job for 2025-05-12 failed\n"
        "Step: processed\n"
        "Since: 2025-05-12 12:00 UTC (14:00 in Wrocław)\n"
        "How often: 2 times, last 2025-05-12 12:05 UTC (14:05 in Wrocław)\n"
        "Error: The store does not answer.\n"
        "See: http://d:3000/runs/run-2\n"
        "Try: `wrm doctor` checks the store's address, keys and clock. The next run goes on from here."
    )


def test_a_recovery_says_how_long_and_how_often() -> None:
    assert message_of(failed(1, INGEST), passed(2, INGEST, at=NOON + 185 * MINUTE), told_at=NOON + MINUTE) == (
        "success: [wrm production] wrm_stations_ingest_job works again\n"
        "wrm_stations_ingest_job works again\n"
        "Step: processed\n"
        "Since: 2025-05-12 12:00 UTC (14:00 in Wrocław)\n"
        "Until: 2025-05-12 15:05 UTC (17:05 in Wrocław), after 3 h 5 min\n"
        "How often: once\n"
        "Last error: The store does not answer.\n"
        "See: http://d:3000/runs/run-1"
    )


def test_a_check_names_its_asset_and_severity_and_links_to_the_check() -> None:
    text = message_of(failed(1, CHECK, grade=Grade.WARNING, cause=Cause.CHECK, step=""))

    assert text.startswith(
        "warning: [wrm production] Check completeness of wrm_stations_enhanced_data_all for 2025-05-12 fails (warning)"
    )
    assert "http://d:3000/assets/wrm_stations_enhanced_data_all?view=checks&checkDetail=completeness" in text
    assert "passes again" in message_of(failed(1, CHECK), passed(2, CHECK, at=NOON + HOUR), told_at=NOON + MINUTE)


def test_without_the_address_of_dagster_the_run_is_named() -> None:
    assert "See: run run-1\n" in message_of(failed(1), url=None)


def test_partitions_that_fail_for_one_reason_are_told_together() -> None:
    days = [JOB.model_copy(update={"partition": f"2025-05-{n:02}"}) for n in range(1, 14)]

    text = message_of(*[failed(n, day) for n, day in enumerate(days)])

    assert text.count("`wrm doctor`") == 1
    assert "for 2025-05-01, 2025-05-02," in text
    assert "2025-05-10 and 3 more failed" in text
    assert "How often: 13 times" in text


def test_of_many_the_worst_come_first_and_recoveries_last() -> None:
    state = observe(EMPTY, [failed(1, INGEST), passed(2, INGEST), failed(3, CHECK, grade=Grade.WARNING), failed(4)])
    message = compose(owed(state, 1), environment="staging")

    heads = [part.splitlines()[0] for part in message.body.split("\n\n")]
    assert [head.split()[0] for head in heads] == ["wrm_stations_processing_job", "Check", "wrm_stations_ingest_job"]
    assert message.title == "[wrm staging] 2 failing and 1 recovered"
    assert message.tone is Tone.FAILURE


@pytest.mark.parametrize("number", [6, 40, MAX_STREAKS])
def test_a_message_fits_where_it_goes_and_counts_what_it_does_not_name(number: int) -> None:
    jobs = [Subject(kind=Kind.RUN, name=f"job_{n:03}_{'x' * 40}") for n in range(number)]
    state = observe(EMPTY, [failed(n, job, error="e" * 200) for n, job in enumerate(jobs)])

    body = compose(owed(state, 1), environment="x", dagster_url="http://d:3000").body

    named = sum(job.name in body for job in jobs)
    assert len(body) < 4000
    assert named >= 6
    assert (f"And {number - named} more" in body) == (number > named)


def test_what_redrives_gave_up_on_is_told_with_what_to_do() -> None:
    notice = Subject(kind=Kind.NOTICE, name="3 dead letters are given up on")

    text = message_of(failed(1, notice, error="", cause=Cause.LETTERS, step=""), failed(2, notice, cause=Cause.LETTERS))

    assert text.count("3 dead letters are given up on\nWhen: ") == 1
    assert text.count("3 dead letters are given up on\nStep: ") == 1
    assert "`wrm dlq list`" in text
    assert "How often" not in text


def test_a_time_near_midnight_shows_both_dates() -> None:
    assert local_and_utc(dt.datetime(2025, 5, 12, 22, 5, tzinfo=dt.UTC)) == (
        "2025-05-12 22:05 UTC (2025-05-13 00:05 in Wrocław)"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3_599, "59 min"), (7_500, "2 h 5 min"), (180_000, "2 d 2 h")],
)
def test_a_duration_is_told_in_its_largest_units(seconds: int, words: str) -> None:
    assert duration(dt.timedelta(seconds=seconds)) == words


def test_the_first_line_holds_no_secret_and_no_credentials() -> None:
    register_secret("canary-of-the-alerts")

    assert first_line("\n  The key canary-of-the-alerts is wrong.\nsecond") == "The key [redacted] is wrong."
    assert first_line("GET https://user:word@host/x and redis://:other@h:1 fail") == (
        "GET https://***@host/x and redis://***@h:1 fail"
    )
    assert first_line("Error while executing:\nb: c\nd") == "Error while executing: b: c"
    assert len(first_line("x" * 1000)) == 200
    assert first_line(" \n") == ""


def test_every_error_that_the_pipeline_raises_has_advice_of_its_own() -> None:
    def with_subclasses(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(sub for child in kind.__subclasses__() for sub in with_subclasses(child))]

    own = [c for c in with_subclasses(ExpectedError) if "wrm_pipeline." in c.__module__]
    unknown = {c.__name__ for c in own if cause_of([c.__name__]) is Cause.OTHER}

    # What only the command line raises ends in a terminal.
    assert unknown <= {"ExpectedError", "LineageKeyError", "LocalServerError", "QueryError", "SimulatorError"}
    assert {*ADVICE} == {*Cause}


def test_the_deepest_known_error_decides_what_to_try() -> None:
    assert cause_of(["Failure", "LayerError", "StoreUnavailable"]) is Cause.STORE
    assert cause_of(["Failure", "NoRawDataError", "KeyError"]) is Cause.DAY
    assert cause_of(["DagsterExecutionStepExecutionError", "ValueError"]) is Cause.OTHER
    assert cause_of([]) is Cause.PROCESS


def test_the_cursor_is_json_with_its_version() -> None:
    assert json.loads(EMPTY.dump()) == {"version": 1, "after": 0}

"""Each rule for snapshots: polls that meet it, and polls that just do not; and days of nearly nothing."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.model import Rule
from wrm_pipeline.contracts.vocabulary import VOCABULARY, Scope
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline.transform.snapshots import SNAPSHOT_RULES, SnapshotFinding, judge_snapshots
from wrm_pipeline_tests.fixtures.dagster import DAY, at
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, bike_row, payload, row, snapshot_of

RULES = {rule.name: rule for rule in CONTRACTS.raw.of_scope(Scope.SNAPSHOT)}
MIDNIGHT = at(0, day=DAY + dt.timedelta(days=1))
YESTERDAY = DAY - dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)
POLL = dt.timedelta(minutes=5)
# Ten in the morning in Warsaw, in summer.
BY_DAY = at(8)


def enhanced(snapshots: Mapping[dt.datetime, Sequence[bytes]]) -> pa.Table:
    """The rows of enhanced of some snapshots, by their times."""
    parsed = FORMAT.parse(snapshot_of(payload(*lines), f"raw/{t:%H%M%S}.txt", t) for t, lines in snapshots.items())
    assert parsed.rejects == ()
    return enhance(parsed.rows, DAY, CONTRACTS.enhanced).rows


def stations(count: int, bikes: int = 6) -> list[bytes]:
    return [row(str(15001 + number), bikes=str(bikes)) for number in range(count)]


def polls(first: dt.datetime, counts: Sequence[int]) -> dict[dt.datetime, list[bytes]]:
    """A snapshot every five minutes with so many stations each; no two in a row are alike."""
    return {first + n * POLL: stations(count, bikes=n % 7) for n, count in enumerate(counts)}


def judge(
    rule: str, rows: pa.Table, before: pa.Table | None = None, until: dt.datetime = MIDNIGHT, **numbers: float
) -> list[SnapshotFinding]:
    judged = replace(RULES[rule], arguments={**RULES[rule].arguments, **numbers})
    found = judge_snapshots(rows, before, [judged], day=DAY, until=until)
    assert {finding.rule for finding in found} <= {rule}
    return found


def times(found: Sequence[SnapshotFinding]) -> list[dt.datetime]:
    return [finding.time for finding in found]


def test_every_rule_for_snapshots_that_there_is_is_one_here() -> None:
    assert set(SNAPSHOT_RULES) == {name for name, spec in VOCABULARY.items() if spec.scope is Scope.SNAPSHOT}


# partial_snapshot: under 90 % of the median of up to twelve snapshots before it


@pytest.mark.parametrize(("count", "partial"), [(9, False), (8, True), (0, True), (30, False)])
def test_a_snapshot_with_fewer_stations_than_a_share_of_the_median_is_partial(count: int, partial: bool) -> None:
    snapshots = polls(BY_DAY, [10, 10, 10, count])
    last = max(snapshots)
    snapshots[last] = [*snapshots[last], bike_row()]  # bikes come and go, and count nothing

    found = judge("partial_snapshot", enhanced(snapshots))

    assert times(found) == ([last] if partial else [])
    if partial:
        (finding,) = found
        assert finding.snapshots == (last,)
        assert finding.message.startswith(f"{count} stations, {10 * count} % of 10, the median of the 3 snapshots")


def test_two_snapshots_are_no_median() -> None:
    assert judge("partial_snapshot", enhanced(polls(BY_DAY, [10, 10, 1]))) == []


def test_the_median_is_of_the_window_alone() -> None:
    """Twenty stations were switched off for good two windows ago: what is left is the new habit."""
    rows = enhanced(polls(BY_DAY, [*[30] * 4, *[10] * 8, 10, 9]))

    assert len(judge("partial_snapshot", rows, window=3)) == 2  # until most of the window is new
    assert len(judge("partial_snapshot", rows, window=12)) == 5


def test_the_median_goes_over_midnight() -> None:
    before = enhanced(polls(at(23, 45, day=YESTERDAY), [10, 10, 10]))

    found = judge("partial_snapshot", enhanced({at(0): stations(5)}), before)

    assert times(found) == [at(0)]
    assert judge("partial_snapshot", enhanced({at(0): stations(5)})) == []


# frozen_feed: nothing but timestamps changed for six polls in a row, from 6 to 22 o'clock in Warsaw


def frozen(first: dt.datetime, count: int, every: dt.timedelta = POLL) -> dict[dt.datetime, list[bytes]]:
    """Snapshots that differ in their rows' times alone."""
    base = int(first.timestamp())
    return {
        first + n * every: [row(str(15001 + i), time=f"{base + 300 * n}.{i:06}|-7200|-3600") for i in range(3)]
        for n in range(count)
    }


@pytest.mark.parametrize(("count", "found"), [(6, 0), (7, 1), (20, 1)])
def test_a_feed_that_stands_still_for_six_polls_is_frozen_and_said_so_once(count: int, found: int) -> None:
    snapshots = frozen(BY_DAY, count)

    findings = judge("frozen_feed", enhanced(snapshots))

    assert len(findings) == found
    if found:
        (finding,) = findings
        # The first of them is what the others do not differ from.
        assert finding.snapshots == tuple(snapshots)[1:]
        assert finding.time == BY_DAY + POLL
        assert f"in {count - 1} polls in a row, 2025-05-12 08:05:00 UTC to" in finding.message


def test_a_frozen_feed_whose_rows_grow_stale_is_frozen_still() -> None:
    """A row's own time then lies over an hour back, and its flags change with it; the city's state does not."""
    snapshots = {BY_DAY + n * POLL: [row(time=f"{int(BY_DAY.timestamp())}|-7200|-3600")] for n in range(30)}
    rows = enhanced(snapshots)
    assert {len(flags) for flags in rows.column("quality_flags").to_pylist()} == {0, 1}

    (finding,) = judge("frozen_feed", rows)

    assert len(finding.snapshots) == 29


CHANGES: dict[str, dict[str, Any]] = {
    "a bike fewer": {"bikes": "5"},
    "a space more": {"spaces": "11"},
    "a name": {"name": "Plac Grunwaldzki"},
    "locked": {"locked": "true"},
    "moved": {"lat": "51.11"},
    "the overloaded text": {"overloaded": "true"},
    "another station": {"station_id": "15999"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_any_change_of_the_state_thaws_the_feed(change: dict[str, Any]) -> None:
    snapshots = frozen(BY_DAY, 12)
    rows = enhanced(snapshots)
    assert len(judge("frozen_feed", rows)) == 1
    middle = BY_DAY + 6 * POLL
    snapshots[middle] = [*snapshots[middle][:2], row(**{"station_id": "15003", **change})]

    assert judge("frozen_feed", enhanced(snapshots)) == []


def test_a_station_that_is_gone_thaws_the_feed() -> None:
    snapshots = frozen(BY_DAY, 12)
    middle = BY_DAY + 6 * POLL
    snapshots[middle] = snapshots[middle][:2]

    assert judge("frozen_feed", enhanced(snapshots)) == []


@pytest.mark.parametrize(
    ("first", "is_frozen"),
    [
        (at(3, 25), False),  # from 05:30 in Warsaw, where six polls end at 05:55
        (at(3, 55), True),  # from 06:00
        (at(19, 25), True),  # from 21:30 to 21:55
        (at(19, 30), False),  # the last one at 22:00
        (at(23, 0, day=YESTERDAY), False),
    ],
)
def test_by_night_a_city_may_stand_still(first: dt.datetime, is_frozen: bool) -> None:
    assert bool(judge("frozen_feed", enhanced(frozen(first, 7)))) is is_frozen


def test_the_hours_are_those_of_the_city_in_winter_too() -> None:
    winter = dt.datetime(2025, 12, 1, 4, 55, tzinfo=dt.UTC)  # 05:55 in Warsaw

    assert len(judge("frozen_feed", enhanced(frozen(winter, 7)))) == 1
    assert judge("frozen_feed", enhanced(frozen(winter - POLL, 7))) == []


# late_snapshot: over 450 s after the one before it; coverage_gap: over 900 s, or to the end of the day


@pytest.mark.parametrize(
    ("after_s", "late", "gap"), [(300, 0, 0), (450, 0, 0), (451, 1, 0), (900, 1, 0), (901, 1, 1), (7200, 1, 1)]
)
def test_a_snapshot_is_late_after_one_and_a_half_polls_and_a_gap_is_three_polls(
    after_s: int, late: int, gap: int
) -> None:
    second = BY_DAY + after_s * SECOND
    rows, before = enhanced({BY_DAY: stations(1), second: stations(1)}), enhanced({BY_DAY - POLL: stations(1)})

    for rule, count in (("late_snapshot", late), ("coverage_gap", gap)):
        found = judge(rule, rows, before, until=second)
        assert times(found) == [second] * count
        assert all(finding.snapshots == (second,) for finding in found)


def test_a_late_snapshot_says_how_late() -> None:
    (finding,) = judge("late_snapshot", enhanced({BY_DAY: stations(1), at(9, 1): stations(1)}))

    assert finding.message == "it came 1:01:00 h after the one before it, 2025-05-12 08:00:00 UTC"


@pytest.mark.parametrize(("last", "late", "gap"), [(55, 0, 0), (50, 1, 0), (44, 1, 1)])
def test_lateness_and_gaps_go_over_midnight(last: int, late: int, gap: int) -> None:
    before = enhanced({at(23, last, day=YESTERDAY): stations(1)})
    rows = enhanced({at(0): stations(1)})

    assert len(judge("late_snapshot", rows, before, until=at(0))) == late
    assert len(judge("coverage_gap", rows, before, until=at(0))) == gap


def test_without_a_day_before_the_first_snapshot_is_not_late_and_what_is_missing_begins_with_the_day() -> None:
    rows = enhanced({BY_DAY: stations(1)})

    assert judge("late_snapshot", rows) == []
    (finding,) = judge("coverage_gap", rows, until=BY_DAY)
    assert finding.message == "nothing came for 8:00:00 h, from 2025-05-12 00:00:00 UTC to 2025-05-12 08:00:00 UTC"


@pytest.mark.parametrize(("minutes", "gap"), [(15, False), (16, True)])
def test_what_is_missing_at_the_end_is_a_gap_that_no_snapshot_ends(minutes: int, gap: bool) -> None:
    before, until = enhanced({BY_DAY - POLL: stations(1)}), BY_DAY + dt.timedelta(minutes=minutes)

    found = judge("coverage_gap", enhanced({BY_DAY: stations(1)}), before, until=until)

    assert times(found) == ([until] if gap else [])
    assert all(finding.snapshots == () for finding in found)


def test_a_snapshot_from_a_clock_that_is_ahead_leaves_no_gap() -> None:
    before = enhanced({BY_DAY - POLL: stations(1)})

    assert judge("coverage_gap", enhanced({BY_DAY: stations(1)}), before, until=BY_DAY - 4 * POLL) == []


# Days of nearly nothing, and days as they are


def all_rules(rows: pa.Table, before: pa.Table | None = None) -> list[SnapshotFinding]:
    return judge_snapshots(rows, before, list(RULES.values()), day=DAY, until=MIDNIGHT)


@pytest.mark.parametrize("before", [None, ENHANCED.empty_table(), enhanced({at(23, 55, day=YESTERDAY): stations(1)})])
def test_a_day_without_rows_is_one_gap(before: pa.Table | None) -> None:
    (finding,) = all_rules(ENHANCED.empty_table(), before)

    assert (finding.rule, finding.time, finding.snapshots) == ("coverage_gap", MIDNIGHT, ())


def test_a_day_with_one_snapshot_is_covered_neither_before_nor_after_it() -> None:
    found = all_rules(enhanced({BY_DAY: stations(1)}))

    assert [(finding.rule, finding.time) for finding in found] == [("coverage_gap", BY_DAY), ("coverage_gap", MIDNIGHT)]


def test_a_full_day_that_changes_all_the_time_has_no_finding() -> None:
    assert all_rules(enhanced(polls(at(0), [4] * 288))) == []


def test_only_columns_of_time_and_type_are_asked_of_the_day_before() -> None:
    before = enhanced(polls(at(23, 45, day=YESTERDAY), [10, 10, 10])).select(["file_timestamp", "record_type"])

    assert [finding.rule for finding in all_rules(enhanced(polls(at(0), [2] * 288)), before)][:1] == [
        "partial_snapshot"
    ]


ODD_DAYS = st.lists(
    st.tuples(st.integers(0, 1439), st.integers(1, 6), st.integers(0, 2)), unique_by=lambda poll: poll[0], max_size=25
)


@settings(max_examples=60, deadline=None)
@given(odd=ODD_DAYS, chance=st.randoms(use_true_random=False))
def test_findings_do_not_depend_on_the_order_of_rows_and_are_about_snapshots_of_the_day(
    odd: list[tuple[int, int, int]], chance: Any
) -> None:
    snapshots = {at(0) + minute * dt.timedelta(minutes=1): stations(count, bikes) for minute, count, bikes in odd}
    rows = enhanced(dict(sorted(snapshots.items())))
    order = list(snapshots)
    chance.shuffle(order)

    found = all_rules(rows)

    assert found == all_rules(enhanced({time: snapshots[time] for time in order}))
    assert found == sorted(found, key=lambda finding: finding.time)
    for finding in found:
        assert set(finding.snapshots) <= set(snapshots)
        assert at(0) <= finding.time <= MIDNIGHT


def test_the_rules_are_those_given() -> None:
    rules: list[Rule] = [RULES["late_snapshot"]]

    found = judge_snapshots(enhanced({BY_DAY: stations(1), at(9): stations(1)}), None, rules, day=DAY, until=MIDNIGHT)

    assert [finding.rule for finding in found] == ["late_snapshot"]

"""Each rule for days: a day that fails it, and one that just does not; what blocks, what warns, what is shown."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.model import Dimension, Rule, Severity
from wrm_pipeline.contracts.vocabulary import VOCABULARY, Scope
from wrm_pipeline.lake.day_object import Source
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline.transform.quality import (
    DAY_RULES,
    LETTERS_RULE,
    SHOWN,
    Evidence,
    Judgment,
    PastDay,
    judge,
    judge_letters,
    unjudged,
)
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline_tests.fixtures.dagster import DAY, at
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, EPOCH, FORMAT, bike_row, payload, row, snapshot_of

CONTRACT = CONTRACTS.enhanced
SNAPSHOT_RULES = CONTRACTS.raw.of_scope(Scope.SNAPSHOT)
RULES: dict[str, Rule] = {rule.name: rule for rule in (*CONTRACT.of_scope(Scope.DAY), *SNAPSHOT_RULES)}
DIMENSIONS = {
    rule.name: rule.dimension
    for contract in CONTRACTS
    for rule in contract.of_scope(Scope.FIELD, Scope.ROW, Scope.SNAPSHOT)
}
MIDNIGHT = at(0)
LATER = at(12, day=DAY + dt.timedelta(days=3))
MONDAYS = [DAY - dt.timedelta(weeks=back) for back in (4, 3, 2, 1)]
POLL = dt.timedelta(minutes=5)


def key(time: dt.datetime) -> str:
    return f"raw/{time:%H%M%S}.txt"


def day(snapshots: Mapping[dt.datetime, Sequence[bytes]], **more: Any) -> Evidence:
    """The evidence of a day in the past that is as good as its snapshots are; rows have their snapshot's time."""
    timed = {
        time: payload(*(line.replace(EPOCH.encode(), f"{time.timestamp():f}".encode()) for line in lines))
        for time, lines in snapshots.items()
    }
    parsed = FORMAT.parse(snapshot_of(body, key(time), time) for time, body in timed.items())
    sources = tuple(Source(t.source_key, t.source_key, t.rows, t.kept, t.dead, t.duplicates) for t in parsed.tallies)
    plain = Evidence(
        contract=CONTRACT,
        day=DAY,
        now=LATER,
        sources=sources,
        rows=enhance(parsed.rows, DAY, CONTRACT).rows,
        raw={source.key: source.etag for source in sources},
        snapshot_rules=SNAPSHOT_RULES,
        dimensions=DIMENSIONS,
    )
    return replace(plain, **more)


def polls(count: int, first: dt.datetime = MIDNIGHT, rows: int = 3) -> dict[dt.datetime, list[bytes]]:
    """So many snapshots of a few stations, none like the one before it; all docks are accounted for."""
    return {
        first + n * POLL: [row(str(15001 + i), bikes=str(n % 5), spaces=str(16 - n % 5)) for i in range(rows)]
        for n in range(count)
    }


def good(**more: Any) -> Evidence:
    return day(polls(4), **more)


def by(rule: str, evidence: Evidence, **numbers: float) -> Judgment:
    judged = RULES[rule]
    return judge(evidence, replace(judged, arguments={**judged.arguments, **numbers}))


def counted(evidence: Evidence, **counts: int) -> Evidence:
    """The evidence with other numbers recorded for its first source."""
    first, *others = evidence.sources
    assert isinstance(first, Source)
    return replace(evidence, sources=(replace(first, **counts), *others))


def test_every_rule_for_days_and_snapshots_that_there_is_is_one_here() -> None:
    wanted = {name for name, spec in VOCABULARY.items() if spec.scope in {Scope.DAY, Scope.SNAPSHOT}}

    assert {*DAY_RULES, LETTERS_RULE} == wanted


def test_a_full_day_passes_every_rule() -> None:
    weeks = tuple(PastDay(monday, 864, 288) for monday in MONDAYS)
    evidence = day(polls(288), weeks=weeks, before=day(polls(288, at(0) - 288 * POLL)).rows)

    judgments = [judge(evidence, rule) for rule in RULES.values()]

    assert [judgment.rule.name for judgment in judgments if not judgment.passed] == []
    assert not any(judgment.blocks for judgment in judgments)
    assert all(judgment.summary.endswith(".") for judgment in judgments)
    assert judgments[0].rule is RULES["schema"]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("running", [False, True])
def test_a_day_without_a_row_is_judged_like_any_other(name: str, running: bool) -> None:
    nothing = Evidence(
        contract=CONTRACT,
        day=DAY,
        now=at(0, 20) if running else LATER,
        sources=(Source("raw/1.txt", "e", fault="html"),),
        rows=ENHANCED.empty_table(),
        raw={"raw/1.txt": "e"},
        snapshot_rules=SNAPSHOT_RULES,
        dimensions=DIMENSIONS,
        weeks=tuple(PastDay(monday, 864, 288) for monday in MONDAYS),
    )

    judgment = by(name, nothing)

    assert not judgment.blocks
    failing = {"snapshots_received", "volume", "completeness", "coverage_gap"}
    assert judgment.passed is (name not in (failing | {"newest_row_age"} if running else failing))


# Severity: what an error is, what a warning


@pytest.mark.parametrize("severity", Severity)
def test_a_failure_blocks_when_the_contract_has_it_as_an_error(severity: Severity) -> None:
    late = day(polls(4), now=LATER)
    rule = replace(RULES["snapshots_received"], severity=severity)

    judgment = judge(late, rule)

    assert not judgment.passed
    assert judgment.blocks is (severity is Severity.ERROR)
    assert judgment.severity is severity


@pytest.mark.parametrize("severity", Severity)
def test_a_finding_about_snapshots_has_its_contracts_severity_and_blocks_nothing(severity: Severity) -> None:
    judgment = judge(good(), replace(RULES["coverage_gap"], severity=severity))

    assert (judgment.passed, judgment.blocks, judgment.severity) == (False, False, severity)


def test_a_day_that_is_not_there_fails_and_blocks_where_the_contract_says_error() -> None:
    assert unjudged(RULES["unique"], "It is gone.") == Judgment(RULES["unique"], False, "It is gone.", blocks=True)
    assert not unjudged(RULES["volume"], "It is gone.").blocks
    assert not unjudged(replace(RULES["late_snapshot"], severity=Severity.ERROR), "It is gone.").blocks


# schema


def test_rows_that_break_a_bound_block_and_are_shown_with_station_and_time() -> None:
    evidence = good()
    bikes = pa.array([-1, *evidence.rows.column("bikes").to_pylist()[1:]], pa.int32())
    at_bikes = evidence.rows.column_names.index("bikes")
    evidence = replace(evidence, rows=evidence.rows.set_column(at_bikes, ENHANCED.field("bikes"), bikes))

    judgment = by("schema", evidence)

    assert (judgment.passed, judgment.blocks) == (False, True)
    assert judgment.summary == "bikes: >= 0 (1 rows)."
    assert judgment.failing == (
        {"column": "bikes", "check": ">= 0", "failing": 1, "value": -1, "row": 0}
        | {"station_id": "15001", "file_timestamp": at(0)},
    )


LOOK_AT_ROWS = ["reconciliation", "unique", "newest_row_age", "snapshots_received", "accuracy", "late_snapshot"]


@pytest.mark.parametrize("name", LOOK_AT_ROWS)
@pytest.mark.parametrize("damage", ["dropped", "retyped", "null"])
def test_rules_that_need_a_column_that_is_not_as_it_should_be_say_so(name: str, damage: str) -> None:
    evidence = good()
    rows = evidence.rows.drop(["file_timestamp"])
    if damage == "retyped":
        rows = rows.append_column("file_timestamp", pa.array(["noon"] * rows.num_rows))
    elif damage == "null":
        type_ = ENHANCED.field("file_timestamp").type
        rows = rows.append_column("file_timestamp", pa.nulls(rows.num_rows, type_))
    evidence = replace(evidence, rows=rows)

    judgment = by(name, evidence)

    assert not judgment.passed
    assert judgment.blocks is RULES[name].is_error
    assert "file_timestamp" in judgment.summary
    assert "See the check `schema`" in judgment.summary
    assert by("schema", evidence).blocks
    assert by("inputs", evidence).passed


# reconciliation


@pytest.mark.parametrize(
    ("counts", "balanced"),
    [
        ({}, True),
        ({"rows": 6, "dead": 2, "duplicates": 1}, True),
        ({"rows": 4}, False),
        ({"dead": 1}, False),
        ({"duplicates": 1}, False),
        ({"rows": 4, "kept": 4}, False),  # balanced in itself, and a row more than there are
        ({"rows": 2, "kept": 2}, False),
    ],
)
def test_raw_is_kept_and_dead_and_duplicates_for_each_source(counts: dict[str, int], balanced: bool) -> None:
    judgment = by("reconciliation", counted(good(), **counts))

    assert (judgment.passed, judgment.blocks) == (balanced, not balanced)
    if balanced:
        assert judgment.summary.endswith("for each of 4 sources.")
    else:
        (failing,) = judgment.failing
        assert (failing["source"], failing["stored"]) == (key(at(0)), 3)
        assert key(at(0)).rpartition("/")[2] in judgment.summary


def test_rows_that_one_source_lost_are_not_made_up_for_by_another() -> None:
    evidence = good()
    first, second, *others = evidence.sources
    sources = (replace(first, kept=2, rows=2), replace(second, kept=4, rows=4), *others)  # type: ignore[type-var]

    judgment = by("reconciliation", replace(evidence, sources=sources))

    assert judgment.blocks
    assert [entry["stored"] for entry in judgment.failing] == [3, 3]


def test_a_source_of_which_nothing_is_stored_is_named_beside_the_one_that_has_its_rows() -> None:
    evidence = good()
    keys = evidence.rows.column("s3_source_key").to_pylist()
    moved = pa.array([key(at(0, 5)) if name == key(at(0)) else name for name in keys])
    place = evidence.rows.column_names.index("s3_source_key")
    rows = evidence.rows.set_column(place, ENHANCED.field("s3_source_key"), moved)

    judgment = by("reconciliation", replace(evidence, rows=rows))

    assert [(entry["source"], entry["stored"]) for entry in judgment.failing] == [(key(at(0)), 0), (key(at(0, 5)), 6)]


def test_rows_of_a_source_that_the_day_does_not_record() -> None:
    evidence = good()

    judgment = by("reconciliation", replace(evidence, sources=evidence.sources[1:]))

    assert judgment.failing == ({"source": key(at(0)), "stored": 3},)
    assert judgment.blocks


def test_an_older_deployments_objects_are_balanced_as_a_whole() -> None:
    """Its rows name the raw objects, not the object that they were read from."""
    evidence = good(from_older_deployment=True)
    older = Source("processed/older.parquet", "e", 12, 12, 0, 0)

    assert by("reconciliation", replace(evidence, sources=(older,))).passed
    assert by("reconciliation", replace(evidence, sources=(replace(older, rows=13, kept=13),))).blocks


# inputs


def test_inputs_that_raw_holds_no_more_or_holds_otherwise_block_and_new_ones_warn() -> None:
    evidence = good()
    listed = dict(evidence.raw)
    first, second, *_ = listed

    more = by("inputs", replace(evidence, raw={**listed, "raw/1.txt": "e", "raw/2.txt": "e"}))
    gone = by("inputs", replace(evidence, raw={k: v for k, v in listed.items() if k != first}))
    other = by("inputs", replace(evidence, raw={**listed, second: "other"}))

    assert by("inputs", evidence).passed
    assert (more.passed, more.blocks, more.summary) == (False, False, "2 snapshots wait in raw to be built in.")
    assert [entry["source"] for entry in more.failing] == ["raw/1.txt", "raw/2.txt"]
    assert (gone.passed, gone.blocks) == (other.passed, other.blocks) == (False, True)
    assert gone.failing == ({"source": first, "what": "recorded, and no longer in raw"},)
    assert other.failing == ({"source": second, "what": "changed in raw since it was read"},)


def test_an_older_deployments_day_has_no_raw_and_waits_for_what_there_may_be_since() -> None:
    evidence = good(from_older_deployment=True, raw={})

    judgment = by("inputs", evidence)
    since = by("inputs", replace(evidence, raw={"raw/1.txt": "e"}))

    assert judgment.passed
    assert "4 objects of an older deployment" in judgment.summary
    assert (since.passed, since.blocks) == (False, False)


# unique


def test_a_station_twice_in_a_snapshot_blocks_and_the_same_station_in_the_next_one_does_not() -> None:
    evidence = good()
    twice = pa.concat_tables([evidence.rows, evidence.rows.slice(4, 1)])

    judgment = by("unique", replace(evidence, rows=twice))

    assert by("unique", evidence).passed
    assert (judgment.passed, judgment.blocks) == (False, True)
    assert judgment.failing == ({"station_id": "15002", "file_timestamp": at(0, 5), "rows": 2},)
    assert judgment.summary.endswith("first 15002 at 2025-05-12 00:05:00 UTC.")


def test_only_the_first_failing_rows_are_shown_and_all_are_counted() -> None:
    evidence = day(polls(4, rows=5))

    judgment = by("unique", replace(evidence, rows=pa.concat_tables([evidence.rows] * 2)))

    assert (len(judgment.failing), judgment.figures["repeated"]) == (SHOWN, 20)


# dead_letter_ratio: warns over 5 %, blocks over 20 %


@pytest.mark.parametrize(
    ("dead", "passed", "blocks"),
    [(0, True, False), (5, True, False), (6, False, False), (20, False, False), (21, False, True)],
)
def test_the_dead_letter_ratio_warns_over_one_bound_and_blocks_over_the_other(
    dead: int, passed: bool, blocks: bool
) -> None:
    evidence = counted(good(), rows=100 + 7, kept=100 - dead - 9, dead=dead, duplicates=7)
    reasons = {"not_a_number": dead - 1, "off_zone": 1} if dead else {}

    judgment = by("dead_letter_ratio", replace(evidence, dead=reasons))

    assert evidence.all_rows == 100
    assert (judgment.passed, judgment.blocks) == (passed, blocks)
    assert judgment.summary.startswith(f"{dead} % of 100 rows are dead letters")
    assert (", over 20 %" in judgment.summary, ", over 5 %" in judgment.summary) == (blocks, not passed and not blocks)
    if dead:
        assert f"Most often: not_a_number ({dead - 1}), off_zone (1)." in judgment.summary
        assert judgment.failing[0] == {"rule": "not_a_number", "rows": dead - 1, "share": (dead - 1) / 100}


# newest_row_age: of the running day, over 15 min, over 2 h


@pytest.mark.parametrize(
    ("age_min", "passed", "blocks"),
    [(0, True, False), (15, True, False), (16, False, False), (120, False, False), (121, False, True)],
)
def test_the_newest_row_of_the_running_day_may_be_as_old_as_the_contract_says(
    age_min: int, passed: bool, blocks: bool
) -> None:
    newest = at(0, 15)
    evidence = good(now=newest + dt.timedelta(minutes=age_min))
    rule = RULES["newest_row_age"]

    judgment = judge(evidence, rule)
    as_error = judge(evidence, replace(rule, severity=Severity.ERROR))

    assert (judgment.passed, judgment.blocks) == (passed, False)
    assert (as_error.passed, as_error.blocks) == (passed, blocks)
    assert judgment.summary.startswith(f"The newest row is {age_min} min old")
    assert ("over 120 min" in judgment.summary) is blocks


def test_a_past_day_is_at_rest() -> None:
    judgment = by("newest_row_age", good())

    assert judgment.passed
    assert judgment.summary == "The day is at rest; its newest row is of 2025-05-12 00:15:00 UTC."


# snapshots_received: under 90 % of the day's elapsed time over five minutes


@pytest.mark.parametrize(
    ("received", "now", "expected", "passed"),
    [
        (288, LATER, 288, True),
        (260, LATER, 288, True),
        (259, LATER, 288, False),
        (10, at(0, 50), 10, True),
        (9, at(0, 50), 10, True),
        (8, at(0, 50), 10, False),
        (1, at(0, 4), 0, True),
        (1, at(0, 9), 1, True),
        (3, at(0, 1), 0, True),  # a poll a minute
    ],
)
def test_snapshots_are_expected_as_the_day_goes_on(
    received: int, now: dt.datetime, expected: int, passed: bool
) -> None:
    sources = tuple(Source(f"{n}", "e") for n in range(received))
    evidence = good(now=now, sources=(*sources, Source("x", "e", fault="html")))

    judgment = by("snapshots_received", evidence)

    assert (judgment.figures["received"], judgment.figures["expected"]) == (received, expected)
    assert judgment.passed is passed
    assert ("so far" in judgment.summary) is (now != LATER)


def test_an_older_deployments_snapshots_are_counted_in_its_rows() -> None:
    evidence = good(from_older_deployment=True, sources=(Source("older.parquet", "e", 12, 12),))

    assert by("snapshots_received", evidence).figures["received"] == 4


# volume: 50 to 150 % of the same weekday's median


def weeks(*rows: int) -> tuple[PastDay, ...]:
    return tuple(PastDay(monday, count, 288) for monday, count in zip(MONDAYS, rows, strict=False))


@pytest.mark.parametrize(("usual", "passed"), [(8, True), (7, False), (12, True), (24, True), (25, False)])
def test_the_rows_of_a_day_are_held_against_the_median_of_the_same_weekday(usual: int, passed: bool) -> None:
    judgment = by("volume", good(weeks=weeks(1, usual, usual, 1000)))  # twelve rows

    assert judgment.passed is passed
    assert f"12 rows where the last 4 Mondays had {usual}" in judgment.summary
    assert [entry["day"] for entry in judgment.failing] == MONDAYS


@pytest.mark.parametrize(
    ("minutes", "snapshots"), [(0, 1), (4, 1), (6, 1), (6, 2), (12, 2), (12, 3), (60, 12), (60, 13), (719, 144)]
)
def test_of_a_running_day_only_the_polls_that_are_due_are_expected(minutes: int, snapshots: int) -> None:
    """The first poll comes at midnight: a share of time alone would expect nothing of it, and warn every night."""
    evidence = day(polls(snapshots), now=at(0) + dt.timedelta(minutes=minutes), weeks=weeks(864, 864))

    judgment = by("volume", evidence)

    assert judgment.passed
    assert "by this time" in judgment.summary


def test_a_running_day_with_too_few_rows_so_far() -> None:
    assert not by("volume", day(polls(5), now=at(1), weeks=weeks(864, 864))).passed


@pytest.mark.parametrize("count", [0, 1])
def test_a_history_too_short_says_so_and_passes(count: int) -> None:
    judgment = by("volume", good(weeks=weeks(*[1000] * count)))

    assert judgment.passed
    assert judgment.summary == (
        f"The history is too short: {count} of the 4 Mondays before are there, and 2 are needed."
    )


# Scores


def test_a_score_is_the_share_of_rows_times_the_share_of_snapshots_without_a_finding() -> None:
    """Ten rows, one off zone (accuracy), three overfull and one of these without docks (consistency)."""
    lines = [row(str(15001 + i)) for i in range(6)]
    lines += [row(str(15010 + i), bikes="20") for i in range(2)]
    lines += [row("15020", docks="0"), bike_row(1, lat="52.28", lon="21.01")]
    evidence = day({at(0): lines}, now=at(0))

    accuracy, consistency = by("accuracy", evidence), by("consistency", evidence)

    assert accuracy.figures["score"] == 0.9
    assert accuracy.failing == ({"rule": "off_zone", "rows": 1},)
    assert consistency.figures["score"] == 0.7
    assert consistency.failing == ({"rule": "overfull", "rows": 3}, {"rule": "zero_docks", "rows": 1})
    assert by("validity", evidence).figures["score"] == by("timeliness", evidence).figures["score"] == 1.0


def test_dead_rows_count_in_the_dimension_of_their_rule() -> None:
    evidence = counted(day({at(0): [row()]}, now=at(0)), rows=10, kept=1, dead=9)
    evidence = replace(evidence, dead={"not_a_number": 4, "bad_coordinates": 2, "conflicting_id": 2, "gone_by_now": 1})

    scores = {name.value: by(name.value, evidence).figures["score"] for name in Dimension}

    assert scores == {"validity": 0.6, "accuracy": 0.8, "consistency": 0.8, "timeliness": 1.0, "completeness": 1.0}


def test_snapshots_with_a_finding_lower_the_score_of_its_dimension() -> None:
    """Four of five came on time, and all stations are in them; then one is late, by two polls, and no gap yet."""
    evidence = day({**polls(4), at(0, 25): [row()]}, now=at(0, 25))

    assert by("timeliness", evidence).figures["score"] == 0.8
    assert by("timeliness", evidence).figures["snapshots_without_finding"] == 0.8
    assert by("completeness", evidence).figures == {
        "score": 0.8,  # the late one has one station of three
        "rows_without_finding": 1.0,
        "snapshots_without_finding": 0.8,
        "snapshots_received": 1.0,
    }


def test_a_snapshot_with_two_findings_of_one_dimension_counts_once() -> None:
    evidence = day({**polls(4), at(0, 40): [row()]}, now=at(0, 40))
    assert [f.rule for f in evidence.findings] == ["partial_snapshot", "late_snapshot", "coverage_gap"]

    assert by("completeness", evidence).figures["snapshots_without_finding"] == 0.8


def test_every_poll_of_a_frozen_feed_counts() -> None:
    evidence = day({at(8) + n * POLL: [row()] for n in range(10)}, now=at(8, 45))

    assert by("timeliness", evidence).figures["score"] == 0.1


def test_completeness_is_also_a_matter_of_snapshots_that_never_came() -> None:
    evidence = day(polls(4), now=at(0, 30))

    judgment = by("completeness", evidence)

    assert judgment.figures["snapshots_received"] == round(4 / 6, 4)
    assert judgment.summary.startswith("The score is 0.667: rows without finding 100 %")
    assert by("completeness", day(polls(4), now=at(0, 1))).figures["snapshots_received"] == 1.0


def test_a_score_passes_at_its_bound() -> None:
    evidence = day({at(0): [*(row(str(15001 + i)) for i in range(9)), bike_row(1, lat="52.28")]}, now=at(0))

    assert by("accuracy", evidence, score_below=0.9).passed
    assert not by("accuracy", evidence, score_below=0.91).passed


FLAGGED = st.lists(st.sampled_from(["good", "overfull", "off_zone", "zero_docks", "unknown"]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(kinds=FLAGGED, dead=st.dictionaries(st.sampled_from(sorted(DIMENSIONS)), st.integers(1, 5), max_size=4))
def test_scores_lie_between_0_and_1_and_none_but_perfect_rows_have_the_best(
    kinds: list[str], dead: dict[str, int]
) -> None:
    made = {
        "good": lambda i: row(str(15001 + i)),
        "overfull": lambda i: row(str(15001 + i), bikes="99"),
        "off_zone": lambda i: row(str(15001 + i), lat="52.28"),
        "zero_docks": lambda i: row(str(15001 + i), docks="0"),
        "unknown": lambda i: row(f"x{i}"),
    }
    evidence = day({at(0): [made[kind](i) for i, kind in enumerate(kinds)]}, now=at(0), dead=dead)
    total = sum(dead.values())
    evidence = counted(evidence, rows=len(kinds) + total, dead=total)
    flags = {flag for flags in evidence.rows.column("quality_flags").to_pylist() for flag in flags}

    for dimension in Dimension:
        score = by(dimension.value, evidence).figures["score"]
        broken = {name for name in {*flags, *dead} if DIMENSIONS[name] is dimension}
        assert isinstance(score, float)
        assert 0.0 <= score <= 1.0
        assert (score == 1.0) is (not broken)


# no_failed_partitions, readable_letters, snapshots


def test_days_that_are_not_built_or_whose_run_failed_are_named() -> None:
    evidence = good(unbuilt=(DAY, DAY - dt.timedelta(days=2)), failed=(DAY,))

    judgment = by("no_failed_partitions", evidence)

    assert by("no_failed_partitions", good()).passed
    assert (judgment.passed, judgment.blocks) == (False, False)
    assert [entry["day"] for entry in judgment.failing] == [DAY - dt.timedelta(days=2), DAY, DAY]
    assert judgment.summary.startswith("2 days of raw are not built, and the last run of 1 days failed.")


def test_letters_that_cannot_be_read_are_named() -> None:
    (rule,) = CONTRACTS.dead_letters.of_scope(Scope.DAY)

    judgment = judge_letters(["dlq/1.json is no JSON"], 7, rule)

    assert judge_letters([], 7, rule).passed
    assert (judgment.passed, judgment.failing) == (False, ({"letter": "dlq/1.json is no JSON"},))
    assert judgment.figures == {"letters": 7, "unreadable": 1}


def test_findings_about_snapshots_are_shown_by_their_rule_alone() -> None:
    evidence = day({**polls(4), at(0, 40): [row()]}, now=at(0, 40))

    late = by("late_snapshot", evidence)

    assert (late.passed, late.figures) == (False, {"findings": 1, "snapshots": 1, "snapshots_received": 5})
    assert late.summary.startswith("1 on this day; the first at 00:40:00 UTC: it came 25:00 min after")
    assert late.failing[0]["time"] == at(0, 40)
    assert by("frozen_feed", evidence).summary == "None of 5 snapshots."

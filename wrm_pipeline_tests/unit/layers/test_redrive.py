"""Redrive on a real store: what passes today joins its day once, what does not counts, and nothing is lost."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.model import Contract, Severity
from wrm_pipeline.feed.base import Fault, PayloadFault
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.lake.dead_letters import DeadLetter, Outcome, Stage, Status, letter_id, store_letter
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreRefused
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import set_aside
from wrm_pipeline.layers.redrive import DayRedriven, Redriven, redrive, redrive_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.layers.waiting import EVERYTHING, Select, Waiting, versions_today, waiting
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, payload, row
from wrm_pipeline_tests.fixtures.watched_store import WatchedStore, watching

NEXT_DAY = DAY + dt.timedelta(days=1)
BUILD_TIME = dt.datetime(2025, 5, 13, 3, 17, tzinfo=dt.UTC)
REDRIVE_TIME = dt.datetime(2025, 5, 14, 4, 37, tzinfo=dt.UTC)
BUILDER = Provenance("build-1", "wrm_stations_enhanced_data_all", lambda: BUILD_TIME)
WHO = Provenance("redrive-1", "wrm_stations_enhanced_data_all", lambda: REDRIVE_TIME)
SNAPSHOT = payload(row("1"), row("2", bikes="x"), row("3"), end=b"\n")
# Each of these stations breaks one rule of enhanced, when that rule is an error, and no other.
OVERFULL, ZERO_DOCKS, OFF_ZONE = row("2", bikes="40"), row("3", docks="0", bikes="0", spaces="0"), row("4", lat="52.5")


@pytest.fixture
def watched(store_settings: StoreSettings) -> Iterator[WatchedStore]:
    with watching(store_settings) as store:
        yield store


@pytest.fixture
def lake(watched: WatchedStore) -> Lake:
    return Lake(watched, LakeKeys(watched.prefix))


def with_errors(*names: str) -> Contract:
    """The contract of enhanced, with these rules as errors."""
    rules = CONTRACTS.enhanced.rules
    errors = {name: replace(rules[name], severity=Severity.ERROR) for name in names}
    return replace(CONTRACTS.enhanced, rules={**rules, **errors})


STRICT = with_errors("overfull", "zero_docks", "off_zone")


def build(lake: Lake, contract: Contract = STRICT, day: dt.date = DAY) -> None:
    build_enhanced_day(lake, FORMAT, contract, day, BUILDER)


def redriven(lake: Lake, contract: Contract = CONTRACTS.enhanced, select: Select = EVERYTHING) -> Redriven:
    return redrive(lake, FORMAT, contract, WHO, select=select)


def only(done: Redriven) -> DayRedriven:
    (day,) = done.days
    return day


def counts(done: Redriven) -> tuple[int, int, int, int]:
    return tuple(done.total(name) for name in ("reprocessed", "rejected", "given_up", "rows_joined"))  # type: ignore[return-value]


def records(lake: Lake, folder: str) -> list[dict[str, Any]]:
    """Return the documents in a folder of the dead letters, in the order of their keys."""
    return [json.loads(lake.store.get(lake.keys.prefix + key).body) for key in contents(lake, f"dlq/{folder}/")]


def day_objects(lake: Lake) -> dict[str, str]:
    return {key: etag for key, etag in contents(lake).items() if key.endswith(".parquet")}


def clean_build(lake: Lake, contract: Contract) -> dict[str, str]:
    for key in day_objects(lake):
        lake.store.delete(lake.keys.prefix + key)
    build(lake, contract)
    return day_objects(lake)


def ids_of_day(lake: Lake) -> list[str]:
    stored = lake.read_day(Layer.ENHANCED, DAY, ENHANCED)
    assert stored is not None
    ids: list[str] = stored.rows.column("station_id").to_pylist()
    return ids


def spoilt_day(lake: Lake) -> None:
    """Two snapshots, each with good rows, and with rows that only a strict contract sets aside."""
    put_raw(lake, at(8), payload(row("1"), OVERFULL, row("5"), end=b"\n"))
    put_raw(lake, at(9), payload(row("1"), OVERFULL, ZERO_DOCKS, OFF_ZONE, row("5"), end=b"\n"))
    build(lake)


# --- What comes back --------------------------------------------------------------------------------------------------


def test_a_relaxed_contract_brings_each_row_back_exactly_once(lake: Lake) -> None:
    spoilt_day(lake)
    assert ids_of_day(lake) == ["1", "5", "1", "5"]
    before = letters_of(lake, DAY)

    done = redriven(lake)

    assert counts(done) == (2, 0, 0, 4)
    assert ids_of_day(lake) == ["1", "2", "5", "1", "2", "3", "4", "5"]
    after = letters_of(lake, DAY)
    assert [x.status for x in after] == [Status.REPROCESSED] * 2
    assert [x.records for x in after] == [x.records for x in before], "what had been wrong stays on record"
    assert [x.retry_count for x in after] == [0, 0]
    assert day_objects(lake) == clean_build(lake, CONTRACTS.enhanced)


def test_an_attempt_says_when_from_which_code_and_contract_to_which_and_what_came_of_it(lake: Lake) -> None:
    spoilt_day(lake)

    done = only(redriven(lake))

    by_source = {x.source_key.rpartition("_")[2]: x for x in letters_of(lake, DAY)}
    (attempt,) = by_source["09-00-00.txt"].attempts
    strict, relaxed = (versions_today(FORMAT, contract)[Stage.ENHANCED] for contract in (STRICT, CONTRACTS.enhanced))
    assert attempt.redrive_id == done.redrive_id
    assert attempt.at == REDRIVE_TIME
    assert (attempt.code_version_before, attempt.contract_version_before) == strict
    assert (attempt.code_version, attempt.contract_version) == relaxed
    assert (attempt.outcome, attempt.accepted_lines) == (Outcome.REPROCESSED, (3, 4, 5))
    audits = {audit["letter_id"]: audit for audit in records(lake, "audit")}
    assert len(audits) == 2
    letter = by_source["09-00-00.txt"]
    assert audits[letter.id] == {
        **json.loads(attempt.model_dump_json()),
        "schema_version": 1,
        "letter_id": letter.id,
        "source_key": letter.source_key,
        "stage": "enhanced",
        "partition": "2025-05-12",
        "run_id": "redrive-1",
        "remaining": {},
        "retry_count": 0,
        "status": "reprocessed",
    }
    assert lake.keys.redrive_audit(DAY, letter.id, 1).removeprefix(lake.keys.prefix) in contents(lake)


def test_of_a_letter_that_passes_in_part_the_rest_waits_on(lake: Lake) -> None:
    spoilt_day(lake)
    still_strict = with_errors("zero_docks")

    done = redriven(lake, still_strict)

    assert counts(done) == (1, 1, 0, 3)
    letter = next(x for x in letters_of(lake, DAY) if x.status is Status.PENDING)
    assert [(record.line, record.rule) for record in letter.records] == [(4, "zero_docks")]
    assert letter.retry_count == 1
    assert (letter.attempts[0].outcome, letter.attempts[0].accepted_lines) == (Outcome.PARTLY, (3, 5))
    audit = next(x for x in records(lake, "audit") if x["letter_id"] == letter.id)
    assert (audit["remaining"], audit["retry_count"]) == ({"zero_docks": 1}, 1)
    assert day_objects(lake) == clean_build(lake, still_strict)

    redriven(lake)

    (back,) = [x for x in letters_of(lake, DAY) if len(x.attempts) == 2]
    assert (back.status, back.attempts[1].accepted_lines) == (Status.REPROCESSED, (4,))


def test_a_letter_that_an_ordinary_build_has_overtaken_is_settled(lake: Lake) -> None:
    """The contract was relaxed and the day built again: its rows are back, and its letters still say they wait."""
    spoilt_day(lake)
    build(lake, CONTRACTS.enhanced)
    good = day_objects(lake)

    done = redriven(lake)

    assert done.total("reprocessed") == 2
    assert day_objects(lake) == good


def test_a_row_that_the_next_stage_sets_aside_has_not_come_back(lake: Lake) -> None:
    """A row that processed takes now, and enhanced does not, joins no day."""
    contract = CONTRACTS.processed
    bikes = next(column for column in contract.columns if column.name == "bikes")
    narrow = replace(contract, columns=tuple(replace(c, maximum=39) if c is bikes else c for c in contract.columns))
    put_raw(lake, at(8), payload(row("1"), OVERFULL, row("6", bikes="50", docks="66"), end=b"\n"))
    build_enhanced_day(lake, BikeShareMap(narrow), STRICT, DAY, BUILDER)
    assert [len(x.records) for x in letters_of(lake, DAY)] == [2]

    done = redriven(lake, STRICT)

    assert counts(done) == (0, 1, 0, 1)
    assert ids_of_day(lake) == ["1", "6"]
    found = {x.stage: x for x in letters_of(lake, DAY)}
    assert found[Stage.PROCESSED].attempts[0].accepted_lines == (4,)
    assert [record.line for record in found[Stage.PROCESSED].records] == [3], "of the row that is back, no record waits"
    assert [(record.line, record.rule) for record in found[Stage.ENHANCED].records] == [(3, "overfull")]

    assert counts(redriven(lake)) == (2, 0, 0, 2)
    assert ids_of_day(lake) == ["1", "2", "6"]


def test_a_file_that_is_a_snapshot_now_with_a_bad_row_has_come_back_in_part(lake: Lake) -> None:
    put_raw(lake, at(8), SNAPSHOT)
    build(lake)
    (rows,) = letters_of(lake, DAY)
    whole = rows.records[0].model_copy(update={"line": None, "row": None, "rule": "wrong_header"})
    store_letter(lake.store, lake.keys, rows.model_copy(update={"records": (whole,)}))

    assert counts(redriven(lake)) == (0, 1, 0, 2)

    (letter,) = letters_of(lake, DAY)
    assert (letter.status, letter.retry_count) == (Status.PENDING, 1)
    assert (letter.attempts[0].outcome, letter.attempts[0].accepted_lines) == (Outcome.PARTLY, (0,))
    assert letter.records == rows.records


def test_rows_of_a_file_that_is_set_aside_whole_have_not_come_back(lake: Lake) -> None:
    put_raw(lake, at(8), SNAPSHOT)
    build(lake)
    put_raw(lake, at(8), b"<html>")

    assert counts(redriven(lake)) == (0, 1, 0, 0)
    assert [audit["remaining"] for audit in records(lake, "audit")] == [{"html": 1}]


def test_a_letter_whose_source_somebody_removed_has_not_come_back(lake: Lake) -> None:
    spoilt_day(lake)
    lake.store.delete(lake.keys.raw(at(8)))

    done = redriven(lake)

    assert counts(done) == (1, 1, 0, 3)
    letter = next(x for x in letters_of(lake, DAY) if x.status is Status.PENDING)
    assert letter.source_key == lake.keys.raw(at(8))
    assert [record.line for record in letter.records] == [3]


def test_a_day_of_which_all_raw_is_gone_is_no_failure(lake: Lake) -> None:
    spoilt_day(lake)
    for hour in (8, 9):
        lake.store.delete(lake.keys.raw(at(hour)))

    done = redriven(lake)

    assert counts(done) == (0, 2, 0, 0)
    assert not only(done).rebuilt
    assert done.failures == {}


# --- What does not come back ------------------------------------------------------------------------------------------


def test_three_failing_redrives_end_in_failed_permanently_with_one_alert_and_three_audit_records(
    lake: Lake, watched: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    put_raw(lake, at(8), payload(row("1"), OVERFULL, row("2", bikes="x"), end=b"\n"))
    build(lake, with_errors("overfull"))
    strict = with_errors("overfull")
    first = letters_of(lake, DAY)
    assert [(x.stage, len(x.records)) for x in first if x.stage is Stage.PROCESSED] == [(Stage.PROCESSED, 1)]

    seen = []
    for _ in range(3):
        done = redriven(lake, strict)
        letters = letters_of(lake, DAY)
        seen.append(({x.status for x in letters}, {x.retry_count for x in letters}, counts(done)))

    assert seen == [
        ({Status.PENDING}, {1}, (0, 2, 0, 0)),
        ({Status.PENDING}, {2}, (0, 2, 0, 0)),
        ({Status.FAILED}, {3}, (0, 2, 2, 0)),
    ]
    audits, alerts = records(lake, "audit"), records(lake, "alerts")
    for letter in letters_of(lake, DAY):
        mine = [audit for audit in audits if audit["letter_id"] == letter.id]
        assert [audit["retry_count"] for audit in mine] == [1, 2, 3]
        assert [audit["outcome"] for audit in mine] == ["rejected_again"] * 3
        assert len({audit["redrive_id"] for audit in mine}) == 3
        assert [str(attempt.redrive_id) for attempt in letter.attempts] == [audit["redrive_id"] for audit in mine]
        (alert,) = [alert for alert in alerts if alert["letter_id"] == letter.id]
        assert (alert["retry_count"], alert["redrive_id"]) == (3, mine[2]["redrive_id"])
        assert f"wrm dlq show {letter.id}" in alert["message"]
        assert [letter.id in x.getMessage() for x in caplog.records if x.levelno == logging.ERROR].count(True) == 1

    watched.puts.clear()
    assert redriven(lake, strict).days == ()
    assert watched.puts == []


def test_what_was_given_up_on_is_tried_again_once_the_contract_has_changed_and_comes_back_by_itself(lake: Lake) -> None:
    spoilt_day(lake)
    for _ in range(3):
        redriven(lake, STRICT)
    assert {x.status for x in letters_of(lake, DAY)} == {Status.FAILED}

    done = redriven(lake)

    assert counts(done) == (2, 0, 0, 4)
    assert {x.status for x in letters_of(lake, DAY)} == {Status.REPROCESSED}
    assert len(records(lake, "alerts")) == 2


def test_a_failure_after_that_is_no_second_alert(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n"))
    build(lake)
    for _ in range(3):
        redriven(lake, STRICT)
    before = contents(lake, "dlq/alerts/")
    other = with_errors("overfull", "zero_docks")  # another contract, that does not help
    caplog.clear()

    assert counts(redriven(lake, other)) == (0, 1, 0, 0)

    (letter,) = letters_of(lake, DAY)
    assert (letter.status, letter.retry_count, len(letter.attempts)) == (Status.FAILED, 4, 4)
    assert contents(lake, "dlq/alerts/") == before
    assert [x for x in caplog.records if x.levelno == logging.ERROR] == []
    assert redriven(lake, other).days == (), "it was tried under this contract"


def test_a_rebuild_between_redrives_forgets_nothing(lake: Lake) -> None:
    spoilt_day(lake)
    redriven(lake, STRICT)
    clean_build(lake, STRICT)
    redriven(lake, STRICT)

    assert {(x.retry_count, len(x.attempts)) for x in letters_of(lake, DAY)} == {(2, 2)}


# --- Which letters ----------------------------------------------------------------------------------------------------


def test_letters_that_the_filter_leaves_out_are_not_counted_and_come_back_all_the_same(lake: Lake) -> None:
    """The day is built as a whole: rows that pass join it, whoever asked for them."""
    put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n"))
    put_raw(lake, at(9), payload(row("1"), ZERO_DOCKS, end=b"\n"))
    put_raw(lake, at(10), payload(row("1"), OFF_ZONE, end=b"\n"))
    build(lake)

    done = redriven(lake, with_errors("overfull", "zero_docks"), Select(rule="overfull"))

    assert counts(done) == (1, 1, 0, 1)
    found = {letter.records[0].rule: letter for letter in letters_of(lake, DAY)}
    assert {rule: (x.status, x.retry_count, len(x.attempts)) for rule, x in found.items()} == {
        "overfull": (Status.PENDING, 1, 1),
        "zero_docks": (Status.PENDING, 0, 0),
        "off_zone": (Status.REPROCESSED, 0, 1),
    }


def test_a_stage_and_days_can_be_asked_for(lake: Lake) -> None:
    for day in (DAY, NEXT_DAY):
        put_raw(lake, at(8, day=day), payload(row("1"), OVERFULL, row("9", bikes="x"), end=b"\n"))
        build(lake, day=day)

    redrive(lake, FORMAT, STRICT, WHO, select=Select(stage=Stage.PROCESSED), days=[NEXT_DAY])

    assert [x.retry_count for x in letters_of(lake, DAY)] == [0, 0]
    assert {x.stage: x.retry_count for x in letters_of(lake, NEXT_DAY)} == {Stage.PROCESSED: 1, Stage.ENHANCED: 0}


def test_a_day_in_which_nothing_waits_is_not_built(lake: Lake, watched: WatchedStore) -> None:
    spoilt_day(lake)
    watched.puts.clear()

    done = redrive_day(lake, FORMAT, CONTRACTS.enhanced, DAY, WHO, Select(rule="bad_quoting"))

    assert done == DayRedriven(DAY)
    assert watched.puts == []


def test_progress_is_told_day_by_day(lake: Lake) -> None:
    for day in (DAY, NEXT_DAY):
        put_raw(lake, at(8, day=day), payload(row("1"), OVERFULL, end=b"\n"))
        build(lake, day=day)
    told: list[tuple[int, int, dt.date]] = []

    redrive(
        lake,
        FORMAT,
        CONTRACTS.enhanced,
        WHO,
        progress=lambda done, of, day: told.append((done, of, day.day)),
    )

    assert told == [(1, 2, DAY), (2, 2, NEXT_DAY)]


# --- Payloads that never reached raw ----------------------------------------------------------------------------------


def set_payload_aside(lake: Lake, body: bytes, kind: PayloadFault, time: dt.datetime) -> DeadLetter:
    set_aside(lake, FORMAT, body, Fault(kind, "of yesterday's code"), time, replace(BUILDER, now=lambda: time))
    (letter,) = [x for x in letters_of(lake, DAY) if x.stage is Stage.RAW and x.first_seen == time]
    return letter


def test_bytes_that_today_s_code_takes_for_a_snapshot_join_raw_at_the_time_they_were_fetched(lake: Lake) -> None:
    time = at(8) + dt.timedelta(seconds=7, microseconds=250_000)
    letter = set_payload_aside(lake, SNAPSHOT, PayloadFault.WRONG_HEADER, time)

    done = redriven(lake)

    assert counts(done) == (1, 0, 0, 2)
    assert lake.store.get(lake.keys.raw(time)).body == SNAPSHOT
    assert ids_of_day(lake) == ["1", "3"]
    found = {x.stage: x for x in letters_of(lake, DAY)}
    assert (found[Stage.RAW].id, found[Stage.RAW].status) == (letter.id, Status.REPROCESSED)
    assert found[Stage.RAW].attempts[0].accepted_lines == (0,)
    assert (found[Stage.PROCESSED].status, found[Stage.PROCESSED].attempts) == (Status.PENDING, ())
    assert lake.store.get(letter.source_key).body == SNAPSHOT, "the payload stays beside its letter"


def test_when_that_second_is_taken_it_is_the_next_one_and_the_same_bytes_are_stored_once(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("7"), end=b"\n"))
    put_raw(lake, at(9), payload(row("8"), end=b"\n"))
    set_payload_aside(lake, SNAPSHOT, PayloadFault.WRONG_HEADER, at(8))
    again = payload(row("8"), end=b"\n")
    set_payload_aside(lake, again, PayloadFault.WRONG_HEADER, at(9))

    assert redriven(lake).total("reprocessed") == 2

    assert [info.key for info in lake.raw_listing(DAY)] == [
        lake.keys.raw(time) for time in (at(8), at(8) + dt.timedelta(seconds=1), at(9))
    ]


def test_a_payload_of_the_last_second_stays_in_its_day(lake: Lake) -> None:
    """The letter is written a moment after the fetch, which may be after midnight."""
    fetched = dt.datetime.combine(DAY, dt.time(23, 59, 59, 900_000), dt.UTC)
    late = replace(BUILDER, now=lambda: fetched + dt.timedelta(seconds=2))
    set_aside(lake, FORMAT, SNAPSHOT, Fault(PayloadFault.WRONG_HEADER, "."), fetched, late)

    redriven(lake)

    assert [info.key for info in lake.raw_listing(DAY)] == [lake.keys.raw(fetched)]


def test_bytes_that_still_are_no_snapshot_fail_again_and_a_day_with_nothing_else_is_no_failure(lake: Lake) -> None:
    set_payload_aside(lake, b"<html>503</html>", PayloadFault.HTML, at(8))

    done = [redriven(lake) for _ in range(3)]

    assert [counts(x) for x in done] == [(0, 1, 0, 0), (0, 1, 0, 0), (0, 1, 1, 0)]
    (letter,) = letters_of(lake, DAY)
    assert letter.status is Status.FAILED
    assert [audit["remaining"] for audit in records(lake, "audit")] == [{"html": 1}] * 3
    assert lake.raw_listing(DAY) == []


@pytest.mark.parametrize("kind", [PayloadFault.CUT_OFF, PayloadFault.DAMAGED])
def test_bytes_that_did_not_arrive_whole_never_become_a_snapshot(lake: Lake, kind: PayloadFault) -> None:
    """A body that was cut between two rows looks like a snapshot with fewer stations."""
    set_payload_aside(lake, SNAPSHOT, kind, at(8))

    assert counts(redriven(lake)) == (0, 1, 0, 0)

    assert lake.raw_listing(DAY) == []
    assert [audit["remaining"] for audit in records(lake, "audit")] == [{kind.value: 1}]


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_payload_that_is_not_what_was_set_aside_fails_again(lake: Lake, change: str) -> None:
    letter = set_payload_aside(lake, SNAPSHOT, PayloadFault.WRONG_HEADER, at(8))
    if change == "removed":
        lake.store.delete(letter.source_key)
    else:
        lake.store.put(letter.source_key, payload(row("1"), end=b"\n"), content_type="x")

    assert counts(redriven(lake)) == (0, 1, 0, 0)
    assert lake.raw_listing(DAY) == []


def test_a_payload_that_the_filter_leaves_out_is_left_alone(lake: Lake) -> None:
    set_payload_aside(lake, SNAPSHOT, PayloadFault.WRONG_HEADER, at(8))
    put_raw(lake, at(9), payload(row("1"), OVERFULL, end=b"\n"))
    build(lake)

    redriven(lake, select=Select(stage=Stage.ENHANCED))

    found = {x.stage: (x.status, len(x.attempts)) for x in letters_of(lake, DAY)}
    assert found == {Stage.RAW: (Status.PENDING, 0), Stage.ENHANCED: (Status.REPROCESSED, 1)}
    assert len(lake.raw_listing(DAY)) == 1


# --- Letters of all kinds ---------------------------------------------------------------------------------------------


def test_a_letter_of_envelope_version_1_is_redriven_like_any_other(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("1"), row("2"), end=b"\n"))
    source = lake.keys.raw(at(8))
    letter = DeadLetter(
        id=letter_id(source, Stage.PROCESSED),
        source_key=source,
        source_sha256="0" * 64,
        partition=DAY,
        stage=Stage.PROCESSED,
        asset="a",
        run_id="r",
        code_version="1",
        contract_version="",
        first_seen=BUILD_TIME,
        last_seen=BUILD_TIME,
        records=(),
    )
    document = json.loads(letter.model_dump_json(exclude={"contract_version"}))
    record = {
        "line": 3,
        "row": "2",
        "row_base64": None,
        "pointer": None,
        "rule": "x",
        "error_class": "y",
        "message": "z",
    }
    document |= {"schema_version": 1, "records": [record]}
    lake.store.put(lake.keys.dead_letter(DAY, letter.id), json.dumps(document).encode(), content_type="x")

    assert counts(redriven(lake)) == (1, 0, 0, 1)

    (found,) = letters_of(lake, DAY)
    (attempt,) = found.attempts
    assert (found.schema_version, found.status) == (2, Status.REPROCESSED)
    assert (attempt.code_version_before, attempt.contract_version_before) == ("1", "")


@pytest.mark.parametrize("damage", ["no JSON", "another letter's place", "another day", "another source"])
def test_a_letter_that_cannot_be_read_is_reported_skipped_and_kept_to_the_byte(lake: Lake, damage: str) -> None:
    spoilt_day(lake)
    one, other = letters_of(lake, DAY)
    key = lake.keys.dead_letter(DAY, one.id)
    elsewhere = lake.keys.raw(at(23))  # bytes from there would be brought back under this letter's name
    bodies = {
        "another source": one.model_copy(update={"source_key": elsewhere}).model_dump_json().encode(),
        "no JSON": b'{"schema_version": 2, ',
        "another letter's place": other.model_dump_json().encode(),
        "another day": one.model_copy(update={"partition": NEXT_DAY}).model_dump_json().encode(),
    }
    lake.store.put(key, bodies[damage], content_type="application/json")

    done = redriven(lake)

    assert len(done.unreadable) == 1
    assert key in done.unreadable[0]
    assert only(done).unreadable == done.unreadable
    assert counts(done)[:2] == (1, 0)
    assert lake.store.get(key).body == bodies[damage]
    assert contents(lake, f"dlq/dt={NEXT_DAY}/") == {}
    assert [key in reason for reason in redriven(lake).unreadable] == [True], "it is reported each time"


def test_what_redrives_leave_is_taken_for_no_letter_and_no_day(lake: Lake) -> None:
    spoilt_day(lake)
    for _ in range(3):
        redriven(lake, STRICT)

    assert len(letters_of(lake, DAY)) == 2
    folders = {key.split("/")[1] for key in contents(lake, "dlq/")}
    assert folders == {"dt=2025-05-12", "audit", "alerts", "redrive"}
    assert [x.day for x in waiting(lake, FORMAT, CONTRACTS.enhanced)] == [DAY]


# --- Again, and after an end half-way ---------------------------------------------------------------------------------


def test_a_redrive_run_twice_changes_nothing_and_writes_nothing(lake: Lake, watched: WatchedStore) -> None:
    spoilt_day(lake)
    redriven(lake)
    before = contents(lake)
    watched.puts.clear()
    traffic = lake.store.traffic.snapshot()

    assert redriven(lake) == Redriven((), ())

    assert contents(lake) == before
    assert watched.puts == []
    assert set((lake.store.traffic.snapshot() - traffic).requests) == {"list", "get"}


class StopHere(Exception):  # noqa: N818 - no error
    """Stands for the end of the process."""


def stop() -> None:
    raise StopHere


def stopped_at(lake: Lake, watched: WatchedStore, part: str, contract: Contract, times: int = 1) -> None:
    watched.before_put(part, *[stop] * times)
    with pytest.raises(StopHere):
        redriven(lake, contract)


@pytest.mark.parametrize("part", ["/audit/", "all_enhanced", "dlq/dt="])
def test_a_redrive_that_was_killed_is_finished_as_it_began(lake: Lake, watched: WatchedStore, part: str) -> None:
    spoilt_day(lake)
    contract = with_errors("zero_docks")
    stopped_at(lake, watched, part, contract)
    (journal,) = [json.loads(lake.store.get(lake.keys.redrive_journal(DAY)).body)]
    assert [x.interrupted for x in waiting(lake, FORMAT, contract)] == [True]

    done = redriven(lake, contract)

    assert only(done).resumed
    assert only(done).redrive_id == journal["redrive_id"]
    assert counts(done) == (1, 1, 0, 3)
    audits = records(lake, "audit")
    assert {x["redrive_id"] for x in audits} == {journal["redrive_id"]}
    assert len(audits) == 2
    assert {len(x.attempts) for x in letters_of(lake, DAY)} == {1}
    assert sorted(x.retry_count for x in letters_of(lake, DAY)) == [0, 1]
    assert lake.store.head(lake.keys.redrive_journal(DAY)) is None


def test_a_killed_redrive_that_other_code_finds_is_another_attempt_of_what_is_left(
    lake: Lake, watched: WatchedStore
) -> None:
    """The records before the first one began are known still, though its build has rewritten the letters."""
    spoilt_day(lake)
    stopped_at(lake, watched, "/audit/", with_errors("zero_docks"), times=2)

    done = redriven(lake, CONTRACTS.enhanced)

    assert only(done).resumed
    assert counts(done) == (2, 0, 0, 4)
    assert {x.status for x in letters_of(lake, DAY)} == {Status.REPROCESSED}
    assert sorted(x.attempts[-1].accepted_lines for x in letters_of(lake, DAY)) == [(3,), (3, 4, 5)]
    last = [x.attempts[-1] for x in letters_of(lake, DAY)]
    assert {attempt.redrive_id for attempt in last} == {only(done).redrive_id}
    assert {attempt.contract_version for attempt in last} == {CONTRACTS.enhanced.stamp}


def test_what_a_killed_redrive_had_settled_is_tried_afresh_by_other_code(lake: Lake, watched: WatchedStore) -> None:
    spoilt_day(lake)
    watched.before_put("/audit/", lambda: None)
    stopped_at(lake, watched, "/audit/", STRICT)
    assert sorted(x.retry_count for x in letters_of(lake, DAY)) == [0, 1]

    redriven(lake, with_errors("overfull", "zero_docks", "off_zone", "stale_row_time"))

    assert sorted((x.retry_count, len(x.attempts)) for x in letters_of(lake, DAY)) == [(1, 1), (2, 2)]


def test_an_audit_record_is_never_changed(lake: Lake, watched: WatchedStore) -> None:
    """Killed between the record and the letter, and finished by code that lets the row pass."""
    put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n"))
    build(lake)
    watched.before_put(f"dlq/dt={DAY}/", lambda: None)  # the letter that the build writes again
    stopped_at(lake, watched, f"dlq/dt={DAY}/", STRICT)
    (first,) = contents(lake, "dlq/audit/").items()

    redriven(lake)

    assert contents(lake, "dlq/audit/").items() >= {first}
    assert [x["outcome"] for x in records(lake, "audit")] == ["rejected_again", "reprocessed"]
    (letter,) = letters_of(lake, DAY)
    assert (letter.status, letter.retry_count, len(letter.attempts)) == (Status.REPROCESSED, 0, 1)


def test_a_journal_that_somebody_damaged_does_not_stop_redrives(lake: Lake) -> None:
    spoilt_day(lake)
    lake.store.put(lake.keys.redrive_journal(DAY), b"{", content_type="x")

    assert counts(redriven(lake)) == (2, 0, 0, 4)


def test_two_redrives_of_a_day_that_begin_together_are_one(
    lake: Lake, watched: WatchedStore, store: ObjectStore
) -> None:
    spoilt_day(lake)
    beside = Lake(store, lake.keys)
    found: list[DayRedriven] = []
    watched.before_put(
        "all_enhanced", lambda: found.append(redrive_day(beside, FORMAT, STRICT, DAY, replace(WHO, run_id="other")))
    )

    done = redrive_day(lake, FORMAT, STRICT, DAY, WHO)

    assert found[0].redrive_id == done.redrive_id
    assert {(x.retry_count, len(x.attempts)) for x in letters_of(lake, DAY)} == {(1, 1)}
    assert len(records(lake, "audit")) == 2


def test_a_redrive_that_another_one_overtakes_before_its_journal_takes_that_one_s(
    lake: Lake, watched: WatchedStore, store_settings: StoreSettings
) -> None:
    spoilt_day(lake)
    journals: list[str] = []

    def overtake() -> None:
        with watching(store_settings) as other:
            beside = Lake(other, lake.keys)
            other.before_put("all_enhanced", stop)
            with pytest.raises(StopHere):
                redrive_day(beside, FORMAT, STRICT, DAY, WHO)
            journals.append(json.loads(other.get(lake.keys.redrive_journal(DAY)).body)["redrive_id"])

    watched.before_put("dlq/redrive/", overtake)

    done = redrive_day(lake, FORMAT, STRICT, DAY, WHO)

    assert ([done.redrive_id], done.resumed) == (journals, True)
    assert {x.attempts[0].redrive_id for x in letters_of(lake, DAY)} == set(journals)


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_a_day_that_cannot_be_built_does_not_keep_others_from_being_redriven(lake: Lake, watched: WatchedStore) -> None:
    for day in (DAY, NEXT_DAY):
        put_raw(lake, at(8, day=day), payload(row("1"), OVERFULL, end=b"\n"))
        build(lake, day=day)
    damaged = lake.keys.raw(at(8))
    good = lake.store.get(damaged).body
    watched._client.put_object(Bucket=watched.bucket, Key=damaged, Body=b"x", Metadata={"sha256": "0" * 64})

    done = redriven(lake)

    assert list(done.failures) == [DAY]
    assert damaged in done.failures[DAY]
    assert {x.status for x in letters_of(lake, NEXT_DAY)} == {Status.REPROCESSED}
    assert {(x.status, x.retry_count) for x in letters_of(lake, DAY)} == {(Status.PENDING, 0)}, "no attempt"

    lake.store.put(damaged, good, content_type="text/plain")
    assert counts(redriven(lake)) == (1, 0, 0, 1)


def test_a_store_that_refuses_is_an_error_and_no_attempt_counts(
    lake: Lake, proxied: StoreSettings, proxy: FaultProxy
) -> None:
    spoilt_day(lake)
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="all_enhanced")

    with ObjectStore(proxied) as behind, pytest.raises(StoreRefused):
        redriven(Lake(behind, lake.keys))

    assert {(x.status, x.retry_count) for x in letters_of(lake, DAY)} == {(Status.PENDING, 0)}
    assert counts(redriven(lake)) == (2, 0, 0, 4)


# --- What a look costs ------------------------------------------------------------------------------------------------


def requests_of_a_look(lake: Lake, contract: Contract) -> tuple[dict[str, int], list[Waiting]]:
    before = lake.store.traffic.snapshot()
    found = list(waiting(lake, FORMAT, contract))
    return dict((lake.store.traffic.snapshot() - before).requests), found


def test_letters_of_days_that_are_settled_are_not_read_again(lake: Lake) -> None:
    for n in range(5):
        day = DAY + dt.timedelta(days=n)
        put_raw(lake, at(8, day=day), payload(row("1"), OVERFULL, end=b"\n"))
        build(lake, day=day)
    redriven(lake)

    requests, found = requests_of_a_look(lake, CONTRACTS.enhanced)
    assert (requests, found) == ({"list": 2 + 5, "get": 1}, [])

    put_raw(lake, at(9), payload(row("1"), OVERFULL, end=b"\n"))
    build(lake)  # by the strict contract again: both snapshots have a row that waits
    requests, found = requests_of_a_look(lake, CONTRACTS.enhanced)
    assert requests["get"] == 1 + 2, "the letters of the day that changed"
    assert found == [Waiting(DAY, 2, 2, interrupted=False, unreadable=())]


def test_what_was_given_up_on_is_looked_at_again_when_the_contract_changes_and_what_came_back_is_not(
    lake: Lake,
) -> None:
    put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n"))
    put_raw(lake, at(8, day=NEXT_DAY), payload(row("1"), ZERO_DOCKS, end=b"\n"))
    for day in (DAY, NEXT_DAY):
        build(lake, day=day)
    for _ in range(3):
        redriven(lake, with_errors("overfull"))
    assert requests_of_a_look(lake, with_errors("overfull"))[1] == []

    requests, found = requests_of_a_look(lake, CONTRACTS.enhanced)

    assert requests["get"] == 1 + 1
    assert [x.day for x in found] == [DAY]


def test_a_filtered_redrive_hides_nothing_that_still_waits(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n"))
    put_raw(lake, at(9), payload(row("1"), ZERO_DOCKS, end=b"\n"))
    build(lake)
    contract = with_errors("zero_docks")

    assert redriven(lake, contract, Select(rule="bad_quoting")).days == ()
    assert counts(redriven(lake, contract, Select(rule="overfull"))) == (1, 0, 0, 1)

    assert list(waiting(lake, FORMAT, contract)) == [Waiting(DAY, 1, 1, interrupted=False, unreadable=())]


def test_a_day_with_a_journal_is_looked_at_though_its_letters_are_settled(lake: Lake) -> None:
    spoilt_day(lake)
    redriven(lake)
    lake.store.put(lake.keys.redrive_journal(DAY), b"{", content_type="x")

    assert list(waiting(lake, FORMAT, CONTRACTS.enhanced)) == [Waiting(DAY, 0, 0, interrupted=True, unreadable=())]
    assert redriven(lake).days == (DayRedriven(DAY),)
    assert list(waiting(lake, FORMAT, CONTRACTS.enhanced)) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"2025-05-12": 7}'])
def test_a_note_that_somebody_damaged_costs_a_look_and_hides_nothing(lake: Lake, body: bytes) -> None:
    spoilt_day(lake)
    lake.store.put(lake.keys.redrive_settled, body, content_type="x")

    assert counts(redriven(lake)) == (2, 0, 0, 4)
    assert list(waiting(lake, FORMAT, CONTRACTS.enhanced)) == []


# --- For every day ----------------------------------------------------------------------------------------------------

ROWS = st.lists(
    st.sampled_from([OVERFULL, ZERO_DOCKS, OFF_ZONE, row("9", bikes="x"), row("1"), row("5")]), min_size=1, max_size=6
)
RULES = st.sets(st.sampled_from(["overfull", "zero_docks", "off_zone", "stale_row_time"]))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.lists(ROWS, min_size=1, max_size=3), first=RULES, then=st.lists(RULES, min_size=1, max_size=3))
def test_after_any_redrives_the_day_is_a_clean_build_and_exactly_the_rows_outside_it_wait(
    lake: Lake, days: list[list[bytes]], first: set[str], then: list[set[str]]
) -> None:
    for key in contents(lake):
        lake.store.delete(lake.keys.prefix + key)
    for hour, rows in enumerate(days):
        put_raw(lake, at(hour), payload(*rows, end=b"\n"))
    build(lake, with_errors(*first))
    for names in then:
        redriven(lake, with_errors(*names))

    # Letters of rows that only the last contract sets aside are as new: nothing of them was redriven.
    built = build_enhanced_day(lake, FORMAT, with_errors(*then[-1]), DAY, BUILDER, from_nothing=True)
    redriven_objects = day_objects(lake)
    dead = {(x.source_key, record.line) for x in built.letters for record in x.records}
    wait = {
        (x.source_key, record.line)
        for x in letters_of(lake, DAY)
        if x.status is not Status.REPROCESSED
        for record in x.records
    }
    assert wait == dead
    assert clean_build(lake, with_errors(*then[-1])) == redriven_objects
    audits = records(lake, "audit")
    for letter in letters_of(lake, DAY):
        assert [x["redrive_id"] for x in audits if x["letter_id"] == letter.id] == [
            attempt.redrive_id for attempt in letter.attempts
        ]


def test_a_letter_is_stored_after_its_audit_record_and_its_alert(lake: Lake, watched: WatchedStore) -> None:
    put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n"))
    build(lake)
    (letter,) = letters_of(lake, DAY)
    store_letter(lake.store, lake.keys, letter.model_copy(update={"retry_count": 2}))
    watched.puts.clear()

    redriven(lake, STRICT)

    written = [key.removeprefix(lake.keys.dead_letter_root) for key in watched.puts]
    assert written == [
        f"redrive/{DAY}.json",
        f"dt={DAY}/{letter.id}.json",
        *(key.removeprefix(lake.keys.dead_letter_root) for key in (lake.keys.layer_object(x, DAY) for x in Layer)),
        f"audit/dt={DAY}/{letter.id}-001.json",
        f"alerts/dt={DAY}/{letter.id}.json",
        f"dt={DAY}/{letter.id}.json",
        "redrive/settled.json",
    ]

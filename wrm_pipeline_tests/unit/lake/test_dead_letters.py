"""Dead letters: the envelope that redriving depends on, and its life on a real store."""

import base64
import datetime as dt
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.lake.dead_letters import (
    MAX_ROW_BYTES,
    Attempt,
    DeadLetter,
    DeadRecord,
    Outcome,
    Stage,
    Status,
    UnreadableLetterError,
    count_by,
    letter_id,
    list_letters,
    read_letter,
    read_letters,
    write_letter,
    write_letters,
)
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.object_store import ObjectNotFound, ObjectStore, StoreRefused, build_client
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error

DAY = dt.date(2025, 5, 12)
SOURCE = "bike-data/gen_info/raw/dt=2025-05-12/wrm_stations_2025-05-12_18-10-00.txt"
FIRST = dt.datetime(2025, 5, 12, 18, 15, tzinfo=dt.UTC)
LATER = FIRST + dt.timedelta(days=2)
ATTEMPT = Attempt(
    at=FIRST,
    redrive_id="0b1c6f0e-5d0f-4a3e-8a53-6d7f2f1a9c11",
    code_version_before="1",
    code_version="2",
    contract_version_before="1.0.0-aaaaaaaa",
    contract_version="1.1.0-bbbbbbbb",
    outcome=Outcome.PARTLY,
    accepted_lines=(2, 5),
)


@pytest.fixture
def keys(store: ObjectStore) -> LakeKeys:
    return LakeKeys(store.prefix)


def record(row: bytes = b"15001,x", rule: str = "too_few_fields") -> DeadRecord:
    return DeadRecord.from_row(
        line=3, row=row, source_key=SOURCE, rule=rule, error_class="BadRow", message="2 fields instead of 13"
    )


def letter(*records: DeadRecord, source: str = SOURCE, seen: dt.datetime = FIRST, **fields: Any) -> DeadLetter:
    stage = fields.pop("stage", Stage.PROCESSED)
    return DeadLetter(
        id=letter_id(source, stage),
        source_key=source,
        source_sha256="ab" * 32,
        partition=DAY,
        stage=stage,
        asset="wrm_stations_processed_data_all",
        run_id="run-1",
        code_version="1",
        contract_version="1.0.0-aaaaaaaa",
        first_seen=seen,
        last_seen=seen,
        records=records or (record(),),
        **fields,
    )


# --- The envelope -----------------------------------------------------------------------------------------------------


def test_the_id_of_a_letter_never_changes() -> None:
    """It is the name of the object: another id would leave two letters for one row."""
    assert letter_id(SOURCE, Stage.PROCESSED) == "17822a0d-0c26-5475-b7d3-a24a061d6363"


def test_source_and_stage_decide_the_id() -> None:
    ids = {letter_id(source, stage) for source in (SOURCE, SOURCE + "x") for stage in Stage}

    assert len(ids) == 6
    assert all(uuid.UUID(found).version == 5 for found in ids)


def test_the_envelope_on_the_store_is_json_with_exactly_these_fields(store: ObjectStore, keys: LakeKeys) -> None:
    key = write_letter(store, keys, letter())

    assert json.loads(store.get(key).body) == {
        "schema_version": 2,
        "id": letter_id(SOURCE, Stage.PROCESSED),
        "source_key": SOURCE,
        "source_sha256": "ab" * 32,
        "partition": "2025-05-12",
        "stage": "processed",
        "asset": "wrm_stations_processed_data_all",
        "run_id": "run-1",
        "code_version": "1",
        "contract_version": "1.0.0-aaaaaaaa",
        "first_seen": "2025-05-12T18:15:00Z",
        "last_seen": "2025-05-12T18:15:00Z",
        "status": "pending_reprocessing",
        "retry_count": 0,
        "max_retries": 3,
        "records": [
            {
                "line": 3,
                "row": "15001,x",
                "row_base64": None,
                "pointer": None,
                "rule": "too_few_fields",
                "error_class": "BadRow",
                "message": "2 fields instead of 13",
            }
        ],
        "attempts": [],
    }


@given(st.binary(max_size=200))
def test_a_row_is_kept_to_the_byte(row: bytes) -> None:
    kept = DeadRecord.model_validate_json(record(row).model_dump_json())

    assert (kept.row is None) != (kept.row_base64 is None)
    assert (kept.row.encode() if kept.row is not None else base64.b64decode(kept.row_base64 or "")) == row
    assert kept.pointer is None


def test_a_row_that_is_not_utf8_is_base64() -> None:
    kept = record(b"G\xb3\xf3wny")

    assert (kept.row, kept.row_base64) == (None, "R7Pzd255")


@pytest.mark.parametrize("byte", [b"x", b"\xb3"])
def test_a_row_over_64_kib_is_a_pointer_to_its_line(byte: bytes) -> None:
    kept = record(byte * (MAX_ROW_BYTES + 1))

    assert (kept.row, kept.row_base64, kept.pointer) == (None, None, f"{SOURCE}#line=3")
    assert kept.rule == "too_few_fields"


def test_a_row_of_64_kib_is_kept() -> None:
    assert MAX_ROW_BYTES == 65_536
    assert record(b"x" * 65_536).row == "x" * 65_536


# --- On the store -----------------------------------------------------------------------------------------------------


def test_a_letter_comes_back_as_it_was_written(store: ObjectStore, keys: LakeKeys) -> None:
    written = letter(record("Główny\x00\u2028".encode()), record(b"\xff"), attempts=(ATTEMPT,), retry_count=1)

    key = write_letter(store, keys, written)

    assert key == keys.dead_letter(DAY, written.id)
    assert read_letter(store, key) == written


def test_writing_again_replaces_the_letter_and_keeps_when_it_was_first_seen(store: ObjectStore, keys: LakeKeys) -> None:
    first = write_letter(store, keys, letter())
    second = write_letter(store, keys, letter(record(rule="bad_quoting"), seen=LATER))

    assert list(list_letters(store, keys, DAY)) == [first] == [second]
    found = read_letter(store, first)
    assert (found.first_seen, found.last_seen) == (FIRST, LATER)
    assert [kept.rule for kept in found.records] == ["bad_quoting"]


def test_a_late_write_of_an_early_build_does_not_lose_the_first_sight(store: ObjectStore, keys: LakeKeys) -> None:
    write_letter(store, keys, letter(seen=LATER))
    key = write_letter(store, keys, letter(seen=FIRST))

    assert read_letter(store, key).first_seen == FIRST


@pytest.mark.parametrize(
    ("before", "same_records", "after"),
    [
        (Status.FAILED, True, Status.FAILED),
        (Status.FAILED, False, Status.PENDING),
        (Status.REPROCESSED, True, Status.PENDING),
        (Status.PENDING, True, Status.PENDING),
    ],
)
def test_what_a_redrive_has_learnt_survives_a_rebuild(
    store: ObjectStore, keys: LakeKeys, before: Status, same_records: bool, after: Status
) -> None:
    write_letter(store, keys, letter(record(), status=before, retry_count=3, attempts=(ATTEMPT,)))

    key = write_letter(store, keys, letter(record() if same_records else record(b"other"), seen=LATER))

    found = read_letter(store, key)
    assert (found.status, found.retry_count, found.attempts) == (after, 3, (ATTEMPT,))


# As code before contracts wrote it: no contract, no attempts.
VERSION_1 = """{
 "schema_version": 1,
 "id": "17822a0d-0c26-5475-b7d3-a24a061d6363",
 "source_key": "bike-data/gen_info/raw/dt=2025-05-12/wrm_stations_2025-05-12_18-10-00.txt",
 "source_sha256": "abababababababababababababababababababababababababababababababab",
 "partition": "2025-05-12",
 "stage": "processed",
 "asset": "wrm_stations_processed_data_all",
 "run_id": "run-0",
 "code_version": "1+pyarrow26.0.1",
 "first_seen": "2025-05-12T18:15:00.250000Z",
 "last_seen": "2025-05-13T03:17:00Z",
 "status": "failed_permanently",
 "retry_count": 3,
 "max_retries": 3,
 "records": [
  {
   "line": 3,
   "row": "15001,Główny",
   "row_base64": null,
   "pointer": null,
   "rule": "too_few_fields",
   "error_class": "BadRow",
   "message": "2 fields instead of 13"
  },
  {
   "line": 4,
   "row": null,
   "row_base64": "R7Pzd255",
   "pointer": null,
   "rule": "bad_encoding",
   "error_class": "BadRow",
   "message": "byte 1 of the row is not UTF-8"
  }
 ],
 "attempts": []
}"""


def test_an_envelope_of_version_1_is_read_and_brought_up_to_date(store: ObjectStore, keys: LakeKeys) -> None:
    key = keys.dead_letter(DAY, letter().id)
    store.put(key, VERSION_1.encode(), content_type="application/json")

    found = read_letter(store, key)

    carried = json.loads(VERSION_1)
    assert found.model_dump(mode="json") == {**carried, "schema_version": 2, "contract_version": ""}
    assert found.first_seen == FIRST + dt.timedelta(milliseconds=250)
    assert store.get(key).body == VERSION_1.encode()


def test_a_letter_of_version_1_is_replaced_by_one_of_today_that_knows_its_past(
    store: ObjectStore, keys: LakeKeys
) -> None:
    key = keys.dead_letter(DAY, letter().id)
    store.put(key, VERSION_1.encode(), content_type="application/json")

    write_letter(store, keys, letter(seen=LATER))

    stored = json.loads(store.get(key).body)
    assert (stored["schema_version"], stored["contract_version"]) == (2, "1.0.0-aaaaaaaa")
    assert (stored["first_seen"], stored["last_seen"]) == ("2025-05-12T18:15:00.250000Z", "2025-05-14T18:15:00Z")
    assert (stored["retry_count"], stored["status"]) == (3, "pending_reprocessing")


def test_a_letter_of_version_1_that_was_given_up_on_stays_so_while_nothing_about_it_changes(
    store: ObjectStore, keys: LakeKeys
) -> None:
    key = keys.dead_letter(DAY, letter().id)
    store.put(key, VERSION_1.encode(), content_type="application/json")
    same = read_letter(store, key).records

    write_letter(store, keys, letter(*same, seen=LATER))

    assert read_letter(store, key).status is Status.FAILED


def test_letters_of_both_versions_are_read_together(store: ObjectStore, keys: LakeKeys) -> None:
    store.put(keys.dead_letter(DAY, letter().id), VERSION_1.encode(), content_type="application/json")
    write_letter(store, keys, letter(source=SOURCE + "x"))
    store.put(keys.dead_letter(DAY, "zz"), b"{", content_type="application/json")

    found, unreadable = read_letters(store, keys, DAY)

    assert sorted(one.contract_version for one in found) == ["", "1.0.0-aaaaaaaa"]
    assert [keys.dead_letter(DAY, "zz") in why for why in unreadable] == [True]


VERSION_2 = letter().model_dump_json()
DAMAGE = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"schema_version": 2, "id": "\xff"}',
    "brackets without end": b"[" * 100_000,
    "a list": b"[]",
    "a number": b"1",
    "a field missing": b'{"schema_version": 2}',
    "a field missing, of version 1": b'{"schema_version": 1}',
    "no version": VERSION_2.replace('"schema_version":2', '"schema_version":null').encode(),
    "a version of tomorrow": VERSION_2.replace('"schema_version":2', '"schema_version":3').encode(),
    "a field that nobody knows": VERSION_2.replace('"id"', '"x":1,"id"').encode(),
    "a field that version 1 did not know": VERSION_1.replace('"id"', '"x":1,"id"').encode(),
    "a status that nobody knows": VERSION_2.replace("pending_reprocessing", "lost").encode(),
    "a count as a text": VERSION_2.replace('"retry_count":0', '"retry_count":"none"').encode(),
}


@pytest.mark.parametrize("body", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_letter_is_one_sentence_when_read_and_is_kept_to_the_byte_when_its_source_fails_again(
    store: ObjectStore, keys: LakeKeys, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    """Somebody may still want to know what it said; the rows themselves are in the source."""
    key = keys.dead_letter(DAY, letter().id)
    store.put(key, body, content_type="application/json")

    with pytest.raises(UnreadableLetterError, match="is not a dead letter of a known version") as caught:
        read_letter(store, key)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500

    assert write_letter(store, keys, letter()) == key
    assert store.get(key).body == body
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert key in warning.getMessage()
    assert "left as it is; remove it" in warning.getMessage()


def test_a_damaged_letter_that_was_removed_is_made_anew(store: ObjectStore, keys: LakeKeys) -> None:
    key = keys.dead_letter(DAY, letter().id)
    store.put(key, b"{", content_type="application/json")
    write_letter(store, keys, letter())
    store.delete(key)

    write_letter(store, keys, letter())

    assert read_letter(store, key) == letter()


def test_a_letter_whose_bytes_were_damaged_at_rest_does_not_stop_a_build_and_is_kept(
    store: ObjectStore, keys: LakeKeys, store_settings: StoreSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed checksum once stopped every build of the day until somebody deleted the letter by hand."""
    key = keys.dead_letter(DAY, letter().id)
    client = build_client(store_settings)
    body = VERSION_2.encode()
    client.put_object(Bucket=store_settings.bucket, Key=key, Body=body, Metadata={"sha256": "0" * 64})

    with pytest.raises(UnreadableLetterError, match=key):
        read_letter(store, key)

    write_letter(store, keys, letter(seen=LATER))
    assert client.get_object(Bucket=store_settings.bucket, Key=key)["Body"].read() == body
    client.close()
    assert any(key in record.getMessage() for record in caplog.records if record.levelname == "WARNING")


def test_a_letter_that_is_not_there_is_not_a_damaged_one(store: ObjectStore, keys: LakeKeys) -> None:
    with pytest.raises(ObjectNotFound):
        read_letter(store, keys.dead_letter(DAY, "no-such"))


def test_a_letter_that_cannot_be_read_for_now_is_not_overwritten(
    store: ObjectStore, keys: LakeKeys, proxied: StoreSettings, proxy: FaultProxy
) -> None:
    """An outage must not cost what the letter knows of its past."""
    key = write_letter(store, keys, letter(retry_count=2))
    proxy.add(Answer(403, s3_error("AccessDenied")), method="GET", path=letter().id)

    with ObjectStore(proxied) as behind, pytest.raises(StoreRefused):
        write_letter(behind, keys, letter(seen=LATER))

    assert read_letter(store, key) == letter(retry_count=2)


def test_all_letters_are_stored_when_writing_returns(store: ObjectStore, keys: LakeKeys) -> None:
    letters = [letter(source=f"{SOURCE}-{number}") for number in range(20)]

    written = write_letters(store, keys, letters)

    assert written == [keys.dead_letter(DAY, one.id) for one in letters]
    assert sorted(list_letters(store, keys, DAY)) == sorted(written)
    assert write_letters(store, keys, []) == []


def test_one_letter_that_cannot_be_written_fails_the_whole(proxied: StoreSettings, proxy: FaultProxy) -> None:
    letters = [letter(source=f"{SOURCE}-{number}") for number in range(10)]
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path=letters[7].id)

    with ObjectStore(proxied) as store, pytest.raises(StoreRefused, match="AccessDenied"):
        write_letters(store, LakeKeys(store.prefix), letters)


def test_only_letters_of_the_day_are_listed(store: ObjectStore, keys: LakeKeys) -> None:
    key = write_letter(store, keys, letter())
    store.put(keys.dead_payload(DAY, "ab"), b"<html>", content_type="application/octet-stream")
    store.put(keys.dead_letter(DAY + dt.timedelta(days=1), "other"), b"{}", content_type="application/json")

    assert list(list_letters(store, keys, DAY)) == [key]


def test_counts_are_by_rule_stage_and_status_most_frequent_first() -> None:
    letters = [
        letter(record(rule="b"), record(rule="b"), record(rule="z")),
        letter(record(rule="a"), stage=Stage.RAW, status=Status.FAILED),
    ]

    assert list(count_by(letters).items()) == [
        (("b", "processed", "pending_reprocessing"), 2),
        (("a", "raw", "failed_permanently"), 1),
        (("z", "processed", "pending_reprocessing"), 1),
    ]

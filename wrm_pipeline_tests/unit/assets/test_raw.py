"""The raw asset: what the feed shows is kept byte for byte, and what is no snapshot never becomes data."""

import datetime as dt
import hashlib

import pytest

from wrm_pipeline.feed.base import PayloadFault
from wrm_pipeline.feed.simulator import BadDay
from wrm_pipeline.lake.dead_letters import Stage, Status
from wrm_pipeline_tests.fixtures.dagster import Pipeline, contents, failure_of, letters_of

ASSET = "wrm_stations_raw_data"


def today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def all_letters(pipeline: Pipeline) -> list[str]:
    return [key for key in contents(pipeline.lake, "dlq/") if key.endswith(".json")]


def test_a_poll_stores_the_bytes_and_reports_key_checksum_size_and_rows(pipeline: Pipeline) -> None:
    run = pipeline.ingest()

    assert run.success
    metadata = pipeline.materializations(run, ASSET)[None]
    stored = pipeline.lake.store.get(metadata["key"])
    assert metadata["sha256"] == hashlib.sha256(stored.body).hexdigest()
    assert metadata["bytes"] == len(stored.body)
    assert metadata["duplicate"] is False
    assert metadata["dagster/uri"] == pipeline.lake.store.uri(metadata["key"])
    rows = len(stored.body.splitlines()) - 1
    assert metadata["dagster/row_count"] == metadata["dagster/partition_row_count"] == metadata["rows_in"] == rows
    assert metadata["rows_in"] == metadata["rows_kept"] + metadata["rows_dead"] + metadata["rows_duplicate"]
    assert metadata["rows_station"] > 200
    assert metadata["rows_station"] + metadata["rows_bike"] + metadata["rows_unknown"] == metadata["rows_kept"]
    assert metadata["inputs"] == 1
    assert metadata["seconds"] > 0
    assert metadata["preview"].startswith("| station_id | name |")
    assert all(column.description for column in metadata["dagster/column_schema"].columns)


def test_rows_that_cannot_be_read_are_stored_all_the_same_and_counted(pipeline: Pipeline) -> None:
    pipeline.feed.bad_rows = 3

    run = pipeline.ingest()

    assert run.success
    metadata = pipeline.materializations(run, ASSET)[None]
    assert metadata["rows_dead"] == 3
    assert metadata["rows_in"] == metadata["rows_kept"] + metadata["rows_dead"] + metadata["rows_duplicate"]


def test_a_frozen_feed_adds_nothing_and_says_so(pipeline: Pipeline) -> None:
    pipeline.feed.fault = BadDay.FROZEN
    first = pipeline.ingest()
    before = contents(pipeline.lake)

    second = pipeline.ingest()

    assert first.success
    assert second.success
    assert contents(pipeline.lake) == before
    assert len(contents(pipeline.lake, "raw/")) == 1
    metadata = pipeline.materializations(second, ASSET)[None]
    assert metadata["duplicate"] is True
    assert metadata["key"] == pipeline.materializations(first, ASSET)[None]["key"]


def test_two_polls_that_see_different_bytes_store_two_objects(pipeline: Pipeline) -> None:
    assert pipeline.ingest().success
    assert pipeline.ingest().success

    assert len(contents(pipeline.lake, "raw/")) == 2


BAD_PAYLOADS = {
    BadDay.HTML: (PayloadFault.HTML, "a web page came instead of the feed"),
    BadDay.EMPTY: (PayloadFault.EMPTY, "empty"),
    BadDay.HEADER_ONLY: (PayloadFault.HEADER_ONLY, "header"),
    BadDay.WRONG_HEADER: (PayloadFault.WRONG_HEADER, "header"),
    BadDay.TRUNCATED: (PayloadFault.CUT_OFF, "cut"),
    BadDay.CUT_TRANSFER: (PayloadFault.CUT_OFF, "cut off"),
}


@pytest.mark.parametrize("bad_day", BAD_PAYLOADS, ids=str)
def test_what_is_no_snapshot_fails_the_run_is_kept_beside_a_letter_and_the_next_poll_works(
    pipeline: Pipeline, bad_day: BadDay
) -> None:
    kind, word = BAD_PAYLOADS[bad_day]
    pipeline.feed.fault = bad_day

    run = pipeline.ingest()

    assert not run.success
    sentence = failure_of(run)
    assert f"no snapshot ({kind})" in sentence
    assert word in sentence
    assert "Traceback" not in sentence
    assert contents(pipeline.lake, "raw/") == {}
    (letter,) = letters_of(pipeline.lake, today())
    assert (letter.stage, letter.status, letter.asset) == (Stage.RAW, Status.PENDING, ASSET)
    assert letter.run_id == run.run_id
    assert [(record.line, record.rule) for record in letter.records] == [(None, kind)]
    payload = pipeline.lake.store.get(letter.source_key).body
    assert hashlib.sha256(payload).hexdigest() == letter.source_sha256
    assert f"{len(payload)} bytes" in sentence

    pipeline.feed.fault = None
    assert pipeline.ingest().success
    assert len(contents(pipeline.lake, "raw/")) == 1


def test_the_payload_that_is_kept_is_what_came(pipeline: Pipeline) -> None:
    pipeline.feed.fault = BadDay.HTML
    pipeline.ingest()

    (letter,) = letters_of(pipeline.lake, today())

    assert b"The database is being updated" in pipeline.lake.store.get(letter.source_key).body


def test_the_same_error_page_at_each_poll_is_one_letter(pipeline: Pipeline) -> None:
    pipeline.feed.fault = BadDay.HTML
    first, second = pipeline.ingest(), pipeline.ingest()

    (letter,) = letters_of(pipeline.lake, today())

    assert letter.run_id == second.run_id != first.run_id
    assert letter.first_seen < letter.last_seen


OUTAGES = {
    BadDay.UNAVAILABLE: "503",
    BadDay.SLOW: "too slow or stuck",
    BadDay.REDIRECT: "Redirects are not followed",
    BadDay.GZIP_BOMB: "larger than 16 MiB",
}


@pytest.mark.parametrize("bad_day", OUTAGES, ids=str)
def test_an_outage_fails_the_run_with_a_sentence_and_is_never_a_dead_letter(
    pipeline: Pipeline, bad_day: BadDay
) -> None:
    pipeline.feed.fault = bad_day

    run = pipeline.ingest()

    sentence = failure_of(run)
    assert OUTAGES[bad_day] in sentence
    assert f"127.0.0.1:{pipeline.feed.port}" in sentence
    assert "hush" not in sentence
    assert contents(pipeline.lake) == {}


def test_a_feed_that_is_down_fails_the_run_and_names_the_address(pipeline: Pipeline) -> None:
    pipeline.feed.stop()

    sentence = failure_of(pipeline.ingest())

    assert f"127.0.0.1:{pipeline.feed.port}" in sentence
    assert "cannot be reached" in sentence
    assert contents(pipeline.lake) == {}

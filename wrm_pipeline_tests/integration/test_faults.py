"""Faults of the store, on the wire, through Dagster runs: the right result, or one sentence and no partial day."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from wrm_pipeline.cli import main as command_line
from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline_tests.fixtures.dagster import DAY, Pipeline, at, contents, failure_of, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import (
    HTML,
    SLOW_DOWN,
    Answer,
    CutBody,
    FaultProxy,
    FlipByte,
    Reset,
    s3_error,
)

HTML_200 = Answer(200, HTML, {"Content-Type": "text/html"})


@pytest.fixture(autouse=True)
def _day_in_raw(pipeline: Pipeline) -> None:
    """Three snapshots, one of them with bad rows, so that every kind of object is written."""
    put_raw(pipeline.lake, at(8))
    put_raw(pipeline.lake, at(9), with_bad_rows(snapshot(1, at(9)), 3, 0))
    put_raw(pipeline.lake, at(10))


@pytest.fixture
def behind_proxy(pipeline: Pipeline, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """The runs' way to the store, where faults can be put in."""
    monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
    return proxy


def built(pipeline: Pipeline) -> dict[str, str]:
    """Return what an undisturbed run makes of the day, and take it away again."""
    before = contents(pipeline.lake)
    assert pipeline.process(DAY).success
    made = {key: etag for key, etag in contents(pipeline.lake).items() if key not in before}
    for key in made:
        pipeline.lake.store.delete(pipeline.lake.keys.prefix + key)
    assert len(made) == 3
    return made


def made_by_runs(pipeline: Pipeline) -> dict[str, str]:
    return {key: etag for key, etag in contents(pipeline.lake).items() if not key.startswith("raw/")}


def without_letters(objects: dict[str, str]) -> dict[str, str]:
    """Leave the letters out: they say when they were written, so their ETags differ."""
    return {key: etag for key, etag in objects.items() if not key.startswith("dlq/")}


REFUSALS = {
    "key refused": ({"S3_SECRET_ACCESS_KEY": "wrong"}, "S3_SECRET_ACCESS_KEY"),
    "bucket missing": ({"BUCKET_NAME": "no-such-bucket"}, "BUCKET_NAME"),
    "server down": ({"S3_ENDPOINT_URL": "http://127.0.0.1:{port}", "WRM_S3_RETRY_BUDGET_S": "0.3"}, "S3_ENDPOINT_URL"),
}


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("job", ["process", "ingest"])
def test_a_store_that_cannot_be_used_fails_the_run_with_one_sentence_and_changes_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, fault: str, job: str
) -> None:
    before = contents(pipeline.lake)
    variables, remedy = REFUSALS[fault]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(port=free_port()))

    run = pipeline.process(DAY) if job == "process" else pipeline.ingest()

    sentence = failure_of(run)
    assert remedy in sentence
    assert "Traceback" not in sentence
    assert len(sentence.splitlines()) == 1
    assert contents(pipeline.lake) == before


PASSING: dict[str, Callable[[FaultProxy], None]] = {
    "503 on three listings": lambda proxy: proxy.add(Answer(503, SLOW_DOWN), path="list-type=2", times=3),
    "503 on three reads": lambda proxy: proxy.add(Answer(503, SLOW_DOWN), method="GET", path=".txt", times=3),
    "503 on three writes": lambda proxy: proxy.add(Answer(503, SLOW_DOWN), method="PUT", times=3),
    "503 with a web page": lambda proxy: proxy.add(Answer(503, HTML, {"Content-Type": "text/html"}), times=3),
    "a listing cut": lambda proxy: proxy.add(CutBody(200), path="list-type=2"),
    "a raw object cut": lambda proxy: proxy.add(CutBody(1000), method="GET", path=".txt"),
    "a raw object cut after its first byte": lambda proxy: proxy.add(CutBody(1), method="GET", path=".txt", times=2),
    "a flipped bit": lambda proxy: proxy.add(FlipByte(500), method="GET", path=".txt"),
    "a listing that is a web page": lambda proxy: proxy.add(HTML_200, path="list-type=2"),
    "a raw object that is a web page": lambda proxy: proxy.add(HTML_200, method="GET", path=".txt"),
    "a write answered with a web page": lambda proxy: proxy.add(HTML_200, method="PUT", path=".parquet"),
    "a letter's write answered with a web page": lambda proxy: proxy.add(HTML_200, method="PUT", path="dlq"),
    "a write reset before it arrives": lambda proxy: proxy.add(Reset(), method="PUT"),
    "a write reset after it was applied": lambda proxy: proxy.add(Reset(applied=True), method="PUT", times=2),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_leaves_the_same_bytes_as_none(
    pipeline: Pipeline, behind_proxy: FaultProxy, fault: str
) -> None:
    undisturbed = built(pipeline)
    behind_proxy.clear()
    PASSING[fault](behind_proxy)

    run = pipeline.process(DAY)

    assert run.success
    assert without_letters(made_by_runs(pipeline)) == without_letters(undisturbed)
    assert set(made_by_runs(pipeline)) == set(undisturbed)
    assert [len(letter.records) for letter in letters_of(pipeline.lake, DAY)] == [3]


LASTING: dict[str, tuple[Callable[[FaultProxy], None], str]] = {
    "listings fail": (lambda proxy: proxy.add(Answer(503, SLOW_DOWN), path="list-type=2", times=None), "SlowDown"),
    "reads fail": (lambda proxy: proxy.add(Answer(500), method="GET", path=".txt", times=None), "HTTP 500"),
    "writes fail": (lambda proxy: proxy.add(Answer(503, SLOW_DOWN), method="PUT", times=None), "SlowDown"),
    "parquet is refused": (
        lambda proxy: proxy.add(Answer(403, s3_error("QuotaExceeded")), method="PUT", path=".parquet", times=None),
        "quota",
    ),
    "listings are web pages": (
        lambda proxy: proxy.add(HTML_200, path="list-type=2", times=None),
        "answered 200 with something that is not S3",
    ),
    "raw objects are web pages": (
        lambda proxy: proxy.add(HTML_200, method="GET", path=".txt", times=None),
        "answered 200 with something that is not S3",
    ),
    "writes are answered with web pages": (
        lambda proxy: proxy.add(HTML_200, method="PUT", path="all_processed", times=None),
        "answered 200 with something that is not S3",
    ),
    "bodies are cut": (
        lambda proxy: proxy.add(CutBody(100), method="GET", path=".txt", times=None),
        ".txt at http://127",
    ),
    "bits are flipped": (lambda proxy: proxy.add(FlipByte(50), method="GET", path=".txt", times=None), "checksum"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_is_one_sentence_and_leaves_no_partial_day(
    pipeline: Pipeline, behind_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    undisturbed = built(pipeline)
    monkeypatch.setenv("WRM_S3_RETRY_BUDGET_S", "0.5")
    put_fault, words = LASTING[fault]
    put_fault(behind_proxy)

    sentence = failure_of(pipeline.process(DAY))

    assert words in sentence
    assert len(sentence.splitlines()) == 1
    assert without_letters(made_by_runs(pipeline)) == {}
    # An outage is never a dead letter: only the bad rows may have become one by then.
    assert {record.line is None for letter in letters_of(pipeline.lake, DAY) for record in letter.records} <= {False}

    behind_proxy.clear()
    monkeypatch.setenv("WRM_S3_CONCURRENCY", "64")  # the breaker is open now; one for more threads is not
    assert pipeline.process(DAY).success
    assert without_letters(made_by_runs(pipeline)) == without_letters(undisturbed)


def test_when_enhanced_cannot_be_written_the_old_day_stays_whole(pipeline: Pipeline, behind_proxy: FaultProxy) -> None:
    assert pipeline.process(DAY).success
    old = contents(pipeline.lake, "enhanced/")
    put_raw(pipeline.lake, at(11))
    behind_proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="all_enhanced", times=None)

    assert not pipeline.process(DAY).success
    assert contents(pipeline.lake, "enhanced/") == old

    behind_proxy.clear()
    assert pipeline.process(DAY).success
    assert contents(pipeline.lake, "enhanced/") != old


def test_a_letter_that_cannot_be_written_keeps_the_day_from_being_written(
    pipeline: Pipeline, behind_proxy: FaultProxy
) -> None:
    """Dead letters first: else rows would be left out of a day and kept nowhere."""
    behind_proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="dlq", times=None)

    assert not pipeline.process(DAY).success
    assert made_by_runs(pipeline) == {}


def test_a_poll_whose_write_was_applied_but_not_answered_is_one_object(
    pipeline: Pipeline, behind_proxy: FaultProxy
) -> None:
    before = contents(pipeline.lake, "raw/")
    behind_proxy.add(Reset(applied=True), method="PUT", path=".txt")

    assert pipeline.ingest().success
    assert len(contents(pipeline.lake, "raw/")) == len(before) + 1


@pytest.mark.parametrize(
    "fault", [Answer(503, SLOW_DOWN), HTML_200, Reset(), Reset(applied=True)], ids=["503", "html", "reset", "applied"]
)
def test_a_poll_goes_on_after_each_passing_fault(pipeline: Pipeline, behind_proxy: FaultProxy, fault: Answer) -> None:
    before = contents(pipeline.lake)
    behind_proxy.add(fault, times=3)

    assert pipeline.ingest().success
    assert len(contents(pipeline.lake)) == len(before) + 1


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"<html></html>", b"PAR1" + bytes(100) + b"PAR1"])
@pytest.mark.parametrize("layer", Layer)
def test_a_corrupt_stored_day_is_rebuilt_from_raw(pipeline: Pipeline, layer: Layer, damage: bytes) -> None:
    assert pipeline.process(DAY).success
    good = without_letters(contents(pipeline.lake))
    key = pipeline.lake.keys.layer_object(layer, DAY)
    pipeline.lake.store.put(key, damage, content_type="application/vnd.apache.parquet")

    assert pipeline.process(DAY).success
    assert without_letters(contents(pipeline.lake)) == good


def test_two_runs_of_one_day_at_the_same_time_end_as_one(pipeline: Pipeline) -> None:
    undisturbed = built(pipeline)
    together = threading.Barrier(2)

    def process() -> bool:
        # An instance each: Dagster's in-memory one is not made for two threads, and it is not what is tested.
        with dg.DagsterInstance.ephemeral() as instance:
            together.wait()
            return replace(pipeline, instance=instance).process(DAY).success

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(process), pool.submit(process)]
        assert [run.result() for run in both] == [True, True]

    assert without_letters(made_by_runs(pipeline)) == without_letters(undisturbed)
    assert set(made_by_runs(pipeline)) == set(undisturbed)


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("command", [["status"], ["doctor"], ["run", "--snapshots", "1"]], ids=lambda c: c[0])
def test_in_a_terminal_a_fault_is_a_sentence_and_exit_code_1(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    fault: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")  # put back afterwards: `wrm run` sets it for its process
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.setattr("sys.argv", ["wrm", *command])
    monkeypatch.setenv("COLUMNS", "250")
    variables, remedy = REFUSALS[fault]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(port=free_port()))

    with pytest.raises(SystemExit) as end:
        command_line.main()

    out, err = capfd.readouterr()
    assert end.value.code == 1
    assert remedy in out + err
    assert "Traceback" not in out + err

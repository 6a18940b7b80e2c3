"""Log lines: what they hold, that each record is one and only one, and that no secret is in it."""

import datetime as dt
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import wrm_pipeline
from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import logs, redaction
from wrm_pipeline.telemetry.logs import bind, redacted_errors, redacted_exception, redacted_output
from wrm_pipeline.telemetry.redaction import REDACTED, register_secret

SECRET = 'canary of a "test" żółć'
REPOSITORY = Path(wrm_pipeline.__file__).parents[1]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`configure` is for a process; give this one its logging back."""
    monkeypatch.setattr(redaction, "_values", set())
    monkeypatch.setattr(redaction, "_forms", ())
    root = logging.getLogger()
    before = root.handlers[:], logging.getLogRecordFactory(), vars(logs._Lines).copy()
    monkeypatch.setattr("coloredlogs.install", lambda *_, **__: None)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    with warnings.catch_warnings():
        yield
    root.handlers[:] = before[0]
    logging.setLogRecordFactory(before[1])
    logging.captureWarnings(capture=False)
    for name in ("json", "level", "quiet"):
        setattr(logs._Lines, name, before[2][name])
    logs._formatter.cache_clear()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Log as JSON, and read what has been written since the last call."""
    monkeypatch.setenv("WRM_LOG_FORMAT", "json")
    logs.configure(load_settings())
    register_secret(SECRET)
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def log() -> logging.Logger:
    return logging.getLogger("wrm_pipeline.some.module")


def test_a_line_says_when_how_bad_what_and_who(lines: Lines) -> None:
    before = dt.datetime.now(dt.UTC)

    log().warning("%d of %d stations answered", 3, 4)

    (line,) = lines()
    assert list(line) == ["time", "level", "event", "logger"]
    assert line["event"] == "3 of 4 stations answered"
    assert (line["level"], line["logger"]) == ("warning", "wrm_pipeline.some.module")
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2025-05-12T18:05:01.123Z")
    assert abs(dt.datetime.fromisoformat(line["time"]) - before) < dt.timedelta(seconds=5)


def test_what_is_bound_is_on_every_line_until_the_block_ends(lines: Lines) -> None:
    with bind(run_id="r", job="j", asset="a", partition=None), bind(correlation_id="c", day=dt.date(2025, 5, 12)):
        log().error("in")
    log().error("out")

    inside, outside = lines()
    assert list(inside)[4:] == ["run_id", "job", "asset", "correlation_id", "day"]
    assert (inside["run_id"], inside["asset"], inside["correlation_id"]) == ("r", "a", "c")
    assert inside["day"] == "2025-05-12"
    assert list(outside) == ["time", "level", "event", "logger"]


def test_threads_of_a_pool_write_the_correlation_id_too_even_of_a_pool_that_is_older(lines: Lines) -> None:
    with ThreadPoolExecutor(2) as pool:
        pool.submit(log().error, "before").result()
        with bind(correlation_id="wrm_stations_2025-05-12_18-05-01"):
            for number in range(4):
                pool.submit(log().error, "%d", number).result()
        pool.submit(log().error, "after").result()

    ids = [line.get("correlation_id") for line in lines()]
    assert ids == [None, *["wrm_stations_2025-05-12_18-05-01"] * 4, None]


def test_a_thread_s_own_context_comes_first(lines: Lines) -> None:
    both, done = threading.Barrier(2), threading.Barrier(2)

    def work(name: str) -> None:
        with bind(correlation_id=name):
            both.wait(10)
            log().error(name)
            done.wait(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted((line["event"], line["correlation_id"]) for line in lines()) == [("one", "one"), ("two", "two")]
    assert logs.bound() == {}


def fail_for_a_reason(failure: Exception, reason: Exception) -> None:
    raise failure from reason


def fail_while_handling(failure: Exception, handled: Exception) -> None:
    try:
        fail(handled)
    except type(handled):
        fail(failure)


def fail(failure: Exception) -> None:
    raise failure


def test_an_exception_is_its_class_its_first_line_and_its_text_with_its_causes(lines: Lines) -> None:
    try:
        fail_for_a_reason(ValueError("first line\nsecond line"), KeyError("inner"))
    except ValueError:
        log().exception("it failed")

    (line,) = lines()
    assert (line["error_class"], line["error"]) == ("ValueError", "first line")
    assert "KeyError: 'inner'" in line["exception"]
    assert "Traceback" in line["exception"]
    assert "direct cause" in line["exception"]
    assert line["exception"].endswith("second line")


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b", "Wrocław 🚲", "\ud800", "\x00", '"{', "100 %"]
)
def test_one_record_is_one_line_whatever_it_says(lines: Lines, text: str) -> None:
    # Not by a logger: pytest would catch it, and report it as UTF-8, which has no lone surrogate.
    record = log().makeRecord("library", logging.ERROR, "file.py", 1, text, (), None)
    logs.LineHandler().handle(record)

    (line,) = lines()
    assert line["event"] == text


def test_extras_are_values_of_the_line_and_their_names_are_looked_at(lines: Lines) -> None:
    log().error("got", extra={"rows": 3, "password": "short", "of": Path("/x"), "partition": "2025-05-12"})

    (line,) = lines()
    assert (line["rows"], line["password"], line["of"], line["partition"]) == (3, REDACTED, "/x", "2025-05-12")


@pytest.mark.parametrize(
    "say",
    [
        lambda: log().error("it is " + SECRET),
        lambda: log().error("it is %s", SECRET),
        lambda: log().error("it is %r", {"key": SECRET}),
        lambda: log().error("got", extra={"key": SECRET, "deep": {"er": [SECRET.encode()]}}),
        lambda: log().error("got", extra={"key": type("Thing", (), {"__str__": lambda _: SECRET})()}),
        lambda: log().error("got", exc_info=ValueError(SECRET)),
        lambda: logging.getLogger("a.third.library").error("it is %s", SECRET),
        lambda: log().error(ValueError(SECRET)),
    ],
)
def test_no_line_holds_a_secret(lines: Lines, capsys: pytest.CaptureFixture[str], say: Callable[[], None]) -> None:
    say()

    written = capsys.readouterr().err
    assert written
    assert "canary" not in written
    assert REDACTED in written


def test_nor_does_a_record_for_whatever_handler_it_is(lines: Lines) -> None:
    """Dagster's event log and the logs of sensors are handlers that write the record itself."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("wrm_pipeline.test_records")
    logger.addHandler(handler)

    try:
        fail(ValueError(SECRET))
    except ValueError:
        logger.exception("it is %s", SECRET)

    (record,) = records
    assert record.getMessage() == f"it is {REDACTED}"
    assert "canary" not in logging.Formatter().format(record)
    assert "canary" not in str(record.__dict__)


def test_a_wrong_log_call_is_reported_as_ever_without_secrets_and_stops_nothing(
    lines: Lines, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("wrm_pipeline.test_wrong_call")
    monkeypatch.setattr(logger, "propagate", False)  # pytest's own handler raises
    monkeypatch.setattr(logger, "handlers", [logs.LineHandler()])

    logger.error("%d stations", SECRET)

    said = capsys.readouterr().err
    assert "Logging error" in said
    assert f"Arguments: ('{REDACTED}',)" in said


def test_records_of_no_interest_are_no_lines(lines: Lines) -> None:
    log().debug("too detailed")
    logging.getLogger("botocore.auth").debug("a request with its headers")
    with logs.quiet():
        log().error("while a progress bar is drawn")

    assert lines() == []


def test_at_debug_libraries_that_write_whole_requests_stay_at_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_LOG_LEVEL", "DEBUG")
    for name in ("botocore", "hvac", "urllib3"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)

    logs.configure(load_settings())

    assert log().isEnabledFor(logging.DEBUG)
    for name in ("botocore.auth", "hvac.adapters", "urllib3.connectionpool"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)


def test_an_error_that_nobody_caught_is_a_line_too(lines: Lines) -> None:
    thread = threading.Thread(target=fail, args=(ValueError(SECRET),), name="worker")
    thread.start()
    thread.join()
    try:
        fail(KeyError(SECRET))
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)

    in_thread, at_the_end = lines()
    assert in_thread["event"] == "An error that nobody caught ends the thread worker."
    assert (in_thread["error_class"], in_thread["error"]) == ("ValueError", REDACTED)
    assert (at_the_end["level"], at_the_end["error_class"]) == ("critical", "KeyError")
    assert "canary" not in at_the_end["exception"]


def test_ctrl_c_ends_a_process_as_ever(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    assert capsys.readouterr().err == "KeyboardInterrupt\n"


def test_a_warning_of_python_is_a_line(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    (line,) = lines()
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in line["event"]


@pytest.mark.parametrize(
    ("variables", "is_json"),
    [
        ({}, False),
        ({"WRM_ENV": "staging"}, True),
        ({"WRM_ENV": "production"}, True),
        ({"WRM_ENV": "production", "WRM_LOG_FORMAT": "console"}, False),
        ({"WRM_LOG_FORMAT": "json"}, True),
    ],
)
def test_people_read_columns_in_development_and_machines_read_json_elsewhere(
    variables: dict[str, str],
    is_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    logs.configure(load_settings())

    with bind(run_id="0123456789", asset="a", job="j"):
        log().warning("snapshot is late", extra={"minutes": 7})

    text = capsys.readouterr().err
    assert text.startswith("{") == is_json
    if not is_json:
        assert "[warning" in text
        assert "snapshot is late" in text
        assert "run_id=01234567 asset=a minutes=7" in text


def test_configuring_twice_writes_no_line_twice(lines: Lines) -> None:
    logs.configure(load_settings())

    log().error("once")

    assert [line["event"] for line in lines()] == ["once"]


@pytest.mark.usefixtures("lines")
def test_an_event_that_takes_the_place_of_one_that_was_looked_at_is_redacted_too() -> None:
    """A record remembers that its event is clean, since each handler asks for it; that is said of this event alone."""
    first = dg.DagsterEvent("PIPELINE_START", "some_job", message=f"first with {SECRET}")
    second = dg.DagsterEvent("PIPELINE_START", "some_job", message=f"second with {SECRET}")
    record = logging.makeLogRecord({"dagster_event": first})
    assert record.dagster_event.message == f"first with {REDACTED}"  # type: ignore[attr-defined]
    assert record.dagster_event is record.dagster_event  # type: ignore[attr-defined]

    record.dagster_event = second  # type: ignore[attr-defined]

    assert record.dagster_event.message == f"second with {REDACTED}"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("lines")
class TestErrors:
    def test_one_without_a_secret_stays_itself(self) -> None:
        error = ValueError("harmless")
        error.__cause__ = KeyError("harmless too")

        assert redacted_exception(error) is error
        assert isinstance(error.__cause__, KeyError)

    def test_one_with_a_secret_keeps_its_name_its_place_and_its_chain(self) -> None:
        reason = ConnectionError(f"cannot log in with {SECRET}")
        reason.add_note(f"tried {SECRET}")

        with pytest.raises(logs.RedactedError) as caught, redacted_errors():
            fail_for_a_reason(RuntimeError(f"no store: {reason}"), reason)

        clean = caught.value
        assert type(clean).__name__ == "RuntimeError"
        assert str(clean) == f"no store: cannot log in with {REDACTED}"
        assert type(clean.__cause__).__name__ == "ConnectionError"
        assert clean.__cause__ is not None
        assert clean.__cause__.__notes__ == [f"tried {REDACTED}"]
        assert caught.traceback[-1].name == "fail_for_a_reason"
        assert SECRET not in every_text_of(clean)

    def test_a_clean_one_keeps_its_class_and_loses_the_secrets_of_its_causes(self) -> None:
        with pytest.raises(dg.Failure) as caught, redacted_errors():
            fail_for_a_reason(dg.Failure("The store does not answer.", allow_retries=False), OSError(SECRET))

        assert caught.value.allow_retries is False
        assert SECRET not in every_text_of(caught.value)

    def test_the_one_that_was_being_handled_is_looked_at_too(self) -> None:
        with pytest.raises(ValueError, match="second") as caught, redacted_errors():
            fail_while_handling(ValueError("second"), KeyError(SECRET))

        assert SECRET not in every_text_of(caught.value)

    def test_with_a_secret_in_both_the_one_that_was_being_handled_is_still_told(self) -> None:
        with pytest.raises(logs.RedactedError) as caught, redacted_errors():
            fail_while_handling(ValueError(SECRET), KeyError(SECRET))

        assert type(caught.value.__cause__).__name__ == "KeyError"
        assert SECRET not in every_text_of(caught.value)

    def test_a_failure_of_dagster_stays_one(self) -> None:
        clean = redacted_exception(dg.Failure(f"key {SECRET} refused", metadata={"tries": 3}, allow_retries=False))

        assert isinstance(clean, dg.Failure)
        assert clean.description == f"key {REDACTED} refused"
        assert clean.allow_retries is False
        assert clean.metadata["tries"].value == 3

    def test_a_circle_of_causes_ends(self) -> None:
        one, two = ValueError(SECRET), ValueError("two")
        one.__cause__, two.__cause__ = two, one

        clean = redacted_exception(one)

        assert clean.__cause__ is two
        assert two.__cause__ is clean

    def test_a_group_is_looked_into(self) -> None:
        clean = redacted_exception(ExceptionGroup("two of three", [ValueError(SECRET), ValueError("b")]))

        assert SECRET not in every_text_of(clean)


def every_text_of(error: BaseException) -> str:
    """Return the texts of all errors that can be reached, hidden contexts too."""
    seen: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen[id(one)] = one
            waiting += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, ExceptionGroup) else ())]
    return "\n".join(f"{one!r} {getattr(one, '__notes__', '')}" for one in seen.values())


@pytest.mark.usefixtures("lines")
class TestOutput:
    def test_what_is_printed_holds_no_secret_however_it_is_cut(self, capsys: pytest.CaptureFixture[str]) -> None:
        with redacted_output():
            print("it is", SECRET, "!")  # noqa: T201
            for letter in SECRET:
                print(letter, end="")  # noqa: T201
            print()  # noqa: T201
            sys.stderr.write(f"{SECRET} without an end")
        print("after")  # noqa: T201

        out, err = capsys.readouterr()
        assert out == f"it is {REDACTED} !\n{REDACTED}\nafter\n"
        assert err == f"{REDACTED} without an end"

    def test_a_stream_that_somebody_put_there_meanwhile_stays(self) -> None:
        mine = sys.__stdout__
        before = sys.stdout
        try:
            with redacted_output():
                sys.stdout = mine  # type: ignore[assignment]
            assert sys.stdout is mine
        finally:
            sys.stdout = before


CODE_LOCATION = """
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import dagster as dg

from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import logs

logs.configure(load_settings())
library, third = logging.getLogger("wrm_pipeline.library"), logging.getLogger("third.library")


@dg.asset
def works(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    with logs.bind(asset="works", correlation_id="c1"):
        context.log.info("by context.log")
        library.warning("by our library")
        third.warning("by a third library")
        dg.get_dagster_logger("named").info("by Dagster's logger")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(library.warning, "by a thread").result()
    return dg.MaterializeResult(metadata={"told": os.environ["S3_SECRET_ACCESS_KEY"]})


@dg.asset(deps=[works])
def fails() -> None:
    raise ConnectionError("refused with " + os.environ["S3_SECRET_ACCESS_KEY"])


@dg.sensor(job_name="small_job")
def looks(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    context.log.info("by a sensor")
    library.warning("by a library in a sensor")
    return dg.SkipReason("nothing new")


defs = dg.Definitions(
    assets=[works, fails],
    jobs=[dg.define_asset_job("small_job", tags={"wrm/correlation_id": "from-the-tag"})],
    sensors=[looks],
    executor=dg.in_process_executor,
)
"""


def dagster(tmp_path: Path, *arguments: str, **variables: str) -> list[str]:
    """Run one of Dagster's commands with our dagster.yaml, and return the lines of its standard error."""
    (tmp_path / "small.py").write_text(CODE_LOCATION)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(REPOSITORY / "dagster.yaml", home / "dagster.yaml")
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DAGSTER_HOME": str(home),
        "S3_SECRET_ACCESS_KEY": SECRET,
        "PYTHONWARNINGS": "ignore::FutureWarning",  # of the command, which is about to be renamed
        **measured,
        **variables,
    }
    command = [str(Path(sys.executable).with_name("dagster")), *arguments, "-m", "small"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert "canary" not in done.stdout + done.stderr
    return done.stderr.splitlines()


def test_dagster_our_libraries_and_others_write_json_each_record_once(tmp_path: Path) -> None:
    text = dagster(tmp_path, "job", "execute", "-j", "small_job", WRM_LOG_FORMAT="json")

    assert text.pop().endswith("resulted in failure.")  # the command's own word
    found = [json.loads(line) for line in text]
    events = [line["event"] for line in found]
    assert events == [
        'Started execution of run for "small_job".',
        "by context.log",
        "by our library",
        "by a third library",
        "by Dagster's logger",
        "by a thread",
        "Materialized value works.",
        'Execution of step "fails" failed.',
        "Execution of run for \"small_job\" failed. Steps failed: ['fails'].",
    ]
    by_event = dict(zip(events, found, strict=True))
    assert len({line["run_id"] for line in found if line["logger"] != "third.library"}) == 1
    assert {by_event[f"by {who}"]["asset"] for who in ("context.log", "our library", "a thread")} == {"works"}
    assert {line["correlation_id"] for line in found[1:6]} == {"c1"}
    assert {line["correlation_id"] for line in (found[0], *found[6:])} == {"from-the-tag"}
    failed = by_event['Execution of step "fails" failed.']
    assert (failed["level"], failed["op"], failed["dagster_event"]) == ("error", "fails", "STEP_FAILURE")
    assert (failed["error_class"], failed["error"]) == ("ConnectionError", f"refused with {REDACTED}")
    assert "small.py" in failed["exception"]


def test_they_write_columns_in_development_each_record_once(tmp_path: Path) -> None:
    text = "\n".join(dagster(tmp_path, "job", "execute", "-j", "small_job"))

    for event in ("by context.log", "by our library", "by a third library", "by Dagster's logger", "by a thread"):
        assert text.count(event) == 1
    assert "ConnectionError" in text


def test_a_sensor_writes_json_too(tmp_path: Path) -> None:
    text = dagster(tmp_path, "sensor", "preview", "looks", WRM_LOG_FORMAT="json")

    found = [json.loads(line) for line in text if line.startswith("{")]
    assert [line["sensor"] for line in found if line["event"] == "by a sensor"] == ["looks"]
    assert len([line for line in found if line["event"] == "by a library in a sensor"]) == 1
    # Before the code location is loaded, the server that loads it speaks for itself.
    assert [line for line in text if not line.startswith("{")][1:] == []

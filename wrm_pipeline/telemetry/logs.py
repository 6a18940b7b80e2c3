"""Log lines: one formatter for assets, sensors, libraries and Dagster, one line a record, no secret in any of them.

`configure` is called where a process starts; `bind` says what the lines that follow are about; `redacted_errors` and
`redacted_output` guard what does not pass through logging: the errors that Dagster stores, and what a step prints.
"""

import datetime as dt
import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from wrm_pipeline.settings import Settings, load_settings
from wrm_pipeline.telemetry.redaction import (
    REDACTED,
    is_secret_name,
    may_hold_secret,
    redact,
    redact_tree,
    register_secrets_of,
)

if TYPE_CHECKING:
    from dagster import DagsterEvent


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let `import module` fail for a library that can do without, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = cast("ModuleType", None)  # Python's own sign for "not to be found"
    try:
        yield
    finally:
        del sys.modules[module]


# For tracebacks that nothing here prints: 50 of the 62 ms that importing structlog costs, in every run's process.
with _hidden("rich"):
    import structlog

CORRELATION_TAG: Final = "wrm/correlation_id"

_OURS: Final = "wrm_pipeline"
# At DEBUG these write whole requests, with their headers.
_TALKATIVE: Final = ("boto3", "botocore", "s3transfer", "urllib3", "requests", "hvac", "redis", "apprise", "httpx")
# Handlers that Dagster puts on loggers of its own in its servers; their records go to the root's instead.
_DAGSTER_LOGGERS: Final = ("dagster", "dagit", "dagster-webserver")
# Dagster logs its events at DEBUG. These few say what happened, and are lines at INFO.
_MILESTONES: Final = frozenset(
    {"PIPELINE_START", "PIPELINE_SUCCESS", "PIPELINE_CANCELED", "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
)
_META, _EVENT, _WRITTEN = "dagster_meta", "dagster_event", "wrm_written"
_log = logging.getLogger(__name__)
_ABOUT: Final = ("run_id", "job", "asset", "op", "sensor", "partition", "correlation_id")

# --- What the lines are about --------------------------------------------------------------------------------------

# What `bind` was given, for threads that were started without their starter's context: pools are. A run's process
# works on one step at a time, so that it is theirs too; where contexts do differ, a thread's own comes first.
_process_bound: list[dict[str, Any]] = []
_process_lock = threading.Lock()


@contextmanager
def bind(**values: object) -> Iterator[None]:
    """Put values on every line until the end of the block, also on those of other threads of this process.

    Usual names: run_id, job, asset, partition, correlation_id. None is not put on.
    """
    given = {name: value for name, value in values.items() if value is not None}
    with _process_lock:
        _process_bound.append(given)
    try:
        with structlog.contextvars.bound_contextvars(**given):
            yield
    finally:
        with _process_lock:  # by identity: a block may end before one that began earlier, in another thread
            _process_bound[:] = [entry for entry in _process_bound if entry is not given]


def bound() -> dict[str, Any]:
    """Return what is bound now, in this thread."""
    merged: dict[str, Any] = {}
    with _process_lock:
        for values in _process_bound:
            merged |= values
    return merged | structlog.contextvars.get_contextvars()


# --- Records without secrets ----------------------------------------------------------------------------------------


class CleanRecord(logging.LogRecord):
    """A log record that never holds a secret, whoever logs it and whoever handles it, Dagster's event log included.

    Dagster attaches its events (a step's failure with its error, a materialization) as attribute `dagster_event`, after
    the record is made; they are redacted when they are first looked at.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._clean: DagsterEvent | None = None
        if isinstance(self.msg, dict):  # structlog's own loggers
            self.msg = cast("str", redact_tree(self.msg))
            return
        try:
            message = super().getMessage()
        except Exception:  # noqa: BLE001 - a handler will say so, and show the arguments
            self.msg, self.args = redact(str(self.msg)), tuple(redact_tree(self.args))
            return
        clean = redact(message)
        if clean != message:
            self.msg, self.args = clean, ()
        error = self.exc_info[1] if self.exc_info else None
        if error is not None:
            kept = redacted_exception(error)
            self.exc_info = (type(kept), kept, kept.__traceback__)

    @property
    def dagster_event(self) -> "DagsterEvent":
        """Dagster's event, redacted.

        Raises:
            AttributeError: there is none.
        """
        try:
            event = self.__dict__[_EVENT]
        except KeyError:
            raise AttributeError(_EVENT) from None
        if event is not self._clean:
            event = self._clean = self.__dict__[_EVENT] = _clean_event(event)
        return cast("DagsterEvent", event)

    @dagster_event.setter
    def dagster_event(self, event: "DagsterEvent") -> None:
        self.__dict__[_EVENT] = event


def _clean_event(event: "DagsterEvent") -> "DagsterEvent":
    from dagster import DagsterEvent
    from dagster._serdes import deserialize_value, serialize_value

    text = serialize_value(event)
    if not may_hold_secret(text):
        return event
    tree = json.loads(text)
    clean = redact_tree(tree)
    return event if clean == tree else deserialize_value(json.dumps(clean), DagsterEvent)


def redacted_exception(error: BaseException) -> BaseException:
    """Return an error that can be stored: the same one, unless its text or that of a cause holds a secret.

    Otherwise a copy with the same class name, traceback, notes and chain, whose text is redacted. It is an instance of
    `RedactedError`, or a Dagster `Failure` where it was one. An error that is clean itself keeps its identity and
    class, and only gets clean causes.
    """
    return _redacted(error, {})


class RedactedError(Exception):
    """Stands for an error whose text held a secret; its class is a subclass with that error's name."""


def _redacted(error: BaseException, done: dict[int, BaseException]) -> BaseException:
    if id(error) in done:
        return done[id(error)]
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    text = "".join(line for one in (error, *inner) for line in traceback.format_exception_only(one))
    clean = error if redact(text) == text else _copy(error)
    done[id(error)] = clean
    cause, context, suppress = error.__cause__, error.__context__, error.__suppress_context__
    if cause is not None:
        clean.__cause__ = _redacted(cause, done)
    if context is not None:
        clean.__context__ = _redacted(context, done)
    clean.__suppress_context__ = suppress  # setting a cause has set it
    return clean


def _copy(error: BaseException) -> BaseException:
    dagster = sys.modules.get("dagster")  # not imported here: commands without it are fast
    kind = type(error)
    clean: BaseException
    if dagster is not None and isinstance(error, dagster.Failure):
        clean = dagster.Failure(
            redact(error.description or ""), metadata=dict(error.metadata), allow_retries=error.allow_retries
        )
    else:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        clean = type(kind.__name__, (RedactedError,), names)(redact(str(error)))
    for note in getattr(error, "__notes__", ()):
        clean.add_note(redact(note))
    return clean.with_traceback(error.__traceback__)


@contextmanager
def redacted_errors() -> Iterator[None]:
    """Let no error out that holds a secret: Dagster stores errors in places where no log record comes by.

    Raises:
        RedactedError: instead of an error that held one; see `redacted_exception`.
    """
    try:
        yield
    except Exception as error:
        clean = redacted_exception(error)
        if clean is error:
            raise
        context = None if clean.__suppress_context__ else clean.__context__
        try:
            raise clean from (clean.__cause__ or context)
        finally:
            clean.__context__ = None  # where Python has just put the error with the secret


# --- What a step prints ----------------------------------------------------------------------------------------------


class _CleanStream:
    """Standard output or error, redacted line by line; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._line = ""

    def write(self, text: str) -> int:
        with self._lock:
            whole, newline, self._line = (self._line + text).rpartition("\n")
            if newline:
                self._stream.write(redact(whole) + newline)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with self._lock:
            rest, self._line = self._line, ""
            if rest:
                self._stream.write(redact(rest))
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def redacted_output() -> Iterator[None]:
    """Redact what this process prints, and so its compute logs.

    Not covered: bytes written to `sys.stdout.buffer` or a file descriptor, and the output of child processes.
    """
    before = sys.stdout, sys.stderr
    clean = _CleanStream(sys.stdout), _CleanStream(sys.stderr)
    sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", clean)
    try:
        yield
    finally:
        for stream in clean:
            stream.flush()
        # Unless somebody else has put a stream there meanwhile.
        if sys.stdout is cast("TextIO", clean[0]):
            sys.stdout = before[0]
        if sys.stderr is cast("TextIO", clean[1]):
            sys.stderr = before[1]


# --- Lines -----------------------------------------------------------------------------------------------------------


class LineHandler(logging.Handler):
    """Writes a record to standard error in the format of this process, and each record once.

    It stands in dagster.yaml under `python_logs`, on the root logger, and in the place of Dagster's coloured console.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what has been written already, is below the level, or comes while it is quiet."""
        return not hasattr(record, _WRITTEN) and _is_due(record) and super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line (with the console format and an exception: some)."""
        try:
            setattr(record, _WRITTEN, True)  # Dagster copies the attribute to the records that it makes of this one
            sys.stderr.write(_formatter().format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)


class _RootHandler(LineHandler):
    """Leaves what Dagster has taken over to the handlers that Dagster calls."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not hasattr(record, _META) and super().filter(record)


class _Lines:
    """How lines are written in this process."""

    json: bool | None = None  # None: as the settings say, which nobody has read yet
    level: int = logging.INFO
    quiet: int = 0


def _is_due(record: logging.LogRecord) -> bool:
    if _Lines.quiet:
        return record.levelno >= logging.CRITICAL
    return record.levelno >= _Lines.level or (_Lines.level <= logging.INFO and _is_milestone(record))


def _is_milestone(record: logging.LogRecord) -> bool:
    return hasattr(record, _EVENT) and getattr(record, _EVENT).event_type_value in _MILESTONES


@contextmanager
def quiet() -> Iterator[None]:
    """Write nothing but CRITICAL lines meanwhile, for a command that draws on the terminal itself."""
    _Lines.quiet += 1
    try:
        yield
    finally:
        _Lines.quiet -= 1


def configure(settings: Settings) -> None:
    """Make this process log as its settings say; again with other settings is allowed.

    JSON unless `WRM_LOG_FORMAT` says console, or says nothing and `WRM_ENV` is development.
    """
    register_secrets_of(settings)
    _Lines.json = is_json(settings)
    _Lines.level = logging.getLevelNamesMapping()[settings.wrm_log_level]
    _formatter.cache_clear()
    logging.setLogRecordFactory(CleanRecord)
    root = logging.getLogger()
    if not any(isinstance(handler, LineHandler) for handler in root.handlers):
        root.addHandler(_RootHandler())
    logging.getLogger(_OURS).setLevel(_Lines.level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, _Lines.level))
    for name in _DAGSTER_LOGGERS:
        logging.getLogger(name).handlers.clear()
    logging.captureWarnings(capture=True)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if "dagster" in sys.modules:  # otherwise its loggers will be made after the next call, by `build_defs`
        # Dagster's word on `dagster_handler_config`, which it has had since 2021.
        warnings.filterwarnings("ignore", message="Handling yaml-defined logging configuration")
        _replace_coloured_console()


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what would be a traceback of Python's, which may hold a secret."""
    if issubclass(kind, Exception):
        _log.critical("An error that nobody caught ends this process.", exc_info=(kind, error, trace))
    else:
        sys.__excepthook__(kind, error, trace)


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and issubclass(given.exc_type, Exception):
        name = given.thread.name if given.thread is not None else "?"
        about = (given.exc_type, given.exc_value, given.exc_traceback)
        _log.error("An error that nobody caught ends the thread %s.", name, exc_info=about)


def is_json(settings: Settings) -> bool:
    """Tell whether lines are JSON: as `WRM_LOG_FORMAT` says, and where it says nothing, outside of development."""
    return (settings.wrm_log_format or ("console" if settings.wrm_env == "development" else "json")) == "json"


def _replace_coloured_console() -> None:
    """Let Dagster's console loggers, of runs and of sensors, write our lines.

    Dagster makes them with `coloredlogs.install` wherever no run config names another logger; `Definitions(loggers=…)`
    has no say there.
    """
    import coloredlogs  # type: ignore[import-untyped]  # ships no types

    def install(level: int | str | None = None, *, logger: logging.Logger, **_: object) -> None:
        logger.addHandler(LineHandler())
        logger.setLevel(level if level is not None else logging.INFO)

    coloredlogs.install = install


@lru_cache(maxsize=1)
def _formatter() -> "structlog.stdlib.ProcessorFormatter":
    if _Lines.json is None:
        configure(load_settings())
    renderer: Any = structlog.processors.JSONRenderer()
    if not _Lines.json:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            timestamp_key="time",
            pad_event_to=0,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
    shape = _line if _Lines.json else _short_line
    return structlog.stdlib.ProcessorFormatter(processors=[structlog.stdlib.ExtraAdder(), shape, renderer])


def _line(_logger: object, _method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what a line says, in a fixed order, without secrets."""
    record: logging.LogRecord = given["_record"]
    meta: Mapping[str, Any] = getattr(record, _META, None) or {}
    event: DagsterEvent | None = meta.get(_EVENT)
    milestone = event is not None and event.event_type_value in _MILESTONES
    line: dict[str, Any] = {
        "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": "info" if milestone and record.levelno < logging.INFO else record.levelname.lower(),
        "event": meta.get("orig_message") or given["event"],
        "logger": record.name,
    }
    extras = {
        name: REDACTED if isinstance(value, str) and is_secret_name(name) else value
        for name, value in given.items()
        if not name.startswith(("_", "dagster_", "wrm_written")) and name not in _NOT_EXTRA
    }
    about = {**bound(), **{name: value for name, value in extras.items() if name in _ABOUT}, **_from_dagster(meta)}
    line |= {name: about.pop(name) for name in _ABOUT if about.get(name) is not None}
    if "asset" in line:
        line.pop("op", None)  # an asset's op has its name
    if event is not None:
        line["dagster_event"] = event.event_type_value
    line |= _error(given.get("exc_info"), event)
    line |= {name: value for name, value in {**about, **extras}.items() if name not in line and value is not None}
    return cast("dict[str, Any]", redact_tree(line))


_NOT_EXTRA: Final = frozenset({"event", "exc_info", "stack_info", "message", "asctime", "positional_args"})


def _short_line(logger: object, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is the same on every line of a run, or says the same twice to a person."""
    line = _line(logger, method, given)
    line["run_id"] = str(line["run_id"])[:8] if "run_id" in line else None
    for name in ("job", "dagster_event", *(("error_class", "error") if "exception" in line else ())):
        line.pop(name, None)
    return {name: value for name, value in line.items() if value is not None}


def _from_dagster(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Dagster knows about a record: run, job, step, asset, partition; or the sensor."""
    event: DagsterEvent | None = meta.get(_EVENT)
    tags: Mapping[str, str] = meta.get("job_tags") or {}
    known = {
        "run_id": meta.get("run_id"),
        "job": meta.get("job_name"),
        "asset": event.asset_key.to_user_string() if event is not None and event.asset_key is not None else None,
        "op": meta.get("op_name") or meta.get("step_key"),
        "sensor": meta.get("name"),
        "partition": (event.partition if event is not None else None) or tags.get("dagster/partition"),
        "correlation_id": bound().get("correlation_id") or tags.get(CORRELATION_TAG),
    }
    return {name: value for name, value in known.items() if value is not None}


def _error(exc_info: Any, event: "DagsterEvent | None") -> dict[str, str]:
    """Return class, first line and whole text of an error that was logged, or that a Dagster event carries."""
    if exc_info is True:
        exc_info = sys.exc_info()
    if exc_info and exc_info[1] is not None:
        kind, error, trace = exc_info
        text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
        return {"error_class": kind.__name__, "error": str(error).partition("\n")[0], "exception": text}
    info = getattr(event.event_specific_data, "error", None) if event is not None else None
    if event is None or info is None:
        return {}
    from dagster_shared.error import remove_system_frames_from_error

    told = info
    # Dagster's wrapper tells in which step, which the line says already; what it wraps tells why.
    while told.cause is not None and (told.cls_name or "").startswith("Dagster"):
        told = told.cause
    first = told.message.partition("\n")[0]
    error = {"error_class": told.cls_name or "", "error": first.partition(": ")[2] or first}
    if getattr(event.event_specific_data, "first_step_failure_event", None) is not None:
        return error  # of a run; the step's line has shown all of it
    return error | {"exception": remove_system_frames_from_error(told).to_string().rstrip("\n")}

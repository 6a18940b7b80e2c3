"""Traces: a span for each tick of a sensor that asks for runs, each run, asset and phase, sent by OTLP over HTTP.

Off without OTEL_EXPORTER_OTLP_ENDPOINT: OpenTelemetry is not even imported then. Attributes are names, counts and bytes
only. Of an error the class is told and not its words, which may quote anything.

    with span("get", objects=288) as getting:      # anywhere below a run; elsewhere it does nothing
        getting.add(bytes=len(body))
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from wrm_pipeline import __version__
from wrm_pipeline.resilience import OptionalPart
from wrm_pipeline.settings import Settings

if TYPE_CHECKING:
    import requests
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span as OpenSpan

# A run's tag that carries the context of what asked for it, as W3C Trace Context writes it.
TRACEPARENT_TAG: Final = "wrm/traceparent"
# Tags that say why a run is there. Others are anybody's, and may hold anything.
_TOLD_TAGS: Final = frozenset(
    {
        "dagster/asset_partition_range_end",
        "dagster/asset_partition_range_start",
        "dagster/backfill",
        "dagster/parent_run_id",
        "dagster/retry_number",
        "dagster/root_run_id",
        "dagster/run_key",
        "dagster/schedule_name",
        "dagster/sensor_name",
        "wrm/correlation_id",
        "wrm/serial",
    }
)

# What is sent at the end of a run waits so long at most; the socket gives up before that.
_DEADLINE_S: Final = 0.2
_SOCKET_S: Final = 0.15
# A backfill of ten minutes asks a collector that is down three times, at 0.2 s each.
_QUIET_S: Final = 300.0
# A run that is killed has told all but its last minute.
_FLUSH_EVERY_S: Final = 60.0
_FLUSH_AT_SPANS: Final = 512
# Some 2 KB each; the oldest are given up when no collector takes them.
_MOST_SPANS: Final = 2048


class NotAcceptedError(Exception):
    """The collector did not take the spans."""


class Span:
    """What `span` yields. This one does nothing: it is what there is when traces are off, or outside of a run."""

    __slots__ = ()

    def add(self, **counts: int) -> None:
        """Add to counts of the span, such as bytes or rows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


_NOTHING: Final = Span()


@dataclass
class _Tick:
    """A sensor's tick, which is told of only when it asked for a run."""

    asked: bool = False


_current: ContextVar["OpenSpan | None"] = ContextVar("wrm_span", default=None)
_tick: ContextVar[_Tick | None] = ContextVar("wrm_tick", default=None)
_tracing: "_Tracing | None" = None
_starting = threading.Lock()


def start(settings: Settings) -> None:
    """Switch traces on for this process, when there is an endpoint; the first time only."""
    global _tracing  # noqa: PLW0603 - one tracer a process, as everywhere in OpenTelemetry
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None or _tracing is not None:
        return
    with _starting:
        if _tracing is None:
            _tracing = _Tracing(endpoint, settings.otel_service_name, settings.wrm_env)


def stop() -> None:
    """End and send what is open, and switch traces off."""
    global _tracing  # noqa: PLW0603 - see above
    tracing = _tracing
    if tracing is not None:
        for run_id in list(tracing.runs):
            tracing.end_run(run_id)
        tracing.flush()
        tracing.close()
    _tracing = None


def span(name: str, *, beside: bool = False, **counts: int) -> Span:
    """Return a context manager for a phase below the step or phase that is open here; otherwise it does nothing.

    Args:
        name: list, get, parse, validate, write…
        beside: it takes no part in the nesting: for generators, which end when their reader likes.
        counts: attributes; more with `add`.
    """
    tracing = _tracing
    if tracing is None:
        return _NOTHING
    parent = _current.get()
    return _NOTHING if parent is None else _Phase(tracing, name, parent, counts, beside=beside)


@dataclass(frozen=True)
class RunFacts:
    """What a run's span tells of it. Of the tags only those are told that say where the run comes from."""

    run_id: str
    job: str
    partition: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def step(run: RunFacts, asset: str) -> Iterator[Span]:
    """Open the span of an asset, and around the first one of a run in this process, that of the run.

    The run's span stays open until `end_run`, which whoever tears the run down calls; a killed run has none.
    """
    tracing = _tracing
    if tracing is None:
        yield _NOTHING
        return
    parent = tracing.span_of_run(run)
    with _Phase(tracing, f"asset {asset}", parent, {"dagster.asset": asset, **_partition(run)}) as opened:
        try:
            yield opened
        except Exception as error:
            _failed(parent, error)
            raise


def end_run(run_id: str) -> None:
    """End a run's span and send what waits; costs at most a quarter of a second, whatever the collector does."""
    if _tracing is not None:
        _tracing.end_run(run_id)
        _tracing.flush()


@contextmanager
def tick(sensor: str, parent: str | None = None) -> Iterator[None]:
    """Open the span of a sensor's tick. It is told of only when `traceparent` was asked for in it.

    Args:
        sensor: its name.
        parent: the traceparent of what the sensor reacts to, when it has one.
    """
    tracing = _tracing
    if tracing is None:
        yield
        return
    opened = tracing.open(f"tick {sensor}", continued(parent), {"dagster.sensor": sensor})
    mine, before, tick_before = _Tick(), _current.get(), _tick.get()
    _current.set(opened)
    _tick.set(mine)
    try:
        yield
    except Exception as error:
        _failed(opened, error)
        raise
    finally:
        _current.set(before)
        _tick.set(tick_before)
        if mine.asked:
            opened.end()
            tracing.flush()


def traceparent() -> str | None:
    """Return the context of the span that is open here, for the tag of a run; None when there is none."""
    opened, ticking = _current.get(), _tick.get()
    if opened is None:
        return None
    if ticking is not None:
        ticking.asked = True
    context = opened.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def continued(traceparent: str | None) -> "Context | None":
    """Return the context that a traceparent names, to open spans below; None for none, and for what is none."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if traceparent is None:
        return None
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, context={})  # type: ignore[arg-type]
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def flush() -> None:
    """Send what waits; costs at most a quarter of a second, whatever the collector does."""
    if _tracing is not None:
        _tracing.flush()


class _Phase(Span):
    """A span that is told of."""

    __slots__ = ("_before", "_beside", "_counts", "_name", "_opened", "_parent", "_tracing")

    def __init__(
        self,
        tracing: "_Tracing",
        name: str,
        parent: "OpenSpan",
        counts: Mapping[str, int | str],
        *,
        beside: bool = False,
    ) -> None:
        self._tracing = tracing
        self._name = name
        self._parent = parent
        self._counts: dict[str, Any] = dict(counts)
        self._beside = beside
        self._before: OpenSpan | None = None
        self._opened: OpenSpan | None = None

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count

    def __enter__(self) -> Self:
        self._opened = self._tracing.open(self._name, _below(self._parent), {})
        if not self._beside:
            self._before = _current.get()
            _current.set(self._opened)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = self._opened
        if opened is None:
            return
        if not self._beside:
            _current.set(self._before)
        if isinstance(error, Exception):  # not a generator that is closed, nor Ctrl-C
            _failed(opened, error)
        opened.set_attributes({name if "." in name else f"wrm.{name}": n for name, n in self._counts.items()})
        opened.end()
        self._tracing.flush_now_and_then()


class _Tracing:
    """OpenTelemetry's SDK as this process uses it."""

    def __init__(self, endpoint: str, service: str, environment: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

        self.runs: dict[str, OpenSpan] = {}
        self._lock = threading.Lock()
        self._ended: deque[ReadableSpan] = deque(maxlen=_MOST_SPANS)
        self._flushed_at = time.monotonic()
        self._part = OptionalPart(
            "The trace collector",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "spans wait, and the oldest are lost",
            deadline_s=_DEADLINE_S,
            quiet_s=_QUIET_S,
        )
        # It warns with each attempt, and quotes the address; the part above says it once.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(_silence)
        # Headers and certificates for a collector elsewhere are read from OpenTelemetry's own variables.
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_SOCKET_S, session=_session())
        ended = self._ended

        class Collect(SpanProcessor):
            def on_end(self, span: "ReadableSpan") -> None:
                ended.append(span)

        resource = Resource.create(
            {"service.name": service, "service.version": __version__, "deployment.environment.name": environment}
        )
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(Collect())
        self._tracer = provider.get_tracer("wrm_pipeline", __version__)

    def open(self, name: str, below: "Context | None", attributes: Mapping[str, str]) -> "OpenSpan":
        """Start a span below a context; a new trace for None."""
        from opentelemetry.context import Context

        return self._tracer.start_span(name, context=below or Context(), attributes=attributes)

    def span_of_run(self, run: RunFacts) -> "OpenSpan":
        """Return a run's span, opened now if it is not open in this process."""
        with self._lock:
            opened = self.runs.get(run.run_id)
            if opened is None:
                tags = {f"dagster.tag.{name}": run.tags[name] for name in sorted(_TOLD_TAGS & run.tags.keys())}
                told = {"dagster.run_id": run.run_id, "dagster.job": run.job, **_partition(run), **tags}
                opened = self.open(f"run {run.job}", continued(run.tags.get(TRACEPARENT_TAG)), told)
                self.runs[run.run_id] = opened
            return opened

    def end_run(self, run_id: str) -> None:
        """End a run's span, if it is open here."""
        with self._lock:
            opened = self.runs.pop(run_id, None)
        if opened is not None:
            opened.end()

    def flush(self) -> None:
        """Send all spans that have ended, with one request."""
        with self._lock:
            self._flushed_at = time.monotonic()
            spans = list(self._ended)
            if not spans:
                return
            sent: bool | None = self._part.ask(lambda: self._send(spans))
            if sent:
                for _ in spans:
                    self._ended.popleft()

    def flush_now_and_then(self) -> None:
        """Send when much waits, or when the last time is long ago."""
        if len(self._ended) >= _FLUSH_AT_SPANS or time.monotonic() - self._flushed_at > _FLUSH_EVERY_S:
            self.flush()

    def close(self) -> None:
        """Close the connection to the collector."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, spans: "Sequence[ReadableSpan]") -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise NotAcceptedError
        return True


def _session() -> "requests.Session":
    """Return a session that takes a redirect or a web page for what it is: not the answer of a collector."""
    import requests

    def judge(answer: "requests.Response", **_: object) -> None:
        if answer.status_code >= 300 or answer.headers.get("Content-Type", "").startswith("text/html"):
            answer.close()
            raise NotAcceptedError

    session = requests.Session()
    session.trust_env = False  # neither a proxy nor ~/.netrc of whoever starts the process
    session.hooks["response"].append(judge)
    return session


def _silence(_: logging.LogRecord) -> bool:
    return False


def _below(parent: "OpenSpan") -> "Context":
    from opentelemetry import trace
    from opentelemetry.context import Context

    return trace.set_span_in_context(parent, Context())


def _partition(run: RunFacts) -> dict[str, str]:
    return {} if run.partition is None else {"dagster.partition": run.partition}


def _failed(opened: "OpenSpan", error: Exception) -> None:
    from opentelemetry.trace import Status, StatusCode

    opened.set_attribute("error.type", type(error).__name__)
    opened.set_status(Status(StatusCode.ERROR))

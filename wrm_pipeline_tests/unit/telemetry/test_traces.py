"""Traces, on the wire to a collector that decodes them, and with one that is down in every way there is."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import dagster as dg
import pytest

from wrm_pipeline.cli.local_servers import free_port
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.settings import Settings, load_settings
from wrm_pipeline.telemetry import traces
from wrm_pipeline.telemetry.traces import TRACEPARENT_TAG, RunFacts, span, step, tick, traceparent
from wrm_pipeline_tests.fixtures.collector import Collector
from wrm_pipeline_tests.fixtures.dagster import DAY, QUIET, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import HTML, Answer, Fault, FaultProxy, Reset, Stall
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

RUN = RunFacts("3f0c8a52-0000-4000-8000-000000000001", "some_job", "2025-05-12")
# A quarter of a second may be lost, and this machine has others to serve.
LOST_S = 0.25
SLACK_S = 0.15


def settings_for(url: str) -> Settings:
    return load_settings(otel_exporter_otlp_endpoint=url)


@pytest.fixture(autouse=True)
def off_at_the_end() -> Iterator[None]:
    yield
    traces.stop()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector, and traces that are sent to it."""
    with Collector() as collector:
        traces.start(settings_for(collector.url))
        yield collector
        traces.stop()


# Off


def test_without_an_endpoint_nothing_is_done_and_opentelemetry_is_not_even_imported() -> None:
    program = """
import sys
from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import traces

traces.start(load_settings())
with traces.step(traces.RunFacts("a", "job"), "asset"), traces.span("get", objects=1) as getting, traces.tick("sensor"):
    getting.add(bytes=5)
    assert traces.traceparent() is None
traces.end_run("a")
traces.flush()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_phase_costs_next_to_nothing_when_traces_are_off() -> None:
    started = time.perf_counter()
    for _ in range(10_000):
        with span("get", objects=1) as getting:
            getting.add(bytes=1)

    assert (time.perf_counter() - started) / 10_000 < 10e-6


def test_a_phase_outside_of_a_run_is_not_told_of(collector: Collector) -> None:
    with span("get"):
        assert traceparent() is None
    traces.flush()

    assert collector.requests == []


# What is told


def test_a_run_is_a_tree_of_run_assets_and_phases_with_their_counts(collector: Collector) -> None:
    with step(RUN, "processed"):
        with span("list") as listing:
            listing.add(objects=2)
        with span("parse", rows=7), span("get", objects=2) as getting:
            getting.add(bytes=10)
            getting.add(bytes=5)
    with step(RUN, "enhanced"), span("write"):
        pass
    traces.end_run(RUN.run_id)

    assert collector.paths == ["/v1/traces"]
    assert collector.tree() == {
        "run some_job": {
            "asset processed": {"list": {}, "parse": {"get": {}}},
            "asset enhanced": {"write": {}},
        }
    }
    assert collector.attributes("list") == {"wrm.objects": 2}
    assert collector.attributes("get") == {"wrm.objects": 2, "wrm.bytes": 15}
    assert collector.attributes("asset processed") == {
        "dagster.asset": "processed",
        "dagster.partition": "2025-05-12",
    }
    assert len({span.trace_id for span in collector.spans}) == 1


def test_a_run_says_its_job_id_partition_and_where_it_comes_from_but_no_tag_of_anybody(collector: Collector) -> None:
    tags = {"dagster/sensor_name": "raw_sensor", "wrm/serial": "ingest", "note": "canary-secret"}
    with step(RunFacts(RUN.run_id, "some_job", "2025-05-12", tags), "processed"):
        pass
    traces.end_run(RUN.run_id)

    assert collector.attributes("run some_job") == {
        "dagster.run_id": RUN.run_id,
        "dagster.job": "some_job",
        "dagster.partition": "2025-05-12",
        "dagster.tag.dagster/sensor_name": "raw_sensor",
        "dagster.tag.wrm/serial": "ingest",
    }
    assert b"canary-secret" not in b"".join(collector.requests)


def test_the_sender_is_named_by_its_settings(collector: Collector) -> None:
    with step(RUN, "processed"):
        pass
    traces.end_run(RUN.run_id)

    assert collector.resource["service.name"] == "wrm_pipeline"
    assert collector.resource["deployment.environment.name"] == "development"


def test_of_an_error_the_class_is_told_of_phase_asset_and_run_and_never_its_words(collector: Collector) -> None:
    with pytest.raises(ValueError, match="canary-secret"), step(RUN, "processed"), span("parse"):
        raise ValueError("canary-secret of bike fb604692")
    traces.end_run(RUN.run_id)

    for name in ("parse", "asset processed", "run some_job"):
        assert collector.attributes(name)["error.type"] == "ValueError"
        assert collector.named(name).status.code == 2
    sent = b"".join(collector.requests)
    assert b"canary-secret" not in sent
    assert b"604692" not in sent


def test_a_phase_in_a_generator_lies_beside_what_its_reader_does(collector: Collector) -> None:
    def reading() -> Iterator[int]:
        with span("get", beside=True):
            yield from range(3)

    with step(RUN, "processed"):
        with span("parse"):
            halfway = reading()
            next(halfway)
            with span("inner"):
                pass
        halfway.close()
        with span("write"):
            pass
    traces.end_run(RUN.run_id)

    assert collector.tree() == {"run some_job": {"asset processed": {"parse": {"get": {}, "inner": {}}, "write": {}}}}
    assert "error.type" not in collector.attributes("get")


def test_runs_at_the_same_time_in_one_process_are_traces_of_their_own(collector: Collector) -> None:
    other = RunFacts("3f0c8a52-0000-4000-8000-000000000002", "other_job")
    with step(RUN, "processed"), step(other, "enhanced"):
        pass
    traces.end_run(other.run_id)
    traces.end_run(RUN.run_id)

    assert collector.tree() == {
        "run some_job": {"asset processed": {}},
        "run other_job": {"asset enhanced": {}},
    }


# From a sensor's tick to the run


def test_a_run_goes_on_with_the_trace_of_the_tick_that_asked_for_it(collector: Collector) -> None:
    with tick("raw_sensor"):
        tag = traceparent()
    assert tag is not None
    with step(RunFacts(RUN.run_id, "some_job", tags={TRACEPARENT_TAG: tag}), "processed"):
        pass
    traces.end_run(RUN.run_id)

    assert collector.tree() == {"tick raw_sensor": {"run some_job": {"asset processed": {}}}}
    assert len({span.trace_id for span in collector.spans}) == 1
    assert collector.attributes("tick raw_sensor") == {"dagster.sensor": "raw_sensor"}


def test_a_tick_that_reacts_to_a_run_goes_on_with_its_trace(collector: Collector) -> None:
    with tick("raw_sensor"):
        first = traceparent()
    with tick("marts_sensor", first):
        assert traceparent() is not None

    assert collector.tree() == {"tick raw_sensor": {"tick marts_sensor": {}}}


def test_a_tick_that_asks_for_nothing_is_not_told_of(collector: Collector) -> None:
    with tick("raw_sensor"):
        pass
    traces.flush()

    assert collector.requests == []


@pytest.mark.parametrize("tag", ["", "nonsense", "00-" + 32 * "0" + "-" + 16 * "0" + "-01", "ff-" + 32 * "a" + "-1-01"])
def test_a_tag_that_is_no_context_begins_a_new_trace(collector: Collector, tag: str) -> None:
    with step(RunFacts(RUN.run_id, "some_job", tags={TRACEPARENT_TAG: tag}), "processed"):
        pass
    traces.end_run(RUN.run_id)

    assert collector.named("run some_job").parent_span_id == b""


# In Dagster


class Ending(dg.ConfigurableResource["Ending"]):
    """Ends the run's span where resources are torn down, as the object store does."""

    name: str = "a resource without a field is one that Dagster warns about"

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        assert context.run is not None
        traces.end_run(context.run.run_id)


def facts(context: dg.OpExecutionContext) -> RunFacts:
    return RunFacts(context.run.run_id, context.job_name, tags=context.run.tags)


@dg.op
def first(context: dg.OpExecutionContext, ending: Ending) -> int:
    with step(facts(context), "first"), span("write"):
        return 1


@dg.op
def second(context: dg.OpExecutionContext, ending: Ending, number: int) -> None:
    with step(facts(context), "second"):
        raise dg.Failure("no")


@dg.job(resource_defs={"ending": Ending()}, executor_def=dg.in_process_executor)
def two_steps() -> None:
    second(first())


def test_the_teardown_of_a_resource_comes_once_a_run_after_all_steps_also_of_a_failed_run(collector: Collector) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        with tick("raw_sensor"):
            tag = traceparent() or ""
        for _ in range(2):
            ended = two_steps.execute_in_process(
                run_config=QUIET, instance=instance, raise_on_error=False, tags={TRACEPARENT_TAG: tag}
            )
            assert not ended.success

    runs = [span for span in collector.spans if span.name == "run two_steps"]
    assert len(runs) == 2
    assert {run.parent_span_id for run in runs} == {collector.named("tick raw_sensor").span_id}
    for run in runs:
        below = [span for span in collector.spans if span.parent_span_id == run.span_id]
        assert [span.name for span in below] == ["asset first", "asset second"]
        assert all(span.end_time_unix_nano <= run.end_time_unix_nano for span in below)


def test_a_day_is_built_in_phases_that_say_how_much(collector: Collector, pipeline: Pipeline) -> None:
    sizes = [put_raw(pipeline.lake, at(hour)).size for hour in (8, 9, 10)]
    with step(RUN, "enhanced"):
        built = build_enhanced_day(
            pipeline.lake, FORMAT, CONTRACTS.enhanced, DAY, Provenance(run_id=RUN.run_id, asset="enhanced")
        )
    traces.end_run(RUN.run_id)

    (phases,) = collector.tree()["run some_job"].values()
    assert list(phases) == ["list", "parse", "validate", "write"]
    assert list(phases["parse"]) == ["get"]
    assert collector.attributes("get") == {"wrm.objects": 3, "wrm.bytes": sum(sizes)}
    assert collector.attributes("parse") == {"wrm.objects": 3, "wrm.rows": built.rows.num_rows, "wrm.rejects": 0}
    assert collector.attributes("validate")["wrm.rows"] == built.rows.num_rows
    assert collector.attributes("write") == {"wrm.rows": built.rows.num_rows, "wrm.bytes": built.info.size}


# A collector that does not work


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def seconds_of_three_runs() -> float:
    """What ends of runs cost in all."""
    lost = 0.0
    for number in range(3):
        run = RunFacts(f"3f0c8a52-0000-4000-8000-00000000001{number}", "some_job")
        with step(run, "processed"), span("get"):
            pass
        started = time.monotonic()
        traces.end_run(run.run_id)
        lost += time.monotonic() - started
    return lost


@pytest.mark.parametrize(
    "fault",
    [
        Stall(),
        Stall(after=0),
        Reset(),
        Reset(applied=True),
        Answer(500, b"oops"),
        Answer(503, b"", {"Retry-After": "30"}),
        Answer(429, b"", {"Retry-After": "0"}),
        Answer(301, b"", {"Location": "/elsewhere"}),
        Answer(200, HTML, {"Content-Type": "text/html"}),
    ],
    ids=["black hole", "no end", "reset", "reset after", "500", "503", "429", "redirect", "web page"],
)
def test_a_collector_that_does_not_work_costs_a_quarter_of_a_second_and_one_warning(
    fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        collector = stack.enter_context(Collector())
        proxy = stack.enter_context(FaultProxy(collector.url))
        proxy.add(fault, times=None)
        traces.start(settings_for(proxy.url))

        assert seconds_of_three_runs() < LOST_S + SLACK_S

    (warning,) = warnings(caplog)
    assert warning.startswith("The trace collector does not work")
    assert "Check OTEL_EXPORTER_OTLP_ENDPOINT" in warning


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://user:canary-secret@127.0.0.1:{port}"])
def test_a_collector_that_is_not_there_costs_next_to_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    traces.start(settings_for(url.format(port=free_port())))

    assert seconds_of_three_runs() < LOST_S + SLACK_S

    (warning,) = warnings(caplog)
    assert "canary-secret" not in warning


def test_what_was_not_taken_waits_and_is_sent_when_the_collector_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_QUIET_S", 0.0)
    with Collector() as collector, FaultProxy(collector.url) as proxy:
        proxy.add(Answer(500, b"oops"))
        traces.start(settings_for(proxy.url))
        with step(RUN, "processed"):
            pass
        traces.end_run(RUN.run_id)
        assert collector.requests == []
        traces.flush()

        assert collector.tree() == {"run some_job": {"asset processed": {}}}


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_MOST_SPANS", 5)
    monkeypatch.setattr(traces, "_QUIET_S", 0.0)
    with Collector() as collector, FaultProxy(collector.url) as proxy:
        proxy.add(Answer(500, b"oops"))
        traces.start(settings_for(proxy.url))
        with step(RUN, "processed"):
            for _ in range(20):
                with span("get"):
                    pass
        traces.end_run(RUN.run_id)
        traces.flush()

        assert [span.name for span in collector.spans] == ["get", "get", "get", "asset processed", "run some_job"]


def test_a_long_run_sends_on_the_way(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_FLUSH_AT_SPANS", 4)
    with step(RUN, "processed"):
        for _ in range(10):
            with span("get"):
                pass
        assert len(collector.spans) == 8

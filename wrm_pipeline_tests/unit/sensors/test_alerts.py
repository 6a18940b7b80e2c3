"""The alert sensors on real Dagster instances with real runs and checks, and a webhook that receives what they send."""

import contextlib
import datetime as dt
import json
import socket
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from wrm_pipeline.assets.common import clear_failures
from wrm_pipeline.automation import alerts
from wrm_pipeline.automation.alerts import wrm_check_failure_sensor, wrm_run_failure_sensor
from wrm_pipeline.lake.object_store import StoreUnavailable
from wrm_pipeline.operations import channels
from wrm_pipeline.operations.alerts import AlertState, Attempts
from wrm_pipeline.transform.zone import LOCAL_ZONE
from wrm_pipeline_tests.fixtures.fault_proxy import FaultProxy, Stall
from wrm_pipeline_tests.fixtures.receivers import Webhook, serving

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DAYS = dg.DailyPartitionsDefinition("2025-05-01")
CANARY = "canary-in-an-error"


class Broken:
    """What the jobs below do: empty, they succeed."""

    error: Exception | None = None
    check: dg.AssetCheckSeverity | None = None


BROKEN = Broken()


@pytest.fixture(autouse=True)
def all_is_well() -> Iterator[None]:
    channels._part.cache_clear()
    yield
    channels._part.cache_clear()
    BROKEN.error, BROKEN.check = None, None


@dg.op
def ingest() -> None:
    with clear_failures():
        if BROKEN.error is not None:
            raise BROKEN.error


@dg.job(executor_def=dg.in_process_executor)
def ingest_job() -> None:
    ingest()


@dg.job(executor_def=dg.in_process_executor)
def other_job() -> None:
    ingest.alias("something_else")()


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.PreviewWarning)
    COMPLETENESS = dg.AssetCheckSpec("completeness", asset="day", partitions_def=DAYS)


@dg.asset(partitions_def=DAYS, check_specs=[COMPLETENESS])
def day() -> Iterator[dg.MaterializeResult[None]]:
    with clear_failures():
        if BROKEN.error is not None:
            raise BROKEN.error
    yield dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                passed=BROKEN.check is None,
                severity=BROKEN.check or dg.AssetCheckSeverity.ERROR,
                description="Of 288 snapshots 12 are there.",
            )
        ]
    )


day_job = dg.define_asset_job("day_job", selection=["day"], executor_def=dg.in_process_executor)
DEFS = dg.Definitions(assets=[day], jobs=[ingest_job, other_job, day_job], sensors=[wrm_run_failure_sensor])


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """As tests have it, or, for tests that ask for both, also as a machine without a database server has it."""
    if getattr(request, "param", None) == "sqlite":
        kept = dg.DagsterInstance.local_temp(overrides={"telemetry": {"enabled": False}})
    else:
        kept = dg.DagsterInstance.ephemeral()
    with kept as instance:
        yield instance


on_both_storages = pytest.mark.parametrize("instance", ["in memory", "sqlite"], indirect=True)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """The only channel."""
    with serving(Webhook()) as server:
        monkeypatch.setenv("WRM_ALERT_URLS", server.address)
        monkeypatch.setenv("WRM_ALERT_MAX_PER_HOUR", "1000")
        monkeypatch.setenv("WRM_DAGSTER_URL", "https://dagster.example.org")
        yield server


@dataclass
class Watch:
    """A sensor, and the cursor that the daemon would keep for it."""

    sensor: dg.SensorDefinition
    instance: dg.DagsterInstance
    cursor: str | None = None

    def tick(self) -> str:
        """Evaluate the sensor as the daemon does; return the reason it gave."""
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = self.sensor.evaluate_tick(context)
        assert not result.run_requests
        self.cursor = result.cursor
        return result.skip_message or ""


@pytest.fixture
def runs(instance: dg.DagsterInstance, hook: Webhook) -> Watch:
    """The run sensor, after its first tick."""
    watch = Watch(wrm_run_failure_sensor, instance)
    watch.tick()
    return watch


@pytest.fixture
def checks(instance: dg.DagsterInstance, hook: Webhook) -> Watch:
    """The check sensor, after its first tick."""
    watch = Watch(wrm_check_failure_sensor, instance)
    watch.tick()
    return watch


def run(instance: dg.DagsterInstance, job: str = "ingest_job", **arguments: Any) -> dg.ExecuteInProcessResult:
    return DEFS.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False, run_config=QUIET, **arguments
    )


def fail(instance: dg.DagsterInstance, job: str = "ingest_job", **arguments: Any) -> dg.ExecuteInProcessResult:
    BROKEN.error = StoreUnavailable("The store https://user:word@store does not answer.\nTried 5 times.")
    try:
        return run(instance, job, **arguments)
    finally:
        BROKEN.error = None


def evaluate(
    instance: dg.DagsterInstance, severity: dg.AssetCheckSeverity | None, partition: str = "2025-05-12"
) -> dg.ExecuteInProcessResult:
    BROKEN.check = severity
    return run(instance, "day_job", partition_key=partition)


# --- Failed runs ------------------------------------------------------------------------------------------------------


def test_both_sensors_run_by_default_twice_a_minute_and_start_nothing() -> None:
    for sensor in (wrm_run_failure_sensor, wrm_check_failure_sensor):
        assert sensor.minimum_interval_seconds == 30
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.targets == []


@on_both_storages
def test_what_happened_before_the_first_tick_is_not_told(instance: dg.DagsterInstance, hook: Webhook) -> None:
    fail(instance)
    watch = Watch(wrm_run_failure_sensor, instance)

    assert watch.tick() == "From now on failures are told."
    assert watch.tick() == "There is nothing new to tell."
    assert hook.received == []


@on_both_storages
def test_a_failed_run_is_told_at_once_with_all_that_is_known_of_it(runs: Watch, hook: Webhook) -> None:
    failed = fail(runs.instance, "day_job", partition_key="2025-05-12")

    assert runs.tick() == "Alerts: channel 1 was told."

    (message,) = hook.received
    assert message["title"] == "[wrm development] day_job for 2025-05-12 failed"
    assert message["type"] == "failure"
    lines = message["message"].splitlines()
    assert lines[0] == "day_job for 2025-05-12 failed"
    assert lines[1] == "Step: day"
    assert lines[2].startswith("Since: ")
    assert lines[3:] == [
        "How often: once",
        "Error: The store https://***@store does not answer.",
        f"See: https://dagster.example.org/runs/{failed.run_id}",
        "Try: `wrm doctor` checks the store's address, keys and clock. The next run goes on from here.",
    ]


def test_a_streak_is_one_message_at_its_beginning_and_one_at_its_end(runs: Watch, hook: Webhook) -> None:
    for _ in range(3):
        fail(runs.instance)
        runs.tick()
    run(runs.instance)
    runs.tick()
    runs.tick()

    assert [title.removeprefix("[wrm development] ") for title in hook.titles] == [
        "ingest_job failed",
        "ingest_job works again",
    ]
    assert "How often: 3 times" in hook.bodies[1]
    assert AlertState.load(runs.cursor) is not None
    assert json.loads(runs.cursor or "").get("streaks", []) == []


def test_what_failed_and_recovered_while_no_tick_came_is_told_in_one_message(runs: Watch, hook: Webhook) -> None:
    fail(runs.instance)
    run(runs.instance)
    fail(runs.instance, "other_job")
    runs.tick()

    assert hook.titles == ["[wrm development] 1 failing and 1 recovered"]
    assert "ingest_job failed and works again" in hook.bodies[0]
    assert "other_job failed" in hook.bodies[0]


def test_an_error_that_nobody_foresaw_shows_its_own_words_and_where_the_traceback_is(
    runs: Watch, hook: Webhook
) -> None:
    BROKEN.error = ValueError("seven is not eight")
    run(runs.instance)
    runs.tick()

    assert "Error: ValueError: seven is not eight" in hook.bodies[0]
    assert "traceback" in hook.bodies[0]


def test_a_run_whose_process_died_is_told_with_what_dagster_says_of_it(runs: Watch, hook: Webhook) -> None:
    """Dagster's run monitoring marks it as failed, without a step that failed."""
    dead = runs.instance.create_run_for_job(ingest_job, status=dg.DagsterRunStatus.STARTED)
    runs.instance.report_run_failed(dead, "The run worker is gone.")
    runs.tick()

    assert "Error: The run worker is gone." in hook.bodies[0]
    assert "Try: Its process ended without a word" in hook.bodies[0]


def test_a_cancelled_run_is_somebodys_wish(runs: Watch, hook: Webhook) -> None:
    stopped = runs.instance.create_run_for_job(ingest_job, status=dg.DagsterRunStatus.STARTED)
    runs.instance.report_run_canceled(stopped)
    runs.tick()

    assert hook.received == []


def test_a_day_that_somebody_materializes_by_hand_has_recovered(runs: Watch, hook: Webhook) -> None:
    fail(runs.instance, "day_job", partition_key="2025-05-12")
    runs.tick()
    dg.materialize([day], instance=runs.instance, partition_key="2025-05-13", run_config=QUIET)
    runs.tick()
    assert len(hook.received) == 1

    dg.materialize([day], instance=runs.instance, partition_key="2025-05-12", run_config=QUIET)
    runs.tick()

    assert hook.titles[1:] == ["[wrm development] day_job for 2025-05-12 works again"]


def test_a_run_of_chosen_assets_is_named_by_them_and_a_range_of_days_by_its_ends(runs: Watch, hook: Webhook) -> None:
    tags = {ASSET_PARTITION_RANGE_START_TAG: "2025-05-01", ASSET_PARTITION_RANGE_END_TAG: "2025-05-09"}
    gone = runs.instance.create_run_for_job(
        DEFS.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset({day.key}),
        tags=tags,
        status=dg.DagsterRunStatus.STARTED,
    )
    runs.instance.report_run_failed(gone)
    runs.tick()

    assert hook.titles == ["[wrm development] A run of day for 2025-05-01 to 2025-05-09 failed"]


def test_dead_letters_that_a_redrive_gave_up_on_are_told_although_its_run_succeeded(runs: Watch, hook: Webhook) -> None:
    @dg.op(name="redrive")
    def gives_up(context: dg.OpExecutionContext) -> None:
        context.add_output_metadata({"letters_given_up": 3})

    @dg.job(name="reprocess_dlq_job", executor_def=dg.in_process_executor)
    def redrive() -> None:
        gives_up()

    redrive.execute_in_process(instance=runs.instance, run_config=QUIET)
    runs.tick()
    runs.tick()

    assert hook.titles == ["[wrm development] 3 dead letters are given up on"]
    assert "`wrm dlq list`" in hook.bodies[0]


# --- Nothing is lost, nothing is told twice ---------------------------------------------------------------------------


def test_a_tick_whose_cursor_was_not_stored_tells_again_rather_than_not_at_all(runs: Watch, hook: Webhook) -> None:
    fail(runs.instance)
    before = runs.cursor
    runs.tick()
    runs.cursor = before  # the daemon was killed before it stored the new one

    runs.tick()

    assert len(hook.received) == 2


@on_both_storages
def test_a_backlog_is_read_a_page_a_tick_and_told_whole(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "RUNS_PER_TICK", 3)
    for _ in range(4):
        fail(runs.instance)
    for job in ("other_job", "ingest_job", "other_job"):
        run(runs.instance, job)
    fail(runs.instance, "other_job")

    for _ in range(3):
        runs.tick()

    told = [line for body in hook.bodies for line in body.splitlines() if "_job" in line]
    assert sorted(told) == ["ingest_job failed", "ingest_job works again", "other_job failed"]
    assert "How often: 4 times" in "\n".join(hook.bodies)


def test_an_unknown_cursor_starts_with_what_is_new(runs: Watch, hook: Webhook) -> None:
    fail(runs.instance)
    runs.cursor = '{"version": 99}'

    assert runs.tick() == "From now on failures are told."
    fail(runs.instance, "other_job")
    runs.tick()

    assert hook.titles == ["[wrm development] other_job failed"]


def test_while_there_is_no_channel_nothing_is_read_and_afterwards_only_what_is_new_is_told(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as off:
        off.setenv("WRM_ALERT_URLS", "")
        fail(runs.instance)
        assert "WRM_ALERT_URLS is not set" in runs.tick()
    runs.tick()
    runs.tick()

    assert hook.received == []


def test_settings_that_cannot_be_read_are_a_reason_and_move_nothing(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(runs.instance)
    with monkeypatch.context() as wrong:
        wrong.setenv("WRM_ALERT_QUIET_HOURS", "at night")
        assert "WRM_ALERT_QUIET_HOURS" in runs.tick()

    runs.tick()

    assert hook.titles == ["[wrm development] ingest_job failed"]


def test_while_vault_does_not_answer_nothing_is_lost(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(runs.instance)
    with monkeypatch.context() as down, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()
        for name, value in (("ENABLED", "true"), ("ADDR", f"http://127.0.0.1:{port}"), ("TOKEN", CANARY)):
            down.setenv(f"VAULT_{name}", value)
        down.delenv("WRM_ALERT_URLS")
        reason = runs.tick()
        assert "the cursor stays where it was" in reason
        assert "Vault" in reason

    runs.tick()

    assert hook.titles == ["[wrm development] ingest_job failed"]


def test_an_event_log_that_was_wiped_is_read_from_its_end(runs: Watch, hook: Webhook) -> None:
    runs.cursor = json.dumps({"version": 1, "after": 10**9, "seen": [10**9 + 1]})

    runs.tick()
    fail(runs.instance)
    runs.tick()

    assert hook.titles == ["[wrm development] ingest_job failed"]


# --- When and to whom -------------------------------------------------------------------------------------------------


def test_quiet_hours_gather_what_happens_into_one_message_at_their_end(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = dt.datetime.now(LOCAL_ZONE).hour
    with monkeypatch.context() as night:
        night.setenv("WRM_ALERT_QUIET_HOURS", f"{hour:02}-{(hour + 2) % 24:02}")
        for job in ("ingest_job", "ingest_job", "other_job"):
            fail(runs.instance, job)
            assert "Quiet hours" in runs.tick()
        run(runs.instance, "other_job")
        runs.tick()
        assert hook.received == []
    runs.tick()

    assert hook.titles == ["[wrm development] 1 failing and 1 recovered"]
    assert "How often: 2 times" in hook.bodies[0]


def test_both_sensors_share_the_messages_of_an_hour_and_what_is_over_comes_together_later(
    runs: Watch, checks: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRM_ALERT_MAX_PER_HOUR", "2")
    fail(runs.instance)
    runs.tick()
    evaluate(runs.instance, dg.AssetCheckSeverity.ERROR)
    checks.tick()
    fail(runs.instance, "other_job")
    run(runs.instance)
    assert "had their 2 messages of this hour" in runs.tick()
    assert len(hook.received) == 2

    monkeypatch.setenv("WRM_ALERT_MAX_PER_HOUR", "3")
    runs.tick()

    assert hook.titles[2:] == ["[wrm development] 1 failing and 1 recovered"]


def test_ticks_of_both_sensors_at_one_moment_keep_the_limit(
    instance: dg.DagsterInstance, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster evaluates sensors in threads of one process."""
    now, both, read = dt.datetime.now(dt.UTC), threading.Barrier(2), alerts._attempts

    def read_and_wait_for_the_other(instance: dg.DagsterInstance) -> Attempts:
        found = read(instance)
        with contextlib.suppress(threading.BrokenBarrierError):  # the other one waits for its turn
            both.wait(0.2)
        return found

    monkeypatch.setattr(alerts, "_attempts", read_and_wait_for_the_other)
    with ThreadPoolExecutor(2) as pool:
        free = list(pool.map(lambda _: alerts._reserve(instance, [1], now, 1), range(2)))

    assert sorted(map(len, free)) == [0, 1]


def test_a_channel_that_does_not_work_gets_what_it_missed_later_and_the_others_get_nothing_twice(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "QUIET_S", 0.0)
    with serving(Webhook()) as second:
        monkeypatch.setenv("WRM_ALERT_URLS", f"{second.address}\n{hook.address}")
        second.status = 500
        fail(runs.instance)
        assert runs.tick() == "Alerts: channel 1 was not told: it answered HTTP 500; channel 2 was told."
        run(runs.instance)
        runs.tick()
        assert len(hook.received) == 2
        second.status = 200
        channels._part.cache_clear()
        runs.tick()
        runs.tick()

        assert second.titles == ["[wrm development] ingest_job failed and works again"]
        assert len(hook.received) == 2


def test_a_black_hole_delays_a_tick_by_its_deadline_and_fails_nothing(
    runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "deliver", lambda messages: channels.deliver(messages, deadline_s=0.3))
    with FaultProxy(hook.http_url) as proxy:
        proxy.add(Stall(), times=None)
        monkeypatch.setenv("WRM_ALERT_URLS", f"json://127.0.0.1:{proxy.port}/ {hook.address}")
        fail(runs.instance)

        assert "channel 1 was not told: no answer within 0.3 s; channel 2 was told" in runs.tick()
        # Left alone for some minutes, and not counted among its messages meanwhile.
        assert "channel 1 was not told: it failed a moment ago" in runs.tick()
        assert proxy.count() == 1
    # The attempt at the black hole counts, since it may have heard; the one that was not made does not.
    attempts = json.loads(
        runs.instance.daemon_cursor_storage.get_cursor_values({alerts.ATTEMPTS_KEY})[alerts.ATTEMPTS_KEY]
    )
    assert {channel: len(times) for channel, times in attempts["by_channel"].items()} == {"1": 1, "2": 1}


def test_neither_message_nor_cursor_holds_a_secret(runs: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", CANARY)
    BROKEN.error = StoreUnavailable(f"The key {CANARY} was refused.")
    run(runs.instance)
    runs.tick()

    assert "Error: The key [redacted] was refused." in hook.bodies[0]
    assert CANARY not in f"{hook.received}{runs.cursor}"
    assert hook.address not in (runs.cursor or "")


# --- Failed checks ----------------------------------------------------------------------------------------------------


def test_a_failed_check_is_told_with_its_severity_and_words_and_so_is_its_recovery(
    checks: Watch, hook: Webhook
) -> None:
    evaluate(checks.instance, dg.AssetCheckSeverity.WARN)
    checks.tick()
    evaluate(checks.instance, dg.AssetCheckSeverity.WARN)
    checks.tick()
    evaluate(checks.instance, None)
    checks.tick()

    assert [title.removeprefix("[wrm development] ") for title in hook.titles] == [
        "Check completeness of day for 2025-05-12 fails (warning)",
        "Check completeness of day for 2025-05-12 passes again",
    ]
    assert [message["type"] for message in hook.received] == ["warning", "success"]
    assert "Error: Of 288 snapshots 12 are there." in hook.bodies[0]
    assert "See: https://dagster.example.org/assets/day?view=checks&checkDetail=completeness" in hook.bodies[0]


def test_a_warning_that_became_an_error_is_told(checks: Watch, hook: Webhook) -> None:
    for severity in (dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR):
        evaluate(checks.instance, severity)
        checks.tick()

    assert hook.titles[1:] == ["[wrm development] Check completeness of day for 2025-05-12 got worse (error)"]


def test_each_day_of_a_check_is_a_streak_of_its_own(checks: Watch, hook: Webhook) -> None:
    evaluate(checks.instance, dg.AssetCheckSeverity.ERROR, "2025-05-12")
    evaluate(checks.instance, None, "2025-05-13")
    checks.tick()

    assert hook.titles == ["[wrm development] Check completeness of day for 2025-05-12 fails (error)"]


@on_both_storages
def test_results_that_a_run_over_many_days_reports_for_each_are_told_and_its_sum_is_not(
    checks: Watch, hook: Webhook
) -> None:
    """Such a run reports each day outside of itself, and then one result of its own that sums them up."""
    tags = {ASSET_PARTITION_RANGE_START_TAG: "2025-05-01", ASSET_PARTITION_RANGE_END_TAG: "2025-05-09"}
    many = checks.instance.create_run_for_job(day_job.resolve(asset_graph=DEFS.resolve_asset_graph()), tags=tags)

    def report(run_id: str, partition: str | None) -> None:
        event = dg.AssetCheckEvaluation(asset_key=day.key, check_name="completeness", passed=False, partition=partition)
        if partition is not None:
            checks.instance.report_runless_asset_event(event)
        else:
            checks.instance.report_dagster_event(
                dg.DagsterEvent("ASSET_CHECK_EVALUATION", many.job_name, event_specific_data=event), run_id=run_id
            )

    report("", "2025-05-02")
    report(many.run_id, None)
    checks.tick()

    assert hook.titles == ["[wrm development] Check completeness of day for 2025-05-02 fails (error)"]
    assert "How often: once" in hook.bodies[0]


@on_both_storages
def test_many_evaluations_are_read_a_page_a_tick(checks: Watch, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "CHECKS_PER_TICK", 2)
    for number in range(1, 6):
        evaluate(checks.instance, dg.AssetCheckSeverity.ERROR, f"2025-05-{number:02}")

    for _ in range(3):
        checks.tick()

    assert all(sum(f"2025-05-{n:02}" in body for body in hook.bodies) == 1 for n in range(1, 6))


def test_events_that_were_read_are_not_read_again(runs: Watch, hook: Webhook) -> None:
    for _ in range(3):
        fail(runs.instance)
        run(runs.instance)
    runs.tick()
    runs.tick()
    runs.tick()
    state = AlertState.load(runs.cursor)
    assert state is not None

    page = alerts.read_runs(runs.instance, state)

    assert page.events == ()

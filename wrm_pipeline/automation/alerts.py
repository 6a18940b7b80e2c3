"""The two sensors that tell people of failed runs and failed checks, and of their recovery.

Plain sensors with a cursor, and not run failure sensors: the cursor holds the streaks, and where in Dagster's event log
the last tick stopped. A tick that was missed, failed or was killed loses nothing: the next one reads on from there, and
at the worst sends once more what was sent a moment before the cursor would have been stored.
"""

import datetime as dt
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    EventLogEntry,
    EventLogRecord,
    RunsFilter,
    RunStatusChangeRecordsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.events import JobFailureData
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster_shared.error import SerializableErrorInfo

from wrm_pipeline.automation.redrive import reprocess_dlq_job
from wrm_pipeline.operations.alerts import (
    AlertState,
    Attempts,
    Cause,
    Failed,
    Grade,
    Kind,
    Observation,
    Passed,
    Subject,
    cause_of,
    compose,
    first_line,
    is_quiet,
    observe,
    owed,
    read_on,
    settle,
    tell,
)
from wrm_pipeline.operations.channels import Channel, deliver, open_channels
from wrm_pipeline.settings import Settings, SettingsError
from wrm_pipeline.telemetry.redaction import register_secrets_of
from wrm_pipeline.vault.errors import VaultError
from wrm_pipeline.vault.run_settings import load_run_settings

# What a tick reads at most, whatever happened before: 200 runs are some hours, 500 checks some five runs.
RUNS_PER_TICK: Final = 200
CHECKS_PER_TICK: Final = 500
# Stored when alerts are off, and understood by no version: when they are on again, they begin with what is new.
OFF: Final = "off"
# Both sensors share the limit an hour, so what counts towards it lies beside their cursors.
ATTEMPTS_KEY: Final = "wrm/alerts/attempts"
_attempts_lock = threading.Lock()
# Dagster names so what runs assets that somebody chose by hand; what it is about is the assets.
_CHOSEN_BY_HAND: Final = "__"
_ASSETS_NAMED: Final = 3


@dataclass(frozen=True)
class Page:
    """The ids of the events that a tick has read, and what they tell."""

    events: tuple[int, ...]
    observations: tuple[Observation, ...]


Read = Callable[[DagsterInstance, AlertState], Page]


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Tells the channels of WRM_ALERT_URLS of runs that fail, and of their recovery.",
)
def wrm_run_failure_sensor(context: SensorEvaluationContext) -> SensorResult | SkipReason:
    """Read which runs ended since the last tick, and tell who is owed what."""
    return _tick(context, read_runs)


@sensor(
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Tells the channels of WRM_ALERT_URLS of asset checks that fail, and of their recovery.",
)
def wrm_check_failure_sensor(context: SensorEvaluationContext) -> SensorResult | SkipReason:
    """Read which checks were evaluated since the last tick, and tell who is owed what."""
    return _tick(context, read_checks)


def _tick(context: SensorEvaluationContext, read: Read) -> SensorResult | SkipReason:
    try:
        settings = load_run_settings()
    except (SettingsError, VaultError) as error:
        return SkipReason(f"The settings could not be read; the cursor stays where it was. {error}")
    if settings.wrm_alert_urls is None:
        return SensorResult(skip_reason="WRM_ALERT_URLS is not set, so nobody is told.", cursor=OFF)
    register_secrets_of(settings)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    newest = context.instance.event_log_storage.get_maximum_record_id() or 0
    state = AlertState.load(context.cursor)
    if state is None:
        started = AlertState(version=1, after=newest)
        return SensorResult(skip_reason="From now on failures are told.", cursor=started.dump())
    if newest < state.after:
        context.log.warning(
            "Dagster's event log ends before the cursor, so it is another one; it is read from its end."
        )
        state = state.model_copy(update={"after": newest, "seen": ()})
    page = read(context.instance, state)
    channels = open_channels(settings.wrm_alert_urls.get_secret_value())
    numbers = [channel.number for channel in channels]
    state = settle(read_on(observe(state, page.observations), page.events), numbers, now)
    if is_quiet(now, settings.wrm_alert_quiet_hours):
        waiting = sum(bool(owed(state, number)) for number in numbers)
        reason = f"Quiet hours ({settings.wrm_alert_quiet_hours}): {waiting} channels are told at their end."
    else:
        state, reason = _tell(context.instance, settings, channels, state, now)
        state = settle(state, numbers, now)
    return SensorResult(skip_reason=reason, cursor=state.dump())


def _tell(
    instance: DagsterInstance, settings: Settings, channels: Sequence[Channel], state: AlertState, now: dt.datetime
) -> tuple[AlertState, str]:
    """Send each channel what it is owed; return what is known then, and what came of it in words."""
    news = {channel.number: owed(state, channel.number) for channel in channels}
    due = [channel for channel in channels if news[channel.number] or state.unnamed.get(channel.number)]
    free = _reserve(instance, [channel.number for channel in due], now, settings.wrm_alert_max_per_hour)
    messages = {
        channel: compose(
            news[channel.number],
            environment=settings.wrm_env,
            dagster_url=settings.wrm_dagster_url,
            unnamed=state.unnamed.get(channel.number, 0),
        )
        for channel in due
        if channel.number in free
    }
    deliveries = deliver(messages)
    _release(instance, [number for number, delivery in deliveries.items() if not delivery.tried], now)
    outcomes = [f"{len(due) - len(free)} channels had their {settings.wrm_alert_max_per_hour} messages of this hour"]
    outcomes = outcomes if len(due) > len(free) else []
    for number, delivery in deliveries.items():
        if delivery.taken:
            state = tell(state, number, news[number], now)
        outcomes.append(f"channel {number} {'was told' if delivery.taken else 'was not told: ' + delivery.reason}")
    return state, f"Alerts: {'; '.join(outcomes)}." if outcomes else "There is nothing new to tell."


def _reserve(instance: DagsterInstance, channels: Sequence[int], now: dt.datetime, max_per_hour: int) -> frozenset[int]:
    """Count an attempt for each channel that may be written to now, before it is made; return which may."""
    if not channels:
        return frozenset()
    with _attempts_lock:
        attempts, free = _attempts(instance).reserve(channels, now.timestamp(), max_per_hour)
        _store(instance, attempts)
    return free


def _release(instance: DagsterInstance, channels: Sequence[int], at: dt.datetime) -> None:
    if channels:
        with _attempts_lock:
            _store(instance, _attempts(instance).release(channels, at.timestamp()))


def _attempts(instance: DagsterInstance) -> Attempts:
    return Attempts.load(instance.daemon_cursor_storage.get_cursor_values({ATTEMPTS_KEY}).get(ATTEMPTS_KEY))


def _store(instance: DagsterInstance, attempts: Attempts) -> None:
    instance.daemon_cursor_storage.set_cursor_values({ATTEMPTS_KEY: attempts.model_dump_json()})


# --- Runs -------------------------------------------------------------------------------------------------------------


def read_runs(instance: DagsterInstance, state: AlertState) -> Page:
    """Read which runs failed or succeeded after the cursor; of those cancelled somebody knows."""
    limit = RUNS_PER_TICK + len(state.seen)
    pages = [
        instance.fetch_run_status_changes(
            RunStatusChangeRecordsFilter(kind, after_storage_id=state.after), limit=limit, ascending=True
        ).records
        for kind in (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS)
    ]
    # Where a page is full there is more, and the other page must not run ahead of it.
    ends = [page[-1].storage_id for page in pages if len(page) == limit]
    records = sorted(
        (record for page in pages for record in page if record.storage_id <= min(ends, default=record.storage_id)),
        key=lambda record: record.storage_id,
    )
    new = [record for record in records if record.storage_id not in state.seen]
    runs = _runs(instance, (record.event_log_entry.run_id for record in new))
    broken = {(streak.subject.partition, streak.step) for streak in state.streaks}
    observations: list[Observation] = []
    for record in new:
        run = runs.get(record.event_log_entry.run_id)
        if run is None:
            continue  # somebody has deleted it
        event = record.event_log_entry.get_dagster_event()
        if event.event_type is DagsterEventType.RUN_FAILURE:
            failed = _failed_run(record, run)
            broken.add((failed.subject.partition, failed.step))
            observations.append(failed)
        else:
            observations.append(_passed_run(instance, record, run, broken))
            if run.job_name == reprocess_dlq_job.name:
                observations += _given_up(instance, record, run)
    return Page(tuple(record.storage_id for record in records), tuple(observations))


def _runs(instance: DagsterInstance, ids: Iterable[str]) -> Mapping[str, DagsterRun]:
    wanted = sorted(set(ids))
    records = instance.get_run_records(RunsFilter(run_ids=wanted)) if wanted else []
    return {record.dagster_run.run_id: record.dagster_run for record in records}


def _subject(run: DagsterRun) -> Subject:
    assets = ""
    if run.job_name.startswith(_CHOSEN_BY_HAND):
        named = sorted(key.to_user_string() for key in run.asset_selection or ())
        also = f" and {len(named) - _ASSETS_NAMED} more" if len(named) > _ASSETS_NAMED else ""
        assets = f"{', '.join(named[:_ASSETS_NAMED])}{also}" or "assets"
    return Subject(kind=Kind.RUN, name=run.job_name, asset=assets, partition=_partition(run))


def _partition(run: DagsterRun) -> str:
    first, last = (run.tags.get(tag) for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG))
    if first is None or last is None:
        return run.tags.get(PARTITION_NAME_TAG, "")
    return first if first == last else f"{first} to {last}"


def _failed_run(record: EventLogRecord, run: DagsterRun) -> Failed:
    event = record.event_log_entry.get_dagster_event()
    data = event.event_specific_data
    ended = data if isinstance(data, JobFailureData) else None  # none when it was Dagster that found the run dead
    step = ended.first_step_failure_event if ended is not None else None
    if step is None:
        error = ended.error if ended is not None else None
        text = error.message if error is not None else event.message or ""
    else:
        error = step.step_failure_data.error
        told = step.step_failure_data.user_failure_data
        text = (told.description if told is not None else None) or (_deepest(error).message if error else "")
    return Failed(
        event=record.storage_id,
        subject=_subject(run),
        at=_time(record.event_log_entry),
        error=first_line(text),
        cause=cause_of(_classes(error)),
        run_id=run.run_id,
        step=(step.step_key if step is not None else None) or "",
    )


def _classes(error: SerializableErrorInfo | None) -> list[str]:
    classes = []
    while error is not None:
        classes.append(error.cls_name or "")
        error = error.cause
    return classes


def _deepest(error: SerializableErrorInfo) -> SerializableErrorInfo:
    while error.cause is not None:
        error = error.cause
    return error


def _passed_run(
    instance: DagsterInstance, record: EventLogRecord, run: DagsterRun, broken: Iterable[tuple[str, str]]
) -> Passed:
    """Return that a run succeeded, with its steps when one of them is among those that failed for its partition."""
    subject = _subject(run)
    steps: frozenset[str] = frozenset()
    if any(step and partition == subject.partition for partition, step in broken):
        entries = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_SUCCESS)
        steps = frozenset(entry.step_key for entry in entries if entry.step_key)
    return Passed(event=record.storage_id, subject=subject, at=_time(record.event_log_entry), steps=steps)


def _given_up(instance: DagsterInstance, record: EventLogRecord, run: DagsterRun) -> list[Failed]:
    """Return a notice when a redrive gave up on dead letters, which fails no run."""
    entries = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_OUTPUT)
    outputs = [entry.get_dagster_event().step_output_data for entry in entries]
    counts = [output.metadata["letters_given_up"].value for output in outputs if "letters_given_up" in output.metadata]
    given_up = sum(count for count in counts if isinstance(count, int))
    if not given_up:
        return []
    letters = "1 dead letter is" if given_up == 1 else f"{given_up} dead letters are"
    return [
        Failed(
            event=record.storage_id,
            subject=Subject(kind=Kind.NOTICE, name=f"{letters} given up on"),
            at=_time(record.event_log_entry),
            error="",
            cause=Cause.LETTERS,
            run_id=run.run_id,
        )
    ]


def _time(entry: EventLogEntry) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(entry.timestamp), dt.UTC)


# --- Checks -----------------------------------------------------------------------------------------------------------


def read_checks(instance: DagsterInstance, state: AlertState) -> Page:
    """Read which checks were evaluated after the cursor.

    The result of a check over a range of days only sums up those of its days, which are in the log too.
    """
    entries = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
        after_cursor=state.after,
        dagster_event_type=DagsterEventType.ASSET_CHECK_EVALUATION,
        limit=CHECKS_PER_TICK + len(state.seen),
    )
    new = {event: (entry, _evaluation(entry)) for event, entry in entries.items() if event not in state.seen}
    whole = _runs(instance, (entry.run_id for entry, check in new.values() if entry.run_id and not check.partition))
    over_days = {run_id for run_id, run in whole.items() if ASSET_PARTITION_RANGE_START_TAG in run.tags}
    observations = tuple(
        _observed(event, entry, check)
        for event, (entry, check) in new.items()
        if check.partition or entry.run_id not in over_days
    )
    return Page(tuple(entries), observations)


def _evaluation(entry: EventLogEntry) -> AssetCheckEvaluation:
    return entry.get_dagster_event().asset_check_evaluation_data


def _observed(event: int, entry: EventLogEntry, check: AssetCheckEvaluation) -> Observation:
    subject = Subject(
        kind=Kind.CHECK,
        name=check.check_name,
        asset=check.asset_key.to_user_string(),
        partition=check.partition or "",
    )
    if check.passed:
        return Passed(event=event, subject=subject, at=_time(entry))
    return Failed(
        event=event,
        subject=subject,
        at=_time(entry),
        error=first_line(check.description or ""),
        cause=Cause.CHECK,
        grade=Grade.ERROR if check.severity is AssetCheckSeverity.ERROR else Grade.WARNING,
        run_id=entry.run_id,
    )

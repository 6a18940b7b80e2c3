"""What runs by the clock, all times UTC."""

import datetime as dt
from functools import partial

from dagster import (
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from wrm_pipeline.assets.partitions import FIRST_DAY
from wrm_pipeline.automation.housekeeping import wrm_housekeeping_job
from wrm_pipeline.automation.jobs import (
    wrm_stations_ingest_job,
    wrm_stations_processing_job,
    wrm_stations_quality_job,
)
from wrm_pipeline.automation.redrive import reprocess_dlq_job
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.object_store import StoreError
from wrm_pipeline.layers.reconcile import stale_days
from wrm_pipeline.layers.waiting import waiting
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import Settings

running_schedule = partial(schedule, execution_timezone="UTC", default_status=DefaultScheduleStatus.RUNNING)

# A day's build takes seconds, so a night's work; what is left comes first the next night.
DAYS_PER_NIGHT = 200


def build_schedules(settings: Settings) -> list[ScheduleDefinition]:
    """Return the schedules, their cron lines taken from the settings."""

    @running_schedule(
        job=wrm_stations_ingest_job,
        cron_schedule=settings.wrm_poll_cron,
        description="Polls the feed (WRM_POLL_CRON).",
    )
    def wrm_stations_ingest_schedule(feed: FeedResource) -> RunRequest | SkipReason:
        if feed.breaker.is_open():
            return SkipReason("The feed failed repeatedly and its circuit breaker is open; the next poll tries again.")
        return RunRequest()

    @running_schedule(
        job=wrm_stations_processing_job,
        cron_schedule=settings.wrm_reconcile_cron,
        description="Rebuilds each day whose recorded inputs differ from what raw holds (WRM_RECONCILE_CRON).",
    )
    def wrm_stations_reconcile_schedule(
        context: ScheduleEvaluationContext, object_store: ObjectStoreResource
    ) -> list[RunRequest] | SkipReason:
        now = context.scheduled_execution_time
        lake = object_store.lake
        try:
            days = [day for day in lake.raw_days() if FIRST_DAY <= day <= dt.datetime.now(dt.UTC).date()]
            stale = list(stale_days(lake, days))
        except StoreError as error:
            return SkipReason(f"The lake could not be compared with raw. {error}")
        if not stale:
            return SkipReason(f"All {len(days)} days are built from what raw holds.")
        return [
            RunRequest(
                run_key=f"reconcile:{now:%Y-%m-%dT%H:%M}:{entry.day}",
                partition_key=entry.day.isoformat(),
                tags={"wrm/reason": entry.reason},
            )
            for entry in stale[:DAYS_PER_NIGHT]
        ]

    @running_schedule(
        job=wrm_stations_quality_job,
        cron_schedule=settings.wrm_quality_cron,
        description="Looks for anomalies in the day before and profiles it (WRM_QUALITY_CRON).",
    )
    def wrm_stations_quality_schedule(
        context: ScheduleEvaluationContext, object_store: ObjectStoreResource
    ) -> RunRequest | SkipReason:
        yesterday = context.scheduled_execution_time.astimezone(dt.UTC).date() - dt.timedelta(days=1)
        lake = object_store.lake
        try:
            built = lake.store.head(lake.keys.layer_object(Layer.ENHANCED, yesterday))
        except StoreError as error:
            return SkipReason(f"The lake could not be looked at. {error}")
        if built is None:
            return SkipReason(f"Enhanced holds nothing of {yesterday}: there is nothing to look at.")
        return RunRequest(run_key=f"quality:{yesterday}", partition_key=yesterday.isoformat())

    return [
        wrm_stations_ingest_schedule,
        wrm_stations_reconcile_schedule,
        wrm_stations_quality_schedule,
        _dlq_schedule(settings),
        ScheduleDefinition(
            name="wrm_housekeeping_schedule",
            job=wrm_housekeeping_job,
            cron_schedule=settings.wrm_housekeeping_cron,
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Forgets runs that newer ones have superseded (WRM_HOUSEKEEPING_CRON).",
        ),
    ]


def _dlq_schedule(settings: Settings) -> ScheduleDefinition:
    @running_schedule(
        job=reprocess_dlq_job,
        cron_schedule=settings.wrm_redrive_cron,
        description="Redrives the dead letters that wait, when there are any (WRM_REDRIVE_CRON).",
    )
    def wrm_stations_dlq_schedule(
        context: ScheduleEvaluationContext, object_store: ObjectStoreResource, feed: FeedResource
    ) -> RunRequest | SkipReason:
        unreadable = 0
        try:
            for found in waiting(object_store.lake, feed.format, active_contracts().enhanced):
                unreadable += len(found.unreadable)
                if found.is_due:
                    return RunRequest(run_key=f"redrive:{context.scheduled_execution_time:%Y-%m-%dT%H:%M}")
        except StoreError as error:
            return SkipReason(f"The dead letters could not be looked at. {error}")
        also = f" {unreadable} cannot be read: see `wrm dlq stats`." if unreadable else ""
        return SkipReason(f"No dead letter waits for a redrive.{also}")

    return wrm_stations_dlq_schedule

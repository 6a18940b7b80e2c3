"""The sensor that turns new raw objects into runs. What it decides is in `raw_cursor`."""

import datetime as dt

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, SkipReason, sensor

from wrm_pipeline.assets.partitions import FIRST_DAY
from wrm_pipeline.automation.jobs import run_tags, wrm_stations_processing_job
from wrm_pipeline.automation.raw_cursor import RawCursor, decide
from wrm_pipeline.lake.keys import snapshot_name
from wrm_pipeline.lake.object_store import StoreError
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.telemetry import traces

# One page of a listing: what a tick costs does not depend on what the bucket holds.
KEYS_PER_TICK = 1000
DAYS_PER_TICK = 10


@sensor(
    job=wrm_stations_processing_job,
    # A snapshot is to be in the marts within a minute, and a quarter of it may pass here. A tick costs one request.
    minimum_interval_seconds=15,
    default_status=DefaultSensorStatus.RUNNING,
    description="Asks for one processing run for each day that has new raw objects.",
)
def wrm_stations_raw_data_sensor(
    context: SensorEvaluationContext, object_store: ObjectStoreResource
) -> SensorResult | SkipReason:
    """List raw from the cursor on and request runs; when the listing fails, say why and move nothing."""
    lake = object_store.lake
    cursor = RawCursor.load(context.cursor)
    try:
        listing = lake.store.list(lake.keys.raw_root, start_after=cursor.after, max_keys=KEYS_PER_TICK)
        keys = [info.key for info in listing]
    except StoreError as error:
        return SkipReason(f"Raw could not be listed; the cursor stays where it was. {error}")
    today = dt.datetime.now(dt.UTC).date()
    decision = decide(cursor, keys, first_day=FIRST_DAY, last_day=today, max_days=DAYS_PER_TICK)
    if decision.ignored:
        context.log.warning(
            "%d raw keys belong to no partition between %s and %s and are left alone, for example %s",
            len(decision.ignored),
            FIRST_DAY,
            today,
            decision.ignored[0],
        )
    with traces.tick("wrm_stations_raw_data_sensor"):
        requests = [
            RunRequest(
                run_key=request.run_key,
                partition_key=request.day.isoformat(),
                tags=run_tags(snapshot_name(request.newest)),
            )
            for request in decision.requests
        ]
    newest = max((cursor.after, *cursor.seen)) or "the beginning"
    return SensorResult(
        run_requests=requests,
        skip_reason=None if decision.requests else f"No new raw objects after {newest}",
        cursor=decision.cursor.model_dump_json(),
    )

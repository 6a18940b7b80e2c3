"""A tick of the raw sensor, with nothing new to see, in a bucket of 100,000 raw objects and in one of 1,000."""

import datetime as dt
import gc
import time
from dataclasses import replace

from dagster import SensorResult, build_sensor_context

from bench.many_objects import fill, raw_keys
from bench.results import Report, Samples, Target, WrongResultError, say
from wrm_pipeline.automation.raw_cursor import RawCursor
from wrm_pipeline.automation.sensors import wrm_stations_raw_data_sensor
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.object_store import ObjectStore, build_client
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.settings import StoreSettings

MANY, FEW = 100_000, 1_000
TICKS = 31


def measure_sensor(settings: StoreSettings) -> Report:
    """Fill two buckets and time ticks in them in turns. The credentials must be in this process's environment."""
    # Keys of the future belong to no partition; those of today would leave it open when today ends.
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    cursors: dict[int, str] = {}
    resources: dict[int, ObjectStoreResource] = {}
    for count in (FEW, MANY):
        bucket = replace(settings, bucket=f"sensor-{count}")
        client = build_client(bucket)
        client.create_bucket(Bucket=bucket.bucket)
        client.close()
        keys = raw_keys(LakeKeys(bucket.prefix), count, yesterday)
        fill(bucket, keys)
        with ObjectStore(bucket) as store:
            found = sum(1 for _ in store.list(LakeKeys(bucket.prefix).raw_root))
        if found != count:
            raise WrongResultError(f"the bucket lists {found} raw objects instead of {count}")
        resources[count] = ObjectStoreResource(
            endpoint_url=bucket.endpoint_url, bucket=bucket.bucket, prefix=bucket.prefix
        )
        # Some keys behind the end, so that the first tick has news and leaves the cursor where it stays.
        cursors[count] = RawCursor(after=keys[-10]).model_dump_json()
    seconds: dict[int, list[float]] = {FEW: [], MANY: []}
    requests: set[int] = set()
    say(f"Sensor, {TICKS} ticks in each bucket")
    for number in range(TICKS + 2):
        for count in (FEW, MANY):
            cursors[count], requested, asked, took = _tick(resources[count], cursors[count])
            if requested != (number == 0):
                raise WrongResultError(f"tick {number} over {count} objects asked for {requested} runs")
            if number >= 2:  # the first has news, the second warms up
                seconds[count].append(took)
                requests.add(asked)
    many = Samples(f"sensor tick, {MANY:,} raw objects", "s", seconds[MANY])
    few = Samples(f"sensor tick, {FEW:,} raw objects", "s", seconds[FEW])
    asked_in_all = Samples("S3 requests of a sensor tick", "requests", [float(n) for n in sorted(requests)])
    return Report(
        samples=[few, many],
        targets=[
            Target(f"sensor tick over {MANY:,} raw objects", many, 1.5, few),
            Target("S3 requests of a tick", asked_in_all, 1),
        ],
    )


def _tick(resource: ObjectStoreResource, cursor: str) -> tuple[str, int, int, float]:
    """Evaluate the sensor once: its cursor, the runs it asks for, the S3 requests it made, and the seconds it took."""
    with build_sensor_context(cursor=cursor, resources={"object_store": resource}) as context:
        traffic = context.resources.object_store.lake.store.traffic  # the client is made here, before the clock starts
        gc.collect()
        started = time.perf_counter()
        result = wrm_stations_raw_data_sensor(context)
        took = time.perf_counter() - started
        if not isinstance(result, SensorResult) or result.cursor is None:
            raise WrongResultError(f"the sensor gave {result}")
        return result.cursor, len(result.run_requests or ()), traffic.requests.total(), took

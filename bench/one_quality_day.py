"""Look for anomalies in a day and profile it as a run does, in a process of its own; print seconds and peak in kB.

The seconds are those of the run, its libraries' import included. Usage: python -m bench.one_quality_day YYYY-MM-DD,
with the variables of a store set.
"""

import sys
import time
from pathlib import Path

from dagster import materialize

import wrm_pipeline.definitions  # noqa: F401 - part of what is measured
from wrm_pipeline.assets.quality import wrm_stations_anomalies, wrm_stations_profile
from wrm_pipeline.resources.cache import CacheResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource


def main() -> None:
    """Materialize both."""
    started = time.perf_counter()
    assets = [wrm_stations_anomalies, wrm_stations_profile]
    materialize(
        assets,
        partition_key=sys.argv[1],
        resources={"object_store": ObjectStoreResource(), "cache": CacheResource(), "metrics": MetricsResource()},
    )
    seconds = time.perf_counter() - started
    # Of this program alone: getrusage counts what the parent held when it forked.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(seconds, status["VmHWM"].split()[0])


if __name__ == "__main__":
    main()

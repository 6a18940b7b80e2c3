"""Build a day as a run does, in a process of its own, and print the most memory that this took, in kB.

The whole code location is imported and the asset materialized, since that is what a machine must have room for.
Usage: python -m bench.one_day YYYY-MM-DD, with the variables of a store set.
"""

import sys
from pathlib import Path

from dagster import materialize

import wrm_pipeline.definitions  # noqa: F401 - part of what is measured
from wrm_pipeline.assets.days import wrm_stations_enhanced_data_all
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource


def main() -> None:
    """Materialize the day and print the peak."""
    resources = {"object_store": ObjectStoreResource(), "feed": FeedResource(), "metrics": MetricsResource()}
    materialize([wrm_stations_enhanced_data_all], partition_key=sys.argv[1], resources=resources)
    # Of this program alone: getrusage counts what the parent held when it forked.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(status["VmHWM"].split()[0])


if __name__ == "__main__":
    main()

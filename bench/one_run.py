"""Run the processing job of a day as Dagster does, in a process of its own; print the ETags of what it made.

Usage: python -m bench.one_run YYYY-MM-DD, with the variables of a store, and of what else is to be on, set.
"""

import datetime as dt
import sys

from bench.results import WrongResultError
from wrm_pipeline.definitions import defs
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.vault.run_settings import load_run_settings


def main() -> None:
    """Run the job and print."""
    day = sys.argv[1]
    job = defs.resolve_job_def("wrm_stations_processing_job")
    if not job.execute_in_process(partition_key=day, raise_on_error=False).success:
        raise WrongResultError("the run failed")
    lake = open_lake(load_run_settings())
    with lake.store:
        for layer in Layer:
            info = lake.store.head(lake.keys.layer_object(layer, dt.date.fromisoformat(day)))
            print(info.etag if info is not None else "missing")


if __name__ == "__main__":
    main()

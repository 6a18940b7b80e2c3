"""Run the marts' job as Dagster does, in a process of its own; or, for comparison, only read what such a run reads.

Prints JSON: the seconds of each part, the seconds of processor time in all, and the most memory it took in kB.
Usage: python -m bench.one_marts_run job, or floor KEY..., with the variables of a store, WRM_DUCKDB_PATH and
WRM_PSEUDONYM_KEY set.
"""

import json
import sys
import time
from pathlib import Path

import dagster

from wrm_pipeline.marts.connection import connect, quoted, use_lake
from wrm_pipeline.settings import load_settings


def main() -> None:
    """Do what the arguments say."""
    what, *keys = sys.argv[1:]
    parts = run_job() if what == "job" else {"reading": read(keys)}
    # Of this program alone: getrusage counts what the parent held when it forked.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"parts": parts, "cpu_s": time.process_time(), "peak_kb": int(status["VmHWM"].split()[0])}))


def run_job() -> dict[str, float]:
    """Run the job, and return the seconds of each of its steps and of importing the code location."""
    started = time.perf_counter()
    from wrm_pipeline.definitions import defs

    imported = time.perf_counter() - started
    result = defs.resolve_job_def("wrm_stations_marts_job").execute_in_process()
    ended = [event for event in result.all_events if event.event_type is dagster.DagsterEventType.STEP_SUCCESS]
    return {"import": imported} | {str(e.step_key): e.step_success_data.duration_ms / 1000 for e in ended}


def read(keys: list[str]) -> float:
    """Read objects of the lake with DuckDB, all columns of each; return the seconds."""
    started = time.perf_counter()
    store = load_settings().require_store()
    with connect() as connection:
        use_lake(connection, store)
        for key in keys:
            address = quoted(f"s3://{store.bucket}/{key}")
            connection.execute(f"CREATE OR REPLACE TEMP TABLE rows AS FROM read_parquet({address})")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

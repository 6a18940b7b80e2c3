"""The most memory that building a day takes, from nothing, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from bench.results import Report, Samples, Target, WrongResultError, say
from bench.snapshots import DAY, snapshots
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.settings import StoreSettings, subprocess_environment

LIMIT_MB = 600.0
_ROUNDS = 3


def measure_memory(settings: StoreSettings, environment: dict[str, str], data: Path) -> Report:
    """Materialize the day some times and take each process's peak."""
    keys = LakeKeys(settings.prefix)
    peaks = []
    with ObjectStore(settings) as store:
        for at, body in snapshots(data):
            store.put(keys.raw(at), body, content_type="text/plain; charset=utf-8")
        for number in range(_ROUNDS):
            say(f"Memory, process {number + 1} of {_ROUNDS}")
            for layer in Layer:
                store.delete(keys.layer_object(layer, DAY))
            child = subprocess.run(
                [sys.executable, "-m", "bench.one_day", DAY.isoformat()],
                env=subprocess_environment(**environment, WRM_STATIONS_S3_PREFIX=settings.prefix),
                capture_output=True,
                text=True,
                check=False,
            )
            if child.returncode:
                raise WrongResultError(f"the process that builds a day failed:\n{child.stderr[-4000:]}")
            peaks.append(int(child.stdout.split()[-1]) * 1024 / 1e6)
    samples = Samples("peak memory of a day, process with Dagster", "MB", peaks)
    return Report([samples], [Target("peak memory of a day", samples, LIMIT_MB)])

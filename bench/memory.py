"""The most memory that building a day takes, from nothing, in a process of its own."""

from pathlib import Path

from bench.child import run_child
from bench.results import Report, Samples, Target, say
from bench.snapshots import DAY, snapshots
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.settings import StoreSettings

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
            peaks.append(int(run_child("bench.one_day", settings, environment)[-1]) * 1024 / 1e6)
    samples = Samples("peak memory of a day, process with Dagster", "MB", peaks)
    return Report([samples], [Target("peak memory of a day", samples, LIMIT_MB)])

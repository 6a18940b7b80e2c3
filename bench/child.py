"""Work that is measured in a process of its own, where nothing that was imported or held before counts."""

import subprocess
import sys

from bench.results import WrongResultError
from bench.snapshots import DAY
from wrm_pipeline.settings import StoreSettings, subprocess_environment


def run_child(module: str, settings: StoreSettings, environment: dict[str, str]) -> list[str]:
    """Run a module of the benchmark for the day, on a store and prefix, and return the words it prints.

    Raises:
        WrongResultError: it failed.
    """
    child = subprocess.run(
        [sys.executable, "-m", module, DAY.isoformat()],
        env=subprocess_environment(**environment, WRM_STATIONS_S3_PREFIX=settings.prefix),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise WrongResultError(f"{module} failed:\n{child.stderr[-4000:]}")
    return child.stdout.split()

"""What a process pays for importing the code location, beside the libraries that it cannot do without."""

import subprocess
import sys
import time

from bench.results import Report, Samples, Target, say
from wrm_pipeline.settings import subprocess_environment

OURS = "import wrm_pipeline.definitions"
BASE = "import dagster, pandas, pandera.pandas, boto3"
ROUNDS = 9


def measure_import() -> Report:
    """Time whole processes, in turns; each was run once before, so that bytecode and page cache are warm."""
    seconds: dict[str, list[float]] = {OURS: [], BASE: []}
    for number in range(ROUNDS + 1):
        say(f"Import, round {number} of {ROUNDS}" if number else "Import, warm-up")
        for statement, samples in seconds.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], env=subprocess_environment(), check=True)
            if number:
                samples.append(time.perf_counter() - started)
    ours = Samples("python -c 'import wrm_pipeline.definitions'", "s", seconds[OURS])
    base = Samples(f"python -c '{BASE}'", "s", seconds[BASE])
    return Report([ours, base], [Target("import of the code location", ours, 1.5, base)])

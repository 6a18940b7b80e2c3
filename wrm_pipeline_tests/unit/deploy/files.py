"""Where the files of `deploy/` lie, and what is read from them by more than one test."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import wrm_pipeline_tests

DEPLOY = Path(wrm_pipeline_tests.__file__).parents[1] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_METRIC = re.compile(r"\b(?:wrm|dagster)_\w+")


def run_tool(*command: str) -> str:
    """Run a Debian package's command and return what it says; fail with that when it does not succeed."""
    assert shutil.which(command[0]), f"{command[0]} is missing: apt-get install prometheus prometheus-alertmanager"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules() -> Iterator[dict[str, Any]]:
    """Yield all rules as their files have them, in the order of files and lines."""
    for path in sorted(PROMETHEUS.glob("rules/*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def metrics_in(promql: str) -> set[str]:
    """Return the names of the project's own metrics in a query."""
    return set(_METRIC.findall(_STRING.sub('""', promql)))

"""WRM_CONTRACTS_DIR in processes of their own: a broken contract stops the code location, a right one counts."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from wrm_pipeline.contracts.vocabulary import ENHANCED, PROCESSED, RAW
from wrm_pipeline_tests.unit.contracts.files import edited, line_of, rule_severity, write

LOAD = ("-c", "import wrm_pipeline.definitions")
# What the definitions say about one asset that a contract decides.
DESCRIBE = """
import json, sys
from wrm_pipeline.definitions import defs
from dagster import AssetKey

spec = defs.resolve_asset_graph().get(AssetKey(sys.argv[1]))
policy = spec.freshness_policy
columns = {c.name: c.constraints.other for c in spec.metadata["dagster/column_schema"].columns}
print(json.dumps({
    "warn_s": policy.warn_window.to_timedelta().total_seconds(),
    "fail_s": policy.fail_window.to_timedelta().total_seconds(),
    "owners": list(spec.owners),
    "columns": columns,
    "contract": spec.metadata["contract"],
}))
"""


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The variables of a bare shell whose contracts lie in a directory of ours."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    directory = tmp_path / "contracts"
    directory.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WRM_CONTRACTS_DIR": str(directory), **measured}


def run(*command: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=dict(variables), cwd=variables["HOME"], capture_output=True, text=True, timeout=120, check=False
    )


def described(asset: str, shell: Mapping[str, str]) -> dict[str, object]:
    done = run(sys.executable, "-c", DESCRIBE, asset, variables=shell)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("dataset", "old", "new", "says"),
    [
        (ENHANCED, "name: overfull", "name: overful", "there is no rule 'overful' for this dataset; known are "),
        (PROCESSED, "maximum: 90.0", "maximum: north", "maximum must be a number (it is 'north')"),
        (RAW, "value: 15", "value: 150", "freshnessWarning must be shorter than freshnessFailure"),
        (RAW, "name: team:bike-data", "name: bike data", "name must be an e-mail address, or team: and a name"),
    ],
)
def test_a_broken_contract_stops_the_code_location_and_the_last_line_names_file_and_line(
    dataset: str, old: str, new: str, says: str, shell: dict[str, str]
) -> None:
    text = edited(dataset, old, new)
    path = write(Path(shell["WRM_CONTRACTS_DIR"]), dataset, text)
    # The order of two durations is a matter of the entry and not of its number.
    line = line_of(text, "- property: freshnessWarning" if "freshnessWarning" in says else new)

    done = run(sys.executable, *LOAD, variables=shell)

    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert f" {path}:{line}: {says}" in last


def test_a_directory_that_does_not_exist_stops_it_too(shell: dict[str, str]) -> None:
    done = run(sys.executable, *LOAD, variables={**shell, "WRM_CONTRACTS_DIR": "/nowhere"})

    assert done.returncode != 0
    assert "WRM_CONTRACTS_DIR" in done.stderr
    assert "/nowhere" in done.stderr


def test_a_right_copy_with_other_thresholds_shows_up_in_the_definitions(shell: dict[str, str]) -> None:
    directory = Path(shell["WRM_CONTRACTS_DIR"])
    before = described(RAW, shell)
    assert (before["warn_s"], before["fail_s"], before["owners"]) == (15 * 60, 2 * 3600, ["team:bike-data"])
    text = edited(RAW, "value: 15\n", "value: 25\n").replace("team:bike-data", "team:night-shift")

    write(directory, RAW, text)

    after = described(RAW, shell)
    assert (after["warn_s"], after["fail_s"], after["owners"]) == (25 * 60, 2 * 3600, ["team:night-shift"])


def test_a_bound_and_a_severity_show_up_in_the_assets_that_they_decide_about(shell: dict[str, str]) -> None:
    directory = Path(shell["WRM_CONTRACTS_DIR"])
    before = described(ENHANCED, shell)
    write(directory, PROCESSED, edited(PROCESSED, "{minimum: 0}", "{minimum: 0, maximum: 77}", after="- name: bikes\n"))
    write(directory, ENHANCED, rule_severity(ENHANCED, "overfull", "error"))

    after = described(ENHANCED, shell)

    assert isinstance(before["columns"], dict)
    assert isinstance(after["columns"], dict)
    assert (before["columns"]["bikes"], after["columns"]["bikes"]) == ([">= 0"], [">= 0", "<= 77"])
    assert before["contract"] != after["contract"]


def test_wrm_status_says_one_sentence_about_a_broken_contract(shell: dict[str, str]) -> None:
    """It needs no store for that: nothing of what it would show could be trusted."""
    text = rule_severity(ENHANCED, "overfull", "eror")
    path = write(Path(shell["WRM_CONTRACTS_DIR"]), ENHANCED, text)
    # Nobody listens on port 9, and it is not asked.
    store = {
        "S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "S3_ACCESS_KEY_ID": "a",
        "S3_SECRET_ACCESS_KEY": "b",
        "BUCKET_NAME": "bikes",
        "WRM_S3_RETRY_BUDGET_S": "0.1",
    }

    done = run(str(Path(sys.executable).with_name("wrm")), "status", variables={**shell, **store})

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"wrm: {path}:{line_of(text, 'severity: eror')}: severity must be error or warning (it is 'eror')\n"
    )

"""`wrm contracts`: tables, one dataset or all, the document, JSON, and the contracts of WRM_CONTRACTS_DIR."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wrm_pipeline.cli.contracts import contracts
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.contracts.document import markdown
from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.contracts.model import ContractError
from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, PROCESSED, RAW
from wrm_pipeline_tests.unit.contracts.files import DATASETS, edited, write


@pytest.fixture(autouse=True)
def _read_again() -> Iterator[None]:
    """They are read once a process; here each test is one."""
    active_contracts.cache_clear()
    yield
    active_contracts.cache_clear()


def run(*arguments: str, columns: int = 200) -> Result:
    return CliRunner().invoke(contracts, arguments, env={"COLUMNS": str(columns)})


def test_all_contracts_are_shown_with_all_columns_and_rules() -> None:
    done = run()

    assert done.exit_code == 0
    for contract in packaged_contracts():
        facts = (contract.id, contract.owner, contract.stamp, contract.retention)
        names = [*(column.name for column in contract.columns), *contract.rules]
        assert [text for text in (*facts, *names) if text not in done.output] == []
    assert "warns after 15 min, fails after 2 h; a snapshot every 5 min" in done.output


def test_one_dataset_is_shown_alone() -> None:
    done = run(DEAD_LETTERS)

    assert done.exit_code == 0
    assert "readable_letters" in done.output
    assert not any(f"{dataset} ─" in done.output for dataset in DATASETS if dataset != DEAD_LETTERS)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_gets_every_letter(columns: int) -> None:
    """Cut names would be names of something else."""
    done = run(RAW, columns=columns)

    assert done.exit_code == 0
    assert "…" not in done.output
    assert max(len(line) for line in done.output.splitlines()) <= columns


def test_the_document_is_that_of_these_contracts() -> None:
    assert run("--markdown").output == markdown(packaged_contracts())
    assert run("--markdown", RAW).output == markdown([packaged_contracts().raw])


def test_json_holds_what_the_contracts_hold() -> None:
    found = json.loads(run("--json").output)

    assert [contract["id"] for contract in found] == [contract.id for contract in packaged_contracts()]
    processed = json.loads(run("--json", PROCESSED).output)[0]
    assert processed["stamp"] == packaged_contracts().processed.stamp
    assert (processed["freshness_warn_s"], processed["freshness_fail_s"], processed["interval_s"]) == (900, 7200, 300)
    (time,) = [column for column in processed["columns"] if column["name"] == "timestamp"]
    assert (time["type"], time["minimum"], time["nullable"]) == (
        *("timestamp[us, tz=UTC]", "2000-01-01T00:00:00+00:00", False),
    )
    (schema,) = [rule for rule in processed["rules"] if rule["name"] == "schema"]
    assert (schema["scope"], schema["dimension"], schema["severity"]) == ("day", "validity", "error")


def test_contracts_of_a_directory_are_shown_in_the_place_of_the_package_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, RAW, edited(RAW, "value: 15", "value: 45"))
    monkeypatch.setenv("WRM_CONTRACTS_DIR", str(tmp_path))

    assert "warns after 45 min" in run(RAW).output


def test_a_malformed_contract_is_an_expected_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, RAW, edited(RAW, "version: 1.0.0", "version: one"))
    monkeypatch.setenv("WRM_CONTRACTS_DIR", str(tmp_path))

    done = run()

    assert isinstance(done.exception, ContractError)
    assert str(done.exception).startswith(f"{path}:5: version must be three numbers")


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("nonsense").exit_code == 2
    assert run("--json", "--markdown").exit_code == 2

"""Each contract keeps the Open Data Contract Standard, as `datacontract-cli` reads it; without a network."""

import socket
from pathlib import Path

import pytest
from datacontract.data_contract import DataContract
from datacontract.model.run import Run

from wrm_pipeline.contracts.load import PACKAGED, SUFFIX
from wrm_pipeline.contracts.vocabulary import ENHANCED, RAW
from wrm_pipeline_tests.unit.contracts.files import DATASETS, edited, write


@pytest.fixture(autouse=True)
def reached(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that were asked for: every way out of this process is closed."""
    addresses: list[object] = []

    def closed(*arguments: object, **_: object) -> None:
        addresses.append(arguments)
        raise OSError("these tests have no network")

    monkeypatch.setattr(socket, "getaddrinfo", closed)
    monkeypatch.setattr(socket.socket, "connect", closed)
    monkeypatch.setattr(socket.socket, "connect_ex", closed)
    return addresses


def lint(path: Path) -> Run:
    return DataContract(data_contract_file=str(path)).lint()


def test_every_contract_in_the_package_is_one_of_those_linted() -> None:
    assert {path.name for path in PACKAGED.glob("*.yaml")} == {f"{dataset}{SUFFIX}" for dataset in DATASETS}


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_packaged_contract_keeps_the_standard(dataset: str, reached: list[object]) -> None:
    run = lint(PACKAGED / f"{dataset}{SUFFIX}")

    assert [(check.result, check.reason) for check in run.checks] == [("passed", None)]
    assert "v3.1.0" in str(run.checks[0].name)
    assert run.result == "passed"
    assert reached == []


@pytest.mark.parametrize(
    ("dataset", "old", "new"),
    [
        (RAW, "kind: DataContract", "kind: DataContrakt"),
        (RAW, "    physicalType: file", "    physicaltype: file"),
        (RAW, "status: active\n", ""),
        (ENHANCED, "logicalType: array", "logicalType: list"),
    ],
)
def test_a_file_that_breaks_the_standard_is_found(dataset: str, old: str, new: str, tmp_path: Path) -> None:
    run = lint(write(tmp_path, dataset, edited(dataset, old, new)))

    # Or a warning: an unknown key is one.
    assert run.result in {"failed", "error", "warning"}


def test_a_look_into_the_network_would_be_seen(tmp_path: Path, reached: list[object]) -> None:
    text = edited(
        RAW,
        '      - name: "#id"\n',
        '      - name: "#id"\n        authoritativeDefinitions:\n'
        "          - {type: definition, url: 'http://127.0.0.1:9/id'}\n",
    )

    lint(write(tmp_path, RAW, text))

    assert reached != []

"""The stamp of a contract changes with what decides about rows, and with nothing else.

It is part of each day's code version: a stamp that stays lets old rows stand under new rules, one that changes without
need builds years of days anew.
"""

from pathlib import Path

import pytest

from wrm_pipeline.contracts.load import load_contracts, packaged_contracts
from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.contracts.vocabulary import ENHANCED, PROCESSED, RAW
from wrm_pipeline_tests.unit.contracts.files import edited, rule_severity, write

OVERFULL = "      - name: overfull\n"


def stamps(contracts: Contracts) -> dict[str, str]:
    return {contract.id: contract.stamp for contract in contracts}


def changed(directory: Path, dataset: str, text: str) -> set[str]:
    """The datasets whose stamp is another one when this text takes the place of the package's."""
    write(directory, dataset, text)
    before, after = stamps(packaged_contracts()), stamps(load_contracts(directory))
    return {name for name in before if before[name] != after[name]}


DECIDES = {
    "a bound": (PROCESSED, edited(PROCESSED, "maximum: 90.0", "maximum: 89.5"), {PROCESSED, ENHANCED}),
    "a bound where none was": (
        PROCESSED,
        edited(PROCESSED, "{minimum: 0}", "{minimum: 0, maximum: 9999}", after="- name: spaces\n"),
        {PROCESSED, ENHANCED},
    ),
    "a bound of a time": (
        PROCESSED,
        edited(PROCESSED, '"2000-01-01T00:00:00Z"', '"2000-01-01T00:00:01Z"'),
        {PROCESSED, ENHANCED},
    ),
    "a length": (
        PROCESSED,
        edited(PROCESSED, "{minLength: 1}", "{minLength: 2}", "- name: station_id"),
        {PROCESSED, ENHANCED},
    ),
    "the severity of a row's rule": (ENHANCED, rule_severity(ENHANCED, "overfull", "error"), {ENHANCED}),
    "the number of a row's rule": (ENHANCED, edited(ENHANCED, "after_m: 30", "after_m: 30.5"), {ENHANCED}),
    "one number of four": (ENHANCED, edited(ENHANCED, "east: 17.2", "east: 17.3"), {ENHANCED}),
    "a row's rule left out": (
        ENHANCED,
        edited(
            ENHANCED,
            "      - name: zero_docks\n        type: custom\n        engine: wrm_pipeline\n        implementation: {}\n"
            "        dimension: consistency\n        severity: warning\n"
            "        description: A station without docks.\n",
            "",
        ),
        {ENHANCED},
    ),
    "the version": (RAW, edited(RAW, "version: 1.0.0", "version: 1.0.1"), {RAW}),
}

DECIDES_NOT = {
    "a description of a column": (PROCESSED, edited(PROCESSED, "Latitude, WGS 84", "How far north")),
    "a description of a rule": (ENHANCED, edited(ENHANCED, "A station without docks.", "No dock at all.")),
    "the purpose": (RAW, edited(RAW, "The public station feed", "The feed")),
    "a comment": (ENHANCED, edited(ENHANCED, "    quality:\n", "    quality: # each a rule\n")),
    "an empty line": (ENHANCED, edited(ENHANCED, "    quality:\n", "\n    quality:\n")),
    "a threshold of a day's check": (ENHANCED, edited(ENHANCED, "warn_above: 0.05", "warn_above: 0.07")),
    "the severity of a day's check": (ENHANCED, rule_severity(ENHANCED, "volume", "error")),
    "a threshold of a snapshot's check": (RAW, edited(RAW, "polls: 6", "polls: 7")),
    "the freshness": (RAW, edited(RAW, "value: 15", "value: 20")),
    "the dimension of a row's rule": (
        ENHANCED,
        edited(ENHANCED, "dimension: consistency", "dimension: accuracy", after=OVERFULL),
    ),
    "a number written otherwise": (ENHANCED, edited(ENHANCED, "after_m: 30", "after_m: 30.0")),
    "a bound's time in another zone": (
        PROCESSED,
        edited(PROCESSED, '"2000-01-01T00:00:00Z"', '"2000-01-01T01:00:00+01:00"'),
    ),
}


@pytest.mark.parametrize("what", DECIDES)
def test_the_stamp_changes_with(what: str, tmp_path: Path) -> None:
    dataset, text, expected = DECIDES[what]

    assert changed(tmp_path, dataset, text) == expected


@pytest.mark.parametrize("what", DECIDES_NOT)
def test_the_stamp_stays_with(what: str, tmp_path: Path) -> None:
    dataset, text = DECIDES_NOT[what]

    assert changed(tmp_path, dataset, text) == set()


def test_a_stamp_begins_with_the_version_and_is_the_same_in_every_process() -> None:
    """Nothing in it may depend on a hash seed; a changed digest here builds every stored day anew."""
    assert stamps(packaged_contracts())[ENHANCED] == stamps(load_contracts(None))[ENHANCED]
    for contract in packaged_contracts():
        version, digest = contract.stamp.split("-")
        assert version == contract.version
        assert len(digest) == 8

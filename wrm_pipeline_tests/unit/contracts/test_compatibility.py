"""A contract that was released is a promise: what breaks its readers needs another major version."""

import copy
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED, RAW
from wrm_pipeline_tests.unit.contracts.compatibility import (
    Content,
    Level,
    Version,
    changes,
    complaint,
    least_version,
    shown,
    version_of,
)
from wrm_pipeline_tests.unit.contracts.files import DATASETS, packaged_text

RELEASED = Path(__file__).resolve().parents[2] / "contracts_released"
_NAME = re.compile(r"(?P<id>\w+)-(?P<version>\d+\.\d+\.\d+)\.odcs\.yaml")


def today(dataset: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(packaged_text(dataset))
    return content


def released(dataset: str) -> dict[Version, Content]:
    """The released contracts of a dataset, the oldest first."""
    contents = [yaml.safe_load(path.read_text("utf-8")) for path in RELEASED.glob(f"{dataset}-*.odcs.yaml")]
    return {version_of(content): content for content in sorted(contents, key=version_of)}


def base_of(dataset: str, version: Version) -> Content | None:
    """The contract whose columns come before a dataset's own; it is released under the same version."""
    return released(PROCESSED)[version] if dataset == ENHANCED else None


# --- The contracts themselves.


@pytest.mark.parametrize("dataset", DATASETS)
def test_today_s_contract_is_released_and_since_then_only_words_changed(dataset: str) -> None:
    newest = max(released(dataset))
    old, new = released(dataset)[newest], today(dataset)

    problem = complaint(old, new, (released(PROCESSED)[newest], today(PROCESSED)) if dataset == ENHANCED else None)

    assert problem is None, problem
    assert version_of(new) == newest, (
        f"{dataset} {new['version']} is not released: copy {dataset}.odcs.yaml to "
        f"wrm_pipeline_tests/contracts_released/{dataset}-{new['version']}.odcs.yaml"
    )


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_released_contract_follows_from_the_one_before(dataset: str) -> None:
    """So that nobody passes by releasing a breaking change under a low version."""
    for (before, old), (after, new) in itertools.pairwise(released(dataset).items()):
        bases = base_of(dataset, before), base_of(dataset, after)
        problem = complaint(old, new, (bases[0], bases[1]) if bases[0] and bases[1] else None)
        assert problem is None, problem


def test_a_contract_that_extends_another_carries_its_version() -> None:
    """The columns of processed are columns of enhanced, so that what breaks the one's readers breaks the other's."""
    message = "processed and enhanced are released together: give both files the higher version, and add both copies"

    assert today(ENHANCED)["version"] == today(PROCESSED)["version"], message
    assert released(ENHANCED).keys() == released(PROCESSED).keys(), message


def test_released_contracts_are_of_today_s_datasets_and_named_for_their_version() -> None:
    paths = sorted(RELEASED.iterdir())
    assert {path.name.split("-")[0] for path in paths} == set(DATASETS)
    for path in paths:
        content = yaml.safe_load(path.read_text("utf-8"))
        match = _NAME.fullmatch(path.name)
        assert match
        assert (match["id"], match["version"]) == (content["id"], content["version"])


# --- The comparison.


def column(content: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in content["schema"][0]["properties"] if c["name"] == name)
    return found


def rule(content: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in content["schema"][0]["quality"] if r["name"] == name)
    return found


def level(content: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(p for p in content["slaProperties"] if p["property"] == name)
    return found


def columns(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["schema"][0]["properties"]
    return found


def custom(content: dict[str, Any], name: str, property_: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        c for c in column(content, name).get("customProperties", []) if c["property"] == property_
    )
    return found


NEW_COLUMN = {"name": "weather", "logicalType": "string", "physicalType": "string", "description": "Rain or none"}
NEW_RULE = {
    "name": "rusty",
    "severity": "warning",
    "implementation": {},
    "dimension": "accuracy",
    "description": "Rust",
}


@dataclass(frozen=True)
class Case:
    """A change of a dataset's contract and what it needs."""

    name: str
    dataset: str
    edit: Callable[[dict[str, Any]], object]
    level: Level
    says: str


CASES = [
    Case("nothing", PROCESSED, dict, Level.NOTHING, ""),
    # Words.
    Case("a description", PROCESSED, lambda c: column(c, "lat").update(description="How far north"), Level.NOTHING, ""),
    Case("the purpose", RAW, lambda c: c["description"].update(purpose="Other words"), Level.NOTHING, ""),
    Case("an example", RAW, lambda c: column(c, "#id").update(examples=["1"]), Level.NOTHING, ""),
    Case("words of a rule", ENHANCED, lambda c: rule(c, "moved").update(description="Elsewhere"), Level.NOTHING, ""),
    # What is neither words nor a promise.
    Case("a tag", RAW, lambda c: c["tags"].append("bikes"), Level.PATCH, "something else than a description"),
    Case("the owner", RAW, lambda c: c["team"].update(name="team:other"), Level.PATCH, "something else"),
    # Columns.
    Case(
        "column removed", PROCESSED, lambda c: columns(c).pop(3), Level.MAJOR, "gmt_local_diff_sec is gone or renamed"
    ),
    Case("column renamed", PROCESSED, lambda c: column(c, "bikes").update(name="b"), Level.MAJOR, "bikes is gone"),
    Case("columns swapped", PROCESSED, lambda c: columns(c).insert(0, columns(c).pop()), Level.MAJOR, "another order"),
    Case("column added", PROCESSED, lambda c: columns(c).append(NEW_COLUMN), Level.MINOR, "the column weather is new"),
    Case("column inserted", PROCESSED, lambda c: columns(c).insert(3, NEW_COLUMN), Level.MINOR, "weather is new"),
    Case("type", PROCESSED, lambda c: column(c, "bikes").update(physicalType="double"), Level.MAJOR, "another type"),
    Case(
        *("logical type", PROCESSED, lambda c: column(c, "bikes").update(logicalType="number"), Level.MAJOR),
        "bikes has another type",
    ),
    Case("made nullable", PROCESSED, lambda c: column(c, "bikes").pop("required"), Level.MAJOR, "bikes may be null"),
    Case(
        *("made required", PROCESSED, lambda c: column(c, "battery_level").update(required=True), Level.MINOR),
        "battery_level is never null",
    ),
    Case(
        *("classification", PROCESSED, lambda c: column(c, "name").update(classification="restricted"), Level.MAJOR),
        "name has another classification",
    ),
    Case(
        "unit", PROCESSED, lambda c: custom(c, "lat", "unit").update(value="rad"), Level.MAJOR, "lat has another unit"
    ),
    Case("unit gone", PROCESSED, lambda c: column(c, "lat").pop("customProperties"), Level.MAJOR, "another unit"),
    # Bounds.
    Case(
        *("minimum lowered", PROCESSED, lambda c: column(c, "bikes")["logicalTypeOptions"].update(minimum=-1)),
        *(Level.MAJOR, "the minimum of bikes lets values come that were excluded"),
    ),
    Case(
        *("minimum gone", PROCESSED, lambda c: column(c, "bikes").pop("logicalTypeOptions")),
        *(Level.MAJOR, "the minimum of bikes lets values come that were excluded"),
    ),
    Case(
        *("minimum of 0 where none was", PROCESSED),
        lambda c: column(c, "gmt_local_diff_sec").update(logicalTypeOptions={"minimum": 0}),
        *(Level.MINOR, "the minimum of gmt_local_diff_sec is stricter"),
    ),
    Case(
        *("minimum raised", PROCESSED, lambda c: column(c, "lat")["logicalTypeOptions"].update(minimum=-80)),
        *(Level.MINOR, "the minimum of lat is stricter"),
    ),
    Case(
        *("maximum raised", PROCESSED, lambda c: column(c, "battery_level")["logicalTypeOptions"].update(maximum=101)),
        *(Level.MAJOR, "the maximum of battery_level lets values come that were excluded"),
    ),
    Case(
        *("maximum lowered", PROCESSED, lambda c: column(c, "battery_level")["logicalTypeOptions"].update(maximum=99)),
        *(Level.MINOR, "the maximum of battery_level is stricter"),
    ),
    Case(
        *("earlier times", PROCESSED),
        lambda c: column(c, "timestamp")["logicalTypeOptions"].update(minimum="1999-12-31T23:59:59Z"),
        *(Level.MAJOR, "the minimum of timestamp lets values come"),
    ),
    Case(
        *("the same time in another zone", PROCESSED),
        lambda c: column(c, "timestamp")["logicalTypeOptions"].update(minimum="2000-01-01T01:00:00+01:00"),
        *(Level.PATCH, "something else"),
    ),
    Case(
        *("shorter texts", PROCESSED, lambda c: column(c, "station_id")["logicalTypeOptions"].update(minLength=0)),
        *(Level.MAJOR, "the minLength of station_id lets values come"),
    ),
    Case(
        *("a longest text", PROCESSED, lambda c: column(c, "station_id")["logicalTypeOptions"].update(maxLength=9)),
        *(Level.MINOR, "the maxLength of station_id is stricter"),
    ),
    # Values.
    Case(
        *("value added", DEAD_LETTERS, lambda c: custom(c, "status", "allowedValues")["value"].append("lost")),
        *(Level.MAJOR, "status may have other values"),
    ),
    Case(
        *("value removed", DEAD_LETTERS, lambda c: custom(c, "status", "allowedValues")["value"].pop()),
        *(Level.MAJOR, "status may have other values"),
    ),
    Case(
        *("values no longer listed", DEAD_LETTERS, lambda c: column(c, "status").pop("customProperties")),
        *(Level.MAJOR, "status may have other values"),
    ),
    Case(
        *("values in another order", DEAD_LETTERS, lambda c: custom(c, "status", "allowedValues")["value"].reverse()),
        *(Level.PATCH, "something else"),
    ),
    Case(
        *("values listed", DEAD_LETTERS),
        lambda c: column(c, "rule").update(customProperties=[{"property": "allowedValues", "value": ["html"]}]),
        *(Level.MINOR, "the values of rule are now listed"),
    ),
    # Rules.
    Case(
        "rule removed", ENHANCED, lambda c: c["schema"][0]["quality"].pop(0), Level.MAJOR, "the rule overfull is gone"
    ),
    Case("rule added", ENHANCED, lambda c: c["schema"][0]["quality"].append(NEW_RULE), Level.MINOR, "rusty is new"),
    Case(
        *("row rule made an error", ENHANCED, lambda c: rule(c, "overfull").update(severity="error"), Level.MAJOR),
        "the rule overfull is an error: its flag and the rows that had it no longer come",
    ),
    Case(
        *("day rule made an error", ENHANCED, lambda c: rule(c, "volume").update(severity="error"), Level.MINOR),
        "the rule volume is an error",
    ),
    Case(
        *("day rule made a warning", ENHANCED, lambda c: rule(c, "unique").update(severity="warning"), Level.MAJOR),
        "the rule unique is a warning: what it kept away comes",
    ),
    Case(
        *("numbers of a warning", ENHANCED, lambda c: rule(c, "moved")["implementation"].update(after_m=50)),
        *(Level.MINOR, "the rule moved has other numbers"),
    ),
    Case(
        *("dimension", ENHANCED, lambda c: rule(c, "moved").update(dimension="consistency"), Level.MINOR),
        "the rule moved counts for another dimension",
    ),
    # Service levels.
    Case(
        *("freshness loosened", RAW, lambda c: level(c, "freshnessWarning").update(value=16), Level.MAJOR),
        "freshnessWarning is looser",
    ),
    Case(
        *("failure loosened by its unit", RAW, lambda c: level(c, "freshnessFailure").update(unit="d"), Level.MAJOR),
        "freshnessFailure is looser",
    ),
    Case(
        *("freshness stricter", RAW, lambda c: level(c, "freshnessFailure").update(value=1), Level.MINOR),
        "freshnessFailure is stricter",
    ),
    Case(
        *("the same freshness in another unit", RAW),
        lambda c: level(c, "freshnessFailure").update(value=120, unit="min"),
        *(Level.PATCH, "something else"),
    ),
    Case("fewer snapshots", RAW, lambda c: level(c, "frequency").update(value=10), Level.MAJOR, "frequency is looser"),
    Case(
        "retention",
        RAW,
        lambda c: level(c, "retention").update(value="a year"),
        Level.MAJOR,
        "retention is another one",
    ),
    Case(
        *("another place", RAW, lambda c: c["schema"][0].update(physicalName="raw/{day}.txt"), Level.MAJOR),
        "the data lies under another name",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_change_needs_its_version(case: Case) -> None:
    old = today(case.dataset)
    new = copy.deepcopy(old)
    case.edit(new)

    found = changes(old, new)

    assert max((change.level for change in found), default=Level.NOTHING) is case.level
    assert case.says in (found[0].what if found else "")
    least = least_version(version_of(old), case.level)
    if case.level is Level.NOTHING:
        assert complaint(old, new) is None
        return
    problem = complaint(old, new)
    assert problem is not None
    assert case.says in problem
    assert f"Raise version to {shown(least)} or higher in {case.dataset}.odcs.yaml" in problem
    assert f"contracts_released/{case.dataset}-{shown(least)}.odcs.yaml" in problem
    for lower in (Level.PATCH, Level.MINOR, Level.MAJOR):
        new["version"] = shown(least_version(version_of(old), lower))
        assert (complaint(old, new) is None) == (lower >= case.level)


def test_other_numbers_of_an_error_rule_for_rows_may_let_rows_come() -> None:
    old = today(ENHANCED)
    rule(old, "moved")["severity"] = "error"
    new = copy.deepcopy(old)
    rule(new, "moved")["implementation"]["after_m"] = 31

    assert [(change.level, change.what) for change in changes(old, new)] == [
        (Level.MAJOR, "the rule moved has other numbers")
    ]


def test_all_changes_are_named_the_weightiest_first_and_the_complaint_has_those_that_decide() -> None:
    old = today(PROCESSED)
    new = copy.deepcopy(old)
    columns(new).append(NEW_COLUMN)
    column(new, "bikes").pop("required")
    column(new, "lat").update(physicalType="string")

    assert [change.what for change in changes(old, new)] == [
        "bikes may be null",
        "lat has another type",
        "the column weather is new",
    ]
    version = old["version"]
    assert (complaint(old, new) or "").startswith(
        f"{PROCESSED} {version} changes what {version} promised: bikes may be null; lat has another type. Raise version"
    )


def test_a_broken_column_of_processed_is_a_broken_column_of_enhanced() -> None:
    old, new = today(PROCESSED), today(PROCESSED)
    column(new, "bikes").update(name="cycles")

    problem = complaint(today(ENHANCED), today(ENHANCED), (old, new))

    assert problem is not None
    assert "the column bikes is gone or renamed" in problem


def test_a_lower_version_is_refused_whatever_it_holds() -> None:
    new = today(RAW)
    new["version"] = "0.9.0"

    assert "its version is lower" in (complaint(today(RAW), new) or "")


def test_versions_are_compared_as_numbers() -> None:
    assert version_of({"version": "1.10.0"}) > version_of({"version": "1.9.9"})
    assert least_version((1, 2, 3), Level.PATCH) == (1, 2, 4)
    assert least_version((1, 2, 3), Level.MINOR) == (1, 3, 0)
    assert least_version((1, 2, 3), Level.MAJOR) == (2, 0, 0)

"""What a changed contract means for those who read the data, and which version it therefore needs.

A change is breaking when a reader who relied on the old contract can meet what it promised not to come, or asks by name
for what is no longer there. A promise that is kept more strictly breaks nobody. It works on the files' plain content
and not on the loaded contract, so that a released file can be compared that today's loader would refuse.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from wrm_pipeline.contracts.vocabulary import VOCABULARY, Scope

Content = Mapping[str, Any]
Version = tuple[int, int, int]

# Words for people; everything else is for programs. The version is what is asked for, and no change of its own.
_WORDING = {"description", "dataGranularityDescription", "examples", "version"}
_UNIT_S = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_LOWER = ("minimum", "minLength")
_UPPER = ("maximum", "maxLength")


class Level(IntEnum):
    """Which number of the version a change raises."""

    NOTHING = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True, order=True)
class Change:
    """One change, in words."""

    level: Level
    what: str


def version_of(content: Content) -> Version:
    major, minor, patch = (int(part) for part in str(content["version"]).split("."))
    return major, minor, patch


def shown(version: Version) -> str:
    return ".".join(map(str, version))


def least_version(old: Version, level: Level) -> Version:
    """The first version that may hold a change of this level."""
    major, minor, patch = old
    return {
        Level.NOTHING: old,
        Level.PATCH: (major, minor, patch + 1),
        Level.MINOR: (major, minor + 1, 0),
        Level.MAJOR: (major + 1, 0, 0),
    }[level]


def complaint(old: Content, new: Content, inherited: tuple[Content, Content] | None = None) -> str | None:
    """Say why `new` may not follow `old` under its version and what to do; None when it may.

    `inherited` are the old and the new contract whose columns come before these contracts' own.
    """
    found = changes(old, new, inherited)
    level = max((change.level for change in found), default=Level.NOTHING)
    least, version, name = least_version(version_of(old), level), version_of(new), new["id"]
    if version >= least:
        return None
    why = "; ".join(change.what for change in found if change.level is level)
    return (
        f"{name} {shown(version)} changes what {shown(version_of(old))} promised: {why or 'its version is lower'}. "
        f"Raise version to {shown(least)} or higher in {name}.odcs.yaml and add a copy of the file as "
        f"wrm_pipeline_tests/contracts_released/{name}-{shown(least)}.odcs.yaml; released copies are never edited."
    )


def changes(old: Content, new: Content, inherited: tuple[Content, Content] | None = None) -> list[Change]:
    """All changes but those of words, the weightiest first."""
    old_table, new_table = old["schema"][0], new["schema"][0]
    old_columns, new_columns = _named(old_table["properties"]), _named(new_table["properties"])
    if inherited is not None:
        base_old, base_new = (_named(content["schema"][0]["properties"]) for content in inherited)
        old_columns, new_columns = base_old | old_columns, base_new | new_columns
    found = {
        *_columns(old_columns, new_columns),
        *_rules(_named(old_table.get("quality", [])), _named(new_table.get("quality", []))),
        *_levels(_levels_of(old), _levels_of(new)),
        *_location(old_table, new_table),
    }
    if not found and _without_words(old) != _without_words(new):
        found = {Change(Level.PATCH, "something else than a description is another one")}
    return sorted(found, key=lambda change: (-change.level, change.what))


def _named(entries: Sequence[Content]) -> dict[str, Content]:
    return {entry["name"]: entry for entry in entries}


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_words(item) for key, item in value.items() if key not in _WORDING}
    return [_without_words(item) for item in value] if isinstance(value, list) else value


def _columns(old: Mapping[str, Content], new: Mapping[str, Content]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(Level.MAJOR, f"the column {name} is gone or renamed")
    for name in new.keys() - old.keys():
        yield Change(Level.MINOR, f"the column {name} is new")
    both = [name for name in old if name in new]
    # A reader of CSV goes by place. New columns may come in between: enhanced has its own behind those of processed.
    if both != [name for name in new if name in old]:
        yield Change(Level.MAJOR, "the columns stand in another order")
    for name in both:
        yield from _column(name, old[name], new[name])


def _column(name: str, old: Content, new: Content) -> Iterator[Change]:
    if any(old[key] != new[key] for key in ("logicalType", "physicalType")):
        yield Change(Level.MAJOR, f"{name} has another type")
        return
    if old.get("required", False) != new.get("required", False):
        may_be_null = not new.get("required", False)
        yield Change(*((Level.MAJOR, f"{name} may be null") if may_be_null else (Level.MINOR, f"{name} is never null")))
    if old.get("classification", "public") != new.get("classification", "public"):
        # Who may read is what it decides: a reader may be shut out, or must take more care.
        yield Change(Level.MAJOR, f"{name} has another classification")
    yield from _bounds(name, old.get("logicalTypeOptions", {}), new.get("logicalTypeOptions", {}))
    old_custom, new_custom = ({c["property"]: c["value"] for c in p.get("customProperties", [])} for p in (old, new))
    if old_custom.get("unit", "") != new_custom.get("unit", ""):
        # The same number now means something else, and no program can tell.
        yield Change(Level.MAJOR, f"{name} has another unit")
    yield from _allowed(name, old_custom.get("allowedValues", []), new_custom.get("allowedValues", []))


def _bounds(name: str, old: Content, new: Content) -> Iterator[Change]:
    for keys, sign in ((_LOWER, 1), (_UPPER, -1)):
        for key in keys:
            before, after = _comparable(old.get(key)), _comparable(new.get(key))
            if before == after:
                continue
            if after is None or (before is not None and (after - before) * sign < 0):
                yield Change(Level.MAJOR, f"the {key} of {name} lets values come that were excluded")
            else:
                yield Change(Level.MINOR, f"the {key} of {name} is stricter")


def _comparable(bound: Any) -> float | None:
    return dt.datetime.fromisoformat(bound).timestamp() if isinstance(bound, str) else bound


def _allowed(name: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Added or removed, both break.

    A reader that has a case for each value meets one without; a reader that asks for a value by name is told, without
    an error, that there is nothing.
    """
    if not old and new:
        yield Change(Level.MINOR, f"the values of {name} are now listed")
    elif set(old) != set(new):
        yield Change(Level.MAJOR, f"{name} may have other values")


def _rules(old: Mapping[str, Content], new: Mapping[str, Content]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(Level.MAJOR, f"the rule {name} is gone: nobody watches it, and no row has its flag")
    for name in new.keys() - old.keys():
        yield Change(Level.MINOR, f"the rule {name} is new")
    for name in old.keys() & new.keys():
        yield from _rule(name, old[name], new[name])


def _rule(name: str, old: Content, new: Content) -> Iterator[Change]:
    of_rows = name in VOCABULARY and VOCABULARY[name].scope is Scope.ROW
    if old["severity"] != new["severity"]:
        if new["severity"] == "warning":
            yield Change(Level.MAJOR, f"the rule {name} is a warning: what it kept away comes")
        elif of_rows:
            yield Change(Level.MAJOR, f"the rule {name} is an error: its flag and the rows that had it no longer come")
        else:
            yield Change(Level.MINOR, f"the rule {name} is an error")
    if old["implementation"] != new["implementation"]:
        # Whether another number is stricter, only the rule knows; of rows that it sets aside some may now come.
        loosened = of_rows and old["severity"] == new["severity"] == "error"
        yield Change(Level.MAJOR if loosened else Level.MINOR, f"the rule {name} has other numbers")
    if old["dimension"] != new["dimension"]:
        yield Change(Level.MINOR, f"the rule {name} counts for another dimension")


def _levels_of(content: Content) -> dict[str, Content]:
    return {level["property"]: level for level in content["slaProperties"]}


def _levels(old: Mapping[str, Content], new: Mapping[str, Content]) -> Iterator[Change]:
    for name in ("freshnessWarning", "freshnessFailure", "frequency"):
        before, after = (level[name]["value"] * _UNIT_S[level[name]["unit"]] for level in (old, new))
        if after > before:
            yield Change(Level.MAJOR, f"{name} is looser")
        elif after < before:
            yield Change(Level.MINOR, f"{name} is stricter")
    if old["retention"]["value"] != new["retention"]["value"]:
        # Words cannot be compared, and data that is gone does not come back.
        yield Change(Level.MAJOR, "retention is another one")


def _location(old: Content, new: Content) -> Iterator[Change]:
    if old.get("physicalName") != new.get("physicalName"):
        yield Change(Level.MAJOR, "the data lies under another name")

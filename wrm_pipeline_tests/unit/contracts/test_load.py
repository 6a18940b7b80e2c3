"""A contract that is malformed is refused with file, line, and what to write instead."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.load import SUFFIX, load_contracts, packaged_contracts, read_contract
from wrm_pipeline.contracts.model import ContractError, Severity
from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED, RAW, VOCABULARY
from wrm_pipeline_tests.unit.contracts.files import DATASETS, edited, line_of, packaged_text, rule_severity, write


def refusal(directory: Path) -> str:
    with pytest.raises(ContractError) as caught:
        load_contracts(directory)
    return str(caught.value)


@dataclass(frozen=True)
class Broken:
    """One mistake: `old`, the first behind `after`, becomes `new`.

    The error is in the line of `at` (by default `new`), the first behind `after`, and says `says`.
    """

    mistake: str
    dataset: str
    old: str
    new: str
    says: str
    after: str = ""
    at: str = ""


RULE_OVERFULL = "      - name: overfull\n"
COLUMN_BIKES = "      - name: bikes\n"
COLUMN_LAT = "      - name: lat\n"
COLUMN_TIME = "      - name: timestamp\n"
COLUMN_NAME = "      - name: name\n"
COLUMN_LOCKED = "      - name: locked\n"
COLUMN_BATTERY = "      - name: battery_level\n"
MOVED = "      - name: moved\n"
MISSING_AT_THE_LIST = "    quality:\n"

BROKEN = [
    # Rules.
    Broken(
        "unknown rule", ENHANCED, "name: overfull", "name: over_full", "there is no rule 'over_full' for this dataset"
    ),
    Broken(
        "a rule of another dataset", ENHANCED, "name: overfull", "name: empty_id", "known are accuracy, battery_out"
    ),
    Broken(
        *("duplicate rule", ENHANCED, "name: zero_docks", "name: overfull", "the rule overfull stands here twice"),
        after="name: racks_out_of_use",
    ),
    Broken(
        *("misspelt severity", ENHANCED, "severity: warning", "severity: eror"),
        *("severity must be error or warning (it is 'eror')", RULE_OVERFULL),
    ),
    Broken(
        *("severity in capitals", ENHANCED, "severity: warning", "severity: Error"),
        *("severity must be error or warning (it is 'Error')", RULE_OVERFULL),
    ),
    Broken(
        *("unknown dimension", ENHANCED, "dimension: consistency", "dimension: beauty"),
        "dimension must be one of completeness, accuracy, consistency, timeliness, conformity (it is 'beauty')",
        RULE_OVERFULL,
    ),
    Broken(
        *("built-in rule as a warning", PROCESSED, "severity: error", "severity: warning"),
        *("severity of not_a_number must be error", "      - name: not_a_number\n"),
    ),
    Broken(
        *("built-in rule missing", PROCESSED),
        "      - name: bad_quoting\n        type: custom\n        engine: wrm_pipeline\n        implementation: {}\n"
        "        dimension: conformity\n        severity: error\n        description: Its quotes are unbalanced.\n",
        "",
        "the rule bad_quoting is missing; it cannot be switched off",
        at=MISSING_AT_THE_LIST,
    ),
    # Arguments.
    Broken(
        *("argument missing", ENHANCED, "{south: 51.0, north: 51.2, west: 16.8, east: 17.2}", "{south: 51.0}"),
        "implementation of off_zone must hold south, north, west, east (it holds south)",
    ),
    Broken(
        *("all arguments missing", ENHANCED, "{after_m: 30}", "{}"),
        *("implementation of moved must hold after_m (it holds nothing)", MOVED),
    ),
    Broken(
        *("argument extra", ENHANCED, "implementation: {}", "implementation: {by: 3}"),
        *("implementation of overfull must hold nothing, write {} (it holds by)", RULE_OVERFULL),
    ),
    Broken("argument a text", ENHANCED, "{after_m: 30}", "{after_m: far}", "after_m must be a number (it is 'far')"),
    Broken("argument a bool", ENHANCED, "{after_m: 30}", "{after_m: yes}", "after_m must be a number (it is True)"),
    Broken("argument null", ENHANCED, "{after_m: 30}", "{after_m: }", "after_m must be a number (it is None)"),
    Broken("argument NaN", ENHANCED, "{after_m: 30}", "{after_m: .nan}", "after_m must be a number (it is nan)"),
    Broken(
        "argument a list", ENHANCED, "{after_m: 30}", "{after_m: [30]}", "after_m must be a number (it is a list of 1)"
    ),
    Broken(
        *("argument on a line of its own", ENHANCED, "{weeks: 4,", "{weeks: 4,\n          share_low: 1,"),
        "implementation of volume must hold weeks, share_below, share_above (it holds weeks, share_low, share_below",
        at="implementation: {weeks",
    ),
    Broken(
        *("argument of a wrong type on a line of its own", ENHANCED, "{weeks: 4,", "{\n          weeks: few,"),
        *("weeks must be a number (it is 'few')", "- name: volume", "weeks: few"),
    ),
    # Bounds.
    Broken(
        *("bound of a whole number broken", PROCESSED, "minimum: 0", "minimum: 0.5"),
        *("minimum must be a whole number that fits 32 bits (it is 0.5)", COLUMN_BIKES),
    ),
    Broken(
        *("bound of a whole number a text", PROCESSED, "minimum: 0", 'minimum: "0"'),
        *("minimum must be a whole number that fits 32 bits (it is '0')", COLUMN_BIKES),
    ),
    Broken(
        *("bound of a whole number a bool", PROCESSED, "minimum: 0", "minimum: true"),
        *("minimum must be a whole number that fits 32 bits (it is True)", COLUMN_BIKES),
    ),
    Broken(
        *("bound beyond 32 bits", PROCESSED, "minimum: 0", "minimum: 0, maximum: 2147483648"),
        *("maximum must be a whole number that fits 32 bits (it is 2147483648)", COLUMN_BIKES),
    ),
    Broken(
        *("bound of a number a text", PROCESSED, "maximum: 90.0", "maximum: north"),
        *("maximum must be a number (it is 'north')", COLUMN_LAT),
    ),
    Broken(
        *("bound of a number NaN", PROCESSED, "maximum: 90.0", "maximum: .nan"),
        *("maximum must be a number (it is nan)", COLUMN_LAT),
    ),
    Broken(
        *("bound beyond every number", PROCESSED, "maximum: 90.0", f"maximum: 1{'0' * 400}"),
        *("maximum must be a number (it is 1000000", COLUMN_LAT),
    ),
    Broken(
        *("bound of a number infinite", PROCESSED, "maximum: 90.0", "maximum: .inf"),
        *("maximum must be a number (it is inf)", COLUMN_LAT),
    ),
    Broken(
        *("bound of a time a number", PROCESSED, 'minimum: "2000-01-01T00:00:00Z"', "minimum: 946684800"),
        *('minimum must be a time with its zone, such as "2000-01-01T00:00:00Z" (it is 946684800)', COLUMN_TIME),
    ),
    Broken(
        *("bound of a time without a zone", PROCESSED, '"2000-01-01T00:00:00Z"', "2000-01-01 00:00:00"),
        *("minimum must be a time with its zone", COLUMN_TIME),
    ),
    Broken(
        *("bound of a time before the first day", PROCESSED, '"2000-01-01T00:00:00Z"', '"0001-01-01T00:00:00+14:00"'),
        *("minimum must be a time with its zone", COLUMN_TIME),
    ),
    Broken(
        *("bound of a text as of a number", PROCESSED, "{minLength: 1}", "{minimum: 1}"),
        *("a column of type string has no minimum; minLength and maxLength bound it", "- name: station_id"),
    ),
    Broken(
        *("bound of a text no whole number", PROCESSED, "{minLength: 1}", "{minLength: one}"),
        *("minLength must be a whole number (it is 'one')", "- name: station_id"),
    ),
    Broken(
        *("bound of a number as of a text", PROCESSED, "{minimum: 0}", "{minLength: 0}"),
        *("a column of type int32 has no minLength; minimum and maximum bound it", COLUMN_BIKES),
    ),
    Broken(
        *("bound of a column that has none", PROCESSED, "description: Locked, as published"),
        "description: Locked, as published\n        logicalTypeOptions:\n          minimum: 0",
        *("a column of type bool has no minimum; take it out", COLUMN_LOCKED, "minimum: 0"),
    ),
    Broken(
        *("minimum over maximum", PROCESSED, "{minimum: 0, maximum: 100}", "{minimum: 101, maximum: 100}"),
        *("minimum must not be over maximum (101 is over 100)", COLUMN_BATTERY),
    ),
    Broken(
        *("minimum over maximum, times", PROCESSED, '"2000-01-01T00:00:00Z"', '"2100-01-01T00:00:00Z"'),
        *("minimum must not be over maximum", COLUMN_TIME),
    ),
    Broken(
        *("minLength over maxLength", PROCESSED, "{minLength: 1}", "{minLength: 9, maxLength: 8}"),
        *("minLength must not be over maxLength (9 is over 8)", "- name: station_id"),
    ),
    # Columns.
    Broken(
        *("unknown type", PROCESSED, "physicalType: int32", "physicalType: int31"),
        *("physicalType must be one of string, text, int32, double, bool, ", COLUMN_BIKES),
    ),
    Broken(
        *("logical type of another type", PROCESSED, "logicalType: integer", "logicalType: number"),
        *("logicalType must be integer for int32 (it is 'number')", COLUMN_BIKES),
    ),
    Broken(
        *("unknown classification", PROCESSED, "required: true", "required: true\n        classification: pubic"),
        "classification must be 'public', 'internal', 'confidential' or 'restricted' (it is 'pubic')",
        *(COLUMN_NAME, "classification: pubic"),
    ),
    Broken(
        *("duplicate column", PROCESSED, "name: lon", "name: lat"),
        *("there is a column lat already; give this one another name", "Latitude, WGS 84", "name: lat"),
    ),
    Broken(
        *("a column that processed has", ENHANCED, "name: record_type", "name: station_id"),
        "there is a column station_id already",
    ),
    Broken(
        *("misspelt custom property", PROCESSED, "{property: unit, value: bikes}", "{property: unti, value: bikes}"),
        *("'unti' stands here twice or is none of unit, allowedValues", COLUMN_BIKES),
    ),
    Broken(
        *("unit no text", PROCESSED, "{property: unit, value: bikes}", "{property: unit, value: 3}"),
        *("unit must be a text such as s (it is 3)", COLUMN_BIKES, "customProperties:"),
    ),
    Broken(
        *("allowed values no texts", ENHANCED, "[station, bike, unknown]", "[station, 3]"),
        *("allowedValues must be a list of texts", "- name: record_type", "customProperties:"),
    ),
    Broken(
        *("allowed values of a number", PROCESSED, "{property: unit, value: bikes}"),
        *("{property: allowedValues, value: [one]}", "a column of type int32 has no allowedValues", COLUMN_BIKES),
        "customProperties:",
    ),
    # Columns that the code does not make: the file is a good contract, but of another pipeline.
    Broken(
        *("column renamed", PROCESSED, "- name: bikes\n", "- name: cycles\n"),
        "this version of the pipeline makes bikes (int32, required) here, not cycles (int32, required); start from",
    ),
    Broken(
        *("column that may be null", PROCESSED, "        required: true\n", ""),
        *("makes bikes (int32, required) here, not bikes (int32, may be null)", COLUMN_BIKES, "- name: bikes"),
    ),
    Broken(
        *("column of another type", PROCESSED, "logicalType: integer\n        physicalType: int32"),
        "logicalType: number\n        physicalType: double",
        *("makes bikes (int32, required) here, not bikes (double, required)", COLUMN_BIKES, "- name: bikes"),
    ),
    Broken(
        *("column too many", ENHANCED, MISSING_AT_THE_LIST),
        "      - name: weather\n        logicalType: string\n        physicalType: string\n        description: Rain\n"
        + MISSING_AT_THE_LIST,
        "this version of the pipeline makes no further column here, not weather (string, may be null)",
        at="- name: weather",
    ),
    Broken(
        *("column missing at the end", ENHANCED),
        "      - name: quality_flags\n        logicalType: array\n        physicalType: list<string>\n"
        "        required: true\n"
        "        description: Names of the warning rules the row meets, sorted; empty when none\n",
        "",
        "the column quality_flags is missing at the end",
        at="    properties:\n",
    ),
    # Keys.
    Broken(
        *("unknown key at the top", RAW, "domain: bike-sharing", "domian: bike-sharing"),
        "domian is no key that is known here; known are apiVersion, kind, id, name, version, status, domain, tags",
    ),
    Broken(
        *("unknown key of a rule", ENHANCED, "severity: warning", "severety: warning"),
        "severity is missing",
        *(RULE_OVERFULL, "- name: overfull"),
    ),
    Broken(
        *("unknown key of a column", PROCESSED, "required: true", "required: true\n        nullable: false"),
        "nullable is no key that is known here; known are name, logicalType, physicalType, required, description",
        *(COLUMN_NAME, "nullable: false"),
    ),
    Broken(
        *("missing key at the top", RAW, "version: 1.0.0\n", "", "version is missing"),
        at="apiVersion: v3.1.0",
    ),
    Broken(
        *("missing key of a column", PROCESSED, "        physicalType: int32\n", "", "physicalType is missing"),
        *(COLUMN_BIKES, "- name: bikes"),
    ),
    Broken(
        *("duplicate key at the top", RAW, "status: active", "status: active\nstatus: draft"),
        *("status stands here twice, first in line 6; keep one of them", "", "status: draft"),
    ),
    Broken(
        *("duplicate key of a rule", ENHANCED, "severity: warning", "severity: warning\n        severity: error"),
        *("severity stands here twice", RULE_OVERFULL, "severity: error"),
    ),
    Broken("a key that is no text", RAW, "status: active", "? [a, b]\n: active", "a key must be a text"),
    # Values at the top.
    Broken(
        "version no text", RAW, "version: 1.0.0", "version: 1.0", "version must be a text; put it in quotes (it is 1.0)"
    ),
    Broken(
        *("version no three numbers", RAW, "version: 1.0.0", "version: 1.0.0-rc1"),
        "version must be three numbers such as 1.0.0 (it is '1.0.0-rc1')",
    ),
    Broken(
        *("another standard", RAW, "apiVersion: v3.1.0", "apiVersion: v2.2.2"),
        "apiVersion must be 'v3.1.0' (it is 'v2.2.2')",
    ),
    Broken(
        "a tag that is no text",
        RAW,
        "[raw, csv]",
        "[raw, 5]",
        "an entry of tags must be a text; put it in quotes (it is 5)",
    ),
    Broken(
        *("an owner that Dagster refuses", RAW, "name: team:bike-data", "name: Bike data"),
        "name must be an e-mail address, or team: and a name (it is 'Bike data')",
    ),
    Broken(
        *("id of another dataset", RAW, "id: wrm_stations_raw_data", "id: wrm_stations_dlq"),
        "id must be wrm_stations_raw_data, as the file's name (it is 'wrm_stations_dlq')",
    ),
    Broken(
        *("a list where a mapping stands", RAW, "  name: team:bike-data\n", "  - name: team:bike-data\n"),
        "this is not YAML",
        *("", "  description: Operates"),
    ),
    # Inheritance.
    Broken(
        *("extends another dataset", ENHANCED, "value: wrm_stations_processed_data_all"),
        *("value: wrm_stations_raw_data", "must hold extends with the value wrm_stations_processed_data_all"),
        at="    customProperties:\n",
    ),
    Broken(
        *("extends nothing", ENHANCED),
        "    customProperties:\n      # All columns of processed come first, with their bounds.\n"
        "      - {property: extends, value: wrm_stations_processed_data_all}\n",
        "",
        "customProperties must hold extends with the value wrm_stations_processed_data_all (it is None)",
        at="  - name: wrm_stations_enhanced_data_all",
    ),
    Broken(
        *("extends where nothing is to be extended", RAW, "    properties:\n"),
        "    customProperties:\n      - {property: extends, value: wrm_stations_dlq}\n    properties:\n",
        "this dataset extends no other; take extends out of customProperties",
    ),
    # Service levels.
    Broken(
        *("freshness unit wrong", RAW, "unit: min", "unit: minutes"),
        *("the unit of freshnessWarning must be one of s, min, h, d (it is 'minutes')", "property: freshnessWarning"),
    ),
    Broken(
        *("freshness unit missing", RAW, "    unit: h\n", ""),
        *("the unit of freshnessFailure must be one of s, min, h, d (it is '')", "", "property: freshnessFailure"),
    ),
    Broken(
        *("freshness no number", RAW, "value: 15", "value: quarter"),
        *(
            "freshnessWarning must be a number, from 1 min to 3650 d (it is 'quarter' min)",
            "property: freshnessWarning",
        ),
    ),
    Broken(
        *("freshness zero", RAW, "value: 15", "value: 0"),
        *("freshnessWarning must be a number, from 1 min to 3650 d (it is 0 min)", "property: freshnessWarning"),
    ),
    Broken(
        *("freshness that Dagster refuses", RAW, "value: 15\n    unit: min", "value: 59\n    unit: s"),
        *("freshnessWarning must be a number, from 1 min to 3650 d (it is 59 s)", "property: freshnessWarning"),
    ),
    Broken(
        *("freshness that no duration holds", RAW, "value: 2\n", "value: 1.0e+300\n"),
        *("freshnessFailure must be a number, from 1 min to 3650 d (it is 1e+300 h)", "property: freshnessFailure"),
    ),
    Broken(
        *("warning as late as the failure", RAW, "value: 15", "value: 120"),
        *("freshnessWarning must be shorter than freshnessFailure", "slaProperties", "- property: freshnessWarning"),
    ),
    Broken(
        *("unknown service level", RAW, "property: frequency", "property: frequence"),
        "'frequence' stands here twice or is none of freshnessWarning, freshnessFailure, frequency, retention",
    ),
    Broken(
        *("service level twice", RAW, "property: freshnessFailure", "property: freshnessWarning"),
        *("'freshnessWarning' stands here twice", "description: Three polls missed"),
    ),
    Broken(
        *("service level missing", RAW, "  - property: retention\n    value: for ever\n", ""),
        *("the property retention is missing", "", "slaProperties:"),
    ),
    Broken(
        *(
            "retention no text",
            RAW,
            "value: for ever",
            "value: 365",
            "retention must be a text such as 'for ever' (it is 365)",
        ),
    ),
    # No YAML, or none with a value.
    Broken(
        "no YAML", RAW, "kind: DataContract", "kind: [DataContract", "this is not YAML", "", "id: wrm_stations_raw_data"
    ),
    Broken(
        "a control character",
        RAW,
        "status: active",
        "status: \x07active",
        "this is not YAML: it holds a control character",
    ),
    Broken(
        "a number that is none", RAW, "status: active", "status: 0x_", "'0x_' has no value in YAML; put it in quotes"
    ),
    Broken("a tag of another program", RAW, "status: active", "status: !ours active", "'active' has no value in YAML"),
    Broken("a second document", DEAD_LETTERS, "    quality:\n", "---\nquality:\n", "this is not YAML", "", "---\n"),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.mistake)
def test_a_mistake_is_named_with_file_line_and_what_to_write(case: Broken, tmp_path: Path) -> None:
    text = edited(case.dataset, case.old, case.new, case.after)
    path = write(tmp_path, case.dataset, text)

    message = refusal(tmp_path)

    # `after` itself may have been replaced.
    after = case.after if case.after in text else ""
    assert message.startswith(f"{path}:{line_of(text, case.at or case.new.lstrip(), after)}: "), message
    assert case.says in message
    assert len(message.splitlines()) == 1


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for text in ("", "- apiVersion: v3.1.0\n", "apiVersion\n", "null\n"):
        path = write(tmp_path, RAW, text)

        assert refusal(tmp_path) == f"{path}:1: a contract is a mapping that begins with apiVersion: v3.1.0"


def test_a_file_that_is_not_utf_8_is_refused_with_the_line_of_the_first_such_byte(tmp_path: Path) -> None:
    path = tmp_path / f"{RAW}{SUFFIX}"
    text = packaged_text(RAW)
    path.write_bytes(text.encode("iso-8859-2", errors="replace"))

    assert refusal(tmp_path).startswith(f"{path}:{line_of(text, 'Wrocław')}: this is not UTF-8")


def test_an_alias_of_what_it_stands_in_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, RAW, "apiVersion: &all [*all]\n")

    assert refusal(tmp_path).startswith(f"{path}:1: it is nested without end; write it without anchors")


@pytest.mark.parametrize("name", ["enhanced.odcs.yaml", f"{RAW}.yaml", f"{RAW}.odcs.yml", f"{RAW}.ODCS.YAML"])
def test_a_file_of_an_unknown_name_in_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    """Otherwise a contract whose name is misspelt would be one that nobody keeps."""
    (tmp_path / name).write_text(packaged_text(RAW), encoding="utf-8")

    message = refusal(tmp_path)

    assert message.startswith(f"{tmp_path / name}:1: no dataset's contract has this name; rename it to one of")
    assert all(f"{dataset}{SUFFIX}" in message for dataset in DATASETS)


def test_a_contract_that_cannot_be_read_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / f"{RAW}{SUFFIX}"
    path.symlink_to(tmp_path / "gone")
    assert refusal(tmp_path).startswith(f"{path}:1: cannot be read (No such file or directory)")

    path.unlink()
    path.mkdir()
    assert refusal(tmp_path).startswith(f"{path}:1: cannot be read (Is a directory)")


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    assert refusal(gone) == f"{gone}: cannot be listed (No such file or directory); check WRM_CONTRACTS_DIR"


def test_a_directory_that_holds_one_contract_replaces_that_one_only(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("ours", encoding="utf-8")
    write(tmp_path, RAW, edited(RAW, "value: 15", "value: 20"))

    found, packaged = load_contracts(tmp_path), packaged_contracts()

    assert (found.raw.freshness_warn_s, packaged.raw.freshness_warn_s) == (1200, 900)
    assert [found.processed, found.enhanced, found.dead_letters] == list(packaged)[1:]


def test_a_bound_of_processed_that_is_replaced_is_a_bound_of_enhanced_too(tmp_path: Path) -> None:
    write(tmp_path, PROCESSED, edited(PROCESSED, "{minimum: 0}", "{minimum: 0, maximum: 99}", after=COLUMN_BIKES))

    found = load_contracts(tmp_path)

    assert found.processed.column("bikes").maximum == found.enhanced.column("bikes").maximum == 99
    assert found.enhanced.stamp != packaged_contracts().enhanced.stamp


def test_an_empty_directory_replaces_nothing(tmp_path: Path) -> None:
    assert load_contracts(tmp_path) == packaged_contracts()


def test_turning_overfull_into_an_error_is_one_changed_line(tmp_path: Path) -> None:
    text = rule_severity(ENHANCED, "overfull", "error")
    before, after = packaged_text(ENHANCED).splitlines(), text.splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ("        severity: warning", "        severity: error")
    ]
    write(tmp_path, ENHANCED, text)

    found, packaged = load_contracts(tmp_path).enhanced.rules, packaged_contracts().enhanced.rules

    assert found["overfull"].severity is Severity.ERROR
    assert {name for name in found if found[name] != packaged[name]} == {"overfull"}


def test_every_rule_stands_in_the_packaged_contracts_of_its_datasets() -> None:
    """A rule left out is one that is switched off; the package switches none off."""
    for contract in packaged_contracts():
        assert set(contract.rules) == {name for name, spec in VOCABULARY.items() if contract.id in spec.datasets}


def test_a_rule_says_where_it_stands() -> None:
    for contract in packaged_contracts():
        text = packaged_text(contract.id)
        for rule in contract.rules.values():
            assert rule.place == f"{contract.id}{SUFFIX}:{line_of(text, f'- name: {rule.name}', 'quality:')}"


# --- Whatever happens to a file: it loads, or it is refused with its place.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.text(max_size=20),
    st.sampled_from(
        ["0x_", "!!int x", "!own y", "*gone", "&a", "{", "]", "- -", "? ", "'", '"', "|", "%", "@", "2000-13-01"]
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def loads_or_is_refused(path: Path) -> None:
    extends = packaged_contracts().processed if path.name.startswith(ENHANCED) else None
    made = next(contract for contract in packaged_contracts() if path.name == f"{contract.id}{SUFFIX}")
    try:
        read_contract(path, extends, made)
    except ContractError as error:
        message = str(error)
    else:
        return
    match = re.fullmatch(re.escape(str(path)) + r":(\d+): .+", message)
    assert match, message
    assert 1 <= int(match[1]) <= len(path.read_text(encoding="utf-8", errors="replace").split("\n"))


@pytest.mark.parametrize("dataset", DATASETS)
def test_any_line_may_be_missing(dataset: str, tmp_path: Path) -> None:
    lines = packaged_text(dataset).splitlines(keepends=True)
    for gone in range(len(lines)):
        loads_or_is_refused(write(tmp_path, dataset, "".join(lines[:gone] + lines[gone + 1 :])))


def scalar_spans(text: str) -> list[tuple[int, int]]:
    """Where each value that is no mapping and no list begins and ends in a file."""
    return [
        (event.start_mark.index, event.end_mark.index)
        for event in yaml.parse(text, Loader=yaml.SafeLoader)
        if isinstance(event, yaml.ScalarEvent)
    ]


def as_yaml(value: object) -> str:
    """A value as somebody types it on a line: texts as they are, so that they can be anything else as well."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dataset=st.sampled_from(DATASETS), data=st.data())
def test_any_scalar_may_be_another(tmp_path: Path, dataset: str, data: st.DataObject) -> None:
    """Keys are among them."""
    text = packaged_text(dataset)
    start, end = data.draw(st.sampled_from(scalar_spans(text)))
    value = as_yaml(data.draw(SCALARS))
    # A lone surrogate cannot be saved as UTF-8 by any editor.
    replaced = (text[:start] + value + text[end:]).encode("utf-8", errors="replace").decode("utf-8")
    loads_or_is_refused(write(tmp_path, dataset, replaced))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))))
@example(b"\xff\xfea")
@example(b"[" * 5000)
@example(b"a: " + b"[" * 900 + b"]" * 900)
def test_any_bytes_may_be_the_file(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / f"{RAW}{SUFFIX}"
    path.write_bytes(body)
    loads_or_is_refused(path)

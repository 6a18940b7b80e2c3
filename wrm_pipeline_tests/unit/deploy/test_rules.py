"""The rules: valid, tested by `promtool`, worded for who is woken, and with the contracts' bounds."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from wrm_pipeline.automation.jobs import wrm_stations_ingest_job
from wrm_pipeline.cli.main import cli
from wrm_pipeline.cli.metrics import PORT
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.definitions import build_defs
from wrm_pipeline_tests.unit.deploy.files import PROMETHEUS, rules, run_tool

RULES = list(rules())
IDS = [f"{rule['alert']}-{rule['labels']['severity']}-{rule['labels'].get('source', 'source')}" for rule in RULES]
TESTS = sorted(PROMETHEUS.glob("tests/*.yml"))


def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "SUCCESS: 5 rule files found" in run_tool("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, PROMETHEUS.glob("rules/*.yml")))


@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_rules_fire_on_their_condition_alone_in_time_and_end(path: Path) -> None:
    assert "SUCCESS" in run_tool("promtool", "test", "rules", str(path))


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_every_alert_is_seen_firing_in_the_tests_of_promtool(severity: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    seen = set(re.findall(r'alertname="(\w+)", severity="(\w+)"', text)) | {
        # Seen in tests that look at another label.
        *((name, "warning") for name in re.findall(r'alertname="(\w+)", asset=', text))
    }
    expected = {(rule["alert"], rule["labels"]["severity"]) for rule in RULES if rule["labels"]["severity"] == severity}
    assert expected <= seen


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_rule_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    labels, told = rule["labels"], rule["annotations"]
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert labels["severity"] in {"critical", "warning"}
    assert labels["area"] in {"feed", "data", "runs", "machine", "monitoring"}
    # What is about a source of the exporter has it in its metric.
    assert "source" in labels or "wrm_exporter_source_up" in rule["expr"]
    assert set(told) == {"summary", "description", "what_to_do"}
    assert len(told["summary"]) < 140, "a summary is read on a telephone"
    assert "{{" in told["summary"] + told["description"], "names what it is about, or its value"


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_commands_in_what_to_do_exist(rule: dict[str, Any]) -> None:
    text = rule["annotations"]["what_to_do"] + rule["annotations"]["description"]
    for command in re.findall(r"`wrm ([^`]+)`", text):
        found: click.Command = cli
        for word in command.split():
            if isinstance(found, click.Group):
                named = found.get_command(click.Context(found), word)
                assert named is not None, f"`wrm {command}` does not exist"
                found = named
            elif word.startswith("--"):
                options = {name for parameter in found.params for name in parameter.opts}
                assert word in options, f"`wrm {command}` has no {word}"


def test_bounds_are_those_of_the_contracts() -> None:
    contracts = active_contracts()
    raw, checks = contracts.raw, contracts.enhanced.rules
    by_alert = {(rule["alert"], rule["labels"]["severity"]): rule["expr"] for rule in RULES}
    assert f"> {raw.freshness_warn_s:.0f}" in by_alert["WrmDataStale", "warning"]
    assert f"> {raw.freshness_fail_s:.0f}" in by_alert["WrmDataStale", "critical"]
    stands_for_s = raw.rules["frozen_feed"].arguments["polls"] * raw.interval_s
    for severity, behind_s in (
        ("warning", contracts.enhanced.freshness_warn_s),
        ("critical", contracts.enhanced.freshness_fail_s),
    ):
        assert f"> {behind_s:.0f}" in by_alert["WrmDataBehind", severity]
    assert f"> {stands_for_s:.0f} " in by_alert["WrmFeedFrozen", "warning"]
    assert f"< {raw.rules['partial_snapshot'].arguments['share_below']}" in by_alert["WrmFeedPartial", "warning"]
    dead = checks["dead_letter_ratio"].arguments
    assert f"> {dead['warn_above']:.2f}" in by_alert["WrmDeadLetterRatio", "warning"]
    assert f"> {dead['block_above']:.2f}" in by_alert["WrmDeadLetterRatio", "critical"]


def test_the_exporter_is_scraped_where_it_listens() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "wrm"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{PORT}"]}]


def test_rules_know_the_ingest_job_by_its_name() -> None:
    named = {name for rule in RULES for name in re.findall(r'pipeline_name="(\w+)"', rule["expr"])}
    assert named == {wrm_stations_ingest_job.name}


def test_rules_know_assets_by_their_names() -> None:
    named = {
        name
        for rule in RULES
        for names in re.findall(r'asset_name=~"([\w|]+)"', rule["expr"])
        for name in names.split("|")
    }
    assert named == {"wrm_stations_enhanced_data_all", "wrm_stations_duckdb", "wrm_station_site"}
    assert named <= {spec.key.to_user_string() for spec in build_defs().resolve_all_asset_specs()}

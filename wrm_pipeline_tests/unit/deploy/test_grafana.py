"""The dashboards: the committed files are what the code makes, and every query is answered by a real Prometheus."""

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.grafana.dashboards import JSON_DIRECTORY, all_dashboards
from wrm_pipeline.cache.cache import CacheStats
from wrm_pipeline.lake.object_store import Traffic
from wrm_pipeline.operations.event_log import AssetFigures, CheckFigures, Durations, EventLogFigures
from wrm_pipeline.operations.exporter import Exporter, Source, Sources
from wrm_pipeline.operations.lake_figures import City, LakeFigures
from wrm_pipeline.telemetry.figures import StepFigures, _registry
from wrm_pipeline_tests.fixtures.metrics_page import MetricsPages, exporter_page, steps_page
from wrm_pipeline_tests.fixtures.monitoring import LocalPrometheus
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.unit.deploy.files import DEPLOY, metrics_in, rules

DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in all_dashboards().items()}
PANELS = {
    f"{name.removesuffix('.json')}-{panel['id']}-{panel['title']}": panel
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
}


def test_the_committed_files_are_what_the_code_makes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in JSON_DIRECTORY.iterdir()}
    assert committed == all_dashboards(), "run: python -m deploy.grafana"


def test_there_are_five_dashboards_that_name_their_time_zone() -> None:
    assert {dashboard["title"]: dashboard["timezone"] for dashboard in DASHBOARDS.values()} == {
        "WRM: pipeline health (UTC)": "utc",
        "WRM: asset performance (UTC)": "utc",
        "WRM: data quality (UTC)": "utc",
        "WRM: resources (UTC)": "utc",
        "WRM: business (Europe/Warsaw)": "Europe/Warsaw",
    }
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == 5


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_says_what_it_shows_and_in_what_unit(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in {"s", "d", "bytes", "percent", "percentunit", "short", "none"}
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_fill_their_rows(name: str) -> None:
    cells = [
        (x, y)
        for panel in DASHBOARDS[name]["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert set(cells) == {(x, y) for x in range(24) for y in range(max(y for _, y in cells) + 1)}


def test_the_provisioned_source_is_of_the_kind_that_dashboards_ask() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/wrm.yml").read_text("utf-8"))["datasources"]
    assert source["type"] == "prometheus"
    for dashboard in DASHBOARDS.values():
        (variable,) = dashboard["templating"]["list"]
        assert (variable["name"], variable["type"], variable["query"]) == ("source", "datasource", "prometheus")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrometheus]:
    """A Prometheus that scrapes a healthy day's metrics as the deployed configuration says, but each second."""
    with MetricsPages() as pages:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config.pop("alerting")
        config.pop("rule_files")
        made = {"wrm": exporter_page, "pushgateway": steps_page}
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in made]
        for job in config["scrape_configs"]:
            pages.show(f"/{job['job_name']}", made[job["job_name"]])
            job |= {"metrics_path": f"/{job['job_name']}", "static_configs": [{"targets": [pages.address]}]}
        with LocalPrometheus(tmp_path_factory.mktemp("prometheus"), yaml.safe_dump(config)) as server:
            # A rate needs two scrapes.
            enough = "count(count_over_time(up[1m]) >= 3) == 2"
            wait_until(lambda: bool(server.query(enough)), within_s=30)
            yield server


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_every_query_of_a_panel_returns_data(panel: dict[str, Any], prometheus: LocalPrometheus) -> None:
    for target in panel["targets"]:
        found = prometheus.query(target["expr"])
        assert found, target["expr"]
        assert all(sample.value == sample.value for sample in found), f"not a number: {target['expr']}"
        # What a series is called by must be among its labels, or its name is empty.
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert all(named <= set(sample.labels) for sample in found), target
        names = [re.sub(r"{{(\w+)}}", lambda m, s=sample: s.labels[m[1]], target["legendFormat"]) for sample in found]
        assert panel["type"] == "table" or len(set(names)) == len(found), "two series of one name"


def test_the_checks_table_shows_its_columns(prometheus: LocalPrometheus) -> None:
    (panel,) = [panel for panel in PANELS.values() if panel["type"] == "table"]
    (organize,) = panel["transformations"]
    (target,) = panel["targets"]
    assert target["format"] == "table"
    for sample in prometheus.query(target["expr"]):
        assert set(sample.labels) | {"Value"} == set(organize["options"]["renameByName"])


def used_metrics() -> set[str]:
    queries = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
    return set().union(*map(metrics_in, (*queries, *(rule["expr"] for rule in rules()))))


def shape(series: str) -> tuple[str, frozenset[str]]:
    name, _, labels = series.partition("{")
    # The job is in the grouping key of a push, as the asset is: it comes with the address, not with the figures.
    return name, frozenset(re.findall(r"(\w+)=", labels)) - {"job"}


def shapes(registry: CollectorRegistry, *more: str) -> set[tuple[str, frozenset[str]]]:
    return {
        (sample.name, frozenset({*sample.labels, *more}))
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def exported() -> CollectorRegistry:
    """Return what the exporter makes of readings in which everything occurs."""
    events = EventLogFigures(
        runs={("job", "success"): 1},
        durations={"job": Durations()},
        active={"job": 1},
        queued=1,
        oldest_queued_at=1.0,
        assets={"asset": AssetFigures(1.0, 1, {"column": 1.0}, None)},
        checks={("asset", "check"): CheckFigures(passed=True, severity="ERROR")},
        heartbeats={"SENSOR": 1.0},
    )
    noon = dt.datetime(2025, 5, 12, 12, tzinfo=dt.UTC)
    city = City(time=noon, rows=1, stations=1, usual_stations=1.0, states={"ok": 1}, bikes={"station": 1})
    lake = LakeFigures(noon, noon, 1.0, city, 0.0, {("rule", "status"): 1})
    sources = Sources(
        Source("event_log", lambda: events, every_s=60),
        Source("lake", lambda: lake, every_s=60),
        Source("vault", lambda: True, every_s=60),
        Source("redis", lambda: {"feed": False}, every_s=60),
        Source("certificates", lambda: {"example.org:443": 1.0}, every_s=60),
    )
    for source in sources:
        source.start()
        wait_until(lambda source=source: source.last()[1])
    return Exporter(sources, [Path.cwd()], "asset").registry()


def pushed() -> CollectorRegistry:
    """Return what a step pushes in which everything occurs."""
    traffic = Traffic()
    traffic.requests["GET"] += 1
    figures = StepFigures(
        1.0,
        True,
        traffic,
        CacheStats(Counter({("lru", "hit"): 1}), Counter(get=1), 1),
        {"feed": False},
        1.0,
        {"kept": 1},
    )
    return _registry(figures, finished_at=1.0)


def test_these_tests_have_the_metrics_of_the_exporter_and_of_steps() -> None:
    assert set(map(shape, exporter_page(1))) == shapes(exported())
    assert set(map(shape, steps_page(1))) == shapes(pushed(), "asset")


def test_rules_and_dashboards_use_metrics_that_exist() -> None:
    exist = {shape(series)[0] for series in (*exporter_page(1), *steps_page(1))}
    assert used_metrics() - exist == set()
    # Everything that is exported is shown or watched somewhere, but for the histogram's parts.
    assert exist - used_metrics() == {
        "dagster_pipeline_duration_seconds_sum",
        "dagster_pipeline_duration_seconds_count",
    }

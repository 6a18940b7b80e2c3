"""The project's kinds of panel: what they have in common is said here once, each dashboard says what it shows.

Every panel has a description, a unit (Grafana's names: s, percentunit, bytes, none …) and at least one query. Windows
are fixed, an hour or a day: the feed is polled every 5 minutes, so Grafana's own interval would often hold nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

PanelBuilder = Builder[model.Panel]
Rows = Mapping[str, Sequence[PanelBuilder]]

TAG: Final = "wrm"
# The dashboards ask the source that is chosen above them, so they work wherever they are imported.
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${source}")
GREEN, ORANGE, RED = "green", "orange", "red"
_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4


@dataclass(frozen=True)
class Query:
    """PromQL, and how each of its series is called: text with `{{label}}`."""

    expr: str
    name: str = ""


@dataclass(frozen=True)
class Bounds:
    """From which value on a figure is orange and red; with `falling`, below which one."""

    orange: float
    red: float
    falling: bool = False

    def config(self) -> Builder[model.ThresholdsConfig]:
        """Return Grafana's form: steps from below, the first one without a bound."""
        if self.falling:
            steps = [(None, RED), (self.red, ORANGE), (self.orange, GREEN)]
        else:
            steps = [(None, GREEN), (self.orange, ORANGE), (self.red, RED)]
        return (
            dashboard.ThresholdsConfig()
            .mode(model.ThresholdsMode.ABSOLUTE)
            .steps([model.Threshold(value=value, color=color) for value, color in steps])
        )


_NO_BOUNDS: Final = dashboard.ThresholdsConfig().steps([model.Threshold(value=None, color=GREEN)])


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(SOURCE).ref_id(ref).expr(query.expr).legend_format(query.name)


def _range(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [_target(query, chr(ord("A") + at)).range() for at, query in enumerate(queries)]


def figure(
    title: str, description: str, unit: str, query: str, *, bounds: Bounds | None = None, decimals: int | None = None
) -> PanelBuilder:
    """Return one number of now, a sixth of the width."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(bounds.config() if bounds else _NO_BOUNDS)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .no_value("no data")
        .span(4)
        .height(_STAT_HEIGHT)
        .with_target(_target(Query(query), "A").instant())
    )
    return panel if decimals is None else panel.decimals(decimals)


def lines(
    title: str, description: str, unit: str, *queries: Query, stacked: bool = False, bounds: Bounds | None = None
) -> PanelBuilder:
    """Return series over time, half of the width; with bounds these are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.TABLE)
            .placement(common_model.LegendPlacement.RIGHT)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max"])
        )
        .line_width(1)
        .fill_opacity(60 if stacked else 8)
        .show_points(common_model.VisibilityMode.NEVER)
        # A scrape that was missed is bridged; 10 minutes without data are a gap.
        .span_nulls(600_000)
        .span(12)
        .height(_HEIGHT)
        .targets(list(_range(queries)))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if bounds:
        panel.thresholds(bounds.config()).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphTresholdsStyleMode.DASHED)
        )
    return panel


def bars(title: str, description: str, unit: str, query: Query, *, bounds: Bounds | None = None) -> PanelBuilder:
    """Return one bar a series, of now, half of the width."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .thresholds(bounds.config() if bounds else _NO_BOUNDS)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(12)
        .height(_HEIGHT)
        .with_target(_target(query, "A").instant())
    )


def states(
    title: str, description: str, query: Query, *, good: tuple[float, str], bad: tuple[float, str]
) -> PanelBuilder:
    """Return a band a series over time, half of the width: green for the good value, red for the bad one."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .mappings([_words(good, bad)])
        .thresholds(_NO_BOUNDS)
        .merge_values(merge_values=True)
        .show_value(common_model.VisibilityMode.NEVER)
        .span(12)
        .height(_HEIGHT)
        .with_target(_target(query, "A").range())
    )


def listing(
    title: str,
    description: str,
    query: str,
    columns: Mapping[str, str],
    *,
    good: tuple[float, str],
    bad: tuple[float, str],
) -> PanelBuilder:
    """Return a table of now, half of the width: labels under headings, the value in words, bad ones first."""
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job"), True)
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .mappings([_words(good, bad)])
        .thresholds(_NO_BOUNDS)
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize", options={"excludeByName": hidden, "renameByName": {**columns, "Value": "State"}}
            )
        )
        .sort_by([common.TableSortByFieldState().display_name("State").desc(good[0] < bad[0])])
        .span(12)
        .height(_HEIGHT)
        .with_target(_target(Query(query), "A").instant().format(prometheus_model.PromQueryFormat.TABLE))
    )


def _words(good: tuple[float, str], bad: tuple[float, str]) -> model.ValueMap:
    return model.ValueMap(
        options={
            f"{value:g}": model.ValueMappingResult(text=text, color=color, index=at)
            for at, ((value, text), color) in enumerate(((good, GREEN), (bad, RED)))
        }
    )


def assemble(uid: str, title: str, description: str, zone: str, rows: Rows, *, hours: int = 24) -> model.Dashboard:
    """Return a dashboard: rows of panels under their headings, times in `zone`, which the title names too."""
    built = (
        dashboard.Dashboard(f"WRM: {title} ({'UTC' if zone == 'utc' else zone})")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone(zone)
        .time(f"now-{hours}h", "now")
        .refresh("1m")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("WRM")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=True)
            .keep_time(keep_time=True)
        )
    )
    for heading, panels in rows.items():
        built.with_row(dashboard.Row(heading))
        for panel in panels:
            built.with_panel(panel)
    made = built.build()
    for at, item in enumerate(made.panels or (), start=1):
        item.id_val = at
    return made

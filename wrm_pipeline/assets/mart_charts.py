"""A small chart of a table for the Dagster UI: one query each, drawn by matplotlib as a PNG inside Markdown.

A chart is stored with each materialization, some 300 times a day, so it has few colours and takes two or three
kilobytes. It has its own light ground, so that it is as readable on a dark page as on a light one.
"""

import base64
import datetime as dt
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from wrm_pipeline.reports.profile_page import load_matplotlib

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from matplotlib.axes import Axes

Row = tuple[Any, ...]
Draw = Callable[["Axes", Sequence[Row]], None]

# Pixels: as wide as the column of metadata beside the list of runs.
_WIDTH: Final = 420
_HEIGHT: Final = 160
_DPI: Final = 100
# Enough for ground, ink, six colours and the shades at their edges.
_COLOURS: Final = 32
_INK, _GRID, _GROUND = "#24292f", "#d0d7de", "#ffffff"
# Okabe and Ito's, which people with colour blindness tell apart.
_PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# So that groups of points are told apart without their colour.
_MARKERS: Final = ("o", "s", "^", "D", "v", "X")
_STYLE: Final = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "figure.titlesize": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": _GROUND,
    "axes.facecolor": _GROUND,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    # Fixed, since a layout that is worked out takes as long as the drawing: room for a title, and for digits.
    "figure.subplot.left": 0.11,
    "figure.subplot.right": 0.98,
    "figure.subplot.bottom": 0.27,
    "figure.subplot.top": 0.86,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Chart:
    """What to show of a table: a title, the query, and how its rows are drawn."""

    title: str
    query: str
    draw: Draw


def chart(connection: "DuckDBPyConnection", table: str) -> str | None:
    """Return a chart of a table as Markdown; None when it has nothing to draw or no chart is known for it."""
    known = CHARTS.get(table)
    rows = connection.execute(known.query).fetchall() if known is not None else []
    if known is None or not rows:
        return None
    image = base64.b64encode(_png(known, rows)).decode("ascii")
    return f"![{known.title}](data:image/png;base64,{image})"


def _png(known: Chart, rows: Sequence[Row]) -> bytes:
    """Draw; the same rows give the same bytes."""
    matplotlib = load_matplotlib()
    import matplotlib.backends.backend_agg as agg
    from PIL import Image  # which matplotlib writes its own images with

    canvas_of: Any = agg.FigureCanvasAgg
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = matplotlib.figure.Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI)
        axes = figure.subplots()
        figure.suptitle(known.title, x=0.01, ha="left")
        known.draw(axes, rows)
        canvas = canvas_of(figure)
        canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    out = io.BytesIO()
    drawn.quantize(_COLOURS).save(out, "PNG", optimize=True)
    return out.getvalue()


# --- how rows are drawn -----------------------------------------------------------------------------------------------


def _lines(*names: str) -> Draw:
    """Draw a line for each column after the first, which is a time or a number; a gap where nothing is known."""

    def draw(axes: "Axes", rows: Sequence[Row]) -> None:
        shown = with_gaps(rows)
        marker = "o" if len(rows) == 1 else ""
        for index, name in enumerate(names, 1):
            y = [float("nan") if row[index] is None else row[index] for row in shown]
            colour = _PALETTE[index - 1]
            axes.plot(
                [row[0] for row in shown], y, color=colour, linewidth=1.2, marker=marker, markersize=3, label=name
            )
        _finish(axes, rows, names)

    return draw


def with_gaps(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the order of time with one that has no values wherever some are missing."""
    if not isinstance(rows[0][0], dt.date):
        return list(rows)
    steps = [later[0] - row[0] for row, later in pairwise(rows)]
    with_gaps = [rows[0]]
    for row, step in zip(rows[1:], steps, strict=True):
        if step > min(steps):
            with_gaps.append((row[0] - min(steps), *(None for _ in row[1:])))
        with_gaps.append(row)
    return with_gaps


def _columns(*names: str) -> Draw:
    """Draw columns upon each other, one for each column of the rows after the first, which is a date or a number."""

    def draw(axes: "Axes", rows: Sequence[Row]) -> None:
        x = [row[0] for row in rows]
        below = [0.0] * len(rows)
        for index, name in enumerate(names, 1):
            heights = [float(row[index] or 0) for row in rows]
            axes.bar(x, heights, bottom=below, color=_PALETTE[index - 1], label=name)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        _finish(axes, rows, names)

    return draw


def _finish(axes: "Axes", rows: Sequence[Row], names: Sequence[str]) -> None:
    axes.grid(axis="y")
    axes.set_ylim(bottom=0)
    if len(names) > 1:
        _legend(axes)
    if isinstance(rows[0][0], dt.date):
        import matplotlib.dates

        dates: Any = matplotlib.dates
        locator = dates.AutoDateLocator(minticks=2, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _bars(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw a lying bar a row, of a label and a number, the first on top."""
    labels, numbers = [str(row[0]) for row in rows], [float(row[1]) for row in rows]
    _margins(axes, left=0.29, bottom=0.02)
    bars = axes.barh(range(len(rows)), numbers, color=_PALETTE[0])
    axes.set_yticks(range(len(rows)), labels)
    axes.bar_label(bars, labels=[f"{number:,.0f}" for number in numbers], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _points(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw a point a row, of longitude, latitude, size (0 to 1) and group, north up."""
    groups = sorted({str(row[3]) for row in rows})
    for number, group in enumerate(groups):
        mine = [row for row in rows if str(row[3]) == group]
        sizes = [3 + 30 * float(row[2]) for row in mine]
        looks: Any = {"color": _PALETTE[number % len(_PALETTE)], "marker": _MARKERS[number % len(_MARKERS)]}
        axes.scatter([x[0] for x in mine], [x[1] for x in mine], s=sizes, label=group, linewidths=0, **looks)
    _margins(axes, left=0.02, bottom=0.03)
    axes.set_axis_off()
    # At 51 degrees north a degree of latitude is 1.6 times as long as one of longitude.
    axes.set_aspect(1.6, adjustable="datalim")
    if len(groups) > 1:
        _legend(axes)


def _legend(axes: "Axes") -> None:
    _margins(axes, right=0.72)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1, handletextpad=0.4)


def _margins(axes: "Axes", **edges: float) -> None:
    figure: Any = axes.figure
    figure.subplots_adjust(**edges)


# --- the charts -------------------------------------------------------------------------------------------------------

CHARTS: Final[Mapping[str, Chart]] = {
    "dim_station": Chart(
        "Versions by reason",
        "SELECT change, count(*) FROM dim_station GROUP BY change ORDER BY 2 DESC, 1 LIMIT 6",
        _bars,
    ),
    "dim_date": Chart(
        "Days by class", "SELECT day_class, count(*) FROM dim_date GROUP BY day_class ORDER BY 2 DESC, 1", _bars
    ),
    "fct_station_hour": Chart(
        "Bikes at stations, hourly means, last week (UTC)",
        "SELECT hour_start, sum(bikes_mean) FROM fct_station_hour "
        "WHERE hour_start > (SELECT max(hour_start) FROM fct_station_hour) - INTERVAL 7 DAY GROUP BY 1 ORDER BY 1",
        _lines("bikes"),
    ),
    "fct_station_outage": Chart(
        "Episodes that began, by local date",
        "SELECT local_date, count(*) FILTER (kind = 'empty'), count(*) FILTER (kind = 'full') FROM fct_station_outage "
        "WHERE local_date > (SELECT max(local_date) FROM fct_station_outage) - 28 GROUP BY 1 ORDER BY 1",
        _columns("empty", "full"),
    ),
    "fct_bike_move": Chart(
        "Moves by kind", "SELECT kind, count(*) FROM fct_bike_move GROUP BY kind ORDER BY 2 DESC, 1", _bars
    ),
    "fct_fleet_day": Chart(
        "Bikes, mean of each local date",
        "SELECT local_date, bikes_at_stations, bikes_free_in_zone, bikes_off_zone FROM fct_fleet_day "
        "WHERE local_date > (SELECT max(local_date) FROM fct_fleet_day) - 90 ORDER BY 1",
        _columns("at stations", "free", "off zone"),
    ),
    "mart_system_hour": Chart(
        "Bikes, hourly means, last week (UTC)",
        "SELECT hour_start, bikes_at_stations, bikes_free_in_zone FROM mart_system_hour "
        "WHERE hour_start > (SELECT max(hour_start) FROM mart_system_hour) - INTERVAL 7 DAY ORDER BY 1",
        _lines("at stations", "free"),
    ),
    "mart_station_reliability": Chart(
        "Share of time empty and full on workdays, by local hour",
        "SELECT local_hour, sum(share_empty * minutes_observed) / sum(minutes_observed), "
        "sum(share_full * minutes_observed) / sum(minutes_observed) FROM mart_station_reliability "
        "WHERE day_class = 'workday' AND minutes_observed > 0 GROUP BY 1 ORDER BY 1",
        _lines("empty", "full"),
    ),
    "mv_daily_aggregates": Chart(
        "Service level, mean of all stations, by local date",
        "SELECT local_date, avg(service_level) FROM mv_daily_aggregates "
        "WHERE local_date > (SELECT max(local_date) FROM mv_daily_aggregates) - 90 GROUP BY 1 ORDER BY 1",
        _lines("service level"),
    ),
    "mart_data_quality_day": Chart(
        "Share of each UTC day that snapshots cover",
        "SELECT utc_date, coverage FROM mart_data_quality_day "
        "WHERE utc_date > (SELECT max(utc_date) FROM mart_data_quality_day) - 90 ORDER BY 1",
        _columns("coverage"),
    ),
    "mart_forecast_baseline": Chart(
        "Mean absolute error (bikes) by minutes ahead",
        "SELECT horizon_min, max(mae) FILTER (method = 'persistence'), max(mae) FILTER (method = 'seasonal_naive') "
        "FROM mart_forecast_baseline WHERE station_id = '*' GROUP BY 1 HAVING count(mae) > 0 ORDER BY 1",
        _lines("persistence", "seasonal naive"),
    ),
    "mart_density_grid": Chart(
        "Bikes per km², newest day",
        "SELECT grid_lon, grid_lat, bikes_per_km2 / greatest(max(bikes_per_km2) OVER (), 1e-9), 'cell' "
        "FROM mart_density_grid WHERE cell_kind = '250m' AND stations > 0 "
        "AND utc_date = (SELECT max(utc_date) FROM mart_density_grid) ORDER BY cell",
        _points,
    ),
    "mv_station_latest": Chart(
        "Stations by state, size by bikes",
        "SELECT lon, lat, bikes / greatest(max(bikes) OVER (), 1), state FROM mv_station_latest "
        "WHERE in_newest_snapshot ORDER BY station_id",
        _points,
    ),
    "mv_free_bike_latest": Chart(
        "Free bikes in the service area",
        "SELECT lon, lat, 0.1, 'bike' FROM mv_free_bike_latest WHERE in_service_area ORDER BY lon, lat",
        _points,
    ),
}

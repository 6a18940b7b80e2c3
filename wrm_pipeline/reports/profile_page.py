"""The profile of a day as one HTML document: no script, no request, light and dark, phone and desk.

Curves and histograms are drawn by matplotlib as SVG inside the page, bar lists are HTML. What is on the page is decided
here, how it looks in `profile.html.j2`.
"""

import datetime as dt
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.settings import default_environment
from wrm_pipeline.transform.profile import (
    DRIFTED_ABOVE,
    STABLE_BELOW,
    ColumnProfile,
    DayProfile,
    Drift,
    Histogram,
    Value,
    label_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A name of the feed may have 64 kB.
_LONGEST_TEXT: Final = 120
_BAND_WORDS: Final = {
    "stable": "as in the week before",
    "shifted": "somewhat different from the week before",
    "drifted": "clearly different from the week before",
}

# Colours that matplotlib writes, and what the page makes of them: variables, which differ between light and dark.
_INK, _ACCENT, _GRID, _GAP = "#010203", "#010204", "#010205", "#010206"
_PAGE_COLOURS: Final = {_INK: "var(--ink-2)", _ACCENT: "var(--accent)", _GRID: "var(--grid)", _GAP: "var(--gap)"}
_PLOT_STYLE: Final = {
    "svg.hashsalt": "wrm_pipeline",
    # Text stays text: smaller, searchable, and in the page's own type.
    "svg.fonttype": "none",
    # The face that comes with matplotlib: text is measured alike on each machine.
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_POINTS_PER_INCH: Final = 72
_REFERENCES: Final = re.compile(r'(\bid="|url\(#|href="#)')
_SVG_RULES: Final = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)


@dataclass(frozen=True)
class _Bar:
    """A line of a bar list: text, rows, share of all rows (0 to 1)."""

    text: str
    rows: int
    share: float


@dataclass(frozen=True)
class _Column:
    """A column as the page shows it; `spark` are heights from 0 to 1, `plot` is SVG or empty."""

    profile: ColumnProfile
    unit: str
    spark: tuple[float, ...]
    spark_label: str
    bars: tuple[_Bar, ...]
    plot: str
    plot_label: str


def render(profile: DayProfile, contract: Contract) -> str:
    """Return the page of a profile: a whole HTML document, the same text for the same profile.

    The units of the columns are those of their contract.
    """
    units = {column.name: column.unit for column in contract.columns}
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        count=lambda rows: f"{rows:,}",
        share=_share,
        size=_size,
        value=_value,
        short=_short,
        clock=_clock,
        band_words=_BAND_WORDS.get,
    )
    with _plotting() as figure:
        columns = [
            _column(n, column, units.get(column.name, ""), profile.day, figure)
            for n, column in enumerate(profile.columns)
        ]
        timelines = [_timeline(profile, figure, width) for width in (880, 340)] if profile.snapshots else []
    return environment.get_template("profile.html.j2").render(
        profile=profile,
        columns=columns,
        timelines=timelines,
        timeline_label=_timeline_label(profile),
        flags=[_Bar(_value(flag.value), flag.rows, flag.rows / profile.rows) for flag in profile.flags],
        record_types=[_Bar(_value(kind.value), kind.rows, kind.rows / profile.rows) for kind in profile.record_types],
        compared=sorted((c for c in profile.columns if c.drift.psi is not None), key=_drift_order),
        not_compared=_not_compared(profile.columns),
        moved=_moved,
        stable_below=STABLE_BELOW,
        drifted_above=DRIFTED_ABOVE,
    )


def _column(position: int, column: ColumnProfile, unit: str, day: dt.date, figure: "_NewFigure") -> _Column:
    heights = column.histogram.counts if column.histogram else tuple(each.rows for each in column.top)
    # Ten of 784 names tell nothing about the others.
    telling = bool(column.histogram) or 2 * sum(heights) >= column.rows - column.nulls
    shape = "Histogram" if column.histogram else "Rows of the most frequent values"
    drawn = column.histogram if column.distinct > 1 else None
    return _Column(
        profile=column,
        unit=unit,
        spark=tuple(rows / max(heights) for rows in heights) if telling else (),
        spark_label=f"{shape} of {column.name}, {len(heights)} bars",
        bars=tuple(_Bar(_value(each.value), each.rows, each.rows / column.rows) for each in column.top),
        plot=_histogram(drawn, f"histogram-{position}", unit, day, figure) if drawn else "",
        plot_label=_histogram_label(column, unit),
    )


def _histogram_label(column: ColumnProfile, unit: str) -> str:
    if not column.quantiles:
        return ""
    low, middle, high = map(_value, (column.minimum, column.quantiles["p50"], column.maximum))
    return f"Histogram of {column.name}: from {low} to {high} {unit}, median {middle}."


def _timeline_label(profile: DayProfile) -> str:
    rows = [snapshot.rows for snapshot in profile.snapshots]
    if not rows:
        return ""
    gaps = f"{len(profile.gaps)} gaps" if len(profile.gaps) != 1 else "1 gap"
    return f"Rows a snapshot over the day in UTC: {len(rows)} snapshots of {min(rows)} to {max(rows)} rows, {gaps}."


def _drift_order(column: ColumnProfile) -> tuple[float, str]:
    return (-(column.drift.psi or 0), column.name)


def _not_compared(columns: Sequence[ColumnProfile]) -> dict[str, list[str]]:
    """The columns without an index by the reason for it."""
    reasons: dict[str, list[str]] = {}
    for column in columns:
        if column.drift.psi is None:
            reasons.setdefault(column.drift.reason, []).append(column.name)
    return reasons


def _moved(drift: Drift) -> str:
    """The bin whose share changed most, in words."""
    most = max(drift.bins, key=lambda each: abs(each.day - each.week))
    if most.day == most.week:
        return "no bin changed"
    return f"“{_shortened(most.label)}”: {_share(most.week)} → {_share(most.day)} of rows"


def _share(share: float) -> str:
    if 0 < share < 0.001:
        return "<0.1\u00a0%"
    # What is not all must not read as all.
    return f"{min(share, 0.999) if share < 1 else share:.1%}".replace("%", "\u00a0%")


def _size(size: int) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f}\u00a0{unit}"
    return f"{size}\u00a0B"


def _value(value: Value | None) -> str:
    return "\N{EN DASH}" if value is None else _shortened(label_of(value))


def _short(value: Value | None, day: dt.date) -> str:
    """A value for a narrow table: a time of the day without its date."""
    return f"{value:%H:%M:%S}" if isinstance(value, dt.datetime) and value.date() == day else _value(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _clock(time: dt.datetime, day: dt.date) -> str:
    """A time of the day; its end is 24:00."""
    return f"{time:%H:%M}" if time.date() == day else "24:00"


class _NewFigure:
    """Makes empty plots of a size in CSS pixels."""

    def __init__(self, figure: "Callable[..., Figure]") -> None:
        self._figure = figure

    def __call__(self, width: int, height: int) -> "tuple[Figure, Axes]":
        figure = self._figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
        axes = figure.add_axes((48 / width, 40 / height, (width - 70) / width, (height - 64) / height))
        axes.set_title("rows", loc="left", fontsize=11, x=-44 / (width - 70))
        axes.grid(axis="y", color=_GRID, linewidth=1)
        return figure, axes


@contextmanager
def _plotting() -> Iterator[_NewFigure]:
    """Give new figures in the page's style; whatever settings the machine or the process has, they stay out of it.

    matplotlib keeps its settings in the process: not for several threads at once.
    """
    matplotlib = load_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PLOT_STYLE)
        yield _NewFigure(matplotlib.figure.Figure)


def load_matplotlib() -> Any:
    """Import matplotlib, which else leaves a list of fonts in the home of whoever runs this, or warns that it cannot.

    Making the list anew takes 0.15 s a process. A folder that MPLCONFIGDIR names is used as it is.
    """
    if "matplotlib" not in sys.modules:
        with tempfile.TemporaryDirectory(prefix="matplotlib-") as folder, default_environment("MPLCONFIGDIR", folder):
            import matplotlib.figure
            import matplotlib.style  # asks for the folder too, when the settings are reset
    import matplotlib.figure

    return matplotlib


def _timeline(profile: DayProfile, new_figure: _NewFigure, width: int) -> str:
    """Rows of each snapshot over the day, interrupted and shaded where snapshots are missing."""
    figure, axes = new_figure(width, 220)
    midnight = dt.datetime.combine(profile.day, dt.time(), tzinfo=dt.UTC)
    for gap in profile.gaps:
        axes.axvspan(_hours(gap.start, midnight), _hours(gap.end, midnight), color=_GAP, linewidth=0)
    for stretch in _stretches(profile):
        hours = [_hours(time, midnight) for time, _ in stretch]
        marker = "o" if len(stretch) == 1 else ""
        axes.plot(hours, [rows for _, rows in stretch], color=_ACCENT, marker=marker, clip_on=False)
    step = 2 if width > 600 else 6
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, step), [f"{hour:02d}:00" for hour in range(0, 25, step)])
    axes.set_xlabel("time of day, UTC")
    _count_axis(axes, max(snapshot.rows for snapshot in profile.snapshots))
    return _svg(figure, f"timeline-{width}")


def _stretches(profile: DayProfile) -> list[list[tuple[dt.datetime, int]]]:
    """The snapshots, taken apart at each gap."""
    ends: set[dt.datetime] = {gap.start for gap in profile.gaps}
    stretches: list[list[tuple[dt.datetime, int]]] = [[]]
    for snapshot in profile.snapshots:
        stretches[-1].append((snapshot.time, snapshot.rows))
        if snapshot.time in ends:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _histogram(histogram: Histogram, name: str, unit: str, day: dt.date, new_figure: _NewFigure) -> str:
    figure, axes = new_figure(340, 180)
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    edges = [_position(edge, midnight) for edge in histogram.edges]
    if all(isinstance(edge, int) for edge in histogram.edges):
        # A bar of whole numbers from 3 to 4 stands over the 3, not between the two.
        edges = [edge - 0.5 for edge in edges]
    widths = [(high - low) * 0.9 for low, high in pairwise(edges)]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    axes.bar(middles, histogram.counts, widths, color=_ACCENT)
    axes.set_xlim(edges[0], edges[-1])
    if not isinstance(histogram.edges[0], dt.date):
        axes.locator_params(axis="x", nbins=6, integer=isinstance(histogram.edges[0], int))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    elif (edges[0], edges[-1]) == (0, 24):
        axes.set_xticks(range(0, 25, 6), [f"{hour:02d}:00" for hour in range(0, 25, 6)])
    else:
        axes.set_xticks([edges[0], edges[-1]], [f"{histogram.edges[0]:%Y-%m-%d}", f"{histogram.edges[-1]:%Y-%m-%d}"])
        first, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    axes.set_xlabel(unit)
    _count_axis(axes, max(histogram.counts))
    return _svg(figure, name)


def _count_axis(axes: "Axes", most: int) -> None:
    axes.set_ylim(0, most * 1.05)
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _position(edge: float | dt.datetime | dt.date, midnight: dt.datetime) -> float:
    """Where an edge lies on its axis: numbers as they are, times in hours after the day's midnight."""
    if isinstance(edge, dt.datetime):
        return _hours(edge, midnight)
    if isinstance(edge, dt.date):
        return (edge - midnight.date()).days * 24.0
    return float(edge)


def _hours(time: dt.datetime, midnight: dt.datetime) -> float:
    return (time - midnight).total_seconds() / 3600


def _svg(figure: "Figure", name: str) -> str:
    """Return a figure as an SVG element for a page that holds several: ids of its own, no rules for all elements."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = _SVG_RULES.sub("", text[text.index("<svg") :])
    for colour, variable in _PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    return _REFERENCES.sub(rf"\g<1>{name}-", text)

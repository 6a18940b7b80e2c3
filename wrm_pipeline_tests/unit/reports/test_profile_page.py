"""The page of a profile: strict, self-contained, readable without a picture, the same bytes each time."""

import datetime as dt
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from wrm_pipeline.reports.profile_page import render
from wrm_pipeline.transform.profile import DayProfile, profile_day, summarise
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS
from wrm_pipeline_tests.unit.transform.test_profile import DAY, MIDNIGHT, WEEK, table

HOSTILE = '<script>alert("x")</script>&amp;'
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """The elements of a document, its text, and whether each element is closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def full_day() -> DayProfile:
    """A day of half-hourly snapshots with a gap, names of all kinds, and a column that drifted."""
    times = [MIDNIGHT + dt.timedelta(minutes=30 * n) for n in range(48) if n not in {10, 11}]
    rows = table(
        name=[name for _ in times for name in (HOSTILE, "Żabia " + "y" * 5_000)],
        file_timestamp=[time for time in times for _ in range(2)],
        lat=[51 + n / 1_000 for n in range(2 * len(times))],
        bikes=[9, 9] * len(times),
        spaces=[10, 9] * len(times),
        battery_level=[None, 50] * len(times),
        quality_flags=[["overfull"], []] * len(times),
    )
    week = table(2_000, bikes=[4] * 2_000, spaces=[10] * 1_340 + [9] * 660)
    return profile_day(rows, DAY, [summarise(week, day) for day in WEEK])


@pytest.fixture(scope="module", params=["full", "one snapshot", "empty", "no flags, years old"])
def html(request: pytest.FixtureRequest) -> str:
    profiles = {
        "full": full_day,
        "one snapshot": lambda: profile_day(table(3), DAY, []),
        "empty": lambda: profile_day(table(0), DAY, []),
        "no flags, years old": lambda: profile_day(
            table(timestamp=[MIDNIGHT, MIDNIGHT.replace(year=2014)]), DAY, [summarise(table(2_000), WEEK[0])]
        ),
    }
    return render(profiles[request.param](), CONTRACTS.enhanced)


@pytest.fixture(scope="module")
def full() -> str:
    return render(full_day(), CONTRACTS.enhanced)


class TestEveryPage:
    def test_it_runs_no_script_and_asks_for_nothing(self, html: str) -> None:
        page = Page(html)

        assert page.all("script") == page.all("iframe") == page.all("img") == page.all("base") == []
        assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
        for _, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on") or name in {"src", "srcset", "action"}]
            targets = [attributes[name] for name in ("href", "xlink:href") if name in attributes]
            assert all(target.startswith("#") or target == "data:," for target in targets)
        assert "@import" not in html
        assert not [target for target in re.findall(r"url\(([^)]*)\)", html) if not target.startswith("#")]

    def test_a_policy_forbids_what_it_does_not_do(self, html: str) -> None:
        (policy,) = (each for each in Page(html).all("meta") if each.get("http-equiv") == "Content-Security-Policy")

        assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")

    def test_each_id_is_there_once_and_each_reference_leads_to_one(self, html: str) -> None:
        ids = [attributes["id"] for _, attributes in Page(html).elements if "id" in attributes]

        assert len(ids) == len(set(ids))
        references = re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"|aria-labelledby=\"([^\"]*)\"", html)
        assert {name for groups in references for name in groups if name} <= set(ids)

    def test_it_can_be_read_without_seeing_it(self, html: str) -> None:
        page = Page(html)

        assert page.all("html") == [{"lang": "en"}]
        assert page.all("th")
        assert all(each.get("scope") in {"row", "col"} for each in page.all("th"))
        pictures = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
        assert all(attributes["aria-label"] for attributes in pictures)
        assert html.count("<svg") == sum("plot" in attributes.get("class", "") for attributes in pictures)

    def test_its_colours_are_the_pages_own(self, html: str) -> None:
        """A black line would be lost on a dark page."""
        (style,) = re.findall(r"<style.*?</style>", html, re.DOTALL)
        colours = set(re.findall(r"(?:fill|stroke|color): ?([^;\"]+)", html.replace(style, "")))

        assert "prefers-color-scheme: dark" in style
        assert colours <= {"none", "var(--ink-2)", "var(--accent)", "var(--grid)", "var(--gap)"}
        assert set(re.findall(r"var\((--[\w-]+)\)", html)) <= set(re.findall(r"(--[\w-]+):", style))

    def test_it_says_the_day_and_the_time_zone(self, html: str) -> None:
        assert "Profile of 2025-05-12" in Page(html).text
        assert "All times are UTC." in Page(html).text


class TestFullDay:
    def test_it_is_small(self, full: str) -> None:
        assert 50_000 < len(full.encode()) < 1_000_000

    def test_text_of_the_feed_stays_text_and_short(self, full: str) -> None:
        assert HOSTILE in Page(full).text
        assert "<script" not in full
        assert "y" * 113 + "…" in full
        assert "y" * 114 not in full

    def test_the_gap_is_named_and_shaded(self, full: str) -> None:
        text = Page(full).text

        assert "usual distance. 04:30 to 06:00 UTC." in text
        assert "46 snapshots of 2 to 2 rows, 1 gap." in full
        timeline = full[full.index("<svg") : full.index("</svg>")]
        assert len(re.findall(r"<path [^>]*fill: var\(--gap\)", timeline)) == 1
        assert len(re.findall(r"<path [^>]*stroke: var\(--accent\)", timeline)) == 2

    def test_drift_is_sorted_and_in_words(self, full: str) -> None:
        section = Page(
            full[full.index('<section aria-labelledby="drift">') : full.index('<h2 id="overview">')] + "</section>"
        ).text

        drifted, shifted, stable = (section.index(word) for word in ("clearly different", "somewhat", "as in the week"))
        assert drifted < shifted < stable
        assert "“4”: 100.0 % → 0.0 % of rows" in section
        assert "against 7 days from 2025-05-05 to 2025-05-11".lower() in section.lower()

    def test_values_have_units(self, full: str) -> None:
        text = Page(full).text

        assert "int32, bikes" in text
        assert "Quantiles, degrees" in text
        assert "time of day, UTC" in text

    def test_flags_are_counted(self, full: str) -> None:
        assert "overfull 46 50.0 %" in Page(full).text
        assert "46 of 92 rows have no flag." in Page(full).text


def test_a_day_with_one_snapshot_and_no_week_says_so() -> None:
    text = Page(render(profile_day(table(3), DAY, []), CONTRACTS.enhanced)).text

    assert "The day has one snapshot" in text
    assert "There is no trailing week" in text
    assert "No column is compared." in text
    assert "One snapshot tells nothing about gaps." in text


def test_the_same_profile_gives_the_same_page_and_leaves_settings_alone() -> None:
    first = render(full_day(), CONTRACTS.enhanced)
    import matplotlib as mpl  # not before the page does it, which keeps its font list out of the home

    before = dict(mpl.rcParams)

    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        second = render(full_day(), CONTRACTS.enhanced)

    assert first == second
    assert dict(mpl.rcParams) == before


def test_a_first_page_warns_of_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Left alone, matplotlib puts a list of fonts in the home, or warns on stderr that it cannot."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    (tmp_path / "matplotlibrc").write_text("font.size: 30\n")
    code = (
        "import sys; from wrm_pipeline_tests.unit.reports.test_profile_page import CONTRACTS, full_day; "
        "from wrm_pipeline.reports.profile_page import render; "
        "sys.stdout.buffer.write(render(full_day(), CONTRACTS.enhanced).encode())"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}

    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout.decode() == render(full_day(), CONTRACTS.enhanced)
    assert list(home.rglob("*")) == list(temporary.rglob("*")) == []

"""The site as its readers have it: built into the real store, served as `wrm up` does, read in Chromium.

Whatever a test does, at its end nothing may have gone wrong in the browser: no message on its console, no exception, no
request that failed or went to another host, no dialog, and nothing that the content security policy had to stop.
"""

import csv
import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Locator, Page, Route, expect

from bench.first_view import FirstView, first_view
from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.marts.catalogue import catalogue, published
from wrm_pipeline.site.pages import LANGUAGES, PAGES, read_texts
from wrm_pipeline_tests.fixtures.browser import (
    READ_AT,
    SIZES,
    Reader,
    Scheme,
    Site,
    browser,  # noqa: F401 - pytest finds fixtures by name
    new_context,
    save_pictures,
    served_site,
)
from wrm_pipeline_tests.fixtures.dagster import at, put_raw
from wrm_pipeline_tests.fixtures.site import HOSTILE_NAMES, NEWEST, sample_database
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

STATIONS: Final = 30
# Its name would be a formula; it was renamed, and moved by a kilometre.
STATION: Final = "15004"
SPRING_MORNING: Final = dt.datetime(2026, 3, 30, 6, 0, tzinfo=dt.UTC)
LONGEST_NAME: Final = 200
VIEWS: Final = {page: f"{page}.html" for page in PAGES} | {"station": f"station.html?id={STATION}"}
LIST: Final = "station.html"
# What is folded away at first, but for tables and definitions that are like one of these, only longer.
FOLDED: Final = "details.meaning, #typical-workday details, #flows-workday details, #density-numbers, #def-dim_date"
# A chart takes a new width some frames after the window has. Playwright's own way to wait in a page needs `eval`, which
# the content security policy forbids.
NARROWED: Final = """
width => new Promise((done) => {
  let frames = 300;
  const look = () => {
    const fits = document.documentElement.scrollWidth <= width;
    if (fits || !frames--) done(fits);
    else requestAnimationFrame(look);
  };
  look();
})"""
# Around names in the midst of other text, so that their direction stays their own.
ISOLATES: Final = re.compile("[\u2068\u2069]")
# What each page is there for, and how much of it the sample gives.
FILLED: Final = {
    "now": {"#map .station": 30, "#map .free": 40, "#stations-table tbody tr": 30},
    "reliability": {"#heatmap td[data-level]": 7 * 24, "#worst tbody tr": 15, "#episodes tbody tr": 5},
    "station": {"#history canvas": 1, "#typical canvas": 3, "#days canvas": 1, "#forecast tbody tr": 6}
    | {"#outages tbody tr": 15, "#versions tbody tr": 2},
    "fleet": {"figure canvas": 8, "#moves tbody tr": 5, "#density .cell": 100},
    "data": {"#coverage .day[data-level=all]": 58, "#dead-letters tbody tr": 1, "#dead-letters canvas": 1}
    | {
        "#flags tbody tr": 11,
        "#checks tbody tr": 5,
        "#downloads tbody tr": 12,
        "#definitions details": len(published()),
    },
}


# --- sites and readers -----------------------------------------------------------------------------------------------


def fill_lake(lake: Lake) -> None:
    """Put a day with a few dead letters into the lake, and one of little else that is held back."""
    for day, bad_rows in ((NEWEST.date(), 2), (NEWEST.date() + dt.timedelta(days=1), 200)):
        put_raw(lake, at(8, day=day), with_bad_rows(snapshot(1, at(8, day=day)), bad_rows, 1))
        build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, Provenance(run_id="run", asset="asset"))


@pytest.fixture(scope="module")
def site(store_server: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Sixty days of thirty stations with hostile names, a gap of six hours and a day of 25 hours among them."""
    here = tmp_path_factory.mktemp("site")
    database = sample_database(here / "wrm.duckdb", stations=STATIONS)
    with served_site(store_server, database, here / "site", fill_lake) as site:
        yield site


@pytest.fixture(scope="module")
def empty_site(store_server: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What is there before anything has been collected."""
    here = tmp_path_factory.mktemp("empty")
    with served_site(store_server, here / "none.duckdb", here / "site") as site:
        yield site


@pytest.fixture(scope="module")
def small_site(store_server: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One station in one snapshot."""
    here = tmp_path_factory.mktemp("small")
    midnight = NEWEST.replace(hour=0, minute=0)
    database = sample_database(here / "wrm.duckdb", stations=1, days=1, newest=midnight, moves_an_hour=0)
    with served_site(store_server, database, here / "site") as site:
        yield site


@pytest.fixture(scope="module")
def spring_site(store_server: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The day of 23 hours and the days around it."""
    here = tmp_path_factory.mktemp("spring")
    database = sample_database(here / "wrm.duckdb", stations=2, days=3, newest=SPRING_MORNING)
    with served_site(store_server, database, here / "site") as site:
        yield site


@pytest.fixture(scope="module")
def readers(browser: Browser) -> Iterator[dict[str, Reader]]:  # noqa: F811 - a fixture
    """A reader with a desktop and one with a phone."""
    contexts = {size: new_context(browser, size) for size in SIZES}
    yield {size: Reader(context.new_page()) for size, context in contexts.items()}
    for context in contexts.values():
        context.close()


class Read:
    """Opens pages of a site with one of the readers: `read("en/now.html")`."""

    def __init__(self, readers: dict[str, Reader], site: Site) -> None:
        self.site = site
        self.reader = readers["desktop"]
        self._readers = readers

    def __call__(self, path: str, size: str = "desktop", scheme: Scheme = "light", *, of: Site | None = None) -> Page:
        """Open a page and wait for all of it."""
        self._readers[size].page.emulate_media(color_scheme=scheme)
        return self._readers[size].open((of or self.site).url + path)


@pytest.fixture
def read(readers: dict[str, Reader], site: Site) -> Iterator[Read]:
    """What opens pages. At the end no page may have had a fault, but those that the test has taken from the list."""
    yield Read(readers, site)
    for size, reader in readers.items():
        reader.page.unroute_all()
        reader.page.set_viewport_size(SIZES[size]["viewport"])
    assert [fault for reader in readers.values() for fault in reader.taken()] == []


def count(page: Page, selector: str) -> int:
    return page.locator(selector).count()


def text_of(page: Page, selector: str) -> str:
    """Return all text of an element, also of what is folded away, with single spaces."""
    return " ".join((page.locator(selector).text_content() or "").split())


def column_of(page: Page, table: str, column: int) -> list[str]:
    """Return the text of a column of a table, from the first row down, without the small notes under it."""
    cells = page.locator(f"{table} tbody tr > :nth-child({column})")
    return [str(text) for text in cells.evaluate_all("cells => cells.map((cell) => cell.firstChild.textContent)")]


# --- each page, as everyone has it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("language", "schemes"), [("en", ("light", "dark")), ("pl", ("dark", "light"))])
@pytest.mark.parametrize("name", VIEWS)
def test_every_page_is_whole_for_everyone(
    read: Read, name: str, language: str, schemes: tuple[Scheme, Scheme], size: str
) -> None:
    page = read(f"{language}/{VIEWS[name]}", size, schemes[0])

    words = read_texts(language)
    heading = HOSTILE_NAMES[3] if name == "station" else words[name]["title"]
    assert page.locator("html").get_attribute("lang") == language
    assert page.locator("h1").all_text_contents() == [heading]
    assert ISOLATES.sub("", page.title()) == f"{heading} \N{EN DASH} {words['common']['site']}"
    assert {selector: least for selector, least in FILLED[name].items() if count(page, selector) < least} == {}
    assert count(page, ".notice, [data-empty], figure.chart:not([data-drawn])") == 0
    assert page.locator("#key-figures .value", has_text=re.compile("^\N{EN DASH}$")).count() == 0
    # By day and by night, and from the one to the other.
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert is_dark(page) == (scheme == "dark")
        assert_no_sideways_scrolling(page)


def test_charts_take_the_colours_of_the_night_when_it_falls(read: Read) -> None:
    page = read(f"en/{VIEWS['station']}")
    by_day = points_in_own_colour(page, "#history")
    page.emulate_media(color_scheme="dark")
    by_night = points_in_own_colour(page, "#history")
    assert min(by_day, by_night) > 100


def points_in_own_colour(page: Page, figure: str) -> int:
    """Count the points of a chart that have, in the next frame, the colour that its line has on the page then."""
    count_them = """
    canvas => new Promise((done) => requestAnimationFrame(() => setTimeout(() => {
      const copy = new OffscreenCanvas(canvas.width, canvas.height + 1).getContext("2d");
      copy.drawImage(canvas, 0, 1);
      copy.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--series-1").trim();
      copy.fillRect(0, 0, 1, 1);
      const [wanted, ...points] = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height + 1).data.buffer);
      done(points.filter((point) => point === wanted).length);
    })))"""
    return int(page.locator(f"{figure} canvas").evaluate(count_them))


def is_dark(page: Page) -> bool:
    """Say whether the page's ground is darker than its ink."""
    ground, ink = page.evaluate(
        """() => {
          const sum = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).reduce((all, part) => all + Number(part), 0);
          const style = getComputedStyle(document.body);
          return [sum(style.backgroundColor), sum(style.color)];
        }"""
    )
    return bool(ground < ink)


def assert_no_sideways_scrolling(page: Page) -> None:
    """Nothing sticks out of the window, nor out of that of a narrow phone once charts have taken its width."""
    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width < 400:
        page.set_viewport_size({"width": 360, "height": 844})
        assert page.evaluate(NARROWED, 360)


@pytest.mark.parametrize(("size", "scheme", "language"), [("desktop", "light", "en"), ("phone", "dark", "pl")])
@pytest.mark.parametrize("name", [*VIEWS, "list"])
def test_axe_finds_no_serious_barrier(read: Read, name: str, size: str, scheme: Scheme, language: str) -> None:
    page = read(f"{language}/{VIEWS.get(name, LIST)}", size, scheme)
    page.locator(FOLDED).evaluate_all("all => all.forEach((details) => { details.open = true; })")

    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]

    serious = [rule for rule in found if rule["impact"] in {"serious", "critical"}]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in serious] == []


def test_the_first_page_leads_to_the_readers_language(read: Read, browser: Browser) -> None:  # noqa: F811 - a fixture
    assert read("").url == f"{read.site.url}en/now.html"
    context = new_context(browser, locale="pl-PL")
    assert Reader(context.new_page()).open(read.site.url).url == f"{read.site.url}pl/now.html"
    context.close()


def test_without_scripts_pages_lead_on_and_define_the_numbers(browser: Browser, site: Site) -> None:  # noqa: F811
    context = new_context(browser, at=None, java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    page.get_by_role("link", name="Polski").click()
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator("noscript p")).to_have_text(read_texts("pl")["common"]["noscript"])
    page.goto(f"{site.url}en/data.html")
    page.locator("#def-dim_date summary").click()
    expect(page.locator("#def-dim_date table")).to_be_visible()
    context.close()


def test_the_other_language_is_the_same_page(read: Read) -> None:
    page = read(f"en/{VIEWS['station']}")
    page.locator("#other-language").click()
    page.wait_for_url("**/pl/*")
    read.reader.wait()
    assert page.url == f"{read.site.url}pl/{VIEWS['station']}"


def test_the_skip_link_is_the_first_stop_and_leads_past_the_menu(read: Read) -> None:
    page = read("en/now.html")
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    expect(page.locator("a.skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


# --- what a fault looks like, so that its absence says something ------------------------------------------------------


def answer_with(page: Page, path: str, change: Callable[[str], str], *, policy: bool = True) -> None:
    """Let a file of the site come changed, and with no content security policy if so asked."""

    def answer(route: Route) -> None:
        given = route.fetch()
        headers = given.headers if policy else {"content-type": given.headers["content-type"]}
        route.fulfill(response=given, headers=headers, body=change(given.text()))

    page.route(f"**/{path}", answer)


def test_faults_in_a_page_are_seen(read: Read) -> None:
    faults = {
        "<script>document.title = 1</script>": "policy violated: script-src-elem by inline",
        '<p onclick="alert(1)">': "policy violated: script-src-attr by inline",
        '<p style="color: red">': "policy violated: style-src-attr by inline",
        '<img src="http://example.invalid/x.png">': "policy violated: img-src by http://example.invalid/x.png",
        '<img src="../missing.png">': f"404: {read.site.url}missing.png",
    }
    answer_with(read.reader.page, "now.html", lambda html: html.replace("</main>", f"{''.join(faults)}</main>"))
    read("en/now.html")
    seen = read.reader.taken()
    assert [fault for fault in faults.values() if not any(fault in sentence for sentence in seen)] == [], seen


def test_what_the_policy_would_stop_is_seen_without_it(read: Read) -> None:
    added = '<img src="http://example.invalid/x.png"><script>alert(1); throw Error("x")</script>'
    change = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>|(?=</main>)')
    answer_with(
        read.reader.page, "now.html", lambda html: change.sub(lambda at: "" if at[0] else added, html), policy=False
    )
    read("en/now.html")
    assert {"foreign", "failed", "dialog", "exception"} <= {seen.partition(":")[0] for seen in read.reader.taken()}


# --- names of the feed -----------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    """Return a name as the site shows it: a very long one is cut."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def assert_inert(page: Page) -> None:
    """No element of the page came out of a name."""
    assert count(page, "body script, main img, main iframe, main b:has-text('Zażółć')") == 0


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("en/now.html", "#stations-table tbody th bdi"),
        ("pl/station.html", "#picker-list a bdi"),
        ("en/reliability.html", "#worst tbody th bdi"),
    ],
)
def test_hostile_names_are_shown_as_they_are(read: Read, path: str, places: str) -> None:
    page = read(path)
    if more := page.locator("#worst-more:visible").all():
        more[0].click()
    names = page.locator(places).all_text_contents()
    assert {shown(name) for name in HOSTILE_NAMES} <= set(names)
    assert_inert(page)


@pytest.mark.parametrize("number", [0, 2, 8, 9])
def test_a_station_with_a_hostile_name_has_its_page(read: Read, number: int) -> None:
    page = read(f"pl/station.html?id={15001 + number}", "phone")
    name = shown(HOSTILE_NAMES[number])
    assert page.locator("h1 bdi").text_content() == name
    assert name[:30] in (page.locator("#history figcaption").text_content() or "")
    assert name in (page.locator("#versions tbody").text_content() or "")
    assert_inert(page)
    assert_no_sideways_scrolling(page)


def test_a_chosen_station_with_a_hostile_name_is_inert_on_the_map(read: Read) -> None:
    page = read("en/now.html")
    for number, name in enumerate(HOSTILE_NAMES):
        page.locator("#filter-search").fill(f"{15001 + number}")
        page.locator(f'#stations-table tr[data-id="{15001 + number}"] td').first.click()
        assert page.locator("#selected strong").text_content() == shown(name)
    assert_inert(page)


def test_a_downloaded_csv_runs_nothing_in_a_spreadsheet(read: Read, tmp_path: Path) -> None:
    page = read("en/data.html")
    with page.expect_download() as started:
        page.locator('#downloads a[href$="/mv_station_latest.csv"]').click()
    started.value.save_as(tmp_path / "stations.csv")

    with (tmp_path / "stations.csv").open(encoding="utf-8", newline="") as file:
        names = {row["station_id"]: row["name"] for row in csv.DictReader(file)}
    for number, name in enumerate(HOSTILE_NAMES):
        runs = name.startswith(("=", "+", "-", "@", "\t"))
        assert names[str(15001 + number)] == (f"'{name}" if runs else name)


# --- Now -------------------------------------------------------------------------------------------------------------


def test_the_snapshot_has_the_citys_time_wherever_the_reader_is(read: Read) -> None:
    page = read("en/now.html")
    assert text_of(page, "#snapshot-time") == "28 Oct 2025, 15:25 CET"
    assert page.locator("#snapshot-time").get_attribute("datetime") == "2025-10-28T14:25:00.000Z"


def test_the_snapshot_ages_before_the_readers_eyes(browser: Browser, site: Site) -> None:  # noqa: F811 - a fixture
    context = new_context(browser, at=None)
    context.clock.install(time=READ_AT)
    reader = Reader(context.new_page())
    page = reader.open(f"{site.url}en/now.html")
    age, notices = page.locator("#snapshot-age"), page.locator("#notices .notice")
    expect(age).to_have_text("4 min ago")
    expect(age).to_have_attribute("data-age", "fresh")
    expect(notices).to_have_count(0)

    page.clock.fast_forward("20:00")
    expect(age).to_have_text("24 min ago")
    expect(age).to_have_attribute("data-age", "old")
    expect(notices).to_have_attribute("data-kind", "old")

    page.clock.fast_forward("03:00:00")
    expect(age).to_have_attribute("data-age", "very-old")
    expect(notices).to_have_count(1)
    assert reader.faults == []
    context.close()


@pytest.mark.parametrize(
    ("typed", "names"), [("15013", ["Stacja 12"]), ("  GLOWNY ", [HOSTILE_NAMES[7]]), ("no such", [])]
)
def test_searching_leaves_matching_stations_in_table_and_map(read: Read, typed: str, names: list[str]) -> None:
    page = read("en/now.html")
    page.locator("#filter-search").press_sequentially(typed)
    assert page.locator("#stations-table tbody bdi").all_text_contents() == names
    expect(page.locator("#map .station:not(.dim)")).to_have_count(len(names))
    expect(page.locator("#map .labels text")).to_have_count(len(names))


def test_a_state_leaves_its_stations(read: Read) -> None:
    page = read("en/now.html")
    wanted = read.site.data("now.json")["stations"]["state"].count("empty")
    page.locator("#filter-state").select_option("empty")
    assert count(page, "#stations-table tbody tr") == count(page, '#stations-table tr[data-state="empty"]') == wanted
    expect(page.locator("#map .station:not(.dim)")).to_have_count(wanted)


def test_buttons_in_the_headings_sort_and_say_so(read: Read) -> None:
    page = read("en/now.html")
    stations = read.site.data("now.json")["stations"]
    bikes = dict(zip(stations["id"], stations["bikes"], strict=True))
    heading = page.locator('#stations-table th[data-column="bikes"]')
    button = heading.get_by_role("button")
    for direction, backwards in (("descending", True), ("ascending", False)):
        button.press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        assert count(page, "#stations-table th[aria-sort]") == 1
        order = [str(row.get_attribute("data-id")) for row in page.locator("#stations-table tbody tr").all()]
        assert [bikes[station] for station in order] == sorted(bikes.values(), reverse=backwards)


def press_until(page: Page, key: str, target: Locator, most: int = 60) -> None:
    """Press a key until an element has the focus."""
    for _ in range(most):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    pytest.fail(f"{most} times {key} do not lead to {target}")


def test_a_station_is_found_and_opened_by_keyboard_alone(read: Read) -> None:
    page = read("en/now.html")
    press_until(page, "Tab", page.locator("#filter-search"))
    page.keyboard.type("Stacja 12")
    press_until(page, "Tab", page.locator('#stations-table tr[data-id="15013"] a'))
    page.keyboard.press("Enter")
    page.wait_for_url("**/station.html?id=15013")
    read.reader.wait()
    assert text_of(page, "h1") == "Stacja 12"


def test_a_state_is_told_by_form_and_not_by_colour_alone(read: Read) -> None:
    page = read("en/now.html")
    form = "mark => [...mark.children].map((shape) => `${shape.tagName}.${shape.getAttribute('class')}`).join(' ')"
    legend = {
        str(mark.get_attribute("data-state")): mark.evaluate(form) for mark in page.locator(".legend .mark").all()
    }
    assert set(legend) == {"ok", "low", "empty", "full", "overfull", "no_docks", "free"}
    assert len({legend[state] for state in ("ok", "empty", "full", "overfull", "no_docks", "free")}) == 6
    for state in ("ok", "empty", "full", "overfull", "no_docks"):
        on_map = page.locator(f'#map .station[data-state="{state}"]').first
        assert on_map.evaluate(form) == legend[state]


def test_free_bikes_can_be_left_out(read: Read) -> None:
    page = read("en/now.html")
    free = page.locator("#map .free")
    expect(free.first).to_be_visible()
    page.locator("#show-free").uncheck()
    expect(page.locator("#map .free:visible")).to_have_count(0)
    page.locator("#show-free").check()
    expect(free.first).to_be_visible()


def test_the_map_zooms_by_buttons_and_keys(read: Read) -> None:
    page = read("en/now.html")
    scale = page.locator("#map .scale text")
    whole = scale.text_content() or ""
    page.locator("#map-zoom-in").click()
    page.locator("#map-zoom-in").click()
    expect(scale).not_to_have_text(whole)
    page.locator("#map-zoom-reset").click()
    expect(scale).to_have_text(whole)
    page.locator("#map svg").first.focus()
    for key in ("+", "+", "+", "ArrowLeft"):
        page.keyboard.press(key)
    expect(scale).not_to_have_text(whole)
    page.keyboard.press("0")
    expect(scale).to_have_text(whole)


def test_a_station_on_the_map_tells_of_itself(read: Read) -> None:
    page = read("en/now.html")
    page.locator('#map .station[data-id="15013"]').click()
    card = page.locator("#selected")
    expect(card.locator("strong")).to_have_text("Stacja 12")
    expect(page.locator('#stations-table tr[data-id="15013"]')).to_have_class("chosen")
    assert card.locator("a").get_attribute("href") == "station.html?id=15013"
    card.get_by_role("button", name="Close").click()
    expect(card).to_be_hidden()


def test_a_station_that_the_newest_snapshot_does_not_hold_says_so(read: Read) -> None:
    page = read("en/now.html")
    assert "not in the newest snapshot; last seen 23 Oct, 16:25" in text_of(page, 'tr[data-id="15019"] th')


# --- Station ---------------------------------------------------------------------------------------------------------


def is_drawn(page: Page, figure: str) -> bool:
    """Say whether there is more on the canvas of a chart than its ground."""
    return bool(
        page.locator(f"{figure} canvas").evaluate(
            """canvas => {
              const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
              copy.drawImage(canvas, 0, 0);
              const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
              return new Set(new Uint32Array(data.buffer)).size > 20;
            }"""
        )
    )


def test_a_station_is_found_by_its_former_name(read: Read) -> None:
    page = read(f"en/{LIST}")
    assert count(page, "#picker-list a") == STATIONS
    page.locator("#picker-search").fill("dawniej +48")
    expect(page.locator("#picker-list a")).to_have_count(1)
    page.locator(f'#picker-list a[data-id="{STATION}"]').click()
    page.wait_for_url(f"**/{VIEWS['station']}")
    read.reader.wait()
    assert text_of(page, "h1") == HOSTILE_NAMES[3]


@pytest.mark.parametrize("unknown", ["99999", "abc", "../meta", "<img src=x onerror=alert(1)>"])
def test_an_unknown_station_leads_to_the_list(read: Read, unknown: str) -> None:
    page = read(f"en/station.html?id={unknown}")
    said = page.locator('#notices .notice[data-kind="unknown-station"]')
    assert unknown in ISOLATES.sub("", said.text_content() or "")
    assert count(page, "#picker-list a") == STATIONS
    expect(page.locator("#history")).to_be_hidden()


def test_the_history_is_drawn_and_says_how_much_of_it_is_shown(read: Read) -> None:
    page = read(f"en/{VIEWS['station']}")
    known = read.site.data(f"stations/{STATION}.json")
    hours = sum(value is not None for value in known["hours"]["p50"])
    assert is_drawn(page, "#history")
    assert f"Every hour is shown: {hours}." in text_of(page, "#history figcaption")

    page.get_by_role("radio", name="everything").check(force=True)
    caption = page.locator("#history figcaption")
    every = known["all"]
    assert every["shown"] < every["points"]
    expect(caption).to_contain_text(f"Shown: {every['shown']:,} of {every['points']:,} hours")
    assert is_drawn(page, "#history")


def test_a_chart_is_read_by_keyboard(read: Read) -> None:
    page = read(f"en/{VIEWS['station']}")
    when = page.locator("#history .readout .when")
    expect(when).to_contain_text("28 Oct")
    page.locator("#history .plot").focus()
    page.keyboard.press("Home")
    expect(when).to_contain_text("15 Oct")
    page.keyboard.press("ArrowRight")
    expect(when).to_contain_text("01:00")


def hours_of(page: Page, day: str) -> list[str]:
    """Return the hours of a day in the table of numbers under the history, as the city's clock shows them."""
    page.locator("#history details.numbers summary").click()
    page.locator("#history .numbers tbody tr").first.wait_for()
    times = page.locator("#history .numbers tbody th").all_text_contents()
    return [time.rpartition(", ")[2] for time in times if day in time]


def test_hours_without_data_are_left_out(read: Read) -> None:
    hours = hours_of(read(f"en/{VIEWS['station']}"), "25 Oct")
    known = [f"{hour:02d}:00 CEST" for hour in range(24) if not 8 <= hour < 14]
    assert hours == known


def test_the_day_of_25_hours_has_them_all(read: Read) -> None:
    hours = hours_of(read(f"en/{VIEWS['station']}"), "26 Oct")
    assert len(hours) == 25
    assert hours[1:5] == ["01:00 CEST", "02:00 CEST", "02:00 CET", "03:00 CET"]


def test_the_day_of_23_hours_has_no_more(read: Read, spring_site: Site) -> None:
    page = read("en/station.html?id=15001", of=spring_site)
    hours = hours_of(page, "29 Mar")
    assert len(hours) == 23
    assert hours[:3] == ["00:00 CET", "01:00 CET", "03:00 CEST"]


def test_changes_of_a_station_are_listed(read: Read) -> None:
    page = read(f"en/{VIEWS['station']}")
    newest, oldest = (ISOLATES.sub("", row) for row in page.locator("#versions tbody tr").all_text_contents())
    for part in (
        "still valid",
        HOSTILE_NAMES[3],
        f"formerly Dawniej {HOSTILE_NAMES[3]}",
        "moved 1.1 km",
        "another station",
    ):
        assert part in newest
    assert "first seen" in oldest


# --- Reliability, Fleet, Data ----------------------------------------------------------------------------------------


def test_the_heatmap_is_a_table_with_a_summary_in_words(read: Read) -> None:
    page = read("en/reliability.html")
    week = read.site.data("reliability.json")["week"]
    rows = page.locator("#heatmap tbody tr")
    assert rows.count() == 7
    for measure, caption in (("empty", "empty"), ("full", "full"), ("service", "at least 2 bikes")):
        page.locator(f'input[name="measure"][value="{measure}"]').check(force=True)
        assert caption in text_of(page, "#heatmap caption")
        monday = rows.first.locator("td").all_text_contents()
        expected = [
            share
            for weekday, hour, share in zip(week["weekday"], week["hour"], week[measure], strict=True)
            if weekday == 1
        ]
        assert all(abs(int(cell) - 100 * share) <= 0.51 for cell, share in zip(monday, expected, strict=True))
        highest = max(share for share in week[measure] if share is not None)
        assert f"{100 * highest:.1f}%" in text_of(page, "#heat-summary")


def test_stations_and_episodes_are_shown_as_far_as_one_asks(read: Read) -> None:
    page = read("en/reliability.html")
    page.locator("#worst-more").click()
    assert count(page, "#worst tbody tr") == STATIONS
    page.locator("#episodes-kind").select_option("full")
    assert set(column_of(page, "#episodes", 2)) <= {"full", ""}
    assert "of" in text_of(page, "#episodes-note")


@pytest.mark.parametrize(("language", "label"), [("en", "lower bounds"), ("pl", "dolne granice")])
def test_flows_are_labelled_as_lower_bounds_with_the_interval(read: Read, language: str, label: str) -> None:
    page = read(f"{language}/fleet.html")
    section = " ".join((page.locator("section:has(#flows)").text_content() or "").split())
    assert label in section
    assert "300 s" in section
    assert all(is_drawn(page, f"#{chart}") for chart in ("flows-workday", "flows-recent", "fleet-days"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_link_to_a_definition_opens_it_in_the_readers_language(read: Read, language: str) -> None:
    page = read(f"{language}/data.html#def-fct_station_hour.minutes_empty")
    column = next(column for column in catalogue()["fct_station_hour"].columns if column.name == "minutes_empty")
    row = page.locator('[id="def-fct_station_hour.minutes_empty"]')
    expect(row).to_be_in_viewport()
    expect(row).to_contain_text(getattr(column, language))


def test_every_download_is_there(read: Read) -> None:
    page = read("en/data.html")
    links = {str(link.get_attribute("href")) for link in page.locator("#downloads tbody a[download]").all()}
    files = read.site.data("downloads.json")["files"]
    assert links == {f"../{path}" for path in files["path"]}
    for path, size in zip(files["path"], files["bytes"], strict=True):
        answer = page.request.head(read.site.url + path, headers={"accept-encoding": "identity"})
        assert (answer.status, answer.headers["content-length"]) == (200, str(size))


def test_the_data_page_tells_what_was_set_aside_and_why(read: Read) -> None:
    page = read("en/data.html")
    assert count(page, "#dead-letters tbody tr") >= 1
    assert "2025-10-29" in text_of(page, "#held")
    assert re.fullmatch(r"\d+ of \d+ checks passed\.", text_of(page, "#checks-summary"))
    page.locator("#coverage details.numbers summary").click()
    gap = page.locator("#coverage .numbers tr", has_text="25 Oct 2025")
    expect(gap).to_contain_text("75.0%")


# --- what is missing, and first of all everything --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "file", "still"),
    [
        ("now.html", "now.json", "#snapshot-age[data-age=fresh]"),
        ("now.html", "meta.json", "#map .station"),
        ("reliability.html", "reliability.json", "#snapshot-age[data-age=fresh]"),
        (VIEWS["station"], f"stations/{STATION}.json", "#picker-list a"),
        (VIEWS["station"], "stations.json", "#history canvas"),
        (VIEWS["station"], "now.json", "#history canvas"),
        (VIEWS["station"], "forecast.json", "#versions tbody tr"),
        ("fleet.html", "fleet.json", "#density .cell"),
        ("fleet.html", "density.json", "#fleet-days canvas"),
        ("data.html", "quality.json", "#downloads tbody a"),
        ("data.html", "downloads.json", "#flags tbody code"),
    ],
)
def test_a_file_that_does_not_come_is_named_and_the_rest_works(read: Read, path: str, file: str, still: str) -> None:
    read.reader.page.route(f"**/data/{file}", lambda route: route.abort())
    page = read(f"en/{path}")

    notice = page.locator("#notices .notice")
    assert notice.count() == 1
    assert notice.get_attribute("data-file") == file
    assert f"data/{file}" in (notice.text_content() or "")
    expect(page.locator(still).first).to_be_visible()
    assert [fault for fault in read.reader.taken() if file not in fault and "net::ERR_FAILED" not in fault] == []


def test_a_file_that_comes_by_half_is_named(read: Read) -> None:
    answer_with(read.reader.page, "data/now.json", lambda text: text[: len(text) // 2])
    page = read("en/now.html")
    assert page.locator(".notice").get_attribute("data-file") == "now.json"


def test_without_the_chart_library_there_are_the_numbers(read: Read) -> None:
    read.reader.page.route("**/echarts.common.min.js", lambda route: route.abort())
    page = read(f"en/{VIEWS['station']}")
    expect(page.locator("#history .plot")).to_contain_text(read_texts("en")["script"]["loading_failed_charts"])
    assert len(hours_of(page, "27 Oct")) == 24
    assert [fault for fault in read.reader.taken() if "echarts" not in fault and "net::ERR_FAILED" not in fault] == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_before_there_is_data_each_page_says_so_and_what_to_do(
    read: Read, empty_site: Site, name: str, language: str
) -> None:
    page = read(f"{language}/{name}.html", of=empty_site)

    words = read_texts(language)["script"]
    notice = page.locator("#notices .notice")
    assert notice.count() == 1
    assert notice.get_attribute("data-kind") == "no-data"
    assert words["no_data_how"] in (notice.text_content() or "")
    assert text_of(page, "#snapshot-time") == words["no_snapshot"]
    assert count(page, "canvas, .station, .cell") == 0
    for holder in page.locator(".plot:visible, .map:visible, .heat-holder:visible, .calendar-holder:visible").all():
        assert words["no_data_part"] in (holder.text_content() or "")
    assert count(page, "main > :not([hidden]) tbody:empty") == 0


@pytest.mark.parametrize("name", PAGES)
def test_one_station_in_one_snapshot_is_enough(read: Read, small_site: Site, name: str) -> None:
    path = "station.html?id=15001" if name == "station" else f"{name}.html"
    page = read(f"en/{path}", of=small_site)
    assert count(page, '.notice:not([data-kind="old"])') == 0
    if name == "now":
        assert count(page, "#map .station") == count(page, "#stations-table tbody tr[data-id]") == 1


# --- the first view --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_views(browser: Browser, site: Site) -> dict[str, FirstView]:  # noqa: F811 - a fixture
    return {name: first_view(browser, f"{site.url}en/{path}") for name, path in VIEWS.items()}


@pytest.mark.parametrize("name", VIEWS)
def test_the_first_view_waits_for_nothing_but_the_style_sheet(first_views: dict[str, FirstView], name: str) -> None:
    assert first_views[name].blocking == ["static/css/site.css"]


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_moves_while_a_page_is_drawn(first_views: dict[str, FirstView], name: str) -> None:
    assert first_views[name].layout_shift < 0.1


@pytest.mark.parametrize("name", VIEWS)
def test_a_page_is_small(first_views: dict[str, FirstView], name: str) -> None:
    view = first_views[name]
    assert f"en/{name}.html" in view.sizes
    assert min(view.sizes.values()) > 0, view.sizes
    assert view.sent < 1_500_000, view.sizes
    assert len(view.sizes) < 20, view.sizes


def test_pictures_of_pages_can_be_saved(browser: Browser, site: Site, tmp_path: Path) -> None:  # noqa: F811
    saved = save_pictures(browser, site, tmp_path / "pictures", {"list": LIST})
    assert [picture.name for picture in saved] == ["list-phone-dark-pl.png", "list-desktop-light-en.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in saved)

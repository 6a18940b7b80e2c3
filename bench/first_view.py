"""The first view of a page of the site in Chromium: how soon it is there, what it costs, and whether anything moves."""

import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

from playwright.sync_api import Browser, ViewportSize, sync_playwright

_LOADS: Final = 5
_DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 900}
# Nothing but the page: no updates, no reports, no sandbox (a container has no user namespaces), no graphics card.
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# In the page before its own scripts: what moves without the reader's doing, and when the page says that all is drawn.
_WATCH: Final = """
window.firstView = { shift: 0, ready: 0 };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.firstView.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
new MutationObserver((_, observer) => {
  if (document.body?.dataset.ready !== "true") return;
  window.firstView.ready = performance.now();
  observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-ready"] });
"""
# Two frames later all that was drawn has been laid out, and a shift has been reported.
_READ: Final = """
() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => {
  const [page] = performance.getEntriesByType("navigation");
  const resources = performance.getEntriesByType("resource");
  const name = (entry) => new URL(entry.name).pathname.split("/site/").at(-1);
  done({
    first_contentful_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    load_ms: page.loadEventEnd,
    ready_ms: window.firstView.ready,
    layout_shift: window.firstView.shift,
    sizes: Object.fromEntries([page, ...resources].map((entry) => [name(entry), entry.transferSize])),
    blocking: resources.filter((entry) => entry.renderBlockingStatus === "blocking").map(name),
  });
}))))
"""


class BrowserMissingError(RuntimeError):
    """There is no Chromium on this machine."""


@dataclass(frozen=True)
class FirstView:
    """A page as someone sees it who has never been there.

    Attributes:
        first_contentful_paint_ms: from the request to the first text or picture, milliseconds.
        load_ms: to the end of the load event.
        ready_ms: until all of the page has been drawn.
        layout_shift: the sum of all layout shifts: what moved, in parts of the window times parts of its height.
        sizes: bytes of each answer with its headers, compressed as sent, by its path under site/.
        blocking: what the browser waited for before it painted anything, besides the page itself.
    """

    first_contentful_paint_ms: float
    load_ms: float
    ready_ms: float
    layout_shift: float
    sizes: dict[str, int]
    blocking: list[str]

    @property
    def sent(self) -> int:
        """Bytes of all answers."""
        return sum(self.sizes.values())


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Run the machine's Chromium without a window.

    While it is open, Playwright's event loop occupies this thread: nothing else can run one here.

    Raises:
        BrowserMissingError: there is none.
    """
    executable = shutil.which("chromium")
    if executable is None:
        raise BrowserMissingError("There is no `chromium` on the PATH. On Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def first_view(browser: Browser, url: str) -> FirstView:
    """Open a page of the site with nothing in the cache, on a desktop, and return how that went."""
    context = browser.new_context(viewport=_DESKTOP)
    try:
        context.add_init_script(_WATCH)
        page = context.new_page()
        page.goto(url, wait_until="load")
        page.locator("body[data-ready=true]").wait_for(state="attached")
        return FirstView(**page.evaluate(_READ))
    finally:
        context.close()


def measure_first_view(url: str) -> dict[str, float]:
    """Return the medians of five cold loads of a page.

    The names are those of `FirstView`; `bytes` and `requests` are of the whole page.
    """
    with open_chromium() as browser:
        views = [first_view(browser, url) for _ in range(_LOADS)]
    numbers = [
        {
            **{name: value for name, value in asdict(view).items() if isinstance(value, float | int)},
            "bytes": view.sent,
            "requests": len(view.sizes),
        }
        for view in views
    ]
    return {name: statistics.median(each[name] for each in numbers) for name in numbers[0]}

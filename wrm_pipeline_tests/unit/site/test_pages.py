"""The pages: complete in both languages, strict about scripts, with every definition, and all of it escaped."""

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import PurePosixPath
from typing import Any, Final

import pytest

from wrm_pipeline.marts.catalogue import Column, Grain, Mart, published
from wrm_pipeline.site.pages import LANGUAGES, PAGES, BuiltFrom, read_texts, render_pages

BUILT_FROM: Final = BuiltFrom("Europe/Warsaw", 300, dt.date(2025, 8, 1), dt.date(2025, 8, 20), "0.1.0+abc")
HOSTILE: Final = "<script>alert(1)</script>"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'none'; base-uri 'none'; form-action 'none'"
)


def mart(name: str = "mv_station_latest", *, is_published: bool = True, words: str = "Bikes & docks") -> Mart:
    return Mart(
        name=name,
        grain=Grain.TABLE,
        published=is_published,
        needs=(),
        key=("station_id",),
        title={"en": words, "pl": words},
        description={"en": words, "pl": words},
        parameters={},
        columns=(Column(name="bikes", type="INTEGER", unit=words, en=words, pl=words),),
        recency_column=None,
        recency_h=None,
        sql="",
    )


class Page(HTMLParser):
    """The tags of a document with their attributes, and what stands inside of scripts and styles."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if attributes.get("id")]  # type: ignore[misc]


def key_paths(words: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(words, dict):
        for key, value in words.items():
            yield from key_paths(value, (*above, str(key)))
    else:
        yield above


def placeholders(words: Any) -> dict[tuple[str, ...], set[str]]:
    found: dict[tuple[str, ...], set[str]] = {}
    for path in key_paths(words):
        text = words
        for key in path:
            text = text.get(key, text.get(int(key)) if key.isdigit() else None)
        # Plural forms of one text hold the same placeholders.
        base = path[:-1] if path[-1] in ("one", "few", "many", "other") else path
        found.setdefault(base, set()).update(re.findall(r"\{(\w+)\}", str(text)))
    return found


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return render_pages(published(), BUILT_FROM)


@pytest.fixture(scope="module")
def pages(files: dict[str, bytes]) -> dict[str, Page]:
    return {name: Page(body) for name, body in files.items() if name.endswith(".html")}


def test_there_is_every_page_in_every_language_and_one_that_chooses(pages: dict[str, Page]) -> None:
    assert set(pages) == {"index.html", *(f"{language}/{page}.html" for language in LANGUAGES for page in PAGES)}


def test_the_same_input_gives_the_same_bytes() -> None:
    assert render_pages(published(), BUILT_FROM) == render_pages(published(), BUILT_FROM)


def test_every_page_forbids_what_it_does_not_need(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
        assert policies == [POLICY], name


def test_no_page_holds_a_script_a_style_or_a_handler_of_its_own(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert page.inline == [], name
        for tag, attributes in page.tags:
            forbidden = [key for key in attributes if key == "style" or key.startswith("on")]
            assert forbidden == [], f"{name}: <{tag}>"


def test_no_script_blocks_the_first_view(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for script in page.all("script"):
            assert script.get("type") == "module" or "defer" in script, f"{name}: {script}"


def test_the_chart_library_is_loaded_only_where_charts_are(pages: dict[str, Page]) -> None:
    charts = {
        name for name, page in pages.items() if any("echarts" in (s.get("src") or "") for s in page.all("script"))
    }
    assert charts == {f"{language}/{page}.html" for language in LANGUAGES for page in ("station", "fleet", "data")}


def test_every_link_is_relative_and_leads_to_a_file_or_an_anchor_that_there_is(
    files: dict[str, bytes], pages: dict[str, Page]
) -> None:
    for name, page in pages.items():
        for tag, attributes in page.tags:
            link = attributes.get("href") or attributes.get("src")
            if link is None:
                continue
            assert not re.match(r"[a-z]+:|/", link), f"{name}: <{tag}> {link}"
            path, _, anchor = link.partition("#")
            parts: list[str] = []
            for part in (PurePosixPath(name).parent / path if path else PurePosixPath(name)).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            target = "/".join(parts)
            if target.startswith("data/"):
                continue  # written by the exporter
            assert target in files, f"{name}: {link}"
            if anchor and target in pages:
                assert anchor in pages[target].ids, f"{name}: {link}"


def test_scripts_import_only_what_is_part_of_the_site(files: dict[str, bytes]) -> None:
    scripts = {name: body.decode() for name, body in files.items() if re.fullmatch(r"static/js/\w+\.js", name)}
    for name, text in scripts.items():
        for module in re.findall(r'from "\./([\w.]+)"', text):
            assert f"static/js/{module}" in files, f"{name} imports {module}"
        assert "innerHTML" not in text, name
        assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), name


def test_what_a_page_announces_it_will_load_is_what_its_script_imports(
    files: dict[str, bytes], pages: dict[str, Page]
) -> None:
    for name, page in pages.items():
        if name == "index.html":
            continue
        announced = {
            (link["href"] or "").rpartition("/")[2] for link in page.all("link") if link["rel"] == "modulepreload"
        }
        needed: set[str] = set()
        waiting = [PurePosixPath(name).stem + ".js"]
        while waiting:
            text = files[f"static/js/{waiting.pop()}"].decode()
            new = set(re.findall(r'from "\./([\w.]+)"', text)) - needed
            needed |= new
            waiting.extend(sorted(new))
        assert announced == needed | {f"texts.{name[:2]}.js"}, name


def test_a_page_says_its_language_and_leads_to_the_same_page_in_the_other(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        if name == "index.html":
            continue
        language, file = name.split("/")
        other = "pl" if language == "en" else "en"
        assert page.all("html") == [{"lang": language}]
        link = next(anchor for anchor in page.all("a") if anchor.get("id") == "other-language")
        assert (link["href"], link["lang"]) == (f"../{other}/{file}", other)


def test_a_page_has_one_heading_of_the_first_rank_landmarks_a_skip_link_and_no_id_twice(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert len(page.all("h1")) == 1, name
        assert len(page.all("main")) == 1, name
        assert sorted(page.ids) == sorted(set(page.ids)), name
        if name != "index.html":
            assert [anchor for anchor in page.all("a") if anchor.get("class") == "skip"] == [
                {"class": "skip", "href": "#main"}
            ]
            current = [anchor["href"] for anchor in page.all("a") if anchor.get("aria-current") == "page"]
            assert current == [name.split("/")[1]]


def test_every_heading_of_a_table_says_what_it_heads(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert all(heading.get("scope") in ("col", "row") for heading in page.all("th")), name


def test_both_languages_have_the_same_texts_with_the_same_placeholders() -> None:
    english, polish = placeholders(read_texts("en")), placeholders(read_texts("pl"))
    assert set(english) == set(polish)
    assert {path: names for path, names in english.items() if names != polish[path]} == {}


def test_every_text_that_scripts_ask_for_by_name_is_there(files: dict[str, bytes]) -> None:
    texts = {".".join(path) for path in placeholders(read_texts("en")["script"])}
    asked = {
        path
        for name, body in files.items()
        if re.fullmatch(r"static/js/\w+\.js", name)
        for path in re.findall(r'\bt\("([\w.]+)"', body.decode())
    }
    assert asked - texts == set()
    assert len(asked) > 50  # the pattern still finds them


def test_every_column_that_a_page_explains_is_a_column_of_its_mart() -> None:
    marts = {mart.name: {column.name for column in mart.columns} for mart in published()}
    for language in LANGUAGES:
        for page, words in read_texts(language).items():
            for section, columns_by_mart in words.items():
                if section.startswith("meanings"):
                    for name, columns in columns_by_mart.items():
                        assert set(columns) <= marts[name], f"{language}.{page}.{section}: {name}"


def test_every_published_mart_and_column_is_defined_on_the_page_on_data(files: dict[str, bytes]) -> None:
    for language in LANGUAGES:
        page = Page(files[f"{language}/data.html"])
        expected = {f"def-{m.name}" for m in published()} | {
            f"def-{m.name}.{c.name}" for m in published() for c in m.columns
        }
        assert {identifier for identifier in page.ids if identifier.startswith("def-")} == expected


def test_definitions_are_escaped_and_stand_next_to_the_numbers_too() -> None:
    files = render_pages([mart(words=HOSTILE)], BUILT_FROM)
    for page in ("en/data.html", "en/now.html"):
        assert HOSTILE.encode() not in files[page]
        assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in files[page]


def test_internal_marts_are_not_shown() -> None:
    files = render_pages([mart("stg_secret", is_published=False), mart()], BUILT_FROM)
    assert b"stg_secret" not in b"".join(files.values())


def test_without_definitions_the_pages_are_made_and_say_so() -> None:
    files = render_pages([], BUILT_FROM)
    assert read_texts("en")["data"]["definitions_none"].encode() in files["en/data.html"]


def test_the_footer_names_the_days_the_zone_the_interval_and_the_version(files: dict[str, bytes]) -> None:
    footer = files["en/now.html"].decode().partition("<footer")[2]
    for part in ("2025-08-01", "2025-08-20", "Europe/Warsaw", "every 5 minutes", "0.1.0+abc"):
        assert part in footer


def test_the_footer_says_that_there_is_no_data_yet() -> None:
    files = render_pages([], replace(BUILT_FROM, first_day=None, newest_day=None))
    assert "No snapshots yet" in files["en/now.html"].decode()


def test_only_the_footer_changes_from_day_to_day(files: dict[str, bytes]) -> None:
    later = render_pages(published(), replace(BUILT_FROM, newest_day=dt.date(2025, 8, 21)))
    assert {name for name in files if files[name] != later[name]} == {
        f"{lang}/{page}.html" for lang in LANGUAGES for page in PAGES
    }
    assert files["en/now.html"].replace(b"2025-08-20", b"2025-08-21") == later["en/now.html"]


def test_an_interval_that_is_no_whole_number_of_minutes_is_said_as_it_is() -> None:
    files = render_pages([], replace(BUILT_FROM, interval_s=90))
    assert "every 1.5 minutes" in files["en/now.html"].decode()


def test_vendored_files_are_those_that_the_readme_names(files: dict[str, bytes]) -> None:
    named = dict(re.findall(r"\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|", files["static/vendor/README.md"].decode()))
    scripts = {name: body for name, body in files.items() if name.startswith("static/vendor/") and name.endswith(".js")}
    assert {f"static/vendor/{name}": digest for name, digest in named.items()} == {
        name: hashlib.sha256(body).hexdigest() for name, body in scripts.items()
    }
    assert {"static/vendor/echarts/LICENSE", "static/vendor/echarts/NOTICE"} <= set(files)


def test_what_a_page_needs_before_its_charts_is_small(files: dict[str, bytes]) -> None:
    own = sum(len(body) for name, body in files.items() if name.startswith(("static/js/", "static/css/", "en/now")))
    assert own < 200_000

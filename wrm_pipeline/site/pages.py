"""The site's files that are not data: pages in English and Polish, styles, scripts, the words that scripts show.

Pure: what moves with the data is read by the pages' scripts from site/data/, so these files change when the code does,
and once a day, when the footer names a new day. What a page says is in texts/, how it is built in templates/.
"""

import datetime as dt
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wrm_pipeline.marts.catalogue import Mart

_FOLDER: Final = Path(__file__).parent
LANGUAGES: Final = ("en", "pl")
PAGES: Final = ("now", "reliability", "station", "fleet", "data")

# What each page's script imports and reads first: fetched while the page is still being parsed.
_DATA: Final[Mapping[str, tuple[str, ...]]] = {
    "now": ("meta", "now"),
    "reliability": ("meta", "reliability"),
    "station": ("meta", "stations"),
    "fleet": ("meta", "fleet"),
    "data": ("meta", "quality"),
}
_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "now": ("core", "tables", "map"),
    "reliability": ("core", "tables", "heat"),
    "station": ("core", "tables", "charts"),
    "fleet": ("core", "tables", "map", "charts"),
    "data": ("core", "tables", "charts"),
}


@dataclass(frozen=True)
class BuiltFrom:
    """What the footer says of the site's sources.

    `time_zone` is the city's (IANA name), `interval_s` the polling interval in seconds; the days are UTC, None when
    there is no data.
    """

    time_zone: str
    interval_s: int
    first_day: dt.date | None
    newest_day: dt.date | None
    code_version: str


def render_pages(definitions: Iterable[Mart], built_from: BuiltFrom) -> dict[str, bytes]:
    """Return every file of the site but its data, by its path under `site/`.

    Args:
        definitions: the tables whose columns the pages explain; those that are not published are left out.
        built_from: what the footer says.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    marts = {mart.name: mart for mart in definitions if mart.published}
    files = _static_files()
    texts = {language: read_texts(language) for language in LANGUAGES}
    files["index.html"] = environment.get_template("index.html.j2").render(texts=texts).encode()
    for language in LANGUAGES:
        words = texts[language]
        files[f"static/js/texts.{language}.js"] = _module(words["script"])
        for page in PAGES:
            html = environment.get_template(f"{page}.html.j2").render(
                page=page,
                pages=PAGES,
                language=language,
                other_language=next(other for other in LANGUAGES if other != language),
                words=words,
                text=words[page],
                marts=marts,
                built_from=built_from,
                data_files=_DATA[page],
                modules=(*_MODULES[page], f"texts.{language}"),
                has_charts="charts" in _MODULES[page],
            )
            files[f"{language}/{page}.html"] = html.encode()
    return dict(sorted(files.items()))


@functools.cache
def read_texts(language: str) -> Mapping[str, Any]:
    """Return all words of a language, nested as in texts/<language>.yaml; read once."""
    import yaml

    words: Mapping[str, Any] = yaml.safe_load((_FOLDER / "texts" / f"{language}.yaml").read_text(encoding="utf-8"))
    return words


def _static_files() -> dict[str, bytes]:
    folder = _FOLDER / "static"
    return {
        f"static/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _module(words: Mapping[str, Any] | Sequence[Any]) -> bytes:
    return f"export default {json.dumps(words, ensure_ascii=False, indent=1)};\n".encode()

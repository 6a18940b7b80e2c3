"""One spelling for one name, whatever the feed did to it."""

import functools
import html

import ftfy

# Quotes, ligatures and widths are the owner's spelling; only damage is repaired.
_REPAIR = ftfy.TextFixerConfig(uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False)


@functools.lru_cache(maxsize=16_384)
def normalise_name(name: str) -> str:
    """Return a name without entities, NBSP, mojibake, control characters and superfluous blanks; idempotent.

    A day holds some 800 different names and 215,000 rows, hence the cache.
    """
    if name.isascii() and "&" not in name and name.isprintable():
        return " ".join(name.split())
    seen = name
    for _ in range(8):  # `&amp;amp;` needs a second pass; eight nested encodings are no longer a name
        fixed = " ".join(ftfy.fix_text(html.unescape(seen), _REPAIR).split())
        if fixed == seen:
            break
        seen = fixed
    return seen

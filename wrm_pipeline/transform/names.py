"""One spelling for one name, whatever the feed did to it."""

import functools
import html

import ftfy

# Quotes, ligatures and widths are the owner's spelling; only damage is repaired.
_REPAIR = ftfy.TextFixerConfig(uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False)

# The longest name seen has 49 characters. The time of a repair grows with the square of the length: a row of 32 kB of
# nested entities took a second.
_LONGEST_REPAIRED = 200


@functools.lru_cache(maxsize=16_384)
def normalise_name(name: str) -> str:
    """Return a name without entities, NBSP, mojibake, control characters and superfluous blanks; idempotent.

    What is too long for a name loses its superfluous blanks only.

    A day holds some 800 different names and 215,000 rows, hence the cache.
    """
    plain = " ".join(name.split())
    if len(plain) > _LONGEST_REPAIRED or (name.isascii() and "&" not in name and name.isprintable()):
        return plain
    seen = name
    for _ in range(_LONGEST_REPAIRED):  # `&amp;amp;` may need a second pass; each one shortens what it changes
        fixed = " ".join(ftfy.fix_text(html.unescape(seen), _REPAIR).split())
        if fixed == seen:
            break
        seen = fixed
    return seen

"""One spelling for one name."""

# ruff: noqa: RUF001 - letters that look like others are what this is about

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wrm_pipeline.transform.names import normalise_name
from wrm_pipeline_tests.fixtures.snapshots import recorded


@pytest.mark.parametrize(
    ("received", "name"),
    [
        pytest.param("Rynek", "Rynek", id="nothing to do"),
        pytest.param("  Rynek\t 12  ", "Rynek 12", id="blanks"),
        pytest.param("Plac\u00a0Bema\u00a0", "Plac Bema", id="NBSP"),
        pytest.param("Plac\u2028Bema\u2029", "Plac Bema", id="line separators"),
        pytest.param("Bema\u0085", "Bema…", id="a control character that is a sign in Windows-1252"),
        pytest.param("Bema &amp; Most", "Bema & Most", id="an entity"),
        pytest.param("Bema &amp;amp; Most", "Bema & Most", id="an entity encoded twice"),
        pytest.param("Most < Bema &amp;amp;amp; Plac", "Most < Bema & Plac", id="beside a sign that looks like a tag"),
        pytest.param("&#321;okietka &quot;A&quot;", 'Łokietka "A"', id="numeric and named entities"),
        pytest.param("Plac&nbsp;Bema", "Plac Bema", id="NBSP as an entity"),
        pytest.param("WrocÅ‚aw", "Wrocław", id="mojibake, Windows-1252"),
        pytest.param("GÅ‚Ã³wny", "Główny", id="mojibake of two letters"),
        pytest.param("Dworzec GÅ&#130;Ã³wny", "Dworzec Główny", id="mojibake inside entities"),
        pytest.param("Gło\u0301wny", "Główny", id="letter and accent as two characters"),
        pytest.param("„Pod Mostem” – plac", "„Pod Mostem” – plac", id="quotation marks and dashes are the owner's"),
        pytest.param("Ｒｙｎｅｋ ﬁ", "Ｒｙｎｅｋ ﬁ", id="widths and ligatures are the owner's"),
        pytest.param("", "", id="nothing"),
        pytest.param(" \u00a0 ", "", id="nothing but blanks"),
        pytest.param("Ry\x07nek", "Rynek", id="a control character"),
        pytest.param("R&D", "R&D", id="an ampersand that begins no entity"),
    ],
)
def test_examples(received: str, name: str) -> None:
    assert normalise_name(received) == name


@pytest.mark.parametrize(
    "letters", ["ąćęłńóśźż", "ĄĆĘŁŃÓŚŹŻ", "Świętego Łazarza / Żółkiewskiego", "Gądów Mały", "Źródlana"]
)
def test_polish_letters_are_untouched(letters: str) -> None:
    assert normalise_name(letters) == letters
    assert [normalise_name(letter) for letter in letters.replace(" ", "")] == list(letters.replace(" ", ""))


def test_recorded_names_change_only_where_they_are_damaged() -> None:
    """A repair that is too eager would rename real stations; so each change is one that a human would make."""
    bodies = [recorded(folder)[0].body.decode() for folder in ("ucl_wroclaw", "replay_wroclaw", "ucl_london")]
    lines = [line for body in bodies for line in body.rstrip("\n").split("\n")[1:]]
    names = {line.split(",", 2)[2].rsplit(",", 10)[0].strip('"') for line in lines}
    assert len(names) > 1000

    changed = {name: normalise_name(name) for name in names if normalise_name(name) != name}

    assert all(" ".join(before.replace("&amp;", "&").split()) == after for before, after in changed.items())


def test_what_is_too_long_for_a_name_is_not_repaired() -> None:
    """A repair takes the square of the length: one damaged row of nested entities could hold up a day for hours."""
    assert normalise_name("&" + "amp;" * 2_000_000 + "  x") == "&" + "amp;" * 2_000_000 + " x"
    assert normalise_name("ż&amp;" + " " * 500) == "ż&"


@given(st.text() | st.text("&amp;#x12lt;gquo\u00c5\u201aÃ³ł\u00a0 \u0301\x81"))
@example("&" + "amp;" * 40 + "lt;b&gt;")
@example("<&" + "amp;" * 12)
@example("&amp;#x26;#38;nbsp;")
@example("Å")
@example("&#xD800;&#0;")
def test_a_name_normalised_is_normalised_for_good(text: str) -> None:
    """The name is part of what decides whether a station was renamed."""
    once = normalise_name(text)

    assert normalise_name(once) == once
    assert once == " ".join(once.split())
    once.encode()

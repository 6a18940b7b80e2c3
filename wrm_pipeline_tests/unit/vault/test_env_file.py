"""A `.env` whose secrets are taken out: their values and nothing else."""

import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from wrm_pipeline.settings import SettingsError
from wrm_pipeline.vault.env_file import EnvFile

NAMES = {"redis_url", "wrm_pseudonym_key"}


def emptied(content: str) -> str:
    return EnvFile(Path(".env"), content).without(NAMES).content


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("REDIS_URL=redis://x\n", "REDIS_URL=\n"),
        ("REDIS_URL=redis://x", "REDIS_URL="),
        ("REDIS_URL=redis://x\r\nWRM_ENV=production\r\n", "REDIS_URL=\r\nWRM_ENV=production\r\n"),
        ("\n\n  export REDIS_URL = 'redis://x'  # ours\n", "\n\n  export REDIS_URL =   # ours\n"),
        ('REDIS_URL="redis://\\"x # y"\n', "REDIS_URL=\n"),
        ('REDIS_URL="redis://\nx"\nA=b\n', "REDIS_URL=\nA=b\n"),
        ("REDIS_URL=redis://x#y   # ours\n", "REDIS_URL=   # ours\n"),
        ("REDIS_URL=redis://x \t\n", "REDIS_URL= \t\n"),
        ("redis_url=redis://x\n", "redis_url=\n"),
        ("'REDIS_URL'=redis://x\n", "'REDIS_URL'=\n"),
        ("REDIS_URL=a\nA=b\nREDIS_URL=c\n", "REDIS_URL=\nA=b\nREDIS_URL=\n"),
        ("# REDIS_URL=old\nMY_REDIS_URL=b\n", "# REDIS_URL=old\nMY_REDIS_URL=b\n"),
        ("REDIS_URL=\nREDIS_URL\nREDIS_URL=''\n", "REDIS_URL=\nREDIS_URL\nREDIS_URL=''\n"),
        ("\ufeffREDIS_URL=redis://x\n", "\ufeffREDIS_URL=\n"),
        ("WRM_PSEUDONYM_KEY=a=b=c\nżółć=1\n", "WRM_PSEUDONYM_KEY=\nżółć=1\n"),
    ],
)
def test_the_names_stay_and_everything_else_byte_for_byte(before: str, after: str) -> None:
    assert emptied(before) == after
    assert emptied(after) == after


VALUES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
QUOTED = VALUES.map(lambda value: "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'")
LINES = st.one_of(
    st.tuples(
        st.sampled_from(["REDIS_URL", "export WRM_PSEUDONYM_KEY", "OTHER", "redis_url"]),
        st.sampled_from(["=", " = "]),
        st.one_of(VALUES, QUOTED),
        st.sampled_from(["", "  # why", " "]),
    ).map("".join),
    st.sampled_from(["", "# comment", "  "]),
)


@given(st.lists(LINES, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_whatever_the_file_holds_the_others_keep_their_values_or_it_is_refused(lines: list[str], newline: str) -> None:
    content = newline.join(lines) + newline
    file = EnvFile(Path(".env"), content)
    before = file.values()
    try:
        after = file.without(NAMES)
    except SettingsError:
        return

    assert after.values() == {name: value for name, value in before.items() if name not in NAMES}
    kept = [line for line in lines if not line.lower().lstrip().startswith(("redis", "export", "'"))]
    assert all(line in after.content for line in kept)


def test_values_are_those_that_the_settings_see(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "PASSWORD=s3cret\nREDIS_URL='redis://:${PASSWORD}@host'\nredis_url=redis://later\nEMPTY=\nBLANK=' '\n"
    )
    file = EnvFile.read(path)

    assert file.values() == {"password": SecretStr("s3cret"), "redis_url": SecretStr("redis://later")}
    assert dotenv_values(path)["REDIS_URL"] == "redis://:s3cret@host"


def test_a_value_that_is_also_elsewhere_is_found() -> None:
    file = EnvFile(Path(".env"), "REDIS_URL=\n# was redis://:s3cret@host\nOTHER=x\n")

    assert file.lines_with([SecretStr("redis://:s3cret@host"), SecretStr("x")]) == [2]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_file_is_replaced_in_one_step_and_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path, link = tmp_path / "real.env", tmp_path / ".env"
    path.write_text("REDIS_URL=redis://x\n")
    path.chmod(mode)
    link.symlink_to(path)
    file = EnvFile.read(link)
    with path.open() as reader:
        file.replace(file.without(NAMES))
        assert reader.read() == "REDIS_URL=redis://x\n", "who reads the old file reads all of it"

    assert link.is_symlink()
    assert path.read_text() == "REDIS_URL=\n"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert {entry.name for entry in tmp_path.iterdir()} == {".env", "real.env"}


def test_a_file_that_somebody_has_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("REDIS_URL=redis://x\n")
    file = EnvFile.read(path)
    path.write_text("REDIS_URL=redis://y\n")

    with pytest.raises(SettingsError, match="was changed meanwhile"):
        file.replace(file.without(NAMES))

    assert path.read_text() == "REDIS_URL=redis://y\n"


def test_a_file_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("REDIS_URL=redis://x\n")
    (tmp_path / ".env.new").mkdir()  # root is not stopped by permissions
    file = EnvFile.read(path)

    with pytest.raises(SettingsError, match="cannot be rewritten"):
        file.replace(file.without(NAMES))

    assert path.read_text() == "REDIS_URL=redis://x\n"


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\.env cannot be read \(No such file"):
        EnvFile.read(tmp_path / ".env")
    (tmp_path / ".env").write_bytes(b"REDIS_URL=\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        EnvFile.read(tmp_path / ".env")


def test_its_repr_shows_no_value() -> None:
    assert "s3cret" not in repr(EnvFile(Path(".env"), "REDIS_URL=s3cret"))

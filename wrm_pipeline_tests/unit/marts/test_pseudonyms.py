"""Pseudonyms: the published algorithm, the same in SQL, and nothing to guess without the key."""

import hmac

import duckdb
import pytest

from wrm_pipeline.marts.pseudonyms import pseudonymise, register


def test_it_is_the_beginning_of_hmac_sha256() -> None:
    """Test case 2 of RFC 4231, cut to 64 bits."""
    assert pseudonymise(b"Jefe", "what do ya want for nothing?") == "5bdcc146bf60754e"


def test_a_text_is_taken_as_utf_8() -> None:
    assert pseudonymise(b"k", "ł") != pseudonymise(b"k", "l")
    assert pseudonymise(b"k", "ł") == hmac.new(b"k", b"\xc5\x82", "sha256").hexdigest()[:16]


def test_another_key_gives_another_pseudonym() -> None:
    assert pseudonymise(b"one", "fb604692") != pseudonymise(b"two", "fb604692")


def test_ten_thousand_bikes_have_as_many_pseudonyms() -> None:
    assert len({pseudonymise(b"k", f"fb{number}") for number in range(600_000, 610_000)}) == 10_000


def test_an_empty_key_is_refused_and_names_the_setting() -> None:
    with pytest.raises(ValueError, match="WRM_PSEUDONYM_KEY"):
        pseudonymise(b"", "fb604692")
    with duckdb.connect() as connection, pytest.raises(ValueError, match="WRM_PSEUDONYM_KEY"):
        register(connection, b"")


def test_sql_gives_the_same_and_leaves_null_alone() -> None:
    with duckdb.connect() as connection:
        register(connection, b"k")
        found = connection.sql("SELECT pseudonym(x) FROM (VALUES ('fb604692'), (NULL), ('ł')) AS t(x)").fetchall()

    assert found == [(pseudonymise(b"k", "fb604692"),), (None,), (pseudonymise(b"k", "ł"),)]


def test_many_rows_on_many_threads_are_each_their_own() -> None:
    # 10,000 rows are five of DuckDB's vectors.
    with duckdb.connect(config={"threads": 4}) as connection:
        register(connection, b"k")
        rows = connection.sql("SELECT x::VARCHAR, pseudonym(x::VARCHAR) FROM range(10000) AS t(x)").fetchall()

    assert all(pseudonym == pseudonymise(b"k", text) for text, pseudonym in rows)
    assert len(rows) == 10_000

"""Pseudonyms of bike ids: what is published must not say which bike it was, nor that two rows are of the same one."""

import functools
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# 64 bits: among n pseudonyms some two are the same with a chance of about n * n / 2 ** 65. That is 3 in 100 million for
# a million moves, and 3 in 10,000 for a hundred million.
_DIGITS: Final = 16


def pseudonymise(key: bytes, text: str) -> str:
    """Return the first 16 hex digits (64 bits) of the HMAC-SHA256 (RFC 2104) of a text in UTF-8.

    Without the key it can be neither reversed nor held against a guess.

    Raises:
        ValueError: the key is empty.
    """
    if not key:
        raise ValueError(
            "the key of pseudonyms is empty, so anybody could try all ids; set WRM_PSEUDONYM_KEY to a secret text"
        )
    return hmac.digest(key, text.encode(), "sha256").hex()[:_DIGITS]


def register(connection: "DuckDBPyConnection", key: bytes) -> None:
    """Make the SQL function `pseudonym(VARCHAR) -> VARCHAR`, which is `pseudonymise` with this key; null stays null.

    Raises:
        ValueError: the key is empty.
    """
    from duckdb.sqltypes import VARCHAR

    pseudonymise(key, "")
    # 3 us a row; a vectorised Arrow function takes as long, since the hash is most of it.
    connection.create_function("pseudonym", functools.partial(pseudonymise, key), [VARCHAR], VARCHAR)

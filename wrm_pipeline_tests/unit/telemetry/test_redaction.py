"""What is known to be secret, or looks like it, is in no text that comes out of `redact`; everything else is."""

import base64
import html
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import redaction
from wrm_pipeline.telemetry.redaction import REDACTED, redact, redact_tree, register_secret, register_secrets_of

# Every way in which a library has been seen to show a value.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda text: quote(text, safe=""),
    "in a path": quote,
    "in a query": quote_plus,
    "in a URL, lower case": lambda text: "".join(
        chr(byte) if quote(bytes([byte]), safe="") == chr(byte) else f"%{byte:02x}" for byte in text.encode()
    ),
    "twice in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "repr": lambda text: repr(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "HTML": html.escape,
}
SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cs", "Zs", "Cc"]), min_size=8, max_size=60
)
# What stands around it, in letters that no encoding uses, so that the rest can be told from the secret.
AROUND = st.text(st.characters(min_codepoint=0x400), max_size=40)


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redaction, "_values", set())
    patch.setattr(redaction, "_forms", ())


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(secret=SECRETS, before=AROUND, after=AROUND)
def test_a_registered_secret_survives_nowhere_in_no_encoding(
    encoding: str, secret: str, before: str, after: str
) -> None:
    shown = ENCODINGS[encoding](secret)
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        register_secret(secret)

        clean = redact(before + shown + after)

    # The last character of base64 may hold bits of what follows, and padding; it tells 4 bits at most.
    rest = "[\\w+/-]?=*" if encoding.startswith("base64") else ""
    assert re.fullmatch(re.escape(before + REDACTED) + rest + re.escape(after), clean)


@given(secret=SECRETS, before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_nor_in_base64_of_something_longer(secret: str, before: bytes, after: bytes) -> None:
    """As in Basic authentication: base64 of "user:password"."""
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        register_secret(secret)

        clean = redact(f"Basic {encoded}!")

    assert REDACTED in clean
    # At most the characters at the edges, which hold bits of a neighbour too.
    rest = len(clean) - len("Basic !") - len(REDACTED)
    assert rest <= len(encoded) - len(secret.encode()) * 8 // 6 + 1


@given(st.text(st.characters(exclude_characters="=:")))
def test_a_text_without_secrets_stays_as_it_is_byte_for_byte(text: str) -> None:
    register_secret("a secret that is not in the text")

    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "GET s3://wrm-local/bike-data/gen_info/raw/dt=2025-05-12/a.txt: attempt 1 of 5 failed, trying again in 0.20 s",
        "S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY not set. Set the variable, or put it in .env (see .env.example)",
        "InvalidAccessKeyId: the store does not know the key; check S3_ACCESS_KEY_ID",
        "vault_secret_id_file=/run/credentials/secret-id ContinuationToken=abc max_tokens=5 token=None",
        "StoreSettings(secret_access_key=SecretStr('**********'), timeout_s=20.0)",
        "https://fsn1.your-objectstorage.com:443/bucket?list-type=2&prefix=a@b",
        "Unwrapping the secret id failed: the token has been used already.",
        "",
    ],
)
def test_what_only_speaks_of_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://:[redacted]@cache:6379/0"),
        ("https://me:p@ss:w@example.org/x?y=1", "https://me:[redacted]@example.org/x?y=1"),
        ("Authorization: Bearer abc.def next", "Authorization: [redacted] next"),
        (
            "{'Authorization': b'AWS4-HMAC-SHA256 Credential=AK/x, Signature=ab', 'Host': 'h'}",
            "{'Authorization': b'[redacted]', 'Host': 'h'}",
        ),
        ("b'GET / HTTP/1.1\\r\\nX-Vault-Token: s.abc\\r\\n'", "b'GET / HTTP/1.1\\r\\nX-Vault-Token: [redacted]\\r\\n'"),
        (
            "http://h/k?X-Amz-Credential=AK%2F1&X-Amz-Signature=0f&x=1",
            "http://h/k?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]&x=1",
        ),
        ("Signature:\n" + "0f" * 32, "Signature:\n[redacted]"),
        ("S3_SECRET_ACCESS_KEY=abc HOME=/x", "S3_SECRET_ACCESS_KEY=[redacted] HOME=/x"),
        ("environ({'VAULT_TOKEN': 'abc', 'HOME': '/x'})", "environ({'VAULT_TOKEN': '[redacted]', 'HOME': '/x'})"),
        ('{"password": "a\\"b", "n": 1}', '{"password": "[redacted]", "n": 1}'),
        ('"{\\"password\\": \\"ab\\", \\"n\\": 1}"', '"{\\"password\\": \\"[redacted]\\", \\"n\\": 1}"'),
        ("connect(token='x y', n=3)", "connect(token='[redacted]', n=3)"),
    ],
)
def test_what_looks_like_a_secret_goes_although_nobody_registered_it(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize("word", ["token", '"token', "token='x", '\\"token":"', "://a:", "a.b+c-", "cookie: ", '"' * 9])
def test_a_long_text_takes_no_longer_than_it_is_long(word: str) -> None:
    """A pattern without bounds once took 40 s for 100,000 letters."""
    text = word * (100_000 // len(word))
    start = time.process_time()

    redact(text)

    assert time.process_time() - start < 5


def test_values_shorter_than_8_characters_are_left_alone() -> None:
    register_secret("bicycle")

    assert redact("bicycle") == "bicycle"


def test_of_an_address_the_password_is_a_secret_of_its_own_and_of_an_alert_s_address_the_tokens() -> None:
    register_secret("redis://:swordfish%2F99@cache-of-the-pipeline:6379/0")
    register_secret("slack://TokenOfSixteenCh/AnotherLongToken42/x, mailto://me:correcthorse@example.org")

    for part in ("swordfish%2F99", "swordfish/99", "TokenOfSixteenCh", "AnotherLongToken42", "correcthorse"):
        assert redact(f"({part})") == f"({REDACTED})"
    assert redact("example.org, cache-of-the-pipeline:6379, me") == "example.org, cache-of-the-pipeline:6379, me"


def test_every_secret_of_the_settings_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = {
        "S3_ACCESS_KEY_ID": "canary-s3-key-id",
        "S3_SECRET_ACCESS_KEY": "canary-s3-secret",
        "VAULT_TOKEN": "canary-vault-token",
        "VAULT_SECRET_ID": "canary-vault-secret-id",
        "REDIS_URL": "redis://:canary-redis@localhost:6379/0",
        "WRM_PSEUDONYM_KEY": "canary-pseudonym-key-of-32-letters",
        "WRM_ALERT_URLS": "slack://canary-alert-token-of-slack",
        "OPENLINEAGE_API_KEY": "canary-lineage-key",
    }
    for name, value in canaries.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    secrets = [name for name in type(settings).model_fields if isinstance(getattr(settings, name), SecretStr)]
    assert {name.upper() for name in secrets} == set(canaries), "a new secret needs a canary here"

    register_secrets_of(settings)

    for value in canaries.values():
        assert "canary" not in redact(f"it is {value}.")


def test_data_is_redacted_in_depth_and_becomes_plain() -> None:
    register_secret("a-long-secret")

    clean = redact_tree({"a": ["a-long-secret", 1, None, True, float("nan")], "b": ({"c": b"a-long-secret"},)})

    assert clean == {"a": [REDACTED, 1, None, True, "nan"], "b": [{"c": f"b'{REDACTED}'"}]}

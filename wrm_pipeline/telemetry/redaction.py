"""What must not be written down, and how a text gets rid of it.

Two nets: the values of known secrets, in every form in which a library may show them, and patterns of what looks like
a secret although nobody registered it. No logging and no Dagster here, and nothing that costs time to import, so that
whoever gets hold of a secret can register it at once.
"""

import base64
import html
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretStr

REDACTED: Final = "[redacted]"
# Shorter ones are no secrets worth the name, and would take words out of every message.
LEAST_LENGTH: Final = 8
# A part of an alert's address (a token in its path) counts as a secret of its own from this length.
_LEAST_PART_LENGTH: Final = 16
# Where of an address only the password is a secret; of an alert's, anything can be a token.
_PLAIN_ADDRESSES: Final = frozenset({"redis", "rediss", "unix"})

_lock = threading.Lock()
_values: set[str] = set()
# All forms of all values, longest first, so that no rest of a longer one stays. Replaced, never changed.
_forms: tuple[str, ...] = ()


def register_secret(value: str | SecretStr | None) -> None:
    """Let this value, in any encoding, never be written down by this process; cheap when it is known already.

    Values shorter than 8 characters are left alone. Of an address, its password counts too, and of several addresses
    (alerts) the long parts of each.
    """
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not value or value in _values:
        return
    global _forms  # noqa: PLW0603 - one registry a process, as there is one log
    with _lock:
        _values.add(value)
        parts = {part.strip() for part in _parts(value)}
        new = {form for part in parts if len(part) >= LEAST_LENGTH for form in _forms_of(part)}
        _forms = tuple(sorted(new.union(_forms), key=lambda form: (-len(form), form)))


def register_secrets_of(settings: BaseModel) -> None:
    """Register every `SecretStr` of a model such as `Settings`."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            register_secret(value)


def _parts(value: str) -> Iterator[str]:
    """Give a secret, and what of it is a secret by itself."""
    yield value
    for address in re.split(r"[\s,]+(?=[a-z][a-z0-9+.-]*://)|\s+", value):
        if "://" not in address:
            continue
        yield address
        try:
            parts = urlsplit(address)
            password, user = parts.password, parts.username
        except ValueError:  # no address after all
            continue
        if password:
            yield from (password, unquote(password))
        if parts.scheme in _PLAIN_ADDRESSES:
            continue
        host = parts.netloc.rpartition("@")[2]  # a token, for some; `hostname` would be in lower case
        yield from (p for p in (user, host, *re.split(r"[/&=?]", parts.path + "?" + parts.query)) if _looks_random(p))


def _looks_random(part: str | None) -> TypeGuard[str]:
    return part is not None and len(part) >= _LEAST_PART_LENGTH and "." not in part


def _forms_of(value: str) -> set[str]:
    """Return the forms in which a value may show up in a log."""
    raw = value.encode("utf-8", "surrogatepass")
    escaped = [value, repr(value)[1:-1], repr(raw)[2:-1], json.dumps(value)[1:-1], html.escape(value)]
    # Text in text, as an error that quotes JSON: once more.
    escaped += [json.dumps(form)[1:-1] for form in escaped] + [repr(form)[1:-1] for form in escaped]
    quoted = [quote(raw, safe=""), quote(raw), quote_plus(raw)]
    quoted += [quote(form, safe="") for form in quoted] + [re.sub("%..", _lower, form) for form in quoted]
    forms = {*escaped, *quoted, raw.hex(), raw.hex().upper(), *_base64_forms(raw)}
    return {form for form in forms if len(form) >= LEAST_LENGTH}


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()


def _base64_forms(raw: bytes) -> Iterator[str]:
    """Give what base64 makes of the bytes wherever they stand in what is encoded, as in "user:password"."""
    for before in range(3):
        padded = bytes(before) + raw
        # The characters that depend on these bytes alone: 6 bits each, without those shared with a neighbour.
        first, last = (before * 8 + 5) // 6, len(padded) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            core = encode(padded).decode()[first:last]
            yield core
            yield quote(core, safe="")


# Lengths have bounds here, since without them a long word costs the square of its length: 40 s for 100,000 letters.
_TELLING_NAME = (
    r"[\w.-]{0,64}(?:secret|token|passw(?:or)?d|passphrase|access[_-]?key|api[_-]?key|private[_-]?key|pseudonym[_-]?key"
    r"|alert[_-]?urls|credential)[\w.-]{0,64}"
)
# Names of where a secret lies or how long it lives; and S3's place in a listing, which a debugger needs.
_HARMLESS_NAME = re.compile(r"(?i)(?:_|\b)(?:file|path|dir|ttl|name|names|count|type|class|tokens)$|continuation")
_HEADER = r"(?:proxy-)?authorization|x-vault-token|x-vault-wrap-token|x-api-key|x-amz-security-token|(?:set-)?cookie"

_URL_PASSWORD = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,20}://[^\s/?#@:\"'<>]*:)([^\s/?#\"'<>]+)(@)")
_QUOTED_HEADER = re.compile(
    rf"(?i)((\\{{0,8}}[\"'])(?:{_HEADER})\2\s*:\s*b?(\\{{0,8}}[\"']))(.{{0,8192}}?)(?<!\\)(\3)", re.DOTALL
)
_BARE_HEADER = re.compile(
    rf"(?i)((?:{_HEADER})\s*[:=]\s*)"
    r"((?:basic|bearer|digest|negotiate|token)\s+[^\s\"'\\]+|AWS4-HMAC-SHA256\s+[^\r\n\"'\\]+|[^\s\"'\\]+)"
)
_AWS_QUERY = re.compile(r"(?i)(\bx-amz-(?:signature|credential|security-token)(?:=|%3D))([^&\s\"'<>\\]+)")
_AWS_SIGNATURE = re.compile(r"(?i)(\bsignature\s*[:=]\s*)([0-9a-f]{40,})")
_AWS_CREDENTIAL = re.compile(r"(\bCredential=)([^\s,&\"'\\]+)")
_QUOTED_VALUE = re.compile(
    rf"(?i)((\\{{0,8}}[\"'])({_TELLING_NAME})\2\s*[:=]\s*b?(\\{{0,8}}[\"']))(.{{1,8192}}?)(?<!\\)(\4)", re.DOTALL
)
_ASSIGNED_QUOTED = re.compile(
    rf"(?i)((?<![\w.-])({_TELLING_NAME})\s?=\s?b?(\\{{0,8}}[\"']))(.{{1,8192}}?)(?<!\\)(\3)", re.DOTALL
)
_ASSIGNED = re.compile(rf"(?i)((?<![\w.-])({_TELLING_NAME})=)([^\s,;&)}}\]\"'<>\\]+)")
# One pass over the text tells whether any of them but the first can match at all.
_TRIGGER = re.compile(
    r"(?i)authorization|x-vault|x-api|x-amz|cookie|signature|credential|secret|token|passw|passphrase"
    r"|access[_-]?key|api[_-]?key|private[_-]?key|pseudonym[_-]?key|alert[_-]?urls"
)
_NOTHING = re.compile(r"(?i)none|null|true|false|SecretStr\(|\[redacted|\*+")


def redact(text: str) -> str:
    """Return a text without known secrets and without what looks like one; unchanged when it holds none."""
    for form in _forms:
        if form in text:
            text = text.replace(form, REDACTED)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<1>{REDACTED}\3", text)
    if not _TRIGGER.search(text):
        return text
    text = _QUOTED_HEADER.sub(rf"\g<1>{REDACTED}\5", text)
    text = _BARE_HEADER.sub(rf"\g<1>{REDACTED}", text)
    text = _AWS_QUERY.sub(rf"\g<1>{REDACTED}", text)
    text = _AWS_SIGNATURE.sub(rf"\g<1>{REDACTED}", text)
    text = _AWS_CREDENTIAL.sub(rf"\g<1>{REDACTED}", text)
    text = _QUOTED_VALUE.sub(_named(name=3, value=5, after=6), text)
    text = _ASSIGNED_QUOTED.sub(_named(name=2, value=4, after=5), text)
    return _ASSIGNED.sub(_named(name=2, value=3, after=None), text)


def _named(*, name: int, value: int, after: int | None) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        if _HARMLESS_NAME.search(match[name]) or _NOTHING.match(match[value]):
            return match[0]
        return f"{match[1]}{REDACTED}{match[after] if after else ''}"

    return replace


def may_hold_secret(text: str) -> bool:
    """Tell, fast, whether `redact` could change a text or a part of what it encodes as JSON."""
    return "://" in text or _TRIGGER.search(text) is not None or any(form in text for form in _forms)


def is_secret_name(name: str) -> bool:
    """Tell whether a name says that its value is a secret."""
    return re.fullmatch(f"(?i){_TELLING_NAME}", name) is not None and not _HARMLESS_NAME.search(name)


def redact_tree(value: Any) -> Any:
    """Return a value as JSON-like data with every text in it redacted; what JSON has no word for becomes its text."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): redact_tree(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_tree(entry) for entry in value]
    return redact(str(value))

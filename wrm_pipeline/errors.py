"""What failures have in common: those that are told in one sentence, and words for what lies below others."""

import ssl
from typing import Any


class ExpectedError(Exception):
    """What may well happen, told in one sentence that names the place and the remedy, without a traceback."""


def words_of(error: BaseException) -> str:
    """Return the operating system's or OpenSSL's words for a failure, or the name of its class; both hold no secret."""
    found = type(error).__name__
    waiting: list[Any] = [error]
    seen: set[int] = set()  # the same one is often the context and an argument
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason
        if isinstance(cause, OSError) and cause.strerror:
            found = cause.strerror
        # requests and urllib3 keep the cause among the arguments, as `reason`, or as the usual attributes.
        inner = [cause.__cause__ or cause.__context__, getattr(cause, "reason", None), *cause.args[:1]]
        waiting += [one for one in inner if isinstance(one, BaseException)]
    return found

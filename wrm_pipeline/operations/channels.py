"""Sends a message to the channels of WRM_ALERT_URLS: mail, Slack, Telegram, a webhook and what else apprise knows.

A channel is known by its place in the setting, so that an address that was corrected gets what the wrong one did not.
Addresses hold secrets: what apprise and the libraries below it log while they send is not passed on.
"""

import errno
import functools
import logging
import re
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wrm_pipeline.operations.alerts import Message
from wrm_pipeline.resilience import OptionalPart

if TYPE_CHECKING:
    from apprise import Apprise

SETTING: Final = "WRM_ALERT_URLS"
# Mail with TLS takes several round trips, and who gives up early sends twice. The channels share it: a sensor's tick
# may take 60 s.
DEADLINE_S: Final = 20.0
# A channel that does not work is left alone for so long, and then gets all that it missed in one message.
QUIET_S: Final = 300.0
# They write the path of each request, which is the secret of a webhook.
_TALKATIVE: Final = ("urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry", "requests")
_NOT_UNDERSTOOD: Final = "not understood"


class NotDeliveredError(OSError):
    """A channel did not take a message; `strerror` says why, without the address."""


@dataclass(frozen=True)
class Channel:
    """One address, by its place in the setting, from 1; `service` is the address's scheme, such as mailtos."""

    number: int
    service: str
    notifier: "Apprise | None" = field(compare=False, repr=False)


@dataclass(frozen=True)
class Delivery:
    """What came of a message: whether it was taken, whether it was tried, and why not, as a part of a sentence."""

    taken: bool
    tried: bool
    reason: str = ""


def open_channels(addresses: str) -> list[Channel]:
    """Return the channels of a setting with one or more addresses, separated by blanks or newlines; sends nothing."""
    _mute()
    with warnings.catch_warnings():
        # Apprise loads all it knows, and with it modules that Python will drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        return [_channel(number, address) for number, address in enumerate(addresses.split(), 1)]


def _channel(number: int, address: str) -> Channel:
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(
        app_id="wrm_pipeline",
        app_desc="Wrocław's city bike as data",
        app_url="",
        # Otherwise pictures are fetched from another site by whoever reads the message.
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
    )
    service = Apprise.instantiate(address, asset=asset)
    if service is None:
        return Channel(number, _NOT_UNDERSTOOD, None)
    return Channel(number, address.partition("://")[0].lower(), Apprise(service, asset=asset))


def deliver(
    messages: Mapping[Channel, Message], *, deadline_s: float = DEADLINE_S, quiet_s: float = QUIET_S
) -> dict[int, Delivery]:
    """Send each channel its message, all at once, and return what came of it by the channel's number.

    Takes at most `deadline_s`. A channel that fails costs one warning, and is not tried for `quiet_s` seconds.
    """
    if not messages:
        return {}
    with ThreadPoolExecutor(len(messages), thread_name_prefix="alert") as pool:
        sent = {
            channel.number: pool.submit(_deliver, channel, message, deadline_s, quiet_s)
            for channel, message in messages.items()
        }
        return {number: future.result() for number, future in sent.items()}


def _deliver(channel: Channel, message: Message, deadline_s: float, quiet_s: float) -> Delivery:
    part = _part(channel.number, channel.service, deadline_s, quiet_s)
    tried = threading.Event()
    reasons: list[str] = []

    def send() -> bool:
        tried.set()
        reason = _send(channel, message)
        if reason is not None:
            reasons.append(reason)
            raise NotDeliveredError(errno.EIO, reason)
        return True

    taken = part.ask(send) is True
    if taken or not tried.is_set():
        return Delivery(taken, tried.is_set(), "" if taken else "it failed a moment ago")
    return Delivery(taken=False, tried=True, reason=reasons[0] if reasons else f"no answer within {deadline_s:g} s")


def _send(channel: Channel, message: Message) -> str | None:
    """Send a message; return why it was not taken."""
    if channel.notifier is None:
        return "the address is none that apprise knows"
    from apprise import NotifyFormat, NotifyType

    statuses: list[str] = []
    _sending.set(statuses)
    taken = channel.notifier.notify(
        title=message.title,
        body=message.body,
        notify_type=NotifyType(message.tone.value),
        body_format=NotifyFormat.TEXT,
    )
    if taken:
        return None
    return f"it answered HTTP {statuses[-1]}" if statuses else "it could not be reached or refused"


@functools.cache
def _part(number: int, service: str, deadline_s: float, quiet_s: float) -> OptionalPart:
    return OptionalPart(
        f"Alert channel {number} ({service})",
        SETTING,
        "it gets no alerts meanwhile, and what it missed when it works again",
        deadline_s=deadline_s,
        quiet_s=quiet_s,
    )


# Set while something is sent: the HTTP statuses that apprise told. Its threads inherit the context, unlike ours.
_sending: ContextVar[list[str] | None] = ContextVar("_sending", default=None)


def _note_status(record: logging.LogRecord) -> bool:
    """Keep of apprise's words the status alone; everything else may quote the address."""
    found = re.search(r"error=(\d{3})\b", record.getMessage())
    statuses = _sending.get()
    if found is not None and statuses is not None:
        statuses.append(found[1])
    return False


def _is_not_of_a_channel(_: logging.LogRecord) -> bool:
    return _sending.get() is None


@functools.cache
def _mute() -> None:
    """Let nothing that holds an address reach a log of ours, whatever its level and handlers."""
    logging.getLogger("apprise").addFilter(_note_status)
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_is_not_of_a_channel)

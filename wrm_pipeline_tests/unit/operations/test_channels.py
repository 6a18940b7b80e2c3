"""Sending, on the wire: a webhook and a mail server, healthy and not; what an address holds is never logged."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain

import pytest

from wrm_pipeline.operations import channels
from wrm_pipeline.operations.alerts import Message, Tone
from wrm_pipeline.operations.channels import Delivery, deliver, open_channels
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, Reset, Stall
from wrm_pipeline_tests.fixtures.receivers import MailServer, Webhook, serving

MESSAGE = Message("[wrm test] job_a_b failed", "Since: 12:00 UTC <b>*now*</b>\nSee: http://d:3000/runs/1", Tone.FAILURE)
CANARY = "canary-in-the-address"
TAKEN = Delivery(taken=True, tried=True)


@pytest.fixture(autouse=True)
def fresh_channels() -> Iterator[None]:
    """Let no test meet a channel that another one found broken: a process remembers it for some minutes."""
    channels._part.cache_clear()
    yield
    channels._part.cache_clear()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with serving(Webhook()) as server:
        yield server


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with serving(MailServer()) as server:
        yield server


@pytest.fixture
def broken(hook: Webhook) -> Iterator[FaultProxy]:
    """A proxy before the webhook."""
    with FaultProxy(hook.http_url) as proxy:
        yield proxy


def send(*addresses: str, deadline_s: float = 5.0, quiet_s: float = 300.0) -> list[Delivery]:
    opened = open_channels("\n".join(addresses))
    return [*deliver(dict.fromkeys(opened, MESSAGE), deadline_s=deadline_s, quiet_s=quiet_s).values()]


def json_address(proxy: FaultProxy, *, secret: str = CANARY) -> str:
    return f"json://user:{secret}@127.0.0.1:{proxy.port}/hooks/{secret}?-token={secret}"


def mail_address(port: int) -> str:
    return f"mailto://127.0.0.1:{port}?from=wrm@example.org&to=night@example.org&mode=insecure"


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


# --- Delivery ---------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_title_text_and_kind(hook: Webhook) -> None:
    assert send(hook.address) == [TAKEN]

    (received,) = hook.received
    assert (received["title"], received["message"], received["type"]) == (MESSAGE.title, MESSAGE.body, "failure")
    assert received["attachments"] == []


def test_a_mail_arrives_as_the_text_that_was_written(mail: MailServer) -> None:
    assert send(mail_address(mail.port)) == [TAKEN]

    (received,) = mail.received
    assert received["Subject"] == MESSAGE.title
    assert "night@example.org" in received["To"]
    text = received.get_body(("plain", "html"))
    assert text is not None
    content = text.get_content().replace("&lt;", "<").replace("&gt;", ">")
    assert "<b>*now*</b>" in content
    assert "http://d:3000/runs/1" in content


def test_several_addresses_are_separated_by_blanks_and_newlines_and_each_gets_one_message(
    hook: Webhook, mail: MailServer
) -> None:
    opened = open_channels(f" {hook.address}\n\t{mail_address(mail.port)} {hook.address}/other\n")

    assert [(channel.number, channel.service) for channel in opened] == [(1, "json"), (2, "mailto"), (3, "json")]
    assert {*deliver(dict.fromkeys(opened, MESSAGE)).values()} == {TAKEN}
    assert (len(hook.received), len(mail.received)) == (2, 1)


def test_nothing_to_send_is_nothing() -> None:
    assert deliver({}) == {}


# --- Faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Answer(500), "it answered HTTP 500"),
        (Answer(404, b"<html>rubbish", {"Content-Type": "text/html"}), "it answered HTTP 404"),
        (Answer(301, b"", {"Location": "http://127.0.0.1:1/"}), "it could not be reached or refused"),
        (Reset(), "it could not be reached or refused"),
        (Reset(applied=True), "it could not be reached or refused"),
        (Stall(), "no answer within 0.5 s"),
    ],
    ids=["500", "rubbish", "redirected to nowhere", "reset", "taken and reset", "black hole"],
)
def test_a_broken_channel_costs_one_warning_and_the_others_get_theirs_once(
    fault: Answer | Reset | Stall, reason: str, broken: FaultProxy, mail: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    broken.add(fault, times=None)
    # Mail first and last: neither place depends on the broken one.
    began = time.monotonic()
    first, second, third = send(mail_address(mail.port), json_address(broken), mail_address(mail.port), deadline_s=0.5)

    assert time.monotonic() - began < 3
    assert (first, third) == (TAKEN, TAKEN)
    assert second == Delivery(taken=False, tried=True, reason=reason)
    assert len(mail.received) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"Alert channel 2 (json) does not work ({reason})" in warning
    assert "WRM_ALERT_URLS" in warning


@pytest.mark.parametrize("service", ["json", "mailto"])
def test_a_port_where_nobody_listens_is_a_channel_that_does_not_work(service: str) -> None:
    address = mail_address(dead_port()) if service == "mailto" else f"json://127.0.0.1:{dead_port()}/"

    assert send(address) == [Delivery(taken=False, tried=True, reason="it could not be reached or refused")]


def test_a_mail_server_that_refuses_the_message_has_not_taken_it(mail: MailServer) -> None:
    mail.verdict = "554 no"

    (delivery,) = send(mail_address(mail.port))

    assert (delivery.taken, delivery.tried) == (False, True)


def test_a_mail_server_that_says_nothing_is_given_up_on_at_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        (delivery,) = send(mail_address(listener.getsockname()[1]), deadline_s=0.3)

    assert delivery.reason == "no answer within 0.3 s"
    assert time.monotonic() - began < 2


def test_a_channel_that_failed_is_left_alone_for_a_while_and_then_tried_again(
    broken: FaultProxy, hook: Webhook
) -> None:
    broken.add(Answer(503))

    failed, left_alone = send(json_address(broken)), send(json_address(broken))
    tried_again = send(json_address(broken), quiet_s=0.0)

    assert failed == [Delivery(taken=False, tried=True, reason="it answered HTTP 503")]
    assert left_alone == [Delivery(taken=False, tried=False, reason="it failed a moment ago")]
    assert tried_again == [TAKEN]
    assert len(hook.received) == 1


@pytest.mark.parametrize("address", ["nonsense", f"unheard://{CANARY}", "json://", "https://example.org/"])
def test_an_address_that_apprise_does_not_know_keeps_no_other_from_being_told(
    address: str, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = send(address, hook.address)

    assert wrong == Delivery(taken=False, tried=True, reason="the address is none that apprise knows")
    assert right == TAKEN
    assert "Alert channel 1 (not understood) does not work (the address is none that apprise knows)" in caplog.text
    assert CANARY not in caplog.text


# --- Secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [None, Answer(500), Reset(), Stall()], ids=["taken", "500", "reset", "black hole"])
def test_nothing_of_an_address_is_logged_not_even_at_the_lowest_level(
    fault: Answer | Reset | Stall | None,
    broken: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At debug level urllib3 writes each request's path and apprise each address: they are the webhook's secret."""
    for name in (None, "apprise", "urllib3", "urllib3.connectionpool", "requests"):
        caplog.set_level(1, name)
    if fault is not None:
        broken.add(fault, times=None)

    send(
        json_address(broken),
        f"json://{CANARY}.invalid/{CANARY}",
        f"mailto://x:{CANARY}@127.0.0.1:1/?from=a@b.org&to=a@b.org",
        deadline_s=0.5,
    )
    repr(open_channels(json_address(broken)))

    told = [caplog.text, *capfd.readouterr(), repr(open_channels(json_address(broken)))]
    told += chain.from_iterable(map(str, (record.args, record.exc_info)) for record in caplog.records)
    assert not [text for text in told if CANARY in text]
    assert broken.count("POST", CANARY) >= 1, "the address did not hold it"


def test_other_requests_of_the_process_are_logged_as_before(
    hook: Webhook, broken: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    import requests

    caplog.set_level(logging.DEBUG, "urllib3")
    send(hook.address)
    assert "urllib3" not in {record.name.partition(".")[0] for record in caplog.records}

    requests.post(f"{hook.http_url}/of-somebody-else", json={}, timeout=5)

    assert "/of-somebody-else" in caplog.text


def test_apprise_is_imported_when_something_is_sent_and_not_before() -> None:
    """Every run is a new process, and pays for what the code location imports."""
    code = "import sys, wrm_pipeline.operations.channels; sys.exit('apprise' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

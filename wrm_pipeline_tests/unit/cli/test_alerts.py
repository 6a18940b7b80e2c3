"""`wrm alerts test`: one message to each channel, and which took it."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from wrm_pipeline.cli.alerts import alerts
from wrm_pipeline.operations import channels
from wrm_pipeline.settings import SettingsError
from wrm_pipeline_tests.fixtures.receivers import MailServer, Webhook, serving

CANARY = "canary-in-the-address"


@pytest.fixture(autouse=True)
def fresh_channels() -> Iterator[None]:
    channels._part.cache_clear()
    yield
    channels._part.cache_clear()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with serving(Webhook()) as server:
        yield server


def run(monkeypatch: pytest.MonkeyPatch, addresses: str, *arguments: str) -> Result:
    monkeypatch.setenv("WRM_ALERT_URLS", addresses)
    return CliRunner().invoke(alerts, ["test", *arguments])


def test_each_channel_gets_one_message_whatever_the_hour(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_ALERT_QUIET_HOURS", "00-23")
    with serving(MailServer()) as mail:
        result = run(
            monkeypatch,
            f"{hook.address} mailto://127.0.0.1:{mail.port}?from=wrm@example.org&to=night@example.org&mode=insecure",
        )

        assert (result.exit_code, result.stdout) == (
            0,
            "Channel 1 (json) took the message\nChannel 2 (mailto) took the message\n",
        )
        assert hook.titles == ["[wrm development] Test"]
        assert [message["Subject"] for message in mail.received] == ["[wrm development] Test"]


def test_a_channel_that_does_not_work_is_named_with_the_reason_and_without_its_address(
    hook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 403

    result = run(monkeypatch, f"{CANARY}\n{hook.address}{CANARY}")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "Channel 1 (not understood) did not take it: the address is none that apprise knows",
        "Channel 2 (json) did not take it: it answered HTTP 403",
    ]
    assert result.stderr == ""
    assert caplog.text == ""


def test_it_speaks_json_too(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, hook.address, "--json")

    assert json.loads(result.stdout) == [{"channel": 1, "service": "json", "taken": True, "reason": ""}]


def test_without_a_channel_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, " ")

    assert isinstance(result.exception, SettingsError)
    assert "WRM_ALERT_URLS" in str(result.exception)

"""`wrm alerts`: whether the channels that are told of failures can be reached."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


@click.group()
def alerts() -> None:
    """Alerts of failed runs and checks: the channels in WRM_ALERT_URLS."""


@alerts.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def test(*, as_json: bool) -> None:
    """Send one test message to each channel and say which took it.

    Channels are numbered by their place in WRM_ALERT_URLS. Quiet hours and the limit an hour do not hold here. Exit
    code 1 when a channel did not take it.
    """
    from wrm_pipeline.cli.tables import to_json
    from wrm_pipeline.operations.alerts import Message, Tone
    from wrm_pipeline.operations.channels import deliver, open_channels
    from wrm_pipeline.settings import SettingsError
    from wrm_pipeline.vault.run_settings import load_run_settings

    settings = load_run_settings()
    if settings.wrm_alert_urls is None:
        raise SettingsError(
            "WRM_ALERT_URLS is not set, so there is no channel to test. Give one or more addresses as apprise knows "
            "them (https://appriseit.com/services/), separated by blanks, such as mailtos://user:password@example.org."
        )
    channels = open_channels(settings.wrm_alert_urls.get_secret_value())
    body = "This is what `wrm alerts test` sends. Alerts of failed runs and checks will arrive here."
    message = Message(f"[wrm {settings.wrm_env}] Test", body, Tone.INFO)
    with _without_warnings():
        deliveries = deliver(dict.fromkeys(channels, message))
    rows = [
        {"channel": channel.number, "service": channel.service, "taken": delivery.taken, "reason": delivery.reason}
        for channel in channels
        for delivery in [deliveries[channel.number]]
    ]
    if as_json:
        click.echo(to_json(rows))
    else:
        for row in rows:
            outcome = "took the message" if row["taken"] else f"did not take it: {row['reason']}"
            click.echo(f"Channel {row['channel']} ({row['service']}) {outcome}")
    if not all(delivery.taken for delivery in deliveries.values()):
        sys.exit(1)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the warning about a channel that does not work, which speaks of later tries, out of a terminal."""
    logger = logging.getLogger("wrm_pipeline.resilience")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

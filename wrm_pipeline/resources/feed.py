"""The feed as a resource: where it is, how it is fetched, and the format it speaks."""

from typing import Any

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.feed.base import FeedFormat
from wrm_pipeline.feed.bikesharemap import BikeShareMap
from wrm_pipeline.feed.fetch import Payload, fetch
from wrm_pipeline.resilience import CircuitBreaker
from wrm_pipeline.resources.breakers import breaker_state
from wrm_pipeline.settings import Settings
from wrm_pipeline.vault.run_settings import load_run_settings


class FeedResource(ConfigurableResource["FeedResource"]):
    """The public station feed. Fields left empty are read from the settings."""

    url: str | None = Field(default=None, description="Address of the feed; empty: WRM_FEED_URL")

    _settings: Settings = PrivateAttr()
    _breaker: CircuitBreaker = PrivateAttr()

    def setup_for_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Read the settings."""
        self._settings = load_run_settings(**({} if self.url is None else dict[str, Any](wrm_feed_url=self.url)))
        self._breaker = CircuitBreaker("feed", state=breaker_state(self._settings))

    @property
    def address(self) -> str:
        """The address that is fetched."""
        return self._settings.wrm_feed_url

    @property
    def breaker(self) -> CircuitBreaker:
        """The feed's circuit breaker."""
        return self._breaker

    @property
    def format(self) -> FeedFormat:
        """The format that the feed speaks, with the bounds of the contract of processed."""
        return BikeShareMap(active_contracts().processed)

    def fetch(self) -> Payload:
        """Fetch what the feed shows now; see `feed.fetch.fetch` for what it raises."""
        return fetch(
            self._settings.wrm_feed_url,
            contact=self._settings.feed_contact(),
            timeout_s=self._settings.wrm_feed_timeout_s,
            breaker=self._breaker,
        )

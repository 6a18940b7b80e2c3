"""What a run tells of itself to others: figures of each step to a Pushgateway, spans to a trace collector."""

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import figures, traces


class MetricsResource(ConfigurableResource["MetricsResource"]):
    """The Pushgateway and the trace collector, where there are such. A field left empty is read from the settings."""

    pushgateway_url: str | None = Field(default=None, description="The Pushgateway; empty: WRM_PUSHGATEWAY_URL")

    _gateway: str | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Read the settings."""
        self._gateway = self.pushgateway_url or load_settings().wrm_pushgateway_url

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Send the spans of the run: resources live as long as a run does, since it is one process."""
        if context.run is not None:
            traces.end_run(context.run.run_id)

    def push(self, step: figures.StepFigures, asset: str) -> None:
        """Push the figures of a step of an asset, or of an op; never raises because of the gateway."""
        if self._gateway is not None:
            figures.push(step, asset, self._gateway)

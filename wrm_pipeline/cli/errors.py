"""Expected errors in a terminal: one sentence, exit code 1, no traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from wrm_pipeline.cli.local_servers import LocalServerError
from wrm_pipeline.contracts.model import ContractError
from wrm_pipeline.feed.simulator import SimulatorError
from wrm_pipeline.lake.object_store import StoreError
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.marts.database import MartsError
from wrm_pipeline.settings import SettingsError
from wrm_pipeline.vault.errors import VaultError

_EXPECTED: Final = (
    SettingsError,
    StoreError,
    LayerError,
    LocalServerError,
    SimulatorError,
    ContractError,
    MartsError,
    VaultError,
)


@contextmanager
def expected_errors() -> Iterator[None]:
    """Print an expected error and exit; anything else is a bug and keeps its traceback."""
    try:
        yield
    except _EXPECTED as error:
        click.secho(f"wrm: {error}", fg="red", err=True)
        sys.exit(1)

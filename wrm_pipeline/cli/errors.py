"""Expected errors in a terminal: one sentence, exit code 1, no traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from wrm_pipeline.errors import ExpectedError


@contextmanager
def expected_errors() -> Iterator[None]:
    """Print an expected error and exit; anything else is a bug and keeps its traceback."""
    try:
        yield
    except ExpectedError as error:
        click.secho(f"wrm: {error}", fg="red", err=True)
        sys.exit(1)

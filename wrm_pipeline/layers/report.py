"""What a layer says about its work, for metadata, tables and tests alike."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.lake.day_object import Manifest
from wrm_pipeline.lake.dead_letters import DeadLetter
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.object_store import ObjectInfo


class LayerError(ExpectedError):
    """A layer cannot be made; the sentence says what is missing and what to do."""


class NoRawDataError(LayerError):
    """Raw holds nothing for a day."""


class RawKeepsChangingError(LayerError):
    """Raw changed in every pass of a build, or an object was replaced between two looks at it."""


@dataclass(frozen=True)
class Provenance:
    """Who is at work, for dead letters: the Dagster run and asset. `now` gives aware UTC times."""

    run_id: str
    asset: str
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)


class Build(StrEnum):
    """How a day came about."""

    FULL = "full"
    INCREMENTAL = "incremental"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class BuiltDay:
    """A day of a layer after a build.

    `read` counts the raw objects fetched for it; `letters` are the dead letters that it wrote: of the sources that are
    new to it, and so of all in a full build.
    """

    rows: pa.Table
    manifest: Manifest
    info: ObjectInfo
    build: Build
    read: int
    letters: tuple[DeadLetter, ...]

    @property
    def layer(self) -> Layer:
        """The layer."""
        return self.manifest.layer

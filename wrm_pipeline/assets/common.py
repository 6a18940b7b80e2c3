"""What all assets share: what their contracts say, what surrounds each one's work, and building one day or many."""

import datetime as dt
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    BetaWarning,
    DataVersion,
    Failure,
    FreshnessPolicy,
    MaterializeResult,
    OpExecutionContext,
    asset,
)

from wrm_pipeline.assets.metadata import table_schema
from wrm_pipeline.assets.partitions import daily_partitions
from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.lake.keys import snapshot_name
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.resources.feed import FeedResource
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.telemetry import logs, traces
from wrm_pipeline.telemetry.figures import StepFigures


def contract_metadata(contract: Contract) -> dict[str, Any]:
    """Return what an asset's definition shows of its contract."""
    return {"dagster/column_schema": table_schema(contract.columns), "contract": contract.stamp}


def freshness(contract: Contract) -> FreshnessPolicy:
    """Return the freshness that a contract promises."""
    return FreshnessPolicy.time_window(
        warn_window=dt.timedelta(seconds=contract.freshness_warn_s),
        fail_window=dt.timedelta(seconds=contract.freshness_fail_s),
    )


def daily_asset(contract: Contract | None = None, **arguments: Any) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Decorate an asset with one partition a UTC day; a backfill of many days is one run.

    Owner, columns and freshness are its contract's when it has one.
    """
    if contract is not None:
        arguments |= {
            "owners": [contract.owner],
            "metadata": contract_metadata(contract),
            "freshness_policy": freshness(contract),
        }

    def decorate(function: Callable[..., Any]) -> AssetsDefinition:
        with warnings.catch_warnings():
            # Dagster marks the argument as beta, in every process that loads the code location.
            warnings.simplefilter("ignore", BetaWarning)
            decorator = asset(
                partitions_def=daily_partitions,
                backfill_policy=BackfillPolicy.single_run(),
                **arguments,
            )
            definition: AssetsDefinition = decorator(function)
            return definition

    return decorate


@contextmanager
def clear_failures() -> Iterator[None]:
    """Turn expected errors into Dagster failures that carry their sentence; retries are used up by then."""
    try:
        yield
    except ExpectedError as error:
        raise Failure(description=str(error), allow_retries=False) from error


@dataclass
class Step:
    """What a step says of itself, beside what is measured around it.

    Attributes:
        until_end: what is closed when the step ends.
        rows: how many became what: "kept", "duplicate", or the rule that set them aside.
        feed_seconds: how long the feed took to answer; None when it was not asked.
    """

    until_end: ExitStack
    rows: Counter[str] = field(default_factory=Counter)
    feed_seconds: float | None = None

    def follow(self, raw_key: str) -> None:
        """Put the correlation id of a snapshot on what is logged from here on: the name of its raw object."""
        self.until_end.enter_context(logs.bind(correlation_id=snapshot_name(raw_key)))


@contextmanager
def step(
    context: AssetExecutionContext | OpExecutionContext,
    metrics: MetricsResource,
    object_store: ObjectStoreResource,
    feed: FeedResource | None = None,
) -> Iterator[Step]:
    """Surround the work of an asset or op: its log lines say whose they are, its errors are clear and hold no secret.

    A span is opened around it, and its figures are pushed at the end, also when it fails.
    """
    op = context.op_execution_context if isinstance(context, AssetExecutionContext) else context
    name = op.op.name
    run, store = context.run, object_store.lake.store
    partition = run.tags.get("dagster/partition")
    started, traffic, cached = time.monotonic(), store.traffic.snapshot(), object_store.cache.stats.snapshot()
    facts = traces.RunFacts(run.run_id, run.job_name, partition, run.tags)
    succeeded = False
    correlation = run.tags.get(logs.CORRELATION_TAG)
    with (
        logs.bind(run_id=run.run_id, job=run.job_name, asset=name, partition=partition, correlation_id=correlation),
        logs.redacted_output(),
        ExitStack() as until_end,
    ):
        work = Step(until_end)
        try:
            with traces.step(facts, name), logs.redacted_errors(), clear_failures():
                yield work
            succeeded = True
        finally:
            breakers = [store.breaker, *([feed.breaker] if feed else [])]
            metrics.push(
                StepFigures(
                    seconds=time.monotonic() - started,
                    succeeded=succeeded,
                    traffic=store.traffic.snapshot() - traffic,
                    cache=object_store.cache.stats.snapshot() - cached,
                    breakers_open={breaker.name: breaker.is_open() for breaker in breakers if breaker is not None},
                    feed_seconds=work.feed_seconds,
                    rows=work.rows,
                ),
                name,
            )


def provenance(context: AssetExecutionContext) -> Provenance:
    """Return who is at work, for dead letters."""
    return Provenance(run_id=context.run.run_id, asset=context.asset_key.to_user_string())


def materialize_days(
    context: AssetExecutionContext, build: Callable[[str], tuple[Mapping[str, Any], str]]
) -> MaterializeResult[Any]:
    """Build each partition of the run, one after another, and report each with its own metadata.

    `build` takes a partition key and returns metadata and data version. A day that cannot be built does not keep the
    others from being built; the run fails at the end and names all such days.
    """
    days = context.partition_keys
    if len(days) == 1:
        with clear_failures():
            metadata, version = build(days[0])
        return MaterializeResult(metadata=metadata, data_version=DataVersion(version))
    done: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, str] = {}
    for number, day in enumerate(days, 1):
        try:
            with logs.bind(partition=day):
                done[day], _ = build(day)
        except ExpectedError as error:
            failed[day] = str(error)
        outcome = f"failed: {failed[day]}" if day in failed else "built"
        context.log.info("%d of %d days (%d %%), %s: %s", number, len(days), 100 * number // len(days), day, outcome)
    if failed:
        for day, metadata in done.items():
            context.log_event(AssetMaterialization(context.asset_key, metadata=metadata, partition=day))
        reasons = "\n".join(f"{day}: {reason}" for day, reason in failed.items())
        raise Failure(
            description=f"{len(failed)} of {len(days)} days could not be built, {len(done)} are stored.\n{reasons}",
            allow_retries=False,
        )
    for day, metadata in done.items():
        context.add_asset_metadata(metadata, partition_key=day)
    return MaterializeResult(metadata={"days": len(days)})

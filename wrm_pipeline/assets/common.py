"""What all assets share: what their contracts say, clear failures, and building one day or many in a run."""

import datetime as dt
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

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
    asset,
)

from wrm_pipeline.assets.metadata import table_schema
from wrm_pipeline.assets.partitions import daily_partitions
from wrm_pipeline.contracts.model import Contract, ContractError
from wrm_pipeline.feed.fetch import FeedError
from wrm_pipeline.lake.object_store import StoreError
from wrm_pipeline.layers.report import LayerError, Provenance
from wrm_pipeline.marts.database import MartsError
from wrm_pipeline.resilience import BreakerOpen
from wrm_pipeline.settings import SettingsError

EXPECTED_ERRORS: Final = (LayerError, StoreError, FeedError, BreakerOpen, SettingsError, ContractError, MartsError)


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
    except EXPECTED_ERRORS as error:
        raise Failure(description=str(error), allow_retries=False) from error


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
            done[day], _ = build(day)
        except EXPECTED_ERRORS as error:
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

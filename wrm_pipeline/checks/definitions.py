"""The asset checks: one op for each asset, so that a day is read once, with one check for each rule of its contract."""

import datetime as dt
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetKey,
    AssetPartitionStatus,
    PreviewWarning,
    multi_asset_check,
)

from wrm_pipeline.assets.common import clear_failures
from wrm_pipeline.assets.partitions import FIRST_DAY, daily_partitions
from wrm_pipeline.checks.metadata import SEVERITIES, describe, judgment_metadata, summary_metadata
from wrm_pipeline.contracts.model import Contract, Contracts, Rule, Severity
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.layers.trust import judge_day, judge_day_of_letters, rules_of
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline.transform.quality import Judgment

# Lake, day, names of the checks that were asked for, days whose last run failed.
Judge = Callable[[Lake, dt.date, set[str], Sequence[dt.date]], Iterable[Judgment]]
_FAILED_PARTITIONS: Final = "no_failed_partitions"
# In a sentence; the table has them all.
_DAYS_NAMED: Final = 5


def build_checks(contracts: Contracts) -> list[AssetChecksDefinition]:
    """Return the checks of all daily assets, made from the contracts."""

    def of_layer(layer: Layer) -> Judge:
        return lambda lake, day, names, failed: judge_day(
            lake,
            contracts,
            layer,
            day,
            now=dt.datetime.now(dt.UTC),
            failed_days=failed,
            first_day=FIRST_DAY,
            only=names,
        )

    letters = contracts.dead_letters
    return [
        _checks(contracts.processed, rules_of(contracts, Layer.PROCESSED), of_layer(Layer.PROCESSED)),
        _checks(contracts.enhanced, rules_of(contracts, Layer.ENHANCED), of_layer(Layer.ENHANCED)),
        _checks(letters, letters.of_scope(Scope.DAY), lambda lake, day, *_: judge_day_of_letters(lake, contracts, day)),
    ]


def _checks(contract: Contract, rules: Sequence[Rule], judge: Judge) -> AssetChecksDefinition:
    asset = AssetKey(contract.id)

    @multi_asset_check(name=f"{contract.id}_checks", specs=[_spec(asset, rule) for rule in rules], can_subset=True)
    def checks(context: AssetCheckExecutionContext, object_store: ObjectStoreResource) -> Iterator[AssetCheckResult]:
        names = {key.name for key in context.selected_asset_check_keys}
        with clear_failures():
            days = _days(context)
            failed = _failed_days(context, asset) if _FAILED_PARTITIONS in names else ()
            judged = {
                day: {
                    judgment.rule.name: judgment
                    for judgment in judge(object_store.lake, dt.date.fromisoformat(day), names, failed)
                }
                for day in days
            }
        for rule in rules:
            if rule.name in names:
                of_days = {day: judgments[rule.name] for day, judgments in judged.items()}
                if context.op_execution_context.has_partition_key:
                    yield _result(asset, of_days)
                else:
                    yield _results(context, asset, rule, of_days)

    return checks


def _days(context: AssetCheckExecutionContext) -> Sequence[str]:
    """Return the days of the run.

    Raises:
        LayerError: it has none; Dagster can record no result of a check of a daily asset then.
    """
    run = context.op_execution_context
    if run.has_partition_key or run.has_partition_key_range:
        return run.partition_keys
    raise LayerError("These checks judge days: choose a partition. A run that builds a day runs them as well.")


def _spec(asset: AssetKey, rule: Rule) -> AssetCheckSpec:
    with warnings.catch_warnings():
        # Dagster marks partitions of checks as a preview, in every process that loads the code location.
        warnings.simplefilter("ignore", PreviewWarning)
        return AssetCheckSpec(
            rule.name,
            asset=asset,
            description=describe(rule),
            blocking=rule.scope is Scope.DAY and rule.is_error,
            partitions_def=daily_partitions,
            metadata={"dimension": rule.dimension.value, "rule": rule.place},
        )


def _result(asset: AssetKey, judgments: dict[str, Judgment]) -> AssetCheckResult:
    """Return the result of a run over one day, to which Dagster adds the partition."""
    ((day, judgment),) = judgments.items()
    return AssetCheckResult(
        asset_key=asset,
        check_name=judgment.rule.name,
        passed=judgment.passed,
        severity=SEVERITIES[judgment.severity],
        description=judgment.summary,
        metadata=judgment_metadata(judgment, day),
    )


def _results(
    context: AssetCheckExecutionContext, asset: AssetKey, rule: Rule, judgments: dict[str, Judgment]
) -> AssetCheckResult:
    """Report the result of each day of a run over many, and return the run's own.

    A run cannot block some of its days, so it blocks only when all of them are; what is downstream of a blocked day
    asks `require_trusted`, and leaves it out.
    """
    for day, judgment in judgments.items():
        context.instance.report_runless_asset_event(
            AssetCheckEvaluation(
                asset_key=asset,
                check_name=rule.name,
                passed=judgment.passed,
                severity=SEVERITIES[judgment.severity],
                description=judgment.summary,
                metadata=judgment_metadata(judgment, day),
                blocking=judgment.blocks,
                partition=day,
            )
        )
    blocked = all(judgment.blocks for judgment in judgments.values())
    return AssetCheckResult(
        asset_key=asset,
        check_name=rule.name,
        passed=all(judgment.passed for judgment in judgments.values()),
        severity=SEVERITIES[Severity.ERROR if blocked else Severity.WARNING],
        description=_summary(judgments),
        metadata=summary_metadata(judgments),
    )


def _summary(judgments: dict[str, Judgment]) -> str:
    failing = [day for day, judgment in judgments.items() if not judgment.passed]
    if not failing:
        return f"All {len(judgments)} days pass."
    named = ", ".join(failing[:_DAYS_NAMED])
    also = f" and {len(failing) - _DAYS_NAMED} more" if len(failing) > _DAYS_NAMED else ""
    return f"{len(failing)} of {len(judgments)} days fail: {named}{also}."


def _failed_days(context: AssetCheckExecutionContext, asset: AssetKey) -> list[dt.date]:
    """Return the days whose last run failed before it had built them, as this Dagster instance knows them."""
    keys = daily_partitions.get_partition_keys()
    statuses = context.instance.get_status_by_partition(asset, keys, daily_partitions) or {}
    return [dt.date.fromisoformat(day) for day, status in statuses.items() if status is AssetPartitionStatus.FAILED]

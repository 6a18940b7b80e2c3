"""The asset checks at work: what they are called, what a run shows of a day, what flows on and what does not."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from wrm_pipeline.assets.common import daily_asset, materialize_days
from wrm_pipeline.assets.partitions import daily_partitions
from wrm_pipeline.checks.definitions import build_checks
from wrm_pipeline.contracts.model import Severity
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.layers.trust import require_trusted, rules_of
from wrm_pipeline.marts.catalogue import published
from wrm_pipeline.resources.object_store import ObjectStoreResource
from wrm_pipeline_tests.fixtures.dagster import (
    DAY,
    DAY_ASSETS,
    QUIET,
    Pipeline,
    at,
    contents,
    failure_of,
    put_raw,
)
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS

PROCESSED, ENHANCED, DLQ = DAY_ASSETS
ONE_DAY = dt.timedelta(days=1)
RULES = {
    PROCESSED: rules_of(CONTRACTS, Layer.PROCESSED),
    ENHANCED: rules_of(CONTRACTS, Layer.ENHANCED),
    DLQ: CONTRACTS.dead_letters.of_scope(Scope.DAY),
}


def specs() -> dict[tuple[str, str], dg.AssetCheckSpec]:
    return {
        (spec.asset_key.to_user_string(), spec.name): spec
        for definition in build_checks(CONTRACTS)
        for spec in definition.check_specs
    }


# What they are


def test_there_is_one_check_for_each_rule_on_the_asset_that_its_rows_are_in() -> None:
    assert list(specs()) == [(asset, rule.name) for asset, rules in RULES.items() for rule in rules]


def test_the_code_location_has_them() -> None:
    found = build_defs().resolve_asset_graph().asset_check_keys

    tables = {mart.name for mart in published()}  # theirs have tests of their own
    assert {
        (key.asset_key.to_user_string(), key.name) for key in found if key.asset_key.to_user_string() not in tables
    } == set(specs())


def test_errors_of_a_day_block_and_findings_about_snapshots_never_do() -> None:
    blocking = {key for key, spec in specs().items() if spec.blocking}

    both = {"schema", "reconciliation", "inputs", "unique"}
    assert blocking == {
        *((PROCESSED, name) for name in both),
        *((ENHANCED, name) for name in (*both, "dead_letter_ratio")),
    }
    strict = {name: replace(rule, severity=Severity.ERROR) for name, rule in CONTRACTS.raw.rules.items()}
    (_, enhanced, _) = build_checks(replace(CONTRACTS, raw=replace(CONTRACTS.raw, rules=strict)))
    assert {spec.name for spec in enhanced.check_specs if spec.blocking} == {*both, "dead_letter_ratio"}


def test_each_says_what_its_contract_says_with_its_numbers_and_line() -> None:
    for (asset, name), spec in specs().items():
        (rule,) = [rule for rule in RULES[asset] if rule.name == name]
        assert (spec.description or "").startswith(rule.description)
        assert spec.metadata["rule"] == rule.place
        assert spec.partitions_def == daily_partitions
    ratio, score = specs()[ENHANCED, "dead_letter_ratio"], specs()[ENHANCED, "completeness"]
    assert (ratio.description or "").endswith("(warn_above 0.05, block_above 0.2)")
    assert "times the share of snapshots" in (score.description or "")
    assert (score.description or "").endswith("received over expected, at most 1.")


# A day in a run


def evaluations(run: dg.ExecuteInProcessResult, asset: str = ENHANCED) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in run.get_asset_check_evaluations() if e.asset_key == dg.AssetKey(asset)}


def values(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in evaluation.metadata.items()}


def records(evaluation: dg.AssetCheckEvaluation) -> list[Mapping[str, object]]:
    value = evaluation.metadata["failing"]
    assert isinstance(value, dg.TableMetadataValue)
    assert [column.name for column in value.schema.columns] == list(value.records[0].data)
    return [record.data for record in value.records]


def a_day(pipeline: Pipeline, *, bad_share: float = 0.0, day: dt.date = DAY) -> None:
    """Put two snapshots into raw, in which a share of the rows is bad."""
    for hour in (8, 9):
        body = snapshot(1, at(hour, day=day))
        put_raw(pipeline.lake, at(hour, day=day), with_bad_rows(body, round(bad_share * body.count(b"\n")), 0))


def test_a_run_over_a_day_judges_it_by_every_rule_and_shows_figures(pipeline: Pipeline) -> None:
    a_day(pipeline)

    run = pipeline.process(DAY)

    assert run.success
    for asset, rules in RULES.items():
        found = evaluations(run, asset)
        assert list(found) == [rule.name for rule in rules]
        for rule in rules:
            evaluation = found[rule.name]
            assert evaluation.partition == values(evaluation)["partition"] == DAY.isoformat()
            assert evaluation.description
            assert evaluation.passed or not rule.is_error
            assert ("threshold" in evaluation.metadata) is bool(rule.arguments)
    found = evaluations(run)
    sums = values(found["reconciliation"])
    assert sums["rows_raw"] == sums["rows_kept"] + sums["rows_dead"] + sums["rows_duplicate"] == sums["rows_stored"] > 0
    received = found["snapshots_received"]
    assert (received.passed, received.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert received.description == "2 snapshots came of 288 expected (0.694 %)."
    assert records(found["late_snapshot"]) == [
        {
            "time": "2025-05-12 09:00:00 UTC",
            "what": "it came 1:00:00 h after the one before it, 2025-05-12 08:00:00 UTC",
        }
    ]


def test_checks_know_which_materialization_they_are_about(pipeline: Pipeline) -> None:
    a_day(pipeline)

    run = pipeline.process(DAY)

    target = evaluations(run)["schema"].target_materialization_data
    assert target is not None
    assert target.run_id == run.run_id


def check_alone(pipeline: Pipeline, *names: str, partition_key: str | None = DAY.isoformat()) -> Any:
    """Run checks of enhanced, all of them by default, and build nothing, as the UI does."""
    job = pipeline.defs.get_repository_def().get_implicit_job_def_for_assets([dg.AssetKey(ENHANCED)])
    assert job is not None
    chosen = names or tuple(rule.name for rule in RULES[ENHANCED])
    keys = {dg.AssetCheckKey(dg.AssetKey(ENHANCED), name) for name in chosen}
    return job.get_subset(asset_selection=set(), asset_check_selection=keys).execute_in_process(
        run_config=QUIET, instance=pipeline.instance, raise_on_error=False, partition_key=partition_key
    )


def test_one_check_can_be_run_by_itself(pipeline: Pipeline) -> None:
    a_day(pipeline)
    pipeline.process(DAY)

    run = check_alone(pipeline, "unique")

    assert [evaluation.check_name for evaluation in run.get_asset_check_evaluations()] == ["unique"]


def test_a_check_that_is_started_without_a_day_says_what_to_do(pipeline: Pipeline) -> None:
    assert "choose a partition" in failure_of(check_alone(pipeline, partition_key=None))


def test_a_day_that_is_not_built_fails_its_checks_and_says_so(pipeline: Pipeline) -> None:
    run = check_alone(pipeline)

    found = evaluations(run)
    assert list(found) == [rule.name for rule in RULES[ENHANCED]]
    assert not any(evaluation.passed for evaluation in found.values())
    assert "Build wrm_stations_enhanced_data_all for this day." in (found["unique"].description or "")
    assert found["unique"].severity is dg.AssetCheckSeverity.ERROR
    assert found["volume"].severity is dg.AssetCheckSeverity.WARN


def test_a_day_changed_by_hand_is_caught_without_building_it(pipeline: Pipeline) -> None:
    a_day(pipeline)
    pipeline.process(DAY)
    pipeline.lake.store.delete(pipeline.lake.keys.raw(at(8)))

    run = check_alone(pipeline)

    assert not run.success
    inputs = evaluations(run)["inputs"]
    assert (inputs.passed, inputs.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert records(inputs) == [{"source": pipeline.lake.keys.raw(at(8)), "what": "recorded, and no longer in raw"}]


def test_a_store_that_is_down_fails_the_run_with_a_sentence(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_day(pipeline)
    pipeline.process(DAY)
    monkeypatch.setenv("BUCKET_NAME", "no-such-bucket")

    run = check_alone(pipeline)

    assert not run.success
    assert "BUCKET_NAME" in failure_of(run)


def test_letters_that_cannot_be_read_are_shown(pipeline: Pipeline) -> None:
    a_day(pipeline)
    key = pipeline.lake.keys.dead_letter(DAY, "11111111-2222-3333-4444-555555555555")
    pipeline.lake.store.put(key, b"{", content_type="application/json")

    run = pipeline.process(DAY)

    assert run.success
    evaluation = evaluations(run, DLQ)["readable_letters"]
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert key in str(records(evaluation)[0]["letter"])


# Blocked days


@daily_asset(deps=[dg.AssetKey(ENHANCED)])
def downstream(context: dg.AssetExecutionContext, object_store: ObjectStoreResource) -> dg.MaterializeResult[Any]:
    """Use a day as an asset downstream does."""

    def build(partition: str) -> tuple[Mapping[str, Any], str]:
        stored = require_trusted(object_store.lake, CONTRACTS, dt.date.fromisoformat(partition))
        return {"rows": stored.rows.num_rows}, stored.info.etag

    return materialize_days(context, build)


def with_downstream(pipeline: Pipeline) -> Pipeline:
    """The code location with an asset downstream, in one job with all days' assets and in one alone."""
    jobs = [
        dg.define_asset_job("all", selection=[*DAY_ASSETS, "downstream"], executor_def=dg.in_process_executor),
        dg.define_asset_job("downstream_alone", selection=["downstream"]),
    ]
    return replace(pipeline, defs=dg.Definitions.merge(pipeline.defs, dg.Definitions(assets=[downstream], jobs=jobs)))


def built(run: dg.ExecuteInProcessResult) -> list[str]:
    keys = [event.asset_key for event in run.get_asset_materialization_events()]
    return [key.to_user_string() for key in keys if key is not None]


def test_a_quarter_of_bad_rows_blocks_the_day_in_its_run_and_in_later_ones(pipeline: Pipeline) -> None:
    a_day(pipeline, bad_share=0.25)
    pipeline = with_downstream(pipeline)

    run = pipeline.run("all", partition_key=DAY.isoformat())
    later = pipeline.run("downstream_alone", partition_key=DAY.isoformat())

    assert not run.success
    # It is committed and its dead letters are reported; what is made from it is not.
    assert built(run) == list(DAY_ASSETS)
    assert f"enhanced/all/dt={DAY}/all_enhanced.parquet" in contents(pipeline.lake)
    ratio = evaluations(run)["dead_letter_ratio"]
    assert (ratio.passed, ratio.severity, ratio.blocking) == (False, dg.AssetCheckSeverity.ERROR, True)
    assert str(ratio.description).startswith("24 % of ")
    assert "over 20 %. Most often: " in str(ratio.description)
    assert sum(int(str(record["rows"])) for record in records(ratio)) == values(ratio)["rows_dead"]
    assert [e.check_name for e in run.get_asset_check_evaluations() if not e.passed and e.blocking] == [
        "dead_letter_ratio"
    ]
    assert not later.success
    assert "enhanced dead_letter_ratio: 24 % of " in failure_of(later)


def test_another_dagster_instance_that_has_seen_no_check_lets_a_blocked_day_pass_no_more(pipeline: Pipeline) -> None:
    a_day(pipeline, bad_share=0.25)
    pipeline.process(DAY)

    with dg.DagsterInstance.ephemeral() as instance:
        run = replace(with_downstream(pipeline), instance=instance).run(
            "downstream_alone", partition_key=DAY.isoformat()
        )

    assert "enhanced dead_letter_ratio" in failure_of(run)


def test_a_tenth_of_bad_rows_warns_and_flows(pipeline: Pipeline) -> None:
    a_day(pipeline, bad_share=0.1)

    run = with_downstream(pipeline).run("all", partition_key=DAY.isoformat())

    assert run.success
    assert set(built(run)) == {*DAY_ASSETS, "downstream"}
    ratio = evaluations(run)["dead_letter_ratio"]
    assert (ratio.passed, ratio.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "over 5 %" in str(ratio.description)


def test_a_blocked_day_flows_once_its_cause_is_gone(pipeline: Pipeline) -> None:
    a_day(pipeline, bad_share=0.25)
    pipeline = with_downstream(pipeline)
    assert not pipeline.run("all", partition_key=DAY.isoformat()).success
    a_day(pipeline)

    assert pipeline.run("all", partition_key=DAY.isoformat()).success
    assert pipeline.run("downstream_alone", partition_key=DAY.isoformat()).success


def backfill(pipeline: Pipeline, job: str, first: dt.date, last: dt.date) -> dg.ExecuteInProcessResult:
    start, end = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    return pipeline.run(job, tags={start: first.isoformat(), end: last.isoformat()})


def by_day(pipeline: Pipeline, check: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    """The latest evaluation of a check of enhanced of each day, as the instance keeps them."""
    key = dg.AssetCheckKey(dg.AssetKey(ENHANCED), check)
    history = pipeline.instance.event_log_storage.get_asset_check_execution_history(key, limit=50)
    found: dict[str | None, dg.AssetCheckEvaluation] = {}
    for record in history:
        event = record.event.dagster_event if record.event is not None else None
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found.setdefault(record.partition, event.asset_check_evaluation_data)
    return found


def test_a_backfill_shows_each_day_and_the_good_ones_flow(pipeline: Pipeline) -> None:
    last = DAY + 2 * ONE_DAY
    a_day(pipeline)
    a_day(pipeline, bad_share=0.25, day=DAY + ONE_DAY)
    a_day(pipeline, day=last)
    pipeline = with_downstream(pipeline)

    run = backfill(pipeline, "all", DAY, last)

    # Only the asset downstream fails, and only for the blocked day.
    sentence = failure_of(run)
    assert "1 of 3 days could not be built, 2 are stored" in sentence
    assert "2025-05-13: 2025-05-13 fails checks that block" in sentence
    ratio = evaluations(run)["dead_letter_ratio"]
    assert (ratio.passed, ratio.severity, ratio.partition) == (False, dg.AssetCheckSeverity.WARN, None)
    assert ratio.description == "1 of 3 days fail: 2025-05-13."
    (record,) = records(ratio)
    assert (record["day"], record["blocks"]) == ("2025-05-13", True)
    assert set(pipeline.materializations(run, "downstream")) == {"2025-05-12", "2025-05-14"}

    shown = by_day(pipeline, "dead_letter_ratio")
    days = {day: evaluation for day, evaluation in shown.items() if day is not None}
    assert {day: (e.passed, e.blocking) for day, e in days.items()} == {
        "2025-05-12": (True, False),
        "2025-05-13": (False, True),
        "2025-05-14": (True, False),
    }
    assert days["2025-05-13"].severity is dg.AssetCheckSeverity.ERROR
    assert values(days["2025-05-13"])["partition"] == "2025-05-13"


def test_a_backfill_of_nothing_but_blocked_days_is_blocked(pipeline: Pipeline) -> None:
    for day in (DAY, DAY + ONE_DAY):
        a_day(pipeline, bad_share=0.25, day=day)
    pipeline = with_downstream(pipeline)

    run = backfill(pipeline, "all", DAY, DAY + ONE_DAY)

    assert not run.success
    assert built(run) and "downstream" not in built(run)  # noqa: PT018 - something was, but not that
    ratio = evaluations(run)["dead_letter_ratio"]
    assert ratio.severity is dg.AssetCheckSeverity.ERROR


def test_a_backfill_of_good_days_says_so(pipeline: Pipeline) -> None:
    for day in (DAY, DAY + ONE_DAY):
        a_day(pipeline, day=day)

    run = pipeline.backfill(DAY, DAY + ONE_DAY)

    assert run.success
    schema = evaluations(run)["schema"]
    assert (schema.passed, schema.description, values(schema)["days"]) == (True, "All 2 days pass.", 2)
    assert {day: e.passed for day, e in by_day(pipeline, "schema").items() if day} == {
        "2025-05-12": True,
        "2025-05-13": True,
    }


# Days that were left behind


def test_days_whose_last_run_failed_are_named_until_they_are_built(pipeline: Pipeline) -> None:
    a_day(pipeline)
    assert not pipeline.process(DAY + ONE_DAY).success

    shown = evaluations(pipeline.process(DAY))["no_failed_partitions"]
    assert (shown.passed, shown.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert records(shown) == [{"day": "2025-05-13", "what": "its last run failed"}]

    a_day(pipeline, day=DAY + ONE_DAY)
    assert pipeline.process(DAY + ONE_DAY).success
    assert evaluations(pipeline.process(DAY))["no_failed_partitions"].passed


def test_days_of_raw_that_were_never_built_are_named(pipeline: Pipeline) -> None:
    a_day(pipeline)
    a_day(pipeline, day=DAY + ONE_DAY)
    a_day(pipeline, day=dt.date(2025, 4, 30))  # before the first partition

    shown = evaluations(pipeline.process(DAY))["no_failed_partitions"]

    assert records(shown) == [{"day": "2025-05-13", "what": "raw holds it, and it is not built"}]

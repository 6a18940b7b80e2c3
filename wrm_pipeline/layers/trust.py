"""Whether a day can be trusted: what its rules say of it, gathered from the lake alone.

What is downstream asks here whether a day may flow, and so gets the same answer in whatever run, on whatever Dagster
instance.
"""

import datetime as dt
import json
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from wrm_pipeline.contracts.model import Contract, Contracts, Dimension, Rule
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.lake.day_object import Manifest, UnreadableDayError, decode, listing_inputs
from wrm_pipeline.lake.dead_letters import Status, read_letters
from wrm_pipeline.lake.keys import Layer, day_of
from wrm_pipeline.lake.lake import Lake, StoredDay
from wrm_pipeline.lake.object_store import CorruptObject, ObjectNotFound
from wrm_pipeline.layers.legacy import LEGACY_CODE_VERSION
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.transform.quality import (
    LETTERS_RULE,
    Evidence,
    Judgment,
    PastDay,
    dead_share,
    judge,
    judge_letters,
    unbalanced,
    unjudged,
)
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline.transform.snapshots import BEFORE_COLUMNS

# Small requests that do not wait for each other.
_AT_ONCE: Final = 8
_BEFORE: Final = pa.schema([ENHANCED.field(name) for name in BEFORE_COLUMNS])
_SCORES: Final = frozenset(dimension.value for dimension in Dimension)


class UntrustedDayError(LayerError):
    """A day fails what blocks all that is made from it; the sentence says what, and what to do."""


class MissingDayError(LayerError):
    """There is no such day; the sentence says how to get it."""


def rules_of(contracts: Contracts, layer: Layer) -> tuple[Rule, ...]:
    """Return the rules that a day of a layer is judged by; snapshots are judged where their rows are, in enhanced."""
    if layer is Layer.PROCESSED:
        return contracts.processed.of_scope(Scope.DAY)
    return (*contracts.enhanced.of_scope(Scope.DAY), *contracts.raw.of_scope(Scope.SNAPSHOT))


def judge_day(
    lake: Lake,
    contracts: Contracts,
    layer: Layer,
    day: dt.date,
    *,
    now: dt.datetime,
    failed_days: Sequence[dt.date] = (),
    first_day: dt.date = dt.date.min,
    only: Collection[str] | None = None,
) -> tuple[Judgment, ...]:
    """Judge a day of a layer as it lies in the lake.

    The day's object is read once. What else is read depends on the rules: a listing of raw, the day before, dead
    letters where there are any, a HEAD for each week before, two listings of days.

    Args:
        lake: the lake.
        contracts: they have the rules and their numbers.
        layer: processed or enhanced.
        day: the UTC day.
        now: aware; what is expected of the running day depends on it.
        failed_days: days whose last run failed, of which the lake knows nothing.
        first_day: days of raw before it are not missed when they are not built.
        only: the names of the rules to judge by; default: all of `rules_of`.

    Returns:
        The judgments in the order of the rules. A day that is missing or cannot be read fails each of them.
    """
    rules = [rule for rule in rules_of(contracts, layer) if only is None or rule.name in only]
    try:
        stored = _open(lake, layer, day)
    except LayerError as error:
        return tuple(unjudged(rule, str(error)) for rule in rules)
    evidence = _gather(lake, contracts, stored, rules, now, first_day)
    evidence = replace(evidence, failed=tuple(failed_days))
    return tuple(judge(evidence, rule) for rule in rules)


def require_trusted(lake: Lake, contracts: Contracts, day: dt.date) -> StoredDay:
    """Return a day of enhanced that no rule blocks, nor its day of processed.

    Raises:
        UntrustedDayError: a rule blocks it, or an object of the day cannot be read.
        MissingDayError: there is no such day.
    """
    enhanced = _open(lake, Layer.ENHANCED, day)
    days = [stored for stored in (_open_if_there(lake, Layer.PROCESSED, day), enhanced) if stored is not None]
    found = [
        f"{stored.manifest.layer} {judgment.rule.name}: {judgment.summary}"
        for stored in days
        for judgment in _judge_blocking(lake, contracts, stored)
        if judgment.blocks
    ]
    if found:
        raise UntrustedDayError(
            f"{day} fails checks that block what is made from it. {' '.join(found)} Look at the checks of the day's "
            f"assets and at `wrm dlq list --day {day}`, correct the cause, and run "
            "wrm_stations_processing_job for this day again."
        )
    return StoredDay(enhanced.rows.select(ENHANCED.names).cast(ENHANCED), enhanced.manifest, enhanced.info)


def manifest_blocks(manifest: Manifest, contracts: Contracts) -> bool:
    """Tell whether a day of enhanced is blocked by what its manifest alone shows: sums, and the share of dead rows.

    It costs nothing, for the weeks of history that a day is held against.
    """
    rules = contracts.enhanced.rules
    balance, ratio = rules.get("reconciliation"), rules.get("dead_letter_ratio")
    if balance is not None and balance.is_error and unbalanced(manifest.sources):
        return True
    return ratio is not None and ratio.is_error and dead_share(manifest.sources) > ratio.arguments["block_above"]


def blocking_stamp(contracts: Contracts) -> str:
    """Return what decides, beside the manifest, whether `manifest_blocks`."""
    rules = (contracts.enhanced.rules.get(name) for name in ("reconciliation", "dead_letter_ratio"))
    return json.dumps([rule and [rule.is_error, sorted(rule.arguments.items())] for rule in rules])


def judge_day_of_letters(lake: Lake, contracts: Contracts, day: dt.date) -> tuple[Judgment, ...]:
    """Judge a day's dead letters by the rules of their contract."""
    rules = contracts.dead_letters.of_scope(Scope.DAY)
    letters, unreadable = read_letters(lake.store, lake.keys, day)
    return tuple(judge_letters(unreadable, len(letters), rule) for rule in rules if rule.name == LETTERS_RULE)


def _open(lake: Lake, layer: Layer, day: dt.date) -> StoredDay:
    """Read a day with whatever columns its object has."""
    key = lake.keys.layer_object(layer, day)
    asset = f"wrm_stations_{layer}_data_all"
    try:
        stored = lake.store.get_again(key)
        rows, manifest = decode(stored.body, pq.read_schema(pa.BufferReader(stored.body)))
    except ObjectNotFound:
        raise MissingDayError(
            f"There is no {layer} day {day}: {lake.store.uri(key)} is missing. Build {asset} for this day."
        ) from None
    except (CorruptObject, UnreadableDayError, pa.ArrowException, OSError) as error:
        raise UntrustedDayError(
            f"The {layer} day {day} cannot be judged: {lake.store.uri(key)} is damaged ({error}). "
            f"Build {asset} for this day again."
        ) from error
    if (manifest.layer, manifest.day) != (layer, day):
        raise UntrustedDayError(
            f"The {layer} day {day} cannot be judged: {lake.store.uri(key)} holds {manifest.layer} of {manifest.day}. "
            f"Build {asset} for this day again."
        )
    return StoredDay(rows, manifest, stored.info)


def _open_if_there(lake: Lake, layer: Layer, day: dt.date) -> StoredDay | None:
    try:
        return _open(lake, layer, day)
    except MissingDayError:
        return None


def _judge_blocking(lake: Lake, contracts: Contracts, stored: StoredDay) -> tuple[Judgment, ...]:
    contract = _contract(contracts, stored.manifest.layer)
    rules = [rule for rule in contract.of_scope(Scope.DAY) if rule.is_error]
    evidence = _gather(lake, contracts, stored, rules, dt.datetime.now(dt.UTC), dt.date.min)
    return tuple(judge(evidence, rule) for rule in rules)


def _contract(contracts: Contracts, layer: Layer) -> Contract:
    return contracts.processed if layer is Layer.PROCESSED else contracts.enhanced


def _gather(
    lake: Lake, contracts: Contracts, stored: StoredDay, rules: Sequence[Rule], now: dt.datetime, first_day: dt.date
) -> Evidence:
    """Read what the rules look at, and nothing else."""
    manifest, day = stored.manifest, stored.manifest.day
    layer, names = manifest.layer, {rule.name for rule in rules}
    scored = bool(names & _SCORES)
    snapshots = scored or any(rule.scope is Scope.SNAPSHOT for rule in rules)
    ratio = next((rule for rule in rules if rule.name == "dead_letter_ratio"), None)
    share = dead_share(manifest.sources)
    # Why rows are dead is of no interest before there are too many of them, unless they are counted in a score.
    reasons = bool(share) and (scored or (ratio is not None and share > ratio.arguments["warn_above"]))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="trust") as pool:
        listing = pool.submit(lake.raw_listing, day)
        before = pool.submit(lake.read_day, layer, day - dt.timedelta(days=1), _BEFORE) if snapshots else None
        unbuilt = pool.submit(_unbuilt, lake, layer, first_day, now) if "no_failed_partitions" in names else None
        volume = next((rule for rule in rules if rule.name == "volume"), None)
        weeks = list(pool.map(lambda past: _past_day(lake, layer, past), _weeks_before(day, volume)))
    earlier = before.result() if before is not None else None
    return Evidence(
        contract=_contract(contracts, layer),
        day=day,
        now=now,
        sources=manifest.sources,
        rows=stored.rows,
        raw=listing_inputs(listing.result()),
        snapshot_rules=contracts.raw.of_scope(Scope.SNAPSHOT),
        dimensions={
            rule.name: rule.dimension
            for contract in (contracts.raw, contracts.processed, contracts.enhanced)
            for rule in contract.of_scope(Scope.FIELD, Scope.ROW, Scope.SNAPSHOT)
        },
        dead=_dead_rows(lake, day) if reasons else {},
        before=earlier.rows if earlier is not None else None,
        weeks=tuple(past for past in weeks if past is not None),
        unbuilt=unbuilt.result() if unbuilt is not None else (),
        from_older_deployment=manifest.code_version.endswith(LEGACY_CODE_VERSION),
    )


def _weeks_before(day: dt.date, volume: Rule | None) -> list[dt.date]:
    weeks = int(volume.arguments["weeks"]) if volume is not None else 0
    return [day - dt.timedelta(weeks=back) for back in range(weeks, 0, -1)]


def _past_day(lake: Lake, layer: Layer, day: dt.date) -> PastDay | None:
    """Return what a HEAD says of a day; objects of older code, and days without rows, say nothing."""
    found = lake.store.head(lake.keys.layer_object(layer, day))
    if found is None:
        return None
    rows, snapshots = found.metadata.get("rows", ""), found.metadata.get("snapshots", "")
    return PastDay(day, int(rows), int(snapshots)) if rows.isdigit() and snapshots.isdigit() and int(rows) else None


def _unbuilt(lake: Lake, layer: Layer, first_day: dt.date, now: dt.datetime) -> tuple[dt.date, ...]:
    """Days of raw, the running one aside, of which the layer has nothing."""
    built = {day_of(folder) for folder in lake.store.list_folders(lake.keys.layer_root(layer))}
    today = now.astimezone(dt.UTC).date()
    return tuple(day for day in lake.raw_days() if first_day <= day < today and day not in built)


def _dead_rows(lake: Lake, day: dt.date) -> dict[str, int]:
    """Count the rows of a day that are dead letters now, by rule; files that were set aside whole are no rows."""
    letters, _ = read_letters(lake.store, lake.keys, day)
    waiting = (letter for letter in letters if letter.status is not Status.REPROCESSED)
    return dict(Counter(record.rule for letter in waiting for record in letter.records if record.line is not None))

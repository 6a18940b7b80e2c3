"""What the site shows of the lake that no table of the marts holds: dead letters, checks, days that are held back.

It is public: no address of the store, no bike's id, and no row of the feed is in it.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Collection
from typing import Final

from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.dead_letters import Status, days_of_letters, letter_listing, read_letters
from wrm_pipeline.lake.keys import Layer, day_of
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.layers.trust import judge_day, require_trusted, rules_of
from wrm_pipeline.site.export import Columns, LakeFacts

_LETTER_DAYS: Final = 28
# Reading them takes a request each: more would hold the site up when there is trouble enough.
_MOST_LETTERS: Final = 2000
# Days that are not in the marts are explained so far back.
_HELD_BACK_DAYS: Final = 28
# How runs went, and an age, which the browser works out itself: not what the day is like.
_NOT_OF_A_DAY: Final = frozenset({"no_failed_partitions", "newest_row_age"})
_ADDRESS: Final = re.compile(r"s3://\S*/")
_BIKE: Final = re.compile(r"\b(fb|BIKE )\d+")


def read_facts(
    lake: Lake, contracts: Contracts, in_marts: Collection[dt.date], newest_snapshot_at: dt.datetime
) -> LakeFacts:
    """Read them, as of the newest snapshot's time; the same lake and time give the same facts.

    Args:
        lake: the lake.
        contracts: they have the rules that days are judged by.
        in_marts: the UTC days of the marts.
        newest_snapshot_at: aware; its day is the one that is judged.

    Raises:
        StoreError: the store does not answer.
    """
    return LakeFacts(
        letters=_letters(lake),
        checks=_checks(lake, contracts, newest_snapshot_at),
        not_in_marts=_not_in_marts(lake, contracts, in_marts),
    )


def _letters(lake: Lake) -> Columns | None:
    """Count what waits or was given up on by rule, over the newest 28 days; None when there is too much to read."""
    days = days_of_letters(lake.store, lake.keys)
    days = [day for day in days if day > days[-1] - dt.timedelta(days=_LETTER_DAYS)]
    listed = {day: list(letter_listing(lake.store, lake.keys, day)) for day in days}
    if sum(map(len, listed.values())) > _MOST_LETTERS:
        return None
    rows: Counter[str] = Counter()
    newest: dict[str, dt.date] = {}
    for day, listing in listed.items():
        letters, _ = read_letters(lake.store, lake.keys, day, listing)
        for letter in letters:
            if letter.status is not Status.REPROCESSED:
                for record in letter.records:
                    rows[record.rule] += 1
                    newest[record.rule] = day
    rules = sorted(rows, key=lambda rule: (-rows[rule], rule))
    return {
        "rule": list(rules),
        "rows": [rows[rule] for rule in rules],
        "newest_utc_date": [newest[rule].isoformat() for rule in rules],
    }


def _checks(lake: Lake, contracts: Contracts, newest_snapshot_at: dt.datetime) -> Columns:
    day = newest_snapshot_at.astimezone(dt.UTC).date()
    judged = [
        (layer, judgment)
        for layer in (Layer.PROCESSED, Layer.ENHANCED)
        for judgment in judge_day(
            lake,
            contracts,
            layer,
            day,
            now=newest_snapshot_at,
            only={rule.name for rule in rules_of(contracts, layer)} - _NOT_OF_A_DAY,
        )
    ]
    return {
        "utc_date": [day.isoformat()] * len(judged),
        "layer": [layer.value for layer, _ in judged],
        "name": [judgment.rule.name for _, judgment in judged],
        "passed": [judgment.passed for _, judgment in judged],
        "blocks": [judgment.blocks for _, judgment in judged],
        "summary": [_public(judgment.summary) for _, judgment in judged],
    }


def _not_in_marts(lake: Lake, contracts: Contracts, in_marts: Collection[dt.date]) -> Columns:
    """Say of each of the newest days of enhanced that the marts leave out why they do."""
    folders = lake.store.list_folders(lake.keys.layer_root(Layer.ENHANCED))
    days = sorted(day for folder in folders if (day := day_of(folder)) is not None)[-_HELD_BACK_DAYS:]
    found: Columns = {"utc_date": [], "reason": []}
    for day in days:
        if day not in in_marts:
            try:
                require_trusted(lake, contracts, day)
                reason = "It was built after the marts."
            except LayerError as error:
                reason = _public(str(error))
            found["utc_date"].append(day.isoformat())
            found["reason"].append(reason)
    return found


def _public(text: str) -> str:
    """Return a sentence for the operator without what only the operator may see."""
    return _BIKE.sub("a bike", _ADDRESS.sub("", text))

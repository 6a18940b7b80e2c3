"""How a day of a layer is judged: one pure function for each rule for days, by the name that its contract knows it by.

What a judgment is made from is gathered in `layers.trust`; how it is shown is in `checks`.
"""

import datetime as dt
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wrm_pipeline.contracts.model import Contract, Dimension, Rule, Severity
from wrm_pipeline.contracts.vocabulary import Scope
from wrm_pipeline.transform.schema_check import SchemaProblem, schema_problems
from wrm_pipeline.transform.snapshots import SNAPSHOT_RULES, SnapshotFinding, judge_snapshots

# Failing rows that are shown; the others are counted.
SHOWN: Final = 10
# A median of one day is that day.
_FEWEST_WEEKS: Final = 2
_DAY: Final = dt.timedelta(days=1)
SCORE_FORMULA: Final = (
    "The share of rows (kept and dead) that break no rule of this dimension, times the share of snapshots without a "
    "finding of it"
)

Cells = Mapping[str, object]


@dataclass(frozen=True)
class Judgment:
    """What a rule says of a day: whether it passes, whether it blocks what is downstream, and why.

    `summary` is a sentence, `figures` are what it rests on, `failing` the first rows, snapshots or sources that fail.
    """

    rule: Rule
    passed: bool
    summary: str
    blocks: bool = False
    figures: Mapping[str, float | str] = field(default_factory=dict)
    failing: tuple[Cells, ...] = ()

    @property
    def severity(self) -> Severity:
        """How bad it is when it fails. A finding about snapshots is as its contract has it, and blocks nothing."""
        if self.rule.scope is Scope.SNAPSHOT:
            return self.rule.severity
        return Severity.ERROR if self.blocks else Severity.WARNING


class SourceCounts(Protocol):
    """One input of a day, as the day's object records it: `rows` should be those kept, dead and duplicate."""

    @property
    def key(self) -> str:
        """Its key."""
        ...

    @property
    def etag(self) -> str:
        """Its ETag when it was read."""
        ...

    @property
    def rows(self) -> int:
        """Rows in it."""
        ...

    @property
    def kept(self) -> int:
        """Those that are in the day."""
        ...

    @property
    def dead(self) -> int:
        """Those that are dead letters."""
        ...

    @property
    def duplicates(self) -> int:
        """Those that repeat another one to the letter."""
        ...

    @property
    def fault(self) -> str | None:
        """Why all of it was set aside, or None."""
        ...


@dataclass(frozen=True)
class PastDay:
    """What is known of an earlier day without reading it: its rows, of which there are some, and its snapshots."""

    day: dt.date
    rows: int
    snapshots: int


@dataclass(frozen=True)
class Evidence:
    """What a day of a layer is judged by.

    Attributes:
        contract: the layer's.
        snapshot_rules: rules for its snapshots.
        dimensions: the dimension of each rule that rows or snapshots can break, by name.
        day: the UTC day.
        now: aware; what is expected of the running day depends on it.
        sources: what the day's object records that it was built from.
        rows: the object's rows, with whatever columns it has.
        raw: the ETag of each object that raw holds for the day, by key.
        dead: rows of the day that are dead letters, by rule; empty when the sources count none.
        before: rows of the day before, with `BEFORE_COLUMNS` at least; None when there are none.
        weeks: the same weekday in the weeks before, as far as it is there.
        unbuilt: days that raw holds and the layer does not.
        failed: days whose last run failed.
        from_older_deployment: whether the sources are an older deployment's objects, because raw holds none.
    """

    contract: Contract
    day: dt.date
    now: dt.datetime
    sources: Sequence[SourceCounts]
    rows: pa.Table
    raw: Mapping[str, str]
    snapshot_rules: Sequence[Rule] = ()
    dimensions: Mapping[str, Dimension] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    before: pa.Table | None = None
    weeks: tuple[PastDay, ...] = ()
    unbuilt: tuple[dt.date, ...] = ()
    failed: tuple[dt.date, ...] = ()
    from_older_deployment: bool = False

    @property
    def is_running(self) -> bool:
        """Whether the day has not ended yet."""
        return self.now.astimezone(dt.UTC).date() <= self.day

    @property
    def elapsed_s(self) -> float:
        """How much of the day is over."""
        since = self.now - dt.datetime.combine(self.day, dt.time(), dt.UTC)
        return min(max(since, dt.timedelta(0)), _DAY).total_seconds()

    @property
    def until(self) -> dt.datetime:
        """Up to when snapshots can have come."""
        return dt.datetime.combine(self.day, dt.time(), dt.UTC) + dt.timedelta(seconds=self.elapsed_s)

    @property
    def kept(self) -> int:
        """Rows that the sources count as kept."""
        return total(self.sources, "kept")

    @property
    def all_rows(self) -> int:
        """Rows kept and dead; a duplicate is no row of its own."""
        return self.kept + total(self.sources, "dead")

    @cached_property
    def problems(self) -> list[SchemaProblem]:
        """What does not fit the contract's columns."""
        return schema_problems(self.rows, self.contract)

    @cached_property
    def unreadable(self) -> str:
        """Why rules cannot look at the rows: the first column that is missing, of another type, or null; or nothing."""
        for column in self.contract.columns:
            at = self.rows.schema.get_field_index(column.name)
            if at < 0 or self.rows.schema.field(at).type != column.type:
                return f"{column.name} is missing or of another type"
            if not column.nullable and self.rows.column(at).null_count:
                return f"{column.name} holds nulls"
        return ""

    @cached_property
    def received(self) -> int:
        """Snapshots that came and could be read."""
        if self.from_older_deployment:
            return len(pc.unique(self.rows.column("file_timestamp")))
        return sum(source.fault is None for source in self.sources)

    @property
    def expected(self) -> int:
        """Snapshots that must have come by now: the elapsed time of the day over the time between two polls."""
        return math.floor(self.elapsed_s / self.contract.interval_s)

    @cached_property
    def findings(self) -> list[SnapshotFinding]:
        """What the rules for snapshots found."""
        return judge_snapshots(self.rows, self.before, self.snapshot_rules, day=self.day, until=self.until)

    @cached_property
    def flags(self) -> tuple[np.ndarray, list[str], np.ndarray]:
        """The quality flags: the row of each, their names, and the position of each one's name among these."""
        lists = self.rows.column("quality_flags").combine_chunks()
        names = pc.list_flatten(lists).dictionary_encode()
        return pc.list_parent_indices(lists).to_numpy(), names.dictionary.to_pylist(), names.indices.to_numpy()


def judge(evidence: Evidence, rule: Rule) -> Judgment:
    """Judge a day by one rule of scope day or snapshot.

    Where the columns are not what the rule must look at, it fails and says so: then `schema` says more.
    """
    if rule.name in _LOOK_AT_ROWS and evidence.unreadable:
        summary = f"This cannot be judged: {evidence.unreadable}. See the check `schema`."
        return Judgment(rule, passed=False, blocks=_blocks(rule), summary=summary)
    return DAY_RULES[rule.name](evidence, rule)


def unjudged(rule: Rule, why: str) -> Judgment:
    """Return the judgment of a day that there is nothing to judge of; `why` is a sentence."""
    return Judgment(rule, passed=False, blocks=_blocks(rule), summary=why)


def total(sources: Iterable[SourceCounts], count: str) -> int:
    """Sum `rows`, `kept`, `dead` or `duplicates` over sources."""
    return sum(getattr(source, count) for source in sources)


def unbalanced(sources: Iterable[SourceCounts]) -> list[SourceCounts]:
    """Return the sources whose rows are not those kept, dead and duplicate."""
    return [source for source in sources if source.rows != source.kept + source.dead + source.duplicates]


def dead_share(sources: Sequence[SourceCounts]) -> float:
    """Return the share of a day's rows, kept and dead, that are dead letters; 0 where there are none."""
    dead = total(sources, "dead")
    return dead / (total(sources, "kept") + dead) if dead else 0.0


def _blocks(rule: Rule) -> bool:
    return rule.scope is Scope.DAY and rule.is_error


def _verdict(
    rule: Rule,
    failing: Sequence[Cells],
    summary: str,
    *,
    passed: bool | None = None,
    blocks: bool = True,
    figures: Mapping[str, float | str] | None = None,
) -> Judgment:
    """Return a judgment that fails when there is something failing, and then blocks if the contract has it as an error.

    `passed` says so where what fails is not a list; `blocks=False` makes a failure a warning, whatever the contract.
    """
    ok = not failing if passed is None else passed
    return Judgment(
        rule=rule,
        passed=ok,
        blocks=not ok and blocks and _blocks(rule),
        summary=summary,
        figures=figures or {},
        failing=tuple(failing[:SHOWN]),
    )


def _schema(evidence: Evidence, rule: Rule) -> Judgment:
    problems = evidence.problems
    failing = [
        {"column": problem.column, "check": problem.check, "failing": problem.count, "value": value, **place}
        for problem in problems
        for value, place in zip(
            problem.values or ("",), [_place(evidence.rows, row) for row in problem.rows] or [{}], strict=True
        )
    ]
    summary = (
        "; ".join(f"{p.column}: {p.check}" + (f" ({p.count} rows)" if p.count else "") for p in problems[:SHOWN]) + "."
        if problems
        else f"All {evidence.rows.num_rows} rows fit the {len(evidence.contract.columns)} columns of the contract."
    )
    figures = {"rows": evidence.rows.num_rows, "problems": len(problems)}
    return _verdict(rule, failing, summary, figures=figures)


def _place(rows: pa.Table, row: int) -> Cells:
    columns = [name for name in ("station_id", "file_timestamp") if name in rows.column_names]
    return {"row": row, **{name: rows.column(name)[row].as_py() for name in columns}}


def _reconciliation(evidence: Evidence, rule: Rule) -> Judgment:
    sources, stored = evidence.sources, _stored_by_source(evidence)
    wrong = {source.key for source in unbalanced(sources)}
    failing: list[Cells] = [
        {**_counts(source), "stored": stored.get(source.key, "")}
        for source in sources
        if source.key in wrong or stored.get(source.key, source.kept) != source.kept
    ]
    unknown = stored.keys() - {source.key for source in sources}
    failing += [{"source": key, "stored": stored[key]} for key in sorted(unknown)]
    if not failing and evidence.rows.num_rows != evidence.kept:
        failing = [{"source": "all of them", "kept": evidence.kept, "stored": evidence.rows.num_rows}]
    rows, dead, double = (total(sources, count) for count in ("rows", "dead", "duplicates"))
    names = ", ".join(str(entry["source"]).rpartition("/")[2] for entry in failing[:3])
    summary = (
        f"The rows of {len(failing)} sources do not add up, among them {names}."
        if failing
        else f"{rows} rows in raw = {evidence.kept} kept + {dead} dead + {double} duplicates, for each of "
        f"{len(sources)} sources."
    )
    figures = {
        "rows_raw": rows,
        "rows_kept": evidence.kept,
        "rows_dead": dead,
        "rows_duplicate": double,
        "rows_stored": evidence.rows.num_rows,
        "sources": len(sources),
    }
    return _verdict(rule, failing, summary, figures=figures)


def _counts(source: SourceCounts) -> Cells:
    return {
        "source": source.key,
        "raw": source.rows,
        "kept": source.kept,
        "dead": source.dead,
        "duplicates": source.duplicates,
    }


def _stored_by_source(evidence: Evidence) -> dict[str, int]:
    """Count the stored rows of each source. An older deployment's rows name raw objects, not those they came from."""
    if evidence.from_older_deployment:
        return {}
    counts = evidence.rows.column("s3_source_key").value_counts().to_pylist()
    none = {source.key: 0 for source in evidence.sources}
    return none | {entry["values"]: entry["counts"] for entry in counts}


def _inputs(evidence: Evidence, rule: Rule) -> Judgment:
    recorded, raw = {source.key: source.etag for source in evidence.sources}, evidence.raw
    figures = {"recorded": len(recorded), "in_raw": len(raw)}
    gone = [] if evidence.from_older_deployment else [key for key in recorded if key not in raw]
    changed = [key for key in recorded if key in raw and raw[key] != recorded[key]]
    waiting = sorted(raw.keys() - recorded.keys())
    failing = [
        *({"source": key, "what": "recorded, and no longer in raw"} for key in gone),
        *({"source": key, "what": "changed in raw since it was read"} for key in changed),
        *({"source": key, "what": "in raw, and not built in yet"} for key in waiting),
    ]
    if gone or changed:
        summary = f"{len(gone)} recorded inputs are no longer in raw and {len(changed)} have changed there since."
    elif waiting:
        summary = f"{len(waiting)} snapshots wait in raw to be built in."
    elif evidence.from_older_deployment:
        summary = f"Raw holds nothing; the day is made of {len(recorded)} objects of an older deployment."
    else:
        summary = f"The {len(recorded)} recorded inputs are what raw lists."
    return _verdict(rule, failing, summary, blocks=bool(gone or changed), figures=figures)


def _unique(evidence: Evidence, rule: Rule) -> Judgment:
    key = ["station_id", "file_timestamp"]
    counts = evidence.rows.select(key).group_by(key).aggregate([([], "count_all")])
    double = counts.filter(pc.greater(counts.column("count_all"), 1)).sort_by([(name, "ascending") for name in key])
    failing = double.slice(0, SHOWN).rename_columns([*key, "rows"]).to_pylist()
    summary = (
        f"{double.num_rows} stations or bikes stand more than once in a snapshot, first "
        f"{failing[0]['station_id']} at {failing[0]['file_timestamp']:%Y-%m-%d %H:%M:%S} UTC."
        if failing
        else f"Each of {evidence.rows.num_rows} rows is the only one of its station or bike in its snapshot."
    )
    return _verdict(rule, failing, summary, figures={"rows": evidence.rows.num_rows, "repeated": double.num_rows})


def _dead_letter_ratio(evidence: Evidence, rule: Rule) -> Judgment:
    share, rows = dead_share(evidence.sources), evidence.all_rows
    warn, block = rule.arguments["warn_above"], rule.arguments["block_above"]
    reasons = sorted(evidence.dead.items(), key=lambda item: (-item[1], item[0]))
    bound = f", over {_percent(block)}" if share > block else f", over {_percent(warn)}" if share > warn else ""
    top = f" Most often: {', '.join(f'{name} ({count})' for name, count in reasons[:3])}." if reasons else ""
    return _verdict(
        rule,
        [{"rule": name, "rows": count, "share": round(count / rows, 4)} for name, count in reasons],
        f"{_percent(share)} of {rows} rows are dead letters{bound}.{top}",
        passed=share <= warn,
        blocks=share > block,
        figures={"rows": rows, "rows_dead": rows - evidence.kept, "ratio": round(share, 4)},
    )


def _newest_row_age(evidence: Evidence, rule: Rule) -> Judgment:
    newest = pc.max(evidence.rows.column("file_timestamp")).as_py()
    if newest is None:
        return _verdict(rule, (), "There is no row.", passed=not evidence.is_running)
    warn, fail = evidence.contract.freshness_warn_s, evidence.contract.freshness_fail_s
    age_s = (evidence.now - newest).total_seconds()
    figures: dict[str, float | str] = {"newest_row": f"{newest:%Y-%m-%d %H:%M:%S} UTC"}
    if not evidence.is_running:
        summary = f"The day is at rest; its newest row is of {figures['newest_row']}."
        return _verdict(rule, (), summary, passed=True, figures=figures)
    bound = f", over {fail / 60:g} min" if age_s > fail else f", over {warn / 60:g} min" if age_s > warn else ""
    return _verdict(
        rule,
        (),
        f"The newest row is {age_s / 60:.0f} min old{bound}.",
        passed=age_s <= warn,
        blocks=age_s > fail,
        figures=figures | {"age_min": round(age_s / 60, 1)},
    )


def _snapshots_received(evidence: Evidence, rule: Rule) -> Judgment:
    received, expected = evidence.received, evidence.expected
    share = received / expected if expected else 1.0
    return _verdict(
        rule,
        (),
        f"{received} snapshots came of {expected} expected{' so far' if evidence.is_running else ''} "
        f"({_percent(share)}).",
        passed=share >= rule.arguments["share_below"],
        figures={"received": received, "expected": expected, "share": round(share, 4)},
    )


def _volume(evidence: Evidence, rule: Rule) -> Judgment:
    weeks, kept = evidence.weeks, evidence.kept
    figures: dict[str, float | str] = {"rows": kept, "days": len(weeks)}
    if len(weeks) < _FEWEST_WEEKS:
        summary = (
            f"The history is too short: {len(weeks)} of the {rule.arguments['weeks']:g} {evidence.day:%A}s before "
            f"are there, and {_FEWEST_WEEKS} are needed."
        )
        return _verdict(rule, (), summary, figures=figures)
    # Of a running day, the polls that are due: the first of them comes when no time has passed.
    interval_s = evidence.contract.interval_s
    due = min(1.0, (evidence.expected + 1) * interval_s / _DAY.total_seconds())
    usual = statistics.median(week.rows for week in weeks) * due
    share = kept / usual
    low, high = rule.arguments["share_below"], rule.arguments["share_above"]
    figures |= {"usual": round(usual), "share": round(share, 4)}
    return _verdict(
        rule,
        [{"day": week.day, "rows": week.rows, "snapshots": week.snapshots} for week in weeks],
        f"{kept} rows where the last {len(weeks)} {evidence.day:%A}s had {usual:.0f}"
        f"{' by this time' if evidence.is_running else ''} "
        f"({_percent(share)}).",
        passed=low <= share <= high,
        figures=figures,
    )


def _score(evidence: Evidence, rule: Rule) -> Judgment:
    """Score a dimension: see `SCORE_FORMULA`; completeness is also times received over expected, at most 1.

    A row with two flags of one dimension counts once. A dead row breaks one rule, the first that it met. The share of
    nothing is 1.
    """
    dimension = Dimension(rule.name)
    names = {name for name, of in evidence.dimensions.items() if of is dimension}
    flag_rows, flag_names, codes = evidence.flags
    is_of = np.array([name in names for name in flag_names], dtype=bool)[codes]
    counts = Counter({name: count for name, count in evidence.dead.items() if name in names})
    dead = counts.total()
    counts.update(flag_names[code] for code in codes[is_of].tolist())
    flagged = len(np.unique(flag_rows[is_of]))
    rows = evidence.all_rows
    row_share = 1 - min(flagged + dead, rows) / rows if rows else 1.0
    odd = {time for finding in evidence.findings if finding.rule in names for time in finding.snapshots}
    snapshot_share = 1 - min(len(odd), evidence.received) / evidence.received if evidence.received else 1.0
    parts = {"rows_without_finding": row_share, "snapshots_without_finding": snapshot_share}
    if dimension is Dimension.COMPLETENESS:
        parts["snapshots_received"] = min(1.0, evidence.received / evidence.expected) if evidence.expected else 1.0
    score = math.prod(parts.values())
    failing = [{"rule": name, "rows": count} for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    return _verdict(
        rule,
        failing,
        f"The score is {score:.3f}: "
        + ", ".join(f"{name.replace('_', ' ')} {_percent(part)}" for name, part in parts.items())
        + ".",
        passed=score >= rule.arguments["score_below"],
        figures={"score": round(score, 4), **{name: round(part, 4) for name, part in parts.items()}},
    )


def _no_failed_partitions(evidence: Evidence, rule: Rule) -> Judgment:
    failing = [
        *({"day": day, "what": "raw holds it, and it is not built"} for day in sorted(evidence.unbuilt)),
        *({"day": day, "what": "its last run failed"} for day in sorted(evidence.failed)),
    ]
    summary = (
        f"{len(evidence.unbuilt)} days of raw are not built, and the last run of {len(evidence.failed)} days failed. "
        "Run them again; their runs say why they failed."
        if failing
        else "Every day that raw holds is built, and no day's last run failed."
    )
    figures = {"unbuilt": len(evidence.unbuilt), "failed": len(evidence.failed)}
    return _verdict(rule, failing, summary, figures=figures)


def _percent(share: float) -> str:
    """Return a share as a percentage of three digits at most: a hundredth of a percent of a day is a snapshot's row."""
    return f"{100 * share:.3g} %" if share < 1 else f"{100 * share:.0f} %"


def _snapshots(evidence: Evidence, rule: Rule) -> Judgment:
    found = [finding for finding in evidence.findings if finding.rule == rule.name]
    affected = len({time for finding in found for time in finding.snapshots})
    summary = (
        f"{len(found)} on this day; the first at {found[0].time:%H:%M:%S} UTC: {found[0].message}."
        if found
        else f"None of {evidence.received} snapshots."
    )
    return _verdict(
        rule,
        [{"time": finding.time, "what": finding.message} for finding in found],
        summary,
        figures={"findings": len(found), "snapshots": affected, "snapshots_received": evidence.received},
    )


def judge_letters(unreadable: Iterable[str], letters: int, rule: Rule) -> Judgment:
    """Judge a day's dead letters by `readable_letters`: why each that cannot be read cannot, and how many could."""
    failing = [{"letter": reason} for reason in unreadable]
    summary = (
        f"{len(failing)} dead letters cannot be read; they are skipped and left as they are."
        if failing
        else f"All {letters} dead letters of the day can be read."
    )
    return _verdict(rule, failing, summary, figures={"letters": letters, "unreadable": len(failing)})


DayRule = Callable[[Evidence, Rule], Judgment]
_SCORES: Final[dict[str, DayRule]] = {dimension.value: _score for dimension in Dimension}
DAY_RULES: Final[dict[str, DayRule]] = {
    "schema": _schema,
    "reconciliation": _reconciliation,
    "inputs": _inputs,
    "unique": _unique,
    "dead_letter_ratio": _dead_letter_ratio,
    "newest_row_age": _newest_row_age,
    "snapshots_received": _snapshots_received,
    "volume": _volume,
    "no_failed_partitions": _no_failed_partitions,
    **_SCORES,
    **dict.fromkeys(SNAPSHOT_RULES, _snapshots),
}
# The one rule for days of a dataset that is no layer: `judge_letters`.
LETTERS_RULE: Final = "readable_letters"
_LOOK_AT_ROWS: Final = frozenset(
    {"reconciliation", "unique", "newest_row_age", "snapshots_received", *_SCORES, *SNAPSHOT_RULES}
)

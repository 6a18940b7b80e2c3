"""What alerts tell, to whom, when, and in which words: pure functions, and the memory that they need.

A streak is one thing that keeps failing, from its first failure to its recovery. Each channel is owed one message for
its beginning and one for its end; whatever is owed when a channel may be written to again goes into one message.
"""

import datetime as dt
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import takewhile
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wrm_pipeline.telemetry.redaction import redact
from wrm_pipeline.transform.zone import LOCAL_ZONE

# Whoever has been told of a failure is told again when it still happens a day later, and not before.
REMIND_AFTER: Final = dt.timedelta(hours=24)
# A failure that is known and has not happened for so long has nobody's attention any more: a bad day stays bad.
FORGET_AFTER: Final = dt.timedelta(days=3)
# Dagster keeps a sensor's cursor with each of its ticks, 2,880 a day, so it is kept small: 80 KB at the very worst.
MAX_STREAKS: Final = 100
MAX_SEEN: Final = 200
MAX_CURSOR_BYTES: Final = 80_000
_ERROR_CHARACTERS: Final = 200
_NAME_CHARACTERS: Final = 120
# Told in full; what else is in a message has a line of its own.
_IN_FULL: Final = 5
# Telegram takes 4,096 characters, and most others more.
_BODY_CHARACTERS: Final = 3_500
_PARTITIONS_NAMED: Final = 10
_HOUR_S: Final = 3_600.0


class Kind(StrEnum):
    """What a streak is about; a notice is told once and has no end."""

    RUN = "run"
    CHECK = "check"
    NOTICE = "notice"


class Grade(IntEnum):
    """How bad it is. Failed runs are errors; a check says what it is."""

    WARNING = 1
    ERROR = 2


class Cause(StrEnum):
    """Why something failed, as far as it decides what to try."""

    STORE = "store"
    FEED = "feed"
    BREAKER = "breaker"
    SETTINGS = "settings"
    SECRETS = "secrets"
    CONTRACT = "contract"
    MARTS = "marts"
    SITE = "site"
    DAY = "day"
    CHECKED = "checked"
    CHECK = "check"
    LETTERS = "letters"
    PROCESS = "process"
    OTHER = "other"


ADVICE: Final[Mapping[Cause, str]] = {
    Cause.STORE: "`wrm doctor` checks the store's address, keys and clock. The next run goes on from here.",
    Cause.FEED: "Wait for the next poll; `wrm status` shows the newest snapshot. If it lasts, open WRM_FEED_URL.",
    Cause.BREAKER: "Nothing was asked, because the calls before failed; it is tried again by itself. `wrm doctor` "
    "looks at the store, `wrm status` at the newest snapshot.",
    Cause.SETTINGS: "Correct the setting that the error names (.env.example explains each) and restart Dagster.",
    Cause.SECRETS: "`wrm secrets check` says what Vault holds and what is missing.",
    Cause.CONTRACT: "`wrm contracts` names file and line; correct the contract and restart Dagster.",
    Cause.MARTS: "Run wrm_stations_marts_job again. WRM_DUCKDB_PATH is a cache: delete it, and the run makes it again.",
    Cause.SITE: "Check that WRM_SITE_DIR can be written to and has room, then run wrm_stations_marts_job again.",
    Cause.DAY: "`wrm status` shows what the day holds; the checks of its assets in Dagster say what is wrong with it.",
    Cause.CHECKED: "A blocking check stopped the run: its metadata in Dagster has a table of what fails.",
    Cause.CHECK: "The check's metadata in Dagster has a table of what fails; `wrm dlq list` shows rows set aside.",
    Cause.LETTERS: "`wrm dlq list` shows them. Correct the code or the contract, and the next redrive tries again.",
    Cause.PROCESS: "Its process ended without a word: look at memory, disk and the machine's log. Dagster starts such "
    "a run once more by itself.",
    Cause.OTHER: "No error that was foreseen: the run's log in Dagster has the traceback.",
}

_CAUSES: Final[Mapping[str, Cause]] = {
    "StoreError": Cause.STORE,
    "StoreUnavailable": Cause.STORE,
    "StoreRefused": Cause.STORE,
    "CorruptObject": Cause.STORE,
    "FeedError": Cause.FEED,
    "FeedUnavailable": Cause.FEED,
    "FeedRefused": Cause.FEED,
    "FeedTooLarge": Cause.FEED,
    "FeedCutOff": Cause.FEED,
    "FeedDamaged": Cause.FEED,
    "NotASnapshotError": Cause.FEED,
    "BreakerOpen": Cause.BREAKER,
    "SettingsError": Cause.SETTINGS,
    "VaultError": Cause.SECRETS,
    "VaultUnavailable": Cause.SECRETS,
    "VaultSealed": Cause.SECRETS,
    "VaultDenied": Cause.SECRETS,
    "LoginRefused": Cause.SECRETS,
    "TokenRefused": Cause.SECRETS,
    "SecretNotFound": Cause.SECRETS,
    "PossibleInterception": Cause.SECRETS,
    "ContractError": Cause.CONTRACT,
    "MartsError": Cause.MARTS,
    "MartDefinitionError": Cause.MARTS,
    "SiteFolderError": Cause.SITE,
    "LayerError": Cause.DAY,
    "NoRawDataError": Cause.DAY,
    "RawKeepsChangingError": Cause.DAY,
    "ObjectNotFound": Cause.DAY,
    "KeyExists": Cause.DAY,
    "DayKeepsChangingError": Cause.DAY,
    "UntrustedDayError": Cause.DAY,
    "MissingDayError": Cause.DAY,
    "DagsterAssetCheckFailedError": Cause.CHECKED,
}


def cause_of(error_classes: Sequence[str]) -> Cause:
    """Return why something failed from the names of its error's classes, the outermost first, the deepest deciding."""
    for name in reversed(error_classes):
        if name in _CAUSES:
            return _CAUSES[name]
    return Cause.OTHER if error_classes else Cause.PROCESS


# --- What happened ----------------------------------------------------------------------------------------------------


class Subject(BaseModel):
    """What fails: a job, a check of an asset, or a notice; with its partition when it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    name: str
    asset: str = ""
    partition: str = ""


@dataclass(frozen=True)
class Failed:
    """Something failed. `event` is the event's id in Dagster's log, `at` is UTC, `error` one line without secrets."""

    event: int
    subject: Subject
    at: dt.datetime
    error: str
    cause: Cause
    grade: Grade = Grade.ERROR
    run_id: str = ""
    step: str = ""


@dataclass(frozen=True)
class Passed:
    """Something went well. `steps` are those that another run than the failed one has done for the partition."""

    event: int
    subject: Subject
    at: dt.datetime
    steps: frozenset[str] = frozenset()


Observation = Failed | Passed


def first_line(text: str) -> str:
    """Return the first line that says something, cut, without secrets and without credentials in addresses."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # One that ends with a colon says nothing without the next.
    line = " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else ""
    return _cut(re.sub(r"(?<=://)[^\s/]*@", "***@", redact(line)), _ERROR_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


# --- The memory -------------------------------------------------------------------------------------------------------


class Told(BaseModel):
    """What a channel knows of a streak: when it was last told that it fails (UTC), how badly, and whether it ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: dt.datetime
    grade: Grade
    ended: bool = False


class Streak(BaseModel):
    """One thing that fails or failed, all times UTC; `told` is by the channel's number.

    `event` is that of the first failure. Run, step, error and cause are those of the newest one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: int
    subject: Subject
    first_at: dt.datetime
    last_at: dt.datetime
    count: int = 1
    grade: Grade = Grade.ERROR
    run_id: str = ""
    step: str = ""
    error: str = ""
    cause: Cause
    recovered_at: dt.datetime | None = None
    told: dict[int, Told] = {}


class AlertState(BaseModel):
    """A sensor's memory.

    `after` and `seen` say which events were read: all up to `after`, and those in `seen`. `after` is one tick late, so
    that an event whose transaction ended after that of a later one is found. `unnamed` counts, by the channel's number,
    failures that it will not hear of because there were too many at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    after: int
    seen: tuple[int, ...] = ()
    streaks: tuple[Streak, ...] = ()
    unnamed: dict[int, int] = {}

    @classmethod
    def load(cls, text: str | None) -> "AlertState | None":
        """Read a stored cursor; None when there is none, or one that is not understood."""
        try:
            return cls.model_validate_json(text) if text else None
        except ValidationError:
            return None

    def dump(self) -> str:
        """Return the cursor to store."""
        return self.model_dump_json(exclude_defaults=True)


def read_on(state: AlertState, events: Collection[int]) -> AlertState:
    """Remember the events after `after` that a tick has read, and let `after` follow to those of the tick before."""
    after = max([state.after, *state.seen])
    newer = sorted(event for event in {*state.seen, *events} if event > after)
    kept = newer[-MAX_SEEN:]
    after = max([after, *newer[: len(newer) - len(kept)]])
    return state.model_copy(update={"after": after, "seen": tuple(kept)})


def observe(state: AlertState, observations: Iterable[Observation]) -> AlertState:
    """Begin, lengthen and end streaks, in the order of the events."""
    streaks = list(state.streaks)
    for seen in sorted(observations, key=lambda seen: seen.event):
        if isinstance(seen, Passed):
            streaks = [_ended(streak, seen) if _ends(seen, streak) else streak for streak in streaks]
            continue
        open_at = [n for n, streak in enumerate(streaks) if streak.subject == seen.subject and _is_open(streak)]
        if open_at:
            streaks[open_at[0]] = _lengthened(streaks[open_at[0]], seen)
        else:
            streaks.append(_begun(seen))
    return state.model_copy(update={"streaks": tuple(streaks)})


def _is_open(streak: Streak) -> bool:
    return streak.recovered_at is None and streak.subject.kind is not Kind.NOTICE


def _ends(passed: Passed, streak: Streak) -> bool:
    if not _is_open(streak):
        return False
    if passed.subject == streak.subject:
        return True
    # Whoever materializes the day by hand has repaired what the job could not do.
    same = (passed.subject.kind, passed.subject.partition) == (streak.subject.kind, streak.subject.partition)
    return same and streak.step in passed.steps


def _ended(streak: Streak, passed: Passed) -> Streak:
    return streak.model_copy(update={"recovered_at": max(passed.at, streak.last_at)})


def _begun(failed: Failed) -> Streak:
    return Streak(
        event=failed.event,
        subject=failed.subject,
        first_at=failed.at,
        last_at=failed.at,
        grade=failed.grade,
        run_id=failed.run_id,
        step=failed.step,
        error=failed.error,
        cause=failed.cause,
    )


def _lengthened(streak: Streak, failed: Failed) -> Streak:
    update = {
        "first_at": min(streak.first_at, failed.at),
        "last_at": max(streak.last_at, failed.at),
        "count": streak.count + 1,
        "grade": max(streak.grade, failed.grade),
        "run_id": failed.run_id,
        "step": failed.step,
        "error": failed.error,
        "cause": failed.cause,
    }
    return streak.model_copy(update=update)


# --- What is owed to whom ---------------------------------------------------------------------------------------------


class What(StrEnum):
    """What there is to tell of a streak."""

    FAILS = "fails"
    WORSE = "worse"
    STILL = "still"
    RECOVERED = "recovered"
    PASSED_BY = "passed by"  # failed and recovered before it could be told
    NOTICE = "notice"


@dataclass(frozen=True)
class News:
    """A streak, and what of it a channel does not know."""

    what: What
    streak: Streak


def owed(state: AlertState, channel: int) -> tuple[News, ...]:
    """Return what a channel does not know, in the order of the first failures."""
    found = ((_what(streak, streak.told.get(channel)), streak) for streak in state.streaks)
    return tuple(News(what, streak) for what, streak in found if what is not None)


def _what(streak: Streak, told: Told | None) -> What | None:
    if told is None:
        if streak.subject.kind is Kind.NOTICE:
            return What.NOTICE
        return What.FAILS if streak.recovered_at is None else What.PASSED_BY
    if told.ended:
        return None
    if streak.recovered_at is not None:
        return What.RECOVERED
    if streak.grade > told.grade:
        return What.WORSE
    return What.STILL if streak.last_at - told.at >= REMIND_AFTER else None


def tell(state: AlertState, channel: int, news: Iterable[News], now: dt.datetime) -> AlertState:
    """Remember that a channel took a message with these news, and with the number of those that it does not name."""
    named = {each.streak.event: each.what for each in news}
    ends = {What.RECOVERED, What.PASSED_BY, What.NOTICE}
    streaks = tuple(
        streak.model_copy(
            update={
                "told": {
                    **streak.told,
                    channel: Told(at=now, grade=streak.grade, ended=named[streak.event] in ends),
                }
            }
        )
        if streak.event in named
        else streak
        for streak in state.streaks
    )
    unnamed = {number: count for number, count in state.unnamed.items() if number != channel}
    return state.model_copy(update={"streaks": streaks, "unnamed": unnamed})


def settle(state: AlertState, channels: Collection[int], now: dt.datetime) -> AlertState:
    """Forget what all channels know, and, of what is too much to remember, what matters least."""
    live = [streak for streak in state.streaks if not _is_done(streak, channels, now)]
    known = {streak.event for streak in live if all(_what(streak, streak.told.get(c)) is None for c in channels)}
    # First go those whose failure was told, those that recovered before the others, and of these the oldest.
    by_worth = sorted(
        live,
        key=lambda s: (not all(c in s.told for c in channels), s.recovered_at is None, s.last_at, s.event),
    )
    kept = {streak.event for streak in by_worth[max(0, len(live) - MAX_STREAKS) :]}
    unnamed = {channel: count for channel, count in state.unnamed.items() if channel in channels}
    for streak in state.streaks:
        if streak.event not in kept:
            for channel in set(channels) - set(streak.told):
                unnamed[channel] = unnamed.get(channel, 0) + 1
    streaks = tuple(
        # Nobody is to be told of it now, and when somebody is, there will be a newer error.
        streak.model_copy(update={"error": ""}) if streak.event in known else streak
        for streak in live
        if streak.event in kept
    )
    return state.model_copy(update={"streaks": streaks, "unnamed": unnamed})


def _is_done(streak: Streak, channels: Collection[int], now: dt.datetime) -> bool:
    if all(channel in streak.told and streak.told[channel].ended for channel in channels):
        return True
    # Somebody has known for days, and a channel that does not by now has not worked for as long.
    times = [told.at for channel, told in streak.told.items() if channel in channels]
    return bool(times) and now - max(streak.recovered_at or streak.last_at, *times) >= FORGET_AFTER


# --- When a channel may be written to ---------------------------------------------------------------------------------


def is_quiet(now: dt.datetime, hours: str | None) -> bool:
    """Tell whether it is one of the quiet hours, such as 22-06 (06:00 is not), by the clocks of Wrocław.

    The same hour twice means no quiet hours.
    """
    if hours is None:
        return False
    start, end = map(int, hours.split("-"))
    hour = now.astimezone(LOCAL_ZONE).hour
    return start <= hour < end if start <= end else hour >= start or hour < end


class Attempts(BaseModel):
    """When channels were last written to, in seconds since 1970, by the channel's number.

    An attempt counts whether it seemed to succeed or not: the receiver may have it all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    by_channel: dict[int, tuple[float, ...]] = {}

    @classmethod
    def load(cls, text: str | None) -> "Attempts":
        """Read what was stored; what is not understood counts as nothing."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValidationError:
            return cls()

    def reserve(self, channels: Iterable[int], now: float, max_per_hour: int) -> tuple["Attempts", frozenset[int]]:
        """Note an attempt for each channel that had fewer than `max_per_hour` in the hour before; return which."""
        recent = {c: tuple(at for at in times if now - _HOUR_S < at <= now) for c, times in self.by_channel.items()}
        free = frozenset(channel for channel in channels if len(recent.get(channel, ())) < max_per_hour)
        noted = {channel: (*recent.get(channel, ()), now) for channel in sorted(free)}
        return Attempts(by_channel={c: times for c, times in {**recent, **noted}.items() if times}), free

    def release(self, channels: Collection[int], at: float) -> "Attempts":
        """Take back what `reserve` noted for channels that were not written to after all."""
        left = {channel: list(times) for channel, times in self.by_channel.items()}
        for channel in channels:
            if at in left.get(channel, []):
                left[channel].remove(at)  # one of them: the other sensor may have written at the same second
        return Attempts(by_channel={channel: tuple(times) for channel, times in left.items() if times})


# --- Words ------------------------------------------------------------------------------------------------------------


class Tone(StrEnum):
    """How a message is shown; the values are those of apprise's types."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"
    INFO = "info"


@dataclass(frozen=True)
class Message:
    """What is sent: plain text."""

    title: str
    body: str
    tone: Tone


@dataclass(frozen=True)
class _Group:
    """News of one kind about one thing, of one or more partitions, the first failure first."""

    what: What
    streaks: tuple[Streak, ...]

    @property
    def newest(self) -> Streak:
        return max(self.streaks, key=lambda streak: streak.last_at)

    @property
    def count(self) -> int:
        return sum(streak.count for streak in self.streaks)

    @property
    def first_at(self) -> dt.datetime:
        return min(streak.first_at for streak in self.streaks)

    @property
    def last_at(self) -> dt.datetime:
        return self.newest.last_at

    @property
    def is_over(self) -> bool:
        return self.what in {What.RECOVERED, What.PASSED_BY}

    @property
    def grade(self) -> Grade:
        return max(streak.grade for streak in self.streaks)


def compose(news: Sequence[News], *, environment: str, dagster_url: str | None = None, unnamed: int = 0) -> Message:
    """Put news into one message: what is worst first, some in full, the others in a line each.

    Args:
        news: what a channel is owed.
        environment: where this runs, for the title.
        dagster_url: where a browser finds the Dagster UI; without it there are no links.
        unnamed: failures that are not among the news because there were too many.
    """
    groups = sorted(_grouped(news), key=lambda g: (g.is_over, -g.grade, g.first_at, g.newest.event))
    parts = [_in_full(group, dagster_url) for group in groups[:_IN_FULL]]
    lines = [f"- {_headline(group)}" for group in groups[_IN_FULL:]]
    room = _BODY_CHARACTERS - sum(map(len, parts))
    shown = list(takewhile(lambda n: sum(len(line) + 1 for line in lines[: n + 1]) <= room, range(len(lines))))
    if shown:
        parts.append("\n".join(["Also:", *lines[: len(shown)]]))
    left = sum(len(group.streaks) for group in groups[_IN_FULL + len(shown) :]) + unnamed
    if left:
        see = f": {dagster_url}/runs" if dagster_url is not None else ""
        parts.append(f"And {left} more that have no room here; Dagster shows them{see}.")
    title = f"[wrm {environment}] {_title(groups, unnamed)}"
    return Message(title=title, body="\n\n".join(parts), tone=_tone(groups, unnamed))


_Key = tuple[What, Kind, str, str, Cause, int]


def _grouped(news: Sequence[News]) -> list[_Group]:
    groups: dict[_Key, list[Streak]] = {}
    for each in news:
        streak, subject = each.streak, each.streak.subject
        own = streak.event if each.what is What.NOTICE else 0
        key = (each.what, subject.kind, subject.name, subject.asset, streak.cause, own)
        groups.setdefault(key, []).append(streak)
    return [_Group(key[0], tuple(streaks)) for key, streaks in groups.items()]


def _title(groups: Sequence[_Group], unnamed: int) -> str:
    if len(groups) == 1 and not unnamed:
        return _cut(_headline(groups[0]), _NAME_CHARACTERS)
    over = sum(len(group.streaks) for group in groups if group.is_over)
    fail = sum(len(group.streaks) for group in groups) - over + unnamed
    return " and ".join(filter(None, (f"{fail} failing" if fail else "", f"{over} recovered" if over else "")))


def _tone(groups: Sequence[_Group], unnamed: int) -> Tone:
    grades = [group.grade for group in groups if not group.is_over]
    if unnamed or Grade.ERROR in grades:
        return Tone.FAILURE
    return Tone.WARNING if grades else Tone.SUCCESS


def _name(group: _Group) -> str:
    subject = group.newest.subject
    match subject.kind:
        case Kind.CHECK:
            name = f"Check {subject.name} of {subject.asset}"
        case Kind.NOTICE:
            return subject.name
        case Kind.RUN:
            name = f"A run of {subject.asset}" if subject.asset else subject.name
    partitions = [streak.subject.partition for streak in group.streaks if streak.subject.partition]
    if not partitions:
        return name
    named = sorted(set(partitions))
    also = f" and {len(named) - _PARTITIONS_NAMED} more" if len(named) > _PARTITIONS_NAMED else ""
    return f"{name} for {', '.join(named[:_PARTITIONS_NAMED])}{also}"


def _headline(group: _Group) -> str:
    kind, grade = group.newest.subject.kind, group.grade
    level = f" ({'error' if grade is Grade.ERROR else 'warning'})" if kind is Kind.CHECK else ""
    again = "works" if kind is Kind.RUN else "passes"
    match group.what:
        case What.NOTICE:
            return _name(group)
        case What.FAILS:
            return f"{_name(group)} {'fails' if kind is Kind.CHECK else 'failed'}{level}"
        case What.WORSE:
            return f"{_name(group)} got worse{level}"
        case What.STILL:
            return f"{_name(group)} still fails{level}"
        case What.RECOVERED:
            return f"{_name(group)} {again} again"
        case What.PASSED_BY:
            return f"{_name(group)} failed and {again} again"


def _in_full(group: _Group, dagster_url: str | None) -> str:
    newest = group.newest
    facts = [("Step", newest.step), ("When" if group.what is What.NOTICE else "Since", local_and_utc(group.first_at))]
    if group.is_over:
        recovered = max(streak.recovered_at or streak.last_at for streak in group.streaks)
        facts.append(("Until", f"{local_and_utc(recovered)}, after {duration(recovered - group.first_at)}"))
    if group.what is not What.NOTICE:
        facts.append(("How often", _how_often(group)))
    facts += [
        ("Error" if not group.is_over else "Last error", newest.error),
        ("See", _link(newest, dagster_url)),
        ("Try", "" if group.is_over else ADVICE[newest.cause]),
    ]
    return "\n".join([_headline(group), *(f"{name}: {value}" for name, value in facts if value)])


def _how_often(group: _Group) -> str:
    if group.count == 1:
        return "once"
    return f"{group.count} times" if group.is_over else f"{group.count} times, last {local_and_utc(group.last_at)}"


def _link(streak: Streak, dagster_url: str | None) -> str:
    if dagster_url is None:
        return f"run {streak.run_id}" if streak.run_id else ""
    if streak.subject.kind is Kind.CHECK:
        return f"{dagster_url}/assets/{streak.subject.asset}?view=checks&checkDetail={streak.subject.name}"
    return f"{dagster_url}/runs/{streak.run_id}"


def local_and_utc(time: dt.datetime) -> str:
    """Return a time as people here and machines read it: `2025-05-12 18:05 UTC (20:05 in Wrocław)`."""
    utc, local = time.astimezone(dt.UTC), time.astimezone(LOCAL_ZONE)
    here = f"{local:%H:%M}" if local.date() == utc.date() else f"{local:%Y-%m-%d %H:%M}"
    return f"{utc:%Y-%m-%d %H:%M} UTC ({here} in Wrocław)"


def duration(span: dt.timedelta) -> str:
    """Return a span in its two largest units: `3 h 5 min`."""
    minutes = int(span.total_seconds()) // 60
    if minutes < 1:
        return f"{int(span.total_seconds())} s"
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"

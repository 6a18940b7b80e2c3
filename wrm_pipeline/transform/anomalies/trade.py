"""Rules of the trade: what somebody who runs the bikes would notice. Jumps, flat stations, vanished stations."""

from typing import Final

import numpy as np

from wrm_pipeline.transform.anomalies.learned import Hours, hour_of_day, hour_of_day_class
from wrm_pipeline.transform.anomalies.tables import (
    HOUR_US,
    Finding,
    Method,
    StationRows,
    amount,
    local_span,
    local_time,
    numbers,
)
from wrm_pipeline.transform.rules import distance_m
from wrm_pipeline.transform.zone import LOCAL_ZONE

# A van brings or takes more at once than riders do: in half an hour recorded in August 2025, minute by minute, no count
# of 258 changed by more than four within five minutes, but for one that rose by nine in a single one.
JUMP_BIKES: Final = 5
# Five minutes are the poll's interval. A late poll, with its retries, comes up to a minute and a half later.
JUMP_WITHIN_US: Final = (5 * 60 + 90) * 1_000_000

# An hour at the poll's five minutes: a station drops out of the list for a poll or two and comes back.
VANISHED_SNAPSHOTS: Final = 12
# A snapshot with fewer of its stations than this share of the day's median is cut short: nothing vanished from it.
WHOLE_SNAPSHOT_SHARE: Final = 0.9

# People ride between six and ten; at night a whole city is flat.
DAYTIME_HOURS: Final = range(6, 22)
FLAT_HOURS: Final = 3
# If changes come independently at the usual pace, that none of 7 comes has a chance of e**-7, one in a thousand.
FLAT_EXPECTED_CHANGES: Final = 7.0
NEIGHBOURS: Final = 5


def jumps(rows: StationRows) -> list[Finding]:
    """Find changes of `JUMP_BIKES` or more between two snapshots at most `JUMP_WITHIN_US` apart.

    The score is the change in bikes, negative when some were taken.
    """
    start = np.full(len(rows.time_us), -1)  # the newest snapshot from which to each row there is a jump
    for lag in range(1, len(start)):
        near = (rows.station[lag:] == rows.station[:-lag]) & (
            rows.time_us[lag:] - rows.time_us[:-lag] <= JUMP_WITHIN_US
        )
        if not near.any():
            break
        jump = near & (np.abs(rows.bikes[lag:] - rows.bikes[:-lag]) >= JUMP_BIKES) & (start[lag:] < 0)
        start[lag:][jump] = np.flatnonzero(jump)
    findings: list[Finding] = []
    last = -1
    for at in np.flatnonzero(start >= 0).tolist():
        if start[at] < last:
            continue  # the same jump, seen over a longer time
        last = at
        before, bikes = int(rows.bikes[start[at]]), int(rows.bikes[at])
        begun, ended = (local_time(int(rows.time_us[row])) for row in (start[at], at))
        why = (
            f"from {before} to {bikes} bikes ({bikes - before:+d}) between {begun:%H:%M} and {ended:%H:%M} "
            f"({LOCAL_ZONE.key}): rebalancing candidate"
        )
        findings.append(_of_row(rows, at, Method.JUMP, float(bikes - before), why, float(bikes)))
    return findings


def vanished(rows: StationRows, history: Hours) -> tuple[list[Finding], list[str]]:
    """Find stations that were there, on this day or in the last hour of the history, and are missing at its end.

    Missing means: in none of the day's last `VANISHED_SNAPSHOTS` whole snapshots. A station that was gone for so long
    when the history ended was reported then, and is not reported again. There is no score.
    """
    times, counts = np.unique(rows.time_us, return_counts=True)
    times = times[counts >= WHOLE_SNAPSHOT_SHARE * np.median(counts)]
    if len(times) < VANISHED_SNAPSHOTS:
        seen = f"{len(times)} whole snapshot{'' if len(times) == 1 else 's'}"
        return [], [f"the day has {seen}: too few to say what vanished, which takes {VANISHED_SNAPSHOTS}"]
    findings = []
    lasts = np.flatnonzero(np.diff(rows.station, append=-1) != 0)
    for at in lasts[rows.time_us[lasts] < times[-VANISHED_SNAPSHOTS]].tolist():
        missing = times[times > rows.time_us[at]]
        bikes, time = int(rows.bikes[at]), local_time(int(rows.time_us[at]))
        why = (
            f"last seen at {time:%H:%M} ({LOCAL_ZONE.key}) with {bikes} bike{'' if bikes == 1 else 's'}; "
            f"missing in the last {len(missing)} snapshots of the day"
        )
        findings.append(_of_row(rows, at, Method.VANISHED, None, why, None, time_us=int(missing[0])))
    if len(history):
        last_hour = history.table.filter(history.hour_us == history.hour_us.max())
        for row in last_hour.select(["station_id", "name", "bikes", "hour_start"]).to_pylist():
            if row["station_id"] not in rows.ids:
                before = f"{row['hour_start'].astimezone(LOCAL_ZONE):%Y-%m-%d %H:%M} ({LOCAL_ZONE.key})"
                why = (
                    f"in none of the day's {len(times)} snapshots; there with {amount(row['bikes'])} bikes on average "
                    f"in the last hour before, from {before}"
                )
                findings.append(Finding(row["station_id"], row["name"], None, Method.VANISHED, None, why, None, None))
    return findings, []


def flat_while_neighbours_move(day: Hours, history: Hours) -> tuple[list[Finding], list[str]]:
    """Find stations whose count stands still by day though it usually changes, while most of the nearest change.

    A stretch is `FLAT_HOURS` or more local daytime hours in a row without a change. An empty station is flat because it
    is empty, often for most of a day, which its count says already: it has no stretch. How many changes it should have
    had: what the station has on average in these hours on like days, times how lively its `NEIGHBOURS` nearest
    stations are compared with their own average, but at most once (on a rainy day nobody moves much). The score is
    that number; every hour of a stretch is a finding.
    """
    if not len(history):
        return [], ["no history: which stations usually move is not known, so none can be called flat"]
    first = int(day.hour_us.min())
    station = np.unique(day.station, return_inverse=True)[1]
    cell = (station, (day.hour_us - first) // HOUR_US)
    shape = (int(station.max()) + 1, int(cell[1].max()) + 1)
    at, usual, actual = np.full(shape, -1), np.zeros(shape), np.zeros(shape)
    flat = np.zeros(shape, dtype=bool)
    at[cell], usual[cell], actual[cell] = np.arange(len(day)), _usual_changes(day, history), day.changes
    flat[cell] = (day.changes == 0) & (day.steps > 0) & (day.bikes > 0) & np.isin(day.hour, DAYTIME_HOURS)
    nearest = _nearest(day, station)
    findings = []
    for one, start, end in _stretches(flat):
        neighbours = nearest[one]
        changes = actual[neighbours, start:end].sum(axis=1)
        normal = usual[neighbours, start:end].sum()
        moving = int((changes > 0).sum())
        if not normal or moving * 2 <= len(neighbours):
            continue
        expected = float(usual[one, start:end].sum() * min(1.0, changes.sum() / normal))
        if expected < FLAT_EXPECTED_CHANGES:
            continue
        span = local_span(first + start * HOUR_US, first + end * HOUR_US)
        why = (
            f"{amount(day.bikes[at[one, start]])} bikes without a change {span}; usually about {expected:.0f} "
            f"changes; {moving} of the {len(neighbours)} nearest stations changed, {changes.sum():.0f} times"
        )
        findings += [day.finding(int(hour), Method.FLAT, expected, why) for hour in at[one, start:end]]
    return findings, []


def _usual_changes(day: Hours, history: Hours) -> np.ndarray:
    """Return the mean number of changes at each station-hour's local hour: on like days, else on all days, else 0."""

    def mean(day_buckets: np.ndarray, buckets: np.ndarray) -> np.ndarray:
        size = int(max(day_buckets.max(), buckets.max())) + 1
        total, count = np.bincount(buckets, history.changes, size), np.bincount(buckets, minlength=size)
        means: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)[day_buckets]
        return means

    like, every = (mean(bucket(day), bucket(history)) for bucket in (hour_of_day_class, hour_of_day))
    return np.nan_to_num(np.where(np.isfinite(like), like, every))


def _nearest(day: Hours, station: np.ndarray) -> np.ndarray:
    """Return for each station the indices of the others that are nearest."""
    stations = int(station.max()) + 1
    places = np.empty((stations, 2))
    places[station] = np.column_stack([numbers(day.table, name) for name in ("lat", "lon")])
    lat, lon = places[:, :1], places[:, 1:]
    distances = distance_m(lat, lon, lat.T, lon.T)
    np.fill_diagonal(distances, np.inf)
    nearest: np.ndarray = np.argsort(distances, axis=1, kind="stable")[:, : min(NEIGHBOURS, stations - 1)]
    return nearest


def _stretches(flat: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (row, first column, column after the last) of each run of at least `FLAT_HOURS` true values in a row."""
    padded = np.pad(flat, ((0, 0), (1, 1))).astype(np.int8)
    turns = np.diff(padded, axis=1)
    rows, starts = np.nonzero(turns == 1)
    ends = np.nonzero(turns == -1)[1]
    runs = zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True)
    return [(row, start, end) for row, start, end in runs if end - start >= FLAT_HOURS]


def _of_row(
    rows: StationRows,
    at: int,
    method: Method,
    score: float | None,
    why: str,
    bikes: float | None,
    *,
    time_us: int | None = None,
) -> Finding:
    hour_us = (int(rows.time_us[at]) if time_us is None else time_us) // HOUR_US * HOUR_US
    row = {name: rows.table.column(name)[at].as_py() for name in ("station_id", "name", "total_docks")}
    return Finding(**row, hour_us=hour_us, method=method, score=score, why=why, bikes=bikes)

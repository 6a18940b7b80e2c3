"""Net departures in the recorded half hour, as the marts show them at several cadences.

The longer one waits between two snapshots, the more departures are hidden by arrivals: flows are lower bounds, and the
cadence must stand beside them. On another recording, of a whole day, 8.1, 6.2, 5.3 and 3.8 departures a minute were
seen at a cadence of 1, 5, 10 and 30 minutes.
"""

import datetime as dt
from collections.abc import Iterable
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import keep_snapshot
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline_tests.fixtures.marts import build_day, column
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, Recorded, recorded

WHO = Provenance("run-1", "wrm_stations_enhanced_data_all")
SPAN = dt.timedelta(minutes=29, seconds=42)
# Of the snapshots from 11:57:20 to 12:27:02, by the minutes between them. Each list is part of the one before it and
# all begin and end alike, so that they see the same bikes come and go.
CADENCES = {
    1: None,
    5: ("11-57", "12-03", "12-07", "12-12", "12-17", "12-22", "12-27"),
    10: ("11-57", "12-07", "12-17", "12-27"),
    30: ("11-57", "12-27"),
}


def within_the_span() -> list[Recorded]:
    snapshots = recorded("replay_wroclaw")
    return [snapshot for snapshot in snapshots if snapshot.time <= snapshots[0].time + SPAN]


def at_minutes(snapshots: Iterable[Recorded], minutes: tuple[str, ...] | None) -> list[Recorded]:
    return [snapshot for snapshot in snapshots if minutes is None or f"{snapshot.time:%H-%M}" in minutes]


def departures_in_text(snapshots: list[Recorded]) -> int:
    """Sum the falls of each station's bikes, counted in the text itself: bikes are the eighth field from the end."""
    counts = [
        {
            line.split(b",", 1)[0]: int(line.rsplit(b",", 8)[1])
            for line in snapshot.body.splitlines()[1:]
            if not line.startswith(b"fb")
        }
        for snapshot in snapshots
    ]
    return sum(
        max(0, before[station] - after[station])
        for before, after in pairwise(counts)
        for station in before.keys() & after.keys()
    )


@pytest.fixture
def rows(lake: Lake) -> pa.Table:
    """The recorded half hour as enhanced has it."""
    snapshots = within_the_span()
    for snapshot in snapshots:
        keep_snapshot(lake, FORMAT, snapshot.body, snapshot.time, WHO)
    return build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, snapshots[0].time.date(), WHO).rows


def test_the_rarer_the_snapshots_the_fewer_departures_are_seen(rows: pa.Table) -> None:
    a_minute = {}
    sampling = {}
    for cadence, minutes in CADENCES.items():
        snapshots = at_minutes(within_the_span(), minutes)
        assert snapshots[-1].time - snapshots[0].time == SPAN
        kept = pa.array([snapshot.time for snapshot in snapshots], rows.schema.field("file_timestamp").type)

        table = build_day(rows.filter(pc.is_in(rows.column("file_timestamp"), kept)), only=("fct_station_hour",))

        hours = table["fct_station_hour"]
        assert sum(column(hours, "outflow")) == departures_in_text(snapshots)
        a_minute[cadence] = round(sum(column(hours, "outflow")) / (SPAN.total_seconds() / 60), 1)
        sampling[cadence] = {seconds for seconds in column(hours, "sampling_interval_s") if seconds is not None}

    assert a_minute[1] > a_minute[5] > a_minute[10] > a_minute[30]
    # Half an hour about 14:00 local time on a Wednesday; the other recording is a whole one.
    assert a_minute == {1: 7.5, 5: 5.7, 10: 5.2, 30: 4.0}
    # The hour says how often it was looked at. The last is the one step there is, from 11:57:20 to 12:27:02.
    assert sampling == {1: {60}, 5: {300}, 10: {600}, 30: {1782}}

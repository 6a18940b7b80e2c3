"""What is odd about a day: each station-hour against its own history, and against the rules of the trade.

Pure functions on tables. `find_anomalies` is here; what a day is reduced to is in `tables`, what is learnt from history
in `learned`, the rules in `trade`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from wrm_pipeline.transform.anomalies import learned, trade
from wrm_pipeline.transform.anomalies.tables import (
    STATION_HOURS,
    StationRows,
    column,
    findings_table,
    reduce_to_hours,
)


@dataclass(frozen=True)
class Anomalies:
    """What was found.

    Attributes:
        rows: findings in `tables.ANOMALY_SCHEMA`, ordered by hour (whole days last), station, method and reason.
        notes: sentences on what could not be judged, or only with less than the usual history.
    """

    rows: pa.Table
    notes: tuple[str, ...]


def find_anomalies(day_rows: pa.Table, history: Sequence[pa.Table]) -> Anomalies:
    """Judge the stations of one UTC day; free-standing bikes are not judged.

    Args:
        day_rows: enhanced rows of the day, in any order; the columns that `tables.station_hours` names are read.
        history: earlier days as `tables.station_hours` reduced them, in any order; four weeks are what it is made for.

    Raises:
        ValueError: the history is not wholly earlier than the day, which would hold the day against itself.
    """
    rows = StationRows.of(day_rows)
    if not rows.ids:
        return Anomalies(findings_table([]), ("the day has no station rows: nothing to judge",))
    day_table = reduce_to_hours(rows)
    # In one order, however it comes: which rows the forest draws depends on their places.
    before = pa.concat_tables([STATION_HOURS.empty_table(), *history])
    before = before.sort_by([("hour_start", "ascending"), ("station_id", "ascending")])
    ids = sorted({*rows.ids, *column(before, "station_id").unique().to_pylist()})
    day, known = learned.Hours.of(day_table, ids), learned.Hours.of(before, ids)
    if len(known) and known.hour_us.max() >= day.hour_us.min():
        newest, oldest = (
            _hour(hours, at) for hours, at in ((known, known.hour_us.argmax()), (day, day.hour_us.argmin()))
        )
        raise ValueError(
            f"the history reaches to {newest}, but the day begins at {oldest}: hand over only days before it"
        )
    judged = (
        learned.robust_z(day, known),
        learned.isolation_forest(day, known),
        trade.flat_while_neighbours_move(day, known),
        trade.vanished(rows, known),
    )
    findings = [*trade.jumps(rows), *(finding for found, _ in judged for finding in found)]
    return Anomalies(findings_table(findings), tuple(note for _, notes in judged for note in notes))


def _hour(hours: learned.Hours, at: np.intp) -> str:
    return f"{hours.table.column('hour_start')[int(at)].as_py():%Y-%m-%d %H:%M} UTC"

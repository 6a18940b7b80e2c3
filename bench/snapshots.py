"""A day of snapshots for timing: 288 files of 748 rows each, made from the recorded ones.

Stations come as recorded, name by name and count by count, one recorded file after another, there and back. The
recorded files hold some 170 bikes, a summer's day 513: the rest are recorded bikes under ids of their own, most of
which stand still from one snapshot to the next. The same files always give the same bytes.
"""

import datetime as dt
import random
from dataclasses import dataclass
from pathlib import Path

from wrm_pipeline.feed.bikesharemap import HEADER

SNAPSHOTS = 288
ROWS = 748
DAY = dt.date(2025, 8, 20)
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "replay_wroclaw"

_EVERY = dt.timedelta(minutes=5)
# Seconds between the times of two neighbouring rows, as recorded on 2025-05-12.
_ROW_APART_S = 0.000131
# A free bike is ridden a few times a day: it stands somewhere else in one snapshot of fifty.
_MOVES = 0.02


@dataclass(frozen=True)
class RecordedFilesError(Exception):
    """The recorded snapshots are not where they should be."""

    directory: Path

    def __str__(self) -> str:
        return (
            f"No recorded snapshots (wrm_stations_*.txt) in {self.directory}. The benchmark builds its day from them: "
            "put the project's shared data there, or name its replay_wroclaw folder with --data."
        )


def snapshots(directory: Path = RECORDED) -> list[tuple[dt.datetime, bytes]]:
    """Return the day: the time of each snapshot (UTC) and its bytes.

    Raises:
        RecordedFilesError: there are no recorded files to build it from.
    """
    recorded = [_rows(path) for path in sorted(directory.glob("wrm_stations_*.txt"))]
    if not recorded:
        raise RecordedFilesError(directory)
    chance = random.Random(20250820)
    extra = _Bikes([row for rows in recorded for row in rows if row[0].startswith(b"fb")], chance)
    midnight = dt.datetime.combine(DAY, dt.time(), tzinfo=dt.UTC)
    there_and_back = [*range(len(recorded)), *range(len(recorded) - 2, 0, -1)]
    day = []
    for number in range(SNAPSHOTS):
        time = midnight + number * _EVERY + dt.timedelta(seconds=chance.randrange(4))
        rows = recorded[there_and_back[number % len(there_and_back)]]
        rows = rows + extra.seen(ROWS - len(rows))
        day.append((time, _body(time, rows, chance)))
    return day


def _rows(path: Path) -> list[tuple[bytes, bytes]]:
    """Each row of a recorded file as its id and everything behind its time, quotes and all."""
    lines = path.read_bytes().split(b"\n")[1:]
    split = (line.split(b",", 2) for line in lines if line)
    return [(station_id, rest) for station_id, _, rest in split]


def _body(time: dt.datetime, rows: list[tuple[bytes, bytes]], chance: random.Random) -> bytes:
    start = time.timestamp() + chance.random() / 2
    lines = (
        b"%b,%.6f|-7200|-3600,%b" % (station_id, start + number * _ROW_APART_S, rest)
        for number, (station_id, rest) in enumerate(rows)
    )
    return b"\n".join([HEADER, *lines])  # the feed sends no final newline


class _Bikes:
    """Bikes that were not recorded: each takes the place of a recorded one, until it is ridden to another."""

    def __init__(self, recorded: list[tuple[bytes, bytes]], chance: random.Random) -> None:
        self._chance = chance
        self._places = sorted({tuple(rest.split(b",", 3)[1:3]) for _, rest in recorded})
        taken = {int(station_id.removeprefix(b"fb")) for station_id, _ in recorded}
        self._numbers = sorted(chance.sample([n for n in range(600_000, 605_000) if n not in taken], ROWS))
        self._rest = [self._somewhere(number) for number in self._numbers]

    def seen(self, count: int) -> list[tuple[bytes, bytes]]:
        """The first `count` bikes as they stand now; some are ridden before the next call."""
        rows = [(b"fb%d" % number, rest) for number, rest in zip(self._numbers[:count], self._rest, strict=False)]
        for index, number in enumerate(self._numbers):
            if self._chance.random() < _MOVES:
                self._rest[index] = self._somewhere(number)
        return rows

    def _somewhere(self, number: int) -> bytes:
        lat, lon = (float(degrees) for degrees in self._chance.choice(self._places))
        # Within some 100 m of a place where a bike was seen.
        lat, lon = lat + self._chance.uniform(-0.001, 0.001), lon + self._chance.uniform(-0.001, 0.001)
        battery = self._chance.choice([-1, self._chance.randrange(101)])
        return b"BIKE %d,%.6f,%.6f,1,0,true,false,true,1,%d,0" % (number, lat, lon, battery)

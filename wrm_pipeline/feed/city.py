"""The made-up city at one instant, written as the feed writes it.

`snapshot` is a pure function of a seed and a time. Nothing is simulated from a beginning: every number is looked up in
noise that is hashed from the seed, so any instant costs the same and neighbouring instants fit together.
"""

import datetime as dt
import math
import random
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.feed.catalogue import Station, hashed, position, stations_on
from wrm_pipeline.transform.zone import LOCAL_ZONE

SERVER_ZONE: Final = ZoneInfo("Europe/London")  # where the recorded feed is made
_SATURDAY: Final = 5

# Share of a day's rides done by an hour: people sleep, so things change little at night and much at five o'clock.
_RIDES_DONE: Final = ((0, 0.0), (5, 0.03), (7, 0.1), (9, 0.27), (14, 0.5), (18, 0.82), (22, 0.96), (24, 1.0))
# How far the tide that fills work places has come in, by hour: two commutes on a weekday, one outing at the weekend.
_WEEKDAY_TIDE: Final = ((0, 0.0), (6, 0.0), (9, 1.0), (15, 0.9), (18.5, 0.0), (21, -0.2), (24, 0.0))
_WEEKEND_TIDE: Final = ((0, 0.0), (9, 0.0), (13, 0.45), (17, 0.4), (22, 0.0), (24, 0.0))

# Free-standing bikes in the city: never fewer than 70 nor more than 430 of 440, and the depot's 60 beside them.
_CITY_BIKES: Final = 440
_FREE_SHARE_RANGE: Final = (0.17, 0.97)
_DEPOT_BIKES: Final = 60
_DEPOT: Final = (52.28, 21.01)  # bikes of another city's operator, which the recorded feed lists too
_ROUND_S: Final = 2 * 86_400  # after this long a bike has been free and in use once
_ELECTRIC_SHARE: Final = 0.08
_ROW_STEP_US: Final = (100, 300)  # between the times of two rows


def snapshot(seed: int, at: dt.datetime) -> bytes:
    """Return what the feed would answer at a time.

    Args:
        seed: which city and which chance.
        at: aware; the same time gives the same bytes.

    Raises:
        ValueError: the time is naive.
    """
    if at.tzinfo is None:
        raise ValueError(f"the simulated time {at.isoformat()} has no time zone; add one, such as +00:00")
    local = at.astimezone(LOCAL_ZONE)
    rows = [
        *(_station_row(station, local) for station in stations_on(seed, local.date())),
        *_city_bike_rows(seed, local),
        *_depot_rows(seed, local),
    ]
    offsets = f"{_behind_gmt(local)}|{_behind_gmt(at.astimezone(SERVER_ZONE))}"
    rng = random.Random(f"{seed}:{at.timestamp()}")  # noqa: S311 - repeatable on purpose
    steps = [rng.randint(*_ROW_STEP_US) for _ in rows]
    time_us = (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) - sum(steps)
    lines = [HEADER.decode()]
    for (record_id, rest), step in zip(rows, steps, strict=True):
        time_us += step
        seconds, fraction = divmod(time_us, 1_000_000)
        lines.append(f"{record_id},{seconds}.{fraction:06d}|{offsets},{rest}")
    return "\n".join(lines).encode()


def with_bad_rows(body: bytes, count: int, turn: int) -> bytes:
    """Return a snapshot in which exactly `count` rows are such that a parser must reject them.

    There are six ways to spoil a row; `turn` says with which to begin, so that they take turns from call to call.
    """
    header, *rows = body.decode().split("\n")
    count = min(count, len(rows))
    spoilt = {place * len(rows) // count: turn + place for place in range(count)}
    return "\n".join(
        [header, *(_spoil(row, spoilt[at]) if at in spoilt else row for at, row in enumerate(rows))]
    ).encode()


def _spoil(row: str, way: int) -> str:
    # From the right, since a quoted name may hold commas.
    head, lat, lon, bikes, *others = row.rsplit(",", 10)
    rest = ",".join(others)
    match way % 6:
        case 0:
            return row.rsplit(",", 5)[0]  # too few fields
        case 1:
            return f"{head},NaN,{lon},{bikes},{rest}"
        case 2:
            return f"{head},{lat},{lon},-3,{rest}"
        case 3:
            return f"{head},0,0,{bikes},{rest}"
        case 4:
            return row[row.index(",") :]  # no id
        case _:
            return f"{row}\n{head},{lat},{lon},{int(bikes) + 1},{rest}"  # the same id again, with another count


def _station_row(station: Station, local: dt.datetime) -> tuple[str, str]:
    bikes = _bikes_at(station, local)
    spaces = max(1, station.docks - station.broken - bikes)  # the feed never says 0
    pedelecs = min(bikes, int(hashed(station.key, "pedelecs", local.toordinal()) * 1.15))
    gives_bonus = "true" if hashed(station.key, "bonus") < 0.02 else "false"
    name = f'"{station.name}"' if "," in station.name else station.name
    return str(station.id), (
        f"{name},{station.lat},{station.lon},{bikes},{spaces},true,false,false,{station.docks},{gives_bonus},{pedelecs}"
    )


def _bikes_at(station: Station, local: dt.datetime) -> int:
    hour = _hour(local)
    tide = _along(_WEEKEND_TIDE if local.weekday() >= _SATURDAY else _WEEKDAY_TIDE, hour)
    rides = local.toordinal() + _along(_RIDES_DONE, hour)
    # 40 turning points a day give the 5 to 8 departures a minute that the recorded feed shows by day.
    minutes = 1.6 * _noise(station.key, "minutes", 40 * rides)
    days = 0.3 * _noise(station.key, "days", 2 * rides)
    return max(0, round(max(station.docks, 4) * (station.fill + days + 0.35 * station.pull * tide) + minutes))


def _city_bike_rows(seed: int, local: dt.datetime) -> list[tuple[str, str]]:
    """Write the free bikes: each comes round once in two days, and is free while it is in the share of that moment."""
    now = local.timestamp()
    by_day = 0.16 * _along(_WEEKDAY_TIDE, _hour(local))
    share = (
        0.42
        + by_day
        + 0.3 * _noise(f"{seed}", "free", now / (5 * 86_400))
        + 0.05 * _noise(f"{seed}", "hour", now / 7200)
    )
    lowest, highest = _FREE_SHARE_RANGE
    share = min(max(share, lowest), highest)
    rows = []
    for place, number in enumerate(_bike_numbers(seed)):
        if (place / _CITY_BIKES + now / _ROUND_S) % 1.0 < share:
            stay_s = 3600 * (2 + 7 * hashed(seed, "stay", number))
            stay, since = divmod(now + hashed(seed, "turn", number) * stay_s, stay_s)
            lat, lon = position(random.Random(f"{seed}:{number}:{stay}"))  # noqa: S311
            battery, pedelecs = -1, 0
            if hashed(seed, "electric", number) < _ELECTRIC_SHARE:
                pedelecs = 1
                battery = int(100 * hashed(seed, "battery", number, stay) * (1 - 0.1 * since / stay_s))
            rows.append((f"fb{number}", _bike_fields(number, lat, lon, battery, pedelecs)))
    return rows


def _depot_rows(seed: int, local: dt.datetime) -> list[tuple[str, str]]:
    rows = []
    for place in range(_DEPOT_BIKES):
        # A bike stays three to nine weeks, then another takes its place. Numbers of the city's bikes begin at 600000.
        stay = (local.toordinal() + place) // int(21 + 42 * hashed(seed, "depot", place))
        number = 590_000 + place + _DEPOT_BIKES * (stay % 100)
        lat = round(_DEPOT[0] + 0.002 * (hashed(seed, "lat", number) - 0.5), 6)
        lon = round(_DEPOT[1] + 0.002 * (hashed(seed, "lon", number) - 0.5), 6)
        rows.append((f"fb{number}", _bike_fields(number, lat, lon, -1, 0)))
    return rows


def _bike_fields(number: int, lat: float, lon: float, battery: int, pedelecs: int) -> str:
    return f"BIKE {number},{lat},{lon},1,0,true,false,true,1,{battery},{pedelecs}"


@lru_cache(maxsize=8)
def _bike_numbers(seed: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed}:bikes").sample(range(602_000, 605_000), _CITY_BIKES))  # noqa: S311


def _hour(local: dt.datetime) -> float:
    return local.hour + local.minute / 60 + local.second / 3600 + local.microsecond / 3.6e9


def _behind_gmt(there: dt.datetime) -> int:
    """Return the seconds to add to a local time to get GMT: negative east of Greenwich."""
    offset = there.utcoffset()
    return -int(offset.total_seconds()) if offset is not None else 0


def _along(curve: tuple[tuple[float, float], ...], x: float) -> float:
    (x0, y0), (x1, y1) = next(piece for piece in pairwise(curve) if x <= piece[1][0])
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _noise(key: str, what: str, x: float) -> float:
    """Return a number in (-1, 1) that wanders: a new random target at each whole x, a straight line between."""
    left = math.floor(x)
    a, b = hashed(key, what, left), hashed(key, what, left + 1)
    return 2 * (a + (b - a) * (x - left)) - 1

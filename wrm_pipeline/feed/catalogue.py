"""A made-up city for the feed simulator: which stations there are on a day, what they are called, where they stand.

Everything follows from a seed and a date by hashing, so any day costs the same and nothing is copied from recordings.
"""

import datetime as dt
import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

FIRST_ID: Final = 15001
# 228 stations that stay and 14 sites where they come and go: never fewer than 228 nor more than 242, 236 on average.
PERMANENT_SITES: Final = 228
CHANGING_SITES: Final = 14
# Ids of a changing site repeat after this many stations there: 16 years at the least.
_GENERATIONS: Final = 20

SOUTH_WEST: Final = (51.03, 16.85)
NORTH_EAST: Final = (51.17, 17.15)
CENTRE: Final = (51.109, 17.032)

# Docks of the 235 stations recorded in May 2025, rounded: two sizes make three quarters of the city.
_DOCKS: Final = (
    (0, 1),
    (3, 1),
    (4, 9),
    (5, 4),
    (6, 56),
    (8, 10),
    (10, 120),
    (12, 4),
    (14, 4),
    (16, 24),
    (20, 1),
    (28, 1),
)
_OVERFULL_SHARE: Final = 0.21  # recorded: 43 to 57 of 235
_BROKEN_SHARE: Final = 0.03  # stations with racks out of use; recorded: 6 of 235

_STREET_WORDS: Final = (
    "Agrestowa Akacjowa Aroniowa Bławatkowa Borówkowa Brzoskwiniowa Bukowa Bursztynowa Bzowa Chabrowa Chmielowa Cisowa "
    "Cyprysowa Cytrynowa Czereśniowa Daktylowa Daliowa Dębowa Deszczowa Dzwonkowa Fiołkowa Głogowa Goździkowa Grabowa "
    "Gruszowa Grzybowa Imbirowa Irysowa Jagodowa Jałowcowa Jarzębinowa Jaśminowa Jaworowa Jesionowa Jeżynowa Kalinowa "
    "Kasztanowa Klonowa Konwaliowa Koralowa Krokusowa Kryształowa Kwiatowa Lawendowa Leszczynowa Liliowa Lipowa "
    "Łanowa Łąkowa Łubinowa Magnoliowa Majowa Makowa Malinowa Malwowa Migdałowa Modrzewiowa Morelowa Narcyzowa "
    "Ogrodowa Oliwkowa Orzechowa Parkowa Perłowa Piaskowa Pigwowa Pogodowa Poziomkowa Różowa Rumiankowa Sadowa "
    "Sasankowa Słonecznikowa Sosnowa Szafirowa Szałwiowa Śliwowa Świerkowa Tarninowa Topolowa Tulipanowa Wierzbowa "
    "Wiązowa Wiśniowa Wrzosowa Zbożowa Źródlana Żonkilowa Żwirowa Żytnia Błękitna Bystra Chłodna Ciasna Cicha Ciepła "
    "Długa Dolna Gliniana Górna Jasna Jesienna Kręta Krótka Letnia Leśna Luba Miła Mglista Młyńska Mostowa Nowa "
    "Okrężna Owocowa Piękna Polna Pogodna Promienna Prosta Pszczela Radosna Rolna Rybacka Słoneczna Spokojna Stawowa "
    "Szeroka Śnieżna Tęczowa Wąska Wesoła Wietrzna Wiosenna Wodna Zaciszna Zielona Złota Żabia Żeglarska Żurawia"
)
_GUILD_WORDS: Final = (
    "Bartników Bednarzy Cieśli Czapników Druciarzy Flisaków Furmanów Garncarzy Gońców Kołodziejów Kowali Latarników "
    "Młynarzy Ogrodników Płóczek Przewoźników Rymarzy Snycerzy Szkutników Ślusarzy Tkaczy Zdunów Żeglarzy"
)
_STREETS: Final = tuple(_STREET_WORDS.split())
_GUILDS: Final = tuple(_GUILD_WORDS.split())
_PLACES: Final = ("Stawowice", "Łęgowo Małe", "Młynki Nowe", "Żerkowice", "Świątkowo", "Ostrów Górny", "Źródliska")
_SIDES: Final = ("północ", "południe", "pętla", "dworzec", "wejście A")


@dataclass(frozen=True)
class Station:
    """One station as it is on one day.

    Attributes:
        key: what its randomness hangs on; stays the same when the station is renamed.
        pull: 1 where people work, -1 where they live: who fills up in the morning.
        fill: bikes per dock on an average day; above 1 the bikes stand beside the docks.
        broken: racks out of use.
    """

    id: int
    key: str
    name: str
    lat: float
    lon: float
    docks: int
    pull: float
    fill: float
    broken: int


def stations_on(seed: int, day: dt.date) -> tuple[Station, ...]:
    """Return the stations of a day, by id."""
    return _stations_on(seed, day.toordinal())


def hashed(*parts: object) -> float:
    """Return a number in [0, 1) that follows from the parts alone."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


@lru_cache(maxsize=64)
def _stations_on(seed: int, day: int) -> tuple[Station, ...]:
    streets = _streets(seed)
    found = [
        _station(seed, day, FIRST_ID + site, site, streets[site % len(streets)]) for site in range(PERMANENT_SITES)
    ]
    for site in range(PERMANENT_SITES, PERMANENT_SITES + CHANGING_SITES):
        # A station stands here for 60 % of 300 to 600 days, then the site is empty until the next one opens.
        period = 300 + int(300 * hashed(seed, "period", site))
        generation, age = divmod(day + int(period * hashed(seed, "phase", site)), period)
        if age < 0.6 * period:
            turn = generation % _GENERATIONS
            number = PERMANENT_SITES + (site - PERMANENT_SITES) + CHANGING_SITES * turn
            found.append(_station(seed, day, FIRST_ID + number, site, streets[(site + turn) % len(streets)]))
    return tuple(sorted(found, key=lambda station: station.id))


def _station(seed: int, day: int, number: int, site: int, street: str) -> Station:
    rng = random.Random(f"{seed}:{number}:{site}")  # noqa: S311 - repeatable on purpose
    lat, lon = position(rng)
    far = max(abs(lat - CENTRE[0]) / 0.06, abs(lon - CENTRE[1]) / 0.12)
    docks = rng.choices([size for size, _ in _DOCKS], [weight for _, weight in _DOCKS])[0]
    fill = rng.uniform(1.3, 2.0) if rng.random() < _OVERFULL_SHARE else rng.triangular(0.0, 0.8, 0.3)
    # A sign is replaced every 4 to 12 years: with 235 stations, one new name in about twelve days.
    sign = (day + int(4000 * rng.random())) // int(1500 + 2900 * rng.random())
    return Station(
        id=number,
        key=f"{seed}:{number}",
        name=_name(random.Random(f"{seed}:{number}:{sign}"), street),  # noqa: S311
        lat=lat,
        lon=lon,
        docks=docks,
        pull=max(-1.0, 1.0 - 2.0 * far),
        fill=fill,
        broken=rng.randint(1, 2) if rng.random() < _BROKEN_SHARE else 0,
    )


def position(rng: random.Random) -> tuple[float, float]:
    """Return latitude and longitude of a place in the city, more likely near the centre."""
    lat = rng.triangular(SOUTH_WEST[0], NORTH_EAST[0], CENTRE[0])
    lon = rng.triangular(SOUTH_WEST[1], NORTH_EAST[1], CENTRE[1])
    return round(lat, 6), round(lon, 6)


@lru_cache(maxsize=8)
def _streets(seed: int) -> tuple[str, ...]:
    streets = list(_STREETS)
    random.Random(f"{seed}:streets").shuffle(streets)  # noqa: S311
    return tuple(streets)


def _name(rng: random.Random, street: str) -> str:
    """Return a name with the oddities that recorded names have."""
    other = rng.choice(_STREETS)
    patterns = {
        street: 20,
        f"{street} / {other}": 30,
        f"{street}/{other}": 20,
        f"{street}, {rng.choice(_SIDES)}": 6,
        f"Plac {rng.choice(_GUILDS)}": 4,
        f"Plac {rng.choice(_GUILDS)} ({street})": 4,
        f"Rondo\u00a0{rng.choice(_GUILDS)}": 3,
        f"{rng.choice(_PLACES)} {street} (stacja kolejowa)": 3,
        f"{street} P&amp;R": 3,
        f"{street} &amp; {other}": 2,
        f"{street} ": 4,
        f"{street} {rng.randint(1, 120)} ({rng.choice(_PLACES)})": 2,
    }
    return rng.choices(list(patterns), list(patterns.values()))[0]

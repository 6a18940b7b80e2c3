"""Each rule for rows: a row that meets it, and one that just does not."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.contracts.model import Contract
from wrm_pipeline.contracts.vocabulary import VOCABULARY, Scope
from wrm_pipeline.transform.rules import ROW_RULES, RowColumns, distance_m
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, TIME, bike_row, payload, row, snapshot_of

CONTRACT = CONTRACTS.enhanced
MINUTES = dt.timedelta(minutes=1)
# Mean radius (IUGG), metres: a degree of a great circle is 111,195 m.
EARTH_M = 6_371_008.8
METRE_OF_LATITUDE = math.degrees(1 / EARTH_M)
ZONE = CONTRACT.rules["off_zone"].arguments
FAR_S = CONTRACT.rules["stale_row_time"].arguments["after_s"]
# A whole second, for a snapshot and a row to be told apart to the microsecond.
NOON_S = 1_747_051_200
NOON = dt.datetime.fromtimestamp(NOON_S, dt.UTC)


def columns(*snapshots: Sequence[bytes], time: dt.datetime = TIME, contract: Contract = CONTRACT) -> RowColumns:
    """Rows of snapshots that came five minutes apart; every row must be a good one."""
    parsed = FORMAT.parse(
        snapshot_of(payload(*lines), f"raw/{n:03}.txt", time + 5 * n * MINUTES) for n, lines in enumerate(snapshots)
    )
    assert parsed.rejects == ()
    return RowColumns(parsed.rows, contract)


def meets(rule: str, rows: RowColumns) -> list[bool]:
    found = ROW_RULES[rule](rows, rows.contract.rules[rule].arguments)
    assert found.dtype == np.bool_
    values: list[bool] = found.tolist()
    return values


def at_edge(edge: str, beyond: float) -> bytes:
    """A bike on an edge of the service area, or so many degrees off it."""
    degrees = f"{ZONE[edge] + beyond:.6f}"
    return bike_row(lat=degrees) if edge in {"south", "north"} else bike_row(lon=degrees)


@dataclass(frozen=True)
class OneRow:
    """A row, the rule it is judged by, and whether it meets it; `lag_s` is by how much its snapshot is later."""

    rule: str
    line: bytes
    met: bool
    why: str


ONE_ROW = [
    OneRow("overfull", row(bikes="7", spaces="10", docks="16"), True, "one bike too many"),
    OneRow("overfull", row(bikes="6", spaces="10", docks="16"), False, "all docks accounted for"),
    OneRow("overfull", row(bikes="1", spaces="0", docks="0"), True, "a bike where there is no dock"),
    OneRow("overfull", bike_row(), False, "a bike has no docks to fill"),
    OneRow("overfull", row("x", bikes="42"), False, "unknown records are not judged as stations"),
    OneRow("overfull", row(bikes="999999999", spaces="999999999", docks="999999999"), True, "the greatest counts"),
    OneRow("racks_out_of_use", row(bikes="5", spaces="10", docks="16"), True, "one rack out of use"),
    OneRow("racks_out_of_use", row(bikes="6", spaces="10", docks="16"), False, "all docks accounted for"),
    OneRow("racks_out_of_use", row(bikes="7", spaces="10", docks="16"), False, "overfull"),
    OneRow("racks_out_of_use", row("x", bikes="0"), False, "unknown records are not judged as stations"),
    OneRow("zero_docks", row(bikes="0", spaces="0", docks="0"), True, "no docks"),
    OneRow("zero_docks", row(bikes="0", spaces="0", docks="1"), False, "one dock"),
    OneRow("zero_docks", bike_row(), False, "a bike has none by nature"),
    OneRow("zero_docks", row("x", docks="0"), False, "docks say nothing of an unknown record"),
    OneRow("battery_out_of_range", bike_row(battery="101"), True, "over the greatest level"),
    OneRow("battery_out_of_range", bike_row(battery="100"), False, "the greatest level"),
    OneRow("battery_out_of_range", bike_row(battery="0"), False, "the least level"),
    OneRow("battery_out_of_range", bike_row(battery="-1"), False, "the number for unknown"),
    OneRow("battery_out_of_range", bike_row(battery="-2"), True, "under the number for unknown"),
    OneRow("battery_out_of_range", bike_row(battery="true"), True, "no number"),
    OneRow("battery_out_of_range", bike_row(battery=""), False, "not published"),
    OneRow("battery_out_of_range", row(overloaded="101"), False, "a station has no battery"),
    OneRow("unknown_record_type", row("x1"), True, "an id of another kind"),
    OneRow("unknown_record_type", row("fb1", name="Rynek"), True, "a bike's id, a place's name"),
    OneRow("unknown_record_type", row("1", name="BIKE 1"), True, "a station's id, a bike's name"),
    OneRow("unknown_record_type", row(), False, "a station"),
    OneRow("unknown_record_type", bike_row(), False, "a bike"),
    OneRow("off_zone", bike_row(lat="52.28", lon="21.01"), True, "the depot in another city"),
    OneRow("off_zone", row(lat="0", lon="17.03"), True, "the equator"),
    *(
        OneRow("off_zone", at_edge(edge, beyond), met, f"{edge} edge, {beyond:+} degrees")
        for edge, outward in (("south", -1), ("north", 1), ("west", -1), ("east", 1))
        for beyond, met in ((0.0, False), (outward * 1e-6, True), (-outward * 1e-6, False))
    ),
]


@pytest.mark.parametrize("case", ONE_ROW, ids=lambda case: f"{case.rule}: {case.why}")
def test_a_rule_that_looks_at_one_row(case: OneRow) -> None:
    assert meets(case.rule, columns([case.line])) == [case.met]


@pytest.mark.parametrize(
    ("lag_us", "rule"),
    [
        (0, None),
        (FAR_S * 1_000_000, None),
        (FAR_S * 1_000_000 + 1, "stale_row_time"),
        (-FAR_S * 1_000_000, None),
        (-FAR_S * 1_000_000 - 1, "future_row_time"),
    ],
)
def test_a_row_whose_time_is_more_than_an_hour_from_its_snapshot(lag_us: float, rule: str | None) -> None:
    assert FAR_S == CONTRACT.rules["future_row_time"].arguments["after_s"] == 3_600

    rows = columns([row(time=f"{NOON_S}|0|0")], time=NOON + dt.timedelta(microseconds=lag_us))

    assert meets("stale_row_time", rows) == [rule == "stale_row_time"]
    assert meets("future_row_time", rows) == [rule == "future_row_time"]


def test_local_time_does_not_matter_to_how_late_a_row_is() -> None:
    rows = columns([row(time=f"{NOON_S}|-7200|-3600")], time=NOON)

    assert meets("stale_row_time", rows) == meets("future_row_time", rows) == [False]


# --- Rules that look back ---------------------------------------------------------------------------------------------

LOOK_BACK = ("moved", "name_changed", "non_monotonic_time")


@pytest.mark.parametrize(
    ("seconds", "met"),
    [("1747073407.000001", False), ("1747073407", False), ("1747073406.999999", True), ("1747000000", True)],
)
@pytest.mark.parametrize("make", [row, lambda **fields: row("fb1", name="BIKE 1", **fields)], ids=["station", "bike"])
def test_a_row_older_than_the_one_before_it(make: Any, seconds: str, met: bool) -> None:
    rows = columns([make(time="1747073407|0|0")], [make(time=f"{seconds}|0|0")])

    assert meets("non_monotonic_time", rows) == [False, met]


@pytest.mark.parametrize(
    ("name", "met"),
    [
        ("Rynek & Ratusz", False),
        ("Rynek &amp; Ratusz", False),
        ("  Rynek\u00a0& Ratusz ", False),
        ("Rynek & ratusz", True),
        ("Rynek", True),
        ("", True),
    ],
)
def test_a_station_under_another_name(name: str, met: bool) -> None:
    """The feed writes one name in several ways; that is no change of the name."""
    assert meets("name_changed", columns([row(name="Rynek & Ratusz")], [row(name=name)])) == [False, met]


def test_only_a_station_changes_its_name() -> None:
    bikes = columns([bike_row(1, name="BIKE 1")], [bike_row(1, name="BIKE one")])
    unknown = columns([row("x", name="A")], [row("x", name="B")])

    assert meets("name_changed", bikes) == meets("name_changed", unknown) == [False, False]


@pytest.mark.parametrize(
    ("metres", "met"), [(0.0, False), (29.99, False), (30.01, True), (-29.99, False), (-30.01, True), (400.0, True)]
)
def test_a_station_that_moved_more_than_thirty_metres(metres: float, met: bool) -> None:
    assert CONTRACT.rules["moved"].arguments == {"after_m": 30.0}

    north = columns([row(lat="51.1")], [row(lat=repr(51.1 + metres * METRE_OF_LATITUDE))])
    degrees_east = metres * METRE_OF_LATITUDE / math.cos(math.radians(51.1))
    east = columns([row(lat="51.1", lon="17.0")], [row(lat="51.1", lon=repr(17.0 + degrees_east))])

    assert meets("moved", north) == meets("moved", east) == [False, met]


def test_a_move_of_exactly_the_bound_is_none() -> None:
    lines = [row(lat="51.1", lon="17.0")], [row(lat="51.1002", lon="17.0003")]
    metres = float(distance_m(*(np.array([degrees]) for degrees in (51.1, 17.0, 51.1002, 17.0003)))[0])

    def bounded_by(after_m: float) -> Contract:
        moved = replace(CONTRACT.rules["moved"], arguments={"after_m": after_m})
        return replace(CONTRACT, rules={**CONTRACT.rules, "moved": moved})

    assert meets("moved", columns(*lines, contract=bounded_by(metres))) == [False, False]
    assert meets("moved", columns(*lines, contract=bounded_by(math.nextafter(metres, 0)))) == [False, True]


def test_only_a_station_moves() -> None:
    bikes = columns([bike_row(1, lat="51.1")], [bike_row(1, lat="51.15")])
    unknown = columns([row("x", lat="51.1")], [row("x", lat="51.15")])

    assert meets("moved", bikes) == meets("moved", unknown) == [False, False]


def test_a_station_that_creeps_is_compared_with_its_last_place_not_its_first() -> None:
    steps = [[row(lat=repr(51.1 + n * 20 * METRE_OF_LATITUDE))] for n in range(4)]

    assert meets("moved", columns(*steps)) == [False] * 4


@pytest.mark.parametrize("rule", LOOK_BACK)
def test_the_first_row_of_an_id_has_nothing_to_be_compared_with(rule: str) -> None:
    rows = columns([row("1")], [row("2", name="Other", lat="51.15", time="1747000000|0|0"), row("1")])

    assert meets(rule, rows) == [False] * 3


@pytest.mark.parametrize("rule", LOOK_BACK)
def test_the_previous_row_is_the_last_one_of_the_same_id_however_long_ago(rule: str) -> None:
    early = {"name": "Rynek", "lat": "51.1", "time": "1747073407|0|0"}
    other = {"name": "Bema", "lat": "51.15", "time": "1747000000|0|0"}

    rows = columns(
        [row("1", **early), row("2", **other)],
        [row("2", **other)],
        [row("2", **early), row("1", **other)],
        [row("1", **other), row("2", **early)],
    )

    # 2 meets non_monotonic_time never: its time only rises.
    second = rule != "non_monotonic_time"
    assert meets(rule, rows) == [False, False, False, second, True, False, False]


@pytest.mark.parametrize("rule", LOOK_BACK)
def test_ids_that_are_interleaved_in_changing_order_are_told_apart(rule: str) -> None:
    def at(station_id: int, step: int) -> bytes:
        # Each has a name and a place of its own; every third changes at step 3.
        moved = station_id % 3 == 0 and step >= 3
        place = 51.1 + station_id * 1e-3 + (5e-4 if moved else 0)
        time = 1_747_073_407 + station_id - (10_000 if moved and step == 3 else 0)
        return row(str(station_id), name=f"{station_id}{'b' if moved else ''}", lat=repr(place), time=f"{time}|0|0")

    snapshots = [[at(n, step) for n in (range(20) if step % 2 else range(19, -1, -1))] for step in range(6)]

    rows = columns(*snapshots)

    met = np.flatnonzero(meets(rule, rows)).tolist()
    assert met == [3 * 20 + n for n in range(20) if n % 3 == 0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30))
def test_previous_is_the_last_earlier_row_of_the_same_id(ids: list[int]) -> None:
    rows = RowColumns(pa.table({"station_id": pa.array([str(n) for n in ids], type=pa.string())}), CONTRACT)

    expected = [max((k for k in range(n) if ids[k] == ids[n]), default=n) for n in range(len(ids))]

    assert rows.previous.tolist() == expected


def test_previous_holds_for_more_ids_than_sixteen_bits_count() -> None:
    many = [str(n) for n in range(70_000)]
    rows = RowColumns(pa.table({"station_id": [*many, *many[::-1]]}), CONTRACT)

    assert rows.previous[:70_000].tolist() == list(range(70_000))
    assert rows.previous[70_000:].tolist() == list(range(69_999, -1, -1))


@pytest.mark.parametrize("rule", ROW_RULES)
def test_a_day_without_rows_meets_nothing(rule: str) -> None:
    assert meets(rule, RowColumns(FORMAT.parse([]).rows, CONTRACT)) == []


# --- Distances --------------------------------------------------------------------------------------------------------


def metres_between(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    return float(distance_m(*(np.array([degrees]) for degrees in (lat, lon, other_lat, other_lon)))[0])


@pytest.mark.parametrize(
    ("place", "other", "metres"),
    [
        pytest.param((51.1, 17.0), (51.1, 17.0), 0.0, id="no distance"),
        pytest.param((51.0, 17.0), (52.0, 17.0), 111_195.08, id="a degree of a meridian"),
        pytest.param((0.0, 0.0), (0.0, 1.0), 111_195.08, id="a degree of the equator"),
        pytest.param((60.0, 0.0), (60.0, 0.001), 55.59754, id="half as much at 60 degrees"),
        pytest.param((0.0, 0.0), (90.0, 0.0), 10_007_557.22, id="a quarter of the globe"),
        pytest.param((0.0, 0.0), (0.0, 180.0), 20_015_114.44, id="the other side of the globe"),
        pytest.param((51.0, -179.9999), (51.0, 179.9999), 13.99547, id="over the date line"),
    ],
)
def test_known_distances(place: tuple[float, float], other: tuple[float, float], metres: float) -> None:
    assert metres_between(*place, *other) == pytest.approx(metres, rel=1e-6)
    assert metres_between(*other, *place) == pytest.approx(metres, rel=1e-6)


PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(PLACES, PLACES)
def test_a_distance_is_the_arc_over_the_chord(place: tuple[float, float], other: tuple[float, float]) -> None:
    """Computed another way: unit vectors, their difference, and the angle between them."""

    def vector(lat: float, lon: float) -> np.ndarray:
        phi, lam = math.radians(lat), math.radians(lon)
        return np.array([math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)])

    a, b = vector(*place), vector(*other)
    angle = 2 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))

    # Near the other side of the globe the haversine formula is good to half a metre.
    assert metres_between(*place, *other) == pytest.approx(EARTH_M * angle, rel=1e-9, abs=0.5)


# --- The vocabulary ---------------------------------------------------------------------------------------------------


def test_every_rule_for_rows_of_the_vocabulary_has_a_predicate_and_no_other() -> None:
    assert {name for name, spec in VOCABULARY.items() if spec.scope is Scope.ROW} == set(ROW_RULES)


def test_the_contract_of_enhanced_has_each_of_them_with_its_numbers() -> None:
    assert {rule.name for rule in CONTRACT.of_scope(Scope.ROW)} == set(ROW_RULES)
    for rule in CONTRACT.of_scope(Scope.ROW):
        assert set(rule.arguments) == set(VOCABULARY[rule.name].arguments), rule.name

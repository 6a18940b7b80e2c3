"""What is odd about a day, and what is only said to be unknown."""

import datetime as dt
import itertools
import random
import statistics
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.feed.base import Snapshot
from wrm_pipeline.feed.city import snapshot
from wrm_pipeline.transform.anomalies import Anomalies, find_anomalies, learned
from wrm_pipeline.transform.anomalies.learned import bucket_medians
from wrm_pipeline.transform.anomalies.tables import ANOMALY_SCHEMA, STATION_HOURS, Method, station_hours
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

# A Tuesday in summer: 06:00 UTC is 08:00 in Wrocław.
DAY = dt.datetime(2025, 6, 10, tzinfo=dt.UTC)
WARSAW = ZoneInfo("Europe/Warsaw")
HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)
DAYS = dt.timedelta(days=1)

Row = dict[str, Any]


def polls(
    counts: Iterable[int],
    station_id: str = "15001",
    *,
    start: dt.datetime = DAY,
    every: dt.timedelta = 5 * MINUTE,
    docks: int = 20,
    lat: float = 51.1,
    record_type: str = "station",
) -> list[Row]:
    """Rows of one station: a count a poll."""
    fixed = {"station_id": station_id, "name": f"Plac {station_id}", "lat": lat, "lon": 17.0, "total_docks": docks}
    return [
        {**fixed, "record_type": record_type, "file_timestamp": start + number * every, "bikes": bikes}
        for number, bikes in enumerate(counts)
    ]


def table(*rows: Sequence[Row]) -> pa.Table:
    """Enhanced rows, of which only the columns that anomalies are found by."""
    types = {
        **dict.fromkeys(("station_id", "name", "record_type"), pa.string()),
        **dict.fromkeys(("bikes", "total_docks"), pa.int32()),
        **dict.fromkeys(("lat", "lon"), pa.float64()),
        "file_timestamp": pa.timestamp("us", tz="UTC"),
    }
    return pa.Table.from_pylist(list(itertools.chain(*rows)), schema=pa.schema(list(types.items())))


def simulated(day: dt.datetime) -> pa.Table:
    """Enhanced rows of the made-up city's day, a snapshot every quarter of an hour."""
    times = [day + number * 15 * MINUTE for number in range(96)]
    rows = FORMAT.parse(Snapshot(f"raw/{at:%H%M}.txt", at, snapshot(7, at)) for at in times).rows
    return enhance(rows, day.date(), CONTRACTS.enhanced).rows


def found(anomalies: Anomalies, method: Method) -> list[Row]:
    rows: list[Row] = anomalies.rows.to_pylist()
    return [row for row in rows if row["method"] == method]


def steady(days: Iterable[int], bikes: int = 4, hour: int = 6, **where: Any) -> list[pa.Table]:
    """History: so many days before the day, the station had a count through one UTC hour."""
    return [
        station_hours(table(polls([bikes] * 12, start=DAY - before * DAYS + hour * HOUR, **where))) for before in days
    ]


def at_eight(bikes: int) -> pa.Table:
    return table(polls([bikes] * 12, start=DAY + 6 * HOUR))


# A day as station-hours.


def test_a_day_is_reduced_to_what_each_station_did_in_each_hour() -> None:
    rows = polls([4, 4, 6, 3], every=20 * MINUTE, start=DAY + HOUR)

    (first, second) = station_hours(table(rows)).to_pylist()

    assert first == {
        "station_id": "15001",
        "name": "Plac 15001",
        "hour_start": DAY + HOUR,
        "lat": 51.1,
        "lon": 17.0,
        "total_docks": 20,
        "bikes": pytest.approx(14 / 3),
        "volatility": pytest.approx(statistics.pstdev([4, 4, 6])),
        "steps": 2,
        "changes": 1,
        "moved": 2,
    }
    assert (second["hour_start"], second["steps"], second["changes"], second["moved"]) == (DAY + 2 * HOUR, 1, 1, 3)


def test_bikes_and_unknown_records_are_not_judged() -> None:
    rows = [polls([1, 9], "fb604692", record_type="bike"), polls([1, 9], "x1", record_type="unknown")]

    assert station_hours(table(*rows)).equals(STATION_HOURS.empty_table())
    assert find_anomalies(table(*rows), []).notes == ("the day has no station rows: nothing to judge",)


def test_what_changed_during_an_outage_is_no_pace() -> None:
    rows = polls([4, 5], every=31 * MINUTE)

    assert station_hours(table(rows)).column("moved").to_pylist() == [0]


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["15001", "15002", "9", "15010"]), st.integers(0, 60)),
        st.integers(0, 40),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_station_hours_are_those_of_a_loop_over_the_rows_in_any_order(
    counts: dict[tuple[str, int], int], chance: random.Random
) -> None:
    rows = [
        row
        for (station, slot), bikes in counts.items()
        for row in polls([bikes], station, start=DAY + slot * 7 * MINUTE)
    ]
    chance.shuffle(rows)

    result = station_hours(table(rows))

    expected: dict[tuple[str, int], list[int]] = {}
    moved: dict[tuple[str, int], int] = {}
    previous: dict[str, tuple[int, int]] = {}
    for (station, slot), bikes in sorted(counts.items()):
        hour = (station, slot * 7 // 60)
        expected.setdefault(hour, []).append(bikes)
        before = previous.get(station)
        near = before is not None and (slot - before[0]) * 7 <= 30
        moved[hour] = moved.get(hour, 0) + (abs(bikes - before[1]) if near and before is not None else 0)
        previous[station] = (slot, bikes)
    keys = list(
        zip(
            result.column("station_id").to_pylist(),
            [(hour - DAY) // HOUR for hour in result.column("hour_start").to_pylist()],
            strict=True,
        )
    )
    assert keys == sorted(expected)
    assert result.column("bikes").to_pylist() == pytest.approx([statistics.mean(expected[key]) for key in keys])
    assert result.column("volatility").to_pylist() == pytest.approx(
        [statistics.pstdev(expected[key]) for key in keys], abs=1e-6
    )
    assert result.column("moved").to_pylist() == [moved[key] for key in keys]


# The robust z-score.


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), max_size=40))
def test_medians_of_buckets_are_those_of_the_standard_library(pairs: list[tuple[int, int]]) -> None:
    buckets = np.array([bucket for bucket, _ in pairs], dtype=np.int64)

    medians, counts = bucket_medians(buckets, np.array([float(value) for _, value in pairs]), 5)

    for bucket in range(5):
        values = [value for where, value in pairs if where == bucket]
        assert counts[bucket] == len(values)
        assert medians[bucket] == statistics.median(values) if values else np.isnan(medians[bucket])


def test_an_hour_far_from_the_same_hour_of_other_weeks_is_found_and_said_in_words() -> None:
    """The MAD of a station that never varies is 0: one bike stands for it, and nothing is divided by zero."""
    (row,) = found(find_anomalies(at_eight(21), steady([7, 14, 21, 28])), Method.ROBUST_Z)

    assert row == {
        "station_id": "15001",
        "name": "Plac 15001",
        "hour_start": DAY + 6 * HOUR,
        "method": "robust_z",
        "score": pytest.approx((21 - 4) / 1.4826),
        "why": "21 bikes on average at 08:00\u201309:00 (Europe/Warsaw); "
        "usually 4 on Tuesdays at this hour (median of 4 weeks)",
        "bikes": 21.0,
        "total_docks": 20,
    }


def test_too_few_bikes_score_below_zero() -> None:
    (row,) = found(find_anomalies(at_eight(0), steady([7, 14, 21, 28], bikes=12)), Method.ROBUST_Z)

    assert row["score"] == pytest.approx(-12 / 1.4826)


@pytest.mark.parametrize(("bikes", "findings"), [(9, 0), (10, 1)])
def test_nothing_within_five_bikes_of_the_usual_is_reported(bikes: int, findings: int) -> None:
    """3.5 times 1.4826 times the least MAD of one bike are 5.2."""
    assert len(found(find_anomalies(at_eight(bikes), steady([7, 14, 21, 28])), Method.ROBUST_Z)) == findings


def test_a_station_that_varies_much_may() -> None:
    history = [month for week, bikes in enumerate((0, 8, 16, 24), 1) for month in steady([7 * week], bikes=bikes)]

    assert found(find_anomalies(at_eight(30), history), Method.ROBUST_Z) == []


def test_tuesdays_are_held_against_tuesdays() -> None:
    """Twenty bikes are usual on a Tuesday and on no other day."""
    history = [*steady([7, 14, 21, 28], bikes=20), *steady([d for d in range(1, 28) if d % 7], bikes=2)]

    assert found(find_anomalies(at_eight(20), history), Method.ROBUST_Z) == []
    (row,) = found(find_anomalies(at_eight(2), history), Method.ROBUST_Z)
    assert "usually 20 on Tuesdays" in row["why"]


def test_four_weeks_that_agree_by_chance_do_not_make_a_restless_station_predictable() -> None:
    """The MAD is not taken to be less than that of the same hour on all weekdays."""
    others = [d for d in range(1, 28) if d % 7 and (DAY - d * DAYS).weekday() < 5]
    calm = [h for hour in (9, 10, 11) for h in steady(range(1, 29), hour=hour)]
    other = [h for n, d in enumerate(others) for h in steady([d], bikes=n % 3 * 6)]
    history = [*steady([7, 14, 21, 28]), *other, *calm]

    assert found(find_anomalies(at_eight(11), history), Method.ROBUST_Z) == []
    assert len(found(find_anomalies(at_eight(11), [*steady(range(1, 29)), *calm]), Method.ROBUST_Z)) == 1


def test_hours_that_agree_by_chance_do_not_make_a_restless_station_predictable_either() -> None:
    """The MAD is not taken to be less than what is usual at the station over all hours."""
    wild = [h for n, d in enumerate(range(1, 29)) for hour in (9, 10, 11) for h in steady([d], n % 3 * 6, hour)]

    assert len(found(find_anomalies(at_eight(11), steady(range(1, 29))), Method.ROBUST_Z)) == 1
    assert found(find_anomalies(at_eight(11), [*steady(range(1, 29)), *wild]), Method.ROBUST_Z) == []


def test_the_usual_hour_is_the_one_on_the_clock_on_both_sides_of_a_change_to_summer_time() -> None:
    """On Sunday 2025-03-30 clocks went forward: 08:00 is 07:00 UTC the week before and 06:00 UTC after."""
    sunday = dt.datetime(2025, 3, 30, 8, tzinfo=WARSAW)
    history = [
        station_hours(table(polls([bikes] * 12, start=at.astimezone(dt.UTC))))
        for weeks in (1, 2)
        for at, bikes in ((sunday - weeks * 7 * DAYS, 4), (sunday - weeks * 7 * DAYS - HOUR, 20))
    ]

    (row,) = found(find_anomalies(table(polls([20] * 12, start=sunday.astimezone(dt.UTC))), history), Method.ROBUST_Z)

    assert row["hour_start"] == dt.datetime(2025, 3, 30, 6, tzinfo=dt.UTC)
    assert "at 08:00\u201309:00 (Europe/Warsaw); usually 4 on Sundays" in row["why"]


@pytest.mark.parametrize(
    ("days_before", "usual"),
    [
        pytest.param([14, 7], "on Tuesdays at this hour (median of 2 weeks)", id="two weeks"),
        pytest.param(
            [1, 4, 5, 6, 8], "on weekdays at this hour (median of 5 days)", id="a working week but no Tuesday"
        ),
        pytest.param([1, 2, 3, 4, 5], "at this hour (median of 5 days)", id="three weekdays and a weekend"),
    ],
)
def test_a_shorter_history_makes_wider_buckets(days_before: list[int], usual: str) -> None:
    (row,) = found(find_anomalies(at_eight(21), steady(days_before)), Method.ROBUST_Z)

    assert row["why"].endswith(f"usually 4 {usual}")


def test_a_history_too_short_for_the_hour_of_the_week_says_what_was_used() -> None:
    assert (
        "history of 5 days is too short for a baseline by hour of the week, which needs 2 weeks: "
        "the hour of the day used instead"
    ) in find_anomalies(at_eight(4), steady([1, 2, 3, 4, 5])).notes


def test_too_few_values_for_any_bucket_give_no_score_but_a_note() -> None:
    anomalies = find_anomalies(at_eight(40), steady([1, 2, 3, 4]))

    assert anomalies.rows.num_rows == 0
    assert anomalies.notes[:2] == (
        "history of 4 days is too short for a baseline by hour of the week, which needs 2 weeks",
        "no robust z-score for 1 station-hour with fewer than 5 earlier days at their hour (1 station (15001))",
    )


def test_a_station_never_seen_before_has_no_score_and_is_named() -> None:
    day = table(polls([40] * 12, "15999", start=DAY + 6 * HOUR), polls([4] * 12, start=DAY + 6 * HOUR))

    anomalies = find_anomalies(day, steady([7, 14, 21]))

    assert found(anomalies, Method.ROBUST_Z) == []
    assert "1 station (15999) never seen before: no robust z-score" in anomalies.notes


def test_a_long_history_of_other_stations_is_not_called_too_short() -> None:
    others = steady([7, 14, 21], station_id="15500")

    assert not any("too short" in note for note in find_anomalies(at_eight(4), others).notes)


def test_without_a_history_it_says_so() -> None:
    notes = find_anomalies(at_eight(4), []).notes

    assert notes[0] == "no history: no robust z-score"
    assert "no history: which stations usually move is not known, so none can be called flat" in notes


def test_a_history_that_holds_the_day_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reaches to 2025-06-10 06:00 UTC, but the day begins at 2025-06-10 06:00"):
        find_anomalies(at_eight(4), [*steady([1]), station_hours(at_eight(4))])


# The isolation forest.


def restless(day: int, *, faulty: bool = False) -> pa.Table:
    """A day of twenty stations that gain or lose one bike now and then; one may flicker through an hour."""
    rows = []
    for number in range(20):
        chance = random.Random(f"{day}:{number}")  # noqa: S311 - repeatable on purpose
        counts = list(itertools.accumulate((chance.choice((0, 0, 0, 0, 1, -1)) for _ in range(287)), initial=30))
        if faulty and number == 7:
            counts[120:132] = [count + 4 * (place % 2) for place, count in enumerate(counts[120:132])]
        rows.append(polls(counts, f"{15001 + number}", start=DAY + day * DAYS, docks=40, lat=51 + number / 100))
    return table(*rows)


def test_an_hour_of_flicker_at_its_usual_count_is_odd_to_the_forest() -> None:
    history = [station_hours(restless(-before)) for before in range(1, 6)]

    rows = found(find_anomalies(restless(0, faulty=True), history), Method.ISOLATION_FOREST)

    (row,) = (row for row in rows if row["station_id"] == "15008" and row["hour_start"] == DAY + 10 * HOUR)
    assert row["score"] == max(other["score"] for other in rows)
    assert row["why"].startswith("odd taken together at 12:00\u201313:00 (Europe/Warsaw): ")
    assert "8% of steps without change (usually 58%)" in row["why"]


def test_without_a_history_the_forest_learns_from_the_day_and_says_so() -> None:
    anomalies = find_anomalies(restless(0, faulty=True), [])

    assert "no history: the isolation forest learnt from the day itself" in anomalies.notes
    assert ("15008", DAY + 10 * HOUR) in {
        (row["station_id"], row["hour_start"]) for row in found(anomalies, Method.ISOLATION_FOREST)
    }


def test_the_same_day_in_any_order_gives_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "FOREST_TRAINING_ROWS", 1000)  # of 2,400: which are drawn must not depend on the order
    day, history = restless(0, faulty=True), [station_hours(restless(-before)) for before in range(1, 6)]
    shuffled = day.take(pa.array(np.random.default_rng(1).permutation(day.num_rows)))

    first, second = find_anomalies(day, history), find_anomalies(shuffled, history[::-1])

    assert first.rows.num_rows
    assert first == second
    assert first.rows.schema.equals(ANOMALY_SCHEMA)


# A day with one snapshot.


def test_a_day_with_one_snapshot_is_judged_as_far_as_it_goes() -> None:
    anomalies = find_anomalies(table(polls([21], start=DAY + 6 * HOUR)), steady([7, 14, 21, 28]))

    assert [row["method"] for row in anomalies.rows.to_pylist()] == ["robust_z"]
    forest, gone = anomalies.notes
    assert forest.startswith("no isolation forest: 0 station-hours to judge")
    assert gone == "the day has 1 whole snapshot: too few to say what vanished, which takes 12"

"""What a day holds, and how far each column drifted from the week before."""

import datetime as dt
import io
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.transform.profile import (
    BinShare,
    ColumnProfile,
    DayProfile,
    Summary,
    ValueCount,
    band,
    can_drift,
    population_stability_index,
    profile_day,
    summarise,
    to_json,
)
from wrm_pipeline.transform.schema import ENHANCED

DAY = dt.date(2025, 5, 12)
MIDNIGHT = dt.datetime(2025, 5, 12, tzinfo=dt.UTC)
NOON = MIDNIGHT + dt.timedelta(hours=12)
WEEK = [DAY - dt.timedelta(days=n) for n in range(1, 8)]
NOT_COMPARED = {"station_id", "name", "s3_source_key", "timestamp", "file_timestamp", "date"}
ROW = {
    "station_id": "15001",
    "name": "Rynek",
    "timestamp": NOON - dt.timedelta(seconds=3),
    "gmt_local_diff_sec": -7200,
    "gmt_servertime_diff_sec": -3600,
    "lat": 51.1,
    "lon": 17.0,
    "bikes": 6,
    "spaces": 10,
    "installed": True,
    "locked": False,
    "temporary": False,
    "total_docks": 16,
    "givesbonus_acceptspedelecs_fbbattlevel": "false",
    "pedelecs": 0,
    "gives_bonus": False,
    "battery_level": None,
    "s3_source_key": "raw/one.txt",
    "file_timestamp": NOON,
    "record_type": "station",
    "date": DAY,
    "in_service_area": True,
    "quality_flags": [],
}


def table(rows: int = 1, **columns: Sequence[Any]) -> pa.Table:
    """Enhanced rows; a column that is not given holds the same value in each."""
    rows = max([rows, *map(len, columns.values())]) if rows else 0
    values = {name: list(columns.get(name, [ROW[name]] * rows)) for name in ENHANCED.names}
    return pa.table(values, schema=ENHANCED)


def column(profile: DayProfile, name: str) -> ColumnProfile:
    (found,) = (each for each in profile.columns if each.name == name)
    return found


def profile_of(name: str, values: Sequence[Any]) -> ColumnProfile:
    return column(profile_day(table(**{name: values}), DAY, []), name)


def drift_of(name: str, week: Sequence[Any], day: Sequence[Any]) -> ColumnProfile:
    trailing = [summarise(table(**{name: week}), WEEK[0])]
    return column(profile_day(table(**{name: day}), DAY, trailing), name)


class TestColumns:
    def test_numbers(self) -> None:
        bikes = profile_of("bikes", [0, 0, 0, 1, 2, 3, 4, 5, 6, 9])

        assert (bikes.type, bikes.rows, bikes.nulls, bikes.distinct) == ("int32", 10, 0, 8)
        assert (bikes.minimum, bikes.maximum, bikes.mean) == (0, 9, 3.0)
        assert bikes.quantiles == {"p1": 0, "p5": 0, "p25": 0, "p50": 2, "p75": 5, "p95": 9, "p99": 9}
        assert bikes.top[:2] == (ValueCount(0, 3), ValueCount(1, 1))
        assert bikes.histogram is not None
        assert bikes.histogram.edges == tuple(range(11))
        assert bikes.histogram.counts == (3, 1, 1, 1, 1, 1, 1, 0, 0, 1)
        assert bikes.memory_bytes == 40

    def test_nulls_count_and_are_no_values(self) -> None:
        battery = profile_of("battery_level", [None, 20, None, 80])

        assert (battery.rows, battery.nulls, battery.distinct, battery.mean) == (4, 2, 2, 50.0)
        assert battery.top == (ValueCount(20, 1), ValueCount(80, 1))

    def test_a_column_without_any_value(self) -> None:
        battery = profile_of("battery_level", [None, None])

        assert (battery.nulls, battery.distinct, battery.minimum, battery.mean) == (2, 0, None, None)
        assert (battery.quantiles, battery.top, battery.histogram) == ({}, (), None)

    def test_what_is_not_a_finite_number_is_no_value(self) -> None:
        lat = profile_of("lat", [math.nan, math.inf, 51.0, 51.5])

        assert (lat.nulls, lat.minimum, lat.maximum, lat.mean) == (2, 51.0, 51.5, 51.25)

    def test_zero_has_no_sign(self) -> None:
        lat = profile_of("lat", [-0.0, 0.0, -0.0])

        assert lat.top == (ValueCount(0.0, 3),)
        assert str(lat.minimum) == "0.0"

    def test_booleans(self) -> None:
        bonus = profile_of("gives_bonus", [True, True, False, None])

        assert bonus.true_share == pytest.approx(2 / 3)
        assert bonus.top == (ValueCount(value=True, rows=2), ValueCount(value=False, rows=1))
        assert (bonus.nulls, bonus.histogram, bonus.quantiles) == (1, None, {})
        assert profile_of("locked", [False]).true_share == 0.0

    def test_times_of_the_day_are_counted_by_the_hour(self) -> None:
        times = [MIDNIGHT, NOON, NOON + dt.timedelta(minutes=59), MIDNIGHT + dt.timedelta(hours=23, minutes=59)]

        seen = profile_of("file_timestamp", times)

        assert (seen.minimum, seen.maximum, seen.mean) == (times[0], times[-1], None)
        assert seen.quantiles["p50"] == NOON
        assert seen.histogram is not None
        assert seen.histogram.edges == tuple(MIDNIGHT + dt.timedelta(hours=n) for n in range(25))
        assert {n: rows for n, rows in enumerate(seen.histogram.counts) if rows} == {0: 1, 12: 2, 23: 1}

    def test_times_far_from_the_day_are_counted_too(self) -> None:
        """London's rows are years older than their snapshot."""
        histogram = profile_of("timestamp", [NOON, NOON.replace(year=2014), NOON]).histogram

        assert histogram is not None
        assert (histogram.edges[0], sum(histogram.counts), histogram.counts[0]) == (NOON.replace(year=2014), 3, 1)
        assert histogram.edges[-1] > NOON

    def test_dates(self) -> None:
        date = profile_of("date", [DAY, DAY])

        assert (date.minimum, date.maximum, date.top) == (DAY, DAY, (ValueCount(DAY, 2),))
        assert date.histogram is not None
        assert (date.histogram.edges, date.histogram.counts) == ((DAY, DAY), (2,))

    def test_text_shows_the_ten_most_frequent_values_and_of_equals_the_first_by_name(self) -> None:
        names = [f"Stop {letter}" for letter in "lkjihgfedcba"] + ["Stop l", "Żabia"]

        seen = profile_of("name", names)

        assert seen.distinct == 13
        assert [each.value for each in seen.top] == ["Stop l", *(f"Stop {letter}" for letter in "abcdefghi")]
        assert seen.top[0].rows == 2
        assert (seen.minimum, seen.mean, seen.histogram) == (None, None, None)

    def test_the_flags_of_a_row_are_one_value(self) -> None:
        flags = profile_of("quality_flags", [["off_zone", "overfull"], [], ["off_zone", "overfull"]])

        assert flags.type == "list<string>"
        assert flags.top == (ValueCount("off_zone + overfull", 2), ValueCount("", 1))

    @given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=60))
    def test_whole_numbers_are_all_in_the_histogram_and_quantiles_are_those_of_numpy(self, numbers: list[int]) -> None:
        seen = profile_of("bikes", numbers)

        assert seen.histogram is not None
        edges, counts = seen.histogram.edges, seen.histogram.counts
        assert sum(counts) == len(numbers)
        assert len(edges) == len(counts) + 1 <= 32
        assert edges[0] == min(numbers)
        for low, high, rows in zip(edges, edges[1:], counts, strict=False):
            assert rows == sum(low <= n < high or low == n == high for n in numbers)
        expected = {f"p{q}": np.percentile(numbers, q, method="inverted_cdf") for q in (1, 5, 25, 50, 75, 95, 99)}
        assert seen.quantiles == expected

    @given(st.lists(st.floats(-180, 180), min_size=1, max_size=60))
    def test_fractions_are_all_in_the_histogram(self, numbers: list[float]) -> None:
        seen = profile_of("lon", numbers)

        assert seen.histogram is not None
        assert sum(seen.histogram.counts) == len(numbers)
        assert (seen.histogram.edges[0], seen.histogram.edges[-1]) == (min(numbers), max(numbers))
        assert seen.mean == pytest.approx(math.fsum(numbers) / len(numbers))


class TestDay:
    def test_rows_flags_and_record_types(self) -> None:
        rows = table(
            record_type=["bike", "station", "bike"], quality_flags=[["off_zone", "stale_row_time"], [], ["off_zone"]]
        )

        profile = profile_day(rows, DAY, [])

        assert (profile.day, profile.rows) == (DAY, 3)
        assert profile.flags == (ValueCount("off_zone", 2), ValueCount("stale_row_time", 1))
        assert profile.unflagged_rows == 1
        assert profile.record_types == (ValueCount("bike", 2), ValueCount("station", 1))
        assert [each.name for each in profile.columns] == ENHANCED.names
        assert profile.memory_bytes == sum(each.memory_bytes for each in profile.columns)

    @pytest.mark.parametrize(
        ("name", "values", "size"),
        [
            pytest.param("bikes", [1] * 9, 36, id="four bytes a row"),
            pytest.param("locked", [True] * 9, 2, id="a bit a row"),
            pytest.param("battery_level", [1] * 8 + [None], 38, id="a bit a row for nulls"),
            pytest.param("name", ["Żabia"] * 9, 40 + 54, id="text and offsets"),
            pytest.param("quality_flags", [["ab", "c"]] * 2, 12 + 20 + 6, id="offsets of lists, their texts"),
        ],
    )
    def test_memory_is_that_of_plain_arrow_buffers(self, name: str, values: list[Any], size: int) -> None:
        assert profile_of(name, values).memory_bytes == size

    def test_snapshots_are_in_the_order_of_time(self) -> None:
        later = NOON + dt.timedelta(minutes=5)

        profile = profile_day(table(file_timestamp=[later, NOON, later]), DAY, [])

        assert [(each.time, each.rows) for each in profile.snapshots] == [(NOON, 1), (later, 2)]

    def test_gaps_lie_where_a_snapshot_is_missing_also_at_the_ends_of_the_day(self) -> None:
        minutes = [*range(10, 700, 5), *range(710, 1400, 5)]
        times = [MIDNIGHT + dt.timedelta(minutes=n) for n in minutes]

        gaps = profile_day(table(file_timestamp=times), DAY, []).gaps

        clock = [(f"{gap.start:%d %H:%M}", f"{gap.end:%d %H:%M}") for gap in gaps]
        assert clock == [("12 00:00", "12 00:10"), ("12 11:35", "12 11:50"), ("12 23:15", "13 00:00")]

    def test_polls_that_are_some_seconds_late_leave_no_gap(self) -> None:
        times = [MIDNIGHT + dt.timedelta(minutes=5 * n, seconds=n % 4) for n in range(288)]

        assert profile_day(table(file_timestamp=times), DAY, []).gaps == ()

    def test_a_day_with_one_snapshot_says_so(self) -> None:
        profile = profile_day(table(2), DAY, [])

        assert len(profile.snapshots) == 1
        assert profile.gaps == ()
        assert profile.notes[0] == "The day has one snapshot: all figures are of that moment, not of a day."

    def test_a_day_without_rows(self) -> None:
        profile = profile_day(table(0), DAY, [summarise(table(1_000), WEEK[0])])

        assert (profile.rows, profile.snapshots, profile.flags, profile.unflagged_rows) == (0, (), (), 0)
        assert profile.notes[0] == "The day has no rows."
        assert {each.drift.psi for each in profile.columns} == {None}
        assert column(profile, "bikes").drift.reason == "The day has no rows."

    def test_encoding_and_chunks_change_nothing(self) -> None:
        rows = table(name=["Rynek", "Plac", "Rynek"], record_type=["bike", "station", "bike"])
        encoded = pa.concat_tables([_encoded(rows.slice(0, 1)), _encoded(rows.slice(1))])
        assert encoded.column("name").num_chunks == 2

        assert to_json(profile_day(encoded, DAY, [])) == to_json(profile_day(rows, DAY, []))

    def test_rows_of_a_stored_day_give_the_same_bytes(self) -> None:
        rows = table(name=["Rynek", "Plac"], battery_level=[None, 20], quality_flags=[["overfull"], []])
        buffer = io.BytesIO()
        pq.write_table(rows, buffer)
        stored = pq.read_table(buffer)

        assert to_json(profile_day(stored, DAY, [])) == to_json(profile_day(rows, DAY, []))

    @given(st.permutations(range(12)))
    def test_the_order_of_rows_changes_nothing(self, order: list[int]) -> None:
        rows = table(
            name=[f"Stop {n % 5}" for n in range(12)],
            lat=[51 + n % 7 / 10 for n in range(12)],
            quality_flags=[["overfull"]] * 6 + [["off_zone"]] * 6,
            file_timestamp=[NOON + dt.timedelta(minutes=n % 3) for n in range(12)],
        )

        assert to_json(profile_day(rows.take(order), DAY, [])) == to_json(profile_day(rows, DAY, []))


class TestDrift:
    def test_without_a_trailing_week_there_is_none_and_it_says_so(self) -> None:
        profile = profile_day(table(1_000), DAY, [])

        assert profile.trailing_days == ()
        assert any("no trailing week" in note for note in profile.notes)
        assert {(each.drift.psi, each.drift.band) for each in profile.columns} == {(None, None)}
        assert all(each.drift.reason for each in profile.columns)

    def test_missing_and_empty_days_of_the_week_are_named(self) -> None:
        full = [summarise(table(1_000), day) for day in WEEK[:5]]

        profile = profile_day(table(1_000), DAY, [*full, summarise(table(0), WEEK[5])])

        assert profile.trailing_days == tuple(sorted(WEEK[:5]))
        assert profile.notes[-1].endswith("5 of the seven days before: missing or blocked are 2025-05-05, 2025-05-06.")

    @pytest.mark.parametrize("days", [[DAY], [DAY - dt.timedelta(days=8)], [WEEK[0], WEEK[0]]])
    def test_summaries_of_other_days_are_refused(self, days: list[dt.date]) -> None:
        with pytest.raises(ValueError, match="trailing week of 2025-05-12 is 2025-05-05 to 2025-05-11, each day once"):
            profile_day(table(1), DAY, [summarise(table(1), day) for day in days])

    def test_an_equal_week_has_no_drift(self) -> None:
        rows = table(lat=[n / 1_000 for n in range(5_000)], record_type=["bike", "station"] * 2_500)

        profile = profile_day(rows, DAY, [summarise(rows, day) for day in WEEK])

        compared = [each for each in profile.columns if each.drift.psi is not None]
        assert {(each.drift.psi, each.drift.band) for each in compared} == {(0.0, "stable")}
        assert len(compared) == 17

    def test_identifiers_and_times_are_not_compared(self) -> None:
        profile = profile_day(table(1_000), DAY, [summarise(table(1_000), WEEK[0])])

        reasons = {each.name: each.drift.reason for each in profile.columns if each.drift.psi is None}
        assert set(reasons) == NOT_COMPARED
        assert "single things" in reasons["name"]
        assert "Times" in reasons["date"]

    def test_a_summary_needs_and_holds_the_compared_columns_only(self) -> None:
        names = [field.name for field in ENHANCED if can_drift(field)]
        rows = table(10)

        assert set(ENHANCED.names) - set(names) == NOT_COMPARED
        assert list(summarise(rows, WEEK[0]).columns) == names
        assert summarise(rows.select(names), WEEK[0]) == summarise(rows, WEEK[0])

    def test_the_index_of_categories_by_hand(self) -> None:
        seen = drift_of("record_type", ["bike"] * 500 + ["station"] * 500, ["bike"] * 700 + ["station"] * 300)

        by_hand = (0.7 - 0.5) * math.log(0.7 / 0.5) + (0.3 - 0.5) * math.log(0.3 / 0.5)
        assert seen.drift.psi == pytest.approx(by_hand, abs=1e-6)
        assert seen.drift.band == "shifted"
        assert seen.drift.bins == (BinShare("bike", 0.5, 0.7), BinShare("station", 0.5, 0.3))

    def test_the_index_of_numbers_is_over_the_deciles_of_the_week(self) -> None:
        """Half of the day lies where a tenth of the week did."""
        week = [n / 10 for n in range(1, 1_001)]
        day = [5.0] * 500 + [n / 10 for n in range(101, 1_001)][:500]

        bins = drift_of("lat", week, day).drift.bins

        assert [each.week for each in bins] == [0.1] * 10
        assert (bins[0].label, bins[1].label, bins[-1].label) == ("up to 10", "over 10 to 20", "over 90")
        assert (bins[0].day, bins[1].day, bins[-1].day) == (0.5, 0.1, 0.0)

    def test_a_value_that_the_week_never_had_is_among_all_others(self) -> None:
        text = drift_of("record_type", ["bike"] * 1_000, ["bike"] * 500 + ["unknown"] * 500).drift
        number = drift_of("bikes", [1] * 1_000, [1] * 500 + [70] * 500).drift

        for drift in (text, number):
            assert drift.bins[-1] == BinShare("all others", 0.0, 0.5)
            assert drift.band == "drifted"
            assert drift.psi == pytest.approx((0.5 - 1e-4) * math.log(0.5 / 1e-4) + (0.5 - 1) * math.log(0.5), abs=1e-6)

    def test_a_column_that_lost_its_values_drifted(self) -> None:
        drift = drift_of("battery_level", list(range(100)) * 10, [None] * 1_000).drift

        assert drift.band == "drifted"
        assert drift.bins[-1] == BinShare("no value", 0.0, 1.0)

    def test_rare_texts_are_one_bin(self) -> None:
        week = ["false"] * 1_880 + [str(n) for n in range(60)] * 2

        bins = drift_of("givesbonus_acceptspedelecs_fbbattlevel", week, week).drift.bins

        assert len(bins) == 51
        assert bins[-1] == BinShare("all others", 0.011, 0.011)

    def test_texts_too_rare_for_a_summary_are_among_all_others_too(self) -> None:
        week = ["false"] * 8_000 + [str(n) for n in range(2_000)]

        drift = drift_of("givesbonus_acceptspedelecs_fbbattlevel", week, week).drift

        assert drift.bins[-1] == BinShare("all others", 0.1951, 0.1951)
        assert drift.psi == 0.0

    def test_days_of_the_week_are_taken_together(self) -> None:
        trailing = [
            summarise(table(record_type=["bike"] * 900), WEEK[0]),
            summarise(table(record_type=["station"] * 100), WEEK[1]),
        ]

        for order in itertools.permutations(trailing):
            profile = profile_day(table(record_type=["bike"] * 900 + ["station"] * 100), DAY, order)
            assert column(profile, "record_type").drift.psi == 0.0

    def test_too_few_rows_for_the_bins_have_no_index(self) -> None:
        """Ten bins and ninety rows: two samples of one population would look shifted half of the time."""
        week = [n / 1_000 for n in range(100_000)]
        few = drift_of("lat", week, week[::1_112])
        enough = drift_of("lat", week, week[::500])

        assert (few.rows, few.drift.psi, few.drift.bins) == (90, None, ())
        assert few.drift.reason == "Too few rows for 10 bins: chance alone would look like a shift."
        assert enough.drift.band == "stable"

    @given(st.integers(0, 2**32 - 1))
    def test_a_summary_moves_no_share_by_more_than_one_in_1024(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        numbers = random.normal(51.1, 0.05, 5_000).round(4 + seed % 3)
        kept = summarise(table(lat=numbers.tolist()), WEEK[0]).columns["lat"]
        values, counts = np.array(kept.values), np.array(kept.counts)

        assert len(values) <= 1_024
        assert kept.rows == 5_000
        for edge in random.choice(numbers, 20):
            assert abs(counts[values <= edge].sum() - (numbers <= edge).sum()) <= 5_000 / 1_024 + 1
        for edge in values[:: len(values) // 20]:
            assert counts[values <= edge].sum() == (numbers <= edge).sum()

    def test_a_summary_of_many_texts_keeps_the_frequent_ones(self) -> None:
        texts = [str(n) for n in range(2_000)] + ["false"] * 10

        kept = summarise(table(givesbonus_acceptspedelecs_fbbattlevel=texts), WEEK[0]).columns[
            "givesbonus_acceptspedelecs_fbbattlevel"
        ]

        assert len(kept.values) == 1_024
        assert dict(zip(kept.values, kept.counts, strict=True))["false"] == 10
        assert (kept.others, kept.rows) == (2_000 - 1_023, 2_010)

    @pytest.mark.parametrize(
        ("psi", "expected"),
        [(0.0, "stable"), (0.0999, "stable"), (0.1, "shifted"), (0.25, "shifted"), (0.2501, "drifted")],
    )
    def test_bands(self, psi: float, expected: str) -> None:
        assert band(psi) == expected

    @given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=1, max_size=12))
    def test_the_index_is_finite_never_negative_and_the_same_both_ways(self, bins: list[tuple[int, int]]) -> None:
        a, b = ([n / (sum(counts) or 1) for n in counts] for counts in zip(*bins, strict=True))

        psi = population_stability_index(a, b)

        assert 0 <= psi < math.inf
        assert psi == pytest.approx(population_stability_index(b, a))
        assert population_stability_index(a, a) == 0


class TestJson:
    def test_it_holds_everything_in_a_fixed_order(self) -> None:
        rows = table(name=["Żabia", "Żabia"])
        written = to_json(profile_day(rows, DAY, [summarise(rows, WEEK[0])]))

        document = json.loads(written)
        assert written.endswith(b"}\n")
        assert "Żabia".encode() in written
        assert list(document)[:3] == ["version", "day", "rows"]
        assert (document["version"], document["day"], document["rows"]) == (1, "2025-05-12", 2)
        assert document["snapshots"] == [{"time": "2025-05-12T12:00:00Z", "rows": 2}]
        (bikes,) = (each for each in document["columns"] if each["name"] == "bikes")
        assert bikes["quantiles"]["p50"] == 6
        assert bikes["drift"] == {
            "psi": 0.0,
            "band": "stable",
            "reason": "",
            "bins": [{"label": "6", "week": 1.0, "day": 1.0}],
        }

    def test_no_summary_and_no_profile_depends_on_the_run(self) -> None:
        rows = table(lat=[51 + n / 7 for n in range(300)])

        def once() -> tuple[Summary, bytes]:
            summary = summarise(rows, WEEK[0])
            return summary, to_json(profile_day(rows, DAY, [summary]))

        assert once() == once()


def _encoded(rows: pa.Table) -> pa.Table:
    for name in ("station_id", "name", "s3_source_key", "record_type"):
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, name, rows.column(name).dictionary_encode())
    return rows

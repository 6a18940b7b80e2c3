"""Where things lie: existing lakes depend on every character."""

import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.lake.keys import LakeKeys, Layer, day_of, snapshot_time

KEYS = LakeKeys()
DAY = dt.date(2025, 5, 12)
UTC_TIMES = st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (KEYS.raw_root, "bike-data/gen_info/raw/"),
        (KEYS.raw_day(DAY), "bike-data/gen_info/raw/dt=2025-05-12/"),
        (
            KEYS.raw(dt.datetime(2025, 5, 12, 8, 5, 9, tzinfo=dt.UTC)),
            "bike-data/gen_info/raw/dt=2025-05-12/wrm_stations_2025-05-12_08-05-09.txt",
        ),
        (KEYS.layer_root(Layer.PROCESSED), "bike-data/gen_info/processed/all/"),
        (KEYS.layer_day(Layer.PROCESSED, DAY), "bike-data/gen_info/processed/all/dt=2025-05-12/"),
        (
            KEYS.layer_object(Layer.PROCESSED, DAY),
            "bike-data/gen_info/processed/all/dt=2025-05-12/all_processed.parquet",
        ),
        (
            KEYS.layer_object(Layer.ENHANCED, DAY),
            "bike-data/gen_info/enhanced/all/dt=2025-05-12/all_enhanced.parquet",
        ),
        (KEYS.dead_letter_root, "bike-data/gen_info/dlq/"),
        (KEYS.dead_letter_day(DAY), "bike-data/gen_info/dlq/dt=2025-05-12/"),
        (KEYS.dead_letter(DAY, "an-id"), "bike-data/gen_info/dlq/dt=2025-05-12/an-id.json"),
        (KEYS.dead_payload(DAY, "ab12"), "bike-data/gen_info/dlq/dt=2025-05-12/payload-ab12.bin"),
        (KEYS.redrive_audit_day(DAY), "bike-data/gen_info/dlq/audit/dt=2025-05-12/"),
        (KEYS.redrive_audit(DAY, "an-id", 7), "bike-data/gen_info/dlq/audit/dt=2025-05-12/an-id-007.json"),
        (KEYS.dead_letter_alert_day(DAY), "bike-data/gen_info/dlq/alerts/dt=2025-05-12/"),
        (KEYS.dead_letter_alert(DAY, "an-id"), "bike-data/gen_info/dlq/alerts/dt=2025-05-12/an-id.json"),
        (KEYS.redrive_journal(DAY), "bike-data/gen_info/dlq/redrive/2025-05-12.json"),
        (KEYS.redrive_settled, "bike-data/gen_info/dlq/redrive/settled.json"),
        (KEYS.anomalies(DAY), "bike-data/gen_info/anomalies/dt=2025-05-12/anomalies.parquet"),
        (KEYS.profile_root, "bike-data/gen_info/profiles/"),
        (KEYS.profile(DAY), "bike-data/gen_info/profiles/dt=2025-05-12/profile.json"),
        (KEYS.profile_page(DAY), "bike-data/gen_info/profiles/dt=2025-05-12/profile.html"),
        (LakeKeys("").raw_day(DAY), "raw/dt=2025-05-12/"),
    ],
)
def test_every_key_pattern(key: str, expected: str) -> None:
    assert key == expected


@given(UTC_TIMES)
def test_the_time_in_a_raw_key_is_read_back_to_the_second(time: dt.datetime) -> None:
    key = KEYS.raw(time)

    assert snapshot_time(key) == time.replace(microsecond=0)
    assert day_of(key) == time.date()
    assert key.startswith(KEYS.raw_day(time.date()))


@given(UTC_TIMES, UTC_TIMES)
def test_raw_keys_sort_by_time(one: dt.datetime, other: dt.datetime) -> None:
    earlier, later = sorted([one.replace(microsecond=0), other.replace(microsecond=0)])

    assert KEYS.raw(earlier) <= KEYS.raw(later)


def test_a_raw_key_is_in_utc_whatever_zone_the_time_has() -> None:
    """Half past midnight in Wrocław still belongs to the day before."""
    wroclaw = dt.timezone(dt.timedelta(hours=2))

    assert KEYS.raw(dt.datetime(2025, 5, 13, 0, 30, tzinfo=wroclaw)).endswith(
        "raw/dt=2025-05-12/wrm_stations_2025-05-12_22-30-00.txt"
    )


@pytest.mark.parametrize(
    "key",
    [
        "raw/dt=2025-05-12/wrm_stations_2025-05-13_08-00-00.txt",
        "raw/dt=2025-05-12/wrm_stations_2025-05-12_08-00-00.txt.gz",
        "raw/dt=2025-05-12/wrm_stations_2025-05-12_08-00.txt",
        "raw/dt=2025-05-12/wrm_stations_2025-05-12_24-00-00.txt",
        "raw/dt=2025-02-30/wrm_stations_2025-02-30_08-00-00.txt",
        "raw/dt=2025-05-12/old/wrm_stations_2025-05-12_08-00-00.txt",
        "raw/wrm_stations_2025-05-12_08-00-00.txt",
        "raw/dt=2025-05-12/x_wrm_stations_2025-05-12_08-00-00.txt",
        "raw/dt=2025-05-12/",
        "",
    ],
)
def test_a_key_that_is_no_snapshot_of_its_day_has_no_time(key: str) -> None:
    assert snapshot_time(key) is None


@given(st.text())
def test_no_key_crashes_a_reader(key: str) -> None:
    readers: tuple[Callable[[str], object], ...] = (snapshot_time, day_of)
    for read in readers:
        assert read(key) is None or "20" in key or "dt=" in key


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("p/raw/dt=2025-05-12/x.txt", DAY),
        ("p/raw/dt=2025-05-12/", DAY),
        ("dt=2025-05-12/x", DAY),
        ("p/raw/dt=2025-05-12", None),
        ("p/raw/dt=2025-02-30/x", None),
        ("p/raw/dt=latest/x", None),
        ("p/raw/x", None),
    ],
)
def test_the_day_of_a_key_is_that_of_its_folder(key: str, day: dt.date | None) -> None:
    assert day_of(key) == day


@pytest.mark.parametrize(
    ("name", "legacy"),
    [
        ("all_processed_20250512_181000.parquet", True),
        ("all_processed.parquet", False),
        ("all_enhanced_20250512_181000.parquet", False),
        ("all_processed_20250512.parquet", False),
        ("all_processed_20250512_181000.parquet.tmp", False),
        ("x_all_processed_20250512_181000.parquet", False),
    ],
)
def test_names_of_older_deployments(name: str, legacy: bool) -> None:
    assert KEYS.is_legacy(Layer.PROCESSED, KEYS.layer_day(Layer.PROCESSED, DAY) + name) is legacy

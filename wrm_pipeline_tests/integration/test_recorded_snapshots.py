"""Recorded days of real feeds, put in raw and built: every row is kept, and the counts are those that people counted.

What is expected here was counted without this project, see the notes beside the recordings.
"""

import datetime as dt
from collections import Counter
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.raw import keep_snapshot
from wrm_pipeline.layers.report import BuiltDay, Provenance
from wrm_pipeline_tests.fixtures.dagster import contents
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, Recorded, recorded

WHO = Provenance("run-1", "wrm_stations_enhanced_data_all")


def build_days(lake: Lake, snapshots: list[Recorded]) -> dict[dt.date, BuiltDay]:
    """Put snapshots into raw as polls at their times would have, and build their days."""
    for snapshot in snapshots:
        kept = keep_snapshot(lake, FORMAT, snapshot.body, snapshot.time, WHO)
        assert not kept.duplicate
        assert lake.store.get(lake.keys.raw(snapshot.time)).body == snapshot.body
    days = [day for day, _ in groupby(snapshots, key=lambda snapshot: snapshot.time.date())]
    return {day: build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, WHO) for day in days}


def snapshot_rows(built: BuiltDay, time: dt.datetime) -> pa.Table:
    return built.rows.filter(pc.equal(built.rows.column("file_timestamp"), pa.scalar(time)))


def flag_counts(rows: pa.Table) -> Counter[str]:
    return Counter(flag for flags in rows.column("quality_flags").to_pylist() for flag in flags)


@pytest.mark.parametrize("folder", ["ucl_wroclaw", "replay_wroclaw", "ucl_london"])
def test_every_recorded_row_is_kept_and_nothing_is_a_dead_letter(lake: Lake, folder: str) -> None:
    snapshots = recorded(folder)

    days = build_days(lake, snapshots)

    assert contents(lake, "dlq/") == {}
    sources = [source for built in days.values() for source in built.manifest.sources]
    assert [source.key for source in sources] == [lake.keys.raw(snapshot.time) for snapshot in snapshots]
    for source, snapshot in zip(sources, snapshots, strict=True):
        assert (source.rows, source.kept, source.dead, source.duplicates) == (snapshot.rows, snapshot.rows, 0, 0)
        assert source.fault is None


@pytest.mark.parametrize("folder", ["ucl_wroclaw", "replay_wroclaw", "ucl_london"])
def test_every_recorded_value_is_stored_as_it_was_received(lake: Lake, folder: str) -> None:
    """Compared field by field with the text, taken apart from its right end, where no name can be in the way."""
    snapshots = recorded(folder)
    days = build_days(lake, snapshots)
    rows = pa.concat_tables([built.rows for built in days.values()]).to_pylist()
    lines = [line for snapshot in snapshots for line in snapshot.body.decode().rstrip("\n").split("\n")[1:]]
    assert len(lines) == len(rows)

    for line, stored in zip(lines, rows, strict=True):
        station_id, packed, name_and_rest = line.split(",", 2)
        name, lat, lon, bikes, spaces, installed, locked, temporary, docks, overloaded, pedelecs = name_and_rest.rsplit(
            ",", 10
        )
        epoch, local, server = packed.split("|")
        assert stored["station_id"] == station_id
        assert (stored["lat"], stored["lon"]) == (float(lat), float(lon))
        counts = (stored["bikes"], stored["spaces"], stored["total_docks"], stored["pedelecs"])
        assert counts == (int(bikes), int(spaces), int(docks), int(pedelecs))
        switches = (stored["installed"], stored["locked"], stored["temporary"])
        assert switches == tuple(text == "true" for text in (installed, locked, temporary))
        assert stored["givesbonus_acceptspedelecs_fbbattlevel"] == overloaded
        assert (stored["gmt_local_diff_sec"], stored["gmt_servertime_diff_sec"]) == (int(local), int(server))
        seconds, _, decimals = epoch.partition(".")
        expected = dt.datetime.fromtimestamp(int(seconds), dt.UTC).replace(microsecond=int(decimals.ljust(6, "0")))
        assert stored["timestamp"] == expected
        assert set(name.replace("&amp;", "&").strip('"').split()) == set(stored["name"].split())


def test_wroclaw_counts(lake: Lake) -> None:
    (built,) = build_days(lake, recorded("ucl_wroclaw")).values()

    first = snapshot_rows(built, dt.datetime(2025, 5, 12, 18, 10, tzinfo=dt.UTC))
    assert Counter(first.column("record_type").to_pylist()) == {"station": 235, "bike": 116}
    stations = first.filter(pc.equal(first.column("record_type"), "station"))
    assert flag_counts(stations) == {"overfull": 54, "racks_out_of_use": 6}
    bikes = first.filter(pc.equal(first.column("record_type"), "bike"))
    assert flag_counts(bikes) == {}
    assert built.manifest.total("kept") == 351 + 350


def test_wroclaw_battery_levels_are_those_received(lake: Lake) -> None:
    """They were once stored as true/false."""
    snapshots = recorded("ucl_wroclaw")
    received = {
        (snapshot.time, fields[0]): int(fields[-2])
        for snapshot in snapshots
        for fields in (line.split(",") for line in snapshot.body.decode().split("\n")[1:])
        if fields[0].startswith("fb")
    }
    assert set(received.values()) == {-1, 15, 25}

    (built,) = build_days(lake, snapshots).values()

    rows = built.rows.filter(pc.equal(built.rows.column("record_type"), "bike"))
    keys = zip(rows.column("file_timestamp").to_pylist(), rows.column("station_id").to_pylist(), strict=True)
    stored = dict(zip(keys, rows.column("battery_level").to_pylist(), strict=True))
    assert stored == {key: None if level == -1 else level for key, level in received.items()}
    assert rows.column("gives_bonus").null_count == rows.num_rows
    stations = built.rows.filter(pc.equal(built.rows.column("record_type"), "station"))
    assert stations.column("battery_level").null_count == stations.num_rows
    assert stations.column("gives_bonus").null_count == 0


def test_replayed_bikes_of_another_city_are_flagged_and_kept(lake: Lake) -> None:
    (built,) = build_days(lake, recorded("replay_wroclaw")).values()

    times = sorted(set(built.rows.column("file_timestamp").to_pylist()))
    assert len(times) == 30
    for time in times:
        rows = snapshot_rows(built, time)
        bikes = rows.filter(pc.equal(rows.column("record_type"), "bike"))
        away = bikes.filter(pc.invert(bikes.column("in_service_area")))
        # 63 in the depot near 52.28, 21.01 and one 13 km from it; up to two more beyond the edge of Wrocław.
        positions = list(zip(away.column("lat").to_pylist(), away.column("lon").to_pylist(), strict=True))
        assert sum(abs(lat - 52.28) < 0.05 and abs(lon - 21.01) < 0.05 for lat, lon in positions) == 63
        assert sum(lon > 20 for _, lon in positions) == 64
        assert 64 <= away.num_rows <= 66
        assert 164 <= bikes.num_rows <= 175
        flags = flag_counts(rows)
        assert (flags["off_zone"], flags["zero_docks"]) == (away.num_rows, 6)
        stations = rows.filter(pc.equal(rows.column("record_type"), "station"))
        assert pc.all(stations.column("in_service_area")).as_py()


def test_london_is_stations_outside_the_city_seen_years_ago(lake: Lake) -> None:
    (built,) = build_days(lake, recorded("ucl_london")).values()

    assert Counter(built.rows.column("record_type").to_pylist()) == {"station": 786}
    counts = flag_counts(built.rows)
    assert (counts["off_zone"], counts["stale_row_time"]) == (786, 786)
    names = built.rows.column("name").to_pylist()
    assert names[0] == "River Street , Clerkenwell"
    assert not any("&amp;" in name for name in names)
    assert any("&" in name for name in names)


def test_many_recordings_in_one_lake_do_not_meet(lake: Lake) -> None:
    snapshots = [item for folder in ("ucl_london", "ucl_wroclaw", "replay_wroclaw") for item in recorded(folder)[:2]]

    days = build_days(lake, snapshots)

    assert {day.isoformat(): built.rows.num_rows for day, built in days.items()} == {
        "2025-05-01": 786,
        "2025-05-12": 701,
        "2025-08-20": sum(item.rows for item in recorded("replay_wroclaw")[:2]),
    }

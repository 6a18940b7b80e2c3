"""Days of which only an older deployment's processed objects are left.

Those deployments wrote pandas frames, the whole day so far each time, under names with a timestamp: naive UTC times in
nanoseconds, names as received, and the overloaded column as true/false, which lost every battery level.
"""

import datetime as dt
import hashlib
import io
import json
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from wrm_pipeline.contracts.model import Severity
from wrm_pipeline.lake.dead_letters import Stage
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.legacy import LEGACY_CODE_VERSION, OlderDay, read_older_deployment
from wrm_pipeline.layers.processed import build_processed_day
from wrm_pipeline.layers.report import Build, LayerError, NoRawDataError, Provenance
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.dagster import at, contents, letters_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, payload, row

DAY = dt.date(2025, 5, 12)
FIRST, SECOND = dt.datetime(2025, 5, 12, 18, 10), dt.datetime(2025, 5, 12, 18, 20)  # noqa: DTZ001 - as they stored it
WHO = Provenance("run-1", "wrm_stations_enhanced_data_all", lambda: dt.datetime(2025, 5, 13, tzinfo=dt.UTC))


@pytest.fixture
def lake(store: ObjectStore) -> Lake:
    return Lake(store, LakeKeys(store.prefix))


def old_row(station_id: str, seen: dt.datetime, **changes: Any) -> dict[str, Any]:
    bike = station_id.startswith("fb")
    return {
        "station_id": station_id,
        "timestamp": seen + dt.timedelta(microseconds=123_456),
        "gmt_local_diff_sec": -7200,
        "gmt_servertime_diff_sec": -3600,
        "name": f"BIKE {station_id[2:]}" if bike else "Bema &amp;  Most ",
        "lat": 51.1,
        "lon": 17.03,
        "bikes": 1 if bike else 4,
        "spaces": 0 if bike else 12,
        "installed": True,
        "locked": False,
        "temporary": bike,
        "total_docks": 0 if bike else 16,
        "givesbonus_acceptspedelecs_fbbattlevel": bike,
        "pedelecs": 0,
        "s3_source_key": f"raw/wrm_stations_{seen:%Y-%m-%d_%H-%M-%S}.txt",
        "file_timestamp": seen,
        **changes,
    }


def parquet(*rows: dict[str, Any], **as_type: str) -> bytes:
    sink = io.BytesIO()
    types = {"timestamp": "datetime64[ns]", "file_timestamp": "datetime64[ns]", **as_type}
    pd.DataFrame(list(rows)).astype(types).to_parquet(sink, index=False)
    return sink.getvalue()


def put_old(lake: Lake, name: str, body: bytes) -> str:
    key = f"{lake.keys.layer_day(Layer.PROCESSED, DAY)}{name}"
    lake.store.put(key, body, content_type="application/octet-stream")
    return key


def read(lake: Lake) -> OlderDay:
    older = read_older_deployment(lake, CONTRACTS.enhanced, DAY)
    assert older is not None
    return older


EARLY, LATE = "all_processed_20250512_181500.parquet", "all_processed_20250512_182500.parquet"


def put_two(lake: Lake) -> tuple[str, str]:
    """Two objects of a day, the second one with all that the first one holds and a snapshot more."""
    first = [old_row("15001", FIRST), old_row("fb604692", FIRST)]
    return (
        put_old(lake, EARLY, parquet(*first)),
        put_old(lake, LATE, parquet(*first, old_row("fb604692", SECOND), old_row("15001", SECOND))),
    )


def test_an_older_object_becomes_rows_of_todays_schema(lake: Lake) -> None:
    put_old(lake, EARLY, parquet(old_row("15001", FIRST), old_row("fb604692", FIRST)))

    rows = read(lake).rows

    assert rows.schema.equals(PROCESSED)
    station, bike = rows.to_pylist()
    assert station == {
        "station_id": "15001",
        "name": "Bema & Most",
        "timestamp": dt.datetime(2025, 5, 12, 18, 10, 0, 123_456, tzinfo=dt.UTC),
        "gmt_local_diff_sec": -7200,
        "gmt_servertime_diff_sec": -3600,
        "lat": 51.1,
        "lon": 17.03,
        "bikes": 4,
        "spaces": 12,
        "installed": True,
        "locked": False,
        "temporary": False,
        "total_docks": 16,
        "givesbonus_acceptspedelecs_fbbattlevel": "false",
        "pedelecs": 0,
        "gives_bonus": False,
        "battery_level": None,
        "s3_source_key": "raw/wrm_stations_2025-05-12_18-10-00.txt",
        "file_timestamp": dt.datetime(2025, 5, 12, 18, 10, tzinfo=dt.UTC),
    }
    assert (bike["givesbonus_acceptspedelecs_fbbattlevel"], bike["gives_bonus"], bike["battery_level"]) == (
        "",
        None,
        None,
    )


def test_a_sighting_that_several_objects_hold_counts_once(lake: Lake) -> None:
    early, late = put_two(lake)

    older = read(lake)

    sightings = zip(
        older.rows.column("file_timestamp").to_pylist(), older.rows.column("station_id").to_pylist(), strict=True
    )
    first, second = FIRST.replace(tzinfo=dt.UTC), SECOND.replace(tzinfo=dt.UTC)
    assert list(sightings) == [(first, "15001"), (first, "fb604692"), (second, "15001"), (second, "fb604692")]
    assert older.rejects == ()
    assert [(s.key, s.rows, s.kept, s.dead, s.duplicates) for s in older.manifest.sources] == [
        (early, 2, 0, 0, 2),
        (late, 4, 4, 0, 0),
    ]
    assert older.manifest.code_version == LEGACY_CODE_VERSION


def test_the_newest_object_wins_and_what_contradicts_it_is_a_reject(lake: Lake) -> None:
    early = put_old(lake, EARLY, parquet(old_row("15002", FIRST), old_row("15001", FIRST, bikes=9)))
    put_old(lake, LATE, parquet(old_row("15001", FIRST, bikes=4), old_row("15002", FIRST)))

    older = read(lake)

    assert older.rows.column("bikes").to_pylist() == [4, 4]
    (reject,) = older.rejects
    assert (reject.source_key, reject.line, reject.rule) == (early, 2, "conflicting_id")
    assert json.loads(reject.row)["bikes"] == 9
    assert older.sha256[early] == hashlib.sha256(lake.store.get(early).body).hexdigest()


@pytest.mark.parametrize(
    "as_type",
    [
        pytest.param({"name": "category", "station_id": "object"}, id="categories"),
        pytest.param({"bikes": "float64", "total_docks": "int64", "pedelecs": "Int64"}, id="other numbers"),
        pytest.param({"timestamp": "datetime64[us]", "file_timestamp": "datetime64[ms]"}, id="other time units"),
    ],
)
def test_what_pandas_made_of_the_types_does_not_matter(lake: Lake, as_type: dict[str, str]) -> None:
    rows = [old_row("15001", FIRST), old_row("fb604692", FIRST)]
    put_old(lake, EARLY, parquet(*rows))
    expected = read(lake).rows

    put_old(lake, EARLY, parquet(*rows, **as_type))

    assert read(lake).rows.equals(expected)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Warsaw"])
def test_an_aware_time_is_the_instant_that_it_says(lake: Lake, zone: str) -> None:
    put_old(lake, EARLY, parquet(old_row("15001", FIRST)))
    expected = read(lake).rows
    aware = FIRST.replace(tzinfo=dt.UTC).astimezone(ZoneInfo(zone))

    put_old(
        lake,
        EARLY,
        parquet(old_row("15001", FIRST, file_timestamp=aware), file_timestamp=f"datetime64[ns, {zone}]"),
    )

    assert read(lake).rows.equals(expected)


def test_nothing_left_is_none(lake: Lake) -> None:
    assert read_older_deployment(lake, CONTRACTS.enhanced, DAY) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"garbage", id="no Parquet"),
        pytest.param(parquet(old_row("15001", FIRST))[:400], id="cut"),
        pytest.param(parquet({"timestamp": FIRST, "file_timestamp": FIRST}), id="columns missing"),
        pytest.param(parquet(old_row("15001", FIRST, bikes="many")), id="text where a number belongs"),
        pytest.param(parquet(old_row("15001", FIRST), station_id="int64"), id="numbers where text belongs"),
    ],
)
def test_an_object_that_cannot_be_read_is_an_error_that_names_it(lake: Lake, body: bytes) -> None:
    key = put_old(lake, EARLY, body)

    with pytest.raises(LayerError, match="cannot be read as processed data") as caught:
        read_older_deployment(lake, CONTRACTS.enhanced, DAY)

    assert key in str(caught.value)


def test_enhanced_is_built_from_older_objects_when_raw_is_gone(lake: Lake) -> None:
    put_two(lake)

    built = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, WHO)

    assert (built.build, built.read, built.rows.num_rows) == (Build.FULL, 2, 4)
    assert built.rows.schema.equals(ENHANCED)
    assert built.rows.column("record_type").to_pylist() == ["station", "bike"] * 2
    # No battery text is known, and that is what the flag says.
    assert built.rows.column("quality_flags").to_pylist() == [[]] * 4
    stored = lake.read_day(Layer.ENHANCED, DAY, ENHANCED)
    assert stored is not None
    assert stored.manifest.code_version.endswith(f"/{LEGACY_CODE_VERSION}")
    again = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, WHO)
    assert again.info.etag == built.info.etag
    assert [key for key in contents(lake) if key.endswith("all_processed.parquet")] == []


def test_what_contradicts_is_a_dead_letter_of_the_stage_enhanced(lake: Lake) -> None:
    early = put_old(lake, EARLY, parquet(old_row("15001", FIRST, bikes=9)))
    put_old(lake, LATE, parquet(old_row("15001", FIRST)))

    built = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, WHO)

    (letter,) = letters_of(lake, DAY)
    assert (letter.stage, letter.source_key, letter.partition) == (Stage.ENHANCED, early, DAY)
    assert built.letters == (letter,)
    (source, _) = built.manifest.sources
    assert source.rows == source.kept + source.dead + source.duplicates == 1


def test_rows_are_judged_by_error_rules_too_and_named_by_their_object_and_place_in_it(lake: Lake) -> None:
    early = put_old(
        lake,
        EARLY,
        parquet(old_row("3", FIRST, bikes=42), old_row("1", FIRST, bikes=99), old_row("2", FIRST)),
    )
    late = put_old(
        lake,
        LATE,
        parquet(
            old_row("2", FIRST), old_row("1", FIRST), old_row("1", SECOND, bikes=43), old_row("2", SECOND, bikes=7)
        ),
    )
    overfull = CONTRACTS.enhanced.rules["overfull"]
    rules = {**CONTRACTS.enhanced.rules, "overfull": replace(overfull, severity=Severity.ERROR)}
    strict = replace(CONTRACTS.enhanced, rules=rules)

    built = build_enhanced_day(lake, FORMAT, strict, DAY, WHO)

    assert built.rows.column("station_id").to_pylist() == ["1", "2"]
    letters = {letter.source_key: letter for letter in built.letters}
    assert {key: sorted((r.line, r.rule) for r in letter.records) for key, letter in letters.items()} == {
        early: [(1, "overfull"), (2, "conflicting_id")],
        late: [(3, "overfull"), (4, "overfull")],
    }
    first, second = letters[late].records
    assert [json.loads(record.row or "")["bikes"] for record in (first, second)] == [43, 7]
    assert letters_of(lake, DAY) == sorted(built.letters, key=lambda letter: letter.id)
    assert {letter.contract_version for letter in built.letters} == {strict.stamp}
    assert [(s.rows, s.kept, s.dead, s.duplicates) for s in built.manifest.sources] == [(3, 0, 2, 1), (4, 2, 2, 0)]
    assert build_enhanced_day(lake, FORMAT, strict, DAY, WHO).info.etag == built.info.etag


def test_raw_comes_first_whatever_older_objects_say(lake: Lake) -> None:
    put_two(lake)
    put_raw(lake, at(18, 10), payload(row("15009")))

    built = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, WHO)

    assert built.rows.column("station_id").to_pylist() == ["15009"]


def test_processed_itself_is_never_built_from_older_objects(lake: Lake) -> None:
    """They lack the battery levels; whoever reads processed must not think them unknown."""
    put_two(lake)

    with pytest.raises(NoRawDataError):
        build_processed_day(lake, FORMAT, DAY, WHO)

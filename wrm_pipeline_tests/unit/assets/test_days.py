"""Processed and enhanced as assets: what they report, and days that cannot be built."""

import datetime as dt

import pyarrow.compute as pc
import pytest

from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.dagster import DAY, DAY_ASSETS, Pipeline, at, contents, failure_of, put_raw

PROCESSED_ASSET, ENHANCED_ASSET, DLQ_ASSET = DAY_ASSETS
ONE_DAY = dt.timedelta(days=1)
SCHEMAS = {PROCESSED_ASSET: (Layer.PROCESSED, PROCESSED), ENHANCED_ASSET: (Layer.ENHANCED, ENHANCED)}


def spoilt_day(pipeline: Pipeline) -> None:
    """A day of three snapshots: one good, one with five bad rows, one with two rows repeated to the letter."""
    put_raw(pipeline.lake, at(8))
    put_raw(pipeline.lake, at(9), with_bad_rows(snapshot(1, at(9)), 5, 0))
    body = snapshot(1, at(10))
    put_raw(pipeline.lake, at(10), b"\n".join([body, *body.splitlines()[-2:]]))


@pytest.mark.parametrize("asset", SCHEMAS)
def test_a_materialization_says_what_was_read_kept_set_aside_and_where_it_lies(pipeline: Pipeline, asset: str) -> None:
    spoilt_day(pipeline)
    layer, schema = SCHEMAS[asset]

    run = pipeline.process(DAY)

    assert run.success
    metadata = pipeline.materializations(run, asset)[DAY.isoformat()]
    stored = pipeline.lake.read_day(layer, DAY, schema)
    assert stored is not None
    assert metadata["dagster/uri"] == pipeline.lake.store.uri(stored.info.key)
    assert metadata["dagster/partition_row_count"] == metadata["rows_kept"] == stored.rows.num_rows
    assert (metadata["rows_dead"], metadata["rows_duplicate"]) == (5, 2)
    assert metadata["rows_in"] == metadata["rows_kept"] + metadata["rows_dead"] + metadata["rows_duplicate"]
    kinds = {kind: metadata[f"rows_{kind}"] for kind in ("station", "bike", "unknown")}
    assert sum(kinds.values()) == metadata["rows_kept"]
    assert kinds["station"] > 600
    assert (metadata["inputs"], metadata["files_set_aside"]) == (3, 0)
    assert metadata["newest_input"] == pipeline.lake.keys.raw(at(10))
    assert (metadata["bytes"], metadata["etag"]) == (stored.info.size, stored.info.etag)
    assert metadata["seconds"] > 0
    described = {column.name: column.description for column in metadata["dagster/column_schema"].columns}
    assert list(described) == schema.names
    assert all(described.values())
    assert metadata["preview"].count("\n") == 6


def test_the_counts_of_enhanced_are_those_of_its_rows(pipeline: Pipeline) -> None:
    spoilt_day(pipeline)

    metadata = pipeline.materializations(pipeline.process(DAY), ENHANCED_ASSET)[DAY.isoformat()]

    stored = pipeline.lake.read_day(Layer.ENHANCED, DAY, ENHANCED)
    assert stored is not None
    types = stored.rows.column("record_type")
    for kind in ("station", "bike", "unknown"):
        assert metadata[f"rows_{kind}"] == pc.sum(pc.equal(types, kind)).as_py()


def test_a_second_run_fetches_nothing_and_a_new_snapshot_is_all_that_the_third_one_fetches(pipeline: Pipeline) -> None:
    spoilt_day(pipeline)
    pipeline.process(DAY)

    again = pipeline.materializations(pipeline.process(DAY), PROCESSED_ASSET)[DAY.isoformat()]
    put_raw(pipeline.lake, at(11))
    more = pipeline.materializations(pipeline.process(DAY), PROCESSED_ASSET)[DAY.isoformat()]

    assert (again["build"], again["inputs_read"]) == ("unchanged", 0)
    assert (more["build"], more["inputs_read"], more["inputs"]) == ("incremental", 1, 4)


def test_the_data_version_of_a_day_changes_with_its_bytes_only(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))

    def version() -> str:
        run = pipeline.process(DAY)
        event = run.asset_materializations_for_node(ENHANCED_ASSET)[0]
        assert event.tags is not None
        return event.tags["dagster/data_version"]

    first, second = version(), version()
    put_raw(pipeline.lake, at(9))

    assert first == second == contents_before(pipeline, first)
    assert version() != first


def contents_before(pipeline: Pipeline, version: str) -> str:
    """Return the version; it is known no longer once another snapshot is built in."""
    assert version in contents(pipeline.lake, "enhanced/").values()
    return version


def test_a_day_without_raw_data_fails_and_names_the_prefix_and_what_to_check(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))

    sentence = failure_of(pipeline.process(DAY + ONE_DAY))

    assert "There is no raw data for 2025-05-13" in sentence
    assert pipeline.lake.store.uri(pipeline.lake.keys.raw_day(DAY + ONE_DAY)) in sentence
    assert "WRM_STATIONS_S3_PREFIX" in sentence
    assert set(contents(pipeline.lake)) == {f"raw/dt={DAY}/wrm_stations_{DAY}_08-00-00.txt"}


def test_a_day_without_raw_data_but_with_objects_of_other_days_nearby_is_empty_all_the_same(
    pipeline: Pipeline,
) -> None:
    """`dt=2025-05-1` is how 2025-05-10 to 19 begin, too: a listing must end at the slash."""
    put_raw(pipeline.lake, at(8, day=dt.date(2025, 5, 10)))

    assert "no raw data for 2025-05-01" in failure_of(pipeline.process(dt.date(2025, 5, 1)))


def test_a_backfill_gives_each_day_its_own_metadata_and_a_line_of_progress(pipeline: Pipeline) -> None:
    days = [DAY + n * ONE_DAY for n in range(3)]
    for number, day in enumerate(days, 1):
        for hour in range(number):
            put_raw(pipeline.lake, at(hour, day=day))

    run = pipeline.backfill(days[0], days[-1])

    assert run.success
    for asset in (PROCESSED_ASSET, ENHANCED_ASSET):
        found = pipeline.materializations(run, asset)
        assert {day: metadata["inputs"] for day, metadata in found.items()} == {
            "2025-05-12": 1,
            "2025-05-13": 2,
            "2025-05-14": 3,
        }
        for day, metadata in found.items():
            assert f"dt={day}/" in metadata["dagster/uri"]
            assert metadata["rows_in"] == metadata["rows_kept"] + metadata["rows_dead"] + metadata["rows_duplicate"]
    assert set(pipeline.materializations(run, DLQ_ASSET)) == {"2025-05-12", "2025-05-13", "2025-05-14"}
    progress = [message for message in pipeline.messages(run) if "of 3 days" in message]
    assert progress[:3] == [
        "1 of 3 days (33 %), 2025-05-12: built",
        "2 of 3 days (66 %), 2025-05-13: built",
        "3 of 3 days (100 %), 2025-05-14: built",
    ]


def test_one_missing_day_fails_the_backfill_at_the_end_and_the_other_days_are_stored_and_reported(
    pipeline: Pipeline,
) -> None:
    put_raw(pipeline.lake, at(8))
    put_raw(pipeline.lake, at(8, day=DAY + 2 * ONE_DAY))

    run = pipeline.backfill(DAY, DAY + 2 * ONE_DAY)

    sentence = failure_of(run)
    assert "1 of 3 days could not be built, 2 are stored" in sentence
    assert "2025-05-13: There is no raw data" in sentence
    assert "2025-05-12" not in sentence
    assert len(contents(pipeline.lake, "processed/")) == 2
    found = pipeline.materializations(run, PROCESSED_ASSET)
    assert {day: metadata["inputs"] for day, metadata in found.items()} == {"2025-05-12": 1, "2025-05-14": 1}
    progress = [message for message in pipeline.messages(run) if message.startswith("2 of 3 days")]
    assert len(progress) == 1
    assert "2025-05-13: failed" in progress[0]


def test_a_damaged_stored_day_is_rebuilt_from_raw_to_the_same_bytes(pipeline: Pipeline) -> None:
    spoilt_day(pipeline)
    pipeline.process(DAY)
    good = contents(pipeline.lake)
    for layer in Layer:
        key = pipeline.lake.keys.layer_object(layer, DAY)
        body = pipeline.lake.store.get(key).body
        pipeline.lake.store.put(key, body[: len(body) // 2], content_type="application/vnd.apache.parquet")

    run = pipeline.process(DAY)

    assert run.success
    rebuilt = contents(pipeline.lake)
    assert {k: v for k, v in rebuilt.items() if "dlq" not in k} == {k: v for k, v in good.items() if "dlq" not in k}
    assert pipeline.materializations(run, PROCESSED_ASSET)[DAY.isoformat()]["build"] == "full"

"""`wrm lineage`: from a table's day back to raw, on a real store; what was changed since is found and said."""

import datetime as dt
import json
from typing import Any

import pytest
from click.testing import CliRunner

from wrm_pipeline.cli.lineage import lineage
from wrm_pipeline.lake.keys import Layer
from wrm_pipeline.operations.lineage_walk import LineageKeyError, Node, State, walk
from wrm_pipeline_tests.fixtures.dagster import DAY, Pipeline, at, put_raw
from wrm_pipeline_tests.fixtures.lineage import publish
from wrm_pipeline_tests.fixtures.servers import wait_until

NEXT = DAY + dt.timedelta(days=1)
NIGHT = NEXT + dt.timedelta(days=1)


def tree(*arguments: str) -> str:
    found = CliRunner().invoke(lineage, arguments, env={"COLUMNS": "80"}, catch_exceptions=False)
    assert found.exit_code == 0
    assert max(map(len, found.output.splitlines())) <= 80
    return found.output


def as_json(*arguments: str) -> dict[str, Any]:
    found = CliRunner().invoke(lineage, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(found.output)
    assert isinstance(document, dict)
    return document


def below(node: Node, kind: str) -> list[Node]:
    return [each for each in node.all() if each.kind == kind]


# Days


def test_a_day_of_enhanced_goes_back_to_each_raw_object_with_version_time_digest_and_fault(pipeline: Pipeline) -> None:
    good, bad = put_raw(pipeline.lake, at(8)), put_raw(pipeline.lake, at(9), b"<html>")
    run = pipeline.process(DAY)
    publish(pipeline, run.run_id)

    found = walk(pipeline.lake, "enhanced", str(DAY))

    keys = pipeline.lake.keys
    (processed,) = found.inputs
    assert (found.key, processed.key) == (
        keys.layer_object(Layer.ENHANCED, DAY),
        keys.layer_object(Layer.PROCESSED, DAY),
    )
    assert [(raw.key, raw.recorded, raw.stored, raw.at) for raw in processed.inputs] == [
        (good.key, good.etag, good.etag, at(8)),
        (bad.key, bad.etag, bad.etag, at(9)),
    ]
    assert [raw.sha256 for raw in processed.inputs] == [good.metadata["sha256"], bad.metadata["sha256"]]
    assert [raw.fault for raw in processed.inputs] == [None, "html"]
    assert {node.state for node in (processed, *processed.inputs)} == {State.AS_RECORDED}
    assert found.runs == processed.runs == (run.run_id,)
    assert found.rows == processed.rows == processed.inputs[0].rows


def test_a_run_that_found_an_object_as_it_was_did_not_write_it(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    pipeline.process(DAY)  # its lineage is not published
    written = pipeline.lake.store.head(pipeline.lake.keys.layer_object(Layer.PROCESSED, DAY))
    assert written is not None
    assert written.last_modified is not None
    later = written.last_modified + dt.timedelta(seconds=1)  # times of objects carry whole seconds
    wait_until(lambda: dt.datetime.now(dt.UTC) > later)
    second = pipeline.process(DAY)
    publish(pipeline, second.run_id)

    found = walk(pipeline.lake, "enhanced", str(DAY))

    assert found.runs == (second.run_id,)
    assert found.inputs[0].runs == ()


def test_what_changed_since_is_said_where_it_changed(pipeline: Pipeline) -> None:
    replaced, gone = put_raw(pipeline.lake, at(8)), put_raw(pipeline.lake, at(9))
    put_raw(pipeline.lake, at(10))
    pipeline.process(DAY)
    assert "All is as it is recorded." in tree("enhanced", str(DAY))
    put_raw(pipeline.lake, at(8), b"other bytes")
    pipeline.lake.store.delete(gone.key)
    put_raw(pipeline.lake, at(11))

    (processed,) = walk(pipeline.lake, "enhanced", str(DAY)).inputs

    assert [raw.state for raw in processed.inputs] == [State.STALE, State.MISSING, State.AS_RECORDED, State.NEW]
    assert processed.inputs[0].recorded == replaced.etag
    output = " ".join(tree("enhanced", str(DAY)).split())
    assert "Objects that are not as they are recorded: 3." in output
    assert "wrm_stations_processing_job" in output
    assert "etag recorded" in output


def test_processed_that_is_newer_than_enhanced_is_stale_and_says_what_to_run(pipeline: Pipeline) -> None:
    put_raw(pipeline.lake, at(8))
    pipeline.process(DAY)
    old = pipeline.lake.store.get(pipeline.lake.keys.layer_object(Layer.ENHANCED, DAY))
    put_raw(pipeline.lake, at(9))
    pipeline.process(DAY)
    pipeline.lake.store.put(old.info.key, old.body, content_type="application/octet-stream")

    (processed,) = walk(pipeline.lake, "enhanced", str(DAY)).inputs

    assert processed.state is State.STALE
    assert "2 raw objects, and enhanced was made from 1" in processed.note


@pytest.mark.parametrize("layer", list(Layer))
def test_a_damaged_day_is_named_and_not_followed(pipeline: Pipeline, layer: Layer) -> None:
    put_raw(pipeline.lake, at(8))
    pipeline.process(DAY)
    key = pipeline.lake.keys.layer_object(layer, DAY)
    pipeline.lake.store.put(key, b"no parquet", content_type="application/octet-stream")

    (damaged,) = [node for node in walk(pipeline.lake, key).all() if node.key == key]

    assert damaged.state is State.DAMAGED
    assert "builds it anew" in damaged.note


# Tables


@pytest.fixture
def marts(pipeline: Pipeline) -> Pipeline:
    """Two days with snapshots around local midnight, and the tables made of them."""
    put_raw(pipeline.lake, at(12))
    put_raw(pipeline.lake, at(23))
    put_raw(pipeline.lake, at(1, day=NEXT))
    for day in (DAY, NEXT):
        assert pipeline.process(day).success
    run = pipeline.marts()
    assert run.success
    publish(pipeline, run.run_id)
    return pipeline


def test_a_table_goes_back_to_raw_whatever_its_files_cover(marts: Pipeline) -> None:
    # A file a UTC day: that day, and what was known at the end of the one before.
    day = walk(marts.lake, "fct_station_hour", str(NEXT))
    assert [each.kind for each in day.inputs] == ["states", "enhanced"]
    assert [raw.at for raw in below(day, "raw")] == [at(1, day=NEXT)]
    assert {each.state for each in day.all()} == {State.AS_RECORDED}
    assert len(day.runs) == 1
    # A file a date of the city's clock, which begins in the UTC day before.
    local = walk(marts.lake, "fct_fleet_day", str(NEXT))
    assert [raw.at for raw in below(local, "raw")] == [at(12), at(23), at(1, day=NEXT)]
    # One file: each day of enhanced.
    whole = walk(marts.lake, "dim_date")
    assert [each.key for each in whole.inputs] == [
        marts.lake.keys.layer_object(Layer.ENHANCED, day) for day in (DAY, NEXT)
    ]
    # What is handed from day to day.
    assert [each.kind for each in walk(marts.lake, "state_station", str(NEXT)).inputs] == ["states", "enhanced"]

    # However it is asked for, it is the same.
    assert walk(marts.lake, f"fct_station_hour/dt={NEXT}") == day
    assert walk(marts.lake, day.key) == day
    assert walk(marts.lake, day.key.removeprefix(marts.lake.keys.prefix)) == day
    assert walk(marts.lake, marts.lake.store.uri(day.key)) == day

    document = as_json("fct_station_hour", str(NEXT))
    assert document["inputs"][1]["inputs"][0]["inputs"][0]["kind"] == "raw"
    assert f"wrm_stations_{NEXT}_01-00-00.txt" in tree("fct_station_hour", str(NEXT))

    errors = {
        ("fct_station_hour",): "fct_station_hour has an object a UTC day; say which",
        ("fct_fleet_day",): "has an object a date of the city's clock",
        ("dim_date", str(DAY)): "dim_date is one object; ask for it without a day",
        ("fct_station_hour", str(NIGHT)): f"It has {DAY} to {NEXT}",
        ("stg_station_step", str(DAY)): "is made while a day is computed, and not kept",
    }
    for asked, sentence in errors.items():
        with pytest.raises(LineageKeyError, match=sentence):
            walk(marts.lake, *asked)

    # Enhanced is rebuilt and the tables are not: they are behind, and say what to run.
    put_raw(marts.lake, at(13))
    assert marts.process(DAY).success
    behind = walk(marts.lake, "fct_station_hour", str(DAY))
    (enhanced,) = behind.inputs
    assert (behind.state, enhanced.state) == (State.AS_RECORDED, State.STALE)
    assert "wrm_stations_marts_job" in behind.note
    stale = below(walk(marts.lake, "dim_date"), "enhanced")
    assert [each.state for each in stale] == [State.STALE, State.AS_RECORDED]
    marts.lake.store.delete(behind.key)
    assert walk(marts.lake, behind.key).state is State.MISSING


def test_without_an_index_a_table_says_what_makes_it(pipeline: Pipeline) -> None:
    with pytest.raises(LineageKeyError, match="wrm_stations_marts_job"):
        walk(pipeline.lake, "dim_date")


# Other keys


def test_a_raw_object_is_where_it_ends(pipeline: Pipeline) -> None:
    run = pipeline.ingest()
    publish(pipeline, run.run_id)
    newest = pipeline.lake.newest_raw(dt.datetime.now(dt.UTC).date())
    assert newest is not None

    found = walk(pipeline.lake, newest.key)

    assert (found.stored, found.inputs, found.runs) == (newest.etag, (), (run.run_id,))


def test_what_quality_looked_at_is_recorded_in_its_objects(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT):
        for hour in range(24):
            put_raw(pipeline.lake, at(hour, day=day))
        pipeline.process(day)
    assert pipeline.run("wrm_stations_quality_job", partition_key=str(NEXT)).success

    keys = pipeline.lake.keys
    for key in (keys.anomalies(NEXT), keys.profile(NEXT), keys.profile_page(NEXT)):
        found = walk(pipeline.lake, key)
        assert [each.key for each in found.inputs] == [keys.layer_object(Layer.ENHANCED, day) for day in (DAY, NEXT)]
        assert {each.state for each in found.inputs} == {State.AS_RECORDED}
        assert len(below(found, "raw")) == 24


def test_of_many_raw_objects_the_first_the_last_and_the_odd_ones_are_shown(pipeline: Pipeline) -> None:
    for hour in range(24):
        put_raw(pipeline.lake, at(hour), b"<html>" if hour == 12 else None)
    pipeline.process(DAY)

    short, whole = tree("enhanced", str(DAY)), tree("enhanced", str(DAY), "--all")

    shown = [hour for hour in range(24) if f"_{hour:02d}-00-00.txt" in short]
    assert shown == [0, 1, 2, 12, 21, 22, 23]
    assert short.count("9 more, as recorded") == 1
    assert short.count("8 more, as recorded") == 1
    assert all(f"_{hour:02d}-00-00.txt" in whole for hour in range(24))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("nonsense",), "Nothing is known about the making of"),
        (("nonsense", "2025-05-12"), "There is no table 'nonsense'"),
        (("enhanced",), "enhanced has a day in each object"),
        (("enhanced", "yesterday"), "enhanced has a day in each object"),
        (("enhanced", "2025-05-12"), "There is no object s3://"),
        (("raw/dt=2025-05-12/wrm_stations_2025-05-12_08-00-00.txt",), "There is no object s3://"),
        (("s3://another-bucket/enhanced",), "Check BUCKET_NAME"),
        (("site/index.html",), "Nothing is known about the making of"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_what_there_is_not_is_a_sentence_with_a_remedy(
    pipeline: Pipeline, asked: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(LineageKeyError, match=sentence) as error:
        walk(pipeline.lake, *asked)
    assert any(word in str(error.value) for word in ("Give a key", "wrm lineage", "Check"))

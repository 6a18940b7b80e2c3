"""Enhanced on a real store: always of all raw objects of the day, and never ahead of processed."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wrm_pipeline.contracts.load import PACKAGED, SUFFIX, load_contracts
from wrm_pipeline.contracts.model import Contract, Severity
from wrm_pipeline.lake.dead_letters import DeadLetter, Stage, letter_id
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreRefused
from wrm_pipeline.layers import enhanced
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.processed import PASSES, build_processed_day
from wrm_pipeline.layers.report import Build, BuiltDay, NoRawDataError, Provenance, RawKeepsChangingError
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED
from wrm_pipeline_tests.fixtures.dagster import at, contents, letters_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, s3_error
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, bike_row, payload, recorded, row
from wrm_pipeline_tests.fixtures.watched_store import WatchedStore, watching

DAY = dt.date(2025, 5, 12)
WHO = Provenance("run-1", "wrm_stations_enhanced_data_all", lambda: dt.datetime(2025, 5, 13, tzinfo=dt.UTC))


@pytest.fixture
def watched(store_settings: StoreSettings) -> Iterator[WatchedStore]:
    with watching(store_settings) as store:
        yield store


@pytest.fixture
def lake(watched: WatchedStore) -> Lake:
    return Lake(watched, LakeKeys(watched.prefix))


def build(lake: Lake, contract: Contract = CONTRACTS.enhanced) -> BuiltDay:
    return build_enhanced_day(lake, FORMAT, contract, DAY, WHO)


def put_hour(lake: Lake, hour: int) -> None:
    put_raw(lake, at(hour), payload(row(bikes=str(hour)), bike_row()))


def hours_of(built: BuiltDay) -> list[int]:
    bikes: list[int] = built.rows.column("bikes").to_pylist()
    return bikes[::2]


def etags(lake: Lake) -> dict[str, str]:
    return {key: etag for key, etag in contents(lake).items() if key.startswith(("processed/", "enhanced/"))}


def rebuilt_from_nothing(lake: Lake, contract: Contract = CONTRACTS.enhanced) -> dict[str, str]:
    for layer in Layer:
        lake.store.delete(lake.keys.layer_object(layer, DAY))
    build(lake, contract)
    return etags(lake)


def test_rows_are_those_of_processed_classified_and_flagged(lake: Lake) -> None:
    put_raw(lake, at(18), payload(row(bikes="42"), bike_row(lat="52.28", lon="21.01"), row("x1")))

    built = build(lake)

    stored = lake.read_day(Layer.ENHANCED, DAY, ENHANCED)
    upstream = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert stored is not None
    assert upstream is not None
    assert stored.rows.equals(built.rows)
    assert stored.rows.select(PROCESSED.names).equals(upstream.rows)
    assert stored.rows.column("record_type").to_pylist() == ["station", "bike", "unknown"]
    assert stored.rows.column("quality_flags").to_pylist() == [["overfull"], ["off_zone"], ["unknown_record_type"]]
    assert stored.rows.column("date").to_pylist() == [DAY] * 3


def test_the_manifest_is_that_of_processed_under_both_code_versions(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), end=b"\n"))

    built = build(lake)

    upstream = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert upstream is not None
    assert built.manifest.sources == upstream.manifest.sources
    stamp = CONTRACTS.enhanced.stamp
    assert upstream.manifest.code_version.split("+")[1] == f"contract{CONTRACTS.processed.stamp}"
    assert built.manifest.code_version == (
        f"{enhanced.ENHANCED_CODE_VERSION}+contract{stamp}/{upstream.manifest.code_version}"
    )
    assert (built.manifest.layer, built.manifest.day) == (Layer.ENHANCED, DAY)
    assert len(built.letters) == 1


def test_processed_is_brought_up_to_date_first(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 8)
    build_processed_day(lake, FORMAT, DAY, WHO)
    put_hour(lake, 9)
    watched.puts.clear()

    built = build(lake)

    assert hours_of(built) == [8, 9]
    assert built.build is Build.INCREMENTAL
    assert watched.puts == [lake.keys.layer_object(layer, DAY) for layer in (Layer.PROCESSED, Layer.ENHANCED)]


def test_a_new_snapshot_costs_its_own_get_and_the_stored_day(lake: Lake) -> None:
    for hour in range(5):
        put_hour(lake, hour)
    build(lake)
    put_hour(lake, 7)
    before = lake.store.traffic.snapshot()

    build(lake)

    assert dict((lake.store.traffic.snapshot() - before).requests) == {"list": 2, "get": 1 + 1, "put": 2}


def test_letters_come_first_then_processed_then_enhanced(lake: Lake, watched: WatchedStore) -> None:
    """A reader of enhanced must find what was left out, and a killed run must not leave enhanced ahead of processed."""
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), end=b"\n"))
    watched.puts.clear()

    build(lake)

    assert [key.removeprefix(lake.keys.prefix).split("/")[0] for key in watched.puts] == [
        "dlq",
        "processed",
        "enhanced",
    ]


def test_enhanced_stays_as_it_was_when_processed_cannot_be_stored(
    lake: Lake, proxied: StoreSettings, proxy: FaultProxy
) -> None:
    put_hour(lake, 8)
    build(lake)
    before = etags(lake)
    put_hour(lake, 9)
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="/processed/")

    with ObjectStore(proxied) as behind, pytest.raises(StoreRefused):
        build(Lake(behind, lake.keys))

    assert etags(lake) == before


def test_a_snapshot_that_lands_before_the_put_of_enhanced_is_in_both_layers(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 8)
    watched.before_put("/enhanced/", lambda: put_hour(lake, 9), lambda: put_hour(lake, 7))

    built = build(lake)

    assert hours_of(built) == [7, 8, 9]
    assert etags(lake) == rebuilt_from_nothing(lake)


def test_another_run_that_overtakes_this_one_is_not_undone(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 8)

    def overtake() -> None:
        put_hour(lake, 9)
        assert hours_of(build(lake)) == [8, 9]

    watched.before_put("/enhanced/", overtake)

    assert hours_of(build(lake)) == [8, 9]
    assert etags(lake) == rebuilt_from_nothing(lake)


def test_a_day_without_raw_data_is_an_error_and_writes_nothing(lake: Lake, watched: WatchedStore) -> None:
    with pytest.raises(NoRawDataError, match="There is no raw data for 2025-05-12"):
        build(lake)

    assert watched.puts == []


def test_raw_that_never_stands_still_is_an_error(lake: Lake, watched: WatchedStore) -> None:
    put_hour(lake, 0)
    watched.before_put("/enhanced/", *(lambda hour=hour: put_hour(lake, hour) for hour in range(1, PASSES + 1)))

    with pytest.raises(RawKeepsChangingError):
        build(lake)

    assert hours_of(build(lake)) == list(range(PASSES + 1))


@pytest.mark.parametrize("layers", [[Layer.ENHANCED], [Layer.PROCESSED], list(Layer)])
def test_damaged_layers_are_rebuilt_to_the_same_bytes(lake: Lake, layers: list[Layer]) -> None:
    put_hour(lake, 8)
    put_hour(lake, 9)
    build(lake)
    good = etags(lake)
    for layer in layers:
        lake.store.put(lake.keys.layer_object(layer, DAY), b"garbage", content_type="x")

    build(lake)

    assert etags(lake) == good


def test_no_letters_are_written_for_the_stage_enhanced_while_all_rules_for_rows_are_warnings(lake: Lake) -> None:
    """Whatever processed keeps, enhanced keeps: it flags."""
    put_raw(lake, at(8), payload(row("?", docks="0", lat="-33", lon="151", overloaded="what"), row("2", bikes="x")))

    build(lake)

    assert [letter.stage for letter in letters_of(lake, DAY)] == ["processed"]


# --- Error rules ------------------------------------------------------------------------------------------------------


def with_errors(*names: str) -> Contract:
    """The contract of enhanced, with these rules as errors."""
    rules = CONTRACTS.enhanced.rules
    errors = {name: replace(rules[name], severity=Severity.ERROR) for name in names}
    return replace(CONTRACTS.enhanced, rules={**rules, **errors})


STRICT = with_errors("overfull")
OVERFULL = row("15002", bikes="42")
REASON = f"the contract counts it as an error: {CONTRACTS.enhanced.rules['overfull'].description}"


def put_overfull(lake: Lake, hour: int) -> str:
    """Put a snapshot with an overfull station in line 3 into raw, and return its key."""
    return put_raw(lake, at(hour), payload(row(bikes=str(hour % 7)), OVERFULL, bike_row())).key


def enhanced_letters(lake: Lake) -> list[DeadLetter]:
    return [letter for letter in letters_of(lake, DAY) if letter.stage is Stage.ENHANCED]


def dlq_keys(lake: Lake, *source_keys: str) -> list[str]:
    return [lake.keys.dead_letter(DAY, letter_id(key, Stage.ENHANCED)) for key in source_keys]


def records_of(letter: DeadLetter) -> list[tuple[int | None, str | None, str]]:
    return [(record.line, record.row, record.rule) for record in letter.records]


def test_one_line_of_the_contract_makes_a_rule_an_error(lake: Lake, tmp_path: Path) -> None:
    name = f"{CONTRACTS.enhanced.id}{SUFFIX}"
    lines = (PACKAGED / name).read_text(encoding="utf-8").splitlines()
    start = lines.index("      - name: overfull")
    (place,) = [n for n in range(start, start + 8) if lines[n] == "        severity: warning"]
    lines[place] = "        severity: error"
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    put_overfull(lake, 8)

    built = build(lake, load_contracts(tmp_path).enhanced)

    assert built.rows.column("station_id").to_pylist() == ["15001", "fb604692"]
    assert [letter.stage for letter in letters_of(lake, DAY)] == [Stage.ENHANCED]


def test_a_row_that_is_set_aside_is_a_letter_that_says_everything(lake: Lake) -> None:
    source = put_raw(lake, at(8), payload(row("15001"), bike_row(), OVERFULL, row("15003")))

    built = build(lake, STRICT)

    (letter,) = letters_of(lake, DAY)
    assert built.letters == (letter,)
    assert letter == DeadLetter(
        id=letter_id(source.key, Stage.ENHANCED),
        source_key=source.key,
        source_sha256=source.metadata["sha256"],
        partition=DAY,
        stage=Stage.ENHANCED,
        asset="wrm_stations_enhanced_data_all",
        run_id="run-1",
        code_version=built.manifest.code_version,
        contract_version=STRICT.stamp,
        first_seen=WHO.now(),
        last_seen=WHO.now(),
        records=letter.records,
    )
    (record,) = letter.records
    assert (record.line, record.row, record.row_base64, record.pointer) == (4, OVERFULL.decode(), None, None)
    assert (record.rule, record.error_class, record.message) == ("overfull", "BadRow", REASON)


def test_rows_that_are_set_aside_move_from_kept_to_dead_and_every_count_balances(lake: Lake) -> None:
    overfull = row("15005", bikes="17")
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), OVERFULL, overfull, overfull, row("1"), end=b"\n"))
    put_raw(lake, at(9), payload(row("1"), row("2")))
    put_raw(lake, at(10), b"<html>")
    put_overfull(lake, 11)

    built = build(lake, STRICT)

    upstream = lake.read_day(Layer.PROCESSED, DAY, PROCESSED)
    assert upstream is not None
    counts = [(s.rows, s.kept, s.dead, s.duplicates, s.fault) for s in built.manifest.sources]
    assert counts == [(6, 1, 3, 2, None), (2, 2, 0, 0, None), (0, 0, 0, 0, "html"), (3, 2, 1, 0, None)]
    assert [s.kept + s.dead for s in built.manifest.sources] == [s.kept + s.dead for s in upstream.manifest.sources]
    assert built.rows.num_rows == built.manifest.total("kept") == 5
    assert built.manifest.total("rows") == sum(built.manifest.total(count) for count in ("kept", "dead", "duplicates"))
    records = [record for letter in letters_of(lake, DAY) for record in letter.records if record.line is not None]
    assert len(records) == built.manifest.total("dead")
    # Processed knows nothing of it: all rows that it can read are in it.
    assert upstream.rows.num_rows == built.rows.num_rows + 3


def test_rows_of_one_snapshot_are_one_letter_in_the_order_of_their_lines(lake: Lake) -> None:
    contract = with_errors("overfull", "off_zone", "moved")
    far = row("15004", lat="52.28", lon="21.01")
    moved = row("15006", lat="51.15")
    put_raw(lake, at(7), payload(row("15006")))
    put_raw(lake, at(8), payload(OVERFULL, far, row("15001"), moved, row("15003")))

    build(lake, contract)

    (letter,) = letters_of(lake, DAY)
    assert records_of(letter) == [
        (2, OVERFULL.decode(), "overfull"),
        (3, far.decode(), "off_zone"),
        (5, moved.decode(), "moved"),
    ]


def test_what_processed_and_what_enhanced_set_aside_of_one_snapshot_are_two_letters(lake: Lake) -> None:
    put_raw(lake, at(8), payload(row("1", bikes="x"), OVERFULL, row("3")))

    built = build(lake, STRICT)

    letters = {letter.stage: records_of(letter) for letter in letters_of(lake, DAY)}
    assert letters == {
        Stage.PROCESSED: [(2, row("1", bikes="x").decode(), "not_a_number")],
        Stage.ENHANCED: [(3, OVERFULL.decode(), "overfull")],
    }
    assert sorted(letter.stage for letter in built.letters) == ["enhanced", "processed"]
    assert [(s.rows, s.kept, s.dead) for s in built.manifest.sources] == [(3, 1, 2)]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'"15,002"' + OVERFULL.removeprefix(b"15002"), id="a comma"),
        pytest.param(b'"15""002"' + OVERFULL.removeprefix(b"15002"), id="a quote"),
        pytest.param(b'"15002"' + OVERFULL.removeprefix(b"15002"), id="quotes around it"),
        pytest.param("\u00a0 15002 ".encode() + OVERFULL.removeprefix(b"15002"), id="blanks about it"),
        pytest.param("\u017c-1".encode() + OVERFULL.removeprefix(b"15002"), id="letters of other alphabets"),
        pytest.param(row("15002", bikes="42", name='"Plac ""Bema"", 3"'), id="a quoted name"),
    ],
)
def test_a_row_is_found_in_raw_however_its_id_is_written(lake: Lake, line: bytes) -> None:
    contract = with_errors("overfull", "unknown_record_type")
    other = row("15002x", bikes="x")  # has a letter of its own, and an id that begins alike
    put_raw(lake, at(8), payload(row("15001"), other, line, row("15003"), end=b"\n"))

    build(lake, contract)

    (letter,) = enhanced_letters(lake)
    assert [(record.line, record.row) for record in letter.records] == [(4, line.decode())]


def test_of_rows_with_one_id_the_one_that_processed_kept_is_set_aside(lake: Lake) -> None:
    first, second = row("15002", bikes="42"), row(" 15002", bikes="43")
    put_raw(lake, at(8), payload(row("15002", bikes="x"), first, second, first))

    built = build(lake, STRICT)

    (letter,) = enhanced_letters(lake)
    assert records_of(letter) == [(3, first.decode(), "overfull")]
    assert [(s.rows, s.kept, s.dead, s.duplicates) for s in built.manifest.sources] == [(4, 0, 3, 1)]


def test_line_ends_and_a_bom_do_not_shift_the_lines(lake: Lake) -> None:
    put_raw(lake, at(8), b"\xef\xbb\xbf" + payload(row("15001"), OVERFULL, row("15003")).replace(b"\n", b"\r\n"))

    build(lake, STRICT)

    (letter,) = letters_of(lake, DAY)
    assert records_of(letter) == [(3, OVERFULL.decode(), "overfull")]


def test_letters_of_both_stages_come_first_then_processed_then_enhanced(lake: Lake, watched: WatchedStore) -> None:
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), OVERFULL, row("4")))
    watched.puts.clear()

    build(lake, STRICT)

    folders = [key.removeprefix(lake.keys.prefix).split("/")[0] for key in watched.puts]
    assert folders == ["dlq", "dlq", "processed", "enhanced"]


def test_a_day_is_not_stored_when_the_letters_of_its_error_rules_cannot_be(
    lake: Lake, proxied: StoreSettings, proxy: FaultProxy
) -> None:
    put_overfull(lake, 8)
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", path="/dlq/")

    with ObjectStore(proxied) as behind, pytest.raises(StoreRefused):
        build(Lake(behind, lake.keys), STRICT)

    assert etags(lake) == {}


def test_a_new_snapshot_writes_its_own_letter_only_and_the_day_equals_one_built_from_nothing(
    lake: Lake, watched: WatchedStore
) -> None:
    for hour in range(5):
        put_overfull(lake, hour)
    build(lake, STRICT)
    new = put_overfull(lake, 7)
    watched.puts.clear()
    before = lake.store.traffic.snapshot()

    built = build(lake, STRICT)

    # Read: both stored days, the new snapshot to parse and once more for its lines, the letter that may be there.
    assert dict((lake.store.traffic.snapshot() - before).requests) == {"list": 2, "get": 5, "put": 3}
    assert watched.puts[0] == dlq_keys(lake, new)[0]
    assert [letter.source_key for letter in built.letters] == [new]
    assert (built.build, built.read) == (Build.INCREMENTAL, 1)
    assert len(enhanced_letters(lake)) == 6
    letters = {letter.id: letter.records for letter in enhanced_letters(lake)}
    assert etags(lake) == rebuilt_from_nothing(lake, STRICT)
    assert {letter.id: letter.records for letter in enhanced_letters(lake)} == letters


def test_a_new_snapshot_without_bad_rows_writes_no_letter(lake: Lake, watched: WatchedStore) -> None:
    put_overfull(lake, 7)
    build(lake, STRICT)
    put_raw(lake, at(8), payload(row(), bike_row()))
    watched.puts.clear()

    built = build(lake, STRICT)

    assert built.letters == ()
    assert watched.puts == [lake.keys.layer_object(layer, DAY) for layer in (Layer.PROCESSED, Layer.ENHANCED)]
    assert [source.dead for source in built.manifest.sources] == [1, 0]


def test_a_day_that_is_up_to_date_writes_no_letter_again(lake: Lake, watched: WatchedStore) -> None:
    put_overfull(lake, 7)
    build(lake, STRICT)
    watched.puts.clear()

    built = build(lake, STRICT)

    assert (built.build, built.letters) == (Build.UNCHANGED, ())
    assert [key for key in watched.puts if "/dlq/" in key] == []


def test_a_snapshot_that_comes_out_of_order_has_all_letters_written_again(lake: Lake, watched: WatchedStore) -> None:
    """What a rule that looks back says of the rows after it may have changed."""
    contract = with_errors("name_changed")
    late = [
        put_raw(lake, at(hour), payload(row("1", name=name))).key for hour, name in ((9, "A"), (10, "B"), (11, "C"))
    ]
    build(lake, contract)
    early = put_raw(lake, at(8), payload(row("1", name="Z"))).key
    watched.puts.clear()

    built = build(lake, contract)

    assert built.build is Build.INCREMENTAL
    assert [letter.source_key for letter in built.letters] == late
    assert set(watched.puts[:-2]) == set(dlq_keys(lake, *late))
    assert [source.dead for source in built.manifest.sources] == [0, 1, 1, 1]
    assert [source.key for source in built.manifest.sources] == [early, *late]
    assert etags(lake) == rebuilt_from_nothing(lake, contract)


def test_letters_are_written_again_when_the_contract_has_changed(lake: Lake, watched: WatchedStore) -> None:
    sources = [put_overfull(lake, hour) for hour in (8, 9)]
    build(lake, STRICT)
    stricter = with_errors("overfull", "off_zone")
    watched.puts.clear()

    built = build(lake, stricter)

    assert built.build is Build.UNCHANGED  # of processed, whose contract is as it was
    assert set(watched.puts[:-1]) == set(dlq_keys(lake, *sources))
    assert {letter.contract_version for letter in letters_of(lake, DAY)} == {stricter.stamp}


def test_rows_join_the_day_when_their_rule_becomes_a_warning(lake: Lake) -> None:
    put_overfull(lake, 8)
    put_overfull(lake, 9)
    build(lake, STRICT)

    built = build(lake)

    assert built.rows.num_rows == 6
    assert etags(lake) == rebuilt_from_nothing(lake)


def test_a_build_that_was_killed_between_the_layers_writes_the_letters_that_are_missing(
    lake: Lake, watched: WatchedStore
) -> None:
    """Processed is ahead of enhanced then: the letters to write are those of what enhanced does not know yet."""
    old, new = put_overfull(lake, 8), put_overfull(lake, 9)
    lake.store.delete(new)
    build(lake, STRICT)
    put_overfull(lake, 9)
    build_processed_day(lake, FORMAT, DAY, WHO)
    watched.puts.clear()

    built = build(lake, STRICT)

    assert built.build is Build.UNCHANGED
    assert [letter.source_key for letter in built.letters] == [new]
    assert sorted(letter.source_key for letter in enhanced_letters(lake)) == [old, new]
    assert etags(lake) == rebuilt_from_nothing(lake, STRICT)


def test_letters_of_a_damaged_enhanced_day_are_all_written_again(lake: Lake) -> None:
    sources = [put_overfull(lake, hour) for hour in (8, 9)]
    build(lake, STRICT)
    good = etags(lake)
    for key in dlq_keys(lake, *sources):
        lake.store.delete(key)
    lake.store.put(lake.keys.layer_object(Layer.ENHANCED, DAY), b"garbage", content_type="x")

    build(lake, STRICT)

    assert etags(lake) == good
    assert sorted(letter.source_key for letter in enhanced_letters(lake)) == sources


def test_a_build_from_nothing_judges_every_snapshot_again_and_returns_all_letters(lake: Lake) -> None:
    sources = [put_overfull(lake, hour) for hour in (8, 9)]
    bad = put_raw(lake, at(10), payload(row("1"), row("2", bikes="x"), end=b"\n")).key
    build(lake, STRICT)
    good = etags(lake)

    built = build_enhanced_day(lake, FORMAT, STRICT, DAY, WHO, from_nothing=True)

    assert (built.build, built.read) == (Build.FULL, 3)
    assert sorted(letter.source_key for letter in built.letters) == sorted([*sources, bad])
    assert etags(lake) == good


@pytest.mark.parametrize("first", [True, False], ids=["a first build", "an incremental build"])
def test_what_lands_during_a_build_has_its_letter_and_the_report_holds_the_letters_of_every_pass(
    lake: Lake, watched: WatchedStore, first: bool
) -> None:
    """A build in two passes once reported the letters of the second pass alone."""
    earlier = put_overfull(lake, 6)
    if not first:
        build(lake, STRICT)
    sources = [put_overfull(lake, 8)]
    watched.before_put("/enhanced/", lambda: sources.append(put_overfull(lake, 9)))

    built = build(lake, STRICT)

    assert len(sources) == 2
    assert [letter.source_key for letter in built.letters] == ([earlier, *sources] if first else sources)
    assert sorted(letter.source_key for letter in enhanced_letters(lake)) == [earlier, *sources]
    assert etags(lake) == rebuilt_from_nothing(lake, STRICT)


def test_a_recorded_day_under_a_too_strict_contract_loses_its_overfull_stations_and_nothing_else(lake: Lake) -> None:
    snapshots = recorded("ucl_wroclaw")
    for snapshot in snapshots:
        lake.store.put(lake.keys.raw(snapshot.time), snapshot.body, content_type="text/plain")
    flags = build(lake).rows.column("quality_flags").to_pylist()

    built = build(lake, STRICT)

    overfull = sum("overfull" in of_row for of_row in flags)
    assert overfull >= 43 * len(snapshots)
    assert built.manifest.total("dead") == overfull
    assert built.rows.num_rows == len(flags) - overfull
    for letter in letters_of(lake, DAY):
        lines = lake.store.get(letter.source_key).body.split(b"\n")
        for record in letter.records:
            assert record.line is not None
            assert record.row is not None
            assert lines[record.line - 1].rstrip(b"\r") == record.row.encode()


def test_a_snapshot_that_is_replaced_while_its_rows_are_looked_for_is_an_error_and_the_next_build_is_whole(
    lake: Lake, watched: WatchedStore
) -> None:
    """Its lines are not those that were judged: nothing may be set aside under them."""
    put_raw(lake, at(8), payload(row("1"), row("2", bikes="x"), OVERFULL, end=b"\n"))
    watched.before_put("dlq/", lambda: put_raw(lake, at(8), payload(row("1"), OVERFULL, end=b"\n")))

    with pytest.raises(RawKeepsChangingError, match=r"08-00-00\.txt was replaced while its day was built"):
        build_enhanced_day(Lake(watched, lake.keys), FORMAT, STRICT, DAY, WHO)

    assert contents(lake, "enhanced/") == {}
    again = build_enhanced_day(lake, FORMAT, STRICT, DAY, WHO)
    assert [again.manifest.total(count) for count in ("rows", "kept", "dead")] == [2, 1, 1]

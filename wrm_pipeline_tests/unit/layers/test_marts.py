"""The marts in a real lake: what changed is computed again and nothing else, and always as if built at once."""

import datetime as dt
import threading
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from wrm_pipeline.feed.city import snapshot, stations_on, with_bad_rows
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreUnavailable
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.marts import MartsReport, build_marts
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.marts.catalogue import catalogue, published
from wrm_pipeline.marts.database import MartsError, open_database
from wrm_pipeline.settings import Settings, SettingsError, StoreSettings, load_settings
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, environment_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import FaultProxy, Reset
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT

WHO = Provenance("run-1", "wrm_stations_enhanced_data_all")
KEY = "0123456789abcdef0123456789abcdef"
NEXT = DAY + dt.timedelta(days=1)
AFTER = DAY + dt.timedelta(days=2)
# Of the simulated city on that day.
STATIONS = len(stations_on(1, DAY))


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(store_settings, tmp_path / "wrm.duckdb", monkeypatch)


def settings_of(store: StoreSettings, path: Path, monkeypatch: pytest.MonkeyPatch, **other: str) -> Settings:
    variables = environment_of(store, WRM_PSEUDONYM_KEY=KEY, WRM_DUCKDB_PATH=str(path)) | other
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def poll(lake: Lake, *times: dt.datetime) -> None:
    """Let snapshots of the simulated city arrive, and build enhanced of their days."""
    for time in times:
        put_raw(lake, time)
    for day in sorted({time.date() for time in times}):
        build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, WHO)


def build(lake: Lake, settings: Settings) -> MartsReport:
    return build_marts(lake, CONTRACTS, settings)


def made(lake: Lake) -> dict[str, str]:
    """The ETag of everything that the marts consist of, by key."""
    return {**contents(lake, "marts/"), **contents(lake, "state/")}


def rows(settings: Settings, query: str) -> list[tuple[object, ...]]:
    with open_database(settings.wrm_duckdb_path) as connection:
        return connection.execute(query).fetchall()


def all_rows(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    return {mart.name: rows(settings, f"FROM {mart.name} ORDER BY ALL") for mart in published()}


def build_at_once(lake: Lake, settings: Settings) -> None:
    """Build everything anew, as if nothing had been built before."""
    for key in made(lake):
        lake.store.delete(lake.keys.prefix + key)
    settings.wrm_duckdb_path.unlink()
    build(lake, settings)


def test_every_published_table_lies_in_the_lake_and_in_the_file(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10), at(10, 5))

    report = build(lake, settings)

    assert report.days == (DAY,)
    assert not report.refused
    assert set(report.tables) == {mart.name for mart in published()}
    keys = contents(lake, "marts/")
    for mart in published():
        assert any(key.startswith(f"marts/{mart.name}/") for key in keys), mart.name
        (count,) = rows(settings, f"SELECT count(*) FROM {mart.name}")  # noqa: S608
        assert count == (report.tables[mart.name].rows,)
    assert report.tables["mv_station_latest"].rows == STATIONS


def test_a_build_without_news_writes_nothing(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10), at(10, 5))
    build(lake, settings)
    before, file = made(lake), settings.wrm_duckdb_path.stat()

    traffic = lake.store.traffic.snapshot()
    report = build(lake, settings)

    assert report.days == ()
    assert "PUT" not in (lake.store.traffic.snapshot() - traffic).requests
    assert made(lake) == before
    assert settings.wrm_duckdb_path.stat().st_ino == file.st_ino


def test_one_more_snapshot_computes_its_day_alone(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10), at(10, 5), at(10, day=NEXT), at(10, day=AFTER))
    build(lake, settings)
    before = made(lake)

    poll(lake, at(10, 5, day=AFTER))
    report = build(lake, settings)

    assert report.days == (AFTER,)
    changed = {key for key, etag in made(lake).items() if before.get(key) != etag}
    assert not [key for key in changed if f"={DAY}" in key or f"dt={NEXT}" in key]
    assert any(f"dt={AFTER}" in key for key in changed)


def test_built_in_any_order_the_marts_are_those_built_at_once(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wrm_pipeline.layers.marts._DAYS_A_CONNECTION", 1)
    times = [at(20), at(23, 55), at(0, 0, day=NEXT), at(9, day=NEXT), at(22, 30, day=NEXT), at(3, day=AFTER)]
    # The newest day first, the day between last: what is carried from day to day has to be carried again.
    for some in ([times[5]], [times[0]], [times[2], times[4]], [times[1], times[3]]):
        poll(lake, *some)
        build(lake, settings)

    before = made(lake), all_rows(settings)
    build_at_once(lake, settings)

    assert (made(lake), all_rows(settings)) == before


def test_a_late_snapshot_is_carried_into_the_days_after_it_only_as_far_as_it_matters(
    lake: Lake, settings: Settings
) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(4)]
    poll(lake, *(at(hour, day=day) for day in days for hour in (10, 12)))
    build(lake, settings)

    # A snapshot that changes nothing about the end of its day, but for what has been seen at all.
    poll(lake, at(11, day=days[1]))
    report = build(lake, settings)

    assert days[1] in report.days
    assert days[0] not in report.days


def test_a_day_that_checks_keep_out_is_in_no_table_until_it_is_mended(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10), at(10, day=NEXT))
    body = snapshot(1, at(11, day=NEXT))
    put_raw(lake, at(11, day=NEXT), with_bad_rows(body, body.count(b"\n"), 0))
    poll(lake, at(12, day=NEXT))

    report = build(lake, settings)

    assert report.days == (DAY,)
    assert "dead_letter_ratio" in report.refused[NEXT]
    assert not [key for key in made(lake) if f"={NEXT}" in key and "index" not in key]
    assert rows(settings, "SELECT DISTINCT dt FROM fct_station_hour") == [(DAY,)]

    lake.store.delete(lake.keys.raw(at(11, day=NEXT)))
    lake.store.delete(lake.keys.layer_object(Layer.PROCESSED, NEXT))
    lake.store.delete(lake.keys.layer_object(Layer.ENHANCED, NEXT))
    poll(lake, at(12, day=NEXT))

    assert build(lake, settings).days == (DAY, NEXT)  # DAY is the newest no more
    assert rows(settings, "SELECT DISTINCT dt FROM fct_station_hour ORDER BY 1") == [(DAY,), (NEXT,)]


def test_a_day_that_is_no_more_leaves_all_tables(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10), at(10, day=NEXT), at(10, day=AFTER))
    build(lake, settings)

    lake.store.delete(lake.keys.layer_object(Layer.ENHANCED, NEXT))
    build(lake, settings)

    before = made(lake), all_rows(settings)
    build_at_once(lake, settings)
    assert (made(lake), all_rows(settings)) == before


@pytest.mark.parametrize("damage", ["deleted", "overwritten"])
@pytest.mark.parametrize(
    "folder", ["marts/fct_station_hour/dt", "marts/fct_fleet_day/date", "marts/dim_station/", "state/"]
)
def test_what_was_damaged_in_the_lake_is_made_again(lake: Lake, settings: Settings, folder: str, damage: str) -> None:
    poll(lake, at(10), at(10, day=NEXT))
    build(lake, settings)
    before = made(lake)
    key = next(key for key in sorted(before) if key.startswith(folder))
    if damage == "deleted":
        lake.store.delete(lake.keys.prefix + key)
    else:
        lake.store.put(lake.keys.prefix + key, b"something else", content_type="text/plain")

    build(lake, settings)

    assert made(lake) == before


def test_an_object_that_the_index_does_not_know_is_removed(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10))
    build(lake, settings)
    stray = lake.keys.mart_day("fct_station_hour", AFTER, published=True)
    lake.store.put(stray, b"left by a killed run", content_type="text/plain")

    poll(lake, at(10, 5))
    build(lake, settings)

    assert lake.store.head(stray) is None


@pytest.mark.parametrize("damage", ["deleted", "half written", "not a database", "of another version"])
def test_the_file_can_be_deleted_or_damaged_and_is_made_again(lake: Lake, settings: Settings, damage: str) -> None:
    poll(lake, at(10), at(10, 5), at(10, day=NEXT))
    build(lake, settings)
    before, path = all_rows(settings), settings.wrm_duckdb_path
    if damage == "deleted":
        path.unlink()
    elif damage == "half written":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "not a database":
        path.write_bytes(b"not a database at all")
    else:
        with duckdb.connect(str(path)) as connection:
            connection.execute("UPDATE marts_built SET layout = '0'")
    with pytest.raises(MartsError, match=r"wrm_stations_marts_job"):
        open_database(path)

    traffic = lake.store.traffic.snapshot()
    report = build(lake, settings)

    assert report.days == ()
    assert (lake.store.traffic.snapshot() - traffic).requests["PUT"] <= 1  # the index
    assert all_rows(settings) == before


def test_the_file_opens_with_plain_duckdb_and_views_on_the_lake_work_with_settings(
    lake: Lake, settings: Settings
) -> None:
    poll(lake, at(10), at(10, 5))
    build(lake, settings)

    with duckdb.connect(str(settings.wrm_duckdb_path), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM wrm_stations_latest").fetchone() == (STATIONS,)
        comment = plain.execute(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'fct_station_hour' AND column_name = 'inflow'"
        ).fetchone()
        assert comment is not None
        assert "ower bound" in comment[0]
    with open_database(settings.wrm_duckdb_path, settings) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {view}").fetchone()  # noqa: S608
            for view in ("wrm_stations_enhanced_data", "wrm_stations_only", "wrm_bikes_only")
        ]
    everything, stations, bikes = (count[0] for count in counts if count is not None)
    assert stations == 2 * STATIONS
    assert bikes > 0
    assert everything == stations + bikes


def test_a_reader_of_the_old_file_goes_on_while_a_new_one_takes_its_place(lake: Lake, settings: Settings) -> None:
    poll(lake, at(10))
    build(lake, settings)
    with open_database(settings.wrm_duckdb_path) as reader:
        before = reader.execute("SELECT newest_snapshot_at FROM marts_built").fetchone()

        poll(lake, at(10, 5))
        build(lake, settings)

        assert reader.execute("SELECT newest_snapshot_at FROM marts_built").fetchone() == before == (at(10),)
    assert rows(settings, "SELECT newest_snapshot_at FROM marts_built") == [(at(10, 5),)]


def test_while_the_store_is_gone_the_old_marts_stay(
    lake: Lake,
    store_settings: StoreSettings,
    proxied: StoreSettings,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_of(replace(proxied, retry_budget_s=1.0), tmp_path / "wrm.duckdb", monkeypatch)
    with ObjectStore(settings.require_store()) as store:
        through = Lake(store, LakeKeys(store_settings.prefix))
        poll(lake, at(10))
        build(through, settings)
        before, lying = all_rows(settings), made(lake)
        poll(lake, at(10, 5))
        for method, path in (("GET", "all_enhanced"), ("PUT", "/marts/")):
            proxy.add(Reset(), method=method, path=path, times=None)

            with pytest.raises(StoreUnavailable):
                build(through, settings)

            assert all_rows(settings) == before
            assert not list(tmp_path.glob("*.draft*"))
            proxy.clear()
        assert {key: etag for key, etag in made(lake).items() if not key.startswith("state/")} == {
            key: etag for key, etag in lying.items() if not key.startswith("state/")
        }

        assert build(through, settings).days == (DAY,)


def test_two_builds_at_once_end_as_one_does(lake: Lake, settings: Settings) -> None:
    times = [at(10), at(10, 5), at(10, day=NEXT)]
    poll(lake, *times)
    failures: list[BaseException] = []

    def one() -> None:
        try:
            build(lake, settings)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    both = [threading.Thread(target=one) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()

    assert not failures
    build(lake, settings)
    before = made(lake), all_rows(settings)
    build_at_once(lake, settings)
    assert (made(lake), all_rows(settings)) == before


def test_an_empty_lake_gives_empty_tables(lake: Lake, settings: Settings) -> None:
    report = build(lake, settings)

    assert report.days == ()
    assert report.tables["fct_station_hour"].rows == 0
    assert rows(settings, "FROM mv_station_latest") == []
    assert rows(settings, "FROM wrm_stations_enhanced_data") == []


def test_without_a_key_for_pseudonyms_nothing_is_built(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(store_settings, tmp_path / "wrm.duckdb", monkeypatch, WRM_PSEUDONYM_KEY="")
    poll(lake, at(10))

    with pytest.raises(SettingsError, match="WRM_PSEUDONYM_KEY not set"):
        build(lake, settings)

    assert made(lake) == {}


def test_a_file_that_cannot_be_written_is_named_and_the_next_build_makes_it(
    lake: Lake, store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("in the way of a folder")
    settings = settings_of(store_settings, tmp_path / "a file" / "wrm.duckdb", monkeypatch)
    poll(lake, at(10))

    with pytest.raises(MartsError, match="WRM_DUCKDB_PATH"):
        build(lake, settings)

    settings = settings_of(store_settings, tmp_path / "wrm.duckdb", monkeypatch)
    assert build(lake, settings).tables["mv_station_latest"].rows == STATIONS


def test_other_sql_of_a_whole_table_computes_the_whole_tables_alone(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(lake, at(10), at(10, day=NEXT))
    build(lake, settings)
    before, whole = made(lake), catalogue()
    other = whole["dim_date"].sql.replace("ORDER BY", "WHERE weekday < 6 ORDER BY")
    assert other != whole["dim_date"].sql
    tables = {**whole, "dim_date": replace(whole["dim_date"], sql=other)}
    for module in ("layers.marts", "layers.mart_index", "marts.engine", "marts.database"):
        monkeypatch.setattr(f"wrm_pipeline.{module}.catalogue", lambda: tables)

    report = build(lake, settings)

    assert report.days == ()
    changed = {key for key, etag in made(lake).items() if before.get(key) != etag}
    assert changed == {"marts/dim_date/dim_date.parquet", "state/index.json"}
    assert rows(settings, "SELECT max(weekday) FROM dim_date") == [(5,)]


def test_another_key_gives_other_pseudonyms_everywhere(
    lake: Lake, settings: Settings, store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(lake, *(at(hour) for hour in (10, 12, 14, 16)))
    build(lake, settings)
    first = rows(settings, "SELECT move_id FROM fct_bike_move")
    assert first

    other = settings_of(store_settings, tmp_path / "wrm.duckdb", monkeypatch, WRM_PSEUDONYM_KEY=KEY[::-1])
    build(lake, other)

    second = rows(other, "SELECT move_id FROM fct_bike_move")
    assert len(second) == len(first)
    assert not set(first) & set(second)

"""The site in the lake: only what differs is written, data before pages, nothing is removed before all is written."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wrm_pipeline.feed.city import snapshot, with_bad_rows
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, StoreError
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.layers.site import CONTENT_TYPES, SiteFolderError, build_site
from wrm_pipeline.layers.site_facts import read_facts
from wrm_pipeline.marts.database import MartsError
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.dagster import DAY, at, contents, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy
from wrm_pipeline_tests.fixtures.site import NEWEST, sample_database
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT
from wrm_pipeline_tests.fixtures.watched_store import watching

STATIONS = 4
WHO = Provenance(run_id="run", asset="asset")


def made(folder: Path, *, stations: int = STATIONS, newest: dt.datetime = NEWEST) -> Path:
    folder.mkdir()
    return sample_database(folder / "wrm.duckdb", stations=stations, days=3, newest=newest)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("site") / "a")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One snapshot later, and a station fewer."""
    return made(tmp_path_factory.mktemp("site") / "b", stations=STATIONS - 1, newest=NEWEST + dt.timedelta(minutes=5))


@pytest.fixture
def watched_lake(store_settings: StoreSettings) -> Iterator[Lake]:
    with watching(store_settings) as store:
        yield Lake(store, LakeKeys(store.prefix))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here" / "site"


def puts(lake: Lake) -> list[str]:
    """Return what was written under site/ so far, in order, and forget it."""
    written = [key.removeprefix(lake.keys.site_root) for key in lake.store.puts]  # type: ignore[attr-defined]
    lake.store.puts.clear()  # type: ignore[attr-defined]
    return written


def test_all_of_the_site_is_written_with_its_type_and_pages_come_last(
    watched_lake: Lake, database: Path, folder: Path
) -> None:
    report = build_site(watched_lake, CONTRACTS, database, folder)

    written = puts(watched_lake)
    assert (report.written, report.objects, report.removed, report.problem) == (len(written), len(written), 0, "")
    assert report.newest_snapshot_at == NEWEST
    assert report.sent == report.size
    first_page = next(number for number, path in enumerate(written) if path.endswith(".html"))
    assert all(path.endswith(".html") for path in written[first_page:])
    assert len(written) - first_page == report.pages
    assert {"index.html", "en/now.html", "pl/data.html", "data/now.json", "data/stations/15001.json"} <= set(written)
    assert {"downloads/dim_station.csv", "data/downloads.json"} <= set(written)


def test_every_object_has_a_content_type(lake: Lake, database: Path, folder: Path) -> None:
    build_site(lake, CONTRACTS, database, folder)

    client = lake.store._client
    for path, kind in (("index.html", ".html"), ("data/now.json", ".json"), ("downloads/dim_date.csv", ".csv")):
        answer = client.head_object(Bucket=lake.store.bucket, Key=lake.keys.site_root + path)
        assert answer["ContentType"] == CONTENT_TYPES[kind]


def test_the_list_of_downloads_is_of_what_lies_there(lake: Lake, database: Path, folder: Path) -> None:
    build_site(lake, CONTRACTS, database, folder)

    listed = json.loads(lake.store.get(f"{lake.keys.site_root}data/downloads.json").body)["files"]
    for path, sha256 in zip(listed["path"], listed["sha256"], strict=True):
        assert hashlib.sha256(lake.store.get(lake.keys.site_root + path).body).hexdigest() == sha256


def test_building_again_writes_nothing(watched_lake: Lake, database: Path, folder: Path) -> None:
    first = build_site(watched_lake, CONTRACTS, database, folder)
    puts(watched_lake)

    again = build_site(watched_lake, CONTRACTS, database, folder)

    assert puts(watched_lake) == []
    assert (again.written, again.sent, again.removed) == (0, 0, 0)
    assert again.version == first.version


def test_what_was_changed_by_others_is_made_good(watched_lake: Lake, database: Path, folder: Path) -> None:
    build_site(watched_lake, CONTRACTS, database, folder)
    watched_lake.store.put(f"{watched_lake.keys.site_root}data/now.json", b"{}", content_type="application/json")
    watched_lake.store.delete(f"{watched_lake.keys.site_root}index.html")
    puts(watched_lake)

    build_site(watched_lake, CONTRACTS, database, folder)

    assert puts(watched_lake) == ["data/now.json", "index.html"]


def test_a_snapshot_later_pages_stay_and_a_station_that_is_gone_is_removed(
    watched_lake: Lake, database: Path, later: Path, folder: Path
) -> None:
    build_site(watched_lake, CONTRACTS, database, folder)
    puts(watched_lake)

    report = build_site(watched_lake, CONTRACTS, later, folder)

    written = puts(watched_lake)
    assert "data/now.json" in written
    assert not [path for path in written if path.endswith((".html", ".js", ".css"))]
    assert report.removed == 1
    assert f"site/data/stations/{15000 + STATIONS}.json" not in contents(watched_lake)


def test_without_a_database_the_first_site_says_so(lake: Lake, tmp_path: Path, folder: Path) -> None:
    report = build_site(lake, CONTRACTS, tmp_path / "none.duckdb", folder)

    assert "There is no DuckDB file" in report.problem
    assert report.newest_snapshot_at is None
    site = contents(lake, "site/")
    assert {"site/index.html", "site/en/now.html", "site/data/now.json"} <= set(site)
    assert json.loads(lake.store.get(f"{lake.keys.site_root}data/meta.json").body)["newest_snapshot_at"] is None


@pytest.mark.parametrize("damage", [None, b"no database"])
def test_a_site_is_not_replaced_by_an_empty_one(
    lake: Lake, database: Path, tmp_path: Path, damage: bytes | None, folder: Path
) -> None:
    build_site(lake, CONTRACTS, database, folder)
    before = contents(lake)
    lost = tmp_path / "lost.duckdb"
    if damage is not None:
        lost.write_bytes(damage)

    with pytest.raises(MartsError):
        build_site(lake, CONTRACTS, lost, folder)

    assert contents(lake) == before


def test_a_store_that_fails_half_way_leaves_a_site_that_works(
    lake: Lake, proxied: StoreSettings, proxy: FaultProxy, database: Path, later: Path, folder: Path
) -> None:
    build_site(lake, CONTRACTS, database, folder)
    before = contents(lake)
    proxy.add(Answer(403, b""), method="PUT", path="stations", times=None)

    with ObjectStore(replace(proxied, retry_budget_s=1.0)) as broken, pytest.raises(StoreError, match="PUT"):
        build_site(Lake(broken, lake.keys), CONTRACTS, later, folder)

    after = contents(lake)
    assert set(after) == set(before), "nothing was removed"
    pages = {path for path in before if path.endswith(".html")}
    assert {path: after[path] for path in pages} == {path: before[path] for path in pages}
    build_site(lake, CONTRACTS, later, folder)
    assert f"site/data/stations/{15000 + STATIONS}.json" not in contents(lake)


def test_the_folder_here_holds_the_same_files(lake: Lake, database: Path, later: Path, folder: Path) -> None:
    first = build_site(lake, CONTRACTS, database, folder)
    (folder / "mine.txt").write_text("mine")
    second = build_site(lake, CONTRACTS, later, folder)

    here = {
        f"site/{path.relative_to(folder).as_posix()}": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "mine.txt"
    }
    assert here == contents(lake, "site/")
    assert (first.copied, second.copied) == (first.objects, second.written)
    assert (folder / "mine.txt").exists(), "what is not the site's is not removed"


def test_a_folder_that_cannot_be_written_is_a_sentence(lake: Lake, database: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"a file")

    with pytest.raises(SiteFolderError, match="WRM_SITE_DIR"):
        build_site(lake, CONTRACTS, database, taken)

    assert "site/index.html" in contents(lake)


def test_the_database_is_closed_and_can_be_replaced(lake: Lake, database: Path, folder: Path) -> None:
    import duckdb

    build_site(lake, CONTRACTS, database, folder)

    # DuckDB refuses to open a file for writing that this process still has open for reading.
    with duckdb.connect(str(database)) as connection:
        assert connection.execute("SELECT count(*) FROM mv_station_latest").fetchone() == (STATIONS,)


# --- what the site shows of the lake ---------------------------------------------------------------------------------


def build_day(lake: Lake, day: dt.date, *, bad_rows: int = 0) -> None:
    time = at(8, day=day)
    put_raw(lake, time, with_bad_rows(snapshot(1, time), bad_rows, 1))
    build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, day, WHO)


def test_facts_name_dead_letters_by_rule_checks_of_the_newest_day_and_days_held_back(lake: Lake) -> None:
    build_day(lake, DAY - dt.timedelta(days=1), bad_rows=200)
    build_day(lake, DAY, bad_rows=2)

    facts = read_facts(lake, CONTRACTS, {DAY}, at(8))

    assert facts.letters is not None
    assert sum(facts.letters["rows"]) == 202
    assert DAY.isoformat() in facts.letters["newest_utc_date"]
    assert facts.checks is not None
    assert set(facts.checks["utc_date"]) == {DAY.isoformat()}
    assert {"schema", "dead_letter_ratio"} <= set(facts.checks["name"])
    assert not {"no_failed_partitions", "newest_row_age"} & set(facts.checks["name"])
    assert facts.not_in_marts is not None
    assert facts.not_in_marts["utc_date"] == [(DAY - dt.timedelta(days=1)).isoformat()]
    assert "dead_letter_ratio" in facts.not_in_marts["reason"][0]


def test_facts_hold_no_address_of_the_store(lake: Lake) -> None:
    build_day(lake, DAY)
    other = DAY - dt.timedelta(days=1)
    build_day(lake, other)
    key = next(key for key in contents(lake, f"enhanced/all/dt={other}/"))
    lake.store.put(f"{lake.keys.prefix}{key}", b"damaged", content_type="x/y")

    facts = read_facts(lake, CONTRACTS, {DAY}, at(8))

    assert facts.not_in_marts is not None
    (reason,) = facts.not_in_marts["reason"]
    assert "damaged" in reason
    assert lake.store.bucket not in repr(facts)
    assert lake.keys.prefix not in repr(facts)


def test_a_lake_without_letters_has_none(lake: Lake) -> None:
    build_day(lake, DAY)

    assert read_facts(lake, CONTRACTS, {DAY}, at(8)).letters == {"rule": [], "rows": [], "newest_utc_date": []}

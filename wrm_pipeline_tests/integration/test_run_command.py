"""`wrm run` in an empty folder: everything it needs starts, snapshots flow through, and the table is right."""

import os
import subprocess
import sys
from pathlib import Path

from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.lake.keys import LakeKeys, Layer, snapshot_time
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.transform.schema import ENHANCED
from wrm_pipeline_tests.fixtures.dagster import letters_of

WRM = str(Path(sys.executable).with_name("wrm"))


def wrm(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return subprocess.run(
        [WRM, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(directory), "COLUMNS": "200", **measured},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tables(text: str) -> tuple[dict[str, list[int]], dict[tuple[str, str], int]]:
    """Return the numbers of each day, and the dead letters by day and rule."""
    days: dict[str, list[int]] = {}
    letters: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if line.startswith("│") and len(cells) == 7:
            days[cells[0]] = [int(cell.replace(",", "")) for cell in cells[1:]]
        elif line.startswith("│") and len(cells) == 3:
            letters[cells[0], cells[1]] = int(cells[2].replace(",", ""))
    return days, letters


def in_the_lake(directory: Path) -> tuple[dict[str, list[int]], dict[tuple[str, str], int]]:
    """Count in the lake itself what the table should say."""
    days: dict[str, list[int]] = {}
    letters: dict[tuple[str, str], int] = {}
    with LocalStore(directory / ".wrm" / "s3") as server, ObjectStore(server.settings()) as store:
        lake = Lake(store, LakeKeys())
        for day in lake.raw_days():
            raw = [store.get(info.key) for info in lake.raw_listing(day)]
            rows_in = sum(len(stored.body.splitlines()) - 1 for stored in raw)
            built = lake.read_day(Layer.ENHANCED, day, ENHANCED)
            assert built is not None
            snapshots = set(built.rows.column("file_timestamp").to_pylist())
            assert snapshots == {snapshot_time(stored.info.key) for stored in raw}
            records = [record for letter in letters_of(lake, day) for record in letter.records]
            dead = sum(record.line is not None for record in records)
            kept = built.rows.num_rows
            days[day.isoformat()] = [len(raw), len(snapshots), rows_in, kept, dead, rows_in - kept - dead]
            for record in records:
                letters[day.isoformat(), record.rule] = letters.get((day.isoformat(), record.rule), 0) + 1
    return days, letters


def test_it_exits_0_shows_what_is_in_the_lake_and_can_be_repeated(tmp_path: Path) -> None:
    first = wrm(tmp_path, "run")

    assert first.returncode == 0, first.stdout + first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    days, letters = tables(first.stdout)
    total = [sum(column) for column in zip(*days.values(), strict=True)]
    assert total[:2] == [6, 6]
    assert total[2] == total[3] + total[4] + total[5]
    assert total[4] == 6 * 3
    assert sum(count for (_, rule), count in letters.items() if rule == "html") == 1
    assert "a bad day, on purpose" in first.stdout
    assert "nothing waits" in first.stdout

    second = wrm(tmp_path, "run", "--snapshots", "2")

    assert second.returncode == 0, second.stdout + second.stderr
    assert tables(second.stdout) == in_the_lake(tmp_path)
    assert sum(numbers[0] for numbers in tables(second.stdout)[0].values()) == 8


def test_status_afterwards_says_what_is_missing_in_one_sentence(tmp_path: Path) -> None:
    done = wrm(tmp_path, "status")

    assert done.returncode == 1
    assert done.stderr.startswith("wrm: S3_ENDPOINT_URL")
    assert "wrm up" in done.stderr

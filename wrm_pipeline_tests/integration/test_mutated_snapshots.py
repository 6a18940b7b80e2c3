"""Ten thousand mutated copies of the recorded snapshots: fields swapped, cut, doubled, retyped, mis-encoded.

Each is read to its end, its counts balance, each row that is set aside is named by line, rule and reason, and each row
that nobody touched is kept with the values it has in the recorded file.
"""

import datetime as dt
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pytest

from wrm_pipeline.contracts.vocabulary import VOCABULARY, Scope
from wrm_pipeline.feed.base import PayloadFault, Snapshot
from wrm_pipeline.feed.bikesharemap import HEADER
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.layers.enhanced import build_enhanced_day
from wrm_pipeline.layers.report import Provenance
from wrm_pipeline.transform.enhance import enhance
from wrm_pipeline_tests.fixtures.dagster import DAY, at, letters_of, put_raw
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS, FORMAT, Recorded, recorded

COPIES = 10_000
BATCH = 100
SEED = 20250512
FIELD_RULES = {name for name, spec in VOCABULARY.items() if spec.scope is Scope.FIELD}

_NONSENSE = [
    b"",
    b" ",
    b"NaN",
    b"-inf",
    b"-1",
    b"1e9",
    b"99999999999",
    b"true",
    b"0",
    b"\xc5\x82",
    b"3.5",
    b"x",
    b'"',
    b"|",
]


# All but CR, which before a line end is no part of the row.
_BYTES = bytes(set(range(256)) - {13})


def _swap(row: bytes, chance: random.Random) -> bytes:
    fields = row.split(b",")
    i, j = chance.sample(range(len(fields)), 2)
    fields[i], fields[j] = fields[j], fields[i]
    return b",".join(fields)


def _cut(row: bytes, chance: random.Random) -> bytes:
    return row[: chance.randrange(len(row))]


def _drop_field(row: bytes, chance: random.Random) -> bytes:
    fields = row.split(b",")
    del fields[chance.randrange(len(fields))]
    return b",".join(fields)


def _double_field(row: bytes, chance: random.Random) -> bytes:
    fields = row.split(b",")
    at_field = chance.randrange(len(fields))
    return b",".join([*fields[:at_field], fields[at_field], *fields[at_field:]])


def _double_row(row: bytes, chance: random.Random) -> bytes:
    return row + b"\n" + (row if chance.random() < 0.5 else row + b"1")


def _retype(row: bytes, chance: random.Random) -> bytes:
    fields = row.split(b",")
    fields[chance.randrange(len(fields))] = chance.choice(_NONSENSE)
    return b",".join(fields)


def _misencode(row: bytes, chance: random.Random) -> bytes:
    how = chance.randrange(4)
    if how == 0:
        return row.decode().encode("cp1250", "replace")
    if how == 1:
        return row.decode().encode("utf-16-le")
    if how == 2:
        return row.decode("latin-1").encode("utf-8")  # read as one, written as the other
    place = chance.randrange(len(row))
    return row[:place] + bytes([chance.choice(_BYTES)]) + row[place + 1 :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _swap,
    _cut,
    _drop_field,
    _double_field,
    _double_row,
    _retype,
    _misencode,
)


@dataclass(frozen=True)
class Mutant:
    """A mutated copy: its bytes, and the lines of the recorded file that were left alone."""

    origin: Recorded
    body: bytes
    untouched: tuple[bytes, ...]
    touched_ids: frozenset[bytes]


def _mutant(origin: Recorded, chance: random.Random) -> Mutant:
    rows = origin.body.removesuffix(b"\n").split(b"\n")[1:]
    hit = set(chance.sample(range(len(rows)), chance.choice([1, 2, 5, 20])))
    mutated = [chance.choice(MUTATIONS)(row, chance) if i in hit else row for i, row in enumerate(rows)]
    body = b"\n".join([HEADER, *mutated])
    return Mutant(
        origin,
        body,
        tuple(row for i, row in enumerate(rows) if i not in hit),
        frozenset(_id(line) for i in hit for line in [rows[i], *mutated[i].split(b"\n")]),
    )


def _rows(body: bytes) -> int:
    """Lines after the header; a final line end makes no further one."""
    return body.removesuffix(b"\n").count(b"\n")


def _id(row: bytes) -> bytes:
    return row.partition(b",")[0].strip(b' \t"')


@pytest.fixture(scope="module")
def originals() -> list[Recorded]:
    return [one for folder in ("ucl_wroclaw", "replay_wroclaw", "ucl_london") for one in recorded(folder)]


@pytest.fixture(scope="module")
def clean(originals: list[Recorded]) -> dict[str, dict[str, int]]:
    """The rows of each recorded file by id, as they are read when nobody touches them."""
    found = {}
    for one in originals:
        rows = FORMAT.parse([Snapshot("raw/a.txt", one.time, one.body)]).rows
        found[one.name] = dict(zip(rows.column("station_id").to_pylist(), _digests(rows), strict=True))
    return found


def _digests(rows: pa.Table) -> list[int]:
    """One number a row over all its values, but for the file it came from."""
    columns = {
        name: (column.cast(pa.int64()) if name == "timestamp" else column).cast(pa.string()).fill_null("null")
        for name, column in zip(rows.column_names, rows.columns, strict=True)
        if name not in {"s3_source_key", "file_timestamp"}
    }
    values = pa.table(columns).to_pandas()
    digests: list[int] = pd.util.hash_pandas_object(values, index=False).tolist()
    return digests


def test_ten_thousand_mutants_finish_balance_and_keep_what_was_left_alone(
    originals: list[Recorded], clean: dict[str, dict[str, int]]
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a seed, not a secret
    broken: set[str] = set()
    for batch in range(COPIES // BATCH):
        mutants = {f"raw/{batch}-{i}.txt": _mutant(chance.choice(originals), chance) for i in range(BATCH)}
        parsed = FORMAT.parse([Snapshot(key, mutant.origin.time, mutant.body) for key, mutant in mutants.items()])
        assert not parsed.faults
        assert [tally.source_key for tally in parsed.tallies] == list(mutants)
        for tally in parsed.tallies:
            assert tally.rows == _rows(mutants[tally.source_key].body), tally
            assert tally.rows == tally.kept + tally.dead + tally.duplicates, tally
        for reject in parsed.rejects:
            lines = mutants[reject.source_key].body.split(b"\n")
            assert reject.row == lines[reject.line - 1]
            assert reject.rule in FIELD_RULES
            assert reject.message
            broken.add(reject.rule)
        _untouched_rows_are_kept(parsed.rows, mutants, clean)
        enhanced = enhance(parsed.rows, DAY, CONTRACTS.enhanced)
        assert enhanced.rows.num_rows == parsed.rows.num_rows == sum(tally.kept for tally in parsed.tallies)
    # The mutations reach nearly every rule there is for a row's text: a truncated_row needs the last line cut.
    assert broken >= FIELD_RULES - {"out_of_range"}


def _untouched_rows_are_kept(rows: pa.Table, mutants: dict[str, Mutant], clean: dict[str, dict[str, int]]) -> None:
    kept: dict[str, dict[str, int]] = {key: {} for key in mutants}
    columns = (rows.column("s3_source_key").to_pylist(), rows.column("station_id").to_pylist(), _digests(rows))
    for key, station_id, digest in zip(*columns, strict=True):
        kept[key][station_id] = digest
    for key, mutant in mutants.items():
        recorded_rows = clean[mutant.origin.name]
        for line in mutant.untouched:
            station_id = _id(line).decode()
            if _id(line) not in mutant.touched_ids:
                assert kept[key][station_id] == recorded_rows[station_id]


def test_a_day_of_mutants_is_built_with_a_dead_letter_for_each_row_set_aside(
    lake: Lake, originals: list[Recorded]
) -> None:
    chance = random.Random(SEED + 1)  # noqa: S311 - a seed, not a secret
    bodies = {}
    for number in range(96):
        time = at(0) + dt.timedelta(minutes=15 * number)
        mutant = _mutant(chance.choice(originals), chance)
        bodies[put_raw(lake, time, mutant.body).key] = mutant.body
    built = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, Provenance(run_id="r", asset="a"))
    manifest = built.manifest
    assert manifest.total("rows") == sum(_rows(body) for body in bodies.values())
    assert manifest.total("rows") == sum(manifest.total(part) for part in ("kept", "dead", "duplicates"))
    letters = letters_of(lake, DAY)
    assert sum(len(letter.records) for letter in letters) == manifest.total("dead") > 0
    for letter in letters:
        lines = bodies[letter.source_key].split(b"\n")
        for record in letter.records:
            assert record.line is not None
            assert record.rule in FIELD_RULES
            assert record.message
            if record.row is not None:
                assert record.row.encode() == lines[record.line - 1]
            else:
                assert record.row_base64 is not None
        assert json.loads(letter.model_dump_json())["code_version"] == letter.code_version


def test_a_snapshot_of_bad_rows_alone_is_set_aside_row_by_row(lake: Lake) -> None:
    put_raw(lake, at(8), b"\n".join([HEADER, b"x", b"y,z", b"15001"]))
    built = build_enhanced_day(lake, FORMAT, CONTRACTS.enhanced, DAY, Provenance(run_id="r", asset="a"))
    assert (built.rows.num_rows, built.manifest.total("rows"), built.manifest.total("dead")) == (0, 3, 3)
    (letter,) = letters_of(lake, DAY)
    assert [record.line for record in letter.records] == [2, 3, 4]
    assert PayloadFault.EMPTY not in {record.rule for record in letter.records}

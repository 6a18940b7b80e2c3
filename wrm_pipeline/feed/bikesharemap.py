"""The BikeShareMap format: UTF-8 CSV, one record a line, two values packed into columns 2 and 12.

A record is a line, so a broken quote spoils its own row and no other. Lines go down one of two lanes: plain ones (no
quote but around the name, thirteen fields) are parsed by Arrow a whole day at a time; the rest, and whatever the plain
lane does not accept, go one by one through `parse_line`, which is the reference. A property test holds the two lanes to
the same answer.

Arrow was chosen by measurement, on 288 snapshots of 748 rows: 0.05 s for Arrow's CSV reader with dictionary columns
against 0.5 s for the csv module alone.
"""

import csv
import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from wrm_pipeline.contracts.model import Column, Contract
from wrm_pipeline.feed.base import Fault, Parsed, PayloadFault, Reject, Snapshot, Tally
from wrm_pipeline.feed.values import (
    Problem,
    TimeBounds,
    parse_count,
    parse_degrees,
    parse_flag,
    parse_id,
    parse_packed_time,
    parse_text,
)
from wrm_pipeline.transform.classify import split_overloaded
from wrm_pipeline.transform.names import normalise_name
from wrm_pipeline.transform.schema import PROCESSED

HEADER: Final = (
    b"#id,timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec,name,lat,lon,bikes,spaces,installed,locked,temporary,"
    b"total_docks,givesbonus_acceptspedelecs_fbbattlevel,pedelecs"
)
FIELDS: Final = 13
_BOM: Final = b"\xef\xbb\xbf"
_FIRST_ROW_LINE: Final = 2
# A tab is a blank; every other control character in a row is damage.
_CONTROL: Final = bytes(b for b in range(32) if b not in b"\t\n") + b"\x7f"

# The columns that come straight from one field: position, column name, how its text becomes a value within the bounds
# that the contract gives the column.
_SIMPLE: Final[tuple[tuple[int, str, Callable[[str, Column], Any]], ...]] = (
    (0, "station_id", parse_id),
    (2, "name", lambda text, column: parse_text(normalise_name(text), column)),
    (3, "lat", parse_degrees),
    (4, "lon", parse_degrees),
    (5, "bikes", parse_count),
    (6, "spaces", parse_count),
    (7, "installed", lambda text, _: parse_flag(text)),
    (8, "locked", lambda text, _: parse_flag(text)),
    (9, "temporary", lambda text, _: parse_flag(text)),
    (10, "total_docks", parse_count),
    (11, "givesbonus_acceptspedelecs_fbbattlevel", parse_text),
    (12, "pedelecs", parse_count),
)
_TIME_COLUMNS: Final = ("timestamp", "gmt_local_diff_sec", "gmt_servertime_diff_sec")
_ROW_COLUMNS: Final = (*_TIME_COLUMNS, *(name for _, name, _ in _SIMPLE))
_ROW_SCHEMA: Final = pa.schema([PROCESSED.field(name) for name in _ROW_COLUMNS])

# A quoted name and nothing else quoted: 2 % of Wrocław's rows, all of London's. Its commas become a control character,
# which no line in the plain lane can hold otherwise.
_QUOTED_NAME: Final = re.compile(rb'([^",]*,[^",]*,)"([^"]*)"((?:,[^",]*){10})')
_COMMA_IN_NAME: Final = "\x1f"
# The csv module, and so the reference, refuses quoted fields longer than this many characters.
_CSV_FIELD_LIMIT: Final = 131_072

# A subset of what parse_packed_time accepts, within which a double holds microseconds exactly (below 2**32 seconds).
_PLAIN_TIME: Final = r"^(?P<epoch>[0-9]{9,10}(?:\.[0-9]{1,6})?)\|(?P<local>-?[0-9]{1,5})\|(?P<server>-?[0-9]{1,5})$"


def _fields(line: bytes) -> list[str] | Problem:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Problem("bad_encoding", f"byte {error.start + 1} of the row is not UTF-8")
    if len(line.translate(None, _CONTROL)) != len(line):
        return Problem("control_character", "the row holds a control character")
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        return Problem("bad_quoting", f"the quoted fields of the row cannot be read: {error}")


class BikeShareMap:
    """The format of gladys.geog.ucl.ac.uk, as a `FeedFormat`; what a value may be is in the contract of processed."""

    name = "bikesharemap"

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.fields: tuple[tuple[int, str, Callable[[str], Any]], ...] = tuple(
            (position, name, partial(_parse_field, parse, contract.column(name))) for position, name, parse in _SIMPLE
        )
        self.time_bounds = TimeBounds.of(*(contract.column(name) for name in _TIME_COLUMNS))

    def parse_line(self, line: bytes) -> dict[str, Any] | Problem:
        """Parse one row; the reference for what a row means. Keys are the columns of processed that a row carries."""
        fields = _fields(line)
        if isinstance(fields, Problem):
            return fields
        if len(fields) != FIELDS:
            rule = "too_few_fields" if len(fields) < FIELDS else "too_many_fields"
            return Problem(rule, f"{len(fields)} field{'s' if len(fields) > 1 else ''} instead of {FIELDS}")
        values: dict[str, Any] = {}
        for position, name, parse in self.fields:
            value = parse(fields[position])
            if isinstance(value, Problem):
                return Problem(value.rule, f"{name}: {value.message}")
            values[name] = value
        if values["lat"] == 0 and values["lon"] == 0:
            return Problem("bad_coordinates", "lat and lon: 0/0 is no place in the city but a missing position")
        packed = parse_packed_time(fields[1], self.time_bounds)
        if isinstance(packed, Problem):
            return packed
        values.update(zip(_TIME_COLUMNS, packed, strict=True))
        return values

    def inspect(self, body: bytes) -> Fault | None:
        """Judge bytes just fetched: None when they are a snapshot; a last row cut short is a fault here."""
        fault = _whole_file_fault(body)
        if fault is None and not body.endswith(b"\n") and _is_cut_short(last := _lines(body)[-1]):
            return Fault(PayloadFault.CUT_OFF, f"the transfer was cut off in the last row, {_shown(last)}")
        return fault

    def parse(self, snapshots: Iterable[Snapshot]) -> Parsed:
        """Parse stored snapshots. Never raises for what the bytes hold; a last row cut short is one reject."""
        return _Parse(self, snapshots).result()

    def locate(self, body: bytes, ids: Collection[str]) -> dict[str, tuple[int, bytes]]:
        """Return the 1-based line, and the row as received, of each id's kept row: its first good one."""
        found: dict[str, tuple[int, bytes]] = {}
        wanted = {station_id.encode() for station_id in ids}
        for number, line in enumerate(_lines(body), _FIRST_ROW_LINE):
            start = line.partition(b",")[0]
            if start.isalnum() and start not in wanted:
                continue  # letters and digits are an id as they stand; reading each row takes 4 ms, not 0.1
            values = self.parse_line(line)
            if isinstance(values, dict) and values["station_id"] in ids:
                found.setdefault(values["station_id"], (number, line))
        return found


def _parse_field(parse: Callable[[str, Column], Any], column: Column, text: str) -> Any:
    return parse(text, column)


def _shown(data: bytes) -> str:
    return repr(data[:80].decode("utf-8", "replace") + ("…" if len(data) > 80 else ""))


def _without_bom(body: bytes) -> bytes:
    return body.removeprefix(_BOM)


def _whole_file_fault(body: bytes) -> Fault | None:
    head, newline, rest = _without_bom(body).partition(b"\n")
    if head.strip() == HEADER:
        if newline and rest.strip():
            return None
        return Fault(PayloadFault.HEADER_ONLY, "the header came without a single row")
    start = body.lstrip(_BOM + b" \t\r\n")
    if not start:
        return Fault(PayloadFault.EMPTY, f"{len(body)} bytes came and none of them is text")
    if start.startswith(b"<"):
        return Fault(PayloadFault.HTML, f"a web page came instead of the feed, beginning {_shown(start)}")
    return Fault(PayloadFault.WRONG_HEADER, f"the first line is {_shown(head.strip())}, not the header of the format")


def _lines(body: bytes) -> list[bytes]:
    """The rows of a payload without their line ends; a final line end makes no further row."""
    rows = _without_bom(body).partition(b"\n")[2]
    if b"\r" in rows:
        rows = rows.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return rows.removesuffix(b"\n").split(b"\n")


def _is_cut_short(line: bytes) -> bool:
    """Tell whether a row ends before its last field has begun: in a field, a quoted name or a character."""
    fields = _fields(line)
    if isinstance(fields, Problem):
        return line.count(b",") < FIELDS - 1
    return len(fields) < FIELDS or (len(fields) == FIELDS and not fields[-1].strip())


class _Parse:
    """One call of `parse`: lines of all snapshots in one list, addressed by their position in it.

    Snapshots are taken one by one, so that those to come can be on their way meanwhile.
    """

    def __init__(self, feed_format: BikeShareMap, snapshots: Iterable[Snapshot]) -> None:
        self.format = feed_format
        self.keys: list[str] = []
        self.times: list[dt.datetime] = []
        self.faults: dict[str, Fault] = {}
        self.lines: list[bytes] = []
        starts = [0]
        self.unterminated: set[int] = set()
        self.duplicates: list[int] = []
        self.problems: dict[int, Problem] = {}
        self.plain: list[int] = []
        self.plain_lines: list[bytes] = []  # as the plain lane takes them: names without their quotes
        self.careful: list[int] = []
        for snapshot in snapshots:
            self.keys.append(snapshot.key)
            self.times.append(snapshot.time)
            self._sort_into_lanes(snapshot)
            starts.append(len(self.lines))
        self.starts = np.array(starts, dtype=np.int64)

    def _sort_into_lanes(self, snapshot: Snapshot) -> None:
        fault = _whole_file_fault(snapshot.body)
        if fault is not None:
            self.faults[snapshot.key] = fault
            return
        lines, start = _lines(snapshot.body), len(self.lines)
        self.lines += lines
        if not snapshot.body.endswith(b"\n"):
            self.unterminated.add(len(self.lines) - 1)
        careful = _damaged(snapshot.body, lines)
        repeated: set[int] = set()
        if len(set(lines)) != len(lines):
            seen: set[bytes] = set()
            for i, line in enumerate(lines):
                if line in seen:
                    repeated.add(i)
                seen.add(line)
        plain_lines = lines.copy()
        for i in [i for i, line in enumerate(lines) if b'"' in line]:
            name = _QUOTED_NAME.fullmatch(lines[i])
            if name is None or len(lines[i]) > _CSV_FIELD_LIMIT:
                careful.add(i)
            else:
                plain_lines[i] = b"%b%b%b" % (name[1], name[2].replace(b",", _COMMA_IN_NAME.encode()), name[3])
        self.duplicates += (start + i for i in sorted(repeated))
        self.careful += (start + i for i in sorted(careful - repeated))
        if careful or repeated:
            plain = [i for i in range(len(lines)) if i not in careful and i not in repeated]
            self.plain += (start + i for i in plain)
            self.plain_lines += (plain_lines[i] for i in plain)
        else:
            self.plain += range(start, start + len(lines))
            self.plain_lines += plain_lines

    def result(self) -> Parsed:
        positions, rows = self._plain_lane()
        careful_positions, careful_rows = self._careful_lane()
        table = pa.concat_tables([rows, careful_rows])
        order = np.concatenate([positions, careful_positions])
        if careful_positions.size:
            ranking = np.argsort(order, kind="stable")
            order, table = order[ranking], table.take(pa.array(ranking))
        order, table = self._first_of_each_id(order, table.combine_chunks())
        rows = self._complete(order, table)
        return Parsed(rows=rows, rejects=self._rejects(), tallies=self._tallies(order), faults=self.faults)

    def _plain_lane(self) -> tuple[np.ndarray, pa.Table]:
        positions = np.array(self.plain, dtype=np.int64)
        if not self.plain:
            return positions, _ROW_SCHEMA.empty_table()
        lines = self.plain_lines
        try:
            table = _split(lines)
        except pa.ArrowInvalid:  # some row has another number of fields; counting only then saves a tenth of the parse
            full = np.array([line.count(b",") == FIELDS - 1 for line in lines], dtype=bool)
            self.careful = sorted(self.careful + positions[~full].tolist())
            positions = positions[full]
            if not positions.size:
                return positions, _ROW_SCHEMA.empty_table()
            table = _split([line for line, keep in zip(lines, full.tolist(), strict=True) if keep])
        columns, good = self._convert(table)
        if not good.all():
            self.careful = sorted(self.careful + positions[~good].tolist())
            positions = positions[good]
            columns = {name: column.filter(pa.array(good)) for name, column in columns.items()}
        return positions, pa.table([columns[name] for name in _ROW_COLUMNS], schema=_ROW_SCHEMA)

    def _convert(self, table: pa.Table) -> tuple[dict[str, pa.Array], np.ndarray]:
        """Turn fields into values; the mask tells which rows are good."""
        good = np.ones(table.num_rows, dtype=bool)
        columns: dict[str, pa.Array] = {}
        for position, name, parse in self.format.fields:
            encoded = _only_chunk(table.column(position))
            texts = encoded.dictionary.to_pylist()
            values = [parse(text.replace(_COMMA_IN_NAME, ",") if name == "name" else text) for text in texts]
            rejected = np.array([isinstance(value, Problem) for value in values], dtype=bool)
            indices = encoded.indices
            if rejected.any():
                good &= ~rejected[indices.to_numpy()]
                filler = next((v for v in values if not isinstance(v, Problem)), None)
                values = [filler if isinstance(v, Problem) else v for v in values]
            columns[name] = pa.array(values, type=_ROW_SCHEMA.field(name).type).take(indices)
        good &= _times(_only_chunk(table.column(1)), columns, self.format.time_bounds)
        nowhere = (columns["lat"].fill_null(0).to_numpy() == 0) & (columns["lon"].fill_null(0).to_numpy() == 0)
        return columns, good & ~nowhere

    def _careful_lane(self) -> tuple[np.ndarray, pa.Table]:
        positions, rows = [], []
        for position in self.careful:
            parsed = self.format.parse_line(self.lines[position])
            if isinstance(parsed, dict):
                positions.append(position)
                rows.append(parsed)
            elif position in self.unterminated and _is_cut_short(self.lines[position]):
                self.problems[position] = Problem("truncated_row", f"the last row is cut short: {parsed.message}")
            else:
                self.problems[position] = parsed
        return np.array(positions, dtype=np.int64), pa.Table.from_pylist(rows, schema=_ROW_SCHEMA)

    def _first_of_each_id(self, order: np.ndarray, table: pa.Table) -> tuple[np.ndarray, pa.Table]:
        """Keep the first good row of an id in a snapshot; a second one has other values and is set aside."""
        if not table.num_rows:
            return order, table
        ids = _only_chunk(table.column("station_id")).dictionary_encode()
        pairs = self._snapshot_of(order) * len(ids.dictionary) + ids.indices.to_numpy()
        if pc.count_distinct(pa.array(pairs)).as_py() == len(order):
            return order, table
        firsts = np.unique(pairs, return_index=True)[1]
        keep = np.zeros(len(order), dtype=bool)
        keep[firsts] = True
        first_line = dict(zip(pairs[keep].tolist(), self._line_numbers(order[keep]).tolist(), strict=True))
        for index in np.flatnonzero(~keep).tolist():
            station_id, earlier = ids[index].as_py(), first_line[int(pairs[index])]
            message = f"id {station_id!r} stands in line {earlier} already, with other values"
            self.problems[int(order[index])] = Problem("conflicting_id", message)
        return order[keep], table.filter(pa.array(keep)).combine_chunks()

    def _complete(self, order: np.ndarray, table: pa.Table) -> pa.Table:
        """Add the columns that do not come from one field, in the order of the schema."""
        index = pa.array(self._snapshot_of(order).astype(np.int32))
        columns = {name: _only_chunk(table.column(name)) for name in _ROW_COLUMNS}
        columns["gives_bonus"], columns["battery_level"] = split_overloaded(
            columns["givesbonus_acceptspedelecs_fbbattlevel"],
            columns["station_id"],
            columns["name"],
            self.format.contract.column("battery_level"),
        )
        keys = pa.array(self.keys, type=pa.string())
        times = pa.array(self.times, type=PROCESSED.field("file_timestamp").type)
        columns["s3_source_key"], columns["file_timestamp"] = keys.take(index), times.take(index)
        return pa.table([columns[name] for name in PROCESSED.names], schema=PROCESSED)

    def _snapshot_of(self, positions: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.searchsorted(self.starts, positions, side="right") - 1
        return found

    def _line_numbers(self, positions: np.ndarray) -> np.ndarray:
        lines: np.ndarray = positions - self.starts[self._snapshot_of(positions)] + _FIRST_ROW_LINE
        return lines

    def _rejects(self) -> tuple[Reject, ...]:
        positions = np.array(sorted(self.problems), dtype=np.int64)
        located = zip(
            positions.tolist(),
            self._snapshot_of(positions).tolist(),
            self._line_numbers(positions).tolist(),
            strict=True,
        )
        return tuple(
            Reject(
                source_key=self.keys[snapshot],
                line=line,
                row=self.lines[position],
                rule=self.problems[position].rule,
                message=self.problems[position].message,
            )
            for position, snapshot, line in located
        )

    def _tallies(self, kept: np.ndarray) -> tuple[Tally, ...]:
        def per_snapshot(positions: Iterable[int] | np.ndarray) -> list[int]:
            found = self._snapshot_of(np.fromiter(positions, dtype=np.int64))
            counts: list[int] = np.bincount(found, minlength=len(self.keys)).tolist()
            return counts

        columns = zip(
            self.keys,
            np.diff(self.starts).tolist(),
            per_snapshot(kept),
            per_snapshot(self.problems),
            per_snapshot(self.duplicates),
            strict=True,
        )
        return tuple(Tally(key, *counts) for key, *counts in columns)


def _damaged(body: bytes, lines: list[bytes]) -> set[int]:
    """Lines that hold control characters or are not UTF-8; looked for only in a payload that has any."""
    damaged: set[int] = set()
    stripped = body.replace(b"\r\n", b"\n") if b"\r" in body else body
    if len(stripped.translate(None, _CONTROL)) != len(stripped):
        damaged |= {i for i, line in enumerate(lines) if len(line.translate(None, _CONTROL)) != len(line)}
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        damaged |= {i for i, line in enumerate(lines) if isinstance(_fields(line), Problem)}
    return damaged


def _split(lines: list[bytes]) -> pa.Table:
    """Split lines without quotes into fields.

    Raises:
        pyarrow.ArrowInvalid: a line has another number of fields.
    """
    # Arrow takes a BOM off the first line and does not see a last line that is empty: neither may be a row.
    body = b"\n".join([b"", *lines, b""])
    names = [str(i) for i in range(FIELDS)]
    by_value = pa.dictionary(pa.int32(), pa.string())
    return pacsv.read_csv(
        pa.py_buffer(body),
        # A line must fit a block; the longest possible one is the whole body.
        read_options=pacsv.ReadOptions(
            column_names=names, skip_rows=1, block_size=max(4 << 20, max(map(len, lines)) + 2)
        ),
        parse_options=pacsv.ParseOptions(quote_char=False, ignore_empty_lines=False),
        convert_options=pacsv.ConvertOptions(
            # The packed times are nearly all different; everything else repeats.
            column_types={name: pa.string() if name == "1" else by_value for name in names},
            null_values=[],
            strings_can_be_null=False,
        ),
    ).combine_chunks()


def _times(packed: pa.Array, columns: dict[str, pa.Array], bounds: TimeBounds) -> np.ndarray:
    """Fill the three time columns; the mask tells which rows have a plain packed time within the bounds."""
    parts = pc.extract_regex(packed, _PLAIN_TIME)
    good: np.ndarray = parts.is_valid().to_numpy(zero_copy_only=False)
    seconds = pc.cast(pc.struct_field(parts, "epoch"), pa.float64()).fill_null(0.0).to_numpy()
    time_us = np.rint(seconds * 1e6).astype(np.int64)
    columns["timestamp"] = pa.array(time_us).cast(_ROW_SCHEMA.field("timestamp").type)
    good = good & _between(time_us, bounds.time_us)
    for name, part, limits in (
        ("gmt_local_diff_sec", "local", bounds.local_s),
        ("gmt_servertime_diff_sec", "server", bounds.server_s),
    ):
        columns[name] = pc.cast(pc.struct_field(parts, part), pa.int32())
        good &= _between(columns[name].fill_null(0).to_numpy(), limits)
    return good


def _between(values: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    inside: np.ndarray = (values >= limits[0]) & (values <= limits[1])
    return inside


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)

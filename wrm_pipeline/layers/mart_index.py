"""The index of the marts: what every object of theirs was made from. It is written last, and so is their commit."""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import CorruptObject, ObjectNotFound
from wrm_pipeline.marts.catalogue import catalogue


@dataclass(frozen=True)
class Stored:
    """An object of a table: the store's ETag, the sha256 of its bytes, its rows and bytes."""

    etag: str
    sha256: str
    rows: int
    size: int


@dataclass(frozen=True)
class IndexedDay:
    """A UTC day: what it was made from, what it hands on, and its objects by table.

    `enhanced` is the ETag of its rows, `given` and `states` are digests of the states before and after it,
    `newest_snapshot_at` is UTC, None for a day without snapshots.
    """

    enhanced: str
    given: str
    is_newest: bool
    states: str
    newest_snapshot_at: dt.datetime | None
    objects: Mapping[str, Stored]


@dataclass
class MartIndex:
    """All objects of the marts: by UTC day, by local date, and those of whole tables.

    `code` is what made the days, `tables_code` what made the whole tables.
    """

    code: str
    tables_code: str = ""
    days: dict[dt.date, IndexedDay] = field(default_factory=dict)
    local_days: dict[dt.date, dict[str, Stored]] = field(default_factory=dict)
    tables: dict[str, Stored] = field(default_factory=dict)

    def objects(self, keys: LakeKeys) -> dict[str, Stored]:
        """Return every object by its key."""
        marts = catalogue()
        found = {
            keys.mart_day(name, day, published=marts[name].published): stored
            for day, entry in self.days.items()
            for name, stored in entry.objects.items()
        }
        for local_date, objects in self.local_days.items():
            found |= {keys.mart_local_day(name, local_date): stored for name, stored in objects.items()}
        return found | {keys.mart(name): stored for name, stored in self.tables.items()}

    def of_table(self, name: str) -> list[Stored]:
        """Return the objects of a table in the order of days."""
        days = (entry.objects for _, entry in sorted(self.days.items()))
        local_days = (objects for _, objects in sorted(self.local_days.items()))
        return [found[name] for found in (*days, *local_days, self.tables) if name in found]

    @property
    def newest_snapshot_at(self) -> dt.datetime | None:
        """The time of the newest snapshot, UTC; None when there is none."""
        times = (entry.newest_snapshot_at for entry in self.days.values())
        return max((time for time in times if time is not None), default=None)

    def as_json(self) -> bytes:
        """Return the index as JSON: the same objects always give the same bytes."""
        document = {
            "code": self.code,
            "tables_code": self.tables_code,
            "days": {day.isoformat(): _plain(entry) for day, entry in sorted(self.days.items())},
            "local_days": {day.isoformat(): _plain_objects(found) for day, found in sorted(self.local_days.items())},
            "tables": _plain_objects(self.tables),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read an index.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        document = json.loads(body)
        date = dt.date.fromisoformat
        return cls(
            document["code"],
            document["tables_code"],
            {date(day): _indexed(entry) for day, entry in document["days"].items()},
            {date(day): _objects(found) for day, found in document["local_days"].items()},
            _objects(document["tables"]),
        )

    @property
    def digest(self) -> str:
        """The sha256 of the whole index: the version of all tables together."""
        return hashlib.sha256(self.as_json()).hexdigest()


def read_index(lake: Lake, code: str) -> MartIndex:
    """Read the index. One of other code, and a damaged one, count as none: all is made again."""
    try:
        index = MartIndex.from_json(lake.store.get_again(lake.keys.mart_index).body)
    except (ObjectNotFound, CorruptObject, ValueError, KeyError, TypeError):
        return MartIndex(code)
    return index if index.code == code else MartIndex(code)


def write_index(lake: Lake, index: MartIndex) -> None:
    """Write the index, with one PUT."""
    lake.store.put(lake.keys.mart_index, index.as_json(), content_type="application/json", read_again_by="key")


def _plain(entry: IndexedDay) -> dict[str, Any]:
    at = entry.newest_snapshot_at
    return vars(entry) | {"newest_snapshot_at": at and at.isoformat(), "objects": _plain_objects(entry.objects)}


def _plain_objects(objects: Mapping[str, Stored]) -> dict[str, Any]:
    return {name: vars(stored) for name, stored in sorted(objects.items())}


def _indexed(entry: Mapping[str, Any]) -> IndexedDay:
    at = entry["newest_snapshot_at"]
    return IndexedDay(
        **{
            **entry,
            "newest_snapshot_at": None if at is None else dt.datetime.fromisoformat(at),
            "objects": _objects(entry["objects"]),
        }
    )


def _objects(objects: Mapping[str, Any]) -> dict[str, Stored]:
    return {name: Stored(**stored) for name, stored in objects.items()}

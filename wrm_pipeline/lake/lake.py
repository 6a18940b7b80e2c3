"""The lake as a whole: listings of raw, and days of a layer. A listing is bounded by the prefix of a day."""

import datetime as dt
import logging
from dataclasses import dataclass

import pyarrow as pa

from wrm_pipeline.lake.day_object import Manifest, UnreadableDayError, decode, encode, object_metadata
from wrm_pipeline.lake.keys import LakeKeys, Layer, day_of
from wrm_pipeline.lake.object_store import CorruptObject, ObjectInfo, ObjectNotFound, ObjectStore, StoredObject

_log = logging.getLogger(__name__)
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class StoredDay:
    """A day of a layer as it lies in the lake."""

    rows: pa.Table
    manifest: Manifest
    info: ObjectInfo


@dataclass(frozen=True)
class Lake:
    """A store and the keys in it."""

    store: ObjectStore
    keys: LakeKeys

    def raw_listing(self, day: dt.date) -> list[ObjectInfo]:
        """Return the raw objects of a day in the order of their keys, which is the order of time."""
        listing = self.store.list(self.keys.raw_day(day))
        # Some tools leave an empty object for the folder itself.
        return sorted((info for info in listing if not info.key.endswith("/")), key=lambda info: info.key)

    def raw_days(self) -> list[dt.date]:
        """Return the days that raw holds, in order; one page of the listing covers 1,000 days."""
        found = (day_of(folder) for folder in self.store.list_folders(self.keys.raw_root))
        return sorted(day for day in found if day is not None)

    def newest_raw(self, today: dt.date) -> ObjectInfo | None:
        """Return the newest raw object; `today` is where the search starts, since that is where it mostly ends."""
        for day in (today, today - dt.timedelta(days=1)):
            if listing := self.raw_listing(day):
                return listing[-1]
        for day in reversed(self.raw_days()):
            if listing := self.raw_listing(day):  # a day can have a folder and nothing in it
                return listing[-1]
        return None

    def read_day(self, layer: Layer, day: dt.date, schema: pa.Schema) -> StoredDay | None:
        """Read a day of a layer; None when there is none, or when it is damaged and must be built anew."""
        key = self.keys.layer_object(layer, day)
        try:
            stored = self.store.get_again(key)
            rows, manifest = decode(stored.body, schema)
        except ObjectNotFound:
            return None
        except (CorruptObject, UnreadableDayError) as error:
            _log.warning("%s is damaged and will be built anew from raw: %s", key, error)
            return None
        return StoredDay(rows, manifest, stored.info)

    def write_day(self, rows: pa.Table, manifest: Manifest) -> ObjectInfo:
        """Write a day of a layer with one PUT, which is the commit."""
        return self.put_day(encode(rows, manifest), manifest)

    def put_day(self, body: bytes, manifest: Manifest) -> ObjectInfo:
        """Write the encoded bytes of a day."""
        key = self.keys.layer_object(manifest.layer, manifest.day)
        return self.store.put(key, body, content_type=PARQUET, metadata=object_metadata(manifest), read_again_by="key")

    def legacy_objects(self, layer: Layer, day: dt.date) -> list[StoredObject]:
        """Read the objects that older deployments left for a day, in the order of their keys."""
        listing = self.store.list(self.keys.layer_day(layer, day))
        return [self.store.get(info.key) for info in listing if self.keys.is_legacy(layer, info.key)]

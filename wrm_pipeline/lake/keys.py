"""Every key pattern of the lake, and nothing else.

    raw/dt=YYYY-MM-DD/wrm_stations_YYYY-MM-DD_HH-MM-SS.txt
    processed/all/dt=YYYY-MM-DD/all_processed.parquet
    enhanced/all/dt=YYYY-MM-DD/all_enhanced.parquet
    dlq/dt=YYYY-MM-DD/{uuid}.json
    dlq/dt=YYYY-MM-DD/payload-{sha256}.bin
    dlq/audit/dt=YYYY-MM-DD/{uuid}-{attempt}.json
    dlq/alerts/dt=YYYY-MM-DD/{uuid}.json
    dlq/redrive/YYYY-MM-DD.json, settled.json
    anomalies/dt=YYYY-MM-DD/anomalies.parquet
    profiles/dt=YYYY-MM-DD/profile.json, profile.html
    marts/{table}/dt=YYYY-MM-DD/{table}.parquet
    marts/{table}/date=YYYY-MM-DD/{table}.parquet
    marts/{table}/{table}.parquet
    state/{table}/dt=YYYY-MM-DD/{table}.parquet, state/index.json
    site/...
    lineage/dt=YYYY-MM-DD/{run_id}.json
    doctor/probe-{token}

All dates and times are UTC, but for `date=`, which is of the city's clock. Older deployments put a timestamp into the
names of processed and enhanced (`all_processed_20250512_181000.parquet`); those are recognised here so that they can be
read and cleaned up.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

_RAW_NAME = re.compile(r"wrm_stations_(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})\.txt")
_RAW_TIME = "%Y-%m-%d_%H-%M-%S"
_DAY_FOLDER = re.compile(r"dt=(\d{4}-\d{2}-\d{2})/")


class Layer(StrEnum):
    """A layer whose days are one Parquet object each."""

    PROCESSED = "processed"
    ENHANCED = "enhanced"


@dataclass(frozen=True)
class LakeKeys:
    """The keys of one lake; `prefix` is empty or ends with a slash."""

    prefix: str = "bike-data/gen_info/"

    @property
    def raw_root(self) -> str:
        """The prefix of all raw objects."""
        return f"{self.prefix}raw/"

    def raw_day(self, day: date) -> str:
        """The prefix of one day's raw objects."""
        return f"{self.raw_root}dt={day.isoformat()}/"

    def raw(self, fetched_at: datetime) -> str:
        """The key of the snapshot fetched at an aware time; seconds are kept, fractions dropped."""
        utc = fetched_at.astimezone(UTC)
        return f"{self.raw_day(utc.date())}wrm_stations_{utc.strftime(_RAW_TIME)}.txt"

    def layer_day(self, layer: Layer, day: date) -> str:
        """The prefix of one day of a layer: the fixed key and any older ones."""
        return f"{self.prefix}{layer}/all/dt={day.isoformat()}/"

    def layer_object(self, layer: Layer, day: date) -> str:
        """The one fixed key of a day of a layer."""
        return f"{self.layer_day(layer, day)}all_{layer}.parquet"

    def layer_root(self, layer: Layer) -> str:
        """The prefix of all days of a layer."""
        return f"{self.prefix}{layer}/all/"

    def is_legacy(self, layer: Layer, key: str) -> bool:
        """Tell whether a key is one that older deployments wrote, with a timestamp in its name."""
        name = key.rpartition("/")[2]
        return re.fullmatch(rf"all_{layer}_\d{{8}}_\d{{6}}\.parquet", name) is not None

    @property
    def dead_letter_root(self) -> str:
        """The prefix of all dead letters."""
        return f"{self.prefix}dlq/"

    def dead_letter_day(self, day: date) -> str:
        """The prefix of one day's dead letters."""
        return f"{self.dead_letter_root}dt={day.isoformat()}/"

    def dead_letter(self, day: date, letter_id: str) -> str:
        """The key of one dead letter."""
        return f"{self.dead_letter_day(day)}{letter_id}.json"

    def is_dead_letter(self, key: str) -> bool:
        """Tell a dead letter from the payloads that lie beside it."""
        return key.endswith(".json")

    def dead_payload(self, day: date, sha256: str) -> str:
        """The key of bytes that were fetched, are no snapshot, and are kept beside their dead letter."""
        return f"{self.dead_letter_day(day)}payload-{sha256}.bin"

    def redrive_audit_day(self, day: date) -> str:
        """The prefix of what was recorded about redrives of one day's dead letters."""
        return f"{self.dead_letter_root}audit/dt={day.isoformat()}/"

    def redrive_audit(self, day: date, letter_id: str, number: int) -> str:
        """The key of the record of one attempt, counted from 1, to bring a dead letter back."""
        return f"{self.redrive_audit_day(day)}{letter_id}-{number:03d}.json"

    def dead_letter_alert_day(self, day: date) -> str:
        """The prefix of one day's alerts."""
        return f"{self.dead_letter_root}alerts/dt={day.isoformat()}/"

    def dead_letter_alert(self, day: date, letter_id: str) -> str:
        """The key of the alert about a dead letter that was given up on."""
        return f"{self.dead_letter_alert_day(day)}{letter_id}.json"

    @property
    def redrive_root(self) -> str:
        """The prefix of what redrives remember."""
        return f"{self.dead_letter_root}redrive/"

    def redrive_journal(self, day: date) -> str:
        """The key of the journal of a day's redrive; it lies there while one is at work, or was killed."""
        return f"{self.redrive_root}{day.isoformat()}.json"

    def journal_day(self, key: str) -> date | None:
        """The day of a redrive's journal; None for any other key."""
        try:
            return date.fromisoformat(key.removeprefix(self.redrive_root).removesuffix(".json"))
        except ValueError:
            return None

    @property
    def redrive_settled(self) -> str:
        """The key of the note that says in which days no dead letter waits."""
        return f"{self.redrive_root}settled.json"

    def anomalies(self, day: date) -> str:
        """The key of one day's anomalies."""
        return f"{self.prefix}anomalies/dt={day.isoformat()}/anomalies.parquet"

    @property
    def profile_root(self) -> str:
        """The prefix of all profiles."""
        return f"{self.prefix}profiles/"

    def profile(self, day: date) -> str:
        """The key of one day's profile as data."""
        return f"{self.profile_root}dt={day.isoformat()}/profile.json"

    def profile_page(self, day: date) -> str:
        """The key of one day's profile as a page."""
        return f"{self.profile_root}dt={day.isoformat()}/profile.html"

    @property
    def marts_root(self) -> str:
        """The prefix of all published tables."""
        return f"{self.prefix}marts/"

    @property
    def state_root(self) -> str:
        """The prefix of what the marts remember from day to day; it holds bike ids and is not to be published."""
        return f"{self.prefix}state/"

    @property
    def mart_index(self) -> str:
        """The key of the list of all that the marts are made of."""
        return f"{self.state_root}index.json"

    def mart_day(self, table: str, day: date, *, published: bool) -> str:
        """The key of one UTC day of a table."""
        root = self.mart_root(table) if published else f"{self.state_root}{table}/"
        return f"{root}dt={day.isoformat()}/{table}.parquet"

    def mart_local_day(self, table: str, local_date: date) -> str:
        """The key of one date, of the city's clock, of a published table."""
        return f"{self.mart_root(table)}date={local_date.isoformat()}/{table}.parquet"

    def mart(self, table: str) -> str:
        """The key of a published table that is one object."""
        return f"{self.mart_root(table)}{table}.parquet"

    def mart_root(self, table: str) -> str:
        """The prefix of a published table."""
        return f"{self.marts_root}{table}/"

    @property
    def site_root(self) -> str:
        """The prefix of the site."""
        return f"{self.prefix}site/"

    def lineage_day(self, day: date) -> str:
        """The prefix of the lineage of the runs that began on a day."""
        return f"{self.prefix}lineage/dt={day.isoformat()}/"

    def lineage(self, day: date, run_id: str) -> str:
        """The key of the lineage of one run, by the UTC day on which it began."""
        return f"{self.lineage_day(day)}{run_id}.json"

    @property
    def doctor_root(self) -> str:
        """The prefix of the objects that `wrm doctor` writes and removes."""
        return f"{self.prefix}doctor/"

    def doctor_probe(self, token: str) -> str:
        """The key of one probe of `wrm doctor`."""
        return f"{self.doctor_root}probe-{token}"


def snapshot_name(raw_key: str) -> str:
    """Return the name of a raw object without folders and ending: a snapshot is followed by it from fetch to mart."""
    return raw_key.rpartition("/")[2].removesuffix(".txt")


def snapshot_time(raw_key: str) -> datetime | None:
    """Return the UTC time in a raw key's name, or None when the name or its day folder does not fit the pattern."""
    folder, _, name = raw_key.rpartition("/")
    match = _RAW_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        time = datetime.strptime(match[1], _RAW_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if folder.endswith(f"dt={time.date().isoformat()}") else None


def day_of(key: str) -> date | None:
    """Return the day in a key's `dt=` folder, or None when there is none."""
    match = _DAY_FOLDER.search(key)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None

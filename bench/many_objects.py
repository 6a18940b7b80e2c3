"""Fill a bucket with raw objects, fast: signed PUTs on kept connections, from some processes.

boto3 manages 400 a second on two cores, beside the server; this a thousand.
"""

import datetime as dt
import http.client
import multiprocessing
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.results import WrongResultError, say
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.settings import StoreSettings

SNAPSHOTS_A_DAY = 288
_PROCESSES = 3
_BATCH = 2_000


def raw_keys(keys: LakeKeys, count: int, last_day: dt.date) -> list[str]:
    """Return the keys of `count` snapshots, 288 a day, the last of them on `last_day`."""
    first_day = last_day - dt.timedelta(days=(count - 1) // SNAPSHOTS_A_DAY)
    midnight = dt.datetime.combine(first_day, dt.time(), tzinfo=dt.UTC)
    return [keys.raw(midnight + number * dt.timedelta(minutes=5)) for number in range(count)]


def fill(settings: StoreSettings, keys: Sequence[str]) -> None:
    """Store a tiny object under each key."""
    batches = [(settings, keys[start : start + _BATCH]) for start in range(0, len(keys), _BATCH)]
    started, done = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for stored in pool.imap_unordered(_store, batches):
            done += stored
            if done % 10_000 == 0:
                say(f"Filled {done:,} of {len(keys):,} raw objects, {time.monotonic() - started:.0f} s")


def _store(batch: tuple[StoreSettings, Sequence[str]]) -> int:
    settings, keys = batch
    credentials = Credentials(settings.access_key_id.get_secret_value(), settings.secret_access_key.get_secret_value())
    signer = SigV4Auth(credentials, "s3", settings.region)
    connection = http.client.HTTPConnection(urlsplit(settings.endpoint_url).netloc)
    for key in keys:
        path = f"/{settings.bucket}/{key}"
        request = AWSRequest("PUT", settings.endpoint_url + path, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
        signer.add_auth(request)
        connection.request("PUT", path, b"#", dict(request.headers.items()))
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise WrongResultError(f"PUT {path} was answered {answer.status}: {text[:300]!r}")
    connection.close()
    return len(keys)

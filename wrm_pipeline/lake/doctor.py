"""What an S3 store can do and what is wrong with it, asked with real requests and one probe object."""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.object_store import ObjectStore, StoreError, StoreRefused, StoreUnavailable, build_client
from wrm_pipeline.resilience import RetryPolicy
from wrm_pipeline.settings import LOOPBACK_HOSTS, StoreSettings

# S3 refuses signatures that are off by more; up to some seconds, a request is merely slow.
_SKEW_REFUSED_S = 15 * 60
_SKEW_NOTICED_S = 5
_PROBE_BYTES = 256 * 1024  # more than one TLS record and one TCP window
_PATIENCE_S = 10.0
_CREDENTIAL_CODES = frozenset({"AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "RequestTimeTooSkewed"})


class Status(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"  # the pipeline works, with less
    FAIL = "fail"  # the pipeline does not work
    SKIP = "skip"  # an earlier failure makes the question meaningless


@dataclass(frozen=True)
class Finding:
    """One thing checked: what was found, and what to do about it (empty when nothing needs doing)."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def examine(settings: StoreSettings) -> Iterator[Finding]:
    """Check a store and yield one finding a check, in order, each as soon as it is known.

    Writes one object under `{prefix}doctor/` and deletes it. Expected failures are findings, never exceptions.
    """
    with _Examination(settings) as examination:
        blocked = ""
        for name, check, blocks in examination.checks():
            if blocked:
                yield Finding(name, Status.SKIP, f"not checked, because of: {blocked}")
                continue
            try:
                finding = check(name)
            except StoreError as error:
                finding = Finding(
                    name, Status.FAIL, str(error), "Put right what the message names, then run this again."
                )
            except (ClientError, BotoCoreError) as error:
                finding = Finding(
                    name, Status.FAIL, type(error).__name__, "Run this again; the store answers unsteadily."
                )
            if finding.status is Status.FAIL and blocks:
                blocked = name
            yield finding


class _Examination:
    """The checks, and what they share."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = replace(settings, timeout_s=min(_PATIENCE_S, settings.timeout_s), concurrency=1)
        # One attempt: the doctor reports what it meets, and does not nurse it.
        self._store = ObjectStore(self._settings, policy=RetryPolicy(attempts=1, budget_s=2 * _PATIENCE_S))
        self._client = build_client(self._settings)
        keys = LakeKeys(settings.prefix)
        self._folder = keys.doctor_root
        self._key = keys.doctor_probe(secrets.token_hex(8))
        self._body = secrets.token_bytes(_PROBE_BYTES)
        self._first_answer: StoreError | None = None
        self._written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._written:  # a check failed, or the caller lost interest
            with contextlib.suppress(StoreError):  # the store has failed already, and that is reported
                self._store.delete(self._key)
        self._store.close()
        self._client.close()

    def checks(self) -> Iterator[tuple[str, Callable[[str], Finding], bool]]:
        """Yield name, check, and whether the rest is meaningless when it fails."""
        yield "reachable", self._reachable, True
        yield "clock", self._clock, False
        yield "credentials", self._credentials, True
        yield "bucket", self._bucket, True
        yield "path style", self._path_style, True
        yield "upload read back", self._read_back, True
        yield "user metadata", self._metadata, False
        yield "listing", self._listing, False
        yield "MD5", self._md5, False
        yield "conditional PUT", self._conditional, False
        yield "delete", self._delete, False

    def _reachable(self, name: str) -> Finding:
        try:
            next(self._store.list(self._folder, max_keys=1), None)
        except StoreUnavailable as error:
            return Finding(
                name, Status.FAIL, str(error), "Check S3_ENDPOINT_URL, the network and the store's status page."
            )
        except StoreError as error:
            if isinstance(error, StoreRefused) and error.code == "TLS":
                remedy = "Use the name that the certificate is for; a private authority goes into AWS_CA_BUNDLE."
                return Finding(name, Status.FAIL, str(error), remedy)
            self._first_answer = error  # an answer all the same: the next checks say what it means
        url = urlsplit(self._settings.endpoint_url)
        if url.scheme == "https":
            return Finding(name, Status.OK, f"{self._settings.endpoint_url} answers, certificate verified")
        if url.hostname in LOOPBACK_HOSTS:
            return Finding(name, Status.OK, f"{self._settings.endpoint_url} answers, plain http on this machine")
        remedy = "Use https: anyone on the way can read the data."
        return Finding(name, Status.WARN, f"{self._settings.endpoint_url} answers, plain http", remedy)

    def _clock(self, name: str) -> Finding:
        try:
            answer: Any = self._client.head_bucket(Bucket=self._settings.bucket)
        except ClientError as error:
            answer = error.response
        here = datetime.now(UTC)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            return Finding(name, Status.WARN, "the store sends no Date header, so the clocks cannot be compared")
        skew_s = abs((here - parsedate_to_datetime(date)).total_seconds())
        found = f"this machine and the store differ by {skew_s:.0f} s"
        if skew_s <= _SKEW_NOTICED_S:
            return Finding(name, Status.OK, found)
        status = Status.FAIL if skew_s > _SKEW_REFUSED_S else Status.WARN
        return Finding(name, status, found, "Set the clock, and let NTP keep it (timedatectl set-ntp true).")

    def _credentials(self, name: str) -> Finding:
        answer = self._first_answer
        if isinstance(answer, StoreRefused) and answer.code in _CREDENTIAL_CODES:
            remedy = "Create a key for this project in the store's console, and set both halves of it."
            return Finding(name, Status.FAIL, str(answer), remedy)
        return Finding(name, Status.OK, "the signature is accepted")

    def _bucket(self, name: str) -> Finding:
        bucket = self._settings.bucket
        if (urlsplit(self._settings.endpoint_url).hostname or "").startswith(f"{bucket}."):
            found = f"S3_ENDPOINT_URL ({self._settings.endpoint_url}) begins with the bucket's name"
            return Finding(name, Status.FAIL, found, f"Remove '{bucket}.' from S3_ENDPOINT_URL.")
        if self._first_answer is not None:
            remedy = f"Create the bucket {bucket}, or set BUCKET_NAME to one that exists."
            return Finding(name, Status.FAIL, str(self._first_answer), remedy)
        return Finding(name, Status.OK, f"{bucket} exists and can be listed")

    def _path_style(self, name: str) -> Finding:
        answered = self._client.list_objects_v2(Bucket=self._settings.bucket, MaxKeys=1).get("Name")
        if answered == self._settings.bucket:
            return Finding(name, Status.OK, f"{self._settings.endpoint_url}/{answered} is the bucket")
        remedy = "Use an endpoint that takes the bucket's name in the path."
        return Finding(name, Status.FAIL, f"asked for {self._settings.bucket}, it lists {answered!r}", remedy)

    def _read_back(self, name: str) -> Finding:
        self._written = True  # even when the answer is lost
        self._store.put(
            self._key, self._body, content_type="application/octet-stream", metadata={"wrm-doctor": "probe"}
        )
        body = self._store.get(self._key).body
        way = "over TLS" if self._settings.endpoint_url.startswith("https:") else "over plain http"
        if body != self._body:
            return Finding(name, Status.FAIL, f"other bytes came back {way}", "Do not use this store or this network.")
        digest = hashlib.sha256(body).hexdigest()[:12]
        return Finding(
            name, Status.OK, f"{len(body) // 1024} KiB written and read {way}, same bytes (sha256 {digest}…)"
        )

    def _metadata(self, name: str) -> Finding:
        head = self._store.head(self._key)
        if head is not None and head.metadata.get("wrm-doctor") == "probe":
            return Finding(name, Status.OK, "kept, so every object carries its sha256")
        remedy = "Reads fall back to the ETag's MD5; a store that keeps user metadata is safer."
        return Finding(name, Status.WARN, "lost", remedy)

    def _listing(self, name: str) -> Finding:
        if self._key in {info.key for info in self._store.list(self._folder)}:
            return Finding(name, Status.OK, "shows a new object at once")
        remedy = "The store lists late: snapshots will be processed by a later run."
        return Finding(name, Status.WARN, "does not show an object that was just written", remedy)

    def _md5(self, name: str) -> Finding:
        of_other_bytes = "1B2M2Y8AsgTpgAmY7PhCfg=="  # the MD5 of nothing
        code = self._refusal(ContentMD5=of_other_bytes)
        if code in {"BadDigest", "InvalidDigest"}:
            return Finding(name, Status.OK, f"a wrong Content-MD5 is refused ({code})")
        remedy = "Damage on the way up is only noticed when the object is read."
        return Finding(
            name, Status.WARN, f"a wrong Content-MD5 is {f'answered {code}' if code else 'accepted'}", remedy
        )

    def _conditional(self, name: str) -> Finding:
        code = self._refusal(IfNoneMatch="*")
        if code in {"PreconditionFailed", "412"}:
            return Finding(name, Status.OK, "If-None-Match is honoured")
        found = f"If-None-Match is {f'answered {code}' if code else 'ignored'}"
        return Finding(name, Status.WARN, found, "Nothing needs doing: no result depends on it.")

    def _delete(self, name: str) -> Finding:
        self._store.delete(self._key)
        if self._store.head(self._key) is None:
            self._written = False
            return Finding(name, Status.OK, "the probe is gone")
        return Finding(name, Status.WARN, f"{self._key} is still there", "Allow this key to delete objects.")

    def _refusal(self, **how: Any) -> str | None:
        """Write the probe again in some way; return the code of the refusal, None when it was accepted."""
        try:
            self._client.put_object(Bucket=self._settings.bucket, Key=self._key, Body=self._body, **how)
        except ClientError as error:
            return str(error.response["Error"].get("Code"))
        return None

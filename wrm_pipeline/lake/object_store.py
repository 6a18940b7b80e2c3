"""The S3 object store: listing, reading, writing, and what each way of failing means.

Nothing here knows what is stored. One retry layer (`wrm_pipeline.resilience`); botocore's own is off.
"""

import base64
import hashlib
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError as TransportError

from wrm_pipeline.errors import ExpectedError, words_of
from wrm_pipeline.resilience import BreakerOpen, BreakerState, CircuitBreaker, Failure, RetryPolicy, call
from wrm_pipeline.settings import StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from wrm_pipeline.cache.objects import ObjectCache

T = TypeVar("T")
Folders = list[str]  # named here, because inside the class `list` is its method

SHA256_KEY = "sha256"  # user metadata of every object this class writes
_PAGE_KEYS = 1000  # S3 gives no more
_CONNECT_TIMEOUT_S = 5.0
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")

_TRANSIENT_CODES = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "OperationAborted", "ServiceUnavailable", "RequestLimitExceeded"}
)
_DIGEST_CODES = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
_NOT_S3 = "answered 200 with something that is not S3"
_REMEDIES = {
    "AccessDenied": "Check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and that this key may use the bucket.",
    "SignatureDoesNotMatch": "Check S3_SECRET_ACCESS_KEY, and S3_REGION_NAME.",
    "InvalidAccessKeyId": "Check S3_ACCESS_KEY_ID.",
    "NoSuchBucket": "Check BUCKET_NAME; the bucket is not created by itself.",
    "RequestTimeTooSkewed": "Check the clock of this machine: it differs from the server's by more than 15 minutes.",
    "QuotaExceeded": "The store's quota is used up: raise it or delete objects.",
}


class StoreError(ExpectedError):
    """The object store did not do what was asked; says the operation, the object, the endpoint and what to check."""

    failure = Failure.PERMANENT
    retry_after_s: float | None = None


class StoreUnavailable(StoreError):  # noqa: N818 - names the finding
    """The store cannot be reached or keeps failing, after all retries."""

    failure = Failure.TRANSIENT

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreRefused(StoreError):  # noqa: N818 - names the finding
    """The store answered no, and would again: credentials, bucket, clock, quota, TLS, an operation it lacks.

    Attributes:
        code: the S3 error code, or what stands for it.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        # A key that was rotated: the settings may hold the new one by now.
        self.failure = Failure.STALE_CREDENTIALS if code == "InvalidAccessKeyId" else Failure.PERMANENT


class ObjectNotFound(StoreError):  # noqa: N818 - names the finding
    """There is no object with this key."""


class CorruptObject(StoreError):  # noqa: N818 - names the finding
    """The bytes read are not the bytes that were written."""

    failure = Failure.CORRUPT


class KeyExists(StoreError):  # noqa: N818 - names the finding
    """Another writer has stored an object under a key that was to be written only if absent."""


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says of an object; `etag` without quotes, `last_modified` in UTC, `metadata` empty in listings."""

    key: str
    size: int
    etag: str
    last_modified: datetime | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class StoredObject:
    """An object and its bytes."""

    info: ObjectInfo
    body: bytes

    @property
    def sha256(self) -> str:
        """Of the bytes: verified when they were read, or made now for an object that older code wrote without."""
        return self.info.metadata.get(SHA256_KEY) or hashlib.sha256(self.body).hexdigest()


@dataclass
class Traffic:
    """What a store has sent and received so far: requests by operation, body bytes, retries. Safe between threads."""

    requests: Counter[str] = field(default_factory=Counter)
    bytes_received: int = 0
    bytes_sent: int = 0
    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, operation: str = "", *, received: int = 0, sent: int = 0, retries: int = 0) -> None:
        """Count a request, or what came of one."""
        with self._lock:
            if operation:
                self.requests[operation] += 1
            self.bytes_received += received
            self.bytes_sent += sent
            self.retries += retries

    def snapshot(self) -> "Traffic":
        """Return a copy that stands still."""
        with self._lock:
            return Traffic(Counter(self.requests), self.bytes_received, self.bytes_sent, self.retries)

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(
            self.requests - earlier.requests,
            self.bytes_received - earlier.bytes_received,
            self.bytes_sent - earlier.bytes_sent,
            self.retries - earlier.retries,
        )


def build_client(settings: StoreSettings) -> "S3Client":
    """Return an S3 client that depends on its settings only.

    AWS_* variables and ~/.aws/config are not read, except AWS_CA_BUNDLE, which can add a private certificate
    authority but not switch verification off.
    """
    variables = {
        name: (None, None, default, conversion)
        for name, (_, _, default, conversion) in botocore.session.Session.SESSION_VARIABLES.items()
        if name != "ca_bundle"
    }
    variables["config_file"] = variables["credentials_file"] = (None, None, "/dev/null", None)
    core = botocore.session.Session(session_vars=variables)
    # botocore's own tries every format dateutil knows: 7 % of the time of a GET, in a profile.
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    return boto3.session.Session(
        aws_access_key_id=settings.access_key_id.get_secret_value(),
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        region_name=settings.region,
        botocore_session=core,
    ).client(
        "s3",
        endpoint_url=settings.endpoint_url,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # Other modes add checksum headers and trailers that S3-compatible stores refuse or misread.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
            connect_timeout=min(_CONNECT_TIMEOUT_S, settings.timeout_s),
            read_timeout=settings.timeout_s,
            max_pool_connections=settings.concurrency,
            proxies={},
            user_agent="wrm_pipeline",  # else built anew for each request: 7 % of a GET in a profile
        ),
    )


def store_breaker(settings: StoreSettings, state: BreakerState) -> CircuitBreaker:
    """Return the circuit breaker for a store.

    All requests in flight fail together when a store hiccups, and that must not open it: two rounds in a row do.
    """
    return CircuitBreaker("object-store", failure_threshold=max(5, 2 * settings.concurrency), state=state)


class ObjectStore:
    """One bucket of an S3 store, for many threads.

    All methods raise `StoreUnavailable` when the store cannot be reached or keeps failing, and `StoreRefused` when it
    says no. Keys are complete: `prefix` is not put before them.

    Args:
        settings: where the store is, and how patient to be.
        reload_credentials: called once when the store does not know the access key, for a key that was rotated.
        breaker: stops asking a store that keeps failing; None for no breaker.
        cache: for bodies; what comes from it is what the store says, at that moment, that it has.
        policy: how often to retry; default: 5 attempts within `settings.retry_budget_s`.
    """

    def __init__(
        self,
        settings: StoreSettings,
        *,
        reload_credentials: Callable[[], StoreSettings] | None = None,
        breaker: CircuitBreaker | None = None,
        cache: "ObjectCache | None" = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.bucket = settings.bucket
        self.endpoint_url = settings.endpoint_url
        self.prefix = settings.prefix
        self.traffic = Traffic()
        self._settings = settings
        self._reload_credentials = reload_credentials
        self.breaker = breaker
        self.cache = cache
        self._policy = policy or RetryPolicy(budget_s=settings.retry_budget_s)
        self._lock = threading.Lock()
        self._client = build_client(settings)
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="object-store")

    def __repr__(self) -> str:
        return f"ObjectStore({self.endpoint_url}, bucket={self.bucket})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give threads and connections back; the store cannot be used afterwards."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def uri(self, key: str) -> str:
        """Return the s3:// address of a key."""
        return f"s3://{self.bucket}/{key}"

    def list(self, prefix: str, *, start_after: str = "", max_keys: int | None = None) -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in the order of their keys, page by page, as far as they are asked for.

        Args:
            prefix: of the complete key.
            start_after: only keys behind this one.
            max_keys: at most so many.
        """
        left = max_keys
        for page in self._pages(prefix, start_after, "", left):
            for item in page.get("Contents", ()):
                modified = item.get("LastModified")
                yield ObjectInfo(item["Key"], item["Size"], item["ETag"].strip('"'), modified, {})
                if left is not None:
                    left -= 1
                    if left == 0:  # before another page is asked for
                        return

    def list_folders(self, prefix: str, *, start_after: str = "") -> Folders:
        """Return the prefixes one level below a prefix, each with its final slash, sorted.

        Args:
            prefix: ends with a slash.
            start_after: only folders behind this one.
        """
        folders = (
            item["Prefix"]
            for page in self._pages(prefix, start_after, "/", None)
            for item in page.get("CommonPrefixes", ())
        )
        return [folder for folder in folders if folder > start_after]

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the store knows of an object, or None when there is none (or no bucket: a HEAD cannot tell)."""

        def attempt() -> ObjectInfo:
            self.traffic.add("head")
            with self._explained("HEAD", key):
                return self._info(key, self._client.head_object(Bucket=self.bucket, Key=key), "HEAD")

        try:
            return self._call("HEAD", key, attempt)
        except ObjectNotFound:
            return None

    def get(self, what: str | ObjectInfo) -> StoredObject:
        """Read an object and verify its bytes.

        Args:
            what: a key, or an object as the store has just described it: its bytes may then come from the cache, and
                are kept there.

        Raises:
            ObjectNotFound: there is none.
            CorruptObject: the bytes do not match their checksum, twice.
        """
        if isinstance(what, str):
            return self._get(what)
        cached = self._cached([what])
        return cached[what.key] if cached else self._kept(self._get(what.key))

    def get_again(self, key: str) -> StoredObject:
        """Read an object that is read again and again, and is large: a HEAD comes first when the cache may have it.

        Raises:
            ObjectNotFound: there is none.
            CorruptObject: the bytes do not match their checksum, twice.
        """
        if self.cache is not None and self.cache.knows(self._address(key)):
            info = self.head(key)
            if info is not None:
                return self._cached([info]).get(key) or self._kept(self._get(key), by_key=True)
        return self._kept(self._get(key), by_key=True)

    def _address(self, key: str) -> str:
        return f"{self.endpoint_url}/{self.bucket}/{key}"

    def _cached(self, wanted: Iterable[str | ObjectInfo]) -> Mapping[str, StoredObject]:
        """Return, by key, the described objects that the cache has as they are now."""
        infos = [each for each in wanted if isinstance(each, ObjectInfo)]
        if self.cache is None or not infos:
            return {}
        bodies = self.cache.find_many([(self._address(info.key), info.etag) for info in infos])
        return {
            info.key: StoredObject(info, body) for info, body in zip(infos, bodies, strict=True) if body is not None
        }

    def _kept(self, stored: StoredObject, *, by_key: bool = False, shared: bool = True) -> StoredObject:
        if self.cache is not None:
            address = self._address(stored.info.key)
            self.cache.keep(address, stored.info.etag, stored.body, by_address=by_key, shared=shared)
        return stored

    def _get(self, key: str) -> StoredObject:
        def attempt() -> StoredObject:
            self.traffic.add("get")
            with self._explained("GET", key):
                response = self._client.get_object(Bucket=self.bucket, Key=key)
                with response["Body"] as stream:
                    body = stream.read()
                self.traffic.add(received=len(body))
                info = self._info(key, response, "GET")
            self._verify(info, body)
            return StoredObject(info, body)

        return self._call("GET", key, attempt)

    def get_many(self, wanted: Sequence[str | ObjectInfo]) -> Iterator[StoredObject]:
        """Yield objects in the order given, read concurrently; for what is described instead of named, see `get`.

        At most `concurrency` requests run, and at most twice as many objects are held, beside those that the cache has:
        it is asked once for all, before anything else runs. The first error cancels the rest. What is described is
        kept in memory only: no other process reads many objects at once again soon.

        Raises:
            ObjectNotFound: there is none.
            CorruptObject: the bytes do not match their checksum, twice.
        """
        ahead = 2 * self._settings.concurrency
        waiting: deque[StoredObject | Future[StoredObject]] = deque()

        def read(what: str | ObjectInfo) -> StoredObject:
            return self._get(what) if isinstance(what, str) else self._kept(self._get(what.key), shared=False)

        def next_one() -> StoredObject:
            first = waiting.popleft()
            return first if isinstance(first, StoredObject) else first.result()

        try:
            cached = self._cached(wanted)
            for what in wanted:
                if len(waiting) == ahead:
                    yield next_one()
                stored = cached.get(what.key) if isinstance(what, ObjectInfo) else None
                waiting.append(stored or self._pool.submit(read, what))
            while waiting:
                yield next_one()
        finally:
            for each in waiting:
                if isinstance(each, Future):
                    each.cancel()

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        only_if_absent: bool = False,
        read_again_by: Literal["listing", "key"] | None = None,
    ) -> ObjectInfo:
        """Store an object in one request; its sha256 becomes part of its metadata.

        Args:
            key: complete.
            body: all of it.
            content_type: such as "text/plain".
            metadata: ASCII names and values.
            only_if_absent: do not replace an object. Stores that cannot do this in one step are asked first, so two
                writers at the same moment can both succeed there: the last one wins.
            read_again_by: keep the bytes in the cache for readers that come from a listing, see `get`, or with the
                key alone, see `get_again`.

        Raises:
            KeyExists: `only_if_absent`, and there is an object with other bytes.
        """
        info = self._put(key, body, content_type, metadata or {}, only_if_absent=only_if_absent)
        if read_again_by is not None:
            self._kept(StoredObject(info, body), by_key=read_again_by == "key")
        return info

    def _put(
        self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str], *, only_if_absent: bool
    ) -> ObjectInfo:
        sha256 = hashlib.sha256(body).hexdigest()
        arguments: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": key,
            "Body": body,
            "ContentType": content_type,
            "ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
            "Metadata": {**metadata, SHA256_KEY: sha256},
        }

        def attempt(**condition: Any) -> ObjectInfo:
            self.traffic.add("put", sent=len(body))
            with self._explained("PUT", key):
                response = self._client.put_object(**arguments, **condition)
                etag = self._etag(response, "PUT", key)
            return ObjectInfo(key, len(body), etag, None, arguments["Metadata"])

        if not only_if_absent:
            return self._call("PUT", key, attempt)
        try:
            return self._call("PUT", key, lambda: attempt(IfNoneMatch="*"))
        except StoreRefused as error:
            if error.code not in {"PreconditionFailed", "NotImplemented"}:
                raise
            there = self.head(key)
            if there is None and error.code == "NotImplemented":
                return self._call("PUT", key, attempt)
            if there is not None and there.metadata.get(SHA256_KEY) == sha256:
                return there  # our own: the first answer was lost on the way, or another run stored the same
            raise KeyExists(
                f"PUT {self.uri(key)} at {self.endpoint_url}: another writer has already stored other bytes there"
            ) from None

    def delete(self, key: str) -> None:
        """Delete an object; it is no error when there is none."""

        def attempt() -> None:
            self.traffic.add("delete")
            with self._explained("DELETE", key):
                self._client.delete_object(Bucket=self.bucket, Key=key)

        self._call("DELETE", key, attempt)

    def _call(self, operation: str, key: str, attempt: Callable[[], T]) -> T:
        """Run attempts under the failure policy."""
        client = self._client
        try:
            return call(
                attempt,
                what=f"{operation} {self.uri(key)}",
                policy=self._policy,
                classify=_classify,
                breaker=self.breaker,
                retry_after=_retry_after,
                on_retry=lambda: self.traffic.add(retries=1),
                renew_credentials=lambda: self._renew_credentials(client),
            )
        except BreakerOpen as error:
            raise StoreUnavailable(self._message(operation, key, f"not asked. {error}")) from error

    def _renew_credentials(self, used: "S3Client") -> bool:
        """Read the credentials again; tell whether there are others than the client in use had."""
        if self._reload_credentials is None:
            return False
        with self._lock:
            if self._client is used:  # else another thread has done it
                fresh = self._reload_credentials()
                before = self._settings
                if (fresh.access_key_id, fresh.secret_access_key) == (before.access_key_id, before.secret_access_key):
                    return False
                self._settings = replace(
                    before, access_key_id=fresh.access_key_id, secret_access_key=fresh.secret_access_key
                )
                self._client = build_client(self._settings)  # the old one serves the threads that still use it
        return True

    def _pages(
        self, prefix: str, start_after: str, delimiter: str, max_keys: int | None
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a listing, each with its own retries."""
        where = {"StartAfter": start_after} if start_after else {}
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, **where}
        arguments["MaxKeys"] = _PAGE_KEYS if max_keys is None else min(_PAGE_KEYS, max_keys)
        if delimiter:
            arguments["Delimiter"] = delimiter

        def attempt() -> Mapping[str, Any]:
            self.traffic.add("list")
            with self._explained("LIST", prefix):
                page = self._client.list_objects_v2(**arguments)
            if "KeyCount" not in page or (page.get("IsTruncated") and not page.get("NextContinuationToken")):
                raise StoreUnavailable(self._message("LIST", prefix, f"{_NOT_S3} (no KeyCount)"))
            return page

        while True:
            page = self._call("LIST", prefix, attempt)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def _etag(self, response: Mapping[str, Any], operation: str, key: str) -> str:
        etag: str = response.get("ETag", "").strip('"')
        if not etag:
            raise StoreUnavailable(self._message(operation, key, f"{_NOT_S3} (no ETag)"))
        return etag

    def _info(self, key: str, response: Mapping[str, Any], operation: str) -> ObjectInfo:
        etag = self._etag(response, operation, key)
        return ObjectInfo(key, response["ContentLength"], etag, response.get("LastModified"), response["Metadata"])

    def _verify(self, info: ObjectInfo, body: bytes) -> None:
        """Compare the bytes read with the checksum written; objects of older lakes have their MD5 as ETag."""
        expected = info.metadata.get(SHA256_KEY)
        if expected is not None:
            found = hashlib.sha256(body).hexdigest()
        elif _MD5_ETAG.fullmatch(info.etag):
            expected, found = info.etag, hashlib.md5(body, usedforsecurity=False).hexdigest()
        else:
            return
        if found != expected:
            raise CorruptObject(
                self._message("GET", info.key, f"the bytes read have checksum {found}, not {expected} as stored")
            )

    @contextmanager
    def _explained(self, operation: str, key: str) -> Iterator[None]:
        """Turn what boto3 raises into this module's errors, without the URL, which may hold what nobody should see."""
        try:
            yield
        except ClientError as error:
            raise self._answered(error, operation, key) from None
        except ResponseParserError:
            raise StoreUnavailable(self._message(operation, key, _NOT_S3)) from None
        except SSLError as error:
            reason = words_of(error)
            # The other side, or something between, hung up in the middle of the handshake: no verdict on certificates.
            if "EOF" in str(error) or "reset" in str(error):
                raise StoreUnavailable(
                    self._message(operation, key, f"the TLS handshake broke off ({reason})")
                ) from None
            message = f"TLS failed ({reason}). Check that S3_ENDPOINT_URL has the right scheme, host and certificate"
            raise StoreRefused(self._message(operation, key, message), "TLS") from None
        except (IncompleteReadError, ResponseStreamingError):
            raise StoreUnavailable(self._message(operation, key, "the body was cut short")) from None
        except (BotoConnectionError, HTTPClientError, TransportError, OSError) as error:
            message = f"no answer ({words_of(error)}). Check S3_ENDPOINT_URL and that the store is up"
            raise StoreUnavailable(self._message(operation, key, message)) from None

    def _answered(self, error: ClientError, operation: str, key: str) -> StoreError:
        """Return the error that an answer of the store means."""
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        # What the server calls it goes into logs: only if it looks like a name.
        named = _CODE.fullmatch(str(error.response["Error"].get("Code", "")))
        code = named[0] if named and not named[0].isdigit() else ""
        if status == 403 and not code:  # a HEAD has no body
            code = "AccessDenied"
        text = f"{code or 'refused'} (HTTP {status})"
        if code == "NoSuchKey" or (status == 404 and not code and operation in {"GET", "HEAD"}):
            return ObjectNotFound(self._message(operation, key, "there is no such object"))
        if code in _DIGEST_CODES:
            return CorruptObject(self._message(operation, key, f"{text}: the bytes were damaged on the way"))
        if "Quota" not in code and (
            code in _TRANSIENT_CODES or code.startswith("Throttl") or status in _TRANSIENT_STATUSES
        ):
            headers = error.response["ResponseMetadata"]["HTTPHeaders"]
            asked = retry_after_seconds(headers.get("retry-after"), now=datetime.now(UTC))
            return StoreUnavailable(self._message(operation, key, text), asked)
        if status == 412:
            code = "PreconditionFailed"
        elif status == 501:
            code = "NotImplemented"
        elif status == 507 or "Quota" in code:
            code = "QuotaExceeded"
        remedy = _REMEDIES.get(code, "Run `wrm doctor` to see what this store can do.")
        return StoreRefused(self._message(operation, key, f"{text}. {remedy}"), code or str(status))

    def _message(self, operation: str, key: str, text: str) -> str:
        return f"{operation} {self.uri(key)} at {self.endpoint_url}: {text}"


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as such or as an HTTP date; None for neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None


def _timestamp(value: str) -> datetime:
    """Parse the two formats that S3 uses, RFC 3339 in bodies and the HTTP date in headers, as UTC."""
    try:
        parsed = datetime.fromisoformat(value) if value[:1].isdigit() else parsedate_to_datetime(value)
    except ValueError:
        raise ResponseParserError("a time in the answer is in no known format") from None
    return parsed.astimezone(UTC)


def _classify(error: BaseException) -> Failure:
    return error.failure if isinstance(error, StoreError) else Failure.PERMANENT


def _retry_after(error: BaseException) -> float | None:
    return error.retry_after_s if isinstance(error, StoreError) else None

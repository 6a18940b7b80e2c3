"""The object store against a real S3 server, with faults made on the wire."""

import hashlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from wrm_pipeline.cli.local_servers import LocalStore, free_port
from wrm_pipeline.lake.object_store import (
    CorruptObject,
    KeyExists,
    ObjectNotFound,
    ObjectStore,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    build_client,
    retry_after_seconds,
    store_breaker,
)
from wrm_pipeline.resilience import CircuitBreaker, LocalBreakerState, RetryPolicy
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.fault_proxy import (
    HTML,
    SLOW_DOWN,
    Answer,
    CutBody,
    EditAnswer,
    Fault,
    FaultProxy,
    FlipByte,
    Reset,
    Stall,
    s3_error,
)

QUICK = RetryPolicy(attempts=4, budget_s=5.0, base_s=0.01, cap_s=0.05)
BODY = b"bytes of a snapshot\n" * 100


@pytest.fixture
def flaky(proxied: StoreSettings) -> Iterator[ObjectStore]:
    """A store behind the proxy, which loses patience after half a second."""
    with ObjectStore(replace(proxied, timeout_s=0.5), policy=QUICK) as store:
        yield store


@pytest.fixture
def key(store: ObjectStore, proxy: FaultProxy) -> str:
    """The key of an object that is there."""
    key = f"{store.prefix}there.txt"
    store.put(key, BODY, content_type="text/plain")
    proxy.clear()
    return key


def put(store: ObjectStore, name: str = "new.txt", body: bytes = BODY, *, only_if_absent: bool = False) -> None:
    store.put(f"{store.prefix}{name}", body, content_type="text/plain", only_if_absent=only_if_absent)


class TestRoundTrip:
    def test_what_is_put_is_got_with_its_metadata(self, store: ObjectStore) -> None:
        key = f"{store.prefix}a/ł ó&b.txt"
        written = store.put(key, BODY, content_type="text/plain", metadata={"code-version": "3"})
        read = store.get(key)
        assert read.body == BODY
        assert read.info.etag == written.etag == hashlib.md5(BODY, usedforsecurity=False).hexdigest()
        assert read.info.metadata == {"code-version": "3", "sha256": hashlib.sha256(BODY).hexdigest()}
        assert (read.info.key, read.info.size) == (key, len(BODY))

    def test_times_are_utc_and_the_same_in_a_listing_and_a_head(self, store: ObjectStore, key: str) -> None:
        (listed,), head = list(store.list(key)), store.head(key)
        assert head is not None
        assert head.last_modified is not None
        assert head.last_modified.tzinfo is UTC
        assert abs(head.last_modified - datetime.now(UTC)) < timedelta(minutes=5)
        assert listed.last_modified is not None
        assert abs(listed.last_modified - head.last_modified) < timedelta(seconds=1.5)

    def test_a_missing_object_is_none_for_head_and_an_error_for_get(self, store: ObjectStore) -> None:
        key = f"{store.prefix}missing"
        assert store.head(key) is None
        with pytest.raises(ObjectNotFound, match=re.escape(store.uri(key))):
            store.get(key)

    def test_delete_twice_is_no_error(self, store: ObjectStore, key: str) -> None:
        store.delete(key)
        store.delete(key)
        assert store.head(key) is None

    @given(body=st.binary(max_size=3000))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_bytes_come_back(self, store: ObjectStore, body: bytes) -> None:
        put(store, "any", body)
        assert store.get(f"{store.prefix}any").body == body

    def test_the_address_of_a_key(self, store: ObjectStore) -> None:
        assert store.uri("raw/x") == f"s3://{store.bucket}/raw/x"


class TestListing:
    @pytest.fixture
    def keys(self, store: ObjectStore) -> list[str]:
        keys = [f"{store.prefix}dt=2025-05-{day:02d}/{n}.txt" for day in (1, 2, 3) for n in range(4)]
        for key in keys:
            store.put(key, b"x", content_type="text/plain")
        return keys

    def test_keys_come_in_order_and_only_those_of_the_prefix(self, store: ObjectStore, keys: list[str]) -> None:
        assert [info.key for info in store.list(f"{store.prefix}dt=2025-05-02/")] == keys[4:8]

    def test_start_after_and_max_keys_bound_the_listing(self, store: ObjectStore, keys: list[str]) -> None:
        assert [info.key for info in store.list(store.prefix, start_after=keys[2], max_keys=5)] == keys[3:8]
        assert list(store.list(store.prefix, start_after=keys[-1])) == []
        assert list(store.list(store.prefix, max_keys=0)) == []

    def test_folders(self, store: ObjectStore, keys: list[str]) -> None:
        folders = sorted({key.rpartition("/")[0] + "/" for key in keys})
        assert store.list_folders(store.prefix) == folders
        assert store.list_folders(store.prefix, start_after=folders[0]) == folders[1:]

    def test_pages_are_fetched_only_as_far_as_asked_for(
        self, store: ObjectStore, keys: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("wrm_pipeline.lake.object_store._PAGE_KEYS", 5)
        before = store.traffic.snapshot()
        listing = store.list(store.prefix)
        assert next(listing).key == keys[0]
        assert (store.traffic.snapshot() - before).requests["list"] == 1
        assert [info.key for info in listing] == keys[1:]
        assert (store.traffic.snapshot() - before).requests["list"] == 3

    def test_a_failing_page_is_asked_for_again_and_nothing_is_lost(
        self, flaky: ObjectStore, proxy: FaultProxy, keys: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("wrm_pipeline.lake.object_store._PAGE_KEYS", 5)
        proxy.add(Answer(503, SLOW_DOWN), path="continuation-token", times=2)
        assert [info.key for info in flaky.list(flaky.prefix)] == keys
        assert proxy.count("GET") == 5


class TestGetMany:
    def test_the_order_is_that_of_the_keys(self, store: ObjectStore) -> None:
        names = [f"{store.prefix}{n:03d}" for n in range(40)]
        for name in names:
            store.put(name, name.encode(), content_type="text/plain")
        wanted = names[::-1]
        assert [found.body.decode() for found in store.get_many(wanted)] == wanted

    def test_at_most_twice_the_concurrency_is_read_ahead(
        self, store: ObjectStore, proxied: StoreSettings, proxy: FaultProxy
    ) -> None:
        for n in range(12):
            put(store, f"{n:02d}")
        with ObjectStore(replace(proxied, concurrency=2), policy=QUICK) as narrow:
            found = narrow.get_many([f"{store.prefix}{n:02d}" for n in range(12)])
            next(found)
            assert proxy.count("GET") <= 5  # 4 ahead, and the one that was taken
            assert len(list(found)) == 11

    def test_the_first_error_cancels_the_rest(self, proxied: StoreSettings, proxy: FaultProxy, key: str) -> None:
        for stalled in ("a", "b", "c"):
            proxy.add(Stall(), path=f"/stalled-{stalled}", times=None)
        impatient = replace(proxied, concurrency=2, timeout_s=0.3)
        with ObjectStore(impatient, policy=replace(QUICK, attempts=1)) as narrow:
            with pytest.raises(ObjectNotFound):
                list(narrow.get_many(["missing", "stalled-a", "stalled-b", "stalled-c"]))
            # Both threads are stalled, so the third was still waiting; these come behind it.
            assert len(list(narrow.get_many([key] * 4))) == 4
        assert proxy.count(path="/stalled-a") == 1
        assert proxy.count(path="/stalled-c") == 0


TRANSIENT = {
    "SlowDown": Answer(503, SLOW_DOWN),
    "InternalError": Answer(500, s3_error("InternalError")),
    "502 html": Answer(502, HTML, {"Content-Type": "text/html"}),
    "503 html": Answer(503, HTML, {"Content-Type": "text/html"}),
    "504 empty": Answer(504, b"", {}),
    "429": Answer(429, b"", {}),
    "Throttling": Answer(400, s3_error("Throttling")),
    "ThrottlingException": Answer(400, s3_error("ThrottlingException")),
    "RequestTimeout": Answer(400, s3_error("RequestTimeout")),
    "OperationAborted": Answer(409, s3_error("OperationAborted")),
    "reset before": Reset(),
    "reset after": Reset(applied=True),
    "no answer": Stall(),
}
ON_READ: dict[str, Fault] = {
    "cut body": CutBody(100),
    "stalled body": Stall(after=100),
    "200 html": Answer(200, HTML, {"Content-Type": "text/html"}),
    "no ETag": EditAnswer(without=frozenset({"etag"})),
}


class TestTransient:
    @pytest.mark.parametrize("fault", [*TRANSIENT.values(), *ON_READ.values()], ids=[*TRANSIENT, *ON_READ])
    def test_get_is_retried_until_it_works(self, flaky: ObjectStore, proxy: FaultProxy, key: str, fault: Fault) -> None:
        proxy.add(fault, method="GET", times=2)
        assert flaky.get(key).body == BODY
        assert proxy.count() == 3
        assert flaky.traffic.requests == {"get": 3}
        assert flaky.traffic.retries == 2

    @pytest.mark.parametrize(
        "fault",
        [*TRANSIENT.values(), Answer(200, HTML), EditAnswer(without=frozenset({"etag"}))],
        ids=[*TRANSIENT, "200 html", "no ETag"],
    )
    def test_put_is_retried_until_it_works(
        self, flaky: ObjectStore, store: ObjectStore, proxy: FaultProxy, fault: Fault
    ) -> None:
        proxy.add(fault, method="PUT", times=2)
        put(flaky)
        assert proxy.count("PUT") == 3
        assert store.get(f"{store.prefix}new.txt").body == BODY

    @pytest.mark.parametrize(
        "fault",
        [
            *TRANSIENT.values(),
            Answer(200, HTML, {"Content-Type": "text/html"}),
            EditAnswer(body=lambda xml: re.sub(rb"<KeyCount>.*</KeyCount>", b"", xml)),
            EditAnswer(body=lambda xml: xml.replace(b"<IsTruncated>false", b"<IsTruncated>true")),
            EditAnswer(body=lambda xml: re.sub(rb"<LastModified>[^<]*", b"<LastModified>soon", xml)),
        ],
        ids=[*TRANSIENT, "200 html", "no KeyCount", "more, but no token", "no time"],
    )
    def test_list_is_retried_until_it_works(
        self, flaky: ObjectStore, proxy: FaultProxy, key: str, fault: Fault
    ) -> None:
        proxy.add(fault, times=2)
        assert [info.key for info in flaky.list(flaky.prefix)] == [key]
        assert proxy.count() == 3

    @pytest.mark.parametrize("name", ["SlowDown", "502 html", "reset before", "no answer"])
    def test_head_and_delete_are_retried_until_they_work(
        self, flaky: ObjectStore, proxy: FaultProxy, key: str, name: str
    ) -> None:
        proxy.add(TRANSIENT[name], method="HEAD", times=2)
        proxy.add(TRANSIENT[name], method="DELETE", times=2)
        assert flaky.head(key) is not None
        flaky.delete(key)
        assert (proxy.count("HEAD"), proxy.count("DELETE")) == (3, 3)

    def test_attempts_end_within_the_budget_with_one_sentence(
        self, proxied: StoreSettings, proxy: FaultProxy, key: str
    ) -> None:
        proxy.add(Answer(503, SLOW_DOWN), times=None)
        policy = RetryPolicy(attempts=100, budget_s=0.6, base_s=0.02, cap_s=0.1)
        with ObjectStore(proxied, policy=policy) as store:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match=rf"GET .*{key} at {proxy.url}: SlowDown \(HTTP 503\)"):
                store.get(key)
            assert time.monotonic() - started < 0.6 + 0.3
        assert 3 < proxy.count() < 100

    def test_attempts_are_counted(self, flaky: ObjectStore, proxy: FaultProxy, key: str) -> None:
        proxy.add(Reset(), times=None)
        with pytest.raises(StoreUnavailable):
            flaky.get(key)
        assert proxy.count() == QUICK.attempts

    def test_a_lying_200_is_named(self, flaky: ObjectStore, proxy: FaultProxy, key: str) -> None:
        proxy.add(Answer(200, HTML, {"Content-Type": "text/html"}), times=None)
        for ask in (lambda: list(flaky.list("")), lambda: flaky.get(key), lambda: flaky.head(key), lambda: put(flaky)):
            with pytest.raises(StoreUnavailable, match="answered 200 with something that is not S3"):
                ask()

    def test_retry_after_is_waited_for(self, flaky: ObjectStore, proxy: FaultProxy, key: str) -> None:
        proxy.add(Answer(429, b"", {"Retry-After": "1"}))
        started = time.monotonic()
        assert flaky.get(key).body == BODY
        assert 1.0 <= time.monotonic() - started < 3.0

    def test_a_retry_after_beyond_the_budget_gives_up_at_once(
        self, flaky: ObjectStore, proxy: FaultProxy, key: str
    ) -> None:
        later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
        for asked in ("3600", later):
            proxy.clear()
            proxy.add(Answer(503, b"", {"Retry-After": asked}), times=None)
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                flaky.get(key)
            assert time.monotonic() - started < 0.4
            assert proxy.count() == 1

    def test_a_server_that_is_down_is_named_with_what_to_check(self, store_settings: StoreSettings) -> None:
        down = replace(store_settings, endpoint_url=f"http://127.0.0.1:{free_port()}")
        with ObjectStore(down, policy=QUICK) as store:
            with pytest.raises(StoreUnavailable, match=r"Connection refused\). Check S3_ENDPOINT_URL"):
                store.get("x")
            assert store.traffic.requests["get"] == QUICK.attempts

    def test_a_name_that_does_not_resolve_is_transient(self, store_settings: StoreSettings) -> None:
        with ObjectStore(replace(store_settings, endpoint_url="http://store.invalid"), policy=QUICK) as store:
            with pytest.raises(StoreUnavailable, match="Check S3_ENDPOINT_URL"):
                store.get("x")
            assert store.traffic.requests["get"] == QUICK.attempts

    def test_a_store_killed_and_started_again_goes_on(self, tmp_path: Path) -> None:
        with LocalStore(tmp_path / "store") as server:
            settings = server.settings()
            patient = RetryPolicy(attempts=200, budget_s=60, base_s=0.05, cap_s=0.2)
            with ObjectStore(settings, policy=patient) as store:
                put(store)
                server.kill()
                restart = threading.Thread(target=server.start)
                restart.start()
                found = store.get(f"{store.prefix}new.txt")
                restart.join()
        assert found.body == BODY


class TestCorruption:
    def test_a_flipped_byte_is_read_again(self, flaky: ObjectStore, proxy: FaultProxy, key: str) -> None:
        proxy.add(FlipByte(7))
        assert flaky.get(key).body == BODY
        assert proxy.count() == 2

    def test_a_byte_that_stays_flipped_is_an_error_after_two_reads(
        self, flaky: ObjectStore, proxy: FaultProxy, key: str
    ) -> None:
        proxy.add(FlipByte(7), times=None)
        with pytest.raises(CorruptObject, match=hashlib.sha256(BODY).hexdigest()):
            flaky.get(key)
        assert proxy.count() == 2

    def test_an_object_without_sha256_is_verified_by_its_md5(
        self, flaky: ObjectStore, proxy: FaultProxy, store_settings: StoreSettings
    ) -> None:
        key = f"{store_settings.prefix}older"
        client = build_client(store_settings)
        client.put_object(Bucket=store_settings.bucket, Key=key, Body=BODY)
        client.close()
        assert flaky.get(key).body == BODY
        proxy.clear()
        proxy.add(FlipByte(7), times=None)
        with pytest.raises(CorruptObject):
            flaky.get(key)
        assert proxy.count() == 2

    def test_an_object_with_neither_checksum_is_taken_as_it_is(
        self, store: ObjectStore, store_settings: StoreSettings
    ) -> None:
        key = f"{store_settings.prefix}multipart"
        client = build_client(store_settings)
        upload = client.create_multipart_upload(Bucket=store_settings.bucket, Key=key)["UploadId"]
        target = {"Bucket": store_settings.bucket, "Key": key, "UploadId": upload}
        part = client.upload_part(**target, PartNumber=1, Body=BODY)
        client.complete_multipart_upload(**target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
        client.close()
        found = store.get(key)
        assert found.body == BODY
        assert "-" in found.info.etag

    def test_a_byte_flipped_on_the_way_up_is_sent_again_once(
        self, flaky: ObjectStore, store: ObjectStore, proxy: FaultProxy
    ) -> None:
        proxy.add(FlipByte(7, of_request=True), method="PUT")
        put(flaky)
        assert proxy.count("PUT") == 2
        assert store.get(f"{store.prefix}new.txt").body == BODY

    def test_bytes_damaged_on_the_way_up_each_time_are_an_error_and_no_object(
        self, flaky: ObjectStore, store: ObjectStore, proxy: FaultProxy
    ) -> None:
        proxy.add(FlipByte(7, of_request=True), method="PUT", times=None)
        with pytest.raises(CorruptObject, match="damaged on the way"):
            put(flaky)
        assert proxy.count("PUT") == 2
        assert store.head(f"{store.prefix}new.txt") is None


PERMANENT = {
    "AccessDenied": (Answer(403, s3_error("AccessDenied")), "S3_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": (Answer(403, s3_error("SignatureDoesNotMatch")), "S3_SECRET_ACCESS_KEY"),
    "NoSuchBucket": (Answer(404, s3_error("NoSuchBucket")), "BUCKET_NAME"),
    "RequestTimeTooSkewed": (Answer(403, s3_error("RequestTimeTooSkewed")), "clock"),
    "QuotaExceeded": (Answer(403, s3_error("QuotaExceeded")), "quota"),
    "a quota with status 503": (Answer(503, s3_error("QuotaExceeded")), "quota"),
    "507": (Answer(507, b"", {}), "quota"),
    "501": (Answer(501, s3_error("NotImplemented")), "wrm doctor"),
    "InvalidRequest": (Answer(400, s3_error("InvalidRequest")), "InvalidRequest"),
    "405": (Answer(405, HTML, {"Content-Type": "text/html"}), "HTTP 405"),
    "InvalidAccessKeyId": (Answer(403, s3_error("InvalidAccessKeyId")), "S3_ACCESS_KEY_ID"),
}


class TestPermanent:
    @pytest.mark.parametrize(("fault", "named"), PERMANENT.values(), ids=PERMANENT)
    def test_it_is_asked_once_and_says_what_to_check(
        self, flaky: ObjectStore, proxy: FaultProxy, fault: Fault, named: str
    ) -> None:
        asks: dict[str, Callable[[], object]] = {
            "GET": lambda: flaky.get("some/key"),
            "LIST": lambda: list(flaky.list("some/")),
            "PUT": lambda: put(flaky),
            "DELETE": lambda: flaky.delete("some/key"),
        }
        for operation, ask in asks.items():
            proxy.clear()
            proxy.add(fault, times=None)
            with pytest.raises(StoreRefused, match=rf"^{operation} s3://wrm-test/.* at {proxy.url}: .*{named}"):
                ask()
            assert proxy.count() == 1, operation

    def test_no_such_key_is_asked_once(self, flaky: ObjectStore, proxy: FaultProxy) -> None:
        with pytest.raises(ObjectNotFound):
            flaky.get(f"{flaky.prefix}missing")
        assert proxy.count() == 1

    def test_a_real_wrong_secret(self, proxied: StoreSettings, proxy: FaultProxy, key: str) -> None:
        with ObjectStore(replace(proxied, secret_access_key=SecretStr("not-the-secret"))) as store:
            with pytest.raises(StoreRefused, match="SignatureDoesNotMatch"):
                store.get(key)
            with pytest.raises(StoreRefused, match="AccessDenied"):
                store.head(key)  # a HEAD's 403 has no body that says more
        assert proxy.count() == 2

    def test_a_real_missing_bucket(self, proxied: StoreSettings, proxy: FaultProxy) -> None:
        store = ObjectStore(replace(proxied, bucket="no-such-bucket"))
        with store, pytest.raises(StoreRefused, match=r"NoSuchBucket.*Check BUCKET_NAME"):
            list(store.list(""))
        assert proxy.count() == 1

    def test_https_to_a_plain_http_server_is_a_tls_error_at_once(self, store_settings: StoreSettings) -> None:
        settings = replace(store_settings, endpoint_url=store_settings.endpoint_url.replace("http:", "https:"))
        with ObjectStore(settings, policy=QUICK) as store:
            with pytest.raises(StoreRefused, match="TLS failed"):
                store.get("x")
            assert store.traffic.requests["get"] == 1

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_handshake_that_breaks_off_is_transient(self, store_settings: StoreSettings, how: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def hang_up() -> None:
                for _ in range(QUICK.attempts):
                    connection, _ = listener.accept()
                    connection.recv(1 if how == "reset" else 4096)  # closing with bytes unread sends a reset
                    connection.close()

            thread = threading.Thread(target=hang_up, daemon=True)
            thread.start()
            port = listener.getsockname()[1]
            settings = replace(store_settings, endpoint_url=f"https://127.0.0.1:{port}")
            with ObjectStore(settings, policy=QUICK) as store:
                with pytest.raises(StoreUnavailable):
                    store.get("x")
                assert store.traffic.requests["get"] == QUICK.attempts
            thread.join()


class TestCredentialsRotated:
    def stale(self, proxied: StoreSettings) -> StoreSettings:
        return replace(proxied, access_key_id=SecretStr("rotated-away"))

    def test_they_are_read_again_once_and_the_call_works(
        self, proxied: StoreSettings, proxy: FaultProxy, key: str
    ) -> None:
        reloads: list[int] = []

        def reload() -> StoreSettings:
            reloads.append(1)
            return proxied

        with ObjectStore(self.stale(proxied), reload_credentials=reload, policy=QUICK) as store:
            assert store.get(key).body == BODY
            assert proxy.count() == 2
            assert store.get(key).body == BODY
        assert (len(reloads), proxy.count()) == (1, 3)

    def test_many_threads_read_them_again_once(self, proxied: StoreSettings, key: str) -> None:
        reloads: list[int] = []

        def reload() -> StoreSettings:
            reloads.append(1)
            return proxied

        with ObjectStore(self.stale(proxied), reload_credentials=reload, policy=QUICK) as store:
            assert [found.body for found in store.get_many([key] * 24)] == [BODY] * 24
        assert len(reloads) == 1

    def test_new_ones_that_are_wrong_too_are_an_error(
        self, proxied: StoreSettings, proxy: FaultProxy, key: str
    ) -> None:
        also_wrong = replace(proxied, access_key_id=SecretStr("also-wrong"))
        store = ObjectStore(self.stale(proxied), reload_credentials=lambda: also_wrong, policy=QUICK)
        with store, pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
            store.get(key)
        assert proxy.count() == 2

    def test_the_same_ones_are_not_tried_again(self, proxied: StoreSettings, proxy: FaultProxy, key: str) -> None:
        stale = self.stale(proxied)
        store = ObjectStore(stale, reload_credentials=lambda: stale, policy=QUICK)
        with store, pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
            store.get(key)
        assert proxy.count() == 1


class TestOnlyIfAbsent:
    def test_an_object_that_is_there_with_other_bytes_stays(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(KeyExists, match=re.escape(store.uri(key))):
            store.put(key, b"other", content_type="text/plain", only_if_absent=True)
        assert store.get(key).body == BODY

    def test_a_put_whose_answer_was_lost_is_a_success(
        self, flaky: ObjectStore, store: ObjectStore, proxy: FaultProxy
    ) -> None:
        proxy.add(Reset(applied=True), method="PUT")
        put(flaky, only_if_absent=True)
        assert proxy.count("PUT") == 2  # the second is refused with 412: the first one won
        assert store.get(f"{store.prefix}new.txt").body == BODY

    def test_a_store_that_cannot_is_asked_first(
        self, flaky: ObjectStore, store: ObjectStore, proxy: FaultProxy
    ) -> None:
        proxy.add(Answer(501, s3_error("NotImplemented")), method="PUT")
        put(flaky, only_if_absent=True)
        assert store.get(f"{store.prefix}new.txt").body == BODY
        proxy.add(Answer(501, s3_error("NotImplemented")), method="PUT")
        with pytest.raises(KeyExists):
            put(flaky, body=b"other", only_if_absent=True)
        assert store.get(f"{store.prefix}new.txt").body == BODY

    def test_another_refusal_is_not_taken_for_an_object(self, flaky: ObjectStore, proxy: FaultProxy) -> None:
        proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT")
        with pytest.raises(StoreRefused, match="AccessDenied"):
            put(flaky, only_if_absent=True)


class TestBreaker:
    def test_an_open_breaker_keeps_requests_from_the_store(
        self, proxied: StoreSettings, proxy: FaultProxy, key: str
    ) -> None:
        proxy.add(Answer(503, SLOW_DOWN), times=None)
        breaker = CircuitBreaker("object-store", failure_threshold=3, open_s=60, state=LocalBreakerState())
        with ObjectStore(proxied, breaker=breaker, policy=QUICK) as store:
            for _ in range(5):
                with pytest.raises(StoreUnavailable, match=r"object-store failed repeatedly.*SlowDown"):
                    store.get(key)
        assert proxy.count() == 3
        assert breaker.is_open()

    def test_permanent_errors_do_not_open_it(self, proxied: StoreSettings, proxy: FaultProxy) -> None:
        breaker = CircuitBreaker("object-store", failure_threshold=2, open_s=60, state=LocalBreakerState())
        with ObjectStore(proxied, breaker=breaker, policy=QUICK) as store:
            for _ in range(6):
                with pytest.raises(ObjectNotFound):
                    store.get(f"{store.prefix}missing")
        assert proxy.count() == 6
        assert not breaker.is_open()

    def test_one_hiccup_of_all_requests_in_flight_does_not_open_it(
        self, proxied: StoreSettings, proxy: FaultProxy, key: str
    ) -> None:
        proxy.add(Answer(503, SLOW_DOWN), times=proxied.concurrency)
        breaker = store_breaker(proxied, LocalBreakerState())
        with ObjectStore(proxied, breaker=breaker, policy=QUICK) as store:
            assert len(list(store.get_many([key] * 30))) == 30


class TestSecrets:
    def test_no_secret_in_any_text(
        self, proxied: StoreSettings, proxy: FaultProxy, key: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, logger="wrm_pipeline")
        secrets = [proxied.secret_access_key.get_secret_value(), proxied.access_key_id.get_secret_value()]
        faults: list[Fault] = [*TRANSIENT.values(), *ON_READ.values(), *(fault for fault, _ in PERMANENT.values())]
        texts = [repr(proxied), str(proxied)]
        quick = replace(QUICK, attempts=2)
        with ObjectStore(replace(proxied, timeout_s=0.2), policy=quick) as store:
            texts += [repr(store), str(store)]
            for fault in faults:
                proxy.clear()
                proxy.add(fault, times=None)
                with pytest.raises(StoreError) as caught:
                    store.get(key)
                texts += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
        texts += [record.getMessage() for record in caplog.records if record.name.startswith("wrm_pipeline")]
        assert any("trying again" in text for text in texts)
        for text in texts:
            assert not any(secret in text for secret in secrets)
            assert "Signature=" not in text

    def test_a_query_string_is_not_echoed(self, flaky: ObjectStore, proxy: FaultProxy) -> None:
        proxy.add(Reset(), times=None)
        with pytest.raises(StoreUnavailable) as caught:
            list(flaky.list("some/"))
        assert "list-type" not in str(caught.value)


class TestSurroundings:
    def test_aws_variables_and_files_change_nothing(
        self, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/config").write_text("[default]\nendpoint_url=http://127.0.0.1:1\nregion=mars\n")
        hostile = {
            "HOME": str(tmp_path),
            "AWS_PROFILE": "does-not-exist",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
            "AWS_ACCESS_KEY_ID": "other",
            "AWS_SECRET_ACCESS_KEY": "other",
            "AWS_SESSION_TOKEN": "other",
            "AWS_REGION": "mars",
            "AWS_USE_FIPS_ENDPOINT": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
            "AWS_MAX_ATTEMPTS": "9",
            "HTTP_PROXY": "http://127.0.0.1:1",
            "http_proxy": "http://127.0.0.1:1",
        }
        for name, value in hostile.items():
            monkeypatch.setenv(name, value)
        with ObjectStore(store_settings) as store:
            put(store)
            assert store.get(f"{store.prefix}new.txt").body == BODY


class TestTraffic:
    def test_a_run_can_report_what_it_moved(self, store: ObjectStore, key: str) -> None:
        before = store.traffic.snapshot()
        store.get(key)
        list(store.list(store.prefix))
        put(store, "second", b"12345")
        moved = store.traffic.snapshot() - before
        assert moved.requests == {"get": 1, "list": 1, "put": 1}
        assert (moved.bytes_received, moved.bytes_sent, moved.retries) == (len(BODY), 5, 0)


class TestRetryAfter:
    NOW = datetime(2025, 5, 12, 18, 10, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            (None, None),
            ("0", 0.0),
            ("120", 120.0),
            ("Mon, 12 May 2025 18:11:00 GMT", 60.0),
            ("Mon, 12 May 2025 18:00:00 GMT", 0.0),
            ("soon", None),
            ("-5", None),
            ("Mon, 12 May 2025 18:11:00", None),
        ],
    )
    def test_seconds_or_a_date(self, header: str | None, seconds: float | None) -> None:
        assert retry_after_seconds(header, now=self.NOW) == seconds

    @given(st.text())
    def test_no_header_breaks_it(self, header: str) -> None:
        seconds = retry_after_seconds(header, now=self.NOW)
        assert seconds is None or seconds >= 0

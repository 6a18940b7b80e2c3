"""The doctor, on a healthy store and on stores with one thing wrong each."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from wrm_pipeline.cli.local_servers import LocalStore, free_port
from wrm_pipeline.lake.doctor import Finding, Status, examine
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline_tests.fixtures.certificates import LoopbackTls, loopback_tls
from wrm_pipeline_tests.fixtures.fault_proxy import (
    HTML,
    Answer,
    EditAnswer,
    FaultProxy,
    FlipByte,
    Reset,
    Stall,
    s3_error,
)

ALL = [
    "reachable",
    "clock",
    "credentials",
    "bucket",
    "path style",
    "upload read back",
    "user metadata",
    "listing",
    "MD5",
    "conditional PUT",
    "delete",
]


def findings(settings: StoreSettings) -> dict[str, Finding]:
    found = {finding.name: finding for finding in examine(settings)}
    assert list(found) == ALL
    for finding in found.values():
        assert finding.found
        assert finding.remedy or finding.status in {Status.OK, Status.SKIP} or "no Date header" in finding.found
    return found


def of_status(found: dict[str, Finding], status: Status) -> list[str]:
    return [finding.name for finding in found.values() if finding.status is status]


def test_a_healthy_store_is_healthy_and_left_clean(store: ObjectStore, store_settings: StoreSettings) -> None:
    found = findings(store_settings)
    assert of_status(found, Status.OK) == ALL
    assert "plain http" in found["upload read back"].found
    assert list(store.list(store.prefix)) == []


def test_a_store_that_is_down(store_settings: StoreSettings) -> None:
    found = findings(replace(store_settings, endpoint_url=f"http://127.0.0.1:{free_port()}"))
    assert of_status(found, Status.FAIL) == ["reachable"]
    assert of_status(found, Status.SKIP) == ALL[1:]
    assert "Connection refused" in found["reachable"].found
    assert "S3_ENDPOINT_URL" in found["reachable"].remedy


def test_something_that_is_not_s3(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Answer(200, HTML, {"Content-Type": "text/html"}), times=None)
    found = findings(proxied)
    assert of_status(found, Status.FAIL) == ["reachable"]
    assert "not S3" in found["reachable"].found


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_wrong_credentials(store_settings: StoreSettings, wrong: str) -> None:
    found = findings(replace(store_settings, **{wrong: SecretStr("wrong")}))
    assert of_status(found, Status.FAIL) == ["credentials"]
    assert of_status(found, Status.OK) == ["reachable", "clock"]
    assert wrong.upper() in found["credentials"].found


def test_a_missing_bucket(store_settings: StoreSettings) -> None:
    found = findings(replace(store_settings, bucket="no-such-bucket"))
    assert of_status(found, Status.FAIL) == ["bucket"]
    assert of_status(found, Status.OK) == ["reachable", "clock", "credentials"]
    assert "BUCKET_NAME" in found["bucket"].remedy


def test_an_endpoint_that_already_holds_the_bucket(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Answer(404, s3_error("NoSuchKey")), method="GET")  # such a host takes the bucket in the path for a key
    found = findings(replace(proxied, bucket="127"))  # of http://127.0.0.1
    assert of_status(found, Status.FAIL) == ["bucket"]
    assert "Remove '127.'" in found["bucket"].remedy


@pytest.mark.parametrize(
    ("off", "status"),
    [(timedelta(seconds=1), Status.OK), (timedelta(minutes=2), Status.WARN), (timedelta(minutes=-20), Status.FAIL)],
)
def test_the_clock(proxied: StoreSettings, proxy: FaultProxy, off: timedelta, status: Status) -> None:
    date = format_datetime(datetime.now(UTC) + off, usegmt=True)
    proxy.add(Answer(200, b"", {"Date": date}), method="HEAD")
    found = findings(proxied)
    assert found["clock"].status is status
    assert ("clock" in found["clock"].remedy) == (status is not Status.OK)
    assert found["delete"].status is Status.OK


def test_no_date_header(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(EditAnswer(without=frozenset({"date"})), method="HEAD")
    assert findings(proxied)["clock"].status is Status.WARN


def test_a_store_that_says_the_clock_is_wrong(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Answer(403, s3_error("RequestTimeTooSkewed")), method="GET")
    found = findings(proxied)
    assert of_status(found, Status.FAIL) == ["credentials"]
    assert "clock" in found["credentials"].found


def test_another_bucket_in_the_answer(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(EditAnswer(body=lambda xml: re.sub(rb"<Name>.*</Name>", b"<Name>other</Name>", xml)), times=None)
    found = findings(proxied)
    assert of_status(found, Status.FAIL) == ["path style"]
    assert "'other'" in found["path style"].found


def test_damaged_bytes(proxied: StoreSettings, proxy: FaultProxy, store: ObjectStore) -> None:
    proxy.add(FlipByte(9), method="GET", path="/doctor/probe", times=None)
    found = findings(proxied)
    assert of_status(found, Status.FAIL) == ["upload read back"]
    assert list(store.list(store.prefix)) == []


def test_a_key_that_may_not_write(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Answer(403, s3_error("AccessDenied")), method="PUT", times=None)
    found = findings(proxied)
    assert of_status(found, Status.FAIL) == ["upload read back"]
    assert of_status(found, Status.SKIP) == ALL[6:]


def test_lost_metadata(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(EditAnswer(without=frozenset({"x-amz-meta-wrm-doctor"})), method="HEAD", times=None)
    assert findings(proxied)["user metadata"].status is Status.WARN


def test_a_late_listing(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(EditAnswer(body=lambda xml: re.sub(rb"<Contents>.*</Contents>", b"", xml)), method="GET", times=None)
    # The body of the probe itself holds no such element, so only listings are changed.
    assert findings(proxied)["listing"].status is Status.WARN


def test_a_store_that_ignores_or_lacks_checks(proxied: StoreSettings, proxy: FaultProxy) -> None:
    first = iter(examine(proxied))
    for finding in first:
        if finding.name == "listing":
            break
    proxy.add(Answer(200, b"", {"ETag": '"x"'}), method="PUT", times=2)  # the wrong MD5, and the condition
    rest = {finding.name: finding for finding in first}
    assert (rest["MD5"].status, rest["MD5"].found) == (Status.WARN, "a wrong Content-MD5 is accepted")
    assert (rest["conditional PUT"].status, rest["conditional PUT"].found) == (Status.WARN, "If-None-Match is ignored")


def test_a_store_without_conditional_writes(proxied: StoreSettings, proxy: FaultProxy) -> None:
    first = iter(examine(proxied))
    for finding in first:
        if finding.name == "MD5":
            break
    proxy.add(Answer(501, s3_error("NotImplemented")), method="PUT")
    assert next(first).found == "If-None-Match is answered NotImplemented"
    assert [finding.status for finding in first] == [Status.OK]


def test_an_object_that_cannot_be_deleted(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Answer(204, b"", {}), method="DELETE")
    assert findings(proxied)["delete"].status is Status.WARN


def test_a_store_that_dies_on_the_way_is_a_finding(proxied: StoreSettings, proxy: FaultProxy) -> None:
    first = iter(examine(proxied))
    for finding in first:
        if finding.name == "listing":
            break
    proxy.add(Reset(), times=None)
    assert {finding.status for finding in first} == {Status.FAIL}


def test_stopping_early_leaves_nothing_behind(store: ObjectStore, store_settings: StoreSettings) -> None:
    examination = examine(store_settings)
    for finding in examination:
        if finding.name == "upload read back":
            break
    assert len(list(store.list(store.prefix))) == 1
    examination.close()  # type: ignore[attr-defined]
    assert list(store.list(store.prefix)) == []


def test_a_stalled_store_does_not_hold_the_doctor_up(proxied: StoreSettings, proxy: FaultProxy) -> None:
    proxy.add(Stall(), times=None)
    found = findings(replace(proxied, timeout_s=0.3))
    assert of_status(found, Status.FAIL) == ["reachable"]
    assert proxy.count() == 1


class TestTls:
    @pytest.fixture
    def tls(self, tmp_path: Path) -> LoopbackTls:
        return loopback_tls(tmp_path)

    @pytest.fixture
    def over_tls(
        self, store_server: LocalStore, store_settings: StoreSettings, tls: LoopbackTls
    ) -> Iterator[StoreSettings]:
        with FaultProxy(store_server.endpoint_url, tls=tls.server) as proxy:
            yield replace(store_settings, endpoint_url=proxy.url)

    def test_an_upload_over_tls_is_read_back(
        self, over_tls: StoreSettings, tls: LoopbackTls, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.authority_file))
        found = findings(over_tls)
        assert of_status(found, Status.OK) == ALL
        assert "over TLS, same bytes" in found["upload read back"].found
        assert "certificate verified" in found["reachable"].found

    def test_a_certificate_nobody_vouches_for(self, over_tls: StoreSettings) -> None:
        found = findings(over_tls)
        assert of_status(found, Status.FAIL) == ["reachable"]
        assert "CERTIFICATE_VERIFY_FAILED" in found["reachable"].found
        assert "AWS_CA_BUNDLE" in found["reachable"].remedy

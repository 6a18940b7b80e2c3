"""What is said of each part when it is there, down, silent, or talks rubbish; and that everything is asked at once."""

import datetime as dt
import socket
import threading
import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from pydantic import SecretStr

from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.lake.doctor import Finding, Status
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.operations.health import check_health, is_healthy
from wrm_pipeline.settings import Settings, StoreSettings, load_settings
from wrm_pipeline_tests.fixtures.dagster import environment_of, put_raw
from wrm_pipeline_tests.fixtures.fault_proxy import HTML, Answer, FaultProxy
from wrm_pipeline_tests.fixtures.vault import LocalVault, vault, vault_server  # noqa: F401

SECRET = "canary-9f2c61aa0b"
# Every machine is slow at times: what is promised is under 2 s with all of `wrm health`; here it is the checks alone.
PROMISE_S = 2.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance with schedules, sensors and a queue; its daemon has just been heard of."""
    with dg.DagsterInstance.from_config(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture
def instance(home: dg.DagsterInstance) -> dg.DagsterInstance:
    home.wipe_daemon_heartbeats()
    beat(home, age_s=5)
    return home


def beat(instance: dg.DagsterInstance, *, age_s: float, without: str = "") -> None:
    for kind in instance.get_required_daemon_types():
        if kind != without:
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - age_s, kind, "d"))


@pytest.fixture
def settings(store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment_of(store_settings).items():
        monkeypatch.setenv(name, value)
    return load_settings()


def ask(settings: Settings, instance: dg.DagsterInstance, *, deadline_s: float = 10.0) -> dict[str, Finding]:
    findings = check_health(settings, lambda: instance, with_secrets=lambda: settings, deadline_s=deadline_s)
    return {finding.name: finding for finding in findings}


def minutes_ago(minutes: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)


def test_all_is_well(
    settings: Settings,
    instance: dg.DagsterInstance,
    lake: Lake,
    redis_server: LocalRedis,
    vault: LocalVault,  # noqa: F811
) -> None:
    put_raw(lake, minutes_ago(1))
    with_all = settings.model_copy(
        update={
            "redis_url": SecretStr(redis_server.url),
            "vault_enabled": True,
            "vault_addr": vault.address,
        }
    )

    findings = ask(with_all, instance)

    assert list(findings) == ["vault", "s3", "freshness", "daemon", "redis"]
    assert [finding.status for finding in findings.values()] == [Status.OK] * 5
    assert [finding.remedy for finding in findings.values()] == [""] * 5


def test_parts_that_the_settings_do_not_name_are_not_asked(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert list(ask(settings, instance)) == ["s3", "freshness", "daemon"]


@pytest.mark.parametrize(
    ("age_minutes", "status"), [(1, Status.OK), (20, Status.WARN), (150, Status.FAIL)], ids=["new", "late", "old"]
)
def test_freshness_is_held_against_the_contract(
    settings: Settings, instance: dg.DagsterInstance, lake: Lake, age_minutes: float, status: Status
) -> None:
    put_raw(lake, minutes_ago(age_minutes))

    found = ask(settings, instance)["freshness"]

    assert found.status is status
    assert bool(found.remedy) == (status is not Status.OK)


def test_a_lake_without_a_snapshot_is_new_and_not_broken(settings: Settings, instance: dg.DagsterInstance) -> None:
    findings = ask(settings, instance)

    assert findings["freshness"].status is Status.WARN
    assert is_healthy(list(findings.values()))


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda home: home.wipe_daemon_heartbeats(), "never run"),
        (lambda home: beat(home, age_s=400), "400 s old"),
        (lambda home: (home.wipe_daemon_heartbeats(), beat(home, age_s=5, without="SENSOR")), "SENSOR never"),
    ],
    ids=["never", "late", "one missing"],
)
def test_a_daemon_that_gives_no_sign_of_life_is_down(
    settings: Settings, instance: dg.DagsterInstance, prepare: Callable[[dg.DagsterInstance], object], said: str
) -> None:
    prepare(instance)

    found = ask(settings, instance)["daemon"]

    assert found.status is Status.FAIL
    assert said in found.found
    assert "dagster-daemon run" in found.remedy


def test_an_instance_that_cannot_be_opened_is_a_finding(settings: Settings) -> None:
    def broken() -> dg.DagsterInstance:
        raise OSError(f"postgresql://dagster:{SECRET}@db is down")

    findings = check_health(settings, broken, with_secrets=lambda: settings, deadline_s=10)

    daemon = next(finding for finding in findings if finding.name == "daemon")
    assert daemon.status is Status.FAIL
    assert SECRET not in str(findings)


def test_a_store_that_refuses_says_what_to_check(settings: Settings, instance: dg.DagsterInstance) -> None:
    wrong = settings.model_copy(update={"s3_secret_access_key": SecretStr(SECRET)})

    findings = ask(wrong, instance)

    assert findings["s3"].status is Status.FAIL
    assert "S3_SECRET_ACCESS_KEY" in findings["s3"].found
    assert SECRET not in str(findings)


def test_a_vault_that_is_sealed_is_to_be_unsealed(
    settings: Settings,
    instance: dg.DagsterInstance,
    vault: LocalVault,  # noqa: F811
) -> None:
    with vault.sealed():
        found = ask(settings.model_copy(update={"vault_enabled": True, "vault_addr": vault.address}), instance)["vault"]

    assert found.status is Status.FAIL
    assert found.found == f"{vault.address} is sealed"
    assert "unseal" in found.remedy


@pytest.mark.parametrize(
    "answer", [Answer(200, HTML), Answer(502, HTML), Answer(200, b"[]")], ids=["page", "502", "[]"]
)
def test_what_is_no_vault_is_not_taken_for_one(
    settings: Settings, instance: dg.DagsterInstance, answer: Answer
) -> None:
    with FaultProxy("http://127.0.0.1:1") as proxy:
        proxy.add(answer, times=None)
        found = ask(settings.model_copy(update={"vault_enabled": True, "vault_addr": proxy.url}), instance)["vault"]

    assert found.status is Status.FAIL
    assert found.found.startswith(f"{proxy.url} is no Vault")
    assert "VAULT_ADDR" in found.remedy


def test_a_vault_without_an_address_names_the_setting(settings: Settings, instance: dg.DagsterInstance) -> None:
    found = ask(settings.model_copy(update={"vault_enabled": True}), instance)["vault"]

    assert found.status is Status.FAIL
    assert "VAULT_ADDR" in found.found


def test_a_redis_that_is_down_is_a_warning(settings: Settings, instance: dg.DagsterInstance) -> None:
    gone = settings.model_copy(update={"redis_url": SecretStr(f"redis://:{SECRET}@127.0.0.1:1/0")})

    findings = ask(gone, instance)

    assert findings["redis"].status is Status.WARN
    assert "REDIS_URL" in findings["redis"].remedy
    assert is_healthy(list(findings.values()))
    assert SECRET not in str(findings)


def test_everything_down_and_hanging_is_told_within_the_promise(settings: Settings) -> None:
    """Black holes take connections and say nothing; refused ones would show nothing about deadlines."""
    forever = threading.Event()

    def hang() -> dg.DagsterInstance:
        forever.wait(600)
        raise AssertionError("the test has ended")

    with socket.create_server(("127.0.0.1", 0)) as hole:
        place = f"127.0.0.1:{hole.getsockname()[1]}"
        down = settings.model_copy(
            update={
                "s3_endpoint_url": f"http://{place}",
                "vault_enabled": True,
                "vault_addr": f"http://{place}",
                "redis_url": SecretStr(f"redis://{place}/0"),
            }
        )
        started = time.monotonic()
        findings = check_health(down, hang, with_secrets=lambda: down)
        took_s = time.monotonic() - started
    forever.set()

    assert took_s < PROMISE_S
    assert {finding.name: finding.status for finding in findings} == {
        "vault": Status.FAIL,
        "s3": Status.FAIL,
        "freshness": Status.FAIL,
        "daemon": Status.FAIL,
        "redis": Status.WARN,
    }
    assert all(finding.remedy for finding in findings)
    assert "not answered within" in next(finding for finding in findings if finding.name == "daemon").found

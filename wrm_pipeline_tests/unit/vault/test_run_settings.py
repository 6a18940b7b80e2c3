"""The settings of a run: what is asked of Vault and what is not, what is missing, and keys that were rotated."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.lake.object_store import ObjectStore, StoreRefused
from wrm_pipeline.resources.vault import VaultResource
from wrm_pipeline.settings import SettingsError, load_settings
from wrm_pipeline.vault.errors import VaultDenied, VaultSealed
from wrm_pipeline.vault.run_settings import load_run_settings
from wrm_pipeline_tests.fixtures.fault_proxy import FaultProxy
from wrm_pipeline_tests.fixtures.vault import LocalVault, set_variables

CANARY = "canary-4f1d"
PSEUDONYM_KEY = f"{CANARY}-and-twenty-more-characters"
PLACE = {"S3_ENDPOINT_URL": "https://store.example.org", "BUCKET_NAME": "bikes"}


@pytest.fixture
def through(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Vault switched on, with everything in it, reached through a proxy that counts."""
    vault.put("development/storage", s3_access_key_id="id", s3_secret_access_key=CANARY)
    vault.put("development/redis", redis_url=f"redis://:{CANARY}@127.0.0.1/0")
    vault.put("development/alerts", wrm_alert_urls=f"json://{CANARY}")
    vault.put("development/privacy", wrm_pseudonym_key=PSEUDONYM_KEY)
    with FaultProxy(vault.address) as proxy:
        set_variables(monkeypatch, {**vault.variables(), **PLACE, "VAULT_ADDR": proxy.url})
        yield proxy


def asked(proxy: FaultProxy) -> list[str]:
    """Return the parts that were read, in order."""
    return [seen.target.rpartition("/")[2] for seen in proxy.seen if "/secret/data/" in seen.target]


# --- Where values come from -------------------------------------------------------------------------------------------


def test_with_vault_off_nothing_is_asked(through: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ENABLED", "false")

    assert load_run_settings().wrm_pseudonym_key is None
    assert through.seen == []


def test_load_settings_never_asks(through: FaultProxy) -> None:
    assert load_settings().s3_secret_access_key is None
    assert through.seen == []


def test_without_vault_hvac_is_not_imported() -> None:
    """It costs every run 0.2 s."""
    code = "import sys, wrm_pipeline.vault.run_settings as s; s.load_run_settings(); sys.exit('hvac' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_secret_comes_from_its_path(through: FaultProxy) -> None:
    settings = load_run_settings()

    store = settings.require_store()
    assert (store.access_key_id.get_secret_value(), store.secret_access_key.get_secret_value()) == ("id", CANARY)
    assert store.endpoint_url == PLACE["S3_ENDPOINT_URL"]
    assert settings.require_pseudonym_key() == PSEUDONYM_KEY.encode()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == f"redis://:{CANARY}@127.0.0.1/0"
    assert settings.wrm_alert_urls is not None
    assert settings.wrm_alert_urls.get_secret_value() == f"json://{CANARY}"
    assert asked(through) == ["storage", "redis", "alerts", "privacy"]


def test_the_environment_names_the_paths(
    vault: LocalVault, through: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.put("production/privacy", wrm_pseudonym_key="p" * 32)
    set_variables(monkeypatch, {**vault.variables("wrm-pipeline-production"), "WRM_ENV": "production"})

    assert load_run_settings().require_pseudonym_key() == b"p" * 32


def test_what_the_environment_a_file_or_the_caller_sets_wins_and_is_not_asked_for(
    through: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, {"S3_ACCESS_KEY_ID": "mine", "S3_SECRET_ACCESS_KEY": "mine, too"})
    Path(".env").write_text("REDIS_URL=redis://here\n")
    Path("secrets").mkdir()
    Path("secrets/wrm_alert_urls").write_text("json://here")
    monkeypatch.setenv("WRM_SECRETS_DIR", "secrets")

    settings = load_run_settings(wrm_pseudonym_key="k" * 32)

    assert settings.require_store().secret_access_key.get_secret_value() == "mine, too"
    assert settings.require_pseudonym_key() == b"k" * 32
    assert through.seen == [], "there was nothing left to ask"


def test_names_with_empty_values_are_asked_for(through: FaultProxy) -> None:
    """What `wrm secrets migrate` leaves."""
    Path(".env").write_text("S3_ACCESS_KEY_ID=\nS3_SECRET_ACCESS_KEY=\nWRM_PSEUDONYM_KEY=''\nREDIS_URL=\n")

    settings = load_run_settings()

    assert settings.require_store().secret_access_key.get_secret_value() == CANARY
    assert asked(through) == ["storage", "redis", "alerts", "privacy"]


def test_one_key_from_the_environment_and_the_other_from_vault(
    through: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "mine")

    store = load_run_settings().require_store()

    assert (store.access_key_id.get_secret_value(), store.secret_access_key.get_secret_value()) == ("mine", CANARY)


def test_storage_may_say_where_the_store_is(
    vault: LocalVault, through: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"s3_access_key_id": "id", "s3_secret_access_key": CANARY}
    place = {"s3_endpoint_url": "https://of.vault/", "bucket_name": "of-vault", "s3_region_name": "of-vault"}
    vault.put("development/storage", **keys, **place)
    monkeypatch.delenv("S3_ENDPOINT_URL")

    settings = load_run_settings()

    store = settings.require_store()
    assert (store.endpoint_url, store.region, store.bucket) == ("https://of.vault", "of-vault", "bikes")
    assert settings.has_store


# --- Asked once a minute, and anew when asked to ----------------------------------------------------------------------


def test_many_ticks_ask_once_and_log_in_once(through: FaultProxy) -> None:
    for _ in range(5):
        load_run_settings()

    assert asked(through) == ["storage", "redis", "alerts", "privacy"]
    assert through.count("POST", "/login") == 1


def test_a_refresh_asks_again_with_the_same_token(vault: LocalVault, through: FaultProxy) -> None:
    load_run_settings()
    vault.put("development/storage", s3_access_key_id="new", s3_secret_access_key="new")

    assert load_run_settings().require_store().access_key_id.get_secret_value() == "id"
    assert load_run_settings(refresh=True).require_store().access_key_id.get_secret_value() == "new"
    assert load_run_settings().require_store().access_key_id.get_secret_value() == "new"
    assert through.count("POST", "/login") == 1


def test_threads_may_ask_at_once(through: FaultProxy) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_run_settings().require_pseudonym_key())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [PSEUDONYM_KEY.encode()] * 8
    assert through.count("POST", "/login") == 1


def test_s3_keys_that_were_rotated_are_picked_up_without_a_restart(
    vault: LocalVault, through: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def keep_in_vault(server: LocalStore) -> None:
        keys = {"s3_access_key_id": server.access_key_id, "s3_secret_access_key": server.secret_access_key}
        vault.put("development/storage", **keys)

    old = LocalStore(tmp_path / "old", bucket="bikes")
    new = LocalStore(tmp_path / "new", bucket="bikes", port=old.port)
    monkeypatch.setenv("S3_ENDPOINT_URL", old.endpoint_url)
    keep_in_vault(old)
    settings = load_run_settings().require_store()
    with ObjectStore(settings, reload_credentials=lambda: load_run_settings(refresh=True).require_store()) as store:
        with old:
            store.put("key", b"old", content_type="text/plain")
        through.clear()
        with new:
            with pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
                store.put("key", b"new", content_type="text/plain")
            assert asked(through).count("storage") == 1, "read again once"
            keep_in_vault(new)
            store.put("key", b"new", content_type="text/plain")
            assert store.get("key").body == b"new"
    assert asked(through).count("storage") == 2


# --- What is missing, and what is wrong -------------------------------------------------------------------------------


def test_missing_parts_matter_only_when_they_are_needed(vault: LocalVault, through: FaultProxy) -> None:
    vault.reset()
    set_of = vault.variables()

    settings = load_run_settings(vault_role_id=set_of["VAULT_ROLE_ID"], vault_secret_id=set_of["VAULT_SECRET_ID"])

    assert (settings.redis_url, settings.wrm_alert_urls) == (None, None)
    with pytest.raises(SettingsError) as store:
        settings.require_store()
    for part in (
        "S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY not set",
        through.url,
        "secret/bike-data-flow/development/storage",
        "wrm secrets put storage s3_access_key_id",
    ):
        assert part in str(store.value)
    with pytest.raises(SettingsError, match="secret/bike-data-flow/development/privacy"):
        settings.require_pseudonym_key()


def test_a_key_that_is_missing_in_its_path_is_named(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", s3_access_key_id="id")

    with pytest.raises(SettingsError, match=r"^S3_SECRET_ACCESS_KEY not set, and not in Vault"):
        load_run_settings().require_store()


def test_no_read_is_allowed_elsewhere(through: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRM_ENV", "production")

    with pytest.raises(VaultDenied, match="secret/bike-data-flow/production/storage"):
        load_run_settings()


def test_a_sealed_vault_is_an_error_at_once(vault: LocalVault, through: FaultProxy) -> None:
    with vault.sealed(), pytest.raises(VaultSealed):
        load_run_settings()


@pytest.mark.parametrize(
    ("part", "key", "value", "reason"),
    [
        ("privacy", "wrm_pseudonym_key", CANARY, "at least 32 characters"),
        ("redis", "redis_url", f"http://{CANARY}", "must start with redis://"),
        ("storage", "s3_endpoint_url", CANARY, "must be an address"),
        ("storage", "bucket_name", f"{CANARY} ", "must be a bucket name"),
    ],
)
def test_a_wrong_value_is_named_with_path_and_key_and_not_shown(
    vault: LocalVault,
    through: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    key: str,
    value: str,
    reason: str,
) -> None:
    for name in PLACE:
        monkeypatch.delenv(name)
    vault.put(f"development/{part}", **{key: value})

    with pytest.raises(SettingsError, match=reason) as caught:
        load_run_settings()

    assert str(caught.value).startswith(key.upper())
    assert f"key {key} at secret/bike-data-flow/development/{part} in Vault at {through.url}" in str(caught.value)
    assert CANARY not in repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_vault_without_a_login_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"VAULT_ENABLED": "true", "VAULT_ADDR": "https://vault.example.org"})

    with pytest.raises(SettingsError, match="VAULT_ROLE_ID"):
        load_run_settings()


def test_the_settings_show_no_secret(through: FaultProxy) -> None:
    assert CANARY not in repr(load_run_settings()) + str(load_run_settings().model_dump())


# --- The resource -----------------------------------------------------------------------------------------------------


def test_the_resource_reads_settings(vault: LocalVault, through: FaultProxy) -> None:
    resource = VaultResource()

    assert resource.settings().require_pseudonym_key() == PSEUDONYM_KEY.encode()


def test_the_resource_shows_nothing_secret_in_its_config(through: FaultProxy) -> None:
    resource = VaultResource(address=through.url, mount="secret")
    resource.settings()

    assert CANARY not in repr(resource)
    assert set(VaultResource.model_fields) == {"address", "mount", "namespace"}

"""Wrapped secret ids: unwrapped once, by one process, kept in a file; a used-up token is reported."""

import logging
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wrm_pipeline.settings import SettingsError, load_settings, subprocess_environment
from wrm_pipeline.vault.client import VaultAccess, VaultClient
from wrm_pipeline.vault.errors import PossibleInterception, VaultError, VaultSealed
from wrm_pipeline_tests.fixtures.fault_proxy import Answer, FaultProxy, Reset
from wrm_pipeline_tests.fixtures.vault import LocalVault

ROLE = "wrm-pipeline-development"
STORAGE = "bike-data-flow/development/storage"
WRAPPED, STORED = Path("wrapped"), Path("wrapped.unwrapped")
UNWRAP = "/sys/wrapping/unwrap"


@pytest.fixture
def through(vault: LocalVault) -> Iterator[FaultProxy]:
    vault.put("development/storage", key="value")
    with FaultProxy(vault.address) as proxy:
        yield proxy


def client_of(vault: LocalVault, address: str, **overrides: object) -> VaultClient:
    given = {"vault_addr": address, "vault_role_id": vault.role_id(ROLE), "vault_wrapped_secret_id_file": WRAPPED}
    return VaultClient(VaultAccess.of(load_settings(**{**given, **overrides})))


def read(client: VaultClient) -> str:
    return client.read(STORAGE)["key"].get_secret_value()


def hand_over(vault: LocalVault) -> str:
    """Put a new wrapping token into the file, and return it."""
    token = vault.wrapped_secret_id(ROLE)
    WRAPPED.write_text(token + "\n")
    return token


def interception(client: VaultClient, caplog: pytest.LogCaptureFixture, token: str) -> str:
    """Return the report of a possible interception, which is logged at ERROR, too."""
    with pytest.raises(PossibleInterception) as caught:
        client.read(STORAGE)
    sentence = str(caught.value)
    assert sentence in [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "possible interception" in sentence
    assert "secret-id-accessor/destroy" in sentence
    assert "VAULT_WRAPPED_SECRET_ID_FILE" in sentence
    assert str(WRAPPED) in sentence
    assert token not in sentence + caplog.text
    return sentence


def test_a_secret_id_is_unwrapped_once_and_kept_for_the_next_process(vault: LocalVault, through: FaultProxy) -> None:
    token = hand_over(vault)

    assert read(client_of(vault, through.url)) == "value"
    assert not WRAPPED.exists()
    assert stat.S_IMODE(STORED.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f-]{36}", STORED.read_text())
    assert read(client_of(vault, through.url)) == "value"

    assert through.count("POST", UNWRAP) == 1
    left = {path.name: path.read_text() for path in Path().iterdir()}
    assert set(left) == {"wrapped.unwrapped", "wrapped.unwrapped.lock"}
    assert not any(token in text for text in left.values())


def test_the_secret_id_goes_where_the_setting_says(vault: LocalVault, through: FaultProxy) -> None:
    hand_over(vault)
    Path("own").mkdir()

    assert read(client_of(vault, through.url, vault_secret_id_file="own/secret-id")) == "value"

    assert Path("own/secret-id").exists()
    assert not STORED.exists()


def test_a_new_wrapped_secret_id_takes_the_place_of_the_kept_one(vault: LocalVault, through: FaultProxy) -> None:
    hand_over(vault)
    read(client_of(vault, through.url))
    first = STORED.read_text()

    hand_over(vault)
    read(client_of(vault, through.url))

    assert STORED.read_text() != first
    assert not WRAPPED.exists()


def test_many_at_once_unwrap_it_once(vault: LocalVault, through: FaultProxy) -> None:
    hand_over(vault)
    clients = [client_of(vault, through.url) for _ in range(8)]
    together = threading.Barrier(8)

    def at_once(client: VaultClient) -> str:
        together.wait()
        return read(client)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(at_once, clients)) == ["value"] * 8

    assert through.count("POST", UNWRAP) == 1


PROCESS = f"""
from wrm_pipeline.settings import load_settings
from wrm_pipeline.vault.run_settings import vault_client
print(vault_client(load_settings()).read({STORAGE!r})["key"].get_secret_value())
"""


def test_processes_that_start_together_unwrap_it_once(vault: LocalVault, through: FaultProxy) -> None:
    hand_over(vault)
    environment = subprocess_environment(
        VAULT_ADDR=through.url,
        VAULT_ROLE_ID=vault.role_id(ROLE),
        VAULT_WRAPPED_SECRET_ID_FILE=str(WRAPPED),
        VAULT_TIMEOUT_S="30",
    )
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    assert [process.communicate(timeout=60)[0] for process in started] == ["value\n"] * 3
    assert through.count("POST", UNWRAP) == 1


def test_a_wrapped_file_that_cannot_be_removed_does_no_harm(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a read-only directory of credentials, or when the process died between keeping and removing."""
    token = hand_over(vault)
    read(client_of(vault, through.url))
    WRAPPED.write_text(token)

    assert read(client_of(vault, through.url)) == "value"

    assert through.count("POST", UNWRAP) == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_token_that_somebody_else_has_unwrapped_is_reported(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    token = hand_over(vault)
    vault.ask("POST", "sys/wrapping/unwrap", token=token)

    assert "somebody else has unwrapped it" in interception(client_of(vault, through.url), caplog, token)

    assert not STORED.exists()
    assert WRAPPED.exists(), "evidence stays"
    assert through.count("POST", UNWRAP) == 0


def test_a_used_token_beside_an_older_secret_id_is_reported_too(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    hand_over(vault)
    read(client_of(vault, through.url))
    token = hand_over(vault)
    vault.ask("POST", "sys/wrapping/unwrap", token=token)

    interception(client_of(vault, through.url), caplog, token)


def test_a_token_that_somebody_uses_at_the_last_moment_is_reported(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    token = hand_over(vault)
    gone = b'{"errors":["wrapping token is not valid or does not exist"]}'
    through.add(Answer(400, gone, {"Content-Type": "application/json"}), path=UNWRAP)

    assert "a moment ago" in interception(client_of(vault, through.url), caplog, token)
    assert not STORED.exists()


@pytest.mark.parametrize("path", ["auth/token/create", "sys/wrapping/wrap"])
def test_a_token_that_wraps_something_else_is_reported_and_not_unwrapped(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Somebody could put a wrapping token of their own there, to have the pipeline use a secret id that they know."""
    answer = vault.ask("POST", path, headers={"X-Vault-Wrap-TTL": "5m"}, secret_id="theirs")
    token = answer["wrap_info"]["token"]
    WRAPPED.write_text(token)

    assert "something else than a secret id" in interception(client_of(vault, through.url), caplog, token)
    assert through.count("POST", UNWRAP) == 0


def test_when_the_answer_is_lost_it_is_not_asked_again(vault: LocalVault, through: FaultProxy) -> None:
    """The second request would look like an interception."""
    hand_over(vault)
    through.add(Reset(applied=True), path=UNWRAP)

    with pytest.raises(VaultError, match="may be used up; if the next run says so, make a new secret id"):
        client_of(vault, through.url).read(STORAGE)

    assert through.count("POST", UNWRAP) == 1


def test_a_directory_that_cannot_be_written_costs_no_secret_id(vault: LocalVault, through: FaultProxy) -> None:
    hand_over(vault)

    for place in ("nowhere/secret-id", "/proc/secret-id"):
        with pytest.raises(SettingsError, match="VAULT_SECRET_ID_FILE"):
            client_of(vault, through.url, vault_secret_id_file=place).read(STORAGE)

    assert through.count("POST", UNWRAP) == 0
    assert read(client_of(vault, through.url)) == "value"


def test_a_sealed_vault_costs_no_secret_id(vault: LocalVault, through: FaultProxy) -> None:
    hand_over(vault)
    client = client_of(vault, through.url)
    with vault.sealed(), pytest.raises(VaultSealed):
        client.read(STORAGE)

    assert read(client) == "value"


def test_no_file_at_all_and_an_empty_one_are_named(vault: LocalVault, through: FaultProxy) -> None:
    with pytest.raises(SettingsError, match="VAULT_WRAPPED_SECRET_ID_FILE: there is no wrapped"):
        client_of(vault, through.url).read(STORAGE)
    WRAPPED.write_text("\n")
    with pytest.raises(SettingsError, match="VAULT_WRAPPED_SECRET_ID_FILE: wrapped is empty"):
        client_of(vault, through.url).read(STORAGE)


def test_an_operator_hands_over_wrapped_secret_ids_only(vault: LocalVault, through: FaultProxy) -> None:
    operator = vault.token(policies=["wrm-operator-development"], no_default_policy=True)
    path = f"auth/approle/role/{ROLE}/secret-id"
    with pytest.raises(AssertionError, match="403"):
        vault.ask("POST", path, headers={"X-Vault-Token": operator})
    with pytest.raises(AssertionError, match="403"):
        vault.ask("POST", path, headers={"X-Vault-Token": operator, "X-Vault-Wrap-TTL": "2h"})

    answer = vault.ask("POST", path, headers={"X-Vault-Token": operator, "X-Vault-Wrap-TTL": "10m"})

    WRAPPED.write_text(answer["wrap_info"]["token"])
    assert read(client_of(vault, through.url)) == "value"

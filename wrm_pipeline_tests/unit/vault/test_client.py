"""The Vault client against a real OpenBao: logging in, keeping the token, secrets, and every way of being told no."""

import contextlib
import logging
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from wrm_pipeline.settings import SettingsError, load_settings
from wrm_pipeline.vault.client import VaultAccess, VaultClient
from wrm_pipeline.vault.errors import (
    LoginRefused,
    SecretNotFound,
    TokenRefused,
    VaultDenied,
    VaultError,
    VaultSealed,
    VaultUnavailable,
)
from wrm_pipeline_tests.fixtures.certificates import loopback_tls
from wrm_pipeline_tests.fixtures.fault_proxy import HTML, Answer, CutBody, Fault, FaultProxy, Reset, Stall
from wrm_pipeline_tests.fixtures.servers import wait_until
from wrm_pipeline_tests.fixtures.vault import LocalVault, set_variables

STORAGE = "bike-data-flow/development/storage"
REDIS = "bike-data-flow/development/redis"
CANARY = "canary-4f1d"
LOGIN, READ, RENEW, LOOK_UP = "/auth/approle/login", f"/secret/data/{STORAGE}", "/renew-self", "/lookup-self"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def access(**overrides: object) -> VaultAccess:
    return VaultAccess.of(load_settings(**overrides))


def client_of(vault: LocalVault, **overrides: object) -> VaultClient:
    """A client with the pipeline's role; its requests go where `vault_addr` says."""
    variables = {name.lower(): value for name, value in vault.variables().items()}
    return VaultClient(access(**{**variables, **overrides}))


def refusal(kind: type[BaseException], ask: Callable[[], object]) -> str:
    """Return an error's sentence, and see that it names Vault and nothing in its chain gives a secret away."""
    with pytest.raises(kind) as caught:
        ask()
    shown = "".join(traceback.format_exception(caught.value))
    cause: BaseException | None = caught.value
    while cause is not None:
        shown += repr(cause) + str(cause.args)
        cause = cause.__cause__ or cause.__context__
    assert CANARY not in shown
    assert not re.search(r"\bs\.[A-Za-z0-9]{24}", shown), "a token of OpenBao"
    assert "Vault at http" in str(caught.value)
    return str(caught.value)


@pytest.fixture
def through(vault: LocalVault) -> Iterator[FaultProxy]:
    with FaultProxy(vault.address) as proxy:
        yield proxy


# --- Logging in and reading -------------------------------------------------------------------------------------------


def test_a_role_reads_what_its_policy_allows(vault: LocalVault) -> None:
    vault.put("development/storage", s3_access_key_id="id", s3_secret_access_key=CANARY)

    client = client_of(vault)

    assert client.read(STORAGE)["s3_secret_access_key"].get_secret_value() == CANARY
    assert sorted(client.read(STORAGE)) == ["s3_access_key_id", "s3_secret_access_key"]


def test_role_id_and_secret_id_come_from_files_too(vault: LocalVault) -> None:
    vault.put("development/storage", key="value")
    Path("role").write_text(vault.role_id("wrm-pipeline-development") + "\n")
    Path("secret").write_text(vault.secret_id("wrm-pipeline-development") + "\n")

    client = client_of(
        vault, vault_role_id=None, vault_role_id_file="role", vault_secret_id=None, vault_secret_id_file="secret"
    )

    assert client.read(STORAGE)["key"].get_secret_value() == "value"


def test_a_token_logs_in_and_wins_over_the_role(vault: LocalVault) -> None:
    vault.put("development/storage", key="value")
    token = vault.token(policies=["wrm-operator-development"], no_default_policy=True, ttl="1h")

    client = client_of(vault, vault_token=token)

    assert client.read(STORAGE)["key"].get_secret_value() == "value"
    facts = client.token_facts()
    assert (facts.login, facts.policies, facts.renewable) == ("token", ("wrm-operator-development",), True)
    assert facts.ttl_s is not None
    assert 3000 < facts.ttl_s <= 3600


def test_a_token_that_never_ends_is_said_to_have_no_ttl(vault: LocalVault) -> None:
    facts = client_of(vault, vault_token=vault.root_token).token_facts()

    assert (facts.policies, facts.ttl_s) == (("root",), None)


def test_what_is_not_text_comes_as_json_and_null_is_left_out(vault: LocalVault) -> None:
    vault.ask("POST", f"secret/data/{STORAGE}", data={"text": "a", "number": 12, "list": [1, "b"], "nothing": None})

    values = client_of(vault).read(STORAGE)

    assert {k: v.get_secret_value() for k, v in values.items()} == {"text": "a", "number": "12", "list": '[1, "b"]'}


def test_another_mount_and_a_namespace_are_used(vault: LocalVault) -> None:
    vault.ask("POST", "sys/namespaces/city")
    inside = {"X-Vault-Namespace": "city"}
    vault.ask("POST", "sys/mounts/bikes", headers=inside, type="kv", options={"version": "2"})
    vault.ask("POST", f"bikes/data/{STORAGE}", headers=inside, data={"key": "in the namespace"})
    vault.ask("PUT", "sys/policies/acl/reader", headers=inside, policy='path "bikes/*" { capabilities = ["read"] }')
    token = str(vault.ask("POST", "auth/token/create", headers=inside, policies=["reader"])["auth"]["client_token"])

    client = client_of(vault, vault_token=token, vault_namespace="city", vault_mount="bikes")

    assert client.read(STORAGE)["key"].get_secret_value() == "in the namespace"


def test_tls_with_a_private_authority_needs_its_file_and_nothing_else(vault: LocalVault, tmp_path: Path) -> None:
    vault.put("development/storage", key="value")
    tls = loopback_tls(tmp_path)
    with FaultProxy(vault.address, tls=tls.server) as proxy:
        trusting = client_of(vault, vault_addr=proxy.url, vault_cacert=str(tls.authority_file))
        assert trusting.read(STORAGE)["key"].get_secret_value() == "value"

        sentence = refusal(VaultError, lambda: client_of(vault, vault_addr=proxy.url).read(STORAGE))
        assert "CERTIFICATE_VERIFY_FAILED" in sentence
        assert "VAULT_CACERT" in sentence
        assert proxy.url in sentence


def test_nothing_of_the_shell_but_the_settings_is_used(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself hvac reads ~/.vault-token, and requests reads proxies and ~/.netrc."""
    vault.put("development/storage", key="value")
    client = client_of(vault)
    (tmp_path / ".vault-token").write_text("of somebody else")
    set_variables(
        monkeypatch,
        {"HOME": str(tmp_path), "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": ""},
    )

    assert client.read(STORAGE)["key"].get_secret_value() == "value"


# --- The token --------------------------------------------------------------------------------------------------------


def test_one_login_serves_many_reads(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", key="value")
    client = client_of(vault, vault_addr=through.url)

    for _ in range(3):
        client.read(STORAGE)

    assert (through.count("POST", LOGIN), through.count("GET", READ)) == (1, 3)


def test_an_answer_is_kept_for_as_long_as_it_is_asked_to_be(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", key="old")
    clock = Clock()
    client = VaultClient(access(**{**lower(vault), "vault_addr": through.url}), clock=clock)
    assert client.read(STORAGE, max_age_s=60)["key"].get_secret_value() == "old"
    vault.put("development/storage", key="new")

    clock.now += 59
    assert client.read(STORAGE, max_age_s=60)["key"].get_secret_value() == "old"
    assert client.read(STORAGE)["key"].get_secret_value() == "new"
    with pytest.raises(SecretNotFound):
        client.read(REDIS, max_age_s=60)
    with pytest.raises(SecretNotFound):
        client.read(REDIS, max_age_s=60)
    assert through.count(path=REDIS) == 1, "that there is nothing is kept, too"
    clock.now += 60
    client.read(REDIS.replace("redis", "storage"), max_age_s=60)
    assert through.count("GET", READ) == 3


def lower(vault: LocalVault) -> dict[str, str]:
    return {name.lower(): value for name, value in vault.variables().items()}


@pytest.mark.parametrize("login", ["approle", "token"])
def test_the_token_is_renewed_at_two_thirds_of_its_lease_and_not_before(
    vault: LocalVault, through: FaultProxy, login: str
) -> None:
    vault.put("development/storage", key="value")
    vault.role("wrm-pipeline-development", token_ttl="300s")
    given = {**lower(vault), "vault_addr": through.url}
    if login == "token":
        policies = ["wrm-pipeline-development"]
        given["vault_token"] = vault.token(policies=policies, no_default_policy=True, ttl="300s")
    clock = Clock()
    client = VaultClient(access(**given), clock=clock)
    client.read(STORAGE)

    clock.now += 195
    client.read(STORAGE)
    assert through.count("POST", RENEW) == 0
    clock.now += 10
    client.read(STORAGE)
    assert through.count("POST", RENEW) == 1
    client.read(STORAGE)
    assert through.count("POST", RENEW) == 1, "the lease has begun anew"
    clock.now += 205
    client.read(STORAGE)
    assert through.count("POST", RENEW) == 2
    assert through.count("POST", LOGIN) == (login == "approle")


def test_a_token_that_cannot_be_renewed_is_replaced_at_two_thirds(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", key="value")
    vault.role("wrm-pipeline-development", token_type="batch", token_ttl="300s")
    clock = Clock()
    client = VaultClient(access(**{**lower(vault), "vault_addr": through.url}), clock=clock)
    client.read(STORAGE)

    clock.now += 205
    client.read(STORAGE)

    assert (through.count("POST", LOGIN), through.count("POST", RENEW)) == (2, 0)


def test_a_renewal_that_vault_refuses_is_a_login(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", key="value")
    clock = Clock()
    client = VaultClient(access(**{**lower(vault), "vault_addr": through.url}), clock=clock)
    client.read(STORAGE)
    vault.revoke_tokens_of_roles()

    clock.now += 900
    client.read(STORAGE)

    assert (through.count("POST", RENEW), through.count("POST", LOGIN)) == (1, 2)


def test_a_renewal_without_an_answer_does_not_stop_the_reading(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    vault.put("development/storage", key="value")
    clock = Clock()
    client = VaultClient(access(**{**lower(vault), "vault_addr": through.url}), clock=clock)
    client.read(STORAGE)
    through.add(Answer(503, b"{}"), path=RENEW)

    clock.now += 900
    assert client.read(STORAGE)["key"].get_secret_value() == "value"

    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "renew the token" in warning


def test_after_the_end_of_the_lease_it_logs_in_without_asking(vault: LocalVault, through: FaultProxy) -> None:
    """A machine that slept."""
    vault.put("development/storage", key="value")
    clock = Clock()
    client = VaultClient(access(**{**lower(vault), "vault_addr": through.url}), clock=clock)
    client.read(STORAGE)

    clock.now += 1200
    client.read(STORAGE)

    assert (through.count("POST", RENEW), through.count("POST", LOGIN)) == (0, 2)


def test_a_token_that_expired_is_replaced_once(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", key="value")
    vault.revoke_tokens_of_roles()
    vault.role("wrm-pipeline-development", token_ttl="1s", token_max_ttl="1s")
    client = VaultClient(access(**{**lower(vault), "vault_addr": through.url}), clock=Clock())  # its clock stands still
    client.read(STORAGE)
    wait_until(lambda: not vault.tokens_of_roles(), within_s=30)

    assert client.read(STORAGE)["key"].get_secret_value() == "value"

    assert (through.count("POST", LOGIN), through.count("GET", LOOK_UP)) == (2, 1)


def test_a_token_that_was_revoked_is_replaced_once(vault: LocalVault, through: FaultProxy) -> None:
    vault.put("development/storage", key="value")
    client = client_of(vault, vault_addr=through.url)
    client.read(STORAGE)
    vault.revoke_tokens_of_roles()

    assert client.read(STORAGE)["key"].get_secret_value() == "value"
    assert through.count("POST", LOGIN) == 2


def test_when_the_new_token_is_refused_too_it_gives_up(vault: LocalVault, through: FaultProxy) -> None:
    client = client_of(vault, vault_addr=through.url)
    denied = Answer(403, b'{"errors":["permission denied"]}', {"Content-Type": "application/json"})
    through.add(denied, path="/data/", times=None)
    through.add(denied, path=LOOK_UP, times=None)

    refusal(TokenRefused, lambda: client.read(STORAGE))

    assert through.count("POST", LOGIN) == 2


def test_a_given_token_that_is_dead_is_an_error_that_names_it(vault: LocalVault) -> None:
    token = vault.token(ttl="1h")
    client = client_of(vault, vault_token=token)
    client.token_facts()
    vault.ask("POST", "auth/token/revoke", token=token)

    assert "VAULT_TOKEN" in refusal(TokenRefused, lambda: client.read(STORAGE))
    assert "VAULT_TOKEN" in refusal(TokenRefused, lambda: client_of(vault, vault_token="nonsense").read(STORAGE))


# --- No ---------------------------------------------------------------------------------------------------------------


def test_a_path_that_the_policy_does_not_allow_is_named_with_the_policies(
    vault: LocalVault, through: FaultProxy
) -> None:
    vault.put("production/storage", s3_secret_access_key=CANARY)
    client = client_of(vault, vault_addr=through.url)

    sentence = refusal(VaultDenied, lambda: client.read("bike-data-flow/production/storage"))

    assert "secret/bike-data-flow/production/storage" in sentence
    assert "(wrm-pipeline-development)" in sentence
    assert "WRM_ENV" in sentence
    assert through.count("POST", LOGIN) == 1, "a token that is good is not replaced"


@pytest.mark.parametrize(
    "path",
    [
        "bike-data-flow/development/other",
        "bike-data-flow/development",
        "bike-data-flow/production/privacy",
        "bike-data-flow/development/storage/deeper",
        "elsewhere",
    ],
)
def test_the_policy_of_the_pipeline_allows_its_four_paths_and_no_other(vault: LocalVault, path: str) -> None:
    client = client_of(vault)

    refusal(VaultDenied, lambda: client.read(path))
    for part in ("storage", "redis", "alerts", "privacy"):
        refusal(SecretNotFound, lambda part=part: client.read(f"bike-data-flow/development/{part}"))
        refusal(
            VaultDenied, lambda part=part: client.write(f"bike-data-flow/development/{part}", {"a": SecretStr("b")})
        )


def test_the_policy_of_an_operator_ends_at_the_environment(vault: LocalVault) -> None:
    operator = VaultClient(access(**{n.lower(): v for n, v in vault.variables("wrm-operator-development").items()}))

    assert operator.write(STORAGE, {"key": SecretStr("value")})
    assert operator.read(STORAGE)["key"].get_secret_value() == "value"
    refusal(VaultDenied, lambda: operator.read("bike-data-flow/production/storage"))
    refusal(VaultDenied, lambda: operator.write("bike-data-flow/production/storage", {"a": SecretStr("b")}))


def test_a_path_with_nothing_is_named(vault: LocalVault) -> None:
    client = client_of(vault)

    assert "secret/bike-data-flow/development/storage" in refusal(SecretNotFound, lambda: client.read(STORAGE))

    vault.put("development/storage", one=CANARY, two=CANARY)


def test_a_secret_that_was_deleted_is_said_to_be(vault: LocalVault) -> None:
    vault.put("development/storage", key="value")
    vault.ask("DELETE", f"secret/data/{STORAGE}")

    assert "was deleted" in refusal(SecretNotFound, lambda: client_of(vault).read(STORAGE))


@pytest.mark.parametrize("wrong", ["vault_role_id", "vault_secret_id"])
def test_a_wrong_login_is_an_error_without_a_second_try(vault: LocalVault, through: FaultProxy, wrong: str) -> None:
    client = client_of(vault, vault_addr=through.url, **{wrong: CANARY})

    sentence = refusal(LoginRefused, lambda: client.read(STORAGE))

    assert "VAULT_ROLE_ID" in sentence
    assert "VAULT_SECRET_ID" in sentence
    assert through.count() == 1


def test_a_secret_id_that_is_used_up_is_a_wrong_login(vault: LocalVault) -> None:
    vault.put("development/storage", key="value")
    vault.role("wrm-pipeline-development", secret_id_num_uses=1)
    once = vault.secret_id("wrm-pipeline-development")
    client_of(vault, vault_secret_id=once).read(STORAGE)

    assert "expired" in refusal(LoginRefused, lambda: client_of(vault, vault_secret_id=once).read(STORAGE))


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"vault_addr": None}, "VAULT_ADDR"),
        ({"vault_role_id": None}, "VAULT_ROLE_ID"),
        ({"vault_secret_id": None}, "VAULT_WRAPPED_SECRET_ID_FILE"),
    ],
)
def test_what_is_missing_to_log_in_is_named(missing: dict[str, None], named: str) -> None:
    whole = {"vault_addr": "http://127.0.0.1:1", "vault_role_id": "role", "vault_secret_id": CANARY}

    with pytest.raises(SettingsError, match=named) as caught:
        access(**{**whole, **missing})

    assert CANARY not in str(caught.value)


def test_a_file_of_the_login_that_cannot_be_read_is_named(vault: LocalVault) -> None:
    client = client_of(vault, vault_role_id=None, vault_role_id_file="nowhere")

    with pytest.raises(SettingsError, match=r"VAULT_ROLE_ID_FILE: nowhere cannot be read \(No such file"):
        client.read(STORAGE)


@pytest.mark.parametrize(
    ("mount", "named"), [("nowhere", "VAULT_MOUNT"), ("one", "version 2"), ("cubbyhole", "VAULT_MOUNT")]
)
def test_a_mount_that_is_no_kv_engine_of_version_2_is_an_error(vault: LocalVault, mount: str, named: str) -> None:
    if mount == "one" and "one/" not in vault.ask("GET", "sys/mounts"):
        vault.ask("POST", "sys/mounts/one", type="kv", options={"version": "1"})
    if mount == "one":
        vault.ask("POST", f"one/data/{STORAGE}", key=CANARY)
    client = client_of(vault, vault_token=vault.root_token, vault_mount=mount)

    assert "VAULT_MOUNT" in refusal(VaultError, lambda: client.read(STORAGE))
    assert named in refusal(VaultError, lambda: client.write(STORAGE, {"key": SecretStr(CANARY)}))


def test_a_namespace_that_is_not_there_is_named(vault: LocalVault) -> None:
    client = client_of(vault, vault_namespace="nowhere")

    assert "VAULT_NAMESPACE" in refusal(VaultError, lambda: client.read(STORAGE))


# --- Faults -----------------------------------------------------------------------------------------------------------


def test_a_sealed_vault_is_one_error_without_a_second_try(vault: LocalVault, through: FaultProxy) -> None:
    client = client_of(vault, vault_addr=through.url)
    with vault.sealed():
        assert "sealed" in refusal(VaultSealed, lambda: client.read(STORAGE))
        assert through.count() == 1

    vault.put("development/storage", key="value")
    assert client.read(STORAGE)["key"].get_secret_value() == "value", "it is used again once it is open"


def test_a_vault_that_is_gone_is_an_error_and_one_that_comes_back_empty_is_logged_in_to(tmp_path: Path) -> None:
    with LocalVault(tmp_path / "vault") as vault:
        vault.put("development/storage", key="old")
        client = client_of(vault, vault_token=vault.root_token)
        client.read(STORAGE)
        vault.kill()
        sentence = refusal(VaultUnavailable, lambda: client.read(STORAGE))
        assert f"Vault at {vault.address}" in sentence
        assert "Connection refused" in sentence
        assert "VAULT_ADDR" in sentence

        vault.start()
        vault.put("development/storage", key="new")
        assert client.read(STORAGE)["key"].get_secret_value() == "new"


def test_a_vault_that_says_nothing_costs_twice_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = VaultClient(
            access(vault_addr=address, vault_role_id="role", vault_secret_id=CANARY, vault_timeout_s=0.5)
        )
        begin = time.monotonic()
        sentence = refusal(VaultUnavailable, lambda: client.read(STORAGE))

        # 1 s and a wait of at most 0.2 s; a machine under load may add to it.
        assert time.monotonic() - begin < 5
    assert "nothing within 0.5 s" in sentence
    assert "VAULT_TIMEOUT_S" in sentence


PASSING = {
    "stalled": Stall(),
    "stalled in the body": Stall(after=10),
    "cut": CutBody(10),
    "reset": Reset(),
    "500": Answer(500, b"{}"),
    "502 of a proxy": Answer(502, HTML),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_faults_that_pass_are_tried_again(vault: LocalVault, through: FaultProxy, fault: Fault) -> None:
    vault.put("development/storage", key="value")
    client = client_of(vault, vault_addr=through.url, vault_timeout_s=1)
    through.add(fault, path=READ)

    assert client.read(STORAGE)["key"].get_secret_value() == "value"
    assert through.count("GET", READ) == 2


@pytest.mark.parametrize("status", [412, 429, 472, 473, 500, 502, 503, 504])
def test_faults_that_stay_are_given_up_on(vault: LocalVault, through: FaultProxy, status: int) -> None:
    client = client_of(vault, vault_addr=through.url)
    through.add(Answer(status, CANARY.encode()), times=None)

    assert f"HTTP {status}" in refusal(VaultUnavailable, lambda: client.read(STORAGE))
    assert 2 <= through.count() <= 3


def test_a_vault_that_asks_for_more_patience_than_there_is_fails_at_once(
    vault: LocalVault, through: FaultProxy
) -> None:
    client = client_of(vault, vault_addr=through.url)
    through.add(Answer(429, b"{}", {"Retry-After": "600"}), times=None)

    refusal(VaultUnavailable, lambda: client.read(STORAGE))

    assert through.count() == 1


def test_a_port_that_speaks_no_tls_and_one_that_hangs_up_are_told_apart(vault: LocalVault) -> None:
    plain = f"https://127.0.0.1:{vault.port}"
    sentence = refusal(VaultError, lambda: client_of(vault, vault_addr=plain).read(STORAGE))
    assert "TLS failed" in sentence
    assert "scheme" in sentence

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        broken = f"https://127.0.0.1:{listener.getsockname()[1]}"
        refusal(VaultUnavailable, lambda: client_of(vault, vault_addr=broken).read(STORAGE))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_vault_without_unseal_keys_yet_is_said_to_be(vault: LocalVault, through: FaultProxy) -> None:
    through.add(Answer(501, b'{"errors":["Vault is not initialized"]}'), times=None)

    assert "operator init" in refusal(VaultError, lambda: client_of(vault, vault_addr=through.url).read(STORAGE))
    assert through.count() == 1


def test_a_given_token_that_cannot_be_renewed_is_used_to_its_end(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    vault.put("development/storage", key="value")
    policies = ["wrm-operator-development"]  # which does not allow a renewal
    token = vault.token(policies=policies, no_default_policy=True, ttl="300s")
    clock = Clock()
    client = VaultClient(access(vault_addr=through.url, vault_token=token), clock=clock)
    client.read(STORAGE)

    for _ in range(3):
        clock.now += 30
        client.read(STORAGE)
    clock.now += 130
    for _ in range(3):
        assert client.read(STORAGE)["key"].get_secret_value() == "value"

    assert through.count("POST", RENEW) == 1
    warnings = [record.getMessage() for record in caplog.records if "VAULT_TOKEN" in record.getMessage()]
    assert len(warnings) == 1
    assert re.search(r"ends in (7\d|80) s", warnings[0])


RUBBISH = {
    "html": Answer(200, HTML),
    "empty": Answer(200, b""),
    "a list": Answer(200, b"[]"),
    "no token": Answer(200, b'{"auth": {"client_token": 5}}'),
    "json of something else": Answer(404, f'{{"message": "{CANARY}"}}'.encode()),
    "a page that is not found": Answer(404, HTML),
    "teapot": Answer(418, CANARY.encode()),
    "a redirect": Answer(307, b"", {"Location": f"http://127.0.0.1:9/{CANARY}"}),
}


@pytest.mark.parametrize("answer", RUBBISH.values(), ids=RUBBISH)
def test_a_server_that_is_no_vault_is_an_error_without_a_second_try(
    vault: LocalVault, through: FaultProxy, answer: Answer
) -> None:
    client = client_of(vault, vault_addr=through.url)
    through.add(answer, times=None)

    assert "VAULT_ADDR" in refusal(VaultError, lambda: client.read(STORAGE))
    assert through.count() == 1


@pytest.mark.parametrize(
    "body", [b'{"data": null}', b'{"data": {"data": []}}', b'{"data": {"data": {"key": "v"}}}', b"{}"]
)
def test_an_answer_that_is_no_secret_is_an_error(vault: LocalVault, through: FaultProxy, body: bytes) -> None:
    client = client_of(vault, vault_addr=through.url)
    through.add(Answer(200, body), path=READ, times=None)

    assert "VAULT_MOUNT" in refusal(VaultError, lambda: client.read(STORAGE))


@pytest.mark.parametrize("answer", [Answer(200, b"{}"), Answer(404, b'{"errors":[]}')], ids=["empty", "not found"])
def test_a_look_up_without_a_token_in_its_answer_is_an_error(
    vault: LocalVault, through: FaultProxy, answer: Answer
) -> None:
    client = client_of(vault, vault_addr=through.url)
    through.add(answer, path=LOOK_UP, times=None)

    assert "VAULT_ADDR" in refusal(VaultError, client.token_facts)


# --- Writing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def operator(vault: LocalVault, through: FaultProxy) -> VaultClient:
    variables = {name.lower(): value for name, value in vault.variables("wrm-operator-development").items()}
    return VaultClient(access(**{**variables, "vault_addr": through.url}))


def test_writing_a_key_keeps_the_others(vault: LocalVault, operator: VaultClient) -> None:
    assert operator.write(STORAGE, {"one": SecretStr("1")})
    assert operator.write(STORAGE, {"two": SecretStr("2")})
    assert operator.write(STORAGE, {"one": SecretStr("changed")})

    assert vault.get("development/storage") == {"one": "changed", "two": "2"}


def test_writing_what_is_there_makes_no_new_version(operator: VaultClient, through: FaultProxy) -> None:
    operator.write(STORAGE, {"one": SecretStr("1")})

    assert not operator.write(STORAGE, {"one": SecretStr("1")})
    assert through.count("POST", READ) == 1


def test_writing_after_a_deletion_starts_from_nothing(vault: LocalVault, operator: VaultClient) -> None:
    operator.write(STORAGE, {"one": SecretStr("1")})
    vault.ask("DELETE", f"secret/data/{STORAGE}")

    operator.write(STORAGE, {"two": SecretStr("2")})

    assert vault.get("development/storage") == {"two": "2"}


def test_a_writer_in_between_loses_nothing(vault: LocalVault, operator: VaultClient, through: FaultProxy) -> None:
    vault.put("development/storage", theirs="old")
    real = operator._read_version
    turns = iter([lambda: vault.put("development/storage", theirs="new", other="kept")])

    def read_and_be_slow(path: str) -> object:
        version = real(path)
        next(turns, lambda: None)()
        return version

    operator._read_version = read_and_be_slow  # type: ignore[method-assign,assignment]
    operator.write(STORAGE, {"ours": SecretStr("1")})

    assert vault.get("development/storage") == {"theirs": "new", "other": "kept", "ours": "1"}
    assert through.count("POST", READ) == 2


def test_a_write_whose_answer_was_lost_is_found_done(
    vault: LocalVault, operator: VaultClient, through: FaultProxy
) -> None:
    through.add(Reset(applied=True), method="POST", path=READ)

    operator.write(STORAGE, {"ours": SecretStr("1")})

    assert vault.get("development/storage") == {"ours": "1"}


# --- Nothing secret is shown, and it is quick -------------------------------------------------------------------------


def test_no_secret_is_in_a_repr_or_in_a_log_of_any_library(
    vault: LocalVault, through: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    vault.put("development/storage", key=CANARY)
    given = {**lower(vault), "vault_addr": through.url}
    through.add(Answer(503, b"{}"), path=READ)
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
        client = VaultClient(access(**given))
        client.read(STORAGE)
        vault.revoke_tokens_of_roles()
        client.read(STORAGE)
        shown = repr([client, client._access, client._token, client._known, client._connection, client.read(STORAGE)])

    assert client._token is not None
    for secret in (CANARY, given["vault_secret_id"], client._token.value.get_secret_value()):
        assert secret not in shown
        assert secret not in caplog.text
    assert "urllib3" in caplog.text, "libraries have logged"


def test_a_secret_is_read_within_half_a_second(vault: LocalVault) -> None:
    """p95 of a new client each: a login and a read, as a run does it."""
    vault.put("development/storage", key="value")
    given = access(**lower(vault))
    seconds = []
    for _ in range(40):
        begin = time.perf_counter()
        VaultClient(given).read(STORAGE)
        seconds.append(time.perf_counter() - begin)

    assert sorted(seconds)[37] < 0.5

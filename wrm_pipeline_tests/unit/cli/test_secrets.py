"""`wrm secrets` as a shell runs it, against a real OpenBao with the policies of deploy/vault."""

import io
import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrm_pipeline.settings import subprocess_environment
from wrm_pipeline.vault.run_settings import load_run_settings
from wrm_pipeline_tests.fixtures.command import Run, wrm_command
from wrm_pipeline_tests.fixtures.fault_proxy import EditAnswer, FaultProxy, Reset
from wrm_pipeline_tests.fixtures.vault import LocalVault, set_variables, vault, vault_server  # noqa: F401 - fixtures

CANARY = "canary-4f1d"
KEY = f"{CANARY}-and-twenty-more-characters"
STORAGE = "bike-data-flow/development/storage"
ENV_FILE = f"""# Ours.
S3_ENDPOINT_URL=https://store.example.org
S3_ACCESS_KEY_ID={CANARY}-id
S3_SECRET_ACCESS_KEY="{CANARY} # secret"  # from the console
BUCKET_NAME=bikes
REDIS_URL=
WRM_PSEUDONYM_KEY='{KEY}'
WRM_FEED_CONTACT=root@example.org
"""
EMPTIED = """# Ours.
S3_ENDPOINT_URL=https://store.example.org
S3_ACCESS_KEY_ID=
S3_SECRET_ACCESS_KEY=  # from the console
BUCKET_NAME=bikes
REDIS_URL=
WRM_PSEUDONYM_KEY=
WRM_FEED_CONTACT=root@example.org
"""


@pytest.fixture
def wrm(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    run = wrm_command(monkeypatch, capfd, "secrets")

    def without_secrets(*arguments: str) -> tuple[int, str, str]:
        code, out, errors = run(*arguments)
        assert CANARY not in out + errors
        return code, out, errors

    return without_secrets


@pytest.fixture
def server(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> LocalVault:  # noqa: F811 - the fixture
    """Vault switched on, for the pipeline."""
    set_variables(monkeypatch, vault.variables())
    return vault


@pytest.fixture
def operator(server: LocalVault, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shell of an operator."""
    token = server.token(policies=["wrm-operator-development"], no_default_policy=True)
    monkeypatch.setenv("VAULT_TOKEN", token)
    return token


@pytest.fixture
def through(server: LocalVault, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as proxy:
        monkeypatch.setenv("VAULT_ADDR", proxy.url)
        yield proxy


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def put_env_file(mode: int = 0o600) -> Path:
    path = Path(".env")
    path.write_text(ENV_FILE)
    path.chmod(mode)
    return path


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_shows_where_everything_comes_from_and_the_token(
    wrm: Run, server: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("development/storage", s3_access_key_id=CANARY, s3_secret_access_key=CANARY)
    server.put("development/redis", redis_url=f"redis://{CANARY}")
    Path(".env").write_text(f"BUCKET_NAME=bikes\nWRM_PSEUDONYM_KEY={KEY}\n")
    Path("secrets").mkdir()
    Path("secrets/s3_endpoint_url").write_text("https://store.example.org")
    set_variables(monkeypatch, {"WRM_SECRETS_DIR": "secrets", "S3_ACCESS_KEY_ID": CANARY})

    code, out, errors = wrm("check", "--json")

    assert (code, errors) == (0, "")
    found = json.loads(out)
    assert {entry["key"]: entry["source"] for entry in found["entries"]} == {
        "s3_access_key_id": "environment",
        "s3_secret_access_key": "Vault",
        "s3_endpoint_url": "secrets directory",
        "bucket_name": ".env",
        "s3_region_name": None,
        "redis_url": "Vault",
        "wrm_alert_urls": None,
        "wrm_pseudonym_key": ".env",
    }
    assert [entry["key"] for entry in found["entries"] if entry["in_vault"]] == [
        "s3_access_key_id",
        "s3_secret_access_key",
        "redis_url",
    ]
    assert found["vault"] == server.address
    assert found["token"]["login"] == "approle"
    assert found["token"]["policies"] == ["wrm-pipeline-development"]
    assert 1000 < found["token"]["ttl_s"] <= 1200
    assert found["problems"] == []

    code, out, _ = wrm("check")
    assert code == 0
    assert "policies wrm-pipeline-development; the token ends in 1" in out
    assert "environment, which hides the one in Vault" in " ".join(out.split())


def test_check_fails_on_what_is_needed_and_nowhere(wrm: Run, server: LocalVault) -> None:
    server.put("development/storage", s3_access_key_id=CANARY)

    code, out, errors = wrm("check")

    assert code == 1
    assert out.count("missing") == 4
    assert out.count("not set") == 3
    for key in ("S3_SECRET_ACCESS_KEY", "S3_ENDPOINT_URL", "BUCKET_NAME", "WRM_PSEUDONYM_KEY"):
        assert f"wrm: {key} is nowhere" in errors
    assert "`wrm secrets put privacy wrm_pseudonym_key`" in errors
    assert "REDIS_URL" not in errors


def test_check_fails_on_a_value_that_would_be_refused(wrm: Run, server: LocalVault) -> None:
    server.put("development/privacy", wrm_pseudonym_key=CANARY)

    code, _, errors = wrm("check")

    assert code == 1
    assert "WRM_PSEUDONYM_KEY: must have at least 32 characters" in errors
    assert "key wrm_pseudonym_key at secret/bike-data-flow/development/privacy" in errors


def test_check_names_each_path_that_the_policy_denies(
    wrm: Run, server: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRM_ENV", "production")

    code, out, errors = wrm("check", "--json")

    assert (code, errors) == (1, "")
    problems = json.loads(out)["problems"]
    for part in ("storage", "redis", "alerts", "privacy"):
        assert any(f"secret/bike-data-flow/production/{part}: denied" in problem for problem in problems)
    assert len(problems) == 4


def test_check_says_one_thing_about_a_vault_that_cannot_be_used(
    wrm: Run, server: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.sealed():
        code, out, errors = wrm("check")
    assert code == 1
    assert out.count("not known") == 8
    assert errors.count("wrm: ") == 1
    assert "sealed" in errors

    monkeypatch.setenv("VAULT_SECRET_ID", CANARY)
    code, _, errors = wrm("check")
    assert code == 1
    assert errors.count("wrm: ") == 1
    assert "VAULT_SECRET_ID" in errors


def test_check_without_vault_shows_the_rest(wrm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    put_env_file()
    code, out, errors = wrm("check")

    assert (code, errors) == (0, "")
    assert "Vault is off" in out
    assert out.count(".env") == 5


# --- put --------------------------------------------------------------------------------------------------------------


def test_put_takes_the_value_from_standard_input_and_keeps_the_other_keys(
    wrm: Run, server: LocalVault, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("development/storage", s3_access_key_id="theirs", note="kept")
    typed(monkeypatch, f"{CANARY}\n")

    code, out, errors = wrm("put", "storage", "S3_SECRET_ACCESS_KEY")

    assert (code, errors) == (0, "")
    assert out == "secret/bike-data-flow/development/storage: s3_secret_access_key written\n"
    assert server.get("development/storage") == {
        "s3_access_key_id": "theirs",
        "note": "kept",
        "s3_secret_access_key": CANARY,
    }
    typed(monkeypatch, f"{CANARY}\r\n")
    assert "was the same already" in wrm("put", "storage", "s3_secret_access_key")[1]


def test_put_at_a_terminal_asks_twice_and_shows_nothing(server: LocalVault, operator: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "from wrm_pipeline.cli.secrets import secrets; secrets()", "put", "redis", "redis_url"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=subprocess_environment(TERM="dumb"),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        answers = iter([f"redis://:{CANARY}@host\n".encode()] * 2)
        try:
            while chunk := os.read(ours, 1000):
                shown += chunk
                if chunk.rstrip().endswith(b":"):
                    os.write(ours, next(answers))
        except OSError:  # Linux says EIO at the end of a terminal
            pass
        assert process.wait(30) == 0
    os.close(ours)

    assert CANARY.encode() not in shown
    assert b"written" in shown
    assert server.get("development/redis") == {"redis_url": f"redis://:{CANARY}@host"}


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (("storage", "s3_secret_access_key", CANARY), "", "standard input"),
        (("storage", "redis_url"), CANARY, "storage has no key 'redis_url'"),
        (("elsewhere", "redis_url"), CANARY, "'elsewhere' is not one of"),
        (("storage", "s3_secret_access_key"), "\n", "empty"),
        (("privacy", "wrm_pseudonym_key"), CANARY, "at least 32 characters"),
        (("redis", "redis_url"), f"http://{CANARY}", "must start with redis://"),
    ],
)
def test_put_refuses_what_would_be_no_use(
    wrm: Run,
    server: LocalVault,
    operator: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    text: str,
    said: str,
) -> None:
    typed(monkeypatch, text)

    code, _, errors = wrm("put", *arguments)

    assert code != 0
    assert said in errors
    with pytest.raises(AssertionError, match="404"):
        server.get(f"development/{arguments[0]}")


def test_put_with_the_login_of_the_pipeline_is_denied(
    wrm: Run, server: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, CANARY)

    code, _, errors = wrm("put", "storage", "s3_secret_access_key")

    assert code == 1
    assert "write secret/bike-data-flow/development/storage: denied" in errors
    assert "operator.hcl" in errors


# --- migrate ----------------------------------------------------------------------------------------------------------


def test_migrate_moves_the_secrets_and_leaves_their_names(
    wrm: Run, server: LocalVault, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("development/storage", note="kept")
    path = put_env_file()

    code, out, errors = wrm("migrate")

    assert (code, errors) == (0, "")
    assert path.read_text() == EMPTIED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.get("development/storage") == {
        "note": "kept",
        "s3_access_key_id": f"{CANARY}-id",
        "s3_secret_access_key": f"{CANARY} # secret",
    }
    assert server.get("development/privacy") == {"wrm_pseudonym_key": KEY}
    assert "S3_ACCESS_KEY_ID -> secret/bike-data-flow/development/storage s3_access_key_id (new)" in out
    assert "3 secrets are in Vault" in out
    monkeypatch.delenv("VAULT_TOKEN")
    settings = load_run_settings()
    assert settings.require_pseudonym_key() == KEY.encode()
    assert settings.require_store().secret_access_key.get_secret_value() == f"{CANARY} # secret"

    monkeypatch.setenv("VAULT_TOKEN", operator)
    code, out, _ = wrm("migrate")
    assert (code, path.read_text()) == (0, EMPTIED)
    assert "holds no secret" in out


def test_migrate_of_what_is_in_vault_already_only_empties_the_file(wrm: Run, server: LocalVault, operator: str) -> None:
    path = put_env_file()
    wrm("migrate")
    put_env_file()

    code, out, _ = wrm("migrate")

    assert (code, path.read_text()) == (0, EMPTIED)
    assert out.count("already there") == 3
    versions = server.ask("GET", f"secret/metadata/{STORAGE}")["data"]["versions"]
    assert list(versions) == ["1"]


def test_a_dry_run_changes_nothing(wrm: Run, server: LocalVault, operator: str) -> None:
    path = put_env_file()

    code, out, _ = wrm("migrate", "--dry-run")

    assert code == 0
    assert out.count("(new)") == 3
    assert "Nothing was changed." in out
    assert path.read_text() == ENV_FILE
    with pytest.raises(AssertionError, match="404"):
        server.get("development/storage")


def test_another_value_in_vault_is_not_replaced_unasked(wrm: Run, server: LocalVault, operator: str) -> None:
    """The one in Vault may be newer than a file that was forgotten."""
    server.put("development/privacy", wrm_pseudonym_key=f"{KEY}, newer")
    path = put_env_file()

    code, _, errors = wrm("migrate")

    assert code == 1
    assert "secret/bike-data-flow/development/privacy wrm_pseudonym_key" in errors
    assert path.read_text() == ENV_FILE
    with pytest.raises(AssertionError, match="404"):
        server.get("development/storage")

    assert wrm("migrate", "--overwrite")[0] == 0
    assert server.get("development/privacy") == {"wrm_pseudonym_key": KEY}
    assert path.read_text() == EMPTIED


def test_nothing_is_taken_out_when_a_write_fails(
    wrm: Run, server: LocalVault, operator: str, through: FaultProxy
) -> None:
    path = put_env_file()
    through.add(Reset(), method="POST", path="/privacy", times=None)

    code, _, errors = wrm("migrate")

    assert code == 1
    assert "write secret/bike-data-flow/development/privacy" in errors
    assert path.read_text() == ENV_FILE
    through.clear()
    assert wrm("migrate")[0] == 0, "and it goes on where it was"
    assert path.read_text() == EMPTIED


def test_nothing_is_taken_out_when_what_comes_back_differs(
    wrm: Run, server: LocalVault, operator: str, through: FaultProxy
) -> None:
    path = put_env_file()
    through.add(
        EditAnswer(body=lambda body: body.replace(CANARY.encode(), b"other")), method="GET", path="/storage", times=None
    )

    code, _, errors = wrm("migrate", "--overwrite")

    assert code == 1
    assert "did not come back as written" in errors
    assert path.read_text() == ENV_FILE


@pytest.mark.parametrize("line", ["WRM_PSEUDONYM_KEY=short", "REDIS_URL=http://here"])
def test_migrate_moves_nothing_that_a_run_would_refuse(wrm: Run, server: LocalVault, operator: str, line: str) -> None:
    Path("other.env").write_text(f"S3_ACCESS_KEY_ID={CANARY}\n{line}\n")

    code, _, errors = wrm("migrate", "--env-file", "other.env")

    assert code == 1
    assert line.partition("=")[0] in errors
    with pytest.raises(AssertionError, match="404"):
        server.get("development/storage")


def test_the_file_itself_may_say_where_vault_is(wrm: Run, server: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_ADDR", "VAULT_ENABLED", "VAULT_ROLE_ID", "VAULT_SECRET_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("VAULT_TOKEN", server.token(policies=["wrm-operator-production"], no_default_policy=True))
    Path("its.env").write_text(f"VAULT_ADDR={server.address}\nWRM_ENV=production\nREDIS_URL=redis://{CANARY}\n")

    code, out, _ = wrm("migrate", "--env-file", "its.env")

    assert code == 0
    assert "Set VAULT_ENABLED=true" in out
    assert server.get("production/redis") == {"redis_url": f"redis://{CANARY}"}


def test_migrate_says_where_a_value_is_left(wrm: Run, server: LocalVault, operator: str) -> None:
    Path(".env").write_text(f"# was REDIS_URL=redis://{CANARY}\nREDIS_URL=redis://{CANARY}\n")

    code, _, errors = wrm("migrate")

    assert code == 0
    assert "still on line 1 of .env" in errors


def test_the_help_says_where_secrets_lie_and_shows_examples(wrm: Run) -> None:
    _, out, _ = wrm("--help")
    for word in ("bike-data-flow/<WRM_ENV>/", "check", "put", "migrate", "VAULT_TOKEN"):
        assert word in out
    assert "openssl rand -hex 32 | wrm secrets put privacy wrm_pseudonym_key" in wrm("put", "--help")[1]
    assert "--dry-run" in wrm("migrate", "--help")[1]

"""Settings: where they come from, which one wins, and that a wrong one is named without giving a secret away."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrm_pipeline.settings import (
    DEFAULT_FEED_URL,
    LOCAL_ENVIRONMENT,
    Settings,
    SettingsError,
    is_secure_or_loopback,
    load_settings,
    set_environment,
    subprocess_environment,
)

SECRET = "do-not-show-me"
EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
STORE = {
    "S3_ENDPOINT_URL": "https://fsn1.your-objectstorage.com",
    "S3_ACCESS_KEY_ID": "id-1",
    "S3_SECRET_ACCESS_KEY": SECRET,
    "BUCKET_NAME": "bikes",
}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, empty of settings (see conftest), and the working directory an empty one."""
    return monkeypatch


def set_all(env: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        env.setenv(name, value)


def secrets_directory(env: pytest.MonkeyPatch, **values: str) -> None:
    Path("secrets").mkdir()
    for name, value in values.items():
        Path("secrets", name).write_text(value)
    env.setenv("WRM_SECRETS_DIR", "secrets")


# --- Where values come from -------------------------------------------------------------------------------------------


def test_without_any_setting_the_defaults_hold() -> None:
    settings = load_settings()

    assert settings.wrm_feed_url == DEFAULT_FEED_URL
    assert settings.wrm_stations_s3_prefix == "bike-data/gen_info/"
    assert settings.wrm_poll_cron == "*/5 * * * *"
    assert (settings.has_store, settings.has_feed) == (False, False)


def test_the_environment_wins_over_env_file_over_local_parts_over_secret_files(env: pytest.MonkeyPatch) -> None:
    names = ("wrm_feed_contact", "s3_region_name", "bucket_name", "s3_access_key_id")
    secrets_directory(env, **dict.fromkeys(names, "from-secrets"))
    LOCAL_ENVIRONMENT.parent.mkdir()
    LOCAL_ENVIRONMENT.write_text("".join(f"{name.upper()}=from-local\n" for name in names[:3]))
    Path(".env").write_text("".join(f"{name.upper()}=from-file\n" for name in names[:2]))
    env.setenv("WRM_FEED_CONTACT", "from-environment")

    settings = load_settings()

    assert settings.wrm_feed_contact == "from-environment"
    assert settings.s3_region_name == "from-file"
    assert settings.bucket_name == "from-local"
    assert settings.s3_access_key_id is not None
    assert settings.s3_access_key_id.get_secret_value() == "from-secrets"


def test_a_secrets_directory_that_is_not_there_is_named(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_SECRETS_DIR", "/nowhere/secrets")

    with pytest.raises(SettingsError, match="WRM_SECRETS_DIR is '/nowhere/secrets', which is not a directory"):
        load_settings()


def test_a_blank_secrets_directory_is_none(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_SECRETS_DIR", "")

    assert load_settings().s3_access_key_id is None


def test_names_of_other_programs_are_left_alone(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_SOMETHING_ELSE", "1")
    Path(".env").write_text("COMPOSE_PROJECT_NAME=wrm\n")

    assert load_settings() == Settings()


def test_settings_are_read_when_asked_for_not_when_imported(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_FEED_CONTACT", "one")
    first = load_settings()
    env.setenv("WRM_FEED_CONTACT", "two")

    assert (first.wrm_feed_contact, load_settings().wrm_feed_contact) == ("one", "two")


def test_importing_the_settings_needs_no_valid_environment() -> None:
    command = [sys.executable, "-c", "import wrm_pipeline.settings"]

    subprocess.run(command, check=True, env=subprocess_environment(WRM_ENV="nonsense", S3_ENDPOINT_URL="nonsense"))


# --- Wrong values -----------------------------------------------------------------------------------------------------

WRONG = [
    ("S3_ENDPOINT_URL", "fsn1.your-objectstorage.com", "must be an address such as https://"),
    ("S3_ENDPOINT_URL", "ftp://store", "must be an address such as https://"),
    ("S3_ENDPOINT_URL", "https://", "must be an address such as https://"),
    ("S3_ENDPOINT_URL", "http://[::1", "Invalid IPv6 URL"),
    ("BUCKET_NAME", "My_Bucket", "must be a bucket name"),
    ("BUCKET_NAME", "ab", "must be a bucket name"),
    ("WRM_STATIONS_S3_PREFIX", "a/../b", "must not contain '..'"),
    ("OPENLINEAGE_URL", "collector", "must be an address such as https://"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "must be an address such as https://"),
    ("VAULT_ADDR", "http://vault.example", "must be an https:// address, or http:// on localhost"),
    ("VAULT_CACERT", "no-such-file.pem", "must be a file that exists"),
    ("VAULT_ENABLED", "perhaps", "boolean"),
    ("VAULT_MOUNT", "/", "must name the mount point"),
    ("VAULT_TIMEOUT_S", "0", "greater than 0"),
    ("WRM_ALERT_MAX_PER_HOUR", "0", "greater than or equal to 1"),
    ("WRM_ALERT_QUIET_HOURS", "22:00-06:00", "must be two hours of Wrocław's local time such as 22-06"),
    ("WRM_ALERT_QUIET_HOURS", "24-06", "must be two hours of Wrocław's local time such as 22-06"),
    ("WRM_ALERT_QUIET_HOURS", "08-08", "must end at another hour than it begins"),
    ("WRM_CACHE", "disk", "'redis', 'filesystem' or 'none'"),
    ("WRM_CACHE_MAX_MB", "0", "greater than or equal to 1"),
    ("WRM_DAGSTER_URL", "dagster.example.org", "must be an address such as https://"),
    ("WRM_LOG_FORMAT", "xml", "'json' or 'console'"),
    ("WRM_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ("WRM_PUSHGATEWAY_URL", "127.0.0.1:9091", "must be an address such as https://"),
    ("WRM_ENV", "prod", "'development', 'staging' or 'production'"),
    ("WRM_FEED_URL", "http://feed.example", "must be an https:// address"),
    ("WRM_FEED_URL", "file:///etc/passwd", "must be an https:// address"),
    ("WRM_FEED_URL", "", "must be an https:// address"),
    ("WRM_PUBLIC_URL", "bikes.example.org", "must be an address such as https://"),
    ("WRM_QUALITY_CRON", "nightly", "must be a cron line"),
    ("WRM_REDRIVE_CRON", "nightly", "must be a cron line"),
    ("WRM_FEED_TIMEOUT_S", "0", "greater than 0"),
    ("WRM_FEED_TIMEOUT_S", "301", "less than or equal to 300"),
    ("WRM_FEED_TIMEOUT_S", "soon", "valid number"),
    ("WRM_FEED_TIMEOUT_S", "nan", "than"),
    ("WRM_POLL_CRON", "every minute", "must be a cron line such as"),
    ("WRM_POLL_CRON", "61 * * * *", "must be a cron line such as"),
    ("WRM_RECONCILE_CRON", "", "must be a cron line such as"),
    ("WRM_S3_TIMEOUT_S", "-1", "greater than 0"),
    ("WRM_S3_RETRY_BUDGET_S", "3601", "less than or equal to 3600"),
    ("WRM_S3_CONCURRENCY", "0", "greater than or equal to 1"),
    ("WRM_S3_CONCURRENCY", "65", "less than or equal to 64"),
    ("WRM_S3_CONCURRENCY", "2.5", "integer"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
def test_a_wrong_value_is_named_with_what_is_wrong_and_what_it_is(
    env: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    env.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert says in message
    assert f"(it is {value!r})" in message
    assert "\n" not in message


def test_a_file_in_another_encoding_is_named_and_not_shown() -> None:
    Path(".env").write_bytes(f"S3_SECRET_ACCESS_KEY={SECRET}\nWRM_FEED_CONTACT=G\u0142\xf3wny\n".encode("iso8859-2"))

    with pytest.raises(SettingsError, match=r"\.env or a file in WRM_SECRETS_DIR is not UTF-8") as caught:
        load_settings()

    assert caught.value.__suppress_context__
    assert SECRET not in str(caught.value)


def test_every_wrong_value_has_its_line(env: pytest.MonkeyPatch) -> None:
    set_all(env, {"WRM_ENV": "prod", "WRM_S3_CONCURRENCY": "many"})

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["WRM_ENV", "WRM_S3_CONCURRENCY"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"http://user:{SECRET}@localhost"),
        ("REDIS_URL", SECRET),
        ("S3_ENDPOINT_URL", f"https://key:{SECRET}@store.example"),
        ("S3_ENDPOINT_URL", f"ftp://key:{SECRET}@store.example"),
        ("WRM_FEED_URL", f"http://user:{SECRET}@feed.example"),
    ],
)
def test_a_wrong_value_that_holds_a_secret_is_named_but_not_shown(
    env: pytest.MonkeyPatch, name: str, value: str
) -> None:
    env.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert str(caught.value).startswith(f"{name}: ")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_no_secret_is_in_a_repr(env: pytest.MonkeyPatch) -> None:
    set_all(env, {**STORE, "REDIS_URL": f"redis://:{SECRET}@localhost", "VAULT_SECRET_ID": SECRET})
    settings = load_settings()

    for shown in (settings, settings.require_store(), settings.model_dump()):
        assert SECRET not in repr(shown)
    assert SECRET not in settings.model_dump_json()


# --- What a value may be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_prefix", "prefix"),
    [("bike-data/gen_info", "bike-data/gen_info/"), ("/a/b//", "a/b/"), ("", ""), ("/", ""), ("a..b", "a..b/")],
)
def test_a_prefix_is_empty_or_ends_with_one_slash(env: pytest.MonkeyPatch, given_prefix: str, prefix: str) -> None:
    env.setenv("WRM_STATIONS_S3_PREFIX", given_prefix)

    assert load_settings().wrm_stations_s3_prefix == prefix


@pytest.mark.parametrize(
    "name", ["S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "BUCKET_NAME", "REDIS_URL"]
)
@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_value_is_an_unset_one(env: pytest.MonkeyPatch, name: str, blank: str) -> None:
    """A copied .env.example leaves them blank."""
    env.setenv(name, blank)

    assert getattr(load_settings(), name.lower()) is None


def test_an_endpoint_loses_its_final_slash(env: pytest.MonkeyPatch) -> None:
    env.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9000/")

    assert load_settings().s3_endpoint_url == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("https://feed.example/x?y=z", True),
        ("http://localhost:8000/", True),
        ("http://127.0.0.1/", True),
        ("http://[::1]:80/", True),
        ("http://feed.example/", False),
        ("http://127.0.0.1.evil.example/", False),
        ("http://localhost@evil.example/", False),
        ("https://", False),
        ("//localhost/", False),
        ("ftp://localhost/", False),
        ("", False),
    ],
)
def test_only_https_or_this_machine_may_carry_the_feed(url: str, secure: bool) -> None:
    assert is_secure_or_loopback(url) is secure


@pytest.mark.parametrize("url", ["redis://localhost:6379/0", "rediss://:pw@cache", "unix:///run/redis.sock"])
def test_a_redis_address(env: pytest.MonkeyPatch, url: str) -> None:
    env.setenv("REDIS_URL", url)
    found = load_settings().redis_url

    assert found is not None
    assert found.get_secret_value() == url


def test_the_contact_is_who_was_named_or_root_at_this_host(env: pytest.MonkeyPatch) -> None:
    assert load_settings().feed_contact() == f"root@{socket.gethostname()}"

    env.setenv("WRM_FEED_CONTACT", " bikes@city.example ")
    assert load_settings().feed_contact() == "bikes@city.example"


def test_a_feed_that_somebody_named_is_told_from_the_default(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_FEED_URL", DEFAULT_FEED_URL)

    assert load_settings().has_feed


# --- The store --------------------------------------------------------------------------------------------------------


def test_what_the_store_needs(env: pytest.MonkeyPatch) -> None:
    set_all(env, {**STORE, "S3_REGION_NAME": "fsn1", "WRM_S3_TIMEOUT_S": "7", "WRM_S3_CONCURRENCY": "3"})

    settings = load_settings()
    store = settings.require_store()

    assert settings.has_store
    assert (store.endpoint_url, store.bucket, store.region) == (STORE["S3_ENDPOINT_URL"], "bikes", "fsn1")
    assert (store.prefix, store.timeout_s, store.retry_budget_s, store.concurrency) == (
        "bike-data/gen_info/",
        7.0,
        30.0,
        3,
    )
    assert (store.access_key_id.get_secret_value(), store.secret_access_key.get_secret_value()) == ("id-1", SECRET)


@given(st.sets(st.sampled_from(sorted(STORE)), min_size=1))
def test_each_missing_store_setting_is_named_and_no_other(missing: set[str]) -> None:
    present = {name.lower(): value for name, value in STORE.items() if name not in missing}

    with pytest.raises(SettingsError) as caught:
        load_settings(**present).require_store()

    named = str(caught.value).split(" not set.")[0].split(", ")
    assert set(named) == missing
    assert ".env" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_with_vault_a_missing_secret_is_an_error_that_names_the_path_in_vault(env: pytest.MonkeyPatch) -> None:
    set_all(env, {**STORE, "VAULT_ENABLED": "true"})
    assert load_settings().require_store().bucket == STORE["BUCKET_NAME"]

    env.delenv("S3_ACCESS_KEY_ID")

    with pytest.raises(SettingsError, match=r"S3_ACCESS_KEY_ID.*secret/bike-data-flow/development/storage"):
        load_settings().require_store()


# --- Documentation, and processes -------------------------------------------------------------------------------------


def test_the_example_documents_every_setting_with_its_default(env: pytest.MonkeyPatch) -> None:
    lines = EXAMPLE.read_text().splitlines()
    documented = {line.removeprefix("# ").partition("=")[0] for line in lines if "=" in line.removeprefix("# ")}
    Path(".env").write_text("\n".join(lines))

    assert {name.upper() for name in Settings.model_fields} | {"WRM_SECRETS_DIR"} <= documented
    from_example, default = load_settings().model_dump(), Settings(_env_file=None).model_dump()  # type: ignore[call-arg]
    assert {name: from_example[name] or None for name in default} == {n: v or None for n, v in default.items()}


def test_a_copied_example_does_not_make_up_a_feed_or_a_store() -> None:
    Path(".env").write_text(EXAMPLE.read_text())

    assert (load_settings().has_store, load_settings().has_feed) == (False, False)


def test_what_is_set_for_this_process_reaches_its_children(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_FEED_CONTACT", "before")
    set_environment({"WRM_FEED_CONTACT": "mine"})

    assert load_settings().wrm_feed_contact == "mine"
    child = subprocess_environment(WRM_ENV="staging")
    assert (child["WRM_FEED_CONTACT"], child["WRM_ENV"]) == ("mine", "staging")
    assert "WRM_ENV" not in os.environ


def test_a_contracts_directory_that_is_not_there_is_named(env: pytest.MonkeyPatch) -> None:
    env.setenv("WRM_CONTRACTS_DIR", "/nowhere/at/all")

    with pytest.raises(SettingsError, match=r"WRM_CONTRACTS_DIR: must be a directory that exists"):
        load_settings()

"""The only place that reads the environment.

Values come from the environment, then `.env` in the working directory, then what `wrm up` wrote for the local parts it
started, then files in the directory that `WRM_SECRETS_DIR` names (one file a setting, as Docker and systemd lay them).
`.env.example` explains each name.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from wrm_pipeline.errors import ExpectedError

DEFAULT_FEED_URL = "https://gladys.geog.ucl.ac.uk/bikesapi/load.php?scheme=wroclaw"
# Everything that runs on this machine alone lies here, beside the project; `make clean` removes it.
LOCAL_DIRECTORY = Path(".wrm")
# Where the local parts are while they run; written by `wrm up` and `wrm run`, removed when they end.
LOCAL_ENVIRONMENT = LOCAL_DIRECTORY / "local.env"
# What a key must have at least, so that bike numbers cannot be found by trying keys: 128 bits as hexadecimal digits.
_LEAST_KEY_LENGTH = 32
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class SettingsError(ExpectedError, ValueError):
    """A setting is missing or wrong; the message names the variable and the remedy, never a secret."""


def is_secure_or_loopback(url: str) -> bool:
    """Tell whether a URL is https, or plain http to this machine: nothing else may carry the feed."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS


def _feed_url(value: str) -> str:
    if not is_secure_or_loopback(value):
        raise ValueError("must be an https:// address, or http:// on localhost, 127.0.0.1 or [::1]")
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as https://fsn1.your-objectstorage.com")
    if parts.username or parts.password:
        raise ValueError("must not contain a user name or password; use S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY")
    return value.rstrip("/")


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        raise ValueError("must be a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens")
    return value


def _prefix(value: str) -> str:
    cleaned = value.strip("/")
    if ".." in cleaned.split("/"):
        raise ValueError("must not contain '..'")
    return f"{cleaned}/" if cleaned else ""


def _cron(value: str) -> str:
    from dagster._utils.schedules import is_valid_cron_string  # Dagster decides what its scheduler can run

    if not is_valid_cron_string(value):
        raise ValueError("must be a cron line such as '*/5 * * * *'")
    return value


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as https://bikes.example.org/lake")
    return value.rstrip("/")


def _directory(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError("must be a directory that exists")
    return value


def _pseudonym_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < _LEAST_KEY_LENGTH:
        raise ValueError(f"must have at least {_LEAST_KEY_LENGTH} characters; make one with: openssl rand -hex 32")
    return value


def _vault_url(value: str) -> str:
    if not is_secure_or_loopback(value):
        raise ValueError("must be an https:// address, or http:// on localhost, 127.0.0.1 or [::1]")
    return value.rstrip("/")


def _mount(value: str) -> str:
    if not value.strip("/"):
        raise ValueError("must name the mount point of a KV version 2 engine, such as secret")
    return value.strip("/")


def _file(value: Path) -> Path:
    if not value.is_file():
        raise ValueError("must be a file that exists")
    return value


def _quiet_hours(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3])-([01]\d|2[0-3])", value):
        raise ValueError("must be two hours of Wrocław's local time such as 22-06")
    if value[:2] == value[3:]:
        raise ValueError("must end at another hour than it begins")
    return value


def _redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    return value


def _blank_is_unset(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank_is_unset)]
# Of a default it is known: looking at it would import Dagster, which takes half a second.
Cron = Annotated[str, AfterValidator(_cron)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_unset)]
OptionalPath = Annotated[Path | None, BeforeValidator(_blank_is_unset)]


class Settings(BaseSettings):
    """Every setting of the pipeline; a field's name in capitals is the variable's name."""

    model_config = SettingsConfigDict(
        env_file=(LOCAL_ENVIRONMENT, ".env"), env_file_encoding="utf-8", extra="ignore", case_sensitive=False
    )

    s3_endpoint_url: Annotated[Annotated[str, AfterValidator(_http_url)] | None, BeforeValidator(_blank_is_unset)] = (
        None
    )
    s3_access_key_id: OptionalSecret = None
    s3_secret_access_key: OptionalSecret = None
    s3_region_name: str = "eu-central"
    bucket_name: Annotated[Annotated[str, AfterValidator(_bucket)] | None, BeforeValidator(_blank_is_unset)] = None
    wrm_stations_s3_prefix: Annotated[str, AfterValidator(_prefix)] = "bike-data/gen_info/"

    vault_enabled: bool = False
    vault_addr: Annotated[Annotated[str, AfterValidator(_vault_url)] | None, BeforeValidator(_blank_is_unset)] = None
    vault_namespace: OptionalText = None
    vault_mount: Annotated[str, AfterValidator(_mount)] = "secret"
    vault_cacert: Annotated[Annotated[Path, AfterValidator(_file)] | None, BeforeValidator(_blank_is_unset)] = None
    vault_timeout_s: Annotated[float, Field(gt=0, le=60)] = 3.0
    vault_token: OptionalSecret = None
    vault_role_id: OptionalText = None
    vault_secret_id: OptionalSecret = None
    vault_role_id_file: OptionalPath = None
    vault_secret_id_file: OptionalPath = None
    vault_wrapped_secret_id_file: OptionalPath = None

    redis_url: Annotated[
        Annotated[SecretStr, AfterValidator(lambda v: SecretStr(_redis_url(v.get_secret_value())))] | None,
        BeforeValidator(_blank_is_unset),
    ] = None

    wrm_env: Literal["development", "staging", "production"] = "development"
    wrm_feed_url: Annotated[str, AfterValidator(_feed_url)] = DEFAULT_FEED_URL
    wrm_feed_contact: str = ""
    wrm_feed_timeout_s: Annotated[float, Field(gt=0, le=300)] = 20.0
    wrm_poll_cron: Cron = Field("*/5 * * * *", validate_default=False)
    wrm_reconcile_cron: Cron = Field("17 3 * * *", validate_default=False)
    wrm_redrive_cron: Cron = Field("37 4 * * *", validate_default=False)
    wrm_quality_cron: Cron = Field("47 1 * * *", validate_default=False)
    wrm_housekeeping_cron: Cron = Field("7 5 * * *", validate_default=False)
    wrm_runs_kept_days: Annotated[int, Field(ge=1, le=3650)] = 7
    wrm_public_url: Annotated[Annotated[str, AfterValidator(_public_url)] | None, BeforeValidator(_blank_is_unset)] = (
        None
    )
    wrm_dagster_url: Annotated[Annotated[str, AfterValidator(_public_url)] | None, BeforeValidator(_blank_is_unset)] = (
        None
    )
    wrm_contracts_dir: Annotated[
        Annotated[Path, AfterValidator(_directory)] | None, BeforeValidator(_blank_is_unset)
    ] = None
    wrm_duckdb_path: Path = LOCAL_DIRECTORY / "wrm.duckdb"
    wrm_site_dir: Path = LOCAL_DIRECTORY / "site"
    wrm_pseudonym_key: Annotated[
        Annotated[SecretStr, AfterValidator(_pseudonym_key)] | None, BeforeValidator(_blank_is_unset)
    ] = None
    wrm_cache: Annotated[Literal["redis", "filesystem", "none"] | None, BeforeValidator(_blank_is_unset)] = None
    wrm_cache_dir: Path = LOCAL_DIRECTORY / "cache"
    wrm_cache_max_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    wrm_pushgateway_url: Annotated[
        Annotated[str, AfterValidator(_public_url)] | None, BeforeValidator(_blank_is_unset)
    ] = None
    wrm_alert_urls: OptionalSecret = None
    wrm_alert_quiet_hours: Annotated[
        Annotated[str, AfterValidator(_quiet_hours)] | None, BeforeValidator(_blank_is_unset)
    ] = None
    wrm_alert_max_per_hour: Annotated[int, Field(ge=1, le=1000)] = 10
    wrm_log_format: Annotated[Literal["json", "console"] | None, BeforeValidator(_blank_is_unset)] = None
    wrm_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    wrm_lineage: bool = True
    openlineage_url: Annotated[Annotated[str, AfterValidator(_public_url)] | None, BeforeValidator(_blank_is_unset)] = (
        None
    )
    openlineage_api_key: OptionalSecret = None
    otel_exporter_otlp_endpoint: Annotated[
        Annotated[str, AfterValidator(_public_url)] | None, BeforeValidator(_blank_is_unset)
    ] = None
    otel_service_name: str = "wrm_pipeline"
    wrm_s3_timeout_s: Annotated[float, Field(gt=0, le=300)] = 20.0
    wrm_s3_retry_budget_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    wrm_s3_concurrency: Annotated[int, Field(ge=1, le=64)] = 16

    @property
    def has_store(self) -> bool:
        """Whether somebody said where the store is."""
        return self.s3_endpoint_url is not None

    @property
    def has_feed(self) -> bool:
        """Whether somebody said where the feed is; otherwise it is the public one."""
        return "wrm_feed_url" in self.model_fields_set

    def feed_contact(self) -> str:
        """Whom the feed's owner can write to: `WRM_FEED_CONTACT`, else root at this host, as an unset mailer would."""
        return self.wrm_feed_contact.strip() or f"root@{socket.gethostname()}"

    def vault_path(self, part: str) -> str:
        """Return where a part of the secrets lies in Vault, without the mount point."""
        return f"bike-data-flow/{self.wrm_env}/{part}"

    def _nowhere(self, names: list[str], part: str) -> str:
        place = f"{self.vault_mount}/{self.vault_path(part)}"
        return (
            f"{', '.join(map(str.upper, names))} not set, and not in Vault at {self.vault_addr}, path {place}. Write "
            f"it with `wrm secrets put {part} {names[0]}` or set the variable; `wrm secrets check` shows where each is."
        )

    def require_pseudonym_key(self) -> bytes:
        """Return the key that bike ids in the marts are made unrecognisable with.

        Raises:
            SettingsError: it is not set.
        """
        if self.wrm_pseudonym_key is None:
            if self.vault_enabled:
                raise SettingsError(self._nowhere(["wrm_pseudonym_key"], "privacy"))
            raise SettingsError(
                "WRM_PSEUDONYM_KEY not set. No bike id is published: the marts need a key to replace them with. Make "
                "one with `openssl rand -hex 32`, put it in .env and keep it; `wrm up` and `wrm run` make their own."
            )
        return self.wrm_pseudonym_key.get_secret_value().encode()

    def require_store(self) -> "StoreSettings":
        """Return what an S3 client needs.

        Raises:
            SettingsError: naming each variable that is not set.
        """
        endpoint, bucket = self.s3_endpoint_url, self.bucket_name
        key_id, secret = self.s3_access_key_id, self.s3_secret_access_key
        if endpoint is None or bucket is None or key_id is None or secret is None:
            names = ("s3_endpoint_url", "s3_access_key_id", "s3_secret_access_key", "bucket_name")
            missing = [name for name in names if getattr(self, name) is None]
            if self.vault_enabled:
                raise SettingsError(self._nowhere(missing, "storage"))
            raise SettingsError(
                f"{', '.join(map(str.upper, missing))} not set. Set the variable, or put it in .env (see "
                ".env.example); for a store on this machine use `wrm up`."
            )
        return StoreSettings(
            endpoint_url=endpoint,
            bucket=bucket,
            region=self.s3_region_name,
            prefix=self.wrm_stations_s3_prefix,
            access_key_id=key_id,
            secret_access_key=secret,
            timeout_s=self.wrm_s3_timeout_s,
            retry_budget_s=self.wrm_s3_retry_budget_s,
            concurrency=self.wrm_s3_concurrency,
        )


@dataclass(frozen=True)
class StoreSettings:
    """What an S3 client needs, complete: times in seconds, `prefix` ends with a slash or is empty."""

    endpoint_url: str
    bucket: str
    region: str
    prefix: str
    access_key_id: SecretStr
    secret_access_key: SecretStr
    timeout_s: float
    retry_budget_s: float
    concurrency: int


def load_settings(**overrides: Any) -> Settings:
    """Read all settings now.

    Raises:
        SettingsError: one line a wrong variable: its name, what is wrong, and the value unless it is a secret.
    """
    secrets_dir = os.environ.get("WRM_SECRETS_DIR") or None
    if secrets_dir and not Path(secrets_dir).is_dir():
        raise SettingsError(f"WRM_SECRETS_DIR is {secrets_dir!r}, which is not a directory")
    try:
        return Settings(**{"_secrets_dir": secrets_dir, **overrides})
    except UnicodeDecodeError:
        # Not the error's own words: they hold the bytes of the file, and so its secrets.
        raise SettingsError(".env or a file in WRM_SECRETS_DIR is not UTF-8 text; save it as UTF-8") from None
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(e) for e in error.errors(include_url=False))) from None


def _sentence(error: Mapping[str, Any]) -> str:
    field = str(error["loc"][0])
    reason = str(error["msg"]).removeprefix("Value error, ")
    declared = Settings.model_fields.get(field)
    secret = declared is None or "SecretStr" in str(declared.annotation) or "SecretStr" in str(declared.metadata)
    # An address may carry a password that its owner put there by mistake: say what is wrong, not what was given.
    shown = "" if secret or "@" in str(error.get("input")) else f" (it is {error.get('input')!r})"
    return f"{field.upper()}: {reason}{shown}"


def set_environment(values: Mapping[str, str]) -> None:
    """Set variables for this process and its children, for local parts that this process itself has started."""
    os.environ.update(values)


def subprocess_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment with some values replaced, for a child process."""
    return {**os.environ, **extra}


@contextmanager
def default_environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a library that reads it while it is imported, unless somebody has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]

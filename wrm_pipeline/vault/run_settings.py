"""The settings of a run: those of the environment, and from Vault, when it is on, the secrets that are missing there.

`load_settings` never asks Vault, since it runs when the code location is imported; a run, a sensor's tick and a command
that need a secret call `load_run_settings`.
"""

import functools
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr, TypeAdapter, ValidationError

from wrm_pipeline.settings import Settings, SettingsError, load_settings
from wrm_pipeline.telemetry.redaction import register_secrets_of
from wrm_pipeline.vault.client import VaultAccess, VaultClient
from wrm_pipeline.vault.errors import SecretNotFound

# What lies where, below bike-data-flow/<WRM_ENV>/: the keys of a path are settings in lower case.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "storage": ("s3_access_key_id", "s3_secret_access_key", "s3_endpoint_url", "bucket_name", "s3_region_name"),
    "redis": ("redis_url",),
    "alerts": ("wrm_alert_urls",),
    "privacy": ("wrm_pseudonym_key",),
}
# A path is asked for while one of these is unset; the other keys may lie in Vault, too, and are not worth a request.
SECRETS: Final = frozenset(
    {"s3_access_key_id", "s3_secret_access_key", "redis_url", "wrm_alert_urls", "wrm_pseudonym_key"}
)
# Sensors tick every 10 s or so; a rotated S3 key does not wait for this, see `refresh`.
_MAX_AGE_S: Final = 60.0


@functools.lru_cache(maxsize=8)
def _client(access: VaultAccess) -> VaultClient:
    return VaultClient(access)


def vault_client(settings: Settings) -> VaultClient:
    """Return this process's client for some settings; it keeps its token and what it has read.

    Raises:
        SettingsError: VAULT_ADDR or what logs in is missing.
    """
    return _client(VaultAccess.of(settings))


def load_run_settings(*, refresh: bool = False, **overrides: Any) -> Settings:
    """Read all settings now, the missing secrets from Vault if it is on.

    A secret that is nowhere is an error of `Settings.require_store` and `require_pseudonym_key`, where it is needed.

    Args:
        refresh: ask Vault even if it was asked within the last minute, for a key that was rotated.
        overrides: settings that win over the environment, as for `load_settings`.

    Raises:
        SettingsError: a setting is wrong, here or in Vault, or Vault is on and not set up.
        VaultError: Vault did not answer, or said no.
    """
    settings = load_settings(**overrides)
    register_secrets_of(settings)
    if not settings.vault_enabled:
        return settings
    client = vault_client(settings)
    found: dict[str, object] = {}
    for part, names in PARTS.items():
        missing = [name for name in names if not is_set(settings, name)]
        if SECRETS.isdisjoint(missing):
            continue
        try:
            values = client.read(settings.vault_path(part), max_age_s=0.0 if refresh else _MAX_AGE_S)
        except SecretNotFound:
            continue
        place = f"{client.place(settings.vault_path(part))} in Vault at {client.address}"
        found |= {name: checked(name, values[name], place) for name in missing if name in values}
    complete = settings.model_copy(update={name: value for name, value in found.items() if value is not None})
    register_secrets_of(complete)
    return complete


def is_set(settings: Settings, name: str) -> bool:
    """Tell whether somebody has set a setting, to more than nothing."""
    return name in settings.model_fields_set and getattr(settings, name) not in {None, ""}


def checked(name: str, value: SecretStr, place: str) -> object:
    """Return a setting's value from Vault as the type it has in `Settings`; None when it is blank.

    Raises:
        SettingsError: naming place and key, never the value.
    """
    adapter: TypeAdapter[object] = TypeAdapter(Settings.model_fields[name].rebuild_annotation())
    try:
        return adapter.validate_python(value.get_secret_value())
    except ValidationError as error:
        reasons = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors(include_url=False))
    raise SettingsError(f"{name.upper()}: {reasons} (key {name} at {place})")

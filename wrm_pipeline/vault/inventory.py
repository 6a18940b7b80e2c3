"""Where each secret of a run comes from, for `wrm secrets check`. Nothing here holds a value."""

from dataclasses import dataclass
from typing import Final, Literal

from wrm_pipeline.settings import LOCAL_ENVIRONMENT, Settings, SettingsError, load_settings
from wrm_pipeline.vault.client import TokenFacts, VaultClient
from wrm_pipeline.vault.errors import SecretNotFound, VaultError
from wrm_pipeline.vault.run_settings import PARTS, checked, is_set, vault_client

REQUIRED: Final = frozenset(
    {"s3_endpoint_url", "bucket_name", "s3_access_key_id", "s3_secret_access_key", "wrm_pseudonym_key"}
)
Source = Literal["environment", ".env", "wrm up", "secrets directory", "Vault"]


@dataclass(frozen=True)
class Entry:
    """One key of one path: where its value comes from, None: nowhere; `in_vault` is None when nobody asked."""

    path: str
    key: str
    required: bool
    source: Source | None
    in_vault: bool | None


@dataclass(frozen=True)
class Inventory:
    """Vault's address (None: switched off), the token, every key, and what is wrong, a sentence each."""

    vault: str | None
    token: TokenFacts | None
    entries: tuple[Entry, ...]
    problems: tuple[str, ...]


def take_inventory() -> Inventory:
    """Look at all sources, and at every path in Vault when it is on.

    Raises:
        SettingsError: a setting outside Vault is wrong.
    """
    settings = load_settings()
    sources = _sources()
    problems: list[str] = []
    client: VaultClient | None = None
    token: TokenFacts | None = None
    if settings.vault_enabled:
        try:
            client = vault_client(settings)
            token = client.token_facts()
        except (VaultError, SettingsError) as error:
            problems.append(str(error))
            client = None
    entries: list[Entry] = []
    for part, names in PARTS.items():
        path = settings.vault_path(part)
        there = None if client is None else _keys(client, path, names, problems)
        for name in names:
            in_vault = None if there is None else name in there
            source = sources.get(name) or ("Vault" if in_vault else None)
            entries.append(Entry(path, name, name in REQUIRED, source, in_vault))
    # What Vault does not say may be there: then another problem tells why it does not.
    known = [entry for entry in entries if entry.in_vault is False or not settings.vault_enabled]
    missing = [entry for entry in known if entry.required and entry.source is None]
    for entry in missing:
        part = entry.path.rpartition("/")[2]
        or_vault = f", or with `wrm secrets put {part} {entry.key}` in Vault" if settings.vault_enabled else ""
        problems.append(
            f"{entry.key.upper()} is nowhere: set it in the environment, .env or WRM_SECRETS_DIR{or_vault}."
        )
    return Inventory(settings.vault_addr if settings.vault_enabled else None, token, tuple(entries), tuple(problems))


def _keys(client: VaultClient, path: str, names: tuple[str, ...], problems: list[str]) -> frozenset[str] | None:
    """Return which of some keys are at a path with a value that will do; None when Vault does not say."""
    try:
        values = client.read(path)
    except SecretNotFound:
        return frozenset()
    except VaultError as error:
        problems.append(str(error))
        return None
    good = set()
    for name in names:
        if name in values:
            try:
                if checked(name, values[name], f"{client.place(path)} in Vault at {client.address}") is not None:
                    good.add(name)
            except SettingsError as error:
                problems.append(str(error))
    return frozenset(good)


def _sources() -> dict[str, Source]:
    """Return where each setting outside Vault comes from: it is set from the first of these layers on."""
    layers: tuple[tuple[Source, dict[str, object]], ...] = (
        ("environment", {"_env_file": None, "_secrets_dir": None}),
        (".env", {"_env_file": ".env", "_secrets_dir": None}),
        ("wrm up", {"_env_file": (LOCAL_ENVIRONMENT, ".env"), "_secrets_dir": None}),
        ("secrets directory", {}),
    )
    found: dict[str, Source] = {}
    for source, options in layers:
        settings = load_settings(**options)
        for name in Settings.model_fields:
            if is_set(settings, name):
                found.setdefault(name, source)
    return found

"""Moving the secrets of a `.env` into Vault: written, read back, compared, and only then taken out of the file."""

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from wrm_pipeline.settings import Settings, SettingsError
from wrm_pipeline.vault.client import VaultClient
from wrm_pipeline.vault.env_file import EnvFile
from wrm_pipeline.vault.errors import SecretNotFound, VaultError
from wrm_pipeline.vault.run_settings import PARTS, SECRETS, checked


@dataclass(frozen=True)
class Move:
    """One secret, and what Vault holds at its place: nothing, the same value, or another one."""

    path: str
    key: str
    there: Literal["nothing", "same", "other"]


def plan(client: VaultClient, settings: Settings, file: EnvFile) -> list[Move]:
    """Return what is to be moved.

    Raises:
        SettingsError: a value in the file is one that the settings would refuse.
        VaultError: Vault cannot be read.
    """
    moves = []
    for path, values in _by_path(settings, file).items():
        there = _read(client, path)
        for key, value in values.items():
            checked(key, value, str(file.path))
            moves.append(Move(path, key, "nothing" if key not in there else "same" if there[key] == value else "other"))
    return moves


def migrate(client: VaultClient, settings: Settings, file: EnvFile, *, overwrite: bool) -> EnvFile:
    """Move the secrets, and return the file as it is now.

    Args:
        client: that may write.
        settings: whose WRM_ENV names the paths.
        file: left as it is when anything fails.
        overwrite: replace another value in Vault; otherwise that is an error.

    Raises:
        SettingsError: as for `plan`; Vault has other values; the file cannot be rewritten.
        VaultError: Vault refuses, or does not give back what was written.
    """
    others = [move for move in plan(client, settings, file) if move.there == "other"]
    if others and not overwrite:
        keys = ", ".join(f"{client.place(move.path)} {move.key}" for move in others)
        raise SettingsError(
            f"Vault at {client.address} has other values than {file.path} for: {keys}. Nothing was changed. "
            "--overwrite takes the file's; to keep Vault's, empty them in the file."
        )
    secrets = _by_path(settings, file)
    emptied = file.without({key for values in secrets.values() for key in values})  # first: it can fail, too
    for path, values in secrets.items():
        client.write(path, values)
    for path, values in secrets.items():
        there = _read(client, path)
        if wrong := [key for key, value in values.items() if there.get(key) != value]:
            raise VaultError(
                f"Vault at {client.address}, {client.place(path)}: {', '.join(wrong)} did not come back as written. "
                f"{file.path} is left as it is."
            )
    if emptied != file:
        file.replace(emptied)
    return emptied


def _by_path(settings: Settings, file: EnvFile) -> dict[str, dict[str, SecretStr]]:
    values = file.values()
    found = {
        settings.vault_path(part): {name: values[name] for name in names if name in SECRETS and name in values}
        for part, names in PARTS.items()
    }
    return {path: secrets for path, secrets in found.items() if secrets}


def _read(client: VaultClient, path: str) -> dict[str, SecretStr]:
    try:
        return client.read(path)
    except SecretNotFound:
        return {}

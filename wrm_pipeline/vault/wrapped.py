"""Secret ids in files, and secret ids that arrive wrapped: unwrapped once, kept in a file, checked for interception.

A wrapping token can be used once. Whoever hands the secret id over gives us only the token; if it is used up when we
come, somebody else may hold the secret id. Runs are processes of their own, so the first one unwraps under a file lock.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from wrm_pipeline.settings import SettingsError
from wrm_pipeline.telemetry.redaction import register_secret
from wrm_pipeline.vault.errors import Answered, PossibleInterception, VaultError, VaultUnavailable

if TYPE_CHECKING:
    from wrm_pipeline.vault.transport import Transport

_log = logging.getLogger(__name__)
_SETTING: Final = "VAULT_WRAPPED_SECRET_ID_FILE"
_PRIVATE: Final = 0o600


@dataclass(frozen=True)
class SecretIdFiles:
    """The file with the wrapping token, and the file for the secret id; default: beside it, with `.unwrapped` added."""

    wrapped: Path
    secret_id: Path | None

    @property
    def stored(self) -> Path:
        """Where the secret id is kept."""
        return self.secret_id or self.wrapped.with_name(f"{self.wrapped.name}.unwrapped")

    @property
    def lock(self) -> Path:
        """Locked while a token is unwrapped; holds the sha256 of the last token that was unwrapped here."""
        return self.stored.with_name(f"{self.stored.name}.lock")


def read_secret_file(path: Path, setting: str) -> SecretStr:
    """Return a file's text without white space around it.

    Raises:
        SettingsError: it cannot be read, or is empty.
    """
    try:
        text = path.read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{setting}: {path} is not text") from None
    if not text:
        raise SettingsError(f"{setting}: {path} is empty")
    register_secret(text)
    return SecretStr(text)


def unwrapped_secret_id(files: SecretIdFiles, transport: "Transport") -> SecretStr:
    """Return the secret id: unwrapped now and stored, or stored by an earlier run.

    Raises:
        PossibleInterception: the token is used up, and not by us, or wraps something else; logged at ERROR, too.
        SettingsError: a file is missing, or cannot be written.
        VaultError: Vault does not answer, or its answer was lost.
    """
    with _locked(files) as lock:
        if not files.wrapped.exists():
            if not files.stored.exists():
                raise SettingsError(f"{_SETTING}: there is no {files.wrapped}, and no secret id in {files.stored}")
            return read_secret_file(files.stored, "VAULT_SECRET_ID_FILE")
        token = read_secret_file(files.wrapped, _SETTING)
        digest = hashlib.sha256(token.get_secret_value().encode()).hexdigest()
        if lock.read().strip() == digest and files.stored.exists():  # by us, and the file could not be removed
            return read_secret_file(files.stored, "VAULT_SECRET_ID_FILE")
        _check_origin(files, transport, token)
        with _replacing(files.stored) as write:  # opened first: a full or read-only disk must not cost the secret id
            secret_id = _unwrap(files, transport, token)
            write(secret_id.get_secret_value())
        lock.seek(0)
        lock.truncate()
        lock.write(digest)
        lock.flush()
        _remove(files.wrapped)
        return secret_id


def _check_origin(files: SecretIdFiles, transport: "Transport", token: SecretStr) -> None:
    """See that the token was made by a role's secret-id endpoint: somebody could have put one of their own there."""
    what = "look up the wrapping token"
    made_by: str | None = None
    with contextlib.suppress(Answered):
        body = transport.send(
            what,
            lambda client: client.adapter.post("/v1/sys/wrapping/lookup", json={"token": token.get_secret_value()}),
        )
        made_by = str((body.get("data") or {}).get("creation_path"))
    if made_by is None:
        raise _interception(files, transport, "it expired, or somebody else has unwrapped it")
    if not ("/role/" in made_by and made_by.endswith("/secret-id")):
        raise _interception(files, transport, "it wraps something else than a secret id")


def _unwrap(files: SecretIdFiles, transport: "Transport", token: SecretStr) -> SecretStr:
    what = "unwrap the secret id"
    used_up = False
    try:
        body = transport.send(what, lambda client: client.sys.unwrap(), token)
    except Answered:
        used_up = True
    except VaultUnavailable as error:
        lost = str(error)
    else:
        secret_id = (body.get("data") or {}).get("secret_id")
        if isinstance(secret_id, str):
            register_secret(secret_id)
            return SecretStr(secret_id)
        raise transport.not_vault(what, "no secret id")
    if used_up:
        raise _interception(files, transport, "somebody else has unwrapped it a moment ago")
    # Not tried again: the request may have arrived, and the second one would look like an interception.
    raise VaultError(
        f"{lost} The wrapping token in {files.wrapped} may be used up; if the next run says so, make a new secret id."
    )


def _interception(files: SecretIdFiles, transport: "Transport", finding: str) -> PossibleInterception:
    error = PossibleInterception(
        f"Vault at {transport.address} does not accept the wrapping token in {files.wrapped}: {finding}. Treat it as a "
        "possible interception: destroy the secret id (auth/approle/role/ROLE/secret-id-accessor/destroy, with the "
        "accessor that was shown as wrapped_accessor), look in Vault's audit log who unwrapped it, and put the token "
        f"of a new secret id into that file; deploy/vault/pipeline.hcl has the commands. The setting is {_SETTING}."
    )
    _log.error("%s", error)
    return error


@contextmanager
def _locked(files: SecretIdFiles) -> Iterator[IO[str]]:
    try:
        descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise _not_writable(files.lock, error) from None
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


@contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """Yield a function that writes the new content of a file, which takes the old one's place when all went well."""
    beside = path.with_name(f"{path.name}.new")  # one writer at a time: under the lock
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise _not_writable(beside, error) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _not_writable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"{path} cannot be written ({error.strerror}); the unwrapped secret id is kept there. Set "
        "VAULT_SECRET_ID_FILE to a file in a directory of the pipeline's own."
    )


def _remove(wrapped: Path) -> None:
    try:
        wrapped.unlink()
    except OSError as error:
        _log.warning("%s cannot be removed (%s); it is used up and does no harm.", wrapped, error.strerror)

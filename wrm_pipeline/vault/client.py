"""The client of Vault: logging in, keeping the token alive, reading and writing secrets of a KV version 2 engine.

One retry layer (`wrm_pipeline.resilience`) with a budget of a few seconds; hvac's and requests' own are off.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import SecretStr

from wrm_pipeline.resilience import Failure, RetryPolicy, call
from wrm_pipeline.settings import Settings, SettingsError
from wrm_pipeline.telemetry.redaction import register_secret
from wrm_pipeline.vault.errors import (
    Answered,
    Body,
    LoginRefused,
    SecretNotFound,
    TokenRefused,
    VaultDenied,
    VaultError,
    VaultUnavailable,
)
from wrm_pipeline.vault.wrapped import SecretIdFiles, read_secret_file, unwrapped_secret_id

if TYPE_CHECKING:
    from wrm_pipeline.vault.transport import Transport

T = TypeVar("T")
_log = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
# Other writers may come between reading a version and writing the next one; people and rotations are that rare.
_WRITE_ATTEMPTS: Final = 5
_NEVER: Final = float("inf")


@dataclass(frozen=True)
class VaultAccess:
    """Where Vault is and how to log in: the part of the settings that a client depends on."""

    address: str
    mount: str
    namespace: str | None
    authority_file: Path | None
    timeout_s: float
    token: SecretStr | None
    role_id: str | None
    role_id_file: Path | None
    secret_id: SecretStr | None
    secret_id_file: Path | None
    wrapped_secret_id_file: Path | None

    @classmethod
    def of(cls, settings: Settings) -> "VaultAccess":
        """Take what is needed from the settings; VAULT_TOKEN wins over AppRole.

        Raises:
            SettingsError: no address, or neither a token nor a role id with a secret id.
        """
        if settings.vault_addr is None:
            raise SettingsError(
                "VAULT_ADDR not set. It is the address of Vault, such as https://vault.example.org:8200"
            )
        secret_ids = (settings.vault_secret_id, settings.vault_secret_id_file, settings.vault_wrapped_secret_id_file)
        if settings.vault_token is None:
            if settings.vault_role_id is None and settings.vault_role_id_file is None:
                raise SettingsError(
                    "VAULT_ROLE_ID or VAULT_ROLE_ID_FILE not set: Vault needs a role id and a secret id, or VAULT_TOKEN"
                )
            if not any(secret_ids):
                raise SettingsError(
                    "VAULT_SECRET_ID, VAULT_SECRET_ID_FILE or VAULT_WRAPPED_SECRET_ID_FILE not set: Vault needs one of "
                    "them for the role id"
                )
        return cls(
            address=settings.vault_addr,
            mount=settings.vault_mount,
            namespace=settings.vault_namespace,
            authority_file=settings.vault_cacert,
            timeout_s=settings.vault_timeout_s,
            token=settings.vault_token,
            role_id=settings.vault_role_id,
            role_id_file=settings.vault_role_id_file,
            secret_id=settings.vault_secret_id,
            secret_id_file=settings.vault_secret_id_file,
            wrapped_secret_id_file=settings.vault_wrapped_secret_id_file,
        )


@dataclass(frozen=True)
class TokenFacts:
    """What Vault says of the token in use; `ttl_s` is None for one that never ends."""

    login: Literal["token", "approle"]
    policies: tuple[str, ...]
    ttl_s: int | None
    renewable: bool


@dataclass(frozen=True)
class _Token:
    value: SecretStr
    renewable: bool
    renew_at: float  # of the client's clock
    ends_at: float


@dataclass(frozen=True)
class _Version:
    """A path's values and version; 0 and nothing where there was never anything, None for values that were deleted."""

    values: dict[str, Any] | None = field(repr=False)
    number: int


class VaultClient:
    """Reads and writes secrets, for many threads. No request is made before the first read.

    All methods raise `VaultUnavailable` when Vault cannot be reached, `VaultSealed`, `LoginRefused`, `TokenRefused` and
    `VaultDenied` as their names say, and `VaultError` for TLS failures and for servers that are no Vault.

    Args:
        access: where and as whom.
        clock: monotonic seconds.
    """

    def __init__(self, access: VaultAccess, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._lock = threading.RLock()
        self._connection: Transport | None = None
        self._token: _Token | None = None
        self._known: dict[str, tuple[float, _Version]] = {}
        # Two timeouts: a Vault that says nothing is asked twice, and given up on in about 6 s by default.
        self._policy = RetryPolicy(attempts=_ATTEMPTS, budget_s=2 * access.timeout_s, base_s=0.2, cap_s=1.0)

    def __repr__(self) -> str:
        return f"VaultClient({self._access.address}, mount={self._access.mount})"

    @property
    def address(self) -> str:
        """Where Vault is."""
        return self._access.address

    def place(self, path: str) -> str:
        """Return a path with its mount point, as `bao kv get` takes it."""
        return f"{self._access.mount}/{path}"

    def read(self, path: str, *, max_age_s: float = 0.0) -> dict[str, SecretStr]:
        """Return the values at a path, by key; what is not text comes as JSON, and null is left out.

        Args:
            path: without the mount point.
            max_age_s: an answer of this client that is not older will do.

        Raises:
            SecretNotFound: there is nothing at this path.
        """
        with self._lock:
            read_at, version = self._known.get(path, (-_NEVER, None))
        if version is None or self._clock() - read_at >= max_age_s:
            version = self._read_version(path)
            with self._lock:
                self._known[path] = (self._clock(), version)
        if version.values is None:
            what = "was deleted; `bao kv undelete` brings it back" if version.number else "there is nothing"
            raise SecretNotFound(
                f"Vault at {self.address}: {self.place(path)}: {what}. Write it with `wrm secrets put`, or check "
                "WRM_ENV, VAULT_MOUNT and VAULT_NAMESPACE."
            )
        return {
            key: SecretStr(value if isinstance(value, str) else json.dumps(value))
            for key, value in version.values.items()
            if value is not None
        }

    def write(self, path: str, values: Mapping[str, SecretStr]) -> bool:
        """Set keys at a path and keep its others; tell whether anything was different.

        The write is refused by Vault when somebody else wrote in between; then it starts again from what is there.
        """
        wanted = {key: value.get_secret_value() for key, value in values.items()}
        for _ in range(_WRITE_ATTEMPTS):
            before = self._read_version(path)
            merged = {**(before.values or {}), **wanted}
            if merged == before.values:
                return False
            if self._write_version(path, merged, before.number):
                with self._lock:
                    self._known.pop(path, None)
                return True
        raise VaultUnavailable(
            f"Vault at {self.address}, write {self.place(path)}: others keep writing there. Try again."
        )

    def token_facts(self) -> TokenFacts:
        """Return what Vault says of the token, logging in first if need be."""
        what = "look up the token"
        data: Mapping[str, Any] = {}
        with contextlib.suppress(Answered):
            data = _data(self._call(what, _lookup_self))
        if "policies" not in data:
            raise self._transport().not_vault(what, "no token")
        ttl_s = _integer(data.get("ttl"))
        return TokenFacts(
            login="token" if self._access.token else "approle",
            policies=_policies(data),
            ttl_s=ttl_s or None,
            renewable=data.get("renewable") is True,
        )

    # --- Secrets ------------------------------------------------------------------------------------------------------

    def _read_version(self, path: str) -> _Version:
        def ask(client: Any) -> Any:
            return client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=self._access.mount, raise_on_deleted_version=True
            )

        what = f"read {self.place(path)}"
        try:
            body = self._call(what, ask)
        except Answered as answer:
            problem = self._no_such_engine(answer, what)
            if problem is None:
                return _Version(None, _version_number(answer.body))
        else:
            values = _data(body).get("data")
            if isinstance(values, dict) and _version_number(body):
                return _Version(values, _version_number(body))
            problem = self._not_kv2(what)
        raise problem

    def _write_version(self, path: str, values: dict[str, Any], expected: int) -> bool:
        """Write the next version; False when another one has come in between."""

        def ask(client: Any) -> Any:
            return client.secrets.kv.v2.create_or_update_secret(
                path=path, secret=values, cas=expected, mount_point=self._access.mount
            )

        what = f"write {self.place(path)}"
        try:
            body = self._call(what, ask)
        except Answered as answer:
            if answer.status == 400 and "check-and-set" in answer.reasons:
                return False
            problem = self._no_such_engine(answer, what) or self._not_kv2(what)
        else:
            if _integer(_data(body).get("version")):
                return True
            problem = self._not_kv2(what)
        raise problem

    def _no_such_engine(self, answer: Answered, what: str) -> VaultError | None:
        """Return the error that a 400 or a 404 means; None when just nothing is there."""
        if "no handler for route" in answer.reasons:
            return VaultError(f"Vault at {self.address}, {what}: nothing is mounted there. Check VAULT_MOUNT.")
        return None if answer.status == 404 else self._not_kv2(what)

    def _not_kv2(self, what: str) -> VaultError:
        return VaultError(
            f"Vault at {self.address}, {what}: {self._access.mount}/ does not answer like a KV engine of version 2. "
            "Check VAULT_MOUNT and VAULT_ADDR."
        )

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _call(self, what: str, ask: Callable[[Any], Any]) -> Body:
        """Ask with a token that is good, under the failure policy."""
        used: list[_Token] = []

        def attempt() -> Body:
            token = self._good_token()
            used[:] = [token]
            return self._ask(what, ask, token)

        return call(
            attempt,
            what=f"Vault at {self.address}, {what}",
            policy=self._policy,
            classify=_classify,
            retry_after=_retry_after,
            renew_credentials=lambda: self._forget(used[0] if used else None),
        )

    def _ask(self, what: str, ask: Callable[[Any], Any], token: _Token) -> Body:
        transport = self._transport()
        try:
            return transport.send(what, ask, token.value)
        except Answered as answer:
            if answer.status != 403:
                raise
        facts = self._look_up(token)  # Vault says the same for a dead token and for a policy that does not allow this
        policies = ", ".join(_policies(facts)) or "none"
        raise VaultDenied(
            transport.message(
                what,
                f"denied (HTTP 403). None of the token's policies ({policies}) allows it: see "
                "deploy/vault/pipeline.hcl and operator.hcl, and check WRM_ENV and VAULT_MOUNT.",
            )
        )

    def _transport(self) -> "Transport":
        with self._lock:
            if self._connection is None:
                from wrm_pipeline.vault.transport import Transport

                access = self._access
                self._connection = Transport(
                    access.address,
                    namespace=access.namespace,
                    authority_file=str(access.authority_file) if access.authority_file else None,
                    timeout_s=access.timeout_s,
                )
            return self._connection

    # --- The token ----------------------------------------------------------------------------------------------------

    def _forget(self, used: _Token | None) -> bool:
        """Drop a token that Vault refused; tell whether there is another to be had."""
        with self._lock:
            if self._token is used:  # else another thread has a new one
                self._token = None
        return self._access.token is None

    def _good_token(self) -> _Token:
        with self._lock:
            token, now = self._token, self._clock()
            if token is None or now >= token.ends_at:
                token = self._log_in()
            elif now >= token.renew_at:
                token = self._renewed(token)
            self._token = token
            return token

    def _log_in(self) -> _Token:
        if self._access.token is not None:
            unknown = _Token(self._access.token, renewable=False, renew_at=_NEVER, ends_at=_NEVER)
            data = self._look_up(unknown)
            left, whole = _integer(data.get("ttl")), _integer(data.get("creation_ttl"))
            return self._timed(unknown.value, left, whole, renewable=data.get("renewable") is True)
        return self._log_in_with_role()

    def _log_in_with_role(self) -> _Token:
        transport, what = self._transport(), "log in with AppRole"
        role_id = self._role_id()
        secret_id = self._secret_id(transport)
        try:
            body = transport.send(
                what,
                lambda client: client.auth.approle.login(role_id, secret_id.get_secret_value(), use_token=False),
            )
        except Answered as answer:
            refused = answer.status
        else:
            return self._token_of(body, what)
        where = (
            "VAULT_NAMESPACE, and that AppRole is enabled at auth/approle"
            if refused == 404
            else ("VAULT_ROLE_ID or VAULT_ROLE_ID_FILE, and make a new secret id, see deploy/vault/pipeline.hcl")
        )
        raise LoginRefused(
            transport.message(
                what,
                f"refused (HTTP {refused}): the role id or the secret id ({self._secret_id_setting()}) is wrong, "
                f"expired, used up, or not for this machine's address. Check {where}.",
            )
        )

    def _renewed(self, token: _Token) -> _Token:
        """Return the token with a new lease, or another one; the old one while Vault cannot say."""
        if token.renewable:
            what = "renew the token"
            try:
                body = self._transport().send(what, lambda client: client.auth.token.renew_self(), token.value)
                return self._token_of(body, what)
            except VaultUnavailable as error:
                _log.warning("%s The token is still good for %.0f s.", error, token.ends_at - self._clock())
                return token
            except Answered as answer:  # revoked, or as old as its role lets a token become
                _log.info("Vault at %s does not renew the token (HTTP %d)", self.address, answer.status)
        if self._access.token is None:
            return self._log_in()
        if token.renewable:
            _log.warning(
                "Vault at %s does not renew VAULT_TOKEN, which ends in %.0f s. Put a new one in its place.",
                self.address,
                token.ends_at - self._clock(),
            )
        return replace(token, renew_at=_NEVER)

    def _look_up(self, token: _Token) -> Mapping[str, Any]:
        """Return what Vault says of a token.

        Raises:
            TokenRefused: it does not know it, or no longer.
        """
        transport, what = self._transport(), "look up the token"
        try:
            return _data(transport.send(what, _lookup_self, token.value))
        except Answered as answer:
            refused = answer.status
        if self._access.token is not None:
            text = "refuses VAULT_TOKEN: it is wrong, expired or revoked. Put a new one in its place"
        else:
            text = (
                "refuses the token that it gave at login: revoked, expired, or its policy lacks "
                "auth/token/lookup-self, see deploy/vault/pipeline.hcl"
            )
        raise TokenRefused(f"Vault at {self.address} {text} (HTTP {refused}).")

    def _token_of(self, body: Body, what: str) -> _Token:
        auth = body.get("auth")
        if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
            raise self._transport().not_vault(what, "no token")
        register_secret(auth["client_token"])
        lease_s = _integer(auth.get("lease_duration"))
        return self._timed(SecretStr(auth["client_token"]), lease_s, lease_s, renewable=auth.get("renewable") is True)

    def _timed(self, value: SecretStr, left_s: int, whole_s: int, *, renewable: bool) -> _Token:
        """Return a token that is renewed when two thirds of its lease are over; a lease of 0 never ends."""
        if left_s == 0:
            return _Token(value, renewable=False, renew_at=_NEVER, ends_at=_NEVER)
        now = self._clock()
        return _Token(value, renewable, now + max(0.0, left_s - max(whole_s, left_s) / 3), now + left_s)

    def _role_id(self) -> str:
        if self._access.role_id is not None or self._access.role_id_file is None:
            return self._access.role_id or ""
        return read_secret_file(self._access.role_id_file, "VAULT_ROLE_ID_FILE").get_secret_value()

    def _secret_id(self, transport: "Transport") -> SecretStr:
        access = self._access
        if access.secret_id is not None:
            return access.secret_id
        if access.wrapped_secret_id_file is not None:
            return unwrapped_secret_id(SecretIdFiles(access.wrapped_secret_id_file, access.secret_id_file), transport)
        if access.secret_id_file is None:
            raise AssertionError("VaultAccess.of lets nobody in without a secret id")
        return read_secret_file(access.secret_id_file, "VAULT_SECRET_ID_FILE")

    def _secret_id_setting(self) -> str:
        access = self._access
        if access.secret_id is not None:
            return "VAULT_SECRET_ID"
        return "VAULT_SECRET_ID_FILE" if access.wrapped_secret_id_file is None else "VAULT_WRAPPED_SECRET_ID_FILE"


def _lookup_self(client: Any) -> Any:
    return client.auth.token.lookup_self()


def _data(body: Mapping[str, Any]) -> Mapping[str, Any]:
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def _version_number(body: Mapping[str, Any]) -> int:
    metadata = _data(body).get("metadata")
    return _integer(metadata.get("version")) if isinstance(metadata, dict) else 0


def _policies(data: Mapping[str, Any]) -> tuple[str, ...]:
    found = [*(data.get("policies") or ()), *(data.get("identity_policies") or ())]
    return tuple(str(name) for name in found)


def _integer(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _classify(error: BaseException) -> Failure:
    return error.failure if isinstance(error, VaultError) else Failure.PERMANENT


def _retry_after(error: BaseException) -> float | None:
    return error.retry_after_s if isinstance(error, VaultError) else None

"""One request to Vault through hvac, without retries, and what each way of failing means.

The only module that imports hvac, which costs 0.2 s: it is imported inside functions itself.
"""

from collections.abc import Callable
from typing import Any, Final

import hvac  # type: ignore[import-untyped]
import requests
from hvac.adapters import RawAdapter  # type: ignore[import-untyped]
from pydantic import SecretStr
from urllib3.exceptions import HTTPError as TransportError

from wrm_pipeline.errors import words_of
from wrm_pipeline.vault.errors import Answered, Body, VaultError, VaultSealed, VaultUnavailable

# 412: a standby that has not caught up; 429: a quota, or a standby's health; 472, 473: standbys of Vault Enterprise.
_TRANSIENT_STATUSES: Final = frozenset({412, 429, 472, 473, 500, 502, 503, 504})
# The other side, or something between, hung up in the middle of the handshake: no verdict on certificates.
_BROKEN_HANDSHAKE: Final = ("EOF", "reset", "timed out")


class _Adapter(RawAdapter):  # type: ignore[misc]
    """hvac's own errors hold the answer's text, and so perhaps secrets: here answers are returned as they are."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        return super().request(*args, **{**kwargs, "raise_exception": False})


class Transport:
    """Sends one request at a time to one Vault; safe between threads.

    Args:
        address: of the server, without a path.
        namespace: sent as X-Vault-Namespace.
        authority_file: certificate authorities to trust instead of the usual ones.
        timeout_s: to connect, and to wait for the next bytes.
    """

    def __init__(self, address: str, *, namespace: str | None, authority_file: str | None, timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s
        session = requests.Session()
        session.trust_env = False  # no proxy, no ~/.netrc, no other authorities than VAULT_CACERT says
        session.verify = authority_file or True
        # Empty values instead of None: hvac would read VAULT_TOKEN, ~/.vault-token and VAULT_CLIENT_CERT by itself.
        self._options = {
            "url": address,
            "session": session,
            "verify": session.verify,
            "cert": (),
            "timeout": timeout_s,
            "namespace": namespace,
            "adapter": _Adapter,
            # requests sends X-Vault-Token to whatever host a redirect names.
            "allow_redirects": False,
        }

    def __repr__(self) -> str:
        return f"Transport({self.address})"

    def send(self, what: str, ask: Callable[[Any], Any], token: SecretStr | None = None) -> Body:
        """Return Vault's answer; empty when it has no body.

        Args:
            what: for messages, such as "read secret/bike-data-flow/production/storage".
            ask: called with an `hvac.Client`.
            token: sent along.

        Raises:
            Answered: with 400, 403 or 404.
            VaultUnavailable: no answer, or one that asks to come again.
            VaultSealed: it is sealed.
            VaultError: TLS failed, or this is no Vault.
        """
        client = hvac.Client(token=token.get_secret_value() if token else "", **self._options)
        try:
            response = ask(client)
        except requests.exceptions.SSLError as error:
            failed: VaultError = self._tls_failed(what, error)
        except (requests.exceptions.RequestException, TransportError, OSError) as error:
            failed = self._no_answer(what, error)
        else:
            return self._read(what, response)
        raise failed  # outside of `except`: the cause holds the request, and so the token

    def message(self, what: str, text: str) -> str:
        """Return a sentence about a request."""
        return f"Vault at {self.address}, {what}: {text}"

    def _tls_failed(self, what: str, error: BaseException) -> VaultError:
        reason = words_of(error)
        if any(word in str(error) for word in _BROKEN_HANDSHAKE):
            return VaultUnavailable(self.message(what, f"the TLS handshake broke off ({reason}). Check VAULT_ADDR."))
        return VaultError(
            self.message(
                what,
                f"TLS failed ({reason}). Check the scheme and host of VAULT_ADDR, and VAULT_CACERT for a private CA.",
            )
        )

    def _no_answer(self, what: str, error: BaseException) -> VaultError:
        slow = isinstance(error, requests.exceptions.Timeout)
        reason = f"nothing within {self._timeout_s:g} s" if slow else words_of(error)
        return VaultUnavailable(
            self.message(
                what,
                f"no answer ({reason}). Check VAULT_ADDR and that Vault is up; VAULT_TIMEOUT_S says how long to wait.",
            )
        )

    def _read(self, what: str, response: requests.Response) -> Body:
        status: int = response.status_code
        if status == 204:
            return {}
        body = _json_object(response)
        reasons = body.get("errors") if body is not None else None
        words = " ".join(map(str, reasons)) if isinstance(reasons, list) else ""
        if status == 200 and body is not None:
            return body
        if status == 503 and "sealed" in words:
            raise VaultSealed(
                self.message(what, "it is sealed. Unseal it: bao operator unseal (or vault operator unseal).")
            )
        if status in _TRANSIENT_STATUSES:
            raise VaultUnavailable(self.message(what, f"it cannot answer now (HTTP {status})."), _retry_after(response))
        if status == 501:
            raise VaultError(
                self.message(what, "it is not initialised. Run: bao operator init (or vault operator init).")
            )
        if 300 <= status < 400:
            raise VaultError(
                self.message(
                    what,
                    f"it redirects (HTTP {status}), which is not followed, since the token would go along. "
                    "Set VAULT_ADDR to the address that answers itself.",
                )
            )
        if "namespace not found" in words:
            raise VaultError(self.message(what, "it has no such namespace. Check VAULT_NAMESPACE."))
        if body is not None and status in {400, 403, 404} and ("errors" in body or "data" in body):
            raise Answered(status, words, body)
        raise self.not_vault(what, f"HTTP {status}")

    def not_vault(self, what: str, found: str) -> VaultError:
        """Return the error for an answer that Vault does not give."""
        return VaultError(self.message(what, f"the answer ({found}) is not one of Vault's. Check VAULT_ADDR."))


def _json_object(response: requests.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _retry_after(response: requests.Response) -> float | None:
    asked = str(response.headers.get("Retry-After", ""))
    return float(asked) if asked.isdecimal() else None

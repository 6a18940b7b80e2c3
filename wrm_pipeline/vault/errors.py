"""What can go wrong with Vault. Each error names Vault, its address, the path and what to check, and never a secret."""

from collections.abc import Mapping
from typing import Any

from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.resilience import Failure

Body = Mapping[str, Any]


class VaultError(ExpectedError):
    """Vault did not do what was asked, and trying again changes nothing."""

    failure = Failure.PERMANENT
    retry_after_s: float | None = None


class VaultUnavailable(VaultError):  # noqa: N818 - names the finding
    """Vault cannot be reached or keeps failing, after all retries."""

    failure = Failure.TRANSIENT

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class VaultSealed(VaultError):  # noqa: N818 - names the finding
    """Vault is sealed; somebody with the unseal keys must open it."""


class VaultDenied(VaultError):  # noqa: N818 - names the finding
    """The token is good, and its policies do not allow this."""


class LoginRefused(VaultError):  # noqa: N818 - names the finding
    """The role id or the secret id is wrong, expired or used up."""


class TokenRefused(VaultError):  # noqa: N818 - names the finding
    """The token has expired or was revoked."""

    failure = Failure.STALE_CREDENTIALS


class SecretNotFound(VaultError):  # noqa: N818 - names the finding
    """There is nothing at a path, or not this key."""


class PossibleInterception(VaultError):  # noqa: N818 - names the finding
    """A wrapping token was used before, or is not what it should be: somebody may hold the secret id."""


class Answered(Exception):  # noqa: N818 - a state that the caller gives a meaning
    """Vault answered 400, 403 or 404, whose meaning depends on the question.

    Attributes:
        status: of HTTP.
        reasons: Vault's words, for comparing; never shown, since they are the server's.
        body: the whole answer; a deleted version of a secret answers 404 with one.
    """

    def __init__(self, status: int, reasons: str, body: Body) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.reasons = reasons
        self.body = body

"""Vault as a resource, for assets that need a secret."""

from typing import Any

from dagster import ConfigurableResource
from pydantic import Field

from wrm_pipeline.settings import Settings
from wrm_pipeline.vault.run_settings import load_run_settings


class VaultResource(ConfigurableResource["VaultResource"]):
    """HashiCorp Vault or OpenBao. Fields left empty are read from the settings; what logs in always is."""

    address: str | None = Field(default=None, description="Address of Vault; empty: VAULT_ADDR")
    mount: str | None = Field(default=None, description="Mount point of the KV engine; empty: VAULT_MOUNT")
    namespace: str | None = Field(default=None, description="Namespace; empty: VAULT_NAMESPACE")

    def settings(self) -> Settings:
        """Return the settings of this run with its secrets; see `load_run_settings`."""
        given: dict[str, Any] = {
            "vault_addr": self.address,
            "vault_mount": self.mount,
            "vault_namespace": self.namespace,
        }
        return load_run_settings(**{name: value for name, value in given.items() if value is not None})

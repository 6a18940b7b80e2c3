"""Vault as a resource, for assets that need a secret which is not a setting."""

from dagster import ConfigurableResource
from pydantic import Field, SecretStr

from wrm_pipeline.settings import Settings, load_settings
from wrm_pipeline.vault.run_settings import load_run_settings, vault_client


class VaultResource(ConfigurableResource["VaultResource"]):
    """HashiCorp Vault or OpenBao. Fields left empty are read from the settings; what logs in always is."""

    address: str | None = Field(default=None, description="Address of Vault; empty: VAULT_ADDR")
    mount: str | None = Field(default=None, description="Mount point of the KV engine; empty: VAULT_MOUNT")
    namespace: str | None = Field(default=None, description="Namespace; empty: VAULT_NAMESPACE")

    def settings(self, *, refresh: bool = False) -> Settings:
        """Return the settings of this run with its secrets; see `load_run_settings`."""
        return load_run_settings(refresh=refresh, **self._given())

    def secret(self, path: str, key: str) -> SecretStr:
        """Return one value below bike-data-flow/<WRM_ENV>/, read now.

        Args:
            path: such as "storage".
            key: such as "s3_access_key_id".

        Raises:
            SettingsError: Vault is not set up.
            SecretNotFound: there is nothing at this path, or not this key.
            VaultError: Vault did not answer, or said no.
        """
        settings = load_settings(**self._given())
        return vault_client(settings).secret(settings.vault_path(path), key)

    def _given(self) -> dict[str, str]:
        given = {"vault_addr": self.address, "vault_mount": self.mount, "vault_namespace": self.namespace}
        return {name: value for name, value in given.items() if value is not None}

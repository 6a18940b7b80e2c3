"""Fixtures of the tests of Vault: see `fixtures.vault`."""

from wrm_pipeline_tests.fixtures.vault import (  # noqa: F401 - pytest finds fixtures by name in a conftest
    vault,
    vault_server,
)

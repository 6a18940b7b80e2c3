"""Fixtures for all tests, and the guard that keeps this machine's variables out of them."""

import os

import pytest

from wrm_pipeline.settings import Settings
from wrm_pipeline_tests.fixtures.servers import (  # noqa: F401 - pytest finds fixtures by name in a conftest
    proxied,
    proxy,
    redis_server,
    store,
    store_server,
    store_settings,
)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's shell must not decide where the tests write: forget its variables."""
    for name in (*map(str.upper, Settings.model_fields), "WRM_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)

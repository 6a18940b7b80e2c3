"""Fixtures for all tests, and the guard that keeps this machine's settings out of them."""

import os
from pathlib import Path

import pytest

from wrm_pipeline.settings import Settings
from wrm_pipeline_tests.fixtures.dagster import (  # noqa: F401 - pytest finds fixtures by name in a conftest
    fresh_breakers,
    lake,
    pipeline,
    simulator,
)
from wrm_pipeline_tests.fixtures.servers import (  # noqa: F401 - pytest finds fixtures by name in a conftest
    proxied,
    proxy,
    redis_of_session,
    redis_server,
    store,
    store_server,
    store_settings,
)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's shell and .env must not decide where the tests write: forget the one, stand elsewhere."""
    monkeypatch.chdir(tmp_path)
    for name in (*map(str.upper, Settings.model_fields), "WRM_SECRETS_DIR", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)

"""Fixtures of the code location, see `fixtures.dagster`."""

from wrm_pipeline_tests.fixtures.dagster import fresh_breakers, lake, pipeline, simulator  # noqa: F401 - found by name

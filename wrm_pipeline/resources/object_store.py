"""The lake's object store as a resource."""

from collections.abc import Callable

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from wrm_pipeline.cache.cache import Cache
from wrm_pipeline.cache.objects import ObjectCache
from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, store_breaker
from wrm_pipeline.resources.breakers import breaker_state
from wrm_pipeline.resources.cache import shared_cache
from wrm_pipeline.settings import Settings, StoreSettings
from wrm_pipeline.vault.run_settings import load_run_settings


def _read_again() -> StoreSettings:
    return load_run_settings(refresh=True).require_store()


def open_lake(settings: Settings, reload_credentials: Callable[[], StoreSettings] = _read_again) -> Lake:
    """Open the lake that some settings describe. No request is made yet.

    Args:
        settings: those of a run, with its secrets.
        reload_credentials: called once when the store no longer knows the access key.

    Raises:
        SettingsError: a setting that an S3 client needs is missing.
    """
    store_settings = settings.require_store()
    store = ObjectStore(
        store_settings,
        reload_credentials=reload_credentials,
        breaker=store_breaker(store_settings, breaker_state(settings)),
        cache=ObjectCache(shared_cache(settings)),
    )
    return Lake(store, LakeKeys(store_settings.prefix))


class ObjectStoreResource(ConfigurableResource["ObjectStoreResource"]):
    """The S3 bucket that holds the lake. Fields left empty are read from the settings; credentials always are."""

    endpoint_url: str | None = Field(default=None, description="Address of the store; empty: S3_ENDPOINT_URL")
    bucket: str | None = Field(default=None, description="Bucket; empty: BUCKET_NAME")
    prefix: str | None = Field(default=None, description="Prefix of all keys; empty: WRM_STATIONS_S3_PREFIX")

    _lake: Lake = PrivateAttr()
    _cache: Cache = PrivateAttr()

    def read_settings(self) -> StoreSettings:
        """Read what an S3 client needs, now; used again when the store no longer knows the access key."""
        return self._settings(refresh=True).require_store()

    def _settings(self, *, refresh: bool = False) -> Settings:
        given = {
            "s3_endpoint_url": self.endpoint_url,
            "bucket_name": self.bucket,
            "wrm_stations_s3_prefix": self.prefix,
        }
        return load_run_settings(refresh=refresh, **{name: value for name, value in given.items() if value is not None})

    def setup_for_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Read the settings and make the client."""
        settings = self._settings()
        self._lake = open_lake(settings, self.read_settings)
        self._cache = shared_cache(settings)

    def teardown_after_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Close connections."""
        self._lake.store.close()

    @property
    def lake(self) -> Lake:
        """The lake, between setup and teardown."""
        return self._lake

    @property
    def cache(self) -> Cache:
        """The cache that the lake's objects are kept in."""
        return self._cache

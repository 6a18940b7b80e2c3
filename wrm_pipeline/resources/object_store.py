"""The lake's object store as a resource."""

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from wrm_pipeline.lake.keys import LakeKeys
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectStore, store_breaker
from wrm_pipeline.resources.breakers import breaker_state
from wrm_pipeline.settings import Settings, StoreSettings, load_settings


def open_lake(settings: Settings, reload: "ObjectStoreResource | None" = None) -> Lake:
    """Open the lake that some settings describe. No request is made yet.

    Raises:
        SettingsError: a setting that an S3 client needs is missing.
    """
    store_settings = settings.require_store()
    store = ObjectStore(
        store_settings,
        reload_credentials=(reload.read_settings if reload is not None else None),
        breaker=store_breaker(store_settings, breaker_state(settings)),
    )
    return Lake(store, LakeKeys(store_settings.prefix))


class ObjectStoreResource(ConfigurableResource["ObjectStoreResource"]):
    """The S3 bucket that holds the lake. Fields left empty are read from the settings; credentials always are."""

    endpoint_url: str | None = Field(default=None, description="Address of the store; empty: S3_ENDPOINT_URL")
    bucket: str | None = Field(default=None, description="Bucket; empty: BUCKET_NAME")
    prefix: str | None = Field(default=None, description="Prefix of all keys; empty: WRM_STATIONS_S3_PREFIX")

    _lake: Lake = PrivateAttr()

    def read_settings(self) -> StoreSettings:
        """Read what an S3 client needs, now; used again when the store no longer knows the access key."""
        return self._settings().require_store()

    def _settings(self) -> Settings:
        given = {
            "s3_endpoint_url": self.endpoint_url,
            "bucket_name": self.bucket,
            "wrm_stations_s3_prefix": self.prefix,
        }
        return load_settings(**{name: value for name, value in given.items() if value is not None})

    def setup_for_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Read the settings and make the client."""
        self._lake = open_lake(self._settings(), reload=self)

    def teardown_after_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Close connections."""
        self._lake.store.close()

    @property
    def lake(self) -> Lake:
        """The lake, between setup and teardown."""
        return self._lake

"""`wrm metrics serve`: the exporter as a process of its own, and how its sources are put together from the settings."""

import datetime as dt
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from wrm_pipeline.operations.exporter import Sources
    from wrm_pipeline.operations.lake_figures import LakeFigures
    from wrm_pipeline.settings import Settings

PORT: Final = 9187
STATE_FILE: Final = "wrm_exporter.json"
# Prometheus asks every 15 s or so; between scrapes, this often is enough to see that a run's process is there.
_EVENT_LOG_S: Final = 15.0
_LAKE_S: Final = 30.0
_PARTS_S: Final = 15.0
_CERTIFICATES_S: Final = 3600.0
# For one request of the exporter; a reading that fails is followed by the next one soon enough.
_S3_TIMEOUT_S: Final = 10.0


@click.group()
def metrics() -> None:
    """Metrics for Prometheus."""


@metrics.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0 takes a free one."
)
def serve(host: str, port: int) -> None:
    """Show what Dagster's event log and the lake know as metrics, until Ctrl-C.

    /metrics for Prometheus, /healthz whether this process is alive, /readyz whether all parts are there. Nobody is
    asked for a password: a listener beyond this machine belongs behind a proxy.
    """
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    with metrics_server(host, port) as url:
        click.echo(f"metrics  {url}/metrics")
        click.echo("Ctrl-C ends it.")
        end.wait()


@contextmanager
def metrics_server(host: str = "127.0.0.1", port: int = PORT) -> Iterator[str]:
    """Serve metrics in this process and yield the address.

    Raises:
        SettingsError: a setting is wrong, or DAGSTER_HOME is not set.
        LocalServerError: the port is taken.
    """
    from wrm_pipeline.cli.local_servers import LocalServerError
    from wrm_pipeline.contracts.vocabulary import RAW
    from wrm_pipeline.operations.exporter import Exporter
    from wrm_pipeline.operations.health import check_health
    from wrm_pipeline.operations.server import MetricsServer
    from wrm_pipeline.settings import load_settings

    settings = load_settings()
    with ExitStack() as parts:
        instance = open_instance()
        parts.callback(instance.dispose)
        found = _sources(settings, instance)
        exporter = Exporter(
            found,
            disks=(
                Path(instance.root_directory),
                settings.wrm_duckdb_path,
                settings.wrm_site_dir,
                settings.wrm_cache_dir,
            ),
            raw_asset=RAW,
        )
        links = {
            "Dagster": settings.wrm_dagster_url,
            "Site": settings.wrm_public_url and f"{settings.wrm_public_url}/site/",
        }
        try:
            server = MetricsServer(
                exporter.registry(),
                found,
                lambda: check_health(settings, lambda: instance),
                {name: address for name, address in links.items() if address},
                host=host,
                port=port,
            )
        except OSError as error:
            raise LocalServerError(
                f"{host}:{port} cannot be listened on ({error.strerror}). Give another one: wrm metrics serve --port 0"
            ) from None
        for source in found:
            source.start()
            parts.callback(source.close)
        yield parts.enter_context(server).url


def open_instance() -> "DagsterInstance":
    """Open the Dagster instance of DAGSTER_HOME, or of the `wrm up` that works in this folder.

    Raises:
        SettingsError: there is neither.
    """
    from dagster import DagsterInstance

    return DagsterInstance.from_config(str(dagster_home()))


def dagster_home() -> Path:
    """Return DAGSTER_HOME, of the environment or of the `wrm up` that works in this folder.

    Raises:
        SettingsError: neither is there, or it is no folder.
    """
    from dotenv import dotenv_values

    from wrm_pipeline.settings import LOCAL_ENVIRONMENT, SettingsError, subprocess_environment

    name = "DAGSTER_HOME"
    home = subprocess_environment().get(name) or (
        dotenv_values(LOCAL_ENVIRONMENT).get(name) if LOCAL_ENVIRONMENT.is_file() else None
    )
    if not home:
        raise SettingsError(
            f"{name} not set. It is the folder with Dagster's storage and dagster.yaml; `wrm up` makes one."
        )
    if not Path(home).is_dir():
        raise SettingsError(f"{name} is {home}, which is not a folder. It holds Dagster's storage and dagster.yaml.")
    return Path(home)


def _sources(settings: "Settings", instance: "DagsterInstance") -> "Sources":
    from wrm_pipeline.operations.event_log import EventLog
    from wrm_pipeline.operations.exporter import Source, Sources

    has_lake = settings.has_store or settings.vault_enabled
    may_have_https = settings.vault_enabled or _https_endpoints(settings)
    return Sources(
        event_log=Source(
            "event_log", EventLog(instance, Path(instance.root_directory) / STATE_FILE).read, every_s=_EVENT_LOG_S
        ),
        lake=Source("lake", _lake_reading(), every_s=_LAKE_S) if has_lake else None,
        vault=Source("vault", lambda: _vault_answers(settings), every_s=_PARTS_S) if settings.vault_enabled else None,
        redis=Source("redis", _open_breakers, every_s=_PARTS_S)
        if settings.redis_url is not None or settings.vault_enabled
        else None,
        certificates=Source("certificates", _certificates, every_s=_CERTIFICATES_S) if may_have_https else None,
    )


def _lake_reading() -> "Callable[[], LakeFigures]":
    """Return what reads the lake; its client is made with the first reading, since that may need Vault."""
    from wrm_pipeline.contracts.active import active_contracts
    from wrm_pipeline.lake.keys import LakeKeys
    from wrm_pipeline.lake.lake import Lake
    from wrm_pipeline.lake.object_store import ObjectStore
    from wrm_pipeline.operations.lake_figures import LakeReader
    from wrm_pipeline.resilience import RetryPolicy
    from wrm_pipeline.vault.run_settings import load_run_settings

    reader: list[LakeReader] = []

    def read() -> "LakeFigures":
        if not reader:
            found = replace(load_run_settings().require_store(), timeout_s=_S3_TIMEOUT_S)
            store = ObjectStore(
                found,
                reload_credentials=lambda: load_run_settings(refresh=True).require_store(),
                policy=RetryPolicy(attempts=2, budget_s=_LAKE_S),
            )
            reader.append(LakeReader(Lake(store, LakeKeys(found.prefix)), active_contracts()))
        return reader[0].read(dt.datetime.now(dt.UTC))

    return read


def _https_endpoints(settings: "Settings") -> list[str]:
    vault = settings.vault_addr if settings.vault_enabled else None
    endpoints = (settings.s3_endpoint_url, vault, settings.wrm_public_url)
    return [endpoint for endpoint in endpoints if endpoint is not None and endpoint.startswith("https:")]


def _certificates() -> Mapping[str, float]:
    from wrm_pipeline.operations.lake_figures import certificate_expiries
    from wrm_pipeline.settings import load_settings
    from wrm_pipeline.vault.errors import VaultError
    from wrm_pipeline.vault.run_settings import load_run_settings

    try:
        settings = load_run_settings()
    except VaultError:  # perhaps because of its certificate
        settings = load_settings()
    return certificate_expiries(_https_endpoints(settings))


def _vault_answers(settings: "Settings") -> bool:
    from wrm_pipeline.operations.health import vault_state
    from wrm_pipeline.vault.errors import VaultError

    state = vault_state(settings)
    if state != "active":
        raise VaultError(f"Vault at {settings.vault_addr} is {state}")
    return True


def _open_breakers() -> Mapping[str, bool]:
    """Return whether each breaker is open, as runs share it; half open counts as open until a trial succeeds."""
    from wrm_pipeline.operations.exporter import BREAKERS
    from wrm_pipeline.operations.health import DEADLINE_S
    from wrm_pipeline.resilience import impatient_redis
    from wrm_pipeline.vault.run_settings import load_run_settings

    redis_url = load_run_settings().redis_url
    if redis_url is None:  # it might have been in Vault
        return {}
    with impatient_redis(redis_url.get_secret_value(), DEADLINE_S) as client:
        return {name: bool(client.hget(f"wrm:breaker:{name}", "opened_at")) for name in BREAKERS}

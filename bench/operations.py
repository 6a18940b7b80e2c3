"""What the parts around a run cost it: all of them on, and all of them broken, against none; and one read of Vault.

A run is a whole process, as Dagster starts it: settings, Vault, import, the job, what is pushed and sent at its end.
"""

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bench.child import run_child
from bench.results import Report, Samples, Target, WrongResultError, say
from bench.snapshots import DAY, snapshots
from wrm_pipeline.cli.local_servers import LocalRedis
from wrm_pipeline.lake.keys import LakeKeys, Layer
from wrm_pipeline.lake.object_store import ObjectStore
from wrm_pipeline.settings import StoreSettings, load_settings
from wrm_pipeline.vault.client import VaultAccess, VaultClient
from wrm_pipeline_tests.fixtures.collector import Collector
from wrm_pipeline_tests.fixtures.monitoring import LocalPushgateway
from wrm_pipeline_tests.fixtures.vault import LocalVault

ON_AT_MOST: Final = 1.05
BROKEN_LIMIT_S: Final = 1.0
SECRET_LIMIT_S: Final = 0.5
_ROUNDS: Final = 15
_READS: Final = 40
_PSEUDONYM_KEY: Final = "0123456789abcdef" * 2
_SECRETS: Final = ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")


def measure_operations(settings: StoreSettings, environment: dict[str, str], data: Path) -> Report:
    """Run a full day in turns, with nothing around it, with everything, and with everything broken."""
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="wrm-bench-operations-")))
        vault = running.enter_context(LocalVault(directory / "vault"))
        redis = running.enter_context(LocalRedis(directory / "redis"))
        gateway = running.enter_context(LocalPushgateway(directory / "gateway"))
        collector = running.enter_context(Collector())
        silence = running.enter_context(_black_hole())
        store = running.enter_context(ObjectStore(settings))
        vault.put("development/storage", **{name.lower(): environment[name] for name in _SECRETS})
        vault.put("development/privacy", wrm_pseudonym_key=_PSEUDONYM_KEY)
        vault.put("development/redis", redis_url=redis.url)
        without_secrets = {name: value for name, value in environment.items() if name not in _SECRETS}
        dull = dict.fromkeys(_SECRETS, "")  # the benchmark's own process has the real ones in its environment
        ways = {
            "off": environment,
            "on": {
                **without_secrets,
                **dull,
                **vault.variables(),
                "WRM_PUSHGATEWAY_URL": gateway.url,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "WRM_LOG_FORMAT": "json",
            },
            "broken": {
                **environment,
                "REDIS_URL": f"redis://{silence}/0",
                "WRM_PUSHGATEWAY_URL": f"http://{silence}",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{silence}",
                "WRM_LOG_FORMAT": "json",
            },
        }
        seconds = _run_in_turns(store, settings, ways, data)
        reads = _reads_of_vault(vault)
    off = Samples("a full day's run, whole process, nothing around it", "s", seconds["off"])
    on = Samples("the same with Vault, Redis, Pushgateway, traces and JSON logs", "s", seconds["on"])
    broken = Samples("the same with Redis, Pushgateway and collector black-holed", "s", seconds["broken"])
    lost = Samples("lost to the three that say nothing", "s", [broken.median - off.median])
    secret = Samples("p95 of a login and a read of Vault", "s", [float(np.percentile(reads, 95))])
    return Report(
        samples=[off, on, broken, secret],
        targets=[
            Target("a day with everything on, against off", on, ON_AT_MOST, off),
            Target("lost to three optional parts that say nothing", lost, BROKEN_LIMIT_S),
            Target("p95 of getting a secret", secret, SECRET_LIMIT_S),
        ],
    )


def _run_in_turns(
    store: ObjectStore, settings: StoreSettings, ways: dict[str, dict[str, str]], data: Path
) -> dict[str, list[float]]:
    keys = LakeKeys(settings.prefix)
    for at, body in snapshots(data):
        store.put(keys.raw(at), body, content_type="text/plain; charset=utf-8")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    made: set[tuple[str, ...]] = set()
    for number in range(_ROUNDS):
        say(f"Operations, round {number + 1} of {_ROUNDS}")
        for name, environment in ways.items():
            for layer in Layer:
                store.delete(keys.layer_object(layer, DAY))
            started = time.perf_counter()
            made.add(tuple(run_child("bench.one_run", settings, environment)))
            seconds[name].append(time.perf_counter() - started)
    if len(made) != 1:
        raise WrongResultError(f"runs of one day gave different bytes: {made}")
    return seconds


def _reads_of_vault(vault: LocalVault) -> list[float]:
    """Time a login and a read, each by a client of its own, as a run does it once hvac is imported."""
    variables = vault.variables()
    access = VaultAccess.of(load_settings(**{name.lower(): value for name, value in variables.items()}))
    path = load_settings().vault_path("privacy")
    reads = []
    for _ in range(_READS + 1):
        started = time.perf_counter()
        VaultClient(access).read(path)["wrm_pseudonym_key"]
        reads.append(time.perf_counter() - started)
    return reads[1:]


@contextmanager
def _black_hole() -> Iterator[str]:
    """Yield host and port of a socket that accepts connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        yield f"127.0.0.1:{listening.getsockname()[1]}"

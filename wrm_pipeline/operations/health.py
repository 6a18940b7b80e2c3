"""Whether the parts that the pipeline needs are there: S3, Vault, Redis, Dagster's daemon, and data that is fresh.

Every part is asked at the same time, in a thread of its own, and has until one deadline for all: with everything down
or hanging, the answer comes just as fast. What takes long to import is imported meanwhile, or not before it is needed.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wrm_pipeline.errors import words_of
from wrm_pipeline.lake.doctor import Finding, Status
from wrm_pipeline.lake.keys import LakeKeys, snapshot_time
from wrm_pipeline.lake.object_store import ObjectStore, StoreError
from wrm_pipeline.resilience import RetryPolicy, impatient_redis
from wrm_pipeline.settings import Settings, SettingsError
from wrm_pipeline.vault.errors import VaultError
from wrm_pipeline.vault.run_settings import load_run_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

# The promise is 2 s for `wrm health` as a whole, and starting Python takes some of it.
DEADLINE_S: Final = 0.7
# When Dagster has just been imported, which keeps all threads from their work, the others have so long at least.
_AFTER_IMPORT_S: Final = 0.3
# For Dagster's storage, from then on: SQLite never hangs, but opening it is work, too.
_STORAGE_S: Final = 1.0
# For the age of the data, once the store has answered: it takes more libraries than all the rest.
_READING_S: Final = 5.0
# A daemon gives a sign of life every 30 s, later while it looks at many schedules and sensors.
_HEARTBEAT_LATE_S: Final = 300.0
# Of Vault's status, which has 300.
_MOST_BYTES: Final = 65_536

Check = Callable[[], Finding]
OpenInstance = Callable[[], "DagsterInstance"]


def check_health(
    settings: Settings,
    open_instance: OpenInstance,
    *,
    with_secrets: Callable[[], Settings] = load_run_settings,
    deadline_s: float = DEADLINE_S,
) -> list[Finding]:
    """Ask every part that the settings name, and return a finding a part, always in the same order.

    Args:
        settings: as the environment has them; they say which parts there are.
        open_instance: returns the Dagster instance; it may raise, and hang.
        with_secrets: returns the settings with what is in Vault; it may raise, and hang.
        deadline_s: what has not answered by then counts as down; there is a little longer when Dagster is yet to be
            imported, and for its storage.
    """
    remedies = {"s3": _S3_REMEDY, "freshness": _S3_REMEDY, "daemon": _DAEMON_REMEDY}
    if settings.vault_enabled:
        remedies = {"vault": _VAULT_REMEDY, **remedies}
    if settings.redis_url is not None or settings.vault_enabled:
        remedies["redis"] = _REDIS_REMEDY
    asked = _Asked(remedies)
    started = time.monotonic()

    def secrets() -> Settings:
        """Return the settings with secrets; when they are in a Vault that is down, that is all there is to say."""
        if settings.vault_enabled and not asked.is_ok("vault", within_s=deadline_s):
            raise _VaultFirstError
        return with_secrets()

    if settings.vault_enabled:
        asked.ask("vault", lambda: _vault(settings))
    asked.ask("s3", lambda: _store(secrets()))
    asked.ask("freshness", lambda: _freshness(asked, secrets()))
    if "redis" in remedies:
        asked.ask("redis", lambda: _redis(secrets()))
    _import_dagster()
    asked.ask("daemon", lambda: _daemon(open_instance()))
    imported = time.monotonic()
    asked.wait(set(remedies) - {"freshness", "daemon"}, max(started + deadline_s, imported + _AFTER_IMPORT_S))
    asked.wait({"daemon"}, max(started + deadline_s, imported + _STORAGE_S))
    asked.wait({"freshness"}, time.monotonic() + (_READING_S if asked.is_ok("s3") else 0))
    return asked.findings(time.monotonic() - started)


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Tell whether no required part has failed."""
    return all(finding.status is not Status.FAIL for finding in findings)


_S3_REMEDY: Final = "Check S3_ENDPOINT_URL, the network and the store's status page; `wrm doctor` looks closer."
_VAULT_REMEDY: Final = "Check VAULT_ADDR and the network; `bao status` or `vault status` looks closer."
_REDIS_REMEDY: Final = "Check REDIS_URL and the Redis server. The pipeline works without it, with more S3 requests."
_DAEMON_REMEDY: Final = "Start `dagster-daemon run` (`wrm up` does), and check DAGSTER_HOME and Dagster's storage."


class _VaultFirstError(Exception):
    """What a part needs to be asked is in Vault, which cannot be used."""


class _Asked:
    """The parts that were asked, and what is known of them; `remedies` are by name, in the order of the findings."""

    def __init__(self, remedies: Mapping[str, str]) -> None:
        self._remedies = remedies
        self._found: dict[str, Finding] = {}
        self._threads: dict[str, threading.Thread] = {}

    def ask(self, name: str, check: Check) -> None:
        # Not a pool: its threads are waited for when the process ends, and one that hangs would hang it.
        thread = threading.Thread(target=self._run, args=(name, check), name=f"health-{name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def _run(self, name: str, check: Check) -> None:
        remedy = self._remedies[name]
        try:
            self._found[name] = check()
        except _VaultFirstError:
            found = "it is not known, since its secrets are in Vault, which cannot be used"
            self._found[name] = Finding(name, _severity(name), found, "Mend Vault first.")
        except SettingsError as error:  # which names the remedy
            self._found[name] = Finding(name, _severity(name), str(error))
        except (StoreError, VaultError) as error:
            self._found[name] = Finding(name, _severity(name), str(error), remedy)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a part, the others are reported
            # Not its text, which may quote an address with a password.
            self._found[name] = Finding(name, _severity(name), f"it fails: {words_of(error)}", remedy)

    def wait(self, names: Collection[str], until: float) -> None:
        for name in names:
            self._threads[name].join(max(0.0, until - time.monotonic()))

    def is_ok(self, name: str, *, within_s: float = 0.0) -> bool:
        self._threads[name].join(within_s)
        return name in self._found and self._found[name].status is Status.OK

    def outcome(self, name: str) -> Finding | None:
        """Wait for another part, however long; the caller is itself waited for no longer than its deadline."""
        self._threads[name].join()
        return self._found.get(name)

    def findings(self, waited_s: float) -> list[Finding]:
        late = f"it has not answered within {waited_s:.1f} s"
        return [
            self._found.get(name) or Finding(name, _severity(name), late, remedy)
            for name, remedy in self._remedies.items()
        ]


def _import_dagster() -> None:
    """Import Dagster and what its storages are made of, which is work and no waiting."""
    import alembic.command  # noqa: F401
    import dagster  # noqa: F401


def _severity(name: str) -> Status:
    return Status.WARN if name == "redis" else Status.FAIL


def _impatient(settings: Settings) -> ObjectStore:
    """Return a store for one attempt."""
    found = replace(settings.require_store(), timeout_s=DEADLINE_S, concurrency=1)
    return ObjectStore(found, policy=RetryPolicy(attempts=1, budget_s=DEADLINE_S))


def _store(settings: Settings) -> Finding:
    with _impatient(settings) as store:
        next(store.list(LakeKeys(store.prefix).raw_root, max_keys=1), None)
        return Finding("s3", Status.OK, f"{store.uri(store.prefix)} at {store.endpoint_url} answers")


def _freshness(asked: _Asked, settings: Settings) -> Finding:
    if (store_finding := asked.outcome("s3")) is None or store_finding.status is not Status.OK:
        return Finding("freshness", Status.FAIL, "it is not known, since the store cannot be read", _S3_REMEDY)
    # Not before there is a store to read: they take longer to import than all else here.
    from wrm_pipeline.contracts.active import active_contracts
    from wrm_pipeline.lake.lake import Lake

    with _impatient(settings) as store:
        newest = Lake(store, LakeKeys(store.prefix)).newest_raw(dt.datetime.now(dt.UTC).date())
    time_of_newest = snapshot_time(newest.key) if newest is not None else None
    if time_of_newest is None:
        remedy = "The ingest schedule fetches one with the next poll; `wrm run` does now."
        return Finding("freshness", Status.WARN, "raw holds no snapshot yet", remedy)
    contract = active_contracts().raw
    age_s = (dt.datetime.now(dt.UTC) - time_of_newest).total_seconds()
    found = f"the newest snapshot is {age_s:.0f} s old ({time_of_newest:%Y-%m-%d %H:%M:%S} UTC)"
    if age_s <= contract.freshness_warn_s:
        return Finding("freshness", Status.OK, found)
    status = Status.FAIL if age_s > contract.freshness_fail_s else Status.WARN
    remedy = "Look at the runs of wrm_stations_ingest_job, and whether its schedule runs and the feed answers."
    return Finding("freshness", status, found, remedy)


def _daemon(instance: "DagsterInstance") -> Finding:
    now, beats = time.time(), instance.get_daemon_heartbeats()
    ages = {
        kind: now - beats[kind].timestamp if kind in beats else None for kind in instance.get_required_daemon_types()
    }
    known = [age for age in ages.values() if age is not None]
    if not known:
        return Finding("daemon", Status.FAIL, "Dagster's daemon has never run on this instance", _DAEMON_REMEDY)
    silent = [
        f"{kind} never gave one" if age is None else f"the last one of {kind} is {age:.0f} s old"
        for kind, age in sorted(ages.items())
        if age is None or age > _HEARTBEAT_LATE_S
    ]
    if silent:
        return Finding("daemon", Status.FAIL, f"signs of life are missing: {', '.join(silent)}", _DAEMON_REMEDY)
    return Finding("daemon", Status.OK, f"its newest sign of life is {max(0.0, min(known)):.0f} s old")


def _vault(settings: Settings) -> Finding:
    if settings.vault_addr is None:
        raise SettingsError("VAULT_ADDR not set, and VAULT_ENABLED is true. Set both or neither.")
    state = vault_state(settings)
    if state == "active":
        return Finding("vault", Status.OK, f"{settings.vault_addr} answers and is unsealed")
    remedy = "Unseal it, with `bao operator unseal` or `vault operator unseal`." if state == "sealed" else _VAULT_REMEDY
    return Finding("vault", Status.FAIL, f"{settings.vault_addr} is {state}", remedy)


def vault_state(settings: Settings) -> str:
    """Return "active", "sealed", "not initialized", or what else it is that answers.

    Raises:
        OSError: nothing answers.
    """
    import json
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cafile=str(settings.vault_cacert) if settings.vault_cacert else None)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    # A standby serves secrets as well as the active one: it hands requests on.
    address = f"{settings.vault_addr}/v1/sys/health?standbyok=true&perfstandbyok=true"
    try:
        with direct.open(address, timeout=min(settings.vault_timeout_s, DEADLINE_S)) as answer:
            body = answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_MOST_BYTES)
    try:
        document = json.loads(body)
        sealed, initialized = document["sealed"], document["initialized"]
    except (ValueError, KeyError, TypeError):
        return "no Vault: what answers says something else"
    return "active" if initialized and not sealed else "sealed" if initialized else "not initialized"


def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("redis", Status.SKIP, "neither the settings nor Vault name one")
    with impatient_redis(settings.redis_url.get_secret_value(), DEADLINE_S) as client:
        client.ping()
    return Finding("redis", Status.OK, "it answers")

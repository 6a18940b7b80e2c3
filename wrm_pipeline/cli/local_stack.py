"""The parts that `wrm up` and `wrm run` start themselves: a store and a feed, where the settings name none."""

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from wrm_pipeline.cli.local_servers import LocalServerError, LocalStore, is_free
from wrm_pipeline.feed.simulator import SimulatorServer
from wrm_pipeline.settings import LOCAL_DIRECTORY, LOCAL_ENVIRONMENT, set_environment
from wrm_pipeline.vault.run_settings import load_run_settings

_S3_PORT = 8333
_FEED_PORT = 8787


@dataclass(frozen=True)
class LocalStack:
    """What runs: addresses, the parts started here (None where the settings named one), and Dagster's home."""

    store_address: str
    feed_address: str
    store: LocalStore | None
    simulator: SimulatorServer | None
    dagster_home: Path


@contextmanager
def local_stack(*, speed: float = 1.0, bad_rows: int = 0) -> Iterator[LocalStack]:
    """Start what the settings do not name, and point this process and its children at it.

    `speed` and `bad_rows` are the simulator's: simulated seconds a second, and spoilt rows a snapshot.

    Raises:
        LocalServerError: a part does not start, or this is production, which needs real ones.
        SettingsError: a setting has a wrong value.
    """
    with ExitStack() as parts:
        alone = _is_alone(parts)
        if alone:
            LOCAL_ENVIRONMENT.unlink(missing_ok=True)  # of one that was killed: what it names is gone
        yield _start(parts, speed=speed, bad_rows=bad_rows, announce=alone)


def _is_alone(parts: ExitStack) -> bool:
    """Tell whether no other `wrm up` or `wrm run` works in this folder, and keep it so until `parts` close."""
    LOCAL_DIRECTORY.mkdir(parents=True, exist_ok=True)
    lock = parts.enter_context((LOCAL_DIRECTORY / "local.lock").open("ab"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(parts: ExitStack, *, speed: float, bad_rows: int, announce: bool) -> LocalStack:
    settings = load_run_settings()
    if settings.wrm_env == "production" and not (settings.has_store and settings.has_feed):
        raise LocalServerError(
            "WRM_ENV is production, where nothing is started as a stand-in. Set S3_ENDPOINT_URL and WRM_FEED_URL."
        )
    environment: dict[str, str] = {}
    store = simulator = None
    if not settings.has_store:
        port = _S3_PORT if is_free(_S3_PORT) else 0
        store = parts.enter_context(LocalStore(LOCAL_DIRECTORY / "s3", port=port))
        environment |= store.environment()
    if not settings.has_feed:
        port = _FEED_PORT if is_free(_FEED_PORT) else 0
        simulator = parts.enter_context(SimulatorServer(port=port, speed=speed, bad_rows=bad_rows))
        environment["WRM_FEED_URL"] = simulator.url
    if settings.wrm_pseudonym_key is None and settings.wrm_env != "production":
        environment["WRM_PSEUDONYM_KEY"] = _pseudonym_key()
    home = _dagster_home()
    environment["DAGSTER_HOME"] = str(home)
    if announce:
        parts.callback(LOCAL_ENVIRONMENT.unlink, missing_ok=True)
        _write_private(LOCAL_ENVIRONMENT, "".join(f"{name}={value}\n" for name, value in environment.items()))
    set_environment(environment)
    return LocalStack(
        store_address=settings.s3_endpoint_url or environment["S3_ENDPOINT_URL"],
        feed_address=settings.wrm_feed_url if simulator is None else simulator.url,
        store=store,
        simulator=simulator,
        dagster_home=home,
    )


def _pseudonym_key() -> str:
    """Return the key of this folder, made the first time: with another one, all pseudonyms would change."""
    path = LOCAL_DIRECTORY / "pseudonym.key"
    if not path.exists():
        _write_private(path, secrets.token_hex(32))
    return path.read_text(encoding="utf-8")


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _dagster_home() -> Path:
    home = (LOCAL_DIRECTORY / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    configuration = Path("dagster.yaml")
    if configuration.exists():
        shutil.copyfile(configuration, home / "dagster.yaml")
    return home

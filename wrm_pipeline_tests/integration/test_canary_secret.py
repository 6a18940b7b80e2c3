"""A secret that leaks in every way that anybody thought of is found in no place where anything is kept.

Two processes run real jobs on a Dagster instance of their own: one of assets that do what must not be done, and the
pipeline's own. Each leak also carries a word that nobody declared secret: it must be found, or the search is blind.
"""

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest

import wrm_pipeline
from wrm_pipeline.cli.local_servers import LocalStore
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.feed.simulator import SimulatorServer
from wrm_pipeline.settings import StoreSettings
from wrm_pipeline.telemetry.redaction import is_secret_name
from wrm_pipeline_tests.fixtures.collector import Collector
from wrm_pipeline_tests.fixtures.dagster import environment_of
from wrm_pipeline_tests.fixtures.monitoring import LocalPushgateway, pushgateway, pushgateway_server  # noqa: F401 - fixtures
from wrm_pipeline_tests.fixtures.vault import LocalVault, vault_server  # noqa: F401 - a fixture

REPOSITORY = Path(wrm_pipeline.__file__).parents[1]
# Unlike each other, so that a failure says which of them leaked; with what encodings change, where the setting allows.
CANARIES = {
    "VAULT_TOKEN": "canary/vault+token=1",
    "VAULT_SECRET_ID": "canary-secret-id-2",
    "REDIS_URL": "redis://:canary%2Fredis%403@127.0.0.1:6379/0",
    "WRM_PSEUDONYM_KEY": 'canary "pseudonym" key <4> żółć & so on',
    "WRM_ALERT_URLS": "slack://canaryAlertToken/5, mailto://me:canary-alert-6@localhost",
    "OPENLINEAGE_API_KEY": "canary lineage key 7",
}
# What of a canary is a secret by itself.
PARTS = ("canary%2Fredis%403", "canary/redis@3", "canaryAlertToken", "canary-alert-6")
CONTROL = "nobody-registered-this-word"
PACKED = "this-one-is-in-a-job-snapshot-only"

LEAKS = f'''
import http.client
import logging
import os
import sys
import warnings

import dagster as dg

from wrm_pipeline.resources.object_store import open_lake
from wrm_pipeline.settings import load_settings
from wrm_pipeline.telemetry import logs

logs.configure(load_settings())
library = logging.getLogger("wrm_pipeline.leaks")
NAMES = {["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", *CANARIES]!r}


def everything():
    return "; ".join([os.environ["CONTROL"], *(os.environ[name] for name in NAMES)])


def chain():
    try:
        try:
            raise KeyError(everything())
        except KeyError as error:
            raise ConnectionError("cannot connect: " + everything()) from error
    except ConnectionError:
        raise RuntimeError(everything().encode())


class Careless(dg.ConfigurableResource):
    """A resource that asks for a secret by the name of its variable, as Dagster advises."""

    password: str
    note: str = "{PACKED}"


class Broken(dg.ConfigurableResource):
    def setup_for_execution(self, context):
        raise ValueError("cannot log in with " + everything())


@dg.asset
def says(context: dg.AssetExecutionContext, careless: Careless) -> None:
    context.log.info("it is " + everything())
    context.log.info(str(os.environ))
    context.log.warning("it is %s", dict(os.environ))
    context.log.info("its password is " + careless.password)
    context.log.info("config %s", context.run.run_config)
    dg.get_dagster_logger().info(everything())
    library.warning("ours %r", everything(), extra={{"whole": everything()}})
    logging.getLogger("third.party").error("theirs %s", everything().encode())
    warnings.warn(everything())
    try:
        chain()
    except RuntimeError:
        context.log.exception("caught")
        library.exception("caught too")


@dg.asset
def tells(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    told = {{"text": everything(), "json": {{"deep": [everything()]}}, "url": dg.MetadataValue.url(everything())}}
    context.log_event(dg.AssetObservation("tells", metadata=told))
    return dg.MaterializeResult(metadata=told, check_results=[])


@dg.asset_check(asset=tells)
def looks_at_it() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description=everything(), metadata={{"text": everything()}})


@dg.asset
def prints() -> None:
    with logs.redacted_output():
        print(everything())
        print(os.environ)
        for letter in everything():
            sys.stdout.write(letter)
        print(everything(), file=sys.stderr, end="")


@dg.asset
def debugs(context: dg.AssetExecutionContext) -> None:
    """The libraries that carry secrets, at their most talkative, with a store and a Vault that answer."""
    import hvac

    settings = load_settings()
    names = ("botocore", "urllib3", "hvac", "requests", "")
    before = [logging.getLogger(name).level for name in names]
    with logs.redacted_output():
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        http.client.HTTPConnection.debuglevel = 1
        try:
            lake = open_lake(settings)
            with lake.store:
                lake.store.put("canary", os.environ["CONTROL"].encode(), content_type="text/plain")
            client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
            try:
                client.secrets.kv.v2.read_secret_version(path=os.environ["CONTROL"], raise_on_deleted_version=True)
            except Exception:
                context.log.exception("Vault refused")
            try:
                client.auth.approle.login(role_id="canary", secret_id=os.environ["VAULT_SECRET_ID"])
            except Exception:
                context.log.exception("Vault refused again")
        finally:
            http.client.HTTPConnection.debuglevel = 0
            for name, level in zip(names, before):
                logging.getLogger(name).setLevel(level)


@dg.asset
def fails() -> None:
    chain()


@dg.asset
def fails_with_a_sentence() -> None:
    with logs.redacted_errors():
        try:
            chain()
        except RuntimeError as error:
            raise dg.Failure("It failed: " + everything(), metadata={{"why": everything()}}) from error


@dg.asset
def fails_by_its_resource(broken: Broken) -> None: ...


@dg.op(config_schema={{"word": dg.StringSource}})
def configured(context) -> None:
    context.log.info("configured with " + context.op_config["word"])


WORD = {{"env": "REDIS_URL"}}


@dg.job(config={{"ops": {{"configured": {{"config": {{"word": WORD}}}}}}}}, tags={{"control": "{CONTROL}"}})
def configured_job():
    configured()


@dg.sensor(job_name="leaks_job")
def senses(context: dg.SensorEvaluationContext):
    context.log.info(everything())
    with logs.redacted_errors():
        chain()


ASSETS = [says, tells, prints, debugs, fails, fails_with_a_sentence]
defs = dg.Definitions(
    assets=[*ASSETS, fails_by_its_resource],
    asset_checks=[looks_at_it],
    jobs=[
        dg.define_asset_job("leaks_job", selection=dg.AssetSelection.assets(*ASSETS)),
        dg.define_asset_job("broken_job", selection=[fails_by_its_resource]),
        configured_job,
    ],
    sensors=[senses],
    resources={{"careless": Careless(password=dg.EnvVar("S3_SECRET_ACCESS_KEY")), "broken": Broken()}},
    executor=dg.in_process_executor,
)
'''


class Place:
    """Where something was kept: its name, and all of it as bytes, packed things unpacked."""

    def __init__(self, name: str, *contents: bytes) -> None:
        self.name = name
        self.contents = contents

    def holds(self, word: str) -> list[str]:
        """Return the encodings in which a word is in here; of equal ones the first."""
        forms: dict[bytes, str] = {}
        for how, form in forms_of(word):
            forms.setdefault(form, how)
        return [how for form, how in forms.items() if any(form in content for content in self.contents)]


def forms_of(word: str) -> Iterator[tuple[str, bytes]]:
    """Give the encodings of a word. Not those of the package: the test must not share its mistakes."""
    raw = word.encode()
    yield "plain", raw
    yield "in a URL", quote(word, safe="").encode()
    yield "in a query", quote_plus(word).encode()
    yield "JSON", json.dumps(word)[1:-1].encode()
    yield "JSON in JSON", json.dumps(json.dumps(word))[3:-3].encode()
    yield "repr", repr(raw)[2:-1].encode()
    yield "hexadecimal", raw.hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + raw)
        yield "base64", encoded[4 * bool(shift) : len(encoded) // 4 * 4 - 4]


def unpacked(content: bytes) -> Iterator[bytes]:
    """Give a cell of a table as it is, and what it packs: zlib (job snapshots), and base64 around that."""
    yield content
    for unpack in (zlib.decompress, lambda packed: zlib.decompress(base64.b64decode(packed, validate=True))):
        with suppress(ValueError, zlib.error):
            yield unpack(content)


def cells(path: Path) -> Iterator[bytes]:
    """Give every value of every table of an SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            for row in connection.execute(f'select * from "{table.decode()}"'):  # noqa: S608
                yield from (str(value).encode() if not isinstance(value, bytes) else value for value in row)


def places_of(home: Path, output: str) -> list[Place]:
    """Return everything that a process has left behind. Metrics and traces are added by whoever collects them."""
    databases = sorted(home.rglob("*.db"))
    read = {path: [part for cell in cells(path) for part in unpacked(cell)] for path in databases}
    runs = home / "history" / "runs"
    compute_logs = [path for path in sorted(home.rglob("compute_logs/**/*")) if path.is_file()]
    return [
        Place("output", output.encode()),
        Place("compute logs", *(path.read_bytes() for path in compute_logs)),
        Place("event log", *(part for path in databases if path.parent == runs for part in read[path])),
        Place("run storage", *read[home / "history" / "runs.db"]),
        Place("everything else", *(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())),
    ]


def found(places: list[Place], words: Mapping[str, str]) -> list[str]:
    return [
        f"{name} in {place.name}: {', '.join(how)}"
        for place in places
        for name, word in words.items()
        if (how := place.holds(word))
    ]


Command = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(REPOSITORY / "dagster.yaml", home / "dagster.yaml")
    return home


@pytest.fixture
def secrets(store_server: LocalStore) -> dict[str, str]:
    """Every secret there is, by the name of its setting, and the parts of those that are addresses."""
    keys = {
        "S3_ACCESS_KEY_ID": store_server.access_key_id,
        "S3_SECRET_ACCESS_KEY": store_server.secret_access_key,
    }
    return keys | CANARIES | {part: part for part in PARTS}


@pytest.fixture
def dagster(tmp_path: Path, home: Path, store_settings: StoreSettings, vault_server: LocalVault) -> Command:  # noqa: F811
    """Run a command of Dagster with all secrets in its environment; return all that it wrote."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    base = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DAGSTER_HOME": str(home),
        **measured,
        **environment_of(store_settings),
        **CANARIES,
        "VAULT_ADDR": vault_server.address,
        "CONTROL": CONTROL,
        "WRM_LOG_LEVEL": "DEBUG",
    }

    def run(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("dagster")), *arguments],
            cwd=tmp_path,
            env={**base, **variables},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        return done.stdout + done.stderr

    return run


def test_what_must_not_be_done_leaves_no_secret_anywhere(
    dagster: Command, home: Path, tmp_path: Path, secrets: dict[str, str]
) -> None:
    (tmp_path / "leaks.py").write_text(LEAKS)

    output = "".join(
        dagster(*command, "-m", "leaks", WRM_LOG_FORMAT="json")
        for command in (
            ("job", "execute", "-j", "leaks_job"),
            ("job", "execute", "-j", "broken_job"),
            ("job", "execute", "-j", "configured_job"),
            ("sensor", "preview", "senses"),
        )
    )

    places = places_of(home, output)
    leaked = found(places, secrets)
    assert not leaked, "\n".join(leaked)
    # The search sees: the word that is no secret took the same ways, and is in each place.
    for place in places:
        assert "plain" in place.holds(CONTROL), place.name
    # It unpacks: a default of a resource's config is in compressed snapshots, and nowhere else.
    run_storage, files = places[3], places[4]
    assert (run_storage.holds(PACKED), files.holds(PACKED)) == (["plain"], [])
    # And every leak has happened.
    events = next(place for place in places if place.name == "event log")
    told = b"\n".join(events.contents).decode(errors="replace")
    for mark in ("environ(", "caught too", "ours ", "theirs "):
        assert mark in told or mark in output, mark
    for name in ("fails", "fails_with_a_sentence"):
        assert f'Execution of step \\"{name}\\" failed' in told or f'Execution of step "{name}" failed' in output
    assert "cannot log in with" in told
    assert "Vault refused" in told
    assert "X-Vault-Token" in b"".join(places[1].contents).decode(errors="replace")


def test_nor_does_it_on_a_console_for_people(dagster: Command, tmp_path: Path, secrets: dict[str, str]) -> None:
    (tmp_path / "leaks.py").write_text(LEAKS)

    output = Place("output", dagster("job", "execute", "-j", "leaks_job", "-m", "leaks").encode())

    leaked = found([output], secrets)
    assert not leaked, "\n".join(leaked)
    assert output.holds(CONTROL)


@pytest.mark.parametrize("bucket", ["", "no-such-bucket"])
def test_the_pipeline_itself_leaves_none_when_it_works_and_when_it_fails(
    bucket: str,
    dagster: Command,
    home: Path,
    secrets: dict[str, str],
    simulator: SimulatorServer,
    pushgateway: LocalPushgateway,  # noqa: F811
) -> None:
    variables = {"BUCKET_NAME": bucket} if bucket else {}

    with Collector() as collector:
        output = dagster(
            *("job", "execute", "-j", "wrm_stations_ingest_job", "-m", "wrm_pipeline.definitions"),
            **{"WRM_FEED_URL": simulator.url, "WRM_LOG_FORMAT": "json", **variables},
            WRM_PUSHGATEWAY_URL=pushgateway.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        )

    assert ("resulted in failure" in output) == bool(bucket), output[-3000:]
    told = [Place("metrics", pushgateway.metrics().encode()), Place("traces", *collector.requests)]
    leaked = found([*places_of(home, output), *told], secrets)
    assert not leaked, "\n".join(leaked)
    for place in told:
        assert place.holds("wrm_stations_raw_data"), place.name


def test_no_resource_takes_a_secret_as_config_since_its_value_would_be_in_every_snapshot_of_a_job() -> None:
    resources = {
        name: resource
        for name, resource in (build_defs().resources or {}).items()
        if isinstance(resource, dg.ConfigurableResource)
    }

    assert resources
    fields = {f"{name}.{field}" for name, resource in resources.items() for field in type(resource).model_fields}
    assert {field for field in fields if is_secret_name(field)} == set()

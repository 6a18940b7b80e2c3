"""Values in a directory, for all processes on this machine."""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from wrm_pipeline.cache.tiers import Release, Room, nothing
from wrm_pipeline.resilience import OptionalPart

_FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_VALUE: Final = "value-"
_UNFINISHED: Final = "new-"


class FilesystemTier:
    """A directory of this machine, for all processes on it.

    Files are written beside and renamed, for this user only. Files with other names are left alone.

    Args:
        directory: made when missing.
        max_bytes: of all values together.
    """

    name = "filesystem"

    def __init__(self, directory: Path, *, max_bytes: int, deadline_s: float = 0.2) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._part = OptionalPart(
            "The cache directory",
            "WRM_CACHE_DIR",
            "nothing is read from it or kept in it meanwhile",
            deadline_s=deadline_s,
        )
        self._room = Room("Make room on the disk of WRM_CACHE_DIR, or lower WRM_CACHE_MAX_MB.")
        # Bytes that may be written before the directory is measured again.
        self._credit = 0
        self._lock = threading.Lock()

    def read(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """See `Tier`."""
        return self._part.ask(lambda: [_read(self._path(key), self._max_bytes) for key in keys])

    def write(self, key: str, framed: bytes, lives_s: float) -> None:  # noqa: ARG002 - the value says when it dies
        """See `Tier`."""
        if not self._room.is_there() or len(framed) > self._max_bytes:
            return

        def put() -> str:
            try:
                self._make_room(len(framed))
                self._write(self._path(key), framed)
            except OSError as error:
                if error.errno in _FULL_ERRORS:
                    return error.strerror or "full"
                raise
            return ""

        full = self._part.ask(put)
        if full:
            self._room.refused(f"The disk of the cache directory takes no more ({full})")
        elif full is not None:
            self._room.taken()

    def delete(self, keys: Sequence[str]) -> None:
        """See `Tier`."""

        def unlink() -> bool:
            for key in keys:
                self._path(key).unlink(missing_ok=True)
            return True

        self._part.ask(unlink)

    def lock(self, key: str) -> Release | None:
        """See `Tier`; 256 files serve all keys, so that none need be removed: two keys may wait for each other."""

        def take() -> IO[bytes] | bool:
            self._make_directory()
            file = _open(self._directory / f"lock-{key[-2:]}", os.O_RDWR | os.O_CREAT, "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                if error.errno in {errno.EAGAIN, errno.EACCES}:
                    return False
                raise
            return file

        taken = self._part.ask(take)
        if isinstance(taken, bool):
            return None
        return taken.close if taken is not None else nothing

    def _path(self, key: str) -> Path:
        return self._directory / f"{_VALUE}{key.replace(':', '-')}"

    def _make_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write(self, path: Path, framed: bytes) -> None:
        beside = self._directory / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            with _open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb") as file:
                file.write(framed)
            beside.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise

    def _make_room(self, size: int) -> None:
        """Make sure that so many bytes more are within the bound; the oldest files go first.

        Measuring reads the whole directory, some milliseconds for a thousand files. So a sixteenth of the bound is made
        free at a time, and may be written before the next time; each process that writes may so exceed the bound by it.
        """
        self._make_directory()
        with self._lock:
            if self._credit < size:
                self._credit = self._measure(size)
            self._credit -= size

    def _measure(self, size: int) -> int:
        files: list[tuple[float, int, str]] = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith((_VALUE, _UNFINISHED)):
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        files.append((found.st_mtime, found.st_size, entry.path))
        wanted = max(size, self._max_bytes // 16)
        left = self._max_bytes - sum(size for _, size, _ in files)
        for _, freed, path in sorted(files):
            if left >= wanted:
                break
            Path(path).unlink(missing_ok=True)
            left += freed
        return min(left, wanted)


def _open(path: Path, flags: int, mode: str) -> IO[bytes]:
    """Open a file for this user only, and never what somebody else may have put in its place: a link, or a pipe."""
    return os.fdopen(os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600), mode)


def _read(path: Path, most: int) -> bytes | None:
    try:
        with _open(path, os.O_RDONLY, "rb") as file:
            found = os.fstat(file.fileno())
            return file.read() if stat.S_ISREG(found.st_mode) and found.st_size <= most else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link
            return b""
        raise

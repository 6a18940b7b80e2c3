"""The site as a folder on this machine, for any web server to serve. Only what differs is written, pages last."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Of what else lies in the folder, only stations that are gone are removed: it may be more than the site's alone.
_COMES_AND_GOES: Final = "data/stations/*.json"


def write_folder(files: Mapping[str, bytes], folder: Path) -> int:
    """Bring a folder up to date with files by their path in it, and return how many were written.

    Each is written beside and renamed: a reader has the old one or the new one.

    Raises:
        OSError: a file cannot be written.
    """
    changed = [path for path, body in files.items() if _content(folder / path) != body]
    for path in sorted(changed, key=lambda path: (path.endswith(".html"), path)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(files[path])
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    for found in folder.glob(_COMES_AND_GOES):
        if found.relative_to(folder).as_posix() not in files:
            found.unlink(missing_ok=True)
    return len(changed)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None

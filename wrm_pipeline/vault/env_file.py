"""A `.env` file whose secrets move away: the names stay with empty values, everything else byte for byte."""

import contextlib
import io
import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import SecretStr

from wrm_pipeline.settings import SettingsError

# A name with its equals sign, and a value: quoted, perhaps over several lines, or up to a comment or the line's end.
_ASSIGNMENT: Final = re.compile(
    r"""(?P<name>\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*=[^\S\r\n]*)
        (?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^\r\n]*?(?=[^\S\r\n]*(?:[^\S\r\n]\#[^\r\n]*)?(?:[\r\n]|$)))""",
    re.VERBOSE | re.DOTALL,
)
_BYTE_ORDER_MARK: Final = "\ufeff"
# A shorter value is found in other lines by chance.
_TELLING_LENGTH: Final = 8


@dataclass(frozen=True)
class EnvFile:
    """A file as it was read; `path` is the file itself where a link was given."""

    path: Path
    content: str

    def __repr__(self) -> str:
        return f"EnvFile({self.path})"

    @classmethod
    def read(cls, path: Path) -> "EnvFile":
        """Read a file.

        Raises:
            SettingsError: it is missing, unreadable, or not UTF-8.
        """
        try:
            return cls(path.resolve(), path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise SettingsError(f"{path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{path} is not UTF-8 text; save it as UTF-8") from None

    def values(self) -> dict[str, SecretStr]:
        """Return what the settings see in the file: names in lower case, the last one wins, nothing that is blank."""
        found = dotenv_values(stream=io.StringIO(self.content, newline=""))
        last = {name.lower(): value for name, value in found.items()}
        return {name: SecretStr(value) for name, value in last.items() if value and value.strip()}

    def without(self, names: Collection[str]) -> "EnvFile":
        """Return the file with empty values for these names (lower case).

        Raises:
            SettingsError: that would change anything else.
        """
        mark = _BYTE_ORDER_MARK if self.content.startswith(_BYTE_ORDER_MARK) else ""
        before = _bindings(self.content)
        emptied = EnvFile(self.path, mark + "".join(_emptied(binding, names) for binding in before))
        after = _bindings(emptied.content)
        as_wanted = [(b.key, "" if b.value and (b.key or "").lower() in names else b.value) for b in before]
        if as_wanted != [(binding.key, binding.value) for binding in after]:
            raise SettingsError(
                f"{self.path}: the values cannot be taken out without changing other lines; do it by hand"
            )
        return emptied

    def lines_with(self, values: Collection[SecretStr]) -> list[int]:
        """Return the numbers of lines that hold one of these values, in a comment perhaps."""
        plain = [value.get_secret_value() for value in values if len(value.get_secret_value()) >= _TELLING_LENGTH]
        return [number for number, line in enumerate(self.content.splitlines(), 1) if any(one in line for one in plain)]

    def replace(self, new: "EnvFile") -> None:
        """Put a new content in the file's place, in one step, with the same owner and mode.

        Raises:
            SettingsError: somebody has changed the file since it was read, or it cannot be written.
        """
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            if self.path.read_bytes() != self.content.encode():
                raise SettingsError(f"{self.path} was changed meanwhile and is left as it is. Run the command again.")
            was = self.path.stat()
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(new.content.encode())
                    file.flush()
                    with contextlib.suppress(PermissionError):  # root's command on somebody's file keeps it theirs
                        os.fchown(file.fileno(), was.st_uid, was.st_gid)
                    os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
                    os.fsync(file.fileno())
                beside.replace(self.path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise SettingsError(
                f"{self.path} cannot be rewritten ({error.filename}: {error.strerror}) and is left as it is"
            ) from None


def _bindings(content: str) -> list[Binding]:
    return list(parse_stream(io.StringIO(content, newline="")))


def _emptied(binding: Binding, names: Collection[str]) -> str:
    text = binding.original.string
    if not binding.value or binding.key is None or binding.key.lower() not in names:
        return text
    found = _ASSIGNMENT.match(text)
    return text if found is None else found["name"] + text[found.end() :]

"""Reading a data file as text: what is refused before any format is looked at.

Knows bytes, UTF-8 and line ends; knows no columns, no JSON, no task.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from metatlp.errors import InputError

_MARK = "\ufeff"  # byte order mark
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def read_text(path: Path) -> tuple[str, Counter[str]]:
    """Read a UTF-8 file, with LF line ends whatever the file has.

    Args:
        path: the file.

    Returns:
        The text, and what was taken out: `byte_order_mark` (at the start of the file).

    Raises:
        InputError: cannot be read, packed, empty, not UTF-8, a NUL, a CR that ends no line.
    """
    raw = read_bytes(path)
    for magic, kind in _PACKED.items():
        if raw.startswith(magic):
            raise InputError(f"{path}:1: the file is packed ({kind}); unpack it first")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 (byte {raw[error.start]:#04x})") from None
    counts: Counter[str] = Counter()
    # A mark followed by a tab is a word that consists of one: such words exist in PAN-X.
    if text.startswith(_MARK) and not text.startswith(_MARK + "\t"):
        text = text[1:]
        counts["byte_order_mark"] = 1
    text = text.replace("\r\n", "\n")
    for char, name in (("\0", "a NUL byte"), ("\r", "a CR without LF")):
        if char in text:
            raise InputError(f"{path}:{line_at(text, text.index(char))}: {name} in the text")
    if not text.strip():
        raise InputError(f"{path}:1: the file is empty")
    return text, counts


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises InputError with the path and the reason."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


class ContentHashes:
    """sha256 of files, computed again when a file's time or size changes."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], str] = {}

    def of(self, path: Path) -> str:
        """In hexadecimal. Raises InputError with the path and the reason."""
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._known:
            self._known[key] = hashlib.sha256(read_bytes(path)).hexdigest()
        return self._known[key]


def line_at(text: str, offset: int) -> int:
    """The number of the line, from 1, in which the character at `offset` stands."""
    return text.count("\n", 0, offset) + 1


def shown(text: str, limit: int = 60) -> str:
    """A string for an error message: quoted, escaped to one line, cut to `limit` characters."""
    return repr(text if len(text) <= limit else text[:limit] + "…")

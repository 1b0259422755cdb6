"""Lists of files with the sha256 and size of each: whether files are as they were written.

Knows files and JSON; knows nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metatlp.errors import InputError


def describe(path: Path) -> dict[str, Any]:
    """A file's entry."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def as_manifest(files: Mapping[str, Any]) -> bytes:
    """The content of a manifest: name -> entry."""
    return json.dumps({"files": files}, indent=1).encode()


def verify(manifest: Path, pattern: re.Pattern[str], needed: str | None = None) -> list[str]:
    """The names of the files that a manifest lists, all of which are as they were written.

    Args:
        pattern: of the names that may be in it. needed: one that has to be.

    Raises:
        InputError: one of them is not, or the manifest itself is not; says which.
    """
    folder = manifest.parent
    listed: Any = read_json(manifest).get("files")
    named = isinstance(listed, dict) and (needed is None or needed in listed)
    if not named or not all(map(pattern.fullmatch, listed)):
        raise InputError(f"{manifest}: damaged (not the manifest of a checkpoint)")
    for name, entry in listed.items():
        try:
            intact = describe(folder / name) == entry
        except OSError as error:
            raise InputError(
                f"{folder / name}: {error.strerror}; not a whole checkpoint"
            ) from error
        if not intact:
            raise InputError(f"{folder / name}: damaged (not what {manifest.name} says of it)")
    # To the letter, so that no byte of the manifest itself can change unseen.
    if manifest.read_bytes() != as_manifest(listed):
        raise InputError(f"{manifest}: damaged (not as it was written)")
    return list(listed)


def read_json(path: Path) -> dict[str, Any]:
    """Of a file that holds a JSON object.

    Raises:
        InputError: it is not there, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; not a whole checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (a JSON object was expected)")
    return value


def flush(path: Path) -> None:
    """Let a file, or a folder's list of names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

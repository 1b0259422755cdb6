"""Folders that are built once and then only read, by however many processes want them.

Knows nothing of what is in them. Whoever comes first builds, the others wait at a file lock (which
a shared file system has to support, as for the cache of encoded splits).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from metatlp.data.whole_folder import remove_unfinished, whole_folder
from metatlp.errors import InputError


def built_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """The folder, built if it is not there.

    A folder of this name is whole, whenever a build was killed; what such a build left beside it
    is removed by the next one.

    Args:
        build: fills an empty folder.

    Raises:
        InputError: the cache cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(f"{folder.name}.lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                remove_unfinished(folder)
                with whole_folder(folder) as unfinished:
                    build(unfinished)
                    _flush(unfinished)
    except OSError as error:
        raise InputError(f"--cache-dir {folder.parent}: cannot be used: {error}") from error
    return folder


def _flush(folder: Path) -> None:
    """Without it a power cut can leave the new name on empty files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())

"""Folders that appear whole or not at all, whatever happens to the process that fills them.

Needs only the standard library. Knows nothing of what is in them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which at the end takes the place of the wanted one.

    It is the only thing in a folder of its own beside the wanted one, NAME.unfinished-RANDOM,
    which is removed at the end with whatever else was moved there; a process that is killed leaves
    it, and nothing under the wanted name.

    Args:
        folder: not there, or empty, at the end. Its parents are made.

    Raises:
        OSError: the folder cannot be made, or has come to hold something.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    try:
        unfinished = beside / "new"
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of this folder; no other may be filling it meanwhile."""
    for left in list(folder.parent.iterdir()):
        if left.name.startswith(_prefix(folder)):
            shutil.rmtree(left, ignore_errors=True)


def _prefix(folder: Path) -> str:
    return f"{folder.name}.unfinished-"

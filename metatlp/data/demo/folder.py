"""Writes the demo grid as a folder in XTREME's layout, the same bytes for the same arguments.

The folder appears all at once: a generation that is killed leaves none. Knows no sentence.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import LANGUAGES
from metatlp.data.demo.layout import file_content, file_name
from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.noise import with_noise
from metatlp.data.demo.splits import build_splits, split_sizes
from metatlp.data.records import Example
from metatlp.errors import InputError
from metatlp.grid import TASK_CODES, TLP

GENERATOR_VERSION = 1  # of the bytes: changes whenever the same arguments give others
DEFAULT_SCALE = 0.02
MARK = "demo.json"  # the file that tells a demo folder from others


def write_demo(
    folder: Path, seed: int = 0, scale: float = DEFAULT_SCALE, label_noise: float = 0.0
) -> dict[str, int]:
    """Write all files of the grid, and demo.json, which says what they are.

    Args:
        folder: a new or empty folder, or one of an earlier demo, which is replaced.
        seed: of the languages and of the examples.
        scale: factor on Table 1's training sizes, and on 5,000 for dev and test; rounded up;
            above 0, at most 1.
        label_noise: probability of a wrong label in training data, 0 to 1.

    Returns:
        File, relative to the folder -> number of examples.

    Raises:
        InputError: a value out of range, a scale for which the sentences run out, a folder that
            holds something else or cannot be written.
    """
    if not 0 < scale <= 1:
        raise InputError(f"--scale {scale}: must be above 0, and at most 1 for Table 1's sizes")
    if not 0 <= label_noise <= 1:
        raise InputError(f"--label-noise {label_noise}: must be between 0 and 1")
    _refuse_others(folder)
    try:
        with _appearing(folder) as unfinished:
            written = _write_files(unfinished, seed, scale, label_noise)
            facts = {"seed": seed, "scale": scale, "label_noise": label_noise, "examples": written}
            _write_mark(unfinished, facts)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--output-dir {folder}: cannot be written ({reason})") from None
    return written


def _write_mark(folder: Path, facts: dict[str, Any]) -> None:
    text = json.dumps({"generator_version": GENERATOR_VERSION, **facts}, indent=1) + "\n"
    (folder / MARK).write_bytes(text.encode())


def _refuse_others(folder: Path) -> None:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"--output-dir {folder}: {error.strerror or error}") from None
    if names and not _is_demo(folder):
        raise InputError(
            f"--output-dir {folder}: is not empty and no demo folder (a {MARK} that lists every "
            "file in it)"
        )


def _is_demo(folder: Path) -> bool:
    """Whether a demo is all that the folder holds, so that nothing else is lost with it."""
    try:
        listed = json.loads((folder / MARK).read_text(encoding="utf-8"))["examples"]
        known = {folder / name for name in (MARK, *listed)}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(path.is_dir() or path in known for path in folder.rglob("*"))


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one: it becomes that if all goes well, and is removed if not."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        unfinished = beside / "new"
        unfinished.mkdir()
        yield unfinished
        # An earlier demo is moved away: a folder only takes the place of an empty one.
        if folder.exists():
            folder.rename(beside / "old")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_files(folder: Path, seed: int, scale: float, label_noise: float) -> dict[str, int]:
    written = {}
    for code in LANGUAGES:
        lexicon = build_lexicon(code, seed)
        for task in TASK_CODES:
            sizes = split_sizes(TLP(task, code), scale)
            for split, examples in build_splits(lexicon, task, sizes, seed).items():
                if split == "train" and label_noise:
                    dice = Dice(seed, "noise", task, code)
                    examples = [with_noise(one, task, label_noise, dice) for one in examples]
                name = file_name(task, code, split)
                _write(folder / name, examples)
                written[name] = len(examples)
    return written


def _write(path: Path, examples: list[Example]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_content(examples))

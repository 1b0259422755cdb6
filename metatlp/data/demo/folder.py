"""Writes the demo grid as a folder in XTREME's layout, the same bytes for the same arguments.

The folder appears all at once: a generation that is killed leaves none. Knows no sentence.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.fingerprint import generator_digest
from metatlp.data.demo.languages import LANGUAGES
from metatlp.data.demo.layout import file_content, file_name
from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.noise import with_noise
from metatlp.data.demo.splits import build_splits, split_sizes
from metatlp.data.records import Example
from metatlp.data.whole_folder import whole_folder
from metatlp.errors import InputError
from metatlp.grid import TASK_CODES, TLP

DEFAULT_SCALE = 0.02
MARK = "demo.json"  # the file that tells a demo folder from others


def write_demo(
    folder: Path, seed: int = 0, scale: float = DEFAULT_SCALE, label_noise: float = 0.0
) -> dict[str, int]:
    """Have a folder appear that holds the grid.

    Args:
        folder: a new or empty folder, or one of an earlier demo, which is replaced.
        seed, scale, label_noise: as for `fill_with_demo`.

    Returns:
        File, relative to the folder -> number of examples.

    Raises:
        InputError: a value out of range, a scale for which the sentences run out, a folder that
            holds something else or cannot be written.
    """
    _check(scale, label_noise)
    _refuse_others(folder)
    try:
        with whole_folder(folder) as unfinished:
            written = fill_with_demo(unfinished, seed, scale, label_noise)
            # It may have come to hold something else meanwhile.
            _refuse_others(folder)
            if folder.exists():
                # An earlier demo is moved to where it is removed with all that is left.
                folder.rename(unfinished.with_name("old"))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--output-dir {folder}: cannot be written ({reason})") from None
    return written


def fill_with_demo(folder: Path, seed: int, scale: float, label_noise: float) -> dict[str, int]:
    """Write all files of the grid, and demo.json, which says what they are, into an empty folder.

    Args:
        seed: of the languages and of the examples.
        scale: factor on Table 1's training sizes, and on 5,000 for dev and test; rounded up;
            above 0, at most 1.
        label_noise: probability of a wrong label in training data, 0 to 1.

    Returns:
        File, relative to the folder -> number of examples.

    Raises:
        InputError: a value out of range, or a scale for which the sentences run out.
        OSError: the folder cannot be written.
    """
    _check(scale, label_noise)
    written = _write_files(folder, seed, scale, label_noise)
    arguments = {"seed": seed, "scale": scale, "label_noise": label_noise}
    mark = {"generator": generator_digest(), **arguments, "examples": written}
    (folder / MARK).write_bytes(f"{json.dumps(mark, indent=1)}\n".encode())
    return written


def _check(scale: float, label_noise: float) -> None:
    if not 0 < scale <= 1:
        raise InputError(f"--scale {scale}: must be above 0, and at most 1 for Table 1's sizes")
    if not 0 <= label_noise <= 1:
        raise InputError(f"--label-noise {label_noise}: must be between 0 and 1")


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

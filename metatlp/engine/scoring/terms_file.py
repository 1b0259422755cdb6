"""terms.npz: what every scored example adds to numerators and denominators, for later resampling.

Knows arrays and their names; knows no task and no model.
N examples, L labels.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metatlp.errors import InputError

NAME = "terms.npz"


def write_terms(folder: Path, terms: Mapping[str, np.ndarray]) -> None:
    """Write folder/terms.npz, whole or not at all.

    Args:
        terms: name, as `test/accuracy` -> (N, L, 2) float64, as from Task.terms.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{NAME}.partial"
    with beside.open("wb") as file:
        np.savez_compressed(file, **dict(terms))  # type: ignore[arg-type]
    os.replace(beside, folder / NAME)


def read_terms(folder: Path) -> dict[str, np.ndarray] | None:
    """Name -> (N, L, 2) float64; None where there is no such file, as in runs of earlier versions.

    Raises:
        InputError: it is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged ({error})") from error
    for name, part in found.items():
        if part.dtype != np.float64 or part.ndim != 3 or part.shape[2] != 2 or not len(part):
            raise InputError(f"{path}: {name}: damaged (not (N, L, 2) numbers)")
    return found

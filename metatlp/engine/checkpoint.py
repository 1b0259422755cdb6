"""Checkpoints: a directory of safetensors and JSON, whole or absent, never a pickle.

    step_000040/manifest.json        sha256 and size of every other file; written last
    step_000040/state.json           step, cursors, sampler, flags, fingerprints
    step_000040/theta.safetensors    parameters by name; exp_avg, exp_avg_sq, velocity likewise

A checkpoint is written in a hidden directory beside, flushed to disk, and renamed: what carries the
final name is whole. Knows files and named tensors; knows nothing of training.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from metatlp.errors import InputError

FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.json"
_CHECKPOINT = re.compile(r"step_([0-9]{6,})")
_FILE = re.compile(r"[a-z_]+\.(json|safetensors)")


@dataclass(frozen=True)
class Checkpoint:
    """A read checkpoint: JSON state, and per kind of vector its named tensors (on CPU)."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def save(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    keep: int,
) -> Path:
    """Write `folder/step_NNNNNN` and delete all but the newest `keep` checkpoints.

    Args:
        folder: the run's checkpoint folder; made if needed. One process writes.
        state: JSON-able.
        tensors: kind -> name -> tensor, e.g. `theta`.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    final = folder / f"step_{step:06d}"
    beside = folder / f".{final.name}.partial"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _write(beside, {"format": FORMAT, "step": step, **state}, tensors)
        set_aside(folder, step - 1)
        os.replace(beside, final)
        _flush(folder)
        for old in paths(folder)[:-keep]:
            _hide(old)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise InputError(f"--output-dir: cannot write a checkpoint: {error}") from error
    for leftover in folder.glob(".step_*"):
        # What cannot be deleted stays hidden, and the next save tries again.
        shutil.rmtree(leftover, ignore_errors=True)
    return final


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        InputError: it is missing, partial or damaged; says which file.
    """
    names = _verify(path)
    state = _read_json(path / STATE)
    if state.get("format") != FORMAT:
        raise InputError(f"{path}: format {state.get('format')}, but this version reads {FORMAT}")
    tensors = {}
    for name in names:
        if name.endswith(".safetensors"):
            try:
                tensors[name.removesuffix(".safetensors")] = load_file(path / name)
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path / name}: {error}") from error
    return Checkpoint(path, state, tensors)


def find(folder: Path, resume: str, log: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint that `--resume` asks for.

    Args:
        folder: the run's checkpoint folder.
        resume: a path, or `auto`: the newest whole one, with a line in the log for each damaged one
            that is passed over; None if there is none.

    Raises:
        InputError: the named checkpoint is missing or damaged; under `auto`, if all are damaged.
    """
    if resume != "auto":
        return load(Path(resume))
    found = paths(folder)
    for path in reversed(found):
        try:
            return load(path)
        except InputError as error:
            log(f"checkpoint passed over: {error}")
    if found:
        raise InputError(f"--resume auto: every checkpoint in {folder} is damaged; see above")
    return None


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a run's checkpoint folder, from the oldest to the newest."""
    found = [path for path in folder.glob("step_*") if _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=step_of)


def newest_state(run: Path) -> dict[str, Any]:
    """The JSON state of a run's newest checkpoint, without its tensors.

    Raises:
        InputError: the run has none, or its state cannot be read.
    """
    found = paths(run / "checkpoints")
    if not found:
        raise InputError(f"{run}: no checkpoint in {run / 'checkpoints'}")
    return _read_json(found[-1] / STATE)


def set_aside(folder: Path, step: int) -> list[Path]:
    """Hide the checkpoints of later steps: of a run that goes on at `step` they are no part.

    They are renamed to `.step_NNNNNN.old`, and deleted when the next checkpoint is whole.
    Returns:
        Their paths before.

    Raises:
        InputError: the folder cannot be written.
    """
    later = [path for path in paths(folder) if step_of(path) > step]
    try:
        for path in later:
            _hide(path)
    except OSError as error:
        raise InputError(f"--output-dir: cannot set a checkpoint aside: {error}") from error
    return later


def step_of(path: Path) -> int:
    """Of a checkpoint's folder."""
    return int(path.name.removeprefix("step_"))


def _hide(path: Path) -> None:
    os.replace(path, path.with_name(f".{path.name}.old"))


def _write(
    folder: Path, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    for kind, named in tensors.items():
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
        save_file(on_cpu, folder / f"{kind}.safetensors")
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_bytes(_as_manifest(files))
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_manifest(files: Mapping[str, Any]) -> bytes:
    return json.dumps({"files": files}, indent=1).encode()


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _verify(folder: Path) -> list[str]:
    """The names of the checkpoint's files, all of which are as they were written."""
    manifest = folder / MANIFEST
    listed = _read_json(manifest).get("files")
    if not isinstance(listed, dict) or STATE not in listed or not all(map(_FILE.fullmatch, listed)):
        raise InputError(f"{manifest}: damaged (not the manifest of a checkpoint)")
    for name, entry in listed.items():
        try:
            intact = _describe(folder / name) == entry
        except OSError as error:
            raise InputError(
                f"{folder / name}: {error.strerror}; not a whole checkpoint"
            ) from error
        if not intact:
            raise InputError(f"{folder / name}: damaged (not what {MANIFEST} says of it)")
    # To the letter, so that no byte of the manifest itself can change unseen.
    if manifest.read_bytes() != _as_manifest(listed):
        raise InputError(f"{manifest}: damaged (not as it was written)")
    return list(listed)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; not a whole checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (a JSON object was expected)")
    return value

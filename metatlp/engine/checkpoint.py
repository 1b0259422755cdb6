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
_NAME = re.compile(r"step_(\d{6,})")


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
        InputError: the folder cannot be written.
    """
    final = folder / f"step_{step:06d}"
    beside = folder / f".{final.name}.partial"
    try:
        for leftover in folder.glob(".step_*"):
            shutil.rmtree(leftover)
        beside.mkdir(parents=True)
        _write(beside, {"format": FORMAT, "step": step, **state}, tensors)
        if final.exists():
            # Only a damaged or an outdated one can be in the way: runs move forward.
            os.replace(final, folder / f".{final.name}.old")
        os.replace(beside, final)
        _flush(folder)
    except OSError as error:
        raise InputError(f"--output-dir: cannot write a checkpoint: {error}") from error
    for old in sorted(_all(folder))[:-keep] + sorted(folder.glob(".step_*")):
        shutil.rmtree(old)
    return final


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        InputError: it is missing, partial or damaged; says which file.
    """
    manifest = _read_json(path / "manifest.json")
    try:
        files = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path / 'manifest.json'}: not a manifest of ours") from error
    for name, digest in files.items():
        _verify(path / name, digest)
    state = _read_json(path / "state.json")
    if state.get("format") != FORMAT:
        raise InputError(f"{path}: format {state.get('format')}, but this version reads {FORMAT}")
    tensors = {}
    for name in files:
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
    found = sorted(_all(folder), reverse=True)
    for path in found:
        try:
            return load(path)
        except InputError as error:
            log(f"checkpoint passed over: {error}")
    if found:
        raise InputError(f"--resume auto: every checkpoint in {folder} is damaged; see above")
    return None


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)]


def _write(
    folder: Path, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    for kind, named in tensors.items():
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
        save_file(on_cpu, folder / f"{kind}.safetensors")
    (folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    files = {
        path.name: {"sha256": _digest(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    (folder / "manifest.json").write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, digest: str) -> None:
    try:
        found = _digest(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the checkpoint is not whole") from error
    if found != digest:
        raise InputError(f"{path}: damaged (sha256 {found[:12]}..., expected {digest[:12]}...)")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; not a whole checkpoint") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (a JSON object was expected)")
    return value

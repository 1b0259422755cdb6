"""Checkpoints: a directory of safetensors and JSON, whole or absent, never a pickle.

    step_000040/manifest.json        sha256 and size of every other file; written last
    step_000040/state.json           step, cursors, sampler, flags, fingerprints
    step_000040/theta.safetensors    parameters by name; exp_avg, exp_avg_sq, velocity likewise

Where no process holds all parameters, several write it: these kinds of tensors then lie in shards
(tensor_files.py), and shards.json is to them what the manifest, in which it stands, is to the rest.

A checkpoint is written in a hidden directory beside, flushed to disk, and renamed: what carries the
final name is whole. Knows files and named tensors; knows nothing of training.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from metatlp.engine import tensor_files
from metatlp.engine.manifest import as_manifest, describe, flush, read_json, verify
from metatlp.engine.tensor_files import SHARD_FILE, Shard, open_tensors, write_tensors
from metatlp.errors import InputError

# A version that knew no shards reads the manifest and the state as ever, and then refuses the
# format by name; with the shards in the manifest itself, it would call that damaged.
FORMAT, SHARDED_FORMAT = 1, 2
MANIFEST, STATE, SHARDS = "manifest.json", "state.json", "shards.json"
_CHECKPOINT = re.compile(r"step_([0-9]{6,})")
_FILE = re.compile(r"[a-z_]+\.(json|safetensors)")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: JSON state, and per kind of vector its named tensors (on CPU), each
    read when it is asked for."""

    path: Path
    state: dict[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


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
    try:
        begin(folder, step)
        return finish(folder, step, state, tensors, (), keep)
    except InputError:
        discard(folder, step)
        raise


def begin(folder: Path, step: int) -> None:
    """Make the hidden folder that a checkpoint is written in. One process does, before any shard.

    Raises:
        InputError: it cannot be made.
    """
    beside = _beside(folder, step)
    with _writing():
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)


def write_shard(
    folder: Path, step: int, kind: str, number: int, of: int, named: Mapping[str, Tensor]
) -> Shard:
    """Write some of a kind's tensors beside what other processes write meanwhile.

    Args:
        number: of the shard, from 0, of so many.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    with _writing():
        return tensor_files.write_shard(_beside(folder, step), kind, number, of, named)


def finish(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    shards: Sequence[Shard],
    keep: int,
) -> Path:
    """Write the rest into the hidden folder, and make a checkpoint of it. One process does.

    Args:
        tensors, state, keep: as for `save`. shards: those of all writers.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    beside = _beside(folder, step)
    final = path_of(folder, step)
    form = SHARDED_FORMAT if shards else FORMAT
    with _writing():
        _write(beside, {"format": form, "step": step, **state}, tensors, shards)
        set_aside(folder, step - 1)
        os.replace(beside, final)
        flush(folder)
        for old in paths(folder)[:-keep]:
            _hide(old)
    for leftover in folder.glob(".step_*"):
        # What cannot be deleted stays hidden, and the next save tries again.
        shutil.rmtree(leftover, ignore_errors=True)
    return final


def discard(folder: Path, step: int) -> None:
    """Remove what was begun and cannot be finished. One process does, when no other writes."""
    shutil.rmtree(_beside(folder, step), ignore_errors=True)


def load(path: Path) -> Checkpoint:
    """Verify a checkpoint, and open its tensors.

    Raises:
        InputError: it is missing, partial or damaged; says which file.
    """
    names = verify(path / MANIFEST, _FILE, STATE)
    state = read_json(path / STATE)
    if state.get("format") not in (FORMAT, SHARDED_FORMAT):
        raise InputError(
            f"{path}: format {state.get('format')}, but this version reads {FORMAT} and "
            f"{SHARDED_FORMAT}"
        )
    if SHARDS in names:
        names += verify(path / SHARDS, SHARD_FILE)
    return Checkpoint(path, state, open_tensors(path, names))


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
    return read_json(found[-1] / STATE)


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


def path_of(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint, below the run's checkpoint folder."""
    return folder / f"step_{step:06d}"


def step_of(path: Path) -> int:
    """Of a checkpoint's folder."""
    return int(path.name.removeprefix("step_"))


def _hide(path: Path) -> None:
    os.replace(path, path.with_name(f".{path.name}.old"))


def _beside(folder: Path, step: int) -> Path:
    return folder / f".{path_of(folder, step).name}.partial"


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"--output-dir: cannot write a checkpoint: {error}") from error


def _write(
    folder: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    shards: Sequence[Shard],
) -> None:
    own = [STATE, *(f"{kind}.safetensors" for kind in tensors)]
    for kind, named in tensors.items():
        write_tensors(folder / f"{kind}.safetensors", named)
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    if shards:
        (folder / SHARDS).write_bytes(as_manifest(tensor_files.write_indexes(folder, shards)))
        own.append(SHARDS)
    files = {name: describe(folder / name) for name in sorted(own)}
    (folder / MANIFEST).write_bytes(as_manifest(files))
    for path in folder.iterdir():
        flush(path)
    flush(folder)

"""Named tensors on disk: a kind of them in one safetensors file, or in shards with an index.

    theta.safetensors                   all tensors of the kind `theta`; or
    theta-00001-of-00004.safetensors    some of them, whole, and
    theta.index.json                    which shard holds which, in the form of Hugging Face

Knows files and names; knows neither checkpoints nor ranks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metatlp.engine.manifest import describe, flush
from metatlp.errors import InputError

SHARD_FILE = re.compile(r"[a-z_]+(-[0-9]{5}-of-[0-9]{5}\.safetensors|\.index\.json)")


@dataclass(frozen=True)
class Shard:
    """What the writer of a shard says of it.

    Attributes:
        file: its name. tensors: the names of what it holds. num_bytes: of these tensors.
        entry: the file's, for a manifest.
    """

    file: str
    tensors: tuple[str, ...]
    num_bytes: int
    entry: dict[str, Any]


class SavedTensors(Mapping[str, Tensor]):
    """Name -> tensor on the CPU, from open files.

    A tensor is a view of its file, mapped into memory: only what is used of it is read, so that a
    slice of it costs a slice. Writing to it changes no file.

    Attributes:
        weight_map: name of a tensor -> name of its file.
    """

    def __init__(self, opened: Mapping[str, Any]):
        """
        Args:
            opened: name of a file -> safe_open of it.
        """
        self._opened = opened
        pairs = [(tensor, file) for file, content in opened.items() for tensor in [*content.keys()]]
        self.weight_map: dict[str, str] = dict(pairs)

    def __getitem__(self, name: str) -> Tensor:
        return self._opened[self.weight_map[name]].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weight_map)

    def __len__(self) -> int:
        return len(self.weight_map)


def write_tensors(path: Path, named: Mapping[str, Tensor]) -> None:
    """Raises SafetensorError or OSError if the file cannot be written."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}, path)


def write_shard(
    folder: Path, kind: str, number: int, of: int, named: Mapping[str, Tensor]
) -> Shard:
    """Write some of a kind's tensors, and flush them to disk.

    Args:
        number: of the shard, from 0, of so many.

    Raises:
        SafetensorError, OSError: the file cannot be written.
    """
    path = folder / f"{kind}-{number + 1:05d}-of-{of:05d}.safetensors"
    write_tensors(path, named)
    flush(path)
    size = sum(tensor.nbytes for tensor in named.values())
    return Shard(path.name, tuple(named), size, describe(path))


def write_indexes(folder: Path, shards: Sequence[Shard]) -> dict[str, Any]:
    """Write an index per kind.

    Args:
        shards: all of them, whoever wrote them.

    Returns:
        Name -> entry of the shards and the indexes, for a manifest.

    Raises:
        OSError: an index cannot be written, or a shard is not here.
    """
    files = {}
    for shard in shards:
        # Written to another machine's own disk, it would be missed only when it is read.
        (folder / shard.file).stat()
        files[shard.file] = shard.entry
    for kind in {_kind(shard.file) for shard in shards}:
        own = [shard for shard in shards if _kind(shard.file) == kind]
        weight_map = {name: shard.file for shard in own for name in shard.tensors}
        path = folder / _index_name(kind)
        path.write_bytes(_as_index(weight_map, sum(shard.num_bytes for shard in own)))
        files[path.name] = describe(path)
    return dict(sorted(files.items()))


def open_tensors(folder: Path, files: Iterable[str]) -> dict[str, SavedTensors]:
    """Kind -> its tensors, of which nothing is read yet.

    Args:
        files: names in the folder; those that are not safetensors are left alone.

    Raises:
        InputError: a file cannot be opened, or an index does not say what its shards hold.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for name in files:
        if name.endswith(".safetensors"):
            kinds.setdefault(_kind(name), {})[name] = _open(folder / name)
    tensors = {kind: SavedTensors(opened) for kind, opened in kinds.items()}
    for kind, opened in kinds.items():
        if f"{kind}.safetensors" not in opened:
            _check_index(folder / _index_name(kind), tensors[kind])
    return tensors


def _kind(file: str) -> str:
    return re.split("[-.]", file)[0]


def _index_name(kind: str) -> str:
    return f"{kind}.index.json"


def _as_index(weight_map: Mapping[str, str], total_size: int) -> bytes:
    """Args: name of a tensor -> name of its file; bytes of all tensors."""
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(weight_map)}
    return json.dumps(index, indent=1, sort_keys=True).encode()


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: {error}") from error


def _check_index(index: Path, tensors: SavedTensors) -> None:
    size = sum(tensor.nbytes for tensor in tensors.values())
    try:
        intact = index.read_bytes() == _as_index(tensors.weight_map, size)
    except OSError as error:
        raise InputError(f"{index}: {error.strerror}; not a whole checkpoint") from error
    if not intact:
        raise InputError(f"{index}: damaged (not what the shards beside it hold)")

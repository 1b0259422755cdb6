"""A checkpoint of parameters that a TLP group holds in pieces, which all its ranks write.

Knows who writes what; the files are checkpoint.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from metatlp.engine import checkpoint
from metatlp.engine.checkpoint import Shard
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.gather import assemble
from metatlp.engine.parameters.pieces import Pieces
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.placement import AgreedError, Placement


def save_parameters(
    placement: Placement,
    parameters: Parameters,
    vectors: Mapping[str, Tensor],
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    keep: int,
) -> Path:
    """Write `folder/step_NNNNNN`: the main process alone where it holds all, else its TLP group.

    Every rank of the run takes part, and not within Placement.together().

    Args, Raises: as save_pieces.
    """
    mesh, pieces = parameters.mesh, parameters.pieces
    if not (parameters.replicated or mesh.ranks_per_tlp == 1):
        return save_pieces(placement, mesh, pieces, vectors, folder, step, state, tensors, keep)
    with placement.together():
        if placement.is_main:
            whole = {kind: pieces.views(flat) for kind, flat in vectors.items()}
            checkpoint.save(folder, step, state, {**whole, **tensors}, keep)
    return checkpoint.path_of(folder, step)


def save_pieces(
    placement: Placement,
    mesh: Mesh,
    pieces: Pieces,
    vectors: Mapping[str, Tensor],
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    keep: int,
) -> Path:
    """Write `folder/step_NNNNNN` as `checkpoint.save` does, its vectors in shards.

    Every rank of the run takes part, and not within Placement.together(), for this agrees by
    itself. The ranks of the first TLP group write; each holds the whole parameters that it owns
    of one kind at a time.

    Args:
        vectors: kind -> (P_r,), the same kinds on every rank, e.g. `theta`.
        state, tensors: what else the checkpoint holds; of other ranks than the main process they
            are not looked at.

    Raises:
        AgreedError: a rank could not write; the same on all. Older checkpoints are as they were.
    """
    try:
        with placement.together():
            if placement.is_main:
                checkpoint.begin(folder, step)
        shards = [
            shard
            for kind, flat in vectors.items()
            for shard in _write_kind(placement, mesh, pieces, folder, step, kind, flat)
        ]
        with placement.together():
            if placement.is_main:
                checkpoint.finish(folder, step, state, tensors, shards, keep)
    except AgreedError:
        if placement.is_main:
            checkpoint.discard(folder, step)
        raise
    return checkpoint.path_of(folder, step)


def _write_kind(
    placement: Placement,
    mesh: Mesh,
    pieces: Pieces,
    folder: Path,
    step: int,
    kind: str,
    flat: Tensor,
) -> list[Shard]:
    """The shards of a kind, on every rank. All ranks of the run take part."""
    shards = []
    if mesh.group == 0:
        whole = assemble(mesh, pieces, flat, placement.device)
    with placement.together():
        if mesh.group == 0:
            ranks = mesh.ranks_per_tlp
            shards = [checkpoint.write_shard(folder, step, kind, mesh.member, ranks, whole)]
    return placement.gather(shards)

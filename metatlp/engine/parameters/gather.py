"""From the pieces that the ranks of a TLP group hold to whole parameters, each on one rank.

Knows vectors and ranks; knows neither models nor files.
P_r: elements of this rank's vectors; R: ranks of the TLP group.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.pieces import Piece, Pieces

# Elements (4 MiB) of a parameter that travel at once: what a rank needs beside what it owns.
CHUNK = 2**20


def owners(shapes: Mapping[str, torch.Size], ranks: int) -> dict[str, int]:
    """Name -> the member of the group that gets the whole parameter, the largest ones first.

    Each goes to the member with the fewest elements so far, so that the shares are about equal.
    """
    shares = [0] * ranks
    chosen = {}
    for name in sorted(shapes, key=lambda name: (-shapes[name].numel(), name)):
        chosen[name] = shares.index(min(shares))
        shares[chosen[name]] += shapes[name].numel()
    return chosen


def assemble(
    mesh: Mesh,
    pieces: Pieces,
    flat: Tensor,
    device: torch.device,
    owner_of: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """The whole parameters that this rank owns. All ranks of the TLP group take part.

    The bits are those of the pieces, NaNs and the sign of zero included.

    Args:
        pieces: of this rank; every element of every parameter lies on one rank of the group.
        flat: (P_r,) float32, anywhere. device: where the group's backend communicates.
        owner_of: name -> the member that gets it; None: `owners`.

    Returns:
        Name -> tensor on the CPU.
    """
    _check_cover(mesh, pieces, device)
    own = {piece.name: piece for piece in pieces.own}
    whole = {}
    for name, owner in (owner_of or owners(pieces.shapes, mesh.ranks_per_tlp)).items():
        shape = pieces.shapes[name]
        bits = _collect(mesh, shape.numel(), own.get(name), flat, owner, device)
        if bits is not None:
            whole[name] = bits.view(torch.float32).view(shape)
    return whole


def _check_cover(mesh: Mesh, pieces: Pieces, device: torch.device) -> None:
    held = {piece.name: piece.end - piece.begin for piece in pieces.own}
    counts = torch.tensor([held.get(name, 0) for name in pieces.shapes], device=device)
    sizes = [shape.numel() for shape in pieces.shapes.values()]
    assert mesh.sum_within(counts).tolist() == sizes, "pieces overlap, or do not cover"


def _collect(
    mesh: Mesh, size: int, piece: Piece | None, flat: Tensor, owner: int, device: torch.device
) -> Tensor | None:
    """(size,) int32: the bits of a parameter, on its owner.

    A sum of integers of which all but one are zero is that one to the bit; of floats, it would
    turn -0.0 into 0.0.
    """
    owned = torch.empty(size, dtype=torch.int32) if owner == mesh.member else None
    for begin in range(0, size, CHUNK):
        end = min(begin + CHUNK, size)
        part = torch.zeros(end - begin, dtype=torch.int32, device=device)
        if piece is not None and max(begin, piece.begin) < min(end, piece.end):
            first, last = max(begin, piece.begin), min(end, piece.end)
            start = piece.offset + first - piece.begin
            held = flat.detach()[start : start + last - first].view(torch.int32)
            part[first - begin : last - begin].copy_(held)
        if mesh.within is not None:
            dist.reduce(part, mesh.rank_of(owner), group=mesh.within)
        if owned is not None:
            owned[begin:end].copy_(part)
    return owned

"""Flat vectors of a rank that holds some rows of every parameter, laid out as the arena lays all.

Knows shapes and the tasks that use them; knows no model and no process.
R: ranks per TLP; P_r: elements of this rank's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from metatlp.engine.parameters.pieces import Piece, Pieces
from metatlp.model.arena import ALIGNMENT, Segment, by_tasks


@dataclass(frozen=True)
class Layout:
    """Where this rank's pieces lie.

    Attributes:
        segments: in the arena's order; one of which the rank holds nothing is empty.
        pieces: of every parameter one, in the vectors' order; empty where the rank holds nothing.
        length: P_r.
    """

    segments: tuple[Segment, ...]
    pieces: Pieces
    length: int


def rows_of(num_rows: int, ranks: int, member: int) -> tuple[int, int]:
    """First and last (exclusive) of a member's rows: ceil(n / R) each, as long as there are any."""
    each = -(-num_rows // ranks)
    return min(member * each, num_rows), min((member + 1) * each, num_rows)


def lay_out(
    uses: Mapping[str, tuple[torch.Size, frozenset[str]]], ranks: int, member: int
) -> Layout:
    """The layout of a member.

    Args:
        uses: canonical name -> (shape, tasks that use it), in one order on every rank.
        ranks: R. member: of the TLP group.
    """
    segments, own = [], []
    end = 0
    for tasks, names in by_tasks(uses).items():
        start = end
        for name in names:
            own.append(_piece(name, uses[name][0], ranks, member, end))
            end = -(-own[-1].span.stop // ALIGNMENT) * ALIGNMENT
        segments.append(Segment.of(tasks, start, end))
    shapes = {name: shape for name, (shape, _) in uses.items()}
    return Layout(tuple(segments), Pieces(shapes, own), end)


def _piece(name: str, shape: torch.Size, ranks: int, member: int, offset: int) -> Piece:
    first, last = rows_of(shape[0], ranks, member)
    row = shape[1:].numel()
    return Piece(name, shape, first * row, last * row, offset)

"""A batch in parts, each with dropout masks of its own: what ranks share, or one takes in turn.

The parts of a batch do not depend on who computes them. Knows no rank. B: rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metatlp.tasks.task import Batch


@dataclass(frozen=True)
class Part:
    """A share of a batch.

    Attributes:
        index: which share. weight: its rows over those of the batch. tensors: of the collated rows.
    """

    index: int
    weight: float
    tensors: Batch

    @property
    def tokens(self) -> int:
        """Real tokens, padding left out."""
        return int(self.tensors["attention_mask"].sum()) if self.weight else 0

    @property
    def rows(self) -> int:
        return len(self.tensors["attention_mask"]) if self.weight else 0


def moved(parts: Sequence[Part], device: torch.device) -> list[Part]:
    """The same with their tensors on a device."""
    return [
        Part(p.index, p.weight, {k: t.to(device, non_blocking=True) for k, t in p.tensors.items()})
        for p in parts
    ]


def cut(
    rows: np.ndarray,
    num_parts: int,
    own: Sequence[int],
    collate: Callable[[np.ndarray], Batch],
    pin_memory: bool,
) -> list[Part]:
    """Parts of the batch of these rows.

    A batch of fewer rows than parts has parts of weight 0, which hold its first row: every rank has
    something to compute, for in some placements a pass is made by several ranks together.

    Args:
        rows: (B,) row numbers, sorted by length.
        num_parts: of the batch. own: the numbers of those that are wanted.
        collate: row numbers to tensors.
        pin_memory: put the tensors into page-locked memory, for asynchronous copies to a GPU.
    """
    parts = []
    for index in own:
        # Every so many-th row: rows are sorted by length, and so the parts are like each other.
        mine = rows[index::num_parts]
        tensors = collate(mine if len(mine) else rows[:1])
        if pin_memory:
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        parts.append(Part(index, len(mine) / len(rows), tensors))
    return parts

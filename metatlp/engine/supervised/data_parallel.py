"""Ordinary training of the whole model: one AdamW step per batch, which the ranks share.

A batch is cut into parts, each with dropout masks of its own; a rank computes the gradients of its
parts, and the placement of the parameters adds them up. So the parts, not the ranks, decide what is
learned, and where all ranks hold all parameters and sums are exact, not even a bit depends on who
held which part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from metatlp.data.parts import Part, moved
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.placement import Placement
from metatlp.errors import DivergedError
from metatlp.seeds import derive_seed


@dataclass(frozen=True)
class UpdateReport:
    """What this rank saw of an update.

    Attributes:
        parts: numbers of this rank's parts.
        weighted: () per part its share of the batch's mean loss (nats), on the device.
        clipped: () 1 if the gradient was clipped, else 0; on the device.
        tokens: real tokens of the parts.
    """

    parts: list[int]
    weighted: list[Tensor]
    clipped: Tensor
    tokens: int

    def losses(self) -> list[tuple[int, float]]:
        """(number of the part, its share of the loss)."""
        return [(i, loss.item()) for i, loss in zip(self.parts, self.weighted, strict=True)]


class DataParallel:
    """Steps the parameters of one TLP group, that of all ranks."""

    def __init__(
        self, parameters: Parameters, seed: int, num_parts: int, placement: Placement
    ) -> None:
        """
        Args:
            seed: of the dropout masks.
            num_parts: of every batch; a multiple of the number of ranks.
        """
        assert num_parts >= placement.world
        self.parameters, self.seed = parameters, seed
        self.num_parts, self.placement = num_parts, placement

    def own_parts(self) -> list[int]:
        """The numbers of this rank's parts."""
        return list(range(self.placement.rank, self.num_parts, self.placement.world))

    def step(
        self, task: str, parts: Sequence[Part], lr: float, update: int, stop: bool
    ) -> tuple[UpdateReport, bool]:
        """One AdamW step on the mean loss of a batch. Every rank takes part.

        Args:
            parts: this rank's. update: with the part's number it fixes the dropout masks.
            stop: whether a signal asks this rank to stop.

        Returns:
            The report, and whether any rank was asked to stop.

        Raises:
            DivergedError: on every rank, and before the parameters are changed, if a loss or a
                gradient is not finite on one.
        """
        there = moved(parts, self.placement.device)
        seed = partial(derive_seed, self.seed, "update dropout", update)
        losses = self.parameters.gradient(task, there, seed)
        stopped = self._agree(losses, stop, update)
        if not self.parameters.finite(task):
            raise _diverged(update)
        clipped = self.parameters.step(task, lr)
        # Some placements know it only now; the norm is that of all ranks.
        if self.parameters.failure is not None:
            raise _diverged(update)
        report = UpdateReport(
            parts=[part.index for part in parts],
            weighted=losses,
            clipped=clipped,
            tokens=sum(part.tokens for part in parts),
        )
        return report, stopped

    def _agree(self, losses: list[Tensor], stop: bool, update: int) -> bool:
        """Whether to stop. Every rank takes part, so that all raise or none does."""
        failed = self.parameters.failure is not None
        flags = torch.tensor([failed, stop], dtype=torch.int32, device=self.placement.device)
        for loss in losses:
            flags[0] |= ~loss.isfinite()
        if self.placement.world > 1:
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        diverged, stopped = flags.tolist()
        if diverged:
            raise _diverged(update)
        return bool(stopped)


def _diverged(update: int) -> DivergedError:
    return DivergedError(
        f"update {update + 1}: the loss or its gradient is not finite; a lower learning rate may "
        "help; the last checkpoint is as it was"
    )

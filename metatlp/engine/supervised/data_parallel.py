"""Ordinary training of the whole model: one AdamW step per batch, which the ranks share.

A batch is cut into parts, each with dropout masks of its own; a rank computes the gradients of its
parts, and one all-reduce of the flat gradient adds them up. So the parts, not the ranks, decide
what is learned, and with exact sums not even a bit depends on who held which part.
P: elements of the arena.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from metatlp.data.schedule import Part
from metatlp.engine.inner import InnerLoop, backward
from metatlp.engine.placement import Placement
from metatlp.errors import DivergedError
from metatlp.kernels import accumulate_delta_, apply_delta_
from metatlp.model.arena import Segment
from metatlp.seeds import derive_seed

# Bits behind the point of an exact sum of gradients: a quantum of 1e-12 and elements up to 4e6. A
# gradient's clipped norm is about 1, and AdamW's eps takes over at 1e-8.
GRADIENT_EXPONENT = 40


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
    """Steps the arena's parameters, the same on every rank."""

    def __init__(
        self, inner_loop: InnerLoop, num_parts: int, exact: bool, placement: Placement
    ) -> None:
        """
        Args:
            inner_loop: holds model, arena, AdamW's state and settings; its seed is that of the
                dropout masks.
            num_parts: of every batch; at least the number of ranks.
            exact: sum gradients in 64-bit fixed point.
        """
        assert num_parts >= placement.world
        self.loop, self.num_parts, self.placement = inner_loop, num_parts, placement
        self.total: Tensor | None = None
        if num_parts > 1:
            grad = inner_loop.arena.grad
            self.exponent = GRADIENT_EXPONENT if exact else None
            self.total = torch.zeros_like(grad, dtype=torch.int64 if exact else torch.float32)
            self.zero = torch.zeros_like(grad)

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
        loop, device = self.loop, self.placement.device
        segments = loop.stepped(task)
        losses: list[Tensor] = []
        fine = True
        for segment in segments:
            loop.arena.grad[segment.span].zero_()
        loop.model.train()
        for part in parts:
            torch.manual_seed(derive_seed(loop.seed, "update dropout", update, part.index))
            batch = {k: tensor.to(device, non_blocking=True) for k, tensor in part.tensors.items()}
            losses.append(part.weight * backward(loop.model, task, batch, loop.autocast))
            fine = self._collect(segments, part.weight) and fine
        stopped = self._agree(losses, fine, stop, update)
        self._combine(segments)
        shrink = loop.shrink(segments)
        # The gradient is the same on every rank; without a clip its norm is not known yet.
        if not (shrink if loop.config.grad_clip else loop.norm(segments)).isfinite():
            raise _diverged(update)
        loop.step(segments, lr, shrink)
        report = UpdateReport(
            parts=[part.index for part in parts],
            weighted=losses,
            clipped=(shrink > 1.0).float(),
            tokens=int(sum(part.tensors["attention_mask"].sum() for part in parts)),
        )
        return report, stopped

    def _collect(self, segments: Sequence[Segment], weight: float) -> bool:
        """Move a part's weighted gradient to the total; False if it does not fit."""
        if self.total is None:
            return True
        try:
            for segment in segments:
                part = segment.span
                grad, zero = self.loop.arena.grad[part], self.zero[part]
                accumulate_delta_(self.total[part], grad, zero, weight, self.exponent)
        except OverflowError:
            return False
        return True

    def _agree(self, losses: list[Tensor], fine: bool, stop: bool, update: int) -> bool:
        """Whether to stop. Every rank takes part, so that all raise or none does."""
        flags = torch.tensor([not fine, stop], dtype=torch.int32, device=self.placement.device)
        for loss in losses:
            flags[0] |= ~loss.isfinite()
        if self.placement.world > 1:
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        diverged, stopped = flags.tolist()
        if diverged:
            raise _diverged(update)
        return bool(stopped)

    def _combine(self, segments: Sequence[Segment]) -> None:
        """Leave the gradient of the whole batch in the arena. Every rank takes part."""
        if self.total is None:
            return
        for segment in segments:
            part = segment.span
            total = self.total[part]
            if self.placement.world > 1:
                dist.all_reduce(total)
            # zero + 1 * total, which also leaves `zero` so.
            apply_delta_(self.zero[part], self.loop.arena.grad[part], total, 1.0, self.exponent)
            self.zero[part].zero_()


def _diverged(update: int) -> DivergedError:
    return DivergedError(
        f"update {update + 1}: the loss or its gradient is not finite; a lower learning rate may "
        "help; the last checkpoint is as it was"
    )

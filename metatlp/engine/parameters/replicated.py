"""The replicated placement: every rank of a TLP group holds all parameters, and they share batches.

With one rank per TLP that is the paper's algorithm, one TLP per GPU, without any communication in
the inner loop. With R ranks a batch is cut into parts, which the ranks share, and one all-reduce of
the flat gradient adds them up; with exact sums not even a bit depends on who held which part.
P: elements of the arena; S: segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from metatlp.data.parts import Part
from metatlp.engine.adamw import InnerConfig, InnerState, adamw_step
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.passes import backward
from metatlp.engine.parameters.pieces import Piece, Pieces
from metatlp.kernels import accumulate_delta_, apply_delta_
from metatlp.model.arena import Arena, Segment
from metatlp.model.multitask import MultiTaskModel

# Bits behind the point of an exact sum of gradients: a quantum of 1e-12 and elements up to 4e6. A
# gradient's clipped norm is about 1, and AdamW's eps takes over at 1e-8.
GRADIENT_EXPONENT = 40

Autocast = Callable[[], AbstractContextManager]


class GradientSum:
    """The sum of parts' gradients over the ranks of a TLP group.

    total (P,) is float32, or int64 fixed point under `exact`; zero (P,).
    """

    def __init__(self, grad: Tensor, exact: bool, mesh: Mesh):
        self.grad, self.mesh = grad, mesh
        self.exponent = GRADIENT_EXPONENT if exact else None
        self.total = torch.zeros_like(grad, dtype=torch.int64 if exact else torch.float32)
        self.zero = torch.zeros_like(grad)

    def take(self, segments: Sequence[Segment], weight: float) -> None:
        """Move a part's weighted gradient to the total.

        Raises:
            OverflowError: it does not fit the fixed point.
        """
        for part in (segment.span for segment in segments):
            total, grad, zero = self.total[part], self.grad[part], self.zero[part]
            accumulate_delta_(total, grad, zero, weight, self.exponent)

    def combine(self, segments: Sequence[Segment]) -> None:
        """Leave the gradient of the whole batch in `grad`. The ranks of the group take part."""
        for part in (segment.span for segment in segments):
            total = self.mesh.sum_within(self.total[part])
            # zero + 1 * total, which also leaves `zero` so.
            apply_delta_(self.zero[part], self.grad[part], total, 1.0, self.exponent)
            self.zero[part].zero_()


class ReplicatedParameters:
    """Implements `protocol.Parameters` with the whole arena on each rank."""

    replicated, lockstep = True, False

    def __init__(
        self,
        model: MultiTaskModel,
        arena: Arena,
        config: InnerConfig,
        autocast: Autocast,
        mesh: Mesh | None = None,
        num_parts: int = 1,
        exact: bool = False,
        state: InnerState | None = None,
    ):
        """
        Args:
            arena: of the model.
            autocast: context of the forward passes.
            num_parts: in which every batch is cut; a multiple of the mesh's ranks per TLP.
            exact: sum the parts' gradients in 64-bit fixed point.
            state: AdamW's; None: that before the first step.
        """
        self.model, self.arena = model, arena
        self.state = state or InnerState.zeros(arena.live, len(arena.segments))
        self.config, self.autocast, self.mesh = config, autocast, mesh or Mesh()
        self.segments, self.live = arena.segments, arena.live
        self.device = arena.live.device
        self.sum = GradientSum(arena.grad, exact, self.mesh) if num_parts > 1 else None
        self.failure: str | None = None
        self._shrink: Tensor | None = None
        own = [
            Piece(name, place.shape, 0, place.shape.numel(), place.start)
            for name, place in arena.places.items()
        ]
        self.pieces = Pieces({piece.name: piece.shape for piece in own}, own)

    def stepped(self, task: str) -> list[Segment]:
        return self.config.stepped(task, self.segments)

    def gradient(
        self, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> list[Tensor]:
        segments = self.stepped(task)
        self._shrink = None
        self._zero(segments)
        self.model.train()
        losses = []
        for part in parts:
            losses.append(self._pass(task, part, seed))
            if self.sum is not None:
                self._take(segments, part.weight)
        if self.sum is not None:
            self.sum.combine(segments)
        return losses

    def norm(self, task: str) -> Tensor:
        """() 2-norm of the gradient of the segments that a step on `task` moves."""
        spans = [segment.span for segment in self.stepped(task)]
        norms = [torch.linalg.vector_norm(self.arena.grad[span]) for span in spans]
        return torch.linalg.vector_norm(torch.stack(norms))

    def shrink(self, task: str) -> Tensor:
        """() by what the clip divides the gradient; 1 without a clip."""
        if self._shrink is None:
            clip = self.config.grad_clip
            one = torch.ones((), device=self.live.device)
            self._shrink = self.config.shrink(self.norm(task)) if clip else one
        return self._shrink

    def finite(self, task: str) -> bool:
        # The gradient is the same on every rank.
        norm = self.shrink(task) if self.config.grad_clip else self.norm(task)
        return bool(norm.isfinite())

    def step(self, task: str, lr: float) -> Tensor:
        shrink = self.shrink(task)
        self.step_segments(self.stepped(task), lr, shrink if self.config.grad_clip else None)
        return (shrink > 1.0).float()

    def step_segments(self, segments: Sequence[Segment], lr: float, shrink: Tensor | None) -> None:
        """AdamW on these segments, with the gradient divided by `shrink`."""
        live, grad, index = self.live, self.arena.grad, self.segments.index
        indices = [index(segment) for segment in segments]
        adamw_step(live, grad, self.state, segments, indices, self.config, lr, shrink)

    def publish(self) -> None:
        """Nothing to do: the model's parameters are views of `live`."""

    def add_gradient(
        self, row: Tensor, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> None:
        """Of all parts of the batch, on this rank alone."""
        self._zero(self.segments)
        for part in parts:
            self._pass(task, part, seed, part.weight)
        row += self.arena.grad

    def close(self) -> None:
        """Nothing to do."""

    def _zero(self, segments: Sequence[Segment]) -> None:
        # Zeroed, never set to None: the parameters' gradients are views.
        for segment in segments:
            self.arena.grad[segment.span].zero_()

    def _pass(
        self, task: str, part: Part, seed: Callable[[int], int], weight: float = 1.0
    ) -> Tensor:
        """Add `weight` times the part's gradient to the arena's; return its weighted loss."""
        if not part.weight:
            return torch.zeros((), device=self.live.device)
        torch.manual_seed(seed(part.index))
        return part.weight * backward(self.model, task, part.tensors, self.autocast, weight)

    def _take(self, segments: Sequence[Segment], weight: float) -> None:
        assert self.sum is not None
        try:
            self.sum.take(segments, weight)
        except OverflowError as error:
            # Not raised: the other ranks of the group would wait in their all-reduce.
            self.failure = str(error)

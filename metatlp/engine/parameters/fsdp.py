"""Parameters sharded over a TLP group by FSDP2: a rank holds some rows of each, and its masters.

A pass gathers a layer at a time and frees it again, so all ranks of the group make it at once. The
masters, AdamW's moments and the gradient are flat vectors over the rank's own rows, which the meta
step reads and writes as it does the arena; `publish` copies the masters into FSDP2's shards.
Public calls of FSDP2 only. R: ranks per TLP; P_r: elements of this rank's vectors; S: segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from metatlp.data.parts import Part
from metatlp.engine.adamw import InnerConfig, InnerState, adamw_step
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.fsdp_units import shard
from metatlp.engine.parameters.passes import backward
from metatlp.engine.parameters.pieces import Piece
from metatlp.engine.parameters.rows import Layout, lay_out
from metatlp.model.arena import Segment
from metatlp.model.multitask import MultiTaskModel


class FsdpParameters:
    """Implements `protocol.Parameters` with the rows that FSDP2 gives this rank."""

    replicated, lockstep = False, True

    def __init__(self, model: MultiTaskModel, mesh: Mesh, config: InnerConfig):
        """
        Args:
            model: sharded over mesh.within, at the parameters to start from.
        """
        self.model, self.mesh, self.config = model, mesh, config
        uses = model.named_uses()
        shapes = {name: (parameter.shape, tasks) for name, (parameter, tasks) in uses.items()}
        layout = lay_out(shapes, mesh.ranks_per_tlp, mesh.member)
        self.segments, self.pieces = layout.segments, layout.pieces
        self._sharded = [uses[piece.name][0] for piece in layout.pieces.own]
        self.live = self._masters(layout)
        self.device = self.live.device
        self.grad = torch.zeros_like(self.live)
        self.state = InnerState.zeros(self.live, len(self.segments))
        self.failure: str | None = None
        self._norm: Tensor | None = None

    def stepped(self, task: str) -> list[Segment]:
        return self.config.stepped(task, self.segments)

    def gradient(
        self, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> list[Tensor]:
        self._norm = None
        self.model.train()
        losses = self._passes(task, parts, seed)
        self.grad.zero_()
        self._take_gradients(self.grad)
        return losses

    def norm(self, task: str) -> Tensor:
        """() 2-norm of the gradient of the segments that a step on `task` moves.

        The first time after `gradient` all ranks of the TLP group take part.
        """
        if self._norm is None:
            spans = [segment.span for segment in self.stepped(task)]
            norms = torch.stack([torch.linalg.vector_norm(self.grad[span]) for span in spans])
            squares = self.mesh.sum_within(norms.double().square().sum())
            self._norm = squares.sqrt().float()
        return self._norm

    def finite(self, task: str) -> bool:
        return bool(self.norm(task).isfinite())

    def step(self, task: str, lr: float) -> Tensor:
        shrink = self.config.shrink(self.norm(task)) if self.config.grad_clip else None
        segments, index = self.stepped(task), self.segments.index
        indices = [index(segment) for segment in segments]
        adamw_step(self.live, self.grad, self.state, segments, indices, self.config, lr, shrink)
        self.publish()
        clipped = torch.zeros((), device=self.live.device)
        return clipped if shrink is None else (shrink > 1.0).float()

    def publish(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._shards(), _spans(self.live, self.pieces.own))

    def add_gradient(
        self, row: Tensor, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> None:
        self._passes(task, parts, seed)
        self._take_gradients(row)

    def close(self) -> None:
        """Nothing to do: what FSDP2 holds lies in the model."""

    def _masters(self, layout: Layout) -> Tensor:
        """(P_r,) the parameters as they are."""
        shards = self._shards()
        for rows, piece in zip(shards, layout.pieces.own, strict=True):
            assert rows.dtype == torch.float32 and len(rows) == piece.end - piece.begin
        live = torch.zeros(layout.length, dtype=torch.float32, device=shards[0].device)
        torch._foreach_copy_(_spans(live, layout.pieces.own), shards)
        return live

    def _shards(self) -> list[Tensor]:
        """FSDP2's own rows of each parameter, flat.

        Asked for each time: the first pass may put them into other memory.
        """
        return [_flat(parameter) for parameter in self._sharded]

    def _passes(self, task: str, parts: Sequence[Part], seed: Callable[[int], int]) -> list[Tensor]:
        """Leave the batch's gradient in FSDP2's, summed over the parts of all ranks of the group.

        Every part's gradient is reduced at once: to add them up before that would take a whole
        model's worth of memory on each rank.
        """
        losses = []
        for part in parts:
            torch.manual_seed(seed(part.index))
            # One of weight 0 too: its gradient is zero, but the other ranks wait for the pass.
            loss = backward(self.model, task, part.tensors, nullcontext, part.weight)
            losses.append(part.weight * loss)
        return losses

    def _take_gradients(self, into: Tensor) -> None:
        """Move FSDP2's gradients to (P_r,) `into`, added; heads that were not used have none."""
        pairs = zip(self.pieces.own, self._sharded, strict=True)
        used = [(piece, parameter) for piece, parameter in pairs if parameter.grad is not None]
        found = [_flat(parameter.grad) for _, parameter in used]
        torch._foreach_add_(_spans(into, [piece for piece, _ in used]), found)
        for _, parameter in used:
            parameter.grad = None


def build_fsdp(
    model: MultiTaskModel,
    mesh: Mesh,
    config: InnerConfig,
    mixed_precision: str,
    device: torch.device,
) -> FsdpParameters:
    """Shard the model over this rank's TLP group. Every rank of it takes part.

    Args:
        model: in float32, the same on every rank, on the device or not yet.
        mixed_precision: `no` or `bf16`, of the passes; masters and sums are in float32.
    """
    shard(model, mesh, mixed_precision, device)
    return FsdpParameters(model, mesh, config)


def _spans(flat: Tensor, pieces: Sequence[Piece]) -> list[Tensor]:
    """Views of a (P_r,) vector, one per piece."""
    return [flat[piece.span] for piece in pieces]


def _flat(tensor: Tensor | None) -> Tensor:
    """This rank's elements of a sharded tensor, without a copy."""
    assert isinstance(tensor, DTensor)
    with torch.no_grad():
        return tensor.to_local().view(-1)

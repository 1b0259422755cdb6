"""Parameters sharded over a TLP group by FSDP2: a rank holds some rows of each, and its masters.

A pass gathers a layer at a time and frees it again, so all ranks of the group make it at once. The
masters, AdamW's moments and the gradient are flat vectors over the rank's own rows, which the meta
step reads and writes as it does the arena; `publish` copies the masters into FSDP2's shards.
Public calls of FSDP2 only. R: ranks per TLP; P_r: elements of this rank's vectors; S: segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from metatlp.data.schedule import Part
from metatlp.engine.inner import InnerConfig, InnerState
from metatlp.engine.mesh import Mesh, total_norm
from metatlp.engine.parameters.fsdp_units import shard
from metatlp.engine.parameters.rows import Layout, lay_out, views
from metatlp.model.arena import Segment
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks import TASKS
from metatlp.tasks.task import model_inputs


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
        self.grad = torch.zeros_like(self.live)
        steps = torch.zeros(len(self.segments), device=self.live.device)
        self.state = InnerState(torch.zeros_like(self.live), torch.zeros_like(self.live), steps)
        self.failure: str | None = None

    def stepped(self, task: str) -> list[Segment]:
        if self.config.idle_heads == "momentum":
            return list(self.segments)
        return [segment for segment in self.segments if task in segment.tasks]

    def gradient(
        self, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> list[Tensor]:
        self.model.train()
        losses = self._passes(task, parts, seed)
        self.grad.zero_()
        self._take_gradients(self.grad)
        return losses

    def norm(self, task: str) -> Tensor:
        """() 2-norm of the gradient over the TLP group's shards, all of whose ranks take part."""
        spans = [segment.span for segment in self.stepped(task)]
        norms = torch.stack([torch.linalg.vector_norm(self.grad[span]) for span in spans])
        return total_norm(self.mesh, norms.double().square().sum()).float()

    def finite(self, task: str) -> bool:
        """Whether the gradient is finite. The host waits for it."""
        return bool(self.norm(task).isfinite())

    def step(self, task: str, lr: float) -> Tensor:
        clip, shrink = self.config.grad_clip, None
        if clip:
            # As torch.nn.utils.clip_grad_norm_, without a branch that would make the host wait.
            shrink = ((self.norm(task) + 1e-6) / clip).clamp(min=1.0)
        self._adamw(self.stepped(task), lr, shrink)
        self.publish()
        clipped = torch.zeros((), device=self.live.device)
        return clipped if shrink is None else (shrink > 1.0).float()

    def publish(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._shards(), views(self.live, self.pieces.own))

    def add_gradient(
        self, row: Tensor, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> None:
        self._passes(task, parts, seed)
        self._take_gradients(row)

    def _masters(self, layout: Layout) -> Tensor:
        """(P_r,) the parameters as they are."""
        shards = self._shards()
        for rows, piece in zip(shards, layout.pieces.own, strict=True):
            assert rows.dtype == torch.float32 and len(rows) == piece.end - piece.begin
        live = torch.zeros(layout.length, dtype=torch.float32, device=shards[0].device)
        torch._foreach_copy_(views(live, layout.pieces.own), shards)
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
            outputs = self.model(task, model_inputs(part.tensors))
            loss = part.weight * TASKS[task].loss(outputs, part.tensors)
            # Also if its weight is 0, for the other ranks wait for this one.
            loss.backward()
            losses.append(loss.detach())
        return losses

    def _take_gradients(self, into: Tensor) -> None:
        """Move FSDP2's gradients to (P_r,) `into`, added; a head that was not used has none."""
        found = [
            (into[piece.span], _flat(parameter.grad))
            for piece, parameter in zip(self.pieces.own, self._sharded, strict=True)
            if parameter.grad is not None
        ]
        spans, grads = map(list, zip(*found, strict=True))
        torch._foreach_add_(spans, grads)
        for parameter in self._sharded:
            parameter.grad = None

    def _adamw(self, segments: Sequence[Segment], lr: float, shrink: Tensor | None) -> None:
        """AdamW on the gradient divided by `shrink`, which costs no pass of its own."""
        spans = [segment.span for segment in segments]
        adamw(
            [self.live[span] for span in spans],
            [self.grad[span] for span in spans],
            [self.state.exp_avg[span] for span in spans],
            [self.state.exp_avg_sq[span] for span in spans],
            [],
            [self.state.steps[self.segments.index(segment)] for segment in segments],
            fused=True,
            grad_scale=shrink,
            amsgrad=False,
            maximize=False,
            lr=lr,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            eps=self.config.eps,
            weight_decay=self.config.weight_decay,
        )


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


def _flat(tensor: Tensor | None) -> Tensor:
    """This rank's elements of a sharded tensor, without a copy."""
    assert isinstance(tensor, DTensor)
    with torch.no_grad():
        return tensor.to_local().view(-1)

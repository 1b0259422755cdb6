"""Parameters that DeepSpeed shards over the ranks of a TLP group: ZeRO stages 1, 2 and 3.

DeepSpeed moves gradients and weights between the ranks; its float32 masters and AdamW's moments lie
in our flat vectors, one behind the other, and so the meta step works on them as on an arena.
Made by `zero_build.build_zero`. P_r: elements of this rank's vectors; R: ranks; S: segments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.adamw import adamw

from metatlp.data.parts import Part
from metatlp.engine.adamw import InnerConfig, InnerState
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters import deepspeed_internals
from metatlp.engine.parameters.deepspeed_internals import Master, Stage3, Stage12
from metatlp.engine.parameters.pieces import Piece, Pieces
from metatlp.model.arena import Segment
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks import TASKS
from metatlp.tasks.task import model_inputs


class SegmentAdamW(torch.optim.AdamW):
    """AdamW whose moments and step counts lie in an InnerState, and which steps some segments only.

    It has one parameter group per segment, whose tensors DeepSpeed replaces by its masters.
    """

    def __init__(self, groups: Sequence[Sequence[nn.Parameter]], config: InnerConfig):
        super().__init__(
            [{"params": list(group)} for group in groups],
            lr=0.0,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.lr = 0.0
        self.stepped: set[int] = set()
        self._shards: dict[Tensor, tuple[int, Tensor, Tensor]] = {}
        self._steps = torch.zeros(0)

    def keep_state_in(
        self, state: InnerState, masters: Sequence[Master], spans: Sequence[slice]
    ) -> None:
        """
        Args:
            spans: of the masters, in the vectors of `state`.
        """
        self._steps = state.steps
        self._shards = {
            master.tensor: (master.group, state.exp_avg[span], state.exp_avg_sq[span])
            for master, span in zip(masters, spans, strict=True)
        }

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Called by DeepSpeed, once for every master; those of idle segments stay as they are."""
        assert closure is None
        for group in self.param_groups:
            for master in group["params"]:
                if self._shards[master][0] in self.stepped:
                    self._update(master, group)

    def _update(self, master: Tensor, group: Mapping[str, Any]) -> None:
        number, exp_avg, exp_avg_sq = self._shards[master]
        assert master.grad is not None
        adamw(
            [master],
            [master.grad],
            [exp_avg],
            [exp_avg_sq],
            [],
            # A copy: a segment may have several masters, and takes one step with all of them.
            [self._steps[number].clone()],
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=self.lr,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )


class ZeroParameters:
    """Implements `protocol.Parameters` on a DeepSpeed engine."""

    replicated = False

    def __init__(
        self,
        engine: Any,
        internals: Stage12 | Stage3,
        optimizer: SegmentAdamW,
        mesh: Mesh,
        config: InnerConfig,
        live: Tensor,
        state: InnerState,
        segments: Sequence[Segment],
        pieces: Pieces,
    ):
        """
        Args:
            engine: of `deepspeed.initialize`, with `optimizer` as its client optimizer.
            live, state: what the masters and the moments are parts of.
            segments: in the order of the optimizer's groups.
        """
        self.engine, self.mesh = engine, mesh
        self.model: MultiTaskModel = engine.module
        self.device: torch.device = engine.device
        self.live, self.state = live, state  # maybe offloaded
        self.segments, self.pieces = tuple(segments), pieces
        # With stages 1 and 2 every rank has all working weights.
        self.lockstep = isinstance(internals, Stage3) and mesh.ranks_per_tlp > 1
        self.failure: str | None = None
        self.config = config
        self._internals, self._optimizer = internals, optimizer
        self._own = {piece.name: piece for piece in pieces.own}

    def stepped(self, task: str) -> list[Segment]:
        return self.config.stepped(task, self.segments)

    def gradient(
        self, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> list[Tensor]:
        assert parts, "the other ranks would wait for this one"
        self._internals.clear_gradients()
        self.model.train()
        losses = []
        for part in parts:
            self.engine.set_gradient_accumulation_boundary(part is parts[-1])
            torch.manual_seed(seed(part.index))
            outputs = self.engine(task, model_inputs(part.tensors))
            loss = part.weight * TASKS[task].loss(outputs, part.tensors)
            # DeepSpeed takes the mean over the ranks; the weights ask for a sum.
            self.engine.backward(loss * self.mesh.ranks_per_tlp, scale_wrt_gas=False)
            losses.append(loss.detach())
        return losses

    def finite(self, task: str) -> bool:
        """Not known before the step, which leaves the parameters alone if it is not, and says so in
        `failure`."""
        return True

    def step(self, task: str, lr: float) -> Tensor:
        numbers = [self.segments.index(segment) for segment in self.stepped(task)]
        self._optimizer.lr, self._optimizer.stepped = lr, set(numbers)
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm())
        if not math.isfinite(norm):
            # In float32 DeepSpeed leaves such a step out and says nothing.
            self.failure = self.failure or f"a gradient on {task} is not finite"
        elif self.engine.was_step_applied():
            self.state.steps[numbers] += 1
        clip = self.config.grad_clip
        clipped = bool(clip) and (norm + 1e-6) / clip > 1.0
        return torch.tensor(float(clipped), device=self.device)

    def publish(self) -> None:
        self._internals.publish()

    def add_gradient(
        self, row: Tensor, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> None:
        used = {name: p for name, (p, tasks) in self.model.named_uses().items() if task in tasks}
        for part in parts:
            torch.manual_seed(seed(part.index))
            # Not the engine's forward: it would count the pass as one of a step.
            outputs = self.model(task, model_inputs(part.tensors))
            loss = part.weight * TASKS[task].loss(outputs, part.tensors)
            grads = torch.autograd.grad(loss, list(used.values()), allow_unused=True)
            for name, grad in zip(used, grads, strict=True):
                if grad is not None:
                    self._add(row, self._own.get(name), grad)
        self._internals.settle()

    def close(self) -> None:
        deepspeed_internals.close(self.engine)

    def _add(self, row: Tensor, piece: Piece | None, grad: Tensor) -> None:
        """Add this rank's piece of a parameter's gradient, summed over the TLP group's ranks."""
        total = grad.float().flatten()
        if self.mesh.within is not None:
            dist.all_reduce(total, group=self.mesh.within)
        if piece is not None:
            row[piece.span] += total[piece.begin : piece.end].to(row.device)

"""The inner loop: k AdamW steps on the batches of one task-language pair (Algorithm 1, line 6).

Knows a model, its arena and a task; knows no rank and nothing of averaging.
P: elements of the arena; k: inner steps of an episode; S: segments of the arena.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from metatlp.engine.plan import Slot
from metatlp.model.arena import Arena, Segment
from metatlp.model.multitask import MultiTaskModel
from metatlp.seeds import derive_seed
from metatlp.tasks import TASKS
from metatlp.tasks.task import model_inputs


@dataclass(frozen=True)
class InnerConfig:
    """Hyperparameters of the inner loop.

    Attributes:
        beta1, beta2, eps, weight_decay: AdamW's (Loshchilov and Hutter, 2017).
        grad_clip: largest 2-norm of the gradient of the stepped segments; 0 turns clipping off.
        idle_heads: `still` leaves the heads of other tasks alone; `momentum` steps them with a zero
            gradient, as the published code does.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip: float = 5.0
    idle_heads: str = "still"


@dataclass
class InnerState:
    """AdamW's state, flat: exp_avg (P,), exp_avg_sq (P,), and steps (S,) taken per segment."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor

    @classmethod
    def zeros(cls, arena: Arena) -> InnerState:
        steps = torch.zeros(len(arena.segments), dtype=torch.float32, device=arena.live.device)
        return cls(torch.zeros_like(arena.live), torch.zeros_like(arena.live), steps)


@dataclass(frozen=True)
class SlotReport:
    """What one slot's inner loop did.

    Attributes:
        slot, tlp, episode: which slot of the queue.
        losses: mean loss (nats) of each of the k batches, before the step on it.
        clipped: share of the k steps whose gradient was clipped.
        tokens: real tokens (padding left out) of the k batches.
        examples: rows of the k batches.
        rank: the rank that held the slot.
    """

    slot: int
    tlp: str
    episode: int
    losses: list[float]
    clipped: float
    tokens: int
    examples: int
    rank: int

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


class InnerLoop:
    """Runs an episode's k steps in place on the arena."""

    def __init__(
        self,
        model: MultiTaskModel,
        arena: Arena,
        state: InnerState,
        config: InnerConfig,
        seed: int,
        autocast: Callable[[], AbstractContextManager],
        rank: int = 0,
    ):
        self.model, self.arena, self.state, self.config = model, arena, state, config
        self.seed, self.autocast, self.rank = seed, autocast, rank

    def stepped(self, task: str) -> list[Segment]:
        """The segments that a step on `task` moves."""
        if self.config.idle_heads == "momentum":
            return list(self.arena.segments)
        return self.arena.active(task)

    def run(
        self, slot: Slot, batches: Sequence[dict[str, Tensor]], lr: float, step: int
    ) -> SlotReport:
        """k AdamW steps from the arena's current parameters.

        Args:
            slot: place in the queue; with (seed, step) it fixes the dropout masks.
            batches: k batches on the arena's device.
            lr: learning rate of this meta step.
            step: meta step.
        """
        task = slot.tlp.task
        segments = self.stepped(task)
        losses, clips = [], []
        for j, batch in enumerate(batches):
            torch.manual_seed(derive_seed(self.seed, "dropout", step, slot.index, j))
            losses.append(self._gradient(task, batch, segments))
            shrink = self.shrink(segments)
            clips.append((shrink > 1.0).float())
            self.step(segments, lr, shrink)
        return SlotReport(
            slot=slot.index,
            tlp=str(slot.tlp),
            episode=slot.episode,
            losses=torch.stack(losses).tolist(),
            clipped=torch.stack(clips).mean().item(),
            tokens=int(sum(batch["attention_mask"].sum() for batch in batches)),
            examples=sum(len(batch["attention_mask"]) for batch in batches),
            rank=self.rank,
        )

    def _gradient(self, task: str, batch: dict[str, Tensor], segments: list[Segment]) -> Tensor:
        """Leave the gradient of the batch's loss in the arena; return the loss."""
        for segment in segments:
            self.arena.grad[segment.span].zero_()
        self.model.train()
        return backward(self.model, task, batch, self.autocast)

    def norm(self, segments: list[Segment]) -> Tensor:
        """2-norm of the gradient of these segments."""
        norms = [torch.linalg.vector_norm(self.arena.grad[segment.span]) for segment in segments]
        return torch.linalg.vector_norm(torch.stack(norms))

    def shrink(self, segments: list[Segment]) -> Tensor:
        """By what the gradient is to be divided for a 2-norm of `grad_clip` at most; 1 or more."""
        if not self.config.grad_clip:
            return torch.ones((), device=self.arena.grad.device)
        norm = self.norm(segments)
        # As torch.nn.utils.clip_grad_norm_, without a branch that would make the host wait.
        return ((norm + 1e-6) / self.config.grad_clip).clamp(min=1.0)

    def step(self, segments: Sequence[Segment], lr: float, shrink: Tensor) -> None:
        """AdamW on the gradient divided by `shrink`, which costs no pass of its own."""
        spans = [segment.span for segment in segments]
        index = [self.arena.segments.index(segment) for segment in segments]
        adamw(
            [self.arena.live[span] for span in spans],
            [self.arena.grad[span] for span in spans],
            [self.state.exp_avg[span] for span in spans],
            [self.state.exp_avg_sq[span] for span in spans],
            [],
            [self.state.steps[i] for i in index],
            fused=True,
            grad_scale=shrink if self.config.grad_clip else None,
            amsgrad=False,
            maximize=False,
            lr=lr,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            eps=self.config.eps,
            weight_decay=self.config.weight_decay,
        )


def backward(
    model: MultiTaskModel,
    task: str,
    batch: dict[str, Tensor],
    autocast: Callable[[], AbstractContextManager],
) -> Tensor:
    """Add the gradient of the batch's mean loss to the parameters' gradients; return the loss."""
    with autocast():
        outputs = model(task, model_inputs(batch))
    loss = TASKS[task].loss(outputs, batch)
    loss.backward()
    return loss.detach()

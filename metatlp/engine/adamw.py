"""AdamW on flat vectors: its settings, its state, and its step on some of their spans.

Knows no model, no rank and no slot. P: elements of a vector; S: segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from metatlp.model.arena import Segment


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

    def stepped(self, task: str, segments: Sequence[Segment]) -> list[Segment]:
        """The segments that a step on `task` moves."""
        if self.idle_heads == "momentum":
            return list(segments)
        return [segment for segment in segments if task in segment.tasks]

    def shrink(self, norm: Tensor) -> Tensor:
        """By what a gradient of this () norm is to be divided; 1 or more."""
        # As torch.nn.utils.clip_grad_norm_, without a branch that would make the host wait.
        return ((norm + 1e-6) / self.grad_clip).clamp(min=1.0)


@dataclass
class InnerState:
    """AdamW's state, flat: exp_avg (P,), exp_avg_sq (P,), and steps (S,) taken per segment."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor

    @classmethod
    def zeros(cls, live: Tensor, num_segments: int) -> InnerState:
        """Before the first step on a vector like `live`."""
        steps = torch.zeros(num_segments, dtype=torch.float32, device=live.device)
        return cls(torch.zeros_like(live), torch.zeros_like(live), steps)

    @classmethod
    def none(cls) -> InnerState:
        """Of parameters that are not stepped."""
        return cls(torch.empty(0), torch.empty(0), torch.empty(0))


def adamw_step(
    live: Tensor,
    grad: Tensor,
    state: InnerState,
    segments: Sequence[Segment],
    indices: Sequence[int],
    config: InnerConfig,
    lr: float,
    shrink: Tensor | None,
) -> None:
    """One step on these segments of (P,) `live` and of the state.

    Args:
        grad: (P,). shrink: () by what it is divided, which costs no pass of its own; None: by 1.
        indices: of the segments among all S.
    """
    spans = [segment.span for segment in segments]
    adamw(
        [live[span] for span in spans],
        [grad[span] for span in spans],
        [state.exp_avg[span] for span in spans],
        [state.exp_avg_sq[span] for span in spans],
        [],
        [state.steps[i] for i in indices],
        fused=True,
        grad_scale=shrink,
        amsgrad=False,
        maximize=False,
        lr=lr,
        beta1=config.beta1,
        beta2=config.beta2,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )

"""The published code's reward: the cosine of two successive steps of one fresh AdamW.

The first step is on a training TLP's gradient, the second, from where the first led to, on a dev
TLP's. So the second carries the momentum of the first, and the reward of orthogonal gradients of
one size is 0.60. Needs a dev pass for every pair: K n (1 + d) passes instead of K (n + d).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metatlp.engine.inner import InnerConfig, InnerLoop, InnerState
from metatlp.kernels import cosine_terms

Pass = Callable[[], None]


class AdamDelta:
    """Steps on the arena of an inner loop, and goes back to theta."""

    def __init__(self, inner_loop: InnerLoop, theta: Tensor, spans: Sequence[slice]):
        """
        Args:
            inner_loop: whose model and arena are used; its optimizer state is not touched.
            theta: (P,) where the arena stands.
            spans: the parts of the steps that are compared.
        """
        self.arena, self.theta, self.spans = inner_loop.arena, theta, spans
        self._inner = InnerLoop(
            inner_loop.model,
            self.arena,
            InnerState.zeros(self.arena),
            InnerConfig(grad_clip=0.0, weight_decay=0.0),
            inner_loop.seed,
            inner_loop.autocast,
        )

    def cosines(self, train_pass: Pass, dev_passes: Sequence[Pass], lr: float) -> list[Tensor]:
        """(3,) `cosine_terms` of the two steps for each of the dev passes; the norms are those of
        the train step and of the dev step.

        Args:
            train_pass, dev_passes: each adds its gradient, at the arena's parameters, to the
                arena's gradient.
            lr: of both steps.
        """
        arena, theta = self.arena, self.theta
        gradient = self._gradient(train_pass).clone()
        found = []
        for dev_pass in dev_passes:
            for part in (self._inner.state.exp_avg, self._inner.state.exp_avg_sq):
                part.zero_()
            self._inner.state.steps.zero_()
            arena.grad.copy_(gradient)
            self._step(lr)
            between = arena.live.clone()
            self._gradient(dev_pass)
            self._step(lr)
            first, second = between - theta, arena.live - between
            arena.live.copy_(theta)
            found.append(sum(cosine_terms(first[span], second[span]) for span in self.spans))
        return found

    def _gradient(self, add: Pass) -> Tensor:
        self.arena.grad.zero_()
        add()
        return self.arena.grad

    def _step(self, lr: float) -> None:
        # All segments: the published optimizer also moves heads whose gradient is zero.
        self._inner.step(self.arena.segments, lr, torch.ones((), device=self.theta.device))

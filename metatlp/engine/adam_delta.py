"""The published code's reward: the cosine of two successive steps of one fresh AdamW.

The first step is on a training TLP's gradient, the second, from where the first led to, on a dev
TLP's. So the second carries the momentum of the first, and the reward of orthogonal gradients of
one size is 0.60. Needs a dev pass for every pair: K n (1 + d) passes instead of K (n + d).
P_r: elements of this rank's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metatlp.engine.adamw import InnerConfig, InnerState, adamw_step
from metatlp.engine.parameters.protocol import Parameters
from metatlp.kernels import cosine_terms

Pass = Callable[[Tensor], None]

_CONFIG = InnerConfig(grad_clip=0.0, weight_decay=0.0)


class AdamDelta:
    """Steps the parameters of a placement, and goes back to theta."""

    def __init__(self, parameters: Parameters, theta: Tensor, spans: Sequence[slice]):
        """
        Args:
            parameters: at theta; their optimizer state is not touched.
            theta: (P_r,).
            spans: the parts of the steps that are compared.
        """
        self.parameters, self.theta, self.spans = parameters, theta, spans
        self._state = InnerState.zeros(theta, len(parameters.segments))
        # Gradients of the training TLP and of a dev TLP.
        self._train, self._dev = torch.empty_like(theta), torch.empty_like(theta)

    def cosines(self, train_pass: Pass, dev_passes: Sequence[Pass], lr: float) -> list[Tensor]:
        """(3,) `cosine_terms` of the two steps for each of the dev passes; the norms are those of
        the train step and of the dev step.

        Args:
            train_pass, dev_passes: each adds its gradient, at the current parameters, to a (P_r,)
                row.
            lr: of both steps.
        """
        live = self.parameters.live
        train_pass(self._train.zero_())
        found = []
        for dev_pass in dev_passes:
            self._forget()
            self._step(self._train, lr)
            between = live.clone()
            dev_pass(self._dev.zero_())
            self._step(self._dev, lr)
            second = torch.sub(live, between, out=self._dev)
            found.append(self._terms(between.sub_(self.theta), second))
            live.copy_(self.theta)
            self.parameters.publish()
        return found

    def _forget(self) -> None:
        for vector in (self._state.exp_avg, self._state.exp_avg_sq, self._state.steps):
            vector.zero_()

    def _step(self, gradient: Tensor, lr: float) -> None:
        # All segments: the published optimizer also moves heads whose gradient is zero.
        live, segments = self.parameters.live, self.parameters.segments
        indices = range(len(segments))
        adamw_step(live, gradient, self._state, segments, indices, _CONFIG, lr, None)
        self.parameters.publish()

    def _terms(self, first: Tensor, second: Tensor) -> Tensor:
        """The ranks of the TLP group take part."""
        terms = torch.zeros(3, device=self.theta.device)
        for span in self.spans:
            terms += cosine_terms(first[span], second[span])
        return terms if self.parameters.replicated else self.parameters.mesh.sum_within(terms)

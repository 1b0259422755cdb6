"""Memory and communication of a meta-training run, in bytes, activations left out.

Knows what the placements, the average and the scripts hold per parameter; holds nothing itself.
R: ranks per TLP.
"""

from __future__ import annotations

from dataclasses import dataclass

from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.averaging import AveragingConfig
from metatlp.engine.mesh import Mesh

_FLOAT32 = 4
_WIDTH = {"exact": 8, "fp32": 4, "bf16": 2}  # of an element in the all-reduce


@dataclass(frozen=True)
class Cost:
    """What one rank holds and sends.

    Attributes:
        num_parameters: of the model, P.
        config: says which vectors are averaged, and how.
        mesh: the TLP groups. num_parts: in which every batch is cut.
        rewards: what a sampler that learns has measured.
    """

    num_parameters: int
    config: AveragingConfig
    mesh: Mesh = Mesh()
    num_parts: int = 1
    rewards: RewardConfig | None = None

    @property
    def num_averaged(self) -> int:
        """Vectors of length P that are averaged: theta, and under `average` both moments."""
        return 3 if self.config.inner_state == "average" else 1

    def bytes_per_parameter(self) -> dict[str, float]:
        """Part -> bytes for each parameter.

        parameters: live, gradient, start, and theta_0, from which the distance is measured.
        moments: exp_avg and exp_avg_sq, with their starts where they are averaged.
        totals: the sum of differences of every averaged vector, int64 under `exact`; of a share of
            1/R.
        parts: the sum of the gradients of a batch's parts, int64 under `exact`, and zeros.
        momentum: the outer velocity, of a share. wire: the bfloat16 copy of one total that is sent.
        rewards: gradients of a training TLP and of D_dev, by halves, and int64 sums under `exact`;
            for adam-delta two gradients, the moments and a step of an AdamW. Only while rewards are
            measured.
        """
        total, shares = self._sum, self.mesh.ranks_per_tlp
        wire = _WIDTH["bf16"] if self.config.reduce == "bf16" and self.mesh.groups > 1 else 0
        parts = {
            "parameters": 4 * _FLOAT32,
            "moments": (2 + self.num_averaged - 1) * _FLOAT32,
            "totals": total * self.num_averaged / shares,
            "parts": total + _FLOAT32 if self.num_parts > 1 else 0,
            "momentum": _FLOAT32 / shares if self.config.momentum else 0,
            "wire": wire / shares,
            "rewards": self._rewards(),
        }
        return {name: width for name, width in parts.items() if width}

    def _rewards(self) -> int:
        if self.rewards is None:
            return 0
        if self.rewards.reward == "adam-delta":
            return 5 * _FLOAT32
        halves = 2 if self.rewards.halves else 1
        return halves * (2 * _FLOAT32 + (8 if self.config.reduce == "exact" else 0))

    @property
    def _sum(self) -> int:
        """Bytes of an element of a sum that need not depend on its order."""
        return 8 if self.config.reduce == "exact" else _FLOAT32

    def memory(self) -> dict[str, int]:
        """Part -> bytes per rank."""
        widths = self.bytes_per_parameter()
        return {part: int(width * self.num_parameters) for part, width in widths.items()}

    @property
    def reward_communication(self) -> int:
        """Bytes that each rank puts into the all-reduce of an update's rewards."""
        alone = self.mesh.groups * self.mesh.ranks_per_tlp == 1
        if alone or self.rewards is None or self.rewards.reward == "adam-delta":
            return 0
        return self._sum * (2 if self.rewards.halves else 1) * self.num_parameters

    @property
    def communication(self) -> int:
        """Bytes that each rank puts into the all-reduces across TLP groups of one meta step."""
        if self.mesh.groups == 1:
            return 0
        elements = self.num_averaged * self.num_parameters // self.mesh.ranks_per_tlp
        return _WIDTH[self.config.reduce] * elements

    @property
    def communication_within(self) -> int:
        """Bytes that each rank puts into the all-reduces inside its TLP group for one slot: the
        gradient of every inner step."""
        if self.mesh.ranks_per_tlp == 1:
            return 0
        return self._sum * self.config.inner_steps * self.num_parameters

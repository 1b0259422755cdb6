"""Memory and communication of the replicated strategy, in bytes, activations left out.

Knows what `replicated.py`, `arena.py` and the scripts hold per parameter; holds nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.replicated import AveragingConfig

_FLOAT32 = 4
_WIDTH = {"exact": 8, "fp32": 4, "bf16": 2}  # of an element in the all-reduce


@dataclass(frozen=True)
class Cost:
    """What one rank holds and sends.

    Attributes:
        num_parameters: of the model, P.
        config: says which vectors are averaged, and how.
        world: number of ranks; a single one sends nothing.
        rewards: what a sampler that learns has measured.
    """

    num_parameters: int
    config: AveragingConfig
    world: int = 1
    rewards: RewardConfig | None = None

    @property
    def num_averaged(self) -> int:
        """Vectors of length P that are averaged: theta, and under `average` both moments."""
        return 3 if self.config.inner_state == "average" else 1

    def bytes_per_parameter(self) -> dict[str, int]:
        """Part -> bytes for each parameter.

        parameters: live, gradient, start, and theta_0, from which the distance is measured.
        moments: exp_avg and exp_avg_sq, with their starts where they are averaged.
        totals: the sum of differences of every averaged vector, int64 under `exact`.
        momentum: the outer velocity. wire: the bfloat16 copy of one total that is sent.
        rewards: gradients of a training TLP and of D_dev, by halves, and int64 sums under `exact`;
            for adam-delta the moments and steps of an AdamW. Only while rewards are measured.
        """
        total = 8 if self.config.reduce == "exact" else _FLOAT32
        wire = _WIDTH["bf16"] if self.config.reduce == "bf16" and self.world > 1 else 0
        parts = {
            "parameters": 4 * _FLOAT32,
            "moments": (2 + self.num_averaged - 1) * _FLOAT32,
            "totals": total * self.num_averaged,
            "momentum": _FLOAT32 if self.config.momentum else 0,
            "wire": wire,
            "rewards": self._rewards(),
        }
        return {name: width for name, width in parts.items() if width}

    def _rewards(self) -> int:
        if self.rewards is None:
            return 0
        if self.rewards.reward == "adam-delta":
            return 6 * _FLOAT32
        halves = 2 if self.rewards.halves else 1
        return halves * (2 * _FLOAT32 + (8 if self.config.reduce == "exact" else 0))

    def memory(self) -> dict[str, int]:
        """Part -> bytes per rank."""
        return {k: width * self.num_parameters for k, width in self.bytes_per_parameter().items()}

    @property
    def reward_communication(self) -> int:
        """Bytes that each rank puts into the all-reduce of an update's rewards."""
        if self.world == 1 or self.rewards is None or self.rewards.reward == "adam-delta":
            return 0
        width = 8 if self.config.reduce == "exact" else _FLOAT32
        return width * (2 if self.rewards.halves else 1) * self.num_parameters

    @property
    def communication(self) -> int:
        """Bytes that each rank puts into the all-reduces of one meta step."""
        if self.world == 1:
            return 0
        return _WIDTH[self.config.reduce] * self.num_averaged * self.num_parameters

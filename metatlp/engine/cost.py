"""Memory and communication of a meta-training run, in bytes, activations left out.

Knows what the placements, the average and the scripts hold per parameter; holds nothing itself.
R: ranks per TLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
        placed: `replicated`, `zero1`, `zero2`, `zero3` or `fsdp2`.
        working: bytes of a working weight under DeepSpeed: 4, or 2 with bf16.
    """

    num_parameters: int
    config: AveragingConfig
    mesh: Mesh = Mesh()
    num_parts: int = 1
    rewards: RewardConfig | None = None
    placed: str = "replicated"
    working: int = _FLOAT32

    @property
    def _cut(self) -> int:
        """Over how many ranks the masters, the moments and what belongs to them are cut."""
        return 1 if self.placed == "replicated" else self.mesh.ranks_per_tlp

    @property
    def num_averaged(self) -> int:
        """Vectors of length P that are averaged: theta, and under `average` both moments."""
        return 3 if self.config.inner_state == "average" else 1

    def bytes_per_parameter(self) -> dict[str, float]:
        """Part -> bytes for each parameter of the whole model, on each rank.

        parameters: live, gradient, start, and theta_0, from which the distance is measured; under
            DeepSpeed and FSDP the working weights too.
        moments: exp_avg and exp_avg_sq, with their starts where they are averaged.
        totals: the sum of differences of every averaged vector, int64 under `exact`; of a share of
            1/R.
        parts: the sum of the gradients of a batch's parts, int64 under `exact`, and zeros.
        momentum: the outer velocity, of a share. wire: the bfloat16 copy of one total that is sent.
        rewards: gradients of a training TLP and of D_dev, by halves, and int64 sums under `exact`;
            for adam-delta two gradients, the moments and a step of an AdamW. Only while rewards are
            measured.
        """
        total, shares, cut = self._sum, self.mesh.ranks_per_tlp, self._cut
        summed = self.num_parts > 1 and self.placed == "replicated"
        wire = _WIDTH["bf16"] if self.config.reduce == "bf16" and self.mesh.groups > 1 else 0
        parts = {
            "parameters": self._parameters(),
            "moments": (2 + self.num_averaged - 1) * _FLOAT32 / cut,
            "totals": total * self.num_averaged / shares,
            "parts": total + _FLOAT32 if summed else 0,
            "momentum": _FLOAT32 / shares if self.config.momentum else 0,
            "wire": wire / shares,
            "rewards": self._rewards() / cut,
        }
        return {name: width for name, width in parts.items() if width}

    def _parameters(self) -> float:
        """Weights and gradients, masters, start and theta_0."""
        masters = 3 * _FLOAT32 / self._cut
        if self.placed == "fsdp2":
            # FSDP2's own rows and our gradient, both float32.
            return masters + 2 * _FLOAT32 / self._cut
        weights = {
            "replicated": _FLOAT32,  # the gradient; the weights are `live`
            "zero1": 2 * self.working + _FLOAT32 / self._cut,
            "zero2": self.working + _FLOAT32 / self._cut,
            "zero3": (self.working + _FLOAT32) / self._cut,
        }
        return masters + weights[self.placed]

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

    def as_json(self) -> dict[str, Any]:
        """cost.json: parameters, and bytes per rank."""
        return {
            "parameters": self.num_parameters,
            "memory": self.memory(),
            "communication": self.communication,
            "communication_within": self.communication_within,
            "reward_communication": self.reward_communication,
        }

    @property
    def reward_communication(self) -> int:
        """Bytes that each rank puts into the all-reduces of an update's rewards: across TLP groups,
        and where the parameters are replicated, within them too."""
        if self.rewards is None or self.rewards.reward == "adam-delta":
            return 0
        within = self.mesh.ranks_per_tlp > 1 and self.placed == "replicated"
        times = (self.mesh.groups > 1) + within
        halves = 2 if self.rewards.halves else 1
        return times * self._sum * halves * self.num_parameters // self._cut

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
        gradient of every inner step. 0 where DeepSpeed or FSDP moves gradients and weights."""
        if self.mesh.ranks_per_tlp == 1 or self.placed != "replicated":
            return 0
        return self._sum * self.config.inner_steps * self.num_parameters

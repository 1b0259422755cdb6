"""Probabilities that learn from rewards: MultiDDS (Wang, Tsvetkov and Neubig, 2020).

Knows rewards as plain numbers; knows neither what earns them nor how arms are drawn.

Shape legend: n arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

UPDATES = ("sum", "expected")
BASELINES = ("none", "mean", "ema")


@dataclass(frozen=True)
class MultiDDSConfig:
    """How psi is updated.

    Attributes:
        lr: step of gradient ascent on psi.
        update: `sum`, the paper's sum_i R_i grad log p_i (Algorithm 1, line 14), or `expected`,
            which weights each term by p_i: the gradient of the expected reward.
        floor: smallest probability of an arm: p = floor + (1 - n floor) softmax(psi).
        baseline: taken from every reward first: `none`, the `mean` of the update's rewards, or an
            `ema` of these means over the updates before. Under `expected` none changes anything.
        baseline_decay: of that average, 0 <= decay < 1.
        smoothing: decay of a moving average of each arm's reward, which then takes its place; 0 is
            none. Averages are corrected for their start at 0, as in Adam.
    """

    lr: float = 0.01
    update: str = "sum"
    floor: float = 0.0
    baseline: str = "none"
    baseline_decay: float = 0.9
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lr > 0 and np.isfinite(self.lr)):
            raise ValueError(f"lr must be > 0 and finite, not {self.lr}")
        choices = (("update", self.update, UPDATES), ("baseline", self.baseline, BASELINES))
        for name, chosen, allowed in choices:
            if chosen not in allowed:
                raise ValueError(f"{name} '{chosen}': choose from {', '.join(allowed)}")
        for name in ("baseline_decay", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 0 and below 1, not {getattr(self, name)}"
                )


class MultiDDS:
    """p = softmax(psi), and psi follows the rewards (paper, Algorithm 1, lines 13-15).

    With R the rewards less their baseline and s = softmax(psi), an update adds lr times
    R_j - s_j sum(R) (`sum`) or s_j (R_j - s . R) (`expected`) to psi_j; both leave sum(psi) as it
    is.
    """

    def __init__(self, initial: Sequence[float] | np.ndarray, config: MultiDDSConfig) -> None:
        """
        Args:
            initial: (n,) probabilities to start from, each > 0, sum 1; psi starts at their
                logarithm.

        Raises:
            ValueError: probabilities out of range, or a floor above 1/n.
        """
        start = np.array(initial, dtype=np.float64)
        if start.ndim != 1 or not len(start) or not np.all(start > 0):
            raise ValueError(f"the first probabilities must be one row of numbers > 0, not {start}")
        if not 0 <= config.floor * len(start) <= 1:
            raise ValueError(f"floor must be between 0 and 1/{len(start)}, not {config.floor}")
        self.config = config
        self._psi = np.log(start / start.sum())
        self._updates = 0
        self._rewards = np.zeros(len(start))  # moving averages, before correction
        self._baseline = 0.0

    @property
    def psi(self) -> np.ndarray:
        """(n,) logits, a copy."""
        return self._psi.copy()

    def probs(self) -> np.ndarray:
        """(n,) float64, sum 1, none below the floor."""
        floor = self.config.floor
        return floor + (1 - floor * len(self._psi)) * _softmax(self._psi)

    def update(self, rewards: Sequence[float] | np.ndarray) -> None:
        """One step of gradient ascent.

        Args:
            rewards: (n,) finite.

        Raises:
            ValueError: another number of rewards, or one that is not finite; psi stays as it was.
        """
        given = np.array(rewards, dtype=np.float64)
        if given.shape != self._psi.shape or not np.all(np.isfinite(given)):
            raise ValueError(f"needed {len(self._psi)} finite rewards, not {given}")
        config = self.config
        self._updates += 1
        smoothed = self._rewards = _averaged(self._rewards, given, config.smoothing)
        used = smoothed / (1 - config.smoothing**self._updates)
        used = used - self._next_baseline(used.mean())
        softmax = _softmax(self._psi)
        if config.update == "sum":
            step = used - softmax * used.sum()
        else:
            step = softmax * (used - softmax @ used)
        self._psi = self._psi + config.lr * step

    def _next_baseline(self, mean: float) -> float:
        """What is taken from the rewards, whose mean this is."""
        if self.config.baseline == "none":
            return 0.0
        if self.config.baseline == "mean":
            return mean
        decay, before = self.config.baseline_decay, self._updates - 1
        earlier = self._baseline / (1 - decay**before) if before else mean
        self._baseline = float(_averaged(self._baseline, mean, decay))
        return earlier

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; floats survive JSON bit for bit."""
        return {
            "name": "multidds",
            "config": asdict(self.config),
            "psi": self._psi.tolist(),
            "updates": self._updates,
            "rewards": self._rewards.tolist(),
            "baseline": self._baseline,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        Raises:
            ValueError: the state of something else, of another configuration or number of arms.
        """
        if set(state) != set(self.state_dict()):
            raise ValueError(f"not the state of a MultiDDS sampler: keys {sorted(state)}")
        if state["config"] != asdict(self.config):
            raise ValueError(f"saved with {state['config']}, this run has {asdict(self.config)}")
        if len(state["psi"]) != len(self._psi):
            raise ValueError(f"saved with {len(state['psi'])} arms, this run has {len(self._psi)}")
        self._psi = np.array(state["psi"], dtype=np.float64)
        self._updates = int(state["updates"])
        self._rewards = np.array(state["rewards"], dtype=np.float64)
        self._baseline = float(state["baseline"])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def _averaged(before: Any, value: Any, decay: float) -> Any:
    return decay * before + (1 - decay) * value

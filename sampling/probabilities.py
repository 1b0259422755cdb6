"""Probabilities over arms that do not change during a run: temperature, uniform, given weights.

Knows sizes and weights as plain numbers; knows neither where they come from nor how arms are drawn.

Shape legend: n arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Two machines may differ in the last bits of exp; another tau or another size differs by far more.
SAME_PROBS_ATOL = 1e-9


def temperature_probs(sizes: Sequence[float], tau: float) -> np.ndarray:
    """p_i = q_i^(1/tau) / sum_k q_k^(1/tau), q_i the share of arm i (paper, section 3.2.2).

    tau = 1 is proportional to size, tau = inf is uniform. Computed as softmax(log(size) / tau) with
    the largest logarithm subtracted first, so that no size and no tau overflows; arms far below the
    largest one get exactly 0 when tau is tiny.

    Args:
        sizes: (n,) examples (or batches) per arm, each > 0 and finite; integers of any length.
        tau: temperature, > 0; inf allowed.

    Returns:
        (n,) float64, sum 1.

    Raises:
        ValueError: no sizes, a size or tau out of range.
    """
    if not tau > 0:
        raise ValueError(f"tau must be > 0 (inf allowed), not {tau}")
    _require_arms(len(sizes))
    for arm, size in enumerate(sizes):
        if not 0 < size < math.inf:
            raise ValueError(f"size of arm {arm} must be > 0 and finite, not {size}")
    # math.log, because numpy has no logarithm of integers beyond 64 bits.
    logs = np.array([math.log(size) for size in sizes])
    # A tiny tau overflows to -inf here, whose exponential is the right limit, 0.
    with np.errstate(over="ignore"):
        scaled = (logs - logs.max()) / tau
    powers = np.exp(scaled)
    return powers / powers.sum()


def uniform_probs(num_arms: int) -> np.ndarray:
    """p_i = 1/n (paper, section 3.2.2, tau -> infinity). Returns (n,) float64."""
    _require_arms(num_arms)
    return np.full(num_arms, 1.0 / num_arms)


def weight_probs(weights: Sequence[float]) -> np.ndarray:
    """p_i = w_i / sum_k w_k for weights the user fixed.

    Args:
        weights: (n,) each >= 0 and finite, not all 0. An arm of weight 0 is never drawn.

    Returns:
        (n,) float64, sum 1.

    Raises:
        ValueError: no weights, one out of range, or all of them 0.
    """
    _require_arms(len(weights))
    for arm, weight in enumerate(weights):
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight of arm {arm} must be >= 0 and finite, not {weight}")
    largest = max(weights)
    if largest == 0:
        raise ValueError("all weights are 0: nothing can be drawn")
    # Dividing by the largest first keeps the sum of huge weights finite.
    scaled = np.array([weight / largest for weight in weights], dtype=np.float64)
    return scaled / scaled.sum()


class FixedProbabilities:
    """Probabilities that stay as they are. `name` is how messages call them."""

    def __init__(self, name: str, probs: np.ndarray) -> None:
        self.name = name
        self._probs = np.array(probs, dtype=np.float64)

    def probs(self) -> np.ndarray:
        """(n,) float64, a copy."""
        return self._probs.copy()

    def update(self, rewards: Sequence[float] | np.ndarray) -> None:
        """Always raises ValueError: there is nothing to learn here."""
        raise ValueError(
            f"the {self.name} sampler does not learn: its probabilities are fixed, "
            "so update() with rewards must not be called"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"name": self.name, "probs": self._probs.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the saved probabilities, bit for bit.

        Raises:
            ValueError: they are not the ones that this run was given (another tau, other sizes).
        """
        if set(state) != {"name", "probs"}:
            raise ValueError(f"not the state of fixed probabilities: keys {sorted(state)}")
        saved = np.array(state["probs"], dtype=np.float64)
        same_shape = saved.shape == self._probs.shape
        if not same_shape or not np.allclose(saved, self._probs, rtol=0, atol=SAME_PROBS_ATOL):
            raise ValueError(
                f"the saved probabilities ({state['name']}, {saved.size} arms) are not those of "
                f"this run ({self.name}, {self._probs.size} arms)"
            )
        self._probs = saved


def _require_arms(num_arms: int) -> None:
    if num_arms < 1:
        raise ValueError(f"need at least one arm, not {num_arms}")

"""A sampler: probabilities over arms joined with a rule that draws from them.

Knows nothing of how either works, so a sampler that learns (its probabilities change in `update`)
fits in the place of a fixed one.

Shape legend: n arms, m slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .draws import DrawRule, Multinomial, Systematic
from .probabilities import FixedProbabilities, temperature_probs, uniform_probs, weight_probs

SAMPLERS = ("temp", "uniform", "fixed")
DRAWS = ("multinomial", "systematic")


class Probabilities(Protocol):
    """What a sampler needs of its probabilities; `FixedProbabilities` is the plain case."""

    def probs(self) -> np.ndarray:
        """(n,) float64, sum 1, at this moment."""

    def update(self, rewards: Sequence[float] | np.ndarray) -> None:
        """Learn from one reward per arm, or raise ValueError."""

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


class Sampler:
    """Algorithm 1, line 4: sample m arms from the probabilities as they are now."""

    def __init__(self, probabilities: Probabilities, rule: DrawRule) -> None:
        self._probabilities = probabilities
        self._rule = rule

    def probs(self) -> np.ndarray:
        """(n,) float64."""
        return self._probabilities.probs()

    def draw(self, step: int, m: int) -> list[int]:
        """The m arms of meta step `step`; with systematic draws each step once, in order."""
        return self._rule.draw(step, self.probs(), m)

    def update(self, rewards: Sequence[float] | np.ndarray) -> None:
        """Algorithm 1, lines 14-15. Raises ValueError for a sampler that does not learn."""
        self._probabilities.update(rewards)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; floats survive JSON bit for bit."""
        return {
            "probabilities": self._probabilities.state_dict(),
            "draw": self._rule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for a state of another kind, seed, tau or number of arms."""
        if set(state) != {"probabilities", "draw"}:
            raise ValueError(f"not the state of a sampler: keys {sorted(state)}")
        self._probabilities.load_state_dict(state["probabilities"])
        self._rule.load_state_dict(state["draw"])


def build_sampler(
    kind: str,
    sizes: Sequence[float],
    *,
    seed: int,
    draw: str = "multinomial",
    tau: float | None = None,
    weights: Sequence[float] | None = None,
) -> Sampler:
    """A fixed sampler from its names.

    Args:
        kind: `temp` (needs tau), `uniform`, or `fixed` (needs weights).
        sizes: (n,) examples or batches per arm; their number is the number of arms.
        seed: 0..2^32-1.
        draw: `multinomial` (the paper) or `systematic`.
        tau: temperature, > 0 or inf; for `temp` only.
        weights: (n,) >= 0, not all 0; for `fixed` only.

    Raises:
        ValueError: an unknown name, or an argument that is missing or belongs to another kind.
    """
    probabilities = _fixed_probabilities(kind, sizes, tau, weights)
    if draw not in DRAWS:
        raise ValueError(f"draw rule '{draw}': choose from {', '.join(DRAWS)}")
    rule = Multinomial(seed) if draw == "multinomial" else Systematic(len(sizes), seed)
    return Sampler(probabilities, rule)


def _fixed_probabilities(
    kind: str, sizes: Sequence[float], tau: float | None, weights: Sequence[float] | None
) -> FixedProbabilities:
    if kind not in SAMPLERS:
        raise ValueError(f"sampler '{kind}': choose from {', '.join(SAMPLERS)}")
    for name, value, owner in (("tau", tau, "temp"), ("weights", weights, "fixed")):
        if value is not None and kind != owner:
            raise ValueError(f"{name} belongs to the sampler '{owner}', not to '{kind}'")
        if value is None and kind == owner:
            raise ValueError(f"the sampler '{kind}' needs {name}")
    if tau is not None:
        return FixedProbabilities(f"temperature (tau={tau:g})", temperature_probs(sizes, tau))
    if weights is not None:
        if len(weights) != len(sizes):
            raise ValueError(f"{len(weights)} weights for {len(sizes)} arms")
        return FixedProbabilities("weights", weight_probs(weights))
    return FixedProbabilities("uniform", uniform_probs(len(sizes)))

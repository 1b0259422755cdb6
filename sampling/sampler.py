"""A sampler: probabilities over arms joined with a rule that draws from them.

Knows nothing of how either works, so a sampler that learns (its probabilities change in `update`)
fits in the place of a fixed one. `SAMPLERS` lists the kinds: a new one is a class with the four
methods of `Probabilities` and a line there.

Shape legend: n arms, m slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .draws import DrawRule, Multinomial, Systematic
from .multidds import MultiDDS, MultiDDSConfig
from .probabilities import FixedProbabilities, temperature_probs, uniform_probs, weight_probs

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

    @property
    def psi(self) -> np.ndarray | None:
        """(n,) logits of a sampler that has them."""
        return getattr(self._probabilities, "psi", None)

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


def _temperature(sizes: Sequence[float], tau: float) -> Probabilities:
    return FixedProbabilities(f"temperature (tau={tau:g})", temperature_probs(sizes, tau))


def _uniform(sizes: Sequence[float]) -> Probabilities:
    return FixedProbabilities("uniform", uniform_probs(len(sizes)))


def _fixed(sizes: Sequence[float], weights: Sequence[float]) -> Probabilities:
    if len(weights) != len(sizes):
        raise ValueError(f"{len(weights)} weights for {len(sizes)} arms")
    return FixedProbabilities("weights", weight_probs(weights))


def _multidds(sizes: Sequence[float], multidds: MultiDDSConfig) -> Probabilities:
    return MultiDDS(temperature_probs(sizes, 1.0), multidds)


@dataclass(frozen=True)
class SamplerKind:
    """A name's meaning.

    Attributes:
        build: from the (n,) sizes and the options in `takes`, by name, to the probabilities at the
            start of a run.
        takes: options of build_sampler that it needs; the others must be left out.
        uses_sizes: whether the probabilities depend on the sizes, beyond their number.
        learns: whether the run measures rewards and hands them to `update`.
    """

    build: Callable[..., Probabilities]
    takes: tuple[str, ...] = ()
    uses_sizes: bool = False
    learns: bool = False


SAMPLERS: dict[str, SamplerKind] = {
    "temp": SamplerKind(_temperature, takes=("tau",), uses_sizes=True),
    "uniform": SamplerKind(_uniform),
    "fixed": SamplerKind(_fixed, takes=("weights",)),
    "multidds": SamplerKind(_multidds, takes=("multidds",), uses_sizes=True, learns=True),
}


def build_sampler(
    kind: str,
    sizes: Sequence[float],
    *,
    seed: int,
    draw: str = "multinomial",
    tau: float | None = None,
    weights: Sequence[float] | None = None,
    multidds: MultiDDSConfig | None = None,
) -> Sampler:
    """A sampler from its names.

    Args:
        kind: a key of SAMPLERS.
        sizes: (n,) examples or batches per arm; their number is the number of arms.
        seed: 0..2^32-1.
        draw: `multinomial` (the paper) or `systematic`.
        tau: temperature, > 0 or inf; for `temp` only.
        weights: (n,) >= 0, not all 0; for `fixed` only.
        multidds: how psi is updated; for `multidds` only. It starts at the shares of the sizes.

    Raises:
        ValueError: an unknown name, or an argument that is missing or belongs to another kind.
    """
    if kind not in SAMPLERS:
        raise ValueError(f"sampler '{kind}': choose from {', '.join(SAMPLERS)}")
    if draw not in DRAWS:
        raise ValueError(f"draw rule '{draw}': choose from {', '.join(DRAWS)}")
    takes = SAMPLERS[kind].takes
    options = {"tau": tau, "weights": weights, "multidds": multidds}
    for name, value in options.items():
        if value is not None and name not in takes:
            owners = ", ".join(repr(k) for k, other in SAMPLERS.items() if name in other.takes)
            raise ValueError(f"{name} belongs to the sampler {owners}, not to '{kind}'")
        if value is None and name in takes:
            raise ValueError(f"the sampler '{kind}' needs {name}")
    probabilities = SAMPLERS[kind].build(sizes, **{name: options[name] for name in takes})
    rule = Multinomial(seed) if draw == "multinomial" else Systematic(len(sizes), seed)
    return Sampler(probabilities, rule)

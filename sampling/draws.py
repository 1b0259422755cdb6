"""Rules that turn probabilities into a queue of m arms: independent draws, or balanced ones.

Knows probabilities and a seed; knows not where the probabilities come from, nor what an arm is. All
randomness comes from numpy's Generator.random alone, whose stream is stable, keyed by (seed, step).

Shape legend: n arms, m slots.
"""

from __future__ import annotations

import operator
from typing import Any, Protocol

import numpy as np

# SeedSequence joins its integers as 32-bit words: longer ones could collide with another key.
LARGEST_KEY = 2**32 - 1
SUM_ATOL = 1e-9


class DrawRule(Protocol):
    """What a sampler needs of a draw rule."""

    def draw(self, step: int, probs: np.ndarray, m: int) -> list[int]:
        """The m arms of meta step `step`."""

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; everything that the next draw depends on besides (seed, step, probs)."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


def multinomial_draw(seed: int, step: int, probs: np.ndarray, m: int) -> list[int]:
    """m independent draws from `probs` (paper, Algorithm 1, line 4).

    Inversion of the cumulative distribution at m uniform numbers from SeedSequence((seed, step)):
    a pure function of its arguments. The same uniforms serve every `probs`, so two runs that differ
    in tau alone differ in few slots.

    Args:
        seed: 0..2^32-1.
        step: meta step, 0..2^32-1.
        probs: (n,) >= 0, sum 1.
        m: slots, >= 1.

    Returns:
        m arms in 0..n-1. An arm of probability 0 is never among them.
    """
    _check_draw(step, probs, m)
    cumulative = np.cumsum(probs)
    uniforms = _generator(seed, step).random(m) * cumulative[-1]
    # side="right" steps over arms of probability 0; a product rounded up to the end of the
    # distribution goes to its last possible arm.
    arms = np.searchsorted(cumulative, uniforms, side="right")
    last_possible = int(np.flatnonzero(probs)[-1])
    return [min(int(arm), last_possible) for arm in arms]


class Multinomial:
    """`multinomial_draw` as a rule: no memory, any step in any order."""

    def __init__(self, seed: int) -> None:
        self.seed = _check_key("seed", seed)

    def draw(self, step: int, probs: np.ndarray, m: int) -> list[int]:
        return multinomial_draw(self.seed, step, probs, m)

    def state_dict(self) -> dict[str, Any]:
        return {"rule": "multinomial", "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, self.state_dict())


class Systematic:
    """Balanced draws: every arm's count follows its expectation (Tijdeman's chairman assignment).

    R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980). With n arms,
    release r = 1/(2n-2) and the lag of an arm = its expected number of draws, this slot included,
    minus its draws so far, each slot goes to the arm with lag >= r whose deadline
    (1 - r - lag_i) / p_i is nearest. Lags start at random numbers below r that sum to 0, which
    keeps the proof and breaks all ties by the seed. An arm past its deadline (possible only when
    probabilities change) goes first, the largest lag before the others.

    Bounds, after every slot, on (expected - count) of every arm:
    - probabilities constant: strictly between -1 and +1;
    - probabilities changing in any way: above -1 and below H_n = 1 + 1/2 + ... + 1/n. No rule that
      does not know the future stays below H_n - 1 (docs/decisions/0005-systematic-draws.md).
    """

    def __init__(self, num_arms: int, seed: int) -> None:
        if num_arms < 1:
            raise ValueError(f"need at least one arm, not {num_arms}")
        self.seed = _check_key("seed", seed)
        # One arm has no release by the formula; any value in (0, 1) does.
        self._release = 1 / (2 * num_arms - 2) if num_arms > 1 else 0.5
        self._start = _start_lags(seed, num_arms, self._release)
        self._next_step = 0
        self._expected = np.zeros(num_arms)
        self._counts = np.zeros(num_arms, dtype=np.int64)

    @property
    def expected(self) -> np.ndarray:
        """(n,) draws expected so far: the sum of the probabilities over all slots."""
        return self._expected.copy()

    @property
    def counts(self) -> np.ndarray:
        """(n,) draws so far."""
        return self._counts.copy()

    def draw(self, step: int, probs: np.ndarray, m: int) -> list[int]:
        """The m arms of `step`, in a random order that depends on (seed, step).

        Raises:
            ValueError: `step` is not the next one (the rule has a memory, so steps cannot be
                skipped or repeated), or probs of another length.
        """
        _check_draw(step, probs, m)
        if step != self._next_step:
            raise ValueError(
                f"systematic draws go step by step: the next one is {self._next_step}, "
                f"not {step}; restore the sampler's state to continue a run"
            )
        if len(probs) != len(self._counts):
            raise ValueError(f"{len(probs)} probabilities for {len(self._counts)} arms")
        arms = [self._assign(np.asarray(probs)) for _ in range(m)]
        self._next_step += 1
        order = np.argsort(_generator(self.seed, step, 1).random(m), kind="stable")
        return [arms[slot] for slot in order]

    def _assign(self, probs: np.ndarray) -> int:
        self._expected += probs
        arm = _most_urgent(self._start + self._expected - self._counts, probs, self._release)
        self._counts[arm] += 1
        return arm

    def state_dict(self) -> dict[str, Any]:
        return {
            "rule": "systematic",
            "seed": self.seed,
            "next_step": self._next_step,
            "expected": self._expected.tolist(),
            "counts": self._counts.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, self.state_dict())
        self._next_step = int(state["next_step"])
        self._expected = np.array(state["expected"], dtype=np.float64)
        self._counts = np.array(state["counts"], dtype=np.int64)


def _most_urgent(lags: np.ndarray, probs: np.ndarray, release: float) -> int:
    """Tijdeman's choice; the largest lag where an arm is overdue or nothing has a deadline."""
    latest = 1 - release
    rates = np.where((lags >= release) & (probs > 0), probs, 0.0)
    if lags.max() > latest or not rates.any():
        return int(np.argmax(lags))
    with np.errstate(divide="ignore", over="ignore"):
        return int(np.argmin((latest - lags) / rates))


def _start_lags(seed: int, num_arms: int, release: float) -> np.ndarray:
    """(n,) random numbers in (-release, release) with sum 0."""
    uniforms = _generator(seed, 0, 2).random(num_arms) - 0.5
    return (uniforms - uniforms.mean()) * release


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _check_key(name: str, value: int) -> int:
    value = operator.index(value)
    if not 0 <= value <= LARGEST_KEY:
        raise ValueError(f"{name} must be in 0..{LARGEST_KEY}, not {value}")
    return value


def _check_draw(step: int, probs: np.ndarray, m: int) -> None:
    _check_key("step", step)
    if m < 1:
        raise ValueError(f"the number of slots m must be >= 1, not {m}")
    probs = np.asarray(probs)
    if probs.ndim != 1 or not np.all(probs >= 0) or not abs(probs.sum() - 1) <= SUM_ATOL:
        raise ValueError(f"probabilities must be one row of numbers >= 0 with sum 1, not {probs}")


def _check_state(state: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse the state of another rule, another seed or another number of arms."""
    if set(state) != set(own):
        raise ValueError(f"a saved draw rule needs the keys {sorted(own)}, not {sorted(state)}")
    for key in ("rule", "seed"):
        if state[key] != own[key]:
            raise ValueError(f"saved with {key} {state[key]!r}, this run has {own[key]!r}")
    for key in {"expected", "counts"} & set(own):
        if len(state[key]) != len(own[key]):
            raise ValueError(f"saved with {len(state[key])} arms, this run has {len(own[key])}")

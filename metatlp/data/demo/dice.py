"""Random choices that are the same on every machine and Python version.

Only `random.Random(seed).random()` is used: its sequence is guaranteed by Python's documentation,
which that of `choice`, `sample` and `shuffle` is not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from metatlp.seeds import derive_seed

T = TypeVar("T")


class Dice:
    """A stream of choices for one purpose, e.g. `Dice(seed, "lexicon", "en")`."""

    def __init__(self, seed: int, *keys: int | str):
        self._random = random.Random(derive_seed(seed, *keys)).random

    def below(self, n: int) -> int:
        """Uniform in 0..n-1."""
        return int(self._random() * n)

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A new list in random order (Fisher and Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out

    def sample(self, items: Sequence[T], n: int) -> list[T]:
        """n different items, in random order."""
        if n > len(items):
            raise ValueError(f"{n} of {len(items)} items")
        return self.shuffled(items)[:n]

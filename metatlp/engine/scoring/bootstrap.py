"""How far a score would move with other test examples: the bootstrap over examples.

A resample draws as many examples as there are, with replacement; a metric of it is computed from
the examples' terms, weighted by how often each was drawn. Resamples are a function of the seed, so
two systems are compared on the same ones. Knows arrays; knows no task and no model.
N examples, L labels, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metatlp.tasks.metrics import value

_DRAWN_AT_ONCE = 2**20  # examples, so that memory does not grow with R


@dataclass(frozen=True)
class Sample:
    """A number, and what it is on R resamples of the examples.

    Attributes:
        value: a fraction, or a difference of two.
        resampled: (R,) float64.
    """

    value: float
    resampled: np.ndarray

    @classmethod
    def mean(cls, samples: Sequence[Sample]) -> Sample:
        """The mean of numbers on examples of their own."""
        return cls(
            math.fsum(sample.value for sample in samples) / len(samples),
            np.mean([sample.resampled for sample in samples], axis=0),
        )

    def __sub__(self, other: Sample) -> Sample:
        """Paired: both have to come from the same resamples."""
        return Sample(self.value - other.value, self.resampled - other.resampled)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The percentile interval (Efron and Tibshirani 1993, chapter 13).

        Args:
            confidence: above 0 and below 1, as 0.95.
        """
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.resampled, [tail, 1 - tail])
        return float(low), float(high)

    def p_value(self) -> float:
        """Of a difference, two-sided: 2 (1 + resamples at or beyond 0) / (R + 1), at most 1."""
        at_most = np.count_nonzero(self.resampled <= 0)
        at_least = np.count_nonzero(self.resampled >= 0)
        return min(1.0, 2 * (1 + min(at_most, at_least)) / (len(self.resampled) + 1))


def sampled(terms: Mapping[str, np.ndarray], num_resamples: int, seed: int) -> dict[str, Sample]:
    """Every metric, all of them on the same resamples.

    Args:
        terms: metric -> (N, L, 2) numerators and denominators, as from Task.terms.
        num_resamples: R.
    """
    flat = np.concatenate([part.reshape(len(part), -1) for part in terms.values()], axis=1)
    draws = drawn(len(flat), num_resamples, seed)
    sums = np.concatenate([weights @ flat for weights in draws])
    found, begin = {}, 0
    for name, part in terms.items():
        width = part[0].size
        of_metric = sums[:, begin : begin + width].reshape(-1, *part.shape[1:])
        found[name] = Sample(float(value(part.sum(axis=0))), value(of_metric))
        begin += width
    return found


def drawn(num_examples: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(some resamples, N) float64: how often each example was drawn; R rows in all."""
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // num_examples)
    for begin in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - begin)
        picked = random.integers(num_examples, size=(rows, num_examples))
        picked += num_examples * np.arange(rows)[:, None]
        counts = np.bincount(picked.ravel(), minlength=picked.size)
        yield counts.reshape(picked.shape).astype(np.float64)

"""Means over seeds, intervals over seeds and examples, and p-values of many comparisons.

The examples are resampled as in engine/scoring/bootstrap.py, the same resamples for all systems. A
few seeds are not resampled, because the mean of a resample never leaves their range, outside of
which the expectation of normal numbers lies in one case of four with n = 3. Instead a draw of
Student's t with n - 1 degrees of freedom, times sd / sqrt(n), is added to every resample of the
examples. Where these do not vary this is Student's interval; with one seed it is the bootstrap over
examples alone.

Knows numbers; knows no table. R resamples, n seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metatlp.engine.scoring.bootstrap import Sample
from metatlp.seeds import derive_seed

UNLIKE = -1  # stands for the seeds of numbers that do not have the same ones


@dataclass(frozen=True)
class Estimate:
    """A score or a difference: what the trained models have, and how sure that is.

    Attributes:
        by_seed: seed -> the number of its models, with what it is on R resamples of the examples.
        over_all: their mean; its resamples vary over seeds and examples.
        num_seeds: n; of a difference of unlike seeds the smaller number.
    """

    by_seed: Mapping[int, Sample]
    over_all: Sample
    num_seeds: int

    @classmethod
    def of(cls, by_seed: Mapping[int, Sample], name: str) -> Estimate:
        """Args: name: of the number, which decides the draws of t."""
        return cls(by_seed, over_seeds(list(by_seed.values()), name), len(by_seed))

    @property
    def value(self) -> float:
        return self.over_all.value

    @property
    def sd(self) -> float | None:
        """Over seeds, with n - 1; None with one seed, or for the difference of unlike seeds."""
        if len(self.by_seed) < 2:
            return None
        return statistics.stdev(sample.value for sample in self.by_seed.values())

    @property
    def varies(self) -> bool:
        """Whether it is known how the number would vary; not with one seed and no examples."""
        return bool(np.ptp(self.over_all.resampled) > 0) or self.num_seeds > 1

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Over seeds and examples; None if nothing is known of how it varies."""
        return self.over_all.interval(confidence) if self.varies else None

    def p_value(self) -> float | None:
        """Of a difference: other seeds and other examples. None as `interval`."""
        return self.over_all.p_value() if self.varies else None

    def p_value_of_models(self) -> float | None:
        """Of a difference: these models on other examples. None without examples."""
        fixed = self.of_models()
        return fixed.p_value() if np.ptp(fixed.resampled) > 0 else None

    def of_models(self) -> Sample:
        """The mean of the seeds, as uncertain as the examples alone make it."""
        return Sample.mean(list(self.by_seed.values()))


def over_seeds(samples: Sequence[Sample], name: str) -> Sample:
    """The mean of n seeds' numbers, as uncertain as n seeds and the examples make it.

    Args:
        samples: of each seed, on the same resamples of the examples.
        name: of the number; equal names get equal draws.
    """
    mean, n = Sample.mean(samples), len(samples)
    if n == 1:
        return mean
    sd = statistics.stdev(sample.value for sample in samples)
    random = np.random.default_rng(derive_seed(0, "seeds", name))
    drawn = random.standard_t(n - 1, size=len(mean.resampled))
    return Sample(mean.value, mean.resampled + sd / n**0.5 * drawn)


def difference(one: Estimate, other: Estimate, name: str) -> Estimate:
    """one - other: seed by seed where both have the same seeds, else mean by mean."""
    if one.by_seed.keys() == other.by_seed.keys():
        by_seed = {seed: one.by_seed[seed] - other.by_seed[seed] for seed in one.by_seed}
        return Estimate.of(by_seed, name)
    models = one.of_models() - other.of_models()
    sides = [
        over_seeds(list(side.by_seed.values()), f"{name} {place}")
        for place, side in enumerate((one, other))
    ]
    least = min(one.num_seeds, other.num_seeds)
    return Estimate({UNLIKE: models}, sides[0] - sides[1], least)


def mean_of(estimates: Sequence[Estimate], name: str) -> Estimate:
    """The mean of several columns: seed by seed where all have the same seeds."""
    seeds = estimates[0].by_seed.keys()
    if all(each.by_seed.keys() == seeds for each in estimates):
        by_seed = {seed: Sample.mean([each.by_seed[seed] for each in estimates]) for seed in seeds}
        return Estimate.of(by_seed, name)
    models = Sample.mean([each.of_models() for each in estimates])
    over_all = Sample.mean([each.over_all for each in estimates])
    return Estimate({UNLIKE: models}, over_all, min(each.num_seeds for each in estimates))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of comparisons (Holm 1979, "A simple sequentially rejective
    multiple test procedure"): with the p in rising order, max over i <= j of (m - i + 1) * p_i.

    Args:
        p_values: m of them, in any order.

    Returns:
        In their order; at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted

"""The bootstrap over examples: hand-worked numbers, scipy's, the normal approximation, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metatlp.engine.scoring import bootstrap
from metatlp.engine.scoring.bootstrap import Sample, drawn, sampled
from metatlp.tasks.metrics import value


def accuracy_terms(right: np.ndarray) -> np.ndarray:
    return np.stack([right, np.ones_like(right)], axis=-1)[:, None].astype(np.float64)


def accuracy(right: np.ndarray, num_resamples: int = 1000, seed: int = 0) -> Sample:
    return sampled({"accuracy": accuracy_terms(right)}, num_resamples, seed)["accuracy"]


def test_two_examples_by_hand():
    # One right, one wrong: a resample is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4.
    found = accuracy(np.array([1, 0]), 4000)
    assert found.value == 0.5 and set(found.resampled) == {0, 0.5, 1}
    shares = [np.mean(found.resampled == x) for x in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert found.interval(0.4) == (0.5, 0.5) and found.interval(0.95) == (0, 1)


def test_a_ratio_of_sums_is_not_a_mean_of_ratios():
    # Sentences of 1 and of 3 words, all right and all wrong: 1/4, and 0 or 1 in the extremes.
    terms = np.array([[[1, 1]], [[0, 3]]], dtype=np.float64)
    found = sampled({"accuracy": terms}, 500, 1)["accuracy"]
    assert found.value == 0.25 and set(found.resampled) == {0, 0.25, 1}


def test_every_resample_has_as_many_examples_and_pieces_do_not_matter(monkeypatch):
    whole = np.concatenate(list(drawn(50, 30, seed=3)))
    assert whole.shape == (30, 50) and (whole.sum(axis=1) == 50).all()
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", 70)
    pieces = list(drawn(50, 30, seed=3))
    assert len(pieces) == 30 and (np.concatenate(pieces) == whole).all()
    assert (np.concatenate(list(drawn(50, 30, seed=4))) != whole).any()


def test_metrics_share_the_resamples():
    random = np.random.default_rng(0)
    right = random.random(40) < 0.5
    labels = random.integers(5, size=(40, 3, 2)).astype(np.float64)
    both = sampled({"accuracy": accuracy_terms(right), "macro": labels}, 20, 7)
    weights = np.concatenate(list(drawn(40, 20, 7)))
    assert both["accuracy"].resampled == pytest.approx(weights @ right / 40, abs=1e-12)
    by_hand = [value(np.repeat(labels, w.astype(int), axis=0).sum(axis=0)) for w in weights]
    assert both["macro"].resampled == pytest.approx(by_hand, abs=1e-12)
    assert both["macro"].value == pytest.approx(float(value(labels.sum(axis=0))))


def test_the_interval_is_scipys():
    random = np.random.default_rng(5)
    lengths = random.integers(1, 30, size=150)
    right = random.binomial(lengths, 0.8)
    terms = np.stack([right, lengths], axis=-1)[:, None].astype(np.float64)
    found = sampled({"accuracy": terms}, 4000, 0)["accuracy"].interval(0.9)
    scipys = stats.bootstrap(
        (right, lengths),
        lambda r, n, axis: r.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        confidence_level=0.9,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    # The two draw differently; their ends scatter by some hundredths of the width.
    width = scipys.high - scipys.low
    assert found == pytest.approx((scipys.low, scipys.high), abs=0.08 * width)


def test_the_interval_is_the_normal_one_for_many_examples():
    right = np.arange(2000) < 1400
    low, high = accuracy(right, 4000).interval(0.95)
    half = 1.96 * math.sqrt(0.7 * 0.3 / 2000)
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.1 * half)


def test_it_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        low, high = accuracy(random.random(100) < 0.6, 300, seed=trial).interval(0.9)
        covered += low <= 0.6 <= high
    # 300 trials at .9 have a standard error of .017.
    assert 0.84 < covered / 300 < 0.95


def test_pairs_by_hand():
    right = np.array([1, 1, 0, 1, 0, 0, 1, 1])
    same = accuracy(right) - accuracy(right)
    assert same.value == 0 and not same.resampled.any()
    assert same.interval(0.95) == (0, 0) and same.p_value() == 1
    better = Sample(0.1, np.array([0.2, 0.1, 0.1, -0.1]))
    # One resample of four at or below 0: 2 (1 + 1) / 5.
    assert better.p_value() == pytest.approx(0.8)
    assert (Sample(0, np.zeros(4)) - better).p_value() == pytest.approx(0.8)
    assert Sample(0.1, np.full(99, 0.1)).p_value() == pytest.approx(0.02)


def test_a_paired_difference_is_narrower_than_one_of_strangers():
    random = np.random.default_rng(8)
    one = random.random(500) < 0.7
    # The other system is right in ten more cases, and as before in all the others.
    other = one.copy()
    other[np.flatnonzero(~one)[:10]] = True
    difference = accuracy(other) - accuracy(one)
    low, high = difference.interval(0.95)
    assert difference.value == pytest.approx(0.02) and 0 < low < 0.02 < high
    assert difference.p_value() < 0.01
    low, high = (accuracy(other, seed=1) - accuracy(one, seed=2)).interval(0.95)
    assert low < 0, "on resamples of their own ten cases of 500 are nothing"


def test_the_mean_of_two_independent_scores():
    one, two = np.arange(400) < 200, np.arange(400) < 240
    mean = Sample.mean([accuracy(one, 4000, seed=1), accuracy(two, 4000, seed=2)])
    assert mean.value == pytest.approx(0.55)
    error = math.sqrt(0.25 / 400 + 0.24 / 400) / 2
    assert np.std(mean.resampled) == pytest.approx(error, rel=0.05)

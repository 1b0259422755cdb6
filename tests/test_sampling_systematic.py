"""Systematic draws: counts stay within one of their expectation, and what holds when it changes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.grid import PAPER_SIZES
from metatlp.sampling import (
    Systematic,
    temperature_probs,
    uniform_probs,
    weight_probs,
)

SIZES = list(PAPER_SIZES.values())


def worst_lag(rule):
    return float(np.abs(rule.expected - rule.counts).max())


probabilities = (
    st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any).map(weight_probs)
)


@settings(max_examples=100, deadline=None)
@given(probabilities, st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_systematic_stays_within_one(probs, m, seed):
    rule = Systematic(len(probs), seed)
    for step in range(60):
        rule.draw(step, probs, m)
        assert worst_lag(rule) < 1


@settings(max_examples=50, deadline=None)
@given(probabilities, st.integers(0, 2**32 - 1))
def test_systematic_stays_within_one_after_every_slot(probs, seed):
    rule = Systematic(len(probs), seed)
    counts = np.zeros(len(probs))
    for step in range(400):
        (arm,) = rule.draw(step, probs, 1)
        counts[arm] += 1
        # The count and the expectation kept here, not the rule's own; 1e-9 for the product.
        assert np.abs(counts - (step + 1) * probs).max() < 1 + 1e-9


@pytest.mark.parametrize("tau", [1, 2, math.inf])
def test_systematic_long_run(tau):
    probs = temperature_probs(SIZES, tau)
    rule = Systematic(len(probs), seed=11)
    counts = np.zeros(len(probs), dtype=int)
    for step in range(5_000):
        counts += np.bincount(rule.draw(step, probs, 8), minlength=len(probs))
        assert np.abs(counts - 8 * (step + 1) * probs).max() < 1
    assert counts.sum() == 40_000


def harmonic(n):
    return sum(1 / k for k in range(1, n + 1))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_systematic_bounds_when_probabilities_change(data, num_arms, seed):
    weights = st.lists(st.integers(0, 9), min_size=num_arms, max_size=num_arms).filter(any)
    rule = Systematic(num_arms, seed)
    for step in range(data.draw(st.integers(1, 30))):
        rule.draw(step, weight_probs(data.draw(weights)), data.draw(st.integers(1, 9)))
        lag = rule.expected - rule.counts
        assert lag.min() > -1 and lag.max() < harmonic(num_arms)


def test_systematic_stays_within_one_while_learned_probabilities_drift():
    # What a learning sampler does: logits move a little each step. Seeded, 40,000 draws.
    rng = np.random.default_rng(0)
    logits = np.log(temperature_probs(SIZES, 2))
    rule = Systematic(len(logits), seed=1)
    for step in range(5000):
        rule.draw(step, weight_probs(np.exp(logits - logits.max()).tolist()), 8)
        assert worst_lag(rule) < 1
        logits = np.maximum(logits + 0.05 * rng.standard_normal(len(logits)), logits.max() - 6)


def test_the_largest_lag_of_those_overdue_goes_first():
    # Lags 1.4, 2.6 and -4 by hand. By deadline the first arm would go: (0.75 - 1.4) / 0.001 is
    # the smallest of all.
    rule = Systematic(3, seed=0)
    lags = {"expected": [11.4, 12.6, 6.0], "counts": [10, 10, 10]}
    rule.load_state_dict(rule.state_dict() | lags)
    assert rule.draw(0, np.array([0.001, 0.998, 0.001]), 1) == [1]


def test_no_rule_keeps_within_one_against_an_adversary():
    # Probability only on the arms not drawn yet: the last one waits 1/8 + 1/7 + ... + 1/2 > 1
    # whatever the rule draws. This is why changing probabilities have the wider bound.
    rule, left = Systematic(8, seed=0), set(range(8))
    for step in range(7):
        probs = weight_probs([float(arm in left) for arm in range(8)])
        left -= set(rule.draw(step, probs, 1))
    (last,) = left
    assert (rule.expected - rule.counts)[last] == pytest.approx(harmonic(8) - 1)
    assert harmonic(8) - 1 > 1


def test_systematic_seeds_give_different_orders():
    probs = weight_probs([1, 2, 3, 5, 8, 13])
    runs = set()
    multisets = set()
    for seed in range(20):
        rule = Systematic(len(probs), seed)
        draws = [tuple(rule.draw(step, probs, 4)) for step in range(10)]
        runs.add(tuple(draws))
        multisets.add(tuple(tuple(sorted(arms)) for arms in draws))
    assert len(runs) == 20
    # Not only the order within a step: which step an arm comes in differs too.
    assert len(multisets) > 1


def test_systematic_slot_order_is_random():
    # Two arms, two slots, one draw of each per step: which comes first is a fair coin.
    rule = Systematic(2, seed=4)
    first = [rule.draw(step, uniform_probs(2), 2)[0] for step in range(2000)]
    assert abs(np.mean(first) - 0.5) < 5 * math.sqrt(0.25 / 2000)


@pytest.mark.parametrize("step", [0, 2, 5])
def test_systematic_refuses_another_step(step):
    rule = Systematic(3, seed=0)
    rule.draw(0, uniform_probs(3), 2)
    with pytest.raises(ValueError, match=f"the next one is 1, not {step}"):
        rule.draw(step, uniform_probs(3), 2)
    rule.draw(1, uniform_probs(3), 2)

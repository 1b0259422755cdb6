"""MultiDDS: updates of psi by hand, their fixed points, their guards."""

import json
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from metatlp.sampling import MultiDDS, MultiDDSConfig

UNIFORM4 = [0.25] * 4


def learner(initial=UNIFORM4, **config) -> MultiDDS:
    return MultiDDS(initial, MultiDDSConfig(**config))


def literal(psi: list[float], rewards: list[float], lr: float, weighted: bool) -> list[float]:
    """Algorithm 1, lines 14-15, as two loops: the gradient of log p_i with respect to psi_j is
    [i = j] - p_j."""
    total = sum(math.exp(value) for value in psi)
    p = [math.exp(value) / total for value in psi]
    moved = list(psi)
    for i, reward in enumerate(rewards):
        for j in range(len(psi)):
            weight = p[i] if weighted else 1.0
            moved[j] += lr * weight * reward * ((i == j) - p[j])
    return moved


def test_one_update_by_hand():
    sampler = learner([0.5, 0.25, 0.25], lr=0.1)
    assert sampler.probs().tolist() == pytest.approx([0.5, 0.25, 0.25])
    sampler.update([0.8, 0.4, -0.2])
    # sum R = 1; R - p sum R = (0.3, 0.15, -0.45)
    expected = [math.log(0.5) + 0.03, math.log(0.25) + 0.015, math.log(0.25) - 0.045]
    assert sampler.psi == pytest.approx(expected, abs=1e-15)


def test_one_expected_update_by_hand():
    sampler = learner([0.5, 0.25, 0.25], lr=0.1, update="expected")
    sampler.update([0.8, 0.4, -0.2])
    # p . R = 0.45; p (R - 0.45) = (0.175, -0.0125, -0.1625)
    moved = sampler.psi - np.log([0.5, 0.25, 0.25])
    assert moved == pytest.approx([0.0175, -0.00125, -0.01625], abs=1e-15)


finite = st.floats(-1, 1)


@given(
    hnp.arrays(float, 5, elements=st.floats(0.01, 1)),
    st.lists(hnp.arrays(float, 5, elements=finite), min_size=1, max_size=5),
    st.floats(1e-3, 10),
    st.booleans(),
)
def test_agrees_with_the_literal_loops(initial, updates, lr, weighted):
    initial = initial / initial.sum()
    sampler = learner(initial, lr=lr, update="expected" if weighted else "sum")
    psi = list(sampler.psi)
    for rewards in updates:
        sampler.update(rewards)
        psi = literal(psi, list(rewards), lr, weighted)
    assert sampler.psi == pytest.approx(psi, abs=1e-12 * max(1, lr))
    # What is added sums to zero.
    assert sampler.psi.sum() == pytest.approx(np.log(initial).sum(), abs=1e-11 * max(1, lr))
    assert sampler.probs().sum() == pytest.approx(1)


def test_the_fixed_point_of_the_sum_is_in_proportion_to_the_rewards():
    rewards = np.array([0.4, 0.3, 0.2, 0.1])
    sampler = learner(lr=0.5)
    for _ in range(2000):
        sampler.update(rewards)
    assert sampler.probs() == pytest.approx(rewards / rewards.sum(), abs=1e-9)
    before = sampler.psi
    sampler.update(rewards)
    assert sampler.psi == pytest.approx(before, abs=1e-9)


def test_equal_rewards_lead_to_uniform():
    sampler = learner([0.7, 0.1, 0.1, 0.1], lr=0.5)
    for _ in range(2000):
        sampler.update([0.3] * 4)
    assert sampler.probs() == pytest.approx(UNIFORM4, abs=1e-9)


def test_expected_leads_to_the_arm_with_the_largest_reward():
    sampler = learner([0.1, 0.3, 0.3, 0.3], lr=1.0, update="expected")
    for _ in range(2000):
        sampler.update([0.5, 0.1, 0.1, 0.1])
    assert sampler.probs()[0] > 0.99
    floored = learner([0.1, 0.3, 0.3, 0.3], lr=1.0, update="expected", floor=0.05)
    for _ in range(2000):
        floored.update([0.5, 0.1, 0.1, 0.1])
    assert 0.05 <= floored.probs()[1:].min() < 0.06
    assert floored.probs().sum() == pytest.approx(1)


def test_baselines_by_hand():
    rewards = [0.8, 0.4, 0.0, 0.0]
    mean = learner(lr=1.0, baseline="mean")
    mean.update(rewards)
    assert mean.psi - math.log(0.25) == pytest.approx([0.5, 0.1, -0.3, -0.3])
    ema = learner(lr=1.0, baseline="ema", baseline_decay=0.5)
    ema.update(rewards)  # nothing came before: this update's own mean, 0.3
    assert ema.psi == pytest.approx(mean.psi)
    before, softmax = ema.psi, ema.probs()
    ema.update([1.0, 1.0, 1.0, 1.0])  # less 0.3
    assert ema.psi - before == pytest.approx(0.7 - softmax * 2.8)
    softmax, before = ema.probs(), ema.psi
    ema.update([1.0, 1.0, 1.0, 1.0])  # (0.25 * 0.3 + 0.5 * 1) / 0.75, the corrected average
    earlier = (0.25 * 0.3 + 0.5 * 1.0) / 0.75
    assert ema.psi - before == pytest.approx((1 - earlier) * (1 - softmax * 4))


@pytest.mark.parametrize("baseline", ["mean", "ema"])
def test_under_expected_a_baseline_changes_nothing(baseline):
    plain, based = (learner(update="expected", baseline=name) for name in ("none", baseline))
    for rewards in ([0.5, 0.1, -0.3, 0.0], [0.2, 0.4, 0.1, 0.3], [0.9, 0.0, 0.0, 0.1]):
        plain.update(rewards)
        based.update(rewards)
    assert based.psi == pytest.approx(plain.psi, abs=1e-15)


def test_smoothing_by_hand():
    smooth, plain = learner(lr=1.0, smoothing=0.5), learner(lr=1.0)
    smooth.update([1.0, 0.0, 0.0, 0.0])  # the first average is the reward itself
    plain.update([1.0, 0.0, 0.0, 0.0])
    assert smooth.psi == pytest.approx(plain.psi)
    smooth.update([0.0, 1.0, 0.0, 0.0])  # (1/3, 2/3): weights 0.25 and 0.5, over 0.75
    plain.update([1 / 3, 2 / 3, 0.0, 0.0])
    assert smooth.psi == pytest.approx(plain.psi)


@pytest.mark.parametrize("config", [{}, {"baseline": "ema", "smoothing": 0.7, "floor": 0.01}])
def test_a_state_goes_on_bit_for_bit(config):
    rewards = np.random.default_rng(0).uniform(-1, 1, (6, 4))
    whole, first = learner(**config), learner(**config)
    for row in rewards[:3]:
        whole.update(row)
        first.update(row)
    rest = learner([0.4, 0.3, 0.2, 0.1], **config)
    rest.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for row in rewards[3:]:
        whole.update(row)
        rest.update(row)
    assert np.array_equal(whole.psi, rest.psi)
    assert whole.state_dict() == rest.state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"lr": 1.0}}, "saved with"),
        ({"psi": [0.0]}, "saved with 1 arms, this run has 4"),
        ({"more": 1}, "not the state of a MultiDDS sampler"),
    ],
)
def test_another_state_is_refused(change, message):
    sampler = learner()
    with pytest.raises(ValueError, match=message):
        sampler.load_state_dict(sampler.state_dict() | change)


@pytest.mark.parametrize(
    "rewards", [[0.1, 0.2, 0.3], [0.1, math.nan, 0.0, 0.0], [math.inf, 0, 0, 0], 0.5]
)
def test_bad_rewards_leave_psi_alone(rewards):
    sampler = learner()
    before = sampler.state_dict()
    with pytest.raises(ValueError, match="needed 4 finite rewards"):
        sampler.update(rewards)
    assert sampler.state_dict() == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lr": 0.0}, "lr must be > 0"),
        ({"lr": math.nan}, "lr must be > 0"),
        ({"update": "max"}, "update 'max': choose from sum, expected"),
        ({"baseline": "median"}, "baseline 'median': choose from none, mean, ema"),
        ({"smoothing": 1.0}, "smoothing must be at least 0 and below 1"),
        ({"baseline_decay": -0.1}, "baseline_decay must be at least 0 and below 1"),
        ({"floor": 0.26}, "floor must be between 0 and 1/4"),
        ({"floor": math.nan}, "floor must be between 0 and 1/4"),
    ],
)
def test_bad_settings(config, message):
    with pytest.raises(ValueError, match=message):
        learner(**config)


@pytest.mark.parametrize("initial", [[], [0.5, 0.0, 0.5], [[0.5, 0.5]], [0.5, math.nan]])
def test_bad_first_probabilities(initial):
    with pytest.raises(ValueError, match="the first probabilities must be"):
        learner(initial)


def test_huge_logits_stay_finite():
    sampler = learner(lr=1e6)
    for _ in range(100):
        sampler.update([1.0, -1.0, 0.0, 0.0])
    assert np.isfinite(sampler.psi).all() and np.isfinite(sampler.probs()).all()


@pytest.mark.parametrize(
    ("rewards", "limit"),
    [
        # One that stays negative is forgotten; the others go to their share.
        ([0.3, 0.3, 0.3, -0.1], [1 / 3, 1 / 3, 1 / 3, 0]),
        # With a negative sum the likeliest takes all, although all rewards are alike.
        ([-0.1] * 4, [1, 0, 0, 0]),
    ],
)
def test_sum_with_negative_rewards_leads_to_the_rim(rewards, limit):
    sampler = learner([0.4, 0.3, 0.2, 0.1], lr=0.5)
    for _ in range(3000):
        sampler.update(rewards)
    assert sampler.probs() == pytest.approx(limit, abs=1e-3)

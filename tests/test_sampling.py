"""Probabilities and the paper's independent draws: closed forms, goodness of fit, purity."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatlp.grid import PAPER_SIZES
from metatlp.sampling import (
    Multinomial,
    Systematic,
    multinomial_draw,
    temperature_probs,
    uniform_probs,
    weight_probs,
)

SIZES = list(PAPER_SIZES.values())
TABLE_1 = {str(tlp): arm for arm, tlp in enumerate(PAPER_SIZES)}
# The 99.9 % point of the chi-square distribution with 23 degrees of freedom.
CHI2_23_999 = 49.728


@pytest.mark.parametrize(
    ("sizes", "tau", "expected"),
    [
        ([1, 4, 16], 1, [1 / 21, 4 / 21, 16 / 21]),
        ([1, 4, 16], 2, [1 / 7, 2 / 7, 4 / 7]),
        ([1, 32, 243], 5, [1 / 6, 2 / 6, 3 / 6]),
        ([1, 4, 16], math.inf, [1 / 3, 1 / 3, 1 / 3]),
        ([2, 6], 0.5, [4 / 40, 36 / 40]),
        ([7], 3, [1.0]),
    ],
)
def test_temperature_closed_forms(sizes, tau, expected):
    np.testing.assert_allclose(temperature_probs(sizes, tau), expected, rtol=1e-14)


def test_table_1_at_tau_1_is_the_share_of_examples():
    # 332,200 QA + 1,568,000 NLI + 247,000 PA + 236,800 POS + 105,000 NER.
    total = 2_489_000
    expected = [float(Fraction(size, total)) for size in SIZES]
    np.testing.assert_allclose(temperature_probs(SIZES, 1), expected, rtol=1e-13)


@pytest.mark.parametrize(
    # nli_en / ner_hi = 392,000 / 5,000 = 78.4; its square root and its fifth root.
    ("tau", "ratio"),
    [(1, 78.4), (2, 8.854377448), (5, 2.392562065), (math.inf, 1.0)],
)
def test_table_1_ratio_of_largest_to_smallest(tau, ratio):
    probs = temperature_probs(SIZES, tau)
    assert probs[TABLE_1["nli_en"]] / probs[TABLE_1["ner_hi"]] == pytest.approx(ratio, rel=1e-9)
    assert probs[TABLE_1["nli_en"]] == probs.max() and probs[TABLE_1["ner_hi"]] == probs.min()
    assert probs.sum() == pytest.approx(1.0, abs=1e-15)


def test_table_1_at_tau_2_by_the_formula():
    roots = [math.sqrt(size) for size in SIZES]
    expected = [root / math.fsum(roots) for root in roots]
    np.testing.assert_allclose(temperature_probs(SIZES, 2), expected, rtol=1e-13)


@pytest.mark.parametrize("tau", [5e-324, 1e-300, 1e-3, 1, 1e300, math.inf])
def test_temperature_is_finite_at_extremes(tau):
    probs = temperature_probs([5e-324, 1, 1.7e308, 10**400], tau)
    assert np.all(np.isfinite(probs)) and probs.sum() == pytest.approx(1.0)
    assert list(probs) == sorted(probs)


def test_temperature_limits():
    np.testing.assert_array_equal(temperature_probs([1, 2, 3, 3], 1e-300), [0, 0, 0.5, 0.5])
    np.testing.assert_array_equal(temperature_probs(SIZES, math.inf), uniform_probs(len(SIZES)))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=30), st.floats(0.1, 50))
def test_temperature_keeps_order_and_ignores_scale(sizes, tau):
    probs = temperature_probs(sizes, tau)
    assert np.all(np.diff(probs[np.argsort(sizes, kind="stable")]) >= 0)
    # Sums of up to 30 terms in another order of magnitude: rounding only.
    np.testing.assert_allclose(temperature_probs([7 * n for n in sizes], tau), probs, rtol=1e-9)


def test_weights():
    np.testing.assert_allclose(weight_probs([1, 0, 3]), [0.25, 0, 0.75])
    np.testing.assert_allclose(weight_probs([1e308, 1e308, 1e308, 1e308]), [0.25] * 4)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (temperature_probs, ([1, 2], 0), "tau must be > 0"),
        (temperature_probs, ([1, 2], -1), "tau must be > 0"),
        (temperature_probs, ([1, 2], math.nan), "tau must be > 0"),
        (temperature_probs, ([1, 0], 1), "size of arm 1"),
        (temperature_probs, ([math.inf, 1], 1), "size of arm 0"),
        (temperature_probs, ([math.nan], 1), "size of arm 0"),
        (temperature_probs, ([], 1), "at least one arm"),
        (uniform_probs, (0,), "at least one arm"),
        (weight_probs, ([1, -1],), "weight of arm 1"),
        (weight_probs, ([math.nan, 1],), "weight of arm 0"),
        (weight_probs, ([math.inf, 1],), "weight of arm 0"),
        (weight_probs, ([0, 0],), "all weights are 0"),
        (weight_probs, ([],), "at least one arm"),
    ],
)
def test_probabilities_refuse(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(*args)


def chi_square(arms, probs):
    expected = len(arms) * probs
    observed = np.bincount(arms, minlength=len(probs))
    return float(((observed - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("tau", [1, 2, 5, math.inf])
def test_multinomial_fits_its_own_tau_and_no_other(tau):
    probs = temperature_probs(SIZES, tau)
    arms = [arm for step in range(2500) for arm in multinomial_draw(3, step, probs, 8)]
    assert chi_square(arms, probs) < CHI2_23_999
    for other in {1, 2, 5, math.inf} - {tau}:
        assert chi_square(arms, temperature_probs(SIZES, other)) > 4 * CHI2_23_999


def test_multinomial_slots_are_independent():
    # Two slots of one step agree with probability sum p^2 = 1/4; 5 standard deviations allowed.
    probs = uniform_probs(4)
    pairs = [multinomial_draw(0, step, probs, 2) for step in range(8000)]
    share = np.mean([first == second for first, second in pairs])
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 8000)


def test_multinomial_is_a_pure_function():
    probs = temperature_probs(SIZES, 2)
    forward = [multinomial_draw(7, step, probs, 8) for step in range(50)]
    backward = [multinomial_draw(7, step, probs, 8) for step in reversed(range(50))]
    assert forward == backward[::-1]
    rule = Multinomial(7)
    np.random.default_rng().random(10)
    assert [rule.draw(step, probs, 8) for step in range(50)] == forward
    assert [multinomial_draw(8, step, probs, 8) for step in range(50)] != forward
    assert len({tuple(arms) for arms in forward}) > 40


def test_multinomial_recorded_draw():
    # Recorded once: a change here changes every run of every user.
    probs = temperature_probs(SIZES, 2)
    assert multinomial_draw(0, 0, probs, 8) == [10, 4, 0, 0, 16, 20, 9, 12]
    assert multinomial_draw(42, 1000, probs, 8) == [20, 3, 5, 21, 3, 8, 7, 9]


def test_zero_probability_is_never_drawn():
    probs = np.array([0, 0.5, 0, 0.5, 0])
    rule = Systematic(5, seed=1)
    for step in range(300):
        assert set(multinomial_draw(5, step, probs, 16)) <= {1, 3}
        assert set(rule.draw(step, probs, 16)) <= {1, 3}

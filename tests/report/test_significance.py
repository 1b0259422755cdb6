"""Statistics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from metatlp.engine.scoring.bootstrap import Sample, sampled
from metatlp.report.significance import Estimate, difference, holm, mean_of

R = 20_000


def known(value: float) -> Sample:
    """A number that does not vary with the examples."""
    return Sample(value, np.full(R, value))


def of_hits(*systems: list[float]) -> list[Sample]:
    """Scores of systems on the same examples, right or wrong."""
    terms = {
        str(i): np.stack([np.array(hits), np.ones(len(hits))], axis=-1)[:, None, :]
        for i, hits in enumerate(systems)
    }
    return list(sampled(terms, R, 0).values())


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # In rising order .01, .03, .04: 3 * .01; 2 * .03; the larger of that and 1 * .04.
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.2, 0.9, 0.4], [0.6, 0.9, 0.8]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_paired_bootstrap_of_two_examples():
    # One is right where the other is wrong: resamples differ by 0, 1/2, 1, with 1/4, 1/2, 1/4.
    one, other = of_hits([1, 0], [0, 0])
    less = difference(Estimate.of({0: one}, "a"), Estimate.of({0: other}, "b"), "a - b")
    assert less.value == 0.5 and less.interval(0.95) == (0, 1)
    assert less.p_value() == pytest.approx(2 * 0.25, abs=0.02)
    assert less.p_value_of_models() == less.p_value()


def test_the_examples_are_paired():
    # Each of them varies with the examples drawn, but never the one without the other.
    one, other = of_hits([1, 1, 0, 0], [1, 1, 0, 0])
    less = difference(Estimate.of({0: one}, "a"), Estimate.of({0: other}, "b"), "a - b")
    assert one.interval(0.95) == (0, 1) and np.ptp(less.over_all.resampled) == 0
    # With one seed and nothing that varies, nothing is known.
    assert less.interval(0.95) is None and less.p_value() is None


def test_seeds_alone_give_students_interval():
    # Mean .6, sd .1; t with 2 degrees of freedom leaves 2.5 % above 4.303: .6 -+ 4.303 * .1 / 3^.5.
    found = Estimate.of({seed: known(v) for seed, v in enumerate((0.5, 0.6, 0.7))}, "scores")
    assert found.value == pytest.approx(0.6) and found.sd == pytest.approx(0.1)
    low, high = found.interval(0.95)
    assert low == pytest.approx(0.6 - 0.2484, abs=0.02)
    assert high == pytest.approx(0.6 + 0.2484, abs=0.02)
    assert found.p_value_of_models() is None
    # .6 / (.1 / 3^.5) = 10.39; 2 P(t_2 > 10.39) = .0091.
    assert found.p_value() == pytest.approx(0.0091, abs=0.002)


def test_seeds_and_examples_together_are_less_sure_than_either():
    hits = [
        [1, 1, 1, 0, 1, 1, 0, 1] * 4,
        [1, 0, 1, 0, 1, 1, 0, 1] * 4,
        [1, 1, 1, 1, 1, 1, 0, 1] * 4,
    ]
    drawn = of_hits(*hits)
    both = Estimate.of(dict(enumerate(drawn)), "both")
    seeds = Estimate.of({i: known(s.value) for i, s in enumerate(drawn)}, "both")
    low, high = both.interval(0.95)
    for other in (seeds.interval(0.95), both.of_models().interval(0.95)):
        assert low < other[0] and other[1] < high


def test_equal_seeds_are_paired_and_unlike_ones_are_not():
    one = Estimate.of({0: known(0.5), 1: known(0.6), 2: known(0.7)}, "one")
    other = Estimate.of({0: known(0.4), 1: known(0.5), 2: known(0.6)}, "other")
    less = difference(one, other, "less")
    assert less.sd == pytest.approx(0) and less.interval(0.95) == pytest.approx((0.1, 0.1))
    unlike = Estimate.of({5: known(0.4), 6: known(0.6)}, "unlike")
    less = difference(one, unlike, "less")
    assert less.value == pytest.approx(0.1) and less.num_seeds == 2 and less.sd is None
    low, high = less.interval(0.95)
    # At least the interval of the two seeds alone: 12.71 * .1414 / 2^.5 = 1.27 to either side.
    assert low < 0.1 - 1.2 and high > 0.1 + 1.2


def test_the_mean_of_columns_is_taken_seed_by_seed():
    # The columns' errors cancel: .5 + .7, .6 + .6, .7 + .5.
    one = Estimate.of({0: known(0.5), 1: known(0.6), 2: known(0.7)}, "one")
    other = Estimate.of({0: known(0.7), 1: known(0.6), 2: known(0.5)}, "other")
    mean = mean_of([one, other], "mean")
    assert mean.value == pytest.approx(0.6) and mean.sd == pytest.approx(0, abs=1e-12)
    unlike = mean_of([one, Estimate.of({9: known(0.8)}, "single")], "mean")
    assert unlike.value == pytest.approx(0.7) and unlike.num_seeds == 1

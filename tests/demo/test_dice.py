"""Random choices: fixed for a seed, uniform, independent of how Python draws them."""

from collections import Counter
from itertools import permutations

import pytest

from metatlp.data.demo.dice import Dice


def test_the_sequence_is_fixed():
    # Whoever changes these numbers changes every demo grid.
    dice = Dice(0, "fixed", "en")
    assert [dice.below(1000) for _ in range(6)] == [436, 354, 709, 972, 886, 484]
    assert "".join(dice.shuffled("abcdef")) == "dbfaec"


def test_streams_of_other_seeds_and_keys_differ():
    draws = {
        tuple(dice.below(10**6) for _ in range(3))
        for dice in (Dice(0, "a"), Dice(1, "a"), Dice(0, "b"), Dice(0, "a", "b"))
    }
    assert len(draws) == 4


def test_choices_are_uniform():
    dice = Dice(3, "uniform")
    counts = Counter(dice.choice("abcdefg") for _ in range(7000))
    # 1000 each; the standard deviation is 29.
    assert set(counts) == set("abcdefg")
    assert all(abs(count - 1000) < 5 * 29 for count in counts.values())


def test_every_order_is_as_likely():
    dice = Dice(4, "orders")
    counts = Counter(tuple(dice.shuffled("abc")) for _ in range(6000))
    assert set(counts) == set(permutations("abc"))
    assert all(abs(count - 1000) < 5 * 29 for count in counts.values())


def test_a_sample_has_different_items():
    dice = Dice(5, "sample")
    assert sorted(dice.sample(range(9), 9)) == list(range(9))
    assert len(set(dice.sample(range(100), 50))) == 50
    with pytest.raises(ValueError, match="3 of 2 items"):
        dice.sample("ab", 3)

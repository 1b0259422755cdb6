"""What tells nothing of the label: the second text, the number of common words, the lengths."""

from collections import Counter, defaultdict

import pytest

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.events import agent, encounter
from metatlp.data.demo.inference import nli_pair
from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.oracle import Oracle
from metatlp.data.demo.paraphrase import pa_pair
from metatlp.data.demo.stock import THINGS

NUM_PAIRS = 2400


def words(text):
    return text.rstrip(".।").split()


def overlap(pair):
    one, other = set(words(pair.first)), set(words(pair.second))
    return round(len(one & other) / len(one | other), 1)


def covered(pair):
    one, other = set(words(pair.first)), set(words(pair.second))
    return round(len(one & other) / len(other), 1)


def second_shape(pair):
    """The second text's length and its short words, which are the function words."""
    found = words(pair.second)
    return len(found), frozenset(word for word in found if len(word) <= 3)


def lengths(pair):
    return len(words(pair.first)) - len(words(pair.second))


def best_guess(pairs, feature):
    """Accuracy on one half of the label that each value of the feature has most in the other."""
    half = len(pairs) // 2
    labels = defaultdict(Counter)
    for pair in pairs[:half]:
        labels[feature(pair)][pair.label] += 1
    guesses = {value: counts.most_common(1)[0][0] for value, counts in labels.items()}
    hits = [guesses.get(feature(pair), "") == pair.label for pair in pairs[half:]]
    return sum(hits) / len(hits)


# German and Hindi have cases, so that a swap of roles changes forms.
@pytest.mark.parametrize("code", ["en", "de", "hi"])
@pytest.mark.parametrize(
    ("task", "make", "chance"), [("nli", nli_pair, 1 / 3), ("pa", pa_pair, 1 / 2)]
)
def test_surface_features_do_not_tell_the_label(code, task, make, chance):
    lexicon, dice = build_lexicon(code, 0), Dice(2, "balance", task)
    pairs = dice.shuffled([make(lexicon, dice, turn) for turn in range(NUM_PAIRS)])
    for feature in (overlap, covered, second_shape, lengths):
        # The standard deviation of 1,200 guesses is 0.014.
        assert best_guess(pairs, feature) < chance + 0.09, feature.__name__


def test_either_role_can_act():
    dice = Dice(0, "roles")
    actors = {agent(dice).head for _ in range(4000)}
    for _ in range(1000):
        clause = encounter(dice)
        assert clause.subject.head != clause.object.head
        for phrase in (clause.subject, clause.object):
            assert phrase.is_name or phrase.head in actors and phrase.head not in THINGS


@pytest.mark.parametrize("make", [nli_pair, pa_pair])
def test_without_turns_labels_are_still_right(make):
    oracle, dice = Oracle(build_lexicon("es", 3)), Dice(3, "any label")
    pairs = [make(oracle.lexicon, dice) for _ in range(90)]
    task = "nli" if make is nli_pair else "pa"
    assert all(oracle.predict(task, pair) == pair for pair in pairs)
    assert max(Counter(pair.label for pair in pairs).values()) < 65

"""What tells nothing of the label: the second text, the number of common words, the lengths."""

from collections import Counter, defaultdict

import pytest

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.events import agent, encounter
from metatlp.data.demo.inference import nli_pair
from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.paraphrase import pa_pair
from metatlp.data.demo.roots import FUNCTION_POS
from metatlp.data.demo.stock import THINGS, UPOS
from metatlp.grid import PAPER_SIZES

NUM_PAIRS = 2400
GENERATORS = {"nli": nli_pair, "pa": pa_pair}
# How far above chance a guess may get, beside a standard deviation of 0.014 in 1,200 guesses. Of
# NLI the docs say 6.8 points for the overlap.
MARGINS = {"nli": 0.09, "pa": 0.05}
# In Chinese "no" is one character and a verb two, so a denial leaves more characters in common.
CHINESE = {"overlap": 0.13, "covered": 0.13}


def words(text, language):
    """Words, or characters where words are not written apart."""
    text = text.rstrip(".।。")
    return text.split() if language.spaces else list(text)


def overlap(first, second):
    one, other = set(first), set(second)
    return round(len(one & other) / len(one | other), 1)


def covered(first, second):
    return round(len(set(first) & set(second)) / len(set(second)), 1)


def lengths(first, second):
    return len(first) - len(second)


def best_guess(pairs, feature):
    """Accuracy on one half of the label that each value of the feature has most in the other."""
    half = len(pairs) // 2
    labels = defaultdict(Counter)
    for first, second, label in pairs[:half]:
        labels[feature(first, second)][label] += 1
    guesses = {value: counts.most_common(1)[0][0] for value, counts in labels.items()}
    hits = [
        guesses.get(feature(first, second), "") == label for first, second, label in pairs[half:]
    ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("tlp", [tlp for tlp in PAPER_SIZES if tlp.task in GENERATORS], ids=str)
def test_surface_features_do_not_tell_the_label(tlp):
    lexicon, dice = build_lexicon(tlp.lang, 0), Dice(2, "balance", tlp.task, tlp.lang)
    made = [GENERATORS[tlp.task](lexicon, dice, turn) for turn in range(NUM_PAIRS)]
    pairs = [
        (words(pair.first, lexicon.language), words(pair.second, lexicon.language), pair.label)
        for pair in dice.shuffled(made)
    ]
    function_words = frozenset(lexicon.form(word) for word in UPOS if UPOS[word] in FUNCTION_POS)
    chance = 1 / len({label for _, _, label in pairs})
    features = {
        "overlap": overlap,
        "covered": covered,
        "lengths": lengths,
        "second shape": lambda first, second: (len(second), function_words & set(second)),
    }
    for name, feature in features.items():
        margin = CHINESE.get(name, MARGINS["pa"]) if tlp.lang == "zh" else MARGINS[tlp.task]
        assert best_guess(pairs, feature) < chance + margin, name


def test_either_role_can_act():
    dice = Dice(0, "roles")
    actors = {agent(dice).head for _ in range(4000)}
    for _ in range(1000):
        clause = encounter(dice)
        assert clause.subject.head != clause.object.head
        for phrase in (clause.subject, clause.object):
            assert phrase.is_name or phrase.head in actors and phrase.head not in THINGS

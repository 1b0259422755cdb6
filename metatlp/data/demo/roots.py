"""Where words come from: roots coined once, inherited down the family tree, changed in sound.

Knows the tree and the stock of concepts; knows no script and no written word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import lineage
from metatlp.data.demo.scripts import CONSONANTS, VOWELS
from metatlp.data.demo.stock import ENDINGS, UPOS

# What a language may do to all its words: pattern and replacement.
SOUND_CHANGES = (
    (r"^p", "f"),
    (r"^t", "d"),
    (r"^k", "h"),
    (r"^b", "v"),
    (r"^s", "h"),
    (r"(?<=[aeiou])t(?=[aeiou])", "d"),
    (r"(?<=[aeiou])k(?=[aeiou])", "g"),
    (r"(?<=[aeiou])b(?=[aeiou])", "v"),
    (r"l(?=[aeiou])", "r"),
    (r"e$", "i"),
    (r"o$", "u"),
    (r"[nm]$", "n"),
    (r"[kg]$", "k"),
    (r"s$", "r"),
    (r"(?<=[aeiou][lrns])o", "a"),
)
FUNCTION_POS = ("DET", "ADP", "AUX", "PART", "CCONJ", "SCONJ", "PRON")


@dataclass(frozen=True)
class Root:
    """Where a word comes from: the branch that coined it, the concept, its sounds today."""

    origin: str
    concept: str
    sounds: str


def root_of(seed: int, code: str, concept: str, attempt: int = 0) -> Root:
    """The root as it came down the tree; later attempts coin it in the language itself."""
    origin, sounds = "", ""
    for name, branch in lineage(code):
        dice = Dice(seed, "root", name, concept)
        if not sounds or dice.chance(branch.replaced):
            origin, sounds = name, _coin(dice, concept)
        for pattern, to in Dice(seed, "changes", name).sample(SOUND_CHANGES, branch.num_changes):
            sounds = re.sub(pattern, to, sounds)
    if attempt:
        origin, sounds = code, _coin(Dice(seed, "root", code, concept, attempt), concept)
    return Root(origin, concept, sounds)


def _coin(dice: Dice, concept: str) -> str:
    """CV(C) for function words, V(C) for endings, CVCV(C) for the others."""
    if concept not in ENDINGS and UPOS[concept] not in FUNCTION_POS:
        return coin_word(dice)
    last = _coin_last(dice)
    first = "" if concept in ENDINGS else dice.choice(CONSONANTS)
    return first + dice.choice(VOWELS) + last


def coin_word(dice: Dice) -> str:
    last = _coin_last(dice)
    return "".join(dice.choice(CONSONANTS) + dice.choice(VOWELS) for _ in range(2)) + last


def _coin_last(dice: Dice) -> str:
    return dice.choice(CONSONANTS) if dice.chance(0.6) else ""

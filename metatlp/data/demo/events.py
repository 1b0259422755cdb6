"""Random clauses that make sense enough: who does what to whom, where and when.

Knows no language.
"""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.lexicon import NAMES_PER_KIND
from metatlp.data.demo.meaning import Clause, Phrase
from metatlp.data.demo.stock import (
    ADJECTIVES,
    CREATURES,
    NUMERALS,
    PEOPLE,
    PLACES,
    SYNONYM,
    THINGS,
    TIMES,
    VERBS,
)


def name(dice: Dice, *kinds: str) -> Phrase:
    """A name with a part of each kind, e.g. `first`, `last`."""
    return Phrase(" ".join(f"{kind}:{dice.below(NAMES_PER_KIND)}" for kind in kinds))


def noun_phrase(dice: Dice, nouns: tuple[str, ...], determiner: str = "the") -> Phrase:
    """A common noun, in a third of the cases with an adjective."""
    adjective = dice.choice(ADJECTIVES) if dice.chance(1 / 3) else ""
    return Phrase(dice.choice(nouns), determiner, adjective)


def counted(dice: Dice, nouns: tuple[str, ...]) -> Phrase:
    """Several of a kind: `three dogs`."""
    return Phrase(dice.choice(nouns), numeral=dice.choice(NUMERALS))


def agent(dice: Dice) -> Phrase:
    """Who can act: a named person, a person, or an animal."""
    draw = dice.below(4)
    if draw == 0:
        return noun_phrase(dice, CREATURES)
    if draw == 1:
        return noun_phrase(dice, PEOPLE)
    return name(dice, "first") if draw == 2 else name(dice, "first", "last")


def patient(dice: Dice) -> Phrase:
    """What something is done to: a thing or an animal."""
    return noun_phrase(dice, THINGS if dice.chance(0.6) else CREATURES)


def place(dice: Dice) -> Phrase:
    """A place of the stock or a named one."""
    return Phrase(dice.choice(PLACES), "the") if dice.chance(0.5) else name(dice, "place")


def event(dice: Dice, with_place: float = 0.6, with_time: float = 0.6) -> Clause:
    """A transitive clause; place and time with the given probabilities."""
    return Clause(
        subject=agent(dice),
        verb=dice.choice(VERBS),
        object=patient(dice),
        place=place(dice) if dice.chance(with_place) else None,
        time=dice.choice(TIMES) if dice.chance(with_time) else "",
    )


def encounter(dice: Dice) -> Clause:
    """An event between two who could both have been its agent, so that either order makes sense."""
    clause = event(dice)
    other = agent(dice)
    while other.head == clause.subject.head:
        other = agent(dice)
    return replace(clause, object=other)


def with_synonym(word: str, dice: Dice, probability: float) -> str:
    """The word, or with this probability its synonym if it has one."""
    return SYNONYM[word] if word in SYNONYM and dice.chance(probability) else word

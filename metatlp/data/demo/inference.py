"""NLI pairs: a hypothesis, a premise made from it, and what holds between them. Knows no file.

The hypothesis is drawn before the label is looked at, and so is the number of changes that lead
from it to the premise: neither the second sentence nor the amount of common words tells the label.
A change narrows or widens one part; what follows from what depends on the direction, and the
direction that keeps truth depends on whether the premise affirms or denies.
"""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo import events
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import CONTRADICTION, NEUTRAL, Clause, Phrase, relation
from metatlp.data.demo.stock import (
    ADJECTIVES,
    ANTONYM,
    CREATURES,
    HYPERNYM,
    NOUNS,
    PEOPLE,
    PLACES,
    THINGS,
    VERBS,
)
from metatlp.data.demo.wording import text_of, with_synonyms
from metatlp.data.records import TextPair
from metatlp.data.tsv import NLI_LABELS

NLI_TIMES = ("today", "often")  # without a tense of their own
QUALITIES = tuple(sorted(ANTONYM))
# Beside a quality: adjectives that neither say it again nor are its opposite.
NEUTRAL_ADJECTIVES = tuple(word for word in ADJECTIVES if word not in ANTONYM)
_TRIES = 12  # premises per hypothesis
_PARTS = ("subject", "subject", "object", "place", "time")
_HYPONYMS = {noun: tuple(other for other in NOUNS if HYPERNYM.get(other) == noun) for noun in NOUNS}


def nli_pair(lexicon: Lexicon, dice: Dice, turn: int) -> TextPair:
    """A premise, a hypothesis and their relation.

    Args:
        turn: the number of the pair in its split; the labels take turns.
    """
    wanted = NLI_LABELS[turn % 3]
    premise, hypothesis = statements(wanted, dice)
    first, second = (text_of(_worded(clause, dice), lexicon) for clause in (premise, hypothesis))
    return TextPair(first, second, wanted)


def statements(wanted: str, dice: Dice) -> tuple[Clause, Clause]:
    """Premise and hypothesis with the wanted relation."""
    while True:
        hypothesis = _statement(dice)
        changes = 1 + dice.below(3)
        for _ in range(_TRIES):
            premise = _premise(hypothesis, wanted, changes, dice)
            if premise != hypothesis and relation(premise, hypothesis) == wanted:
                return premise, hypothesis


def _worded(clause: Clause, dice: Dice) -> Clause:
    passive = clause.object is not None and dice.chance(0.15)
    return replace(with_synonyms(clause, dice, 0.25), passive=passive)


def _statement(dice: Dice) -> Clause:
    """Some, every, no or a named subject acts, or has a quality; half of the time it is denied."""
    has_quality = dice.chance(0.15)
    if dice.chance(0.4):
        subject = events.name(dice, "first")
    else:
        noun = dice.choice(CREATURES if dice.chance(0.5) else PEOPLE)
        adjectives = NEUTRAL_ADJECTIVES if has_quality else ADJECTIVES
        adjective = dice.choice(adjectives) if dice.chance(1 / 3) else ""
        subject = Phrase(noun, dice.choice(("some", "every", "no", "no")), adjective)
    negated = subject.is_name and dice.chance(0.5)
    if has_quality:
        return Clause(subject, "be", quality=dice.choice(QUALITIES), negated=negated)
    return Clause(
        subject,
        dice.choice(VERBS),
        events.noun_phrase(dice, THINGS if dice.chance(0.5) else CREATURES, "a"),
        Phrase(dice.choice(PLACES), "the") if dice.chance(0.5) else None,
        dice.choice(NLI_TIMES) if dice.chance(0.3) else "",
        negated=negated,
    )


def _premise(hypothesis: Clause, wanted: str, changes: int, dice: Dice) -> Clause:
    """A premise that often has the wanted relation to the hypothesis, by this many changes."""
    if hypothesis.quality and dice.chance(0.5):
        opposed = _opposed(hypothesis, wanted, dice)
        return _shifted(opposed, changes - 1, wanted, dice)
    turned = wanted == CONTRADICTION or (wanted == NEUTRAL and changes > 1 and dice.chance(0.75))
    premise = _turned(hypothesis, dice) if turned else hypothesis
    if not turned and hypothesis.subject.determiner == "some" and dice.chance(0.5):
        premise = _quantified(hypothesis, "every")
    return _shifted(premise, changes - (premise is not hypothesis), wanted, dice)


def _opposed(clause: Clause, wanted: str, dice: Dice) -> Clause:
    """The opposite quality: `every dog is old` against `some dog is new`, for `no dog is new`."""
    opposed = replace(clause, quality=ANTONYM[clause.quality])
    if wanted == NEUTRAL:
        return opposed
    if clause.subject.is_name:
        return replace(opposed, negated=False)
    return _quantified(opposed, "every")


def _turned(clause: Clause, dice: Dice) -> Clause:
    """Denied if it affirmed, affirmed if it denied."""
    if clause.subject.is_name:
        return replace(clause, negated=not clause.negated)
    # As often "every" as where "some" becomes "every" without turning.
    affirming = "every" if dice.chance(0.75) else "some"
    return _quantified(clause, affirming if clause.denies else "no")


def _quantified(clause: Clause, determiner: str) -> Clause:
    return replace(clause, subject=replace(clause.subject, determiner=determiner))


def _shifted(clause: Clause, changes: int, wanted: str, dice: Dice) -> Clause:
    """Parts narrowed where the clause affirms, widened where it denies; for neutral, one is not."""
    astray = dice.below(changes) if wanted == NEUTRAL and changes else -1
    for number in range(changes):
        if number == astray and dice.chance(0.5):
            clause = _elsewhere(clause, dice)
        else:
            clause = _moved(clause, clause.denies == (number == astray), dice)
    return clause


def _moved(clause: Clause, narrower: bool, dice: Dice) -> Clause:
    """One part narrower or wider; unchanged if the part drawn cannot be."""
    part = "subject" if clause.quality else dice.choice(_PARTS)
    if part == "subject":
        # "every A p" follows from a wider A.
        narrower ^= clause.subject.determiner == "every"
        adjectives = NEUTRAL_ADJECTIVES if clause.quality else ADJECTIVES
        return replace(clause, subject=_resized(clause.subject, narrower, adjectives, dice))
    if part == "object":
        assert clause.object is not None
        return replace(clause, object=_resized(clause.object, narrower, ADJECTIVES, dice))
    if narrower == bool(getattr(clause, part)):
        return clause
    if part == "place":
        place = Phrase(dice.choice(PLACES), "the") if narrower else None
        return replace(clause, place=place)
    return replace(clause, time=dice.choice(NLI_TIMES) if narrower else "")


def _resized(phrase: Phrase, narrower: bool, adjectives: tuple[str, ...], dice: Dice) -> Phrase:
    """A hyponym or one more adjective; or a hypernym, a name's kind, or no adjective."""
    if phrase.is_name:
        return phrase
    if dice.chance(0.5) and narrower != bool(phrase.adjective):
        return replace(phrase, adjective=dice.choice(adjectives) if narrower else "")
    above = (HYPERNYM[phrase.head],) if phrase.head in HYPERNYM else ()
    heads = _HYPONYMS[phrase.head] if narrower else above
    return replace(phrase, head=dice.choice(heads)) if heads else phrase


def _elsewhere(clause: Clause, dice: Dice) -> Clause:
    """Something else of the same kind: another verb, roles swapped, another object or place."""
    if clause.object is None:
        return replace(clause, quality=dice.choice(QUALITIES))
    draw = dice.below(4)
    if draw == 0:
        return replace(clause, verb=dice.choice(VERBS))
    if draw == 1 and not clause.subject.is_name and clause.object.head not in THINGS:
        return _swapped(clause, clause.object)
    if draw == 2 and clause.place:
        return replace(clause, place=Phrase(dice.choice(PLACES), "the"))
    group = THINGS if clause.object.head in THINGS else CREATURES
    return replace(clause, object=replace(clause.object, head=dice.choice(group)))


def _swapped(clause: Clause, other: Phrase) -> Clause:
    """Subject and object change places; determiners stay."""
    return replace(
        clause,
        subject=replace(other, determiner=clause.subject.determiner),
        object=replace(clause.subject, determiner=other.determiner),
    )

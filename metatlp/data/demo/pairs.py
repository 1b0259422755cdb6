"""NLI and PA pairs: two meanings, what holds between them, and their sentences. Knows no file.

Every kind of change occurs under several labels, so that neither the overlap of words nor a single
word gives the label away.
"""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo import events, grammar
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    Clause,
    Phrase,
    meaning,
    relation,
)
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
from metatlp.data.records import TextPair

NLI_TIMES = ("today", "often")  # without a tense of their own
QUALITIES = tuple(sorted(ANTONYM))


def nli_pair(lexicon: Lexicon, dice: Dice) -> TextPair:
    """A premise, a hypothesis and their relation; each label a third of the time."""
    wanted = dice.choice((ENTAILMENT, NEUTRAL, CONTRADICTION))
    while True:
        premise = _statement(dice)
        hypothesis = premise
        for _ in range(1 + dice.below(3)):
            hypothesis = _edited(hypothesis, dice)
        if meaning(premise) != meaning(hypothesis) and relation(premise, hypothesis) == wanted:
            break
    hypothesis = _reworded(hypothesis, dice)
    return TextPair(*(_text(clause, lexicon) for clause in (premise, hypothesis)), wanted)


def pa_pair(lexicon: Lexicon, dice: Dice) -> TextPair:
    """As in PAWS: both say nearly the same words; `1` if they mean the same.

    Half of either label have the second sentence passive and some synonyms; what is swapped or
    replaced in a `0` is the roles, the adjectives, or one word.
    """
    same = dice.chance(0.5)
    while True:
        first = replace(events.event(dice), passive=dice.chance(0.3))
        second = first if same else _changed(first, dice)
        second = replace(_with_synonyms(second, dice), passive=dice.chance(0.5))
        texts = [_text(clause, lexicon) for clause in (first, second)]
        if (meaning(first) == meaning(second)) == same and texts[0] != texts[1]:
            return TextPair(*texts, str(int(same)))


def _text(clause: Clause, lexicon: Lexicon) -> str:
    return grammar.sentence(grammar.realise(clause, lexicon), lexicon)


def _statement(dice: Dice) -> Clause:
    """A quantified or named subject that does something, or has a quality."""
    if dice.chance(0.4):
        subject = events.name(dice, "first")
    else:
        nouns = CREATURES if dice.chance(0.5) else PEOPLE
        subject = events.noun_phrase(dice, nouns, dice.choice(("some", "every", "no")))
    negated = subject.is_name and dice.chance(0.4)
    if dice.chance(0.25):
        return Clause(subject, "be", quality=dice.choice(QUALITIES), negated=negated)
    return Clause(
        subject,
        dice.choice(VERBS),
        events.noun_phrase(dice, THINGS if dice.chance(0.5) else CREATURES, "a"),
        Phrase(dice.choice(PLACES), "the") if dice.chance(0.5) else None,
        dice.choice(NLI_TIMES) if dice.chance(0.3) else "",
        negated=negated,
    )


def _edited(clause: Clause, dice: Dice) -> Clause:
    """One change of the meaning, of a kind drawn at random."""
    draw = dice.below(7)
    if draw == 0:
        return _requantified(clause, dice)
    if draw in (1, 2):
        return replace(clause, subject=_other_phrase(clause.subject, dice))
    if clause.object is None:
        qualities = (ANTONYM[clause.quality], dice.choice(QUALITIES))
        return replace(clause, quality=dice.choice(qualities))
    if draw == 3:
        return replace(clause, object=_other_phrase(clause.object, dice))
    if draw == 4:
        place = None if clause.place else Phrase(dice.choice(PLACES), "the")
        return replace(clause, place=place)
    if draw == 5:
        return _swapped(clause)
    return (
        replace(clause, verb=dice.choice(VERBS)) if dice.chance(0.4) else replace(clause, time="")
    )


def _requantified(clause: Clause, dice: Dice) -> Clause:
    if clause.subject.is_name:
        return replace(clause, negated=not clause.negated)
    others = [q for q in ("some", "every", "no") if q != clause.subject.determiner]
    return replace(clause, subject=replace(clause.subject, determiner=dice.choice(others)))


def _other_phrase(phrase: Phrase, dice: Dice) -> Phrase:
    """A hypernym, a hyponym, a name's kind, or an adjective more or less."""
    if phrase.is_name:
        return Phrase("person", "some") if dice.chance(0.7) else events.name(dice, "first")
    if dice.chance(0.5):
        adjective = "" if phrase.adjective else dice.choice(ADJECTIVES)
        return replace(phrase, adjective=adjective)
    above = [HYPERNYM[phrase.head]] if phrase.head in HYPERNYM else []
    below = [noun for noun in NOUNS if HYPERNYM.get(noun) == phrase.head]
    return replace(phrase, head=dice.choice([*above, *below]))


def _swapped(clause: Clause) -> Clause:
    """Subject and object change places; determiners stay."""
    one, other = clause.subject, clause.object
    if other is None or one.is_name or other.head in THINGS:
        return clause
    return replace(
        clause,
        subject=replace(other, determiner=one.determiner),
        object=replace(one, determiner=other.determiner),
    )


def _reworded(clause: Clause, dice: Dice) -> Clause:
    passive = clause.object is not None and not clause.negated and dice.chance(0.15)
    return replace(_with_synonyms(clause, dice, 0.2), passive=passive)


def _with_synonyms(clause: Clause, dice: Dice, probability: float = 0.4) -> Clause:
    def reworded(phrase: Phrase) -> Phrase:
        head = events.with_synonym(phrase.head, dice, probability)
        return replace(
            phrase,
            head=head,
            adjective=events.with_synonym(phrase.adjective, dice, probability),
        )

    return replace(
        clause,
        subject=reworded(clause.subject),
        verb=events.with_synonym(clause.verb, dice, probability),
        object=reworded(clause.object) if clause.object else None,
    )


def _changed(clause: Clause, dice: Dice) -> Clause:
    """A PAWS-like change: nearly the same words, another meaning."""
    assert clause.object is not None
    one, other = clause.subject, clause.object
    draw = dice.below(4)
    if draw < 2:
        return replace(clause, subject=other, object=one)
    if draw == 2 and not one.is_name:
        return replace(
            clause,
            subject=replace(one, adjective=other.adjective),
            object=replace(other, adjective=one.adjective),
        )
    if dice.chance(0.5):
        return replace(clause, verb=dice.choice(VERBS))
    nouns = THINGS if other.head in THINGS else CREATURES
    return replace(clause, object=replace(other, head=dice.choice(nouns)))

"""PA pairs as in PAWS: both sentences say nearly the same words, and mean the same or not.

The form of a pair is drawn before the label is looked at, and what a `0` changes leaves as many
words in common as what a `1` changes: either the voice changes, and in a `0` the roles or the
adjectives too; or one word changes to its synonym, in a `0` to a word for something else, or else
the time changes, or one sentence denies what the other says. Subject and object can both act, so
no sentence alone betrays a swap. Knows no file.
"""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo import events
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause, Phrase
from metatlp.data.demo.stock import ADJECTIVES, CREATURES, PEOPLE, SYNONYM, VERBS
from metatlp.data.demo.wording import text_of, with_synonyms
from metatlp.data.records import TextPair
from metatlp.data.tsv import PA_LABELS

_SYNONYM_SHARE = 0.3
# Words with a synonym, by the place in a clause that they can stand in.
_VERBS = tuple(word for word in VERBS if word in SYNONYM)
_NOUNS = tuple(word for word in (*CREATURES, *PEOPLE) if word in SYNONYM)
_TIMES = ("today", "often")  # without a tense of their own
_QUANTIFIERS = ("some", "no")  # each the denial of the other
_ADJECTIVES = tuple(word for word in ADJECTIVES if word in SYNONYM)


def pa_pair(lexicon: Lexicon, dice: Dice, turn: int) -> TextPair:
    """Two sentences and whether they mean the same.

    Args:
        turn: the number of the pair in its split; the labels take turns.
    """
    label = PA_LABELS[turn % 2]
    first = replace(events.encounter(dice), passive=dice.chance(0.5))
    form = dice.choice(FORMS)
    one, other = form(first, label == "1", dice)
    return TextPair(text_of(one, lexicon), text_of(other, lexicon), label)


def _roles(clause: Clause, same: bool, dice: Dice) -> tuple[Clause, Clause]:
    """In the other voice; who acts and who is acted on change places."""
    assert clause.object is not None
    other = clause if same else replace(clause, subject=clause.object, object=clause.subject)
    return _in_both_voices(clause, other, dice)


def _adjectives(clause: Clause, same: bool, dice: Dice) -> tuple[Clause, Clause]:
    """In the other voice; the adjectives of subject and object change places."""
    heads = dice.sample((*CREATURES, *PEOPLE), 2)
    one, two = dice.sample(ADJECTIVES, 2)
    clause = _with_arguments(clause, heads, (one, two))
    other = clause if same else _with_arguments(clause, heads, (two, one))
    return _in_both_voices(clause, other, dice)


def _times(clause: Clause, same: bool, dice: Dice) -> tuple[Clause, Clause]:
    """In the same voice; another word for what is done, or else another time."""
    concept = dice.choice(_VERBS)
    verbs, times = dice.shuffled((concept, SYNONYM[concept])), dice.shuffled(_TIMES)
    one = replace(clause, verb=verbs[0], time=times[0])
    return one, replace(one, verb=verbs[1]) if same else replace(one, time=times[1])


def _denials(clause: Clause, same: bool, dice: Dice) -> tuple[Clause, Clause]:
    """In the same voice; another word for what is done, or else one denies what the other says.

    By "some" and "no", of which each sentence has one: a "not" that only one of them has would be
    told by the lengths alone.
    """
    assert clause.object is not None
    concept = dice.choice(_VERBS)
    verbs, quantifiers = dice.shuffled((concept, SYNONYM[concept])), dice.shuffled(_QUANTIFIERS)
    nouns = [noun for noun in (*CREATURES, *PEOPLE) if noun != clause.object.head]
    subject = replace(events.noun_phrase(dice, tuple(nouns)), determiner=quantifiers[0])
    one = replace(clause, subject=subject, verb=verbs[0])
    denied = replace(one, subject=replace(subject, determiner=quantifiers[1]))
    return one, replace(one, verb=verbs[1]) if same else denied


def _one_word(clause: Clause, same: bool, dice: Dice) -> tuple[Clause, Clause]:
    """In the same voice; one word, and either word of a pair of synonyms is as frequent."""
    part, words = dice.choice((("verb", _VERBS), ("head", _NOUNS), ("adjective", _ADJECTIVES)))
    concept, other = dice.sample(words, 2)
    pair = dice.shuffled((concept, SYNONYM[concept]))
    if not same:
        pair[1] = dice.choice((other, SYNONYM[other]))
    if part == "verb":
        return replace(clause, verb=pair[0]), replace(clause, verb=pair[1])
    nouns = [noun for noun in (*CREATURES, *PEOPLE) if noun not in words]
    phrase = Phrase(dice.choice(nouns), "the")
    if part == "head":
        one, two = (replace(phrase, head=word) for word in pair)
    else:
        one, two = (replace(phrase, adjective=word) for word in pair)
    if dice.chance(0.5):
        return replace(clause, subject=one), replace(clause, subject=two)
    return replace(clause, object=one), replace(clause, object=two)


def _with_arguments(clause: Clause, heads: list[str], adjectives: tuple[str, str]) -> Clause:
    subject, object_ = (
        Phrase(head, "the", adjective) for head, adjective in zip(heads, adjectives, strict=True)
    )
    return replace(clause, subject=subject, object=object_)


def _in_both_voices(one: Clause, other: Clause, dice: Dice) -> tuple[Clause, Clause]:
    first = with_synonyms(one, dice, _SYNONYM_SHARE)
    second = with_synonyms(other, dice, _SYNONYM_SHARE)
    return first, replace(second, passive=not one.passive)


# Times and denials are there twice because they are what few examples teach: each is a matter of
# two words, seen in both sentences. So a run of a minute gets clearly above chance, while the
# overlap and either sentence alone say nothing.
FORMS = (_roles, _adjectives, _one_word, _times, _times, _denials, _denials)

"""Text of the artificial languages without labels: what the embedded encoder is pretrained on.

A story is said twice, in two wordings and two orders, so that what is masked in one telling can be
found in the other: that teaches the attention between segments which pairs and questions need.
Knows no tokenizer and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metatlp.data.demo import events
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import EXTERNAL, TRAINING
from metatlp.data.demo.lexicon import Lexicon, build_lexicon
from metatlp.data.demo.meaning import Clause
from metatlp.data.demo.stock import ANTONYM, CREATURES, PEOPLE, THINGS
from metatlp.data.demo.tagged import ner_sentence, pos_sentence
from metatlp.data.demo.wording import text_of, with_synonyms

_MAX_FACTS = 3  # clauses of a story
_SYNONYMS, _PASSIVES = 0.3, 0.3  # shares of words and of clauses
_QUANTIFIERS = ("some", "every", "no")


@dataclass(frozen=True)
class Corpus:
    """Unlabelled text.

    Attributes:
        stories: the two tellings of each.
        sentences: single ones of the tagging tasks, whose words a story lacks (numbers, adverbs).
    """

    stories: list[tuple[str, str]]
    sentences: list[str]


def build_corpus(
    seed: int, num_stories: int, training_share: float, num_sentences: int = 80
) -> Corpus:
    """The same text everywhere for the same arguments.

    Args:
        seed: of the languages and of the text.
        num_stories: in all languages together.
        training_share: of the stories in the training languages, 0 to 1; the others are in
            external ones, of which real multilingual encoders have seen text too.
        num_sentences: per language.
    """
    lexicons = {code: build_lexicon(code, seed) for code in (*TRAINING, *EXTERNAL)}
    dice = Dice(seed, "corpus")
    stories = []
    for _ in range(num_stories):
        pool = TRAINING if dice.chance(training_share) else EXTERNAL
        stories.append(_story(lexicons[dice.choice(tuple(pool))], dice))
    sentences = [
        " ".join(draw(lexicon, dice).words)
        for lexicon in lexicons.values()
        for draw in (pos_sentence, ner_sentence)
        for _ in range(num_sentences // 2)
    ]
    return Corpus(stories, sentences)


def _story(lexicon: Lexicon, dice: Dice) -> tuple[str, str]:
    """A few facts, and the same facts in other words and another order."""
    facts = [_fact(dice) for _ in range(1 + dice.below(_MAX_FACTS))]
    again = [with_synonyms(fact, dice, _SYNONYMS) for fact in dice.shuffled(facts)]
    return _told(facts, lexicon, dice), _told(again, lexicon, dice)


def _fact(dice: Dice) -> Clause:
    """An event; in a fifth of the cases of a quantified subject, or a quality."""
    draw = dice.below(20)
    if draw > 3:
        return events.event(dice, 0.5, 0.5)
    nouns = CREATURES if dice.chance(0.5) else PEOPLE
    subject = events.noun_phrase(dice, nouns, dice.choice(_QUANTIFIERS))
    if draw == 0:
        return Clause(subject, "be", quality=dice.choice(tuple(sorted(ANTONYM))))
    if draw == 1:
        subject = events.name(dice, "first")
    thing = events.noun_phrase(dice, THINGS if dice.chance(0.5) else CREATURES, "a")
    negated = subject.is_name and dice.chance(0.4)
    return replace(events.event(dice, 0.5, 0.0), subject=subject, object=thing, negated=negated)


def _told(facts: list[Clause], lexicon: Lexicon, dice: Dice) -> str:
    """The facts as a text, some of them in the passive."""
    clauses = [
        replace(fact, passive=bool(fact.object) and not fact.negated and dice.chance(_PASSIVES))
        for fact in facts
    ]
    space = " " if lexicon.language.spaces else ""
    return space.join(text_of(clause, lexicon) for clause in clauses)

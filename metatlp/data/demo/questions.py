"""QA: a few facts, and a question about one of them. Knows no file."""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo import events, grammar
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.grammar import Word
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause
from metatlp.data.demo.stock import VERBS
from metatlp.data.records import Answer, Question

FACTS = 4
PARTS = ("subject", "object", "place", "time")


def question(lexicon: Lexicon, dice: Dice) -> Question:
    """A context of facts that share verbs or places, and a question with one answer in it."""
    facts = _facts(dice)
    number = dice.below(FACTS)
    fact = facts[number]
    asked = dice.choice([part for part in PARTS if getattr(fact, part)])
    passive = [replace(f, passive=dice.chance(0.25)) for f in facts]
    context, start, answer = _context(passive, number, asked, lexicon)
    words = grammar.realise(replace(fact, passive=False), lexicon, asked)
    return Question(
        id="",
        question=grammar.sentence(words, lexicon, "?"),
        context=context,
        answers=(Answer(answer, start),),
    )


def _facts(dice: Dice) -> list[Clause]:
    """Facts that differ pairwise in at least two parts: so a question has one answer."""
    verbs = dice.sample(VERBS, FACTS - 1)
    facts: list[Clause] = []
    while len(facts) < FACTS:
        fact = replace(events.event(dice, 0.7, 0.7), verb=verbs[len(facts) % len(verbs)])
        if all(_clearly_differ(fact, other) for other in facts):
            facts.append(fact)
    return facts


def _clearly_differ(one: Clause, other: Clause) -> bool:
    return one.subject.head != other.subject.head and one.object != other.object


def _context(
    facts: list[Clause], number: int, asked: str, lexicon: Lexicon
) -> tuple[str, int, str]:
    """The text, and the answer's first character and text in it."""
    space = " " if lexicon.language.spaces else ""
    sentences = [grammar.realise(fact, lexicon) for fact in facts]
    texts = [grammar.sentence(words, lexicon) for words in sentences]
    words = sentences[number]
    first = next(i for i, word in enumerate(words) if word.part == asked)
    inside = [word for word in words if word.part == asked]
    before = _up_to(words, first, lexicon)
    start = sum(len(text) + len(space) for text in texts[:number]) + len(before)
    return space.join(texts), start, grammar.detokenise(inside, lexicon)


def _up_to(words: list[Word], first: int, lexicon: Lexicon) -> str:
    """What stands before the word with this number, the space included."""
    text = grammar.detokenise(words[:first], lexicon)
    return text + " " if text and lexicon.language.spaces else text

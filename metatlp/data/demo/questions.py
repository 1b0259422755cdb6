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


def question(lexicon: Lexicon, dice: Dice, turn: int) -> Question:
    """A context of facts that share verbs or places, and a question with one answer in it.

    Args:
        turn: the number of the question in its split; the part asked for takes turns where a fact
            has it.
    """
    facts = [replace(fact, passive=dice.chance(0.25)) for fact in _facts(dice)]
    wanted = PARTS[turn % len(PARTS)]
    chosen = [number for number, fact in enumerate(facts) if getattr(fact, wanted)]
    number, asked = (dice.choice(chosen), wanted) if chosen else (dice.below(FACTS), "subject")
    context, answer = _context(facts, number, asked, lexicon)
    words = grammar.realise(replace(facts[number], passive=False), lexicon, asked)
    return Question("", grammar.sentence(words, lexicon, "?"), context, (answer,))


def _facts(dice: Dice) -> list[Clause]:
    """Facts of which no two have the same subject or the same object: a question has one answer."""
    verbs = dice.sample(VERBS, FACTS - 1)
    facts: list[Clause] = []
    while len(facts) < FACTS:
        fact = replace(events.event(dice, 0.7, 0.7), verb=verbs[len(facts) % len(verbs)])
        if all(_clearly_differ(fact, other) for other in facts):
            facts.append(fact)
    return facts


def _clearly_differ(one: Clause, other: Clause) -> bool:
    return one.subject.head != other.subject.head and one.object != other.object


def _context(facts: list[Clause], number: int, asked: str, lexicon: Lexicon) -> tuple[str, Answer]:
    """The text, and the part asked for of the fact with this number."""
    space = " " if lexicon.language.spaces else ""
    sentences = [grammar.realise(fact, lexicon) for fact in facts]
    texts = [grammar.sentence(words, lexicon) for words in sentences]
    inside, start = span(sentences[number], asked, lexicon)
    before = sum(len(text) + len(space) for text in texts[:number])
    return space.join(texts), Answer(inside, before + start)


def span(words: list[Word], part: str, lexicon: Lexicon) -> tuple[str, int]:
    """The text of a part (without its adposition) and its first character in the sentence."""
    first = next(i for i, word in enumerate(words) if word.part == part)
    text = grammar.detokenise(words[:first], lexicon)
    start = len(text) + len(" " if text and lexicon.language.spaces else "")
    return grammar.detokenise([word for word in words if word.part == part], lexicon), start

"""Wrong labels on purpose (`--label-noise`). Knows the label sets, and no language."""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo.dice import Dice
from metatlp.data.records import Answer, Example, Question, TaggedSentence
from metatlp.data.tsv import LABELS


def with_noise(example: Example, task: str, share: float, dice: Dice) -> Example:
    """The example with another label, drawn uniformly from the others.

    For POS and NER every word's tag is wrong with this probability, for NLI and PA the pair's
    label; for QA the answer is some other stretch of the context.

    Args:
        share: probability of a wrong label, 0 to 1.
    """
    if isinstance(example, TaggedSentence):
        tags = (_other(tag, task, dice) if dice.chance(share) else tag for tag in example.tags)
        return replace(example, tags=tuple(tags))
    if not dice.chance(share):
        return example
    if isinstance(example, Question):
        return replace(example, answers=(_other_answer(example, dice),))
    return replace(example, label=_other(example.label, task, dice))


def _other(label: str, task: str, dice: Dice) -> str:
    return dice.choice([other for other in LABELS[task] if other != label])


def _other_answer(question: Question, dice: Dice) -> Answer:
    """A stretch of the context as long as the answer, elsewhere, with no space at its ends."""
    old, context = question.answers[0], question.context
    length = len(old.text)
    starts = [
        start
        for start in range(len(context) - length + 1)
        if start != old.start and not _has_space_at_ends(context[start : start + length])
    ]
    start = dice.choice(starts)
    return Answer(context[start : start + length], start)


def _has_space_at_ends(text: str) -> bool:
    return text != text.strip()

"""What a guess scores on a test split. Knows no model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from metatlp.data.demo.languages import LANGUAGES
from metatlp.data.records import Example, Question, TaggedSentence
from metatlp.grid import TLP
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import answer_scores, mlqa_tokens


def chance(tlp: TLP, examples: Sequence[Example]) -> float:
    """Percent of the task's metric.

    A random label for pairs; the split's most frequent tag for words, which finds no entity; for
    questions, the expectation over all spans of the context that are as long as the answer.
    """
    if tlp.task == "qa":
        return 100 * random_span_f1(tlp.lang, examples)
    if tlp.task == "pos":
        return 100 * majority_share(examples)
    if tlp.task == "ner":
        return 0.0
    return 100 / len(TASKS[tlp.task].labels)


def majority_share(examples: Sequence[Example]) -> float:
    """Share of the most frequent tag."""
    counts: Counter[str] = Counter()
    for example in examples:
        assert isinstance(example, TaggedSentence)
        counts.update(example.tags)
    return max(counts.values()) / counts.total()


def random_span_f1(lang: str, examples: Sequence[Example]) -> float:
    """Mean F1 by MLQA's rules of a span drawn uniformly.

    Lengths are in words where the language writes them apart, else in characters.
    """
    unit = r"\S+" if LANGUAGES[lang].spaces else r"\S"
    normalise = mlqa_tokens(lang)
    total = 0.0
    for question in examples:
        assert isinstance(question, Question)
        gold = [answer.text for answer in question.answers]
        units = list(re.finditer(unit, question.context))
        length = len(re.findall(unit, gold[0]))
        spans = [
            question.context[first.start() : last.end()]
            for first, last in zip(units, units[length - 1 :], strict=False)
        ]
        total += sum(answer_scores(s, gold, normalise)[0] for s in spans) / len(spans)
    return total / len(examples)

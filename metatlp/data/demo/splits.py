"""How many examples a split has, and which: no sentence in two splits, no example twice.

Knows the generators of the tasks; knows no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

from metatlp.data.demo import scripts
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.inference import nli_pair
from metatlp.data.demo.languages import TRAINING
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.paraphrase import pa_pair
from metatlp.data.demo.questions import question
from metatlp.data.demo.tagged import ner_sentence, pos_sentence
from metatlp.data.records import Example, Question, TaggedSentence, TextPair
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TLP

EVALUATION_SIZE = 5_000  # of dev and of test, before scaling
MAX_TRIES = 200  # draws for one example before its split is said to be exhausted
_END = re.compile(f"[.{''.join(scripts.FULL_STOP.values())}] *")  # of a sentence
GENERATORS: dict[str, Callable[[Lexicon, Dice, int], Example]] = {
    "pos": pos_sentence,
    "ner": ner_sentence,
    "nli": nli_pair,
    "pa": pa_pair,
    "qa": question,
}


def split_sizes(tlp: TLP, scale: float) -> dict[str, int]:
    """Split -> number of examples; empty where the paper's grid has a hole.

    Table 1's size (5,000 for dev and test) times the scale, rounded up, at least 1. The evaluation
    splits come first, so that they are drawn freely and the larger training split keeps clear.
    """
    if tlp.lang in TRAINING and tlp not in PAPER_SIZES:
        return {}
    sizes = {"dev": EVALUATION_SIZE, "test": EVALUATION_SIZE}
    if tlp in PAPER_SIZES:
        sizes["train"] = PAPER_SIZES[tlp]
    # Rounded first: 0.0102 * 5000 is a little more than 51.
    return {split: max(1, math.ceil(round(size * scale, 6))) for split, size in sizes.items()}


def build_splits(
    lexicon: Lexicon, task: str, sizes: dict[str, int], seed: int
) -> dict[str, list[Example]]:
    """The examples of every split.

    Args:
        sizes: as from `split_sizes`; splits are drawn in this order.
        seed: of the demo; the stream of choices is its own for each task and language.

    Raises:
        InputError: the task has not enough different sentences for such sizes.
    """
    dice = Dice(seed, "examples", task, lexicon.language.code)
    home: dict[str, str] = {}  # sentence -> its split
    return {split: _split(split, size, home, lexicon, task, dice) for split, size in sizes.items()}


def sentences_of(example: Example) -> list[str]:
    """What must not be in two splits: the sentence, both texts, or every fact of a context."""
    if isinstance(example, TaggedSentence):
        return [" ".join(example.words)]
    if isinstance(example, TextPair):
        return [example.first, example.second]
    return [fact for fact in _END.split(example.context) if fact]


def _split(
    split: str, size: int, home: dict[str, str], lexicon: Lexicon, task: str, dice: Dice
) -> list[Example]:
    seen: set[Example] = set()
    examples: list[Example] = []
    for number in range(size):
        for _ in range(MAX_TRIES):
            example = GENERATORS[task](lexicon, dice, number)
            sentences = sentences_of(example)
            if example not in seen and all(home.get(text, split) == split for text in sentences):
                break
        else:
            name = TLP(task, lexicon.language.code)
            raise InputError(
                f"--scale: no {number + 1}th different {split} example of {name} was found "
                f"for {size} of them; use a smaller scale"
            )
        seen.add(example)
        home.update(dict.fromkeys(sentences, split))
        examples.append(_identified(example, f"{split}-{lexicon.language.code}-{number}"))
    # What took turns in the drawing does not in the file.
    return dice.shuffled(examples)


def _identified(example: Example, identity: str) -> Example:
    return replace(example, id=identity) if isinstance(example, Question) else example

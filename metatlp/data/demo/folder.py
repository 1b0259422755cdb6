"""Writes the demo grid in XTREME's folder layout, the same bytes for the same arguments.

Knows the sizes, the splits and the files; what is in an example is the generators' affair.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import EXTERNAL, TRAINING
from metatlp.data.demo.lexicon import Lexicon, build_lexicon
from metatlp.data.demo.noise import with_noise
from metatlp.data.demo.pairs import nli_pair, pa_pair
from metatlp.data.demo.questions import question
from metatlp.data.demo.tagged import ner_sentence, pos_sentence
from metatlp.data.records import Example, Question, TaggedSentence, TextPair
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TASK_CODES, TLP

DEFAULT_SCALE = 0.005
EVALUATION_SIZE = 20_000  # of dev and of test, before scaling
MAX_TRIES = 200  # draws per example before a split is said to be exhausted
GENERATORS: dict[str, Callable[[Lexicon, Dice], Example]] = {
    "pos": pos_sentence,
    "ner": ner_sentence,
    "nli": nli_pair,
    "pa": pa_pair,
    "qa": question,
}
_TABLES = {"pos": "udpos", "ner": "panx", "nli": "xnli", "pa": "pawsx"}


def write_demo(
    folder: Path, seed: int = 0, scale: float = DEFAULT_SCALE, label_noise: float = 0.0
) -> dict[str, int]:
    """Write all files of the grid into an empty or new folder.

    Args:
        seed: of the languages and of the examples.
        scale: factor on Table 1's training sizes, and on 20,000 for dev and test; rounded up.
        label_noise: share of wrong labels in training data.

    Returns:
        File, relative to the folder -> number of examples.

    Raises:
        InputError: a scale so large that a task has not enough different sentences.
    """
    written = {}
    for code in (*TRAINING, *EXTERNAL):
        lexicon = build_lexicon(code, seed)
        for task in TASK_CODES:
            sizes = split_sizes(TLP(task, code), scale)
            for split, examples in _splits(lexicon, task, sizes, seed).items():
                if split == "train" and label_noise:
                    dice = Dice(seed, "noise", task, code)
                    examples = [
                        with_noise(example, task, label_noise, dice) for example in examples
                    ]
                path = Path(_file(task, code, split))
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(_content(examples).encode())
                written[str(path)] = len(examples)
    return written


def split_sizes(tlp: TLP, scale: float) -> dict[str, int]:
    """Split -> number of examples; empty where the paper's grid has a hole."""
    if tlp.lang in TRAINING and tlp not in PAPER_SIZES:
        return {}
    evaluation = math.ceil(EVALUATION_SIZE * scale)
    sizes = {"dev": evaluation, "test": evaluation}
    return {"train": math.ceil(PAPER_SIZES[tlp] * scale), **sizes} if tlp in PAPER_SIZES else sizes


def _splits(
    lexicon: Lexicon, task: str, sizes: dict[str, int], seed: int
) -> dict[str, list[Example]]:
    """Examples of every split. No sentence is in two splits, no example twice."""
    code = lexicon.language.code
    dice = Dice(seed, "examples", task, code)
    home: dict[str, str] = {}  # sentence -> its split
    splits: dict[str, list[Example]] = {}
    for split, size in sizes.items():
        examples: list[Example] = []
        seen: set[Example] = set()
        for _ in range(MAX_TRIES * size):
            if len(examples) == size:
                break
            example = GENERATORS[task](lexicon, dice)
            sentences = sentences_of(example)
            if example in seen or any(home.get(s, split) != split for s in sentences):
                continue
            seen.add(example)
            home.update(dict.fromkeys(sentences, split))
            examples.append(_with_id(example, f"{split}-{code}-{len(examples)}"))
        if len(examples) < size:
            raise InputError(f"--scale: {task}_{code} has only {len(examples)} different examples")
        splits[split] = examples
    return splits


def sentences_of(example: Example) -> list[str]:
    """What must not be in two splits."""
    if isinstance(example, TaggedSentence):
        return [" ".join(example.words)]
    if isinstance(example, TextPair):
        return [example.first, example.second]
    return [example.context]


def _with_id(example: Example, identity: str) -> Example:
    return replace(example, id=identity) if isinstance(example, Question) else example


def _file(task: str, code: str, split: str) -> str:
    """Where XTREME keeps it, relative to the folder."""
    if task != "qa":
        return f"{_TABLES[task]}/{split}-{code}.tsv"
    if split != "train":
        return f"mlqa/MLQA_V1/{split}/{split}-context-{code}-question-{code}.json"
    name = "train-v1.1.json" if code == "en" else f"{code}_squad-translate-train-train-v1.1.json"
    return f"squad/{name}"


def _content(examples: list[Example]) -> str:
    if isinstance(examples[0], Question):
        return _squad(examples)
    return "".join(_lines(examples))


def _lines(examples: list[Example]) -> Iterator[str]:
    for example in examples:
        if isinstance(example, TaggedSentence):
            pairs = zip(example.words, example.tags, strict=True)
            yield "".join(f"{word}\t{tag}\n" for word, tag in pairs) + "\n"
        elif isinstance(example, TextPair):
            yield f"{example.first}\t{example.second}\t{example.label}\n"


def _squad(examples: list[Example]) -> str:
    paragraphs = [
        {
            "context": example.context,
            "qas": [
                {
                    "id": example.id,
                    "question": example.question,
                    "answers": [{"text": a.text, "answer_start": a.start} for a in example.answers],
                }
            ],
        }
        for example in examples
        if isinstance(example, Question)
    ]
    data = {"version": "1.1", "data": [{"title": "demo", "paragraphs": paragraphs}]}
    return json.dumps(data, ensure_ascii=False, indent=0) + "\n"

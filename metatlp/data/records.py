"""What a source reads: plain examples of the three kinds of task, before any tokenizer.

Knows no file format and no model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from metatlp.grid import TLP

SPLITS = ("train", "dev", "test", "xquad")  # xquad: a second test set, for QA only
# Whose every example is scored: none may be left out.
SCORED_SPLITS = ("dev", "test", "xquad")
# The label of a word or pair in a file that has none at all, as XTREME's test files.
NO_LABEL = ""
# What an error says of missing labels besides.
HIDDEN = (
    "XTREME hides its test labels; evaluate_zeroshot.py --submission writes predictions for a test "
    "file without any"
)


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence of POS or NER: one tag per word, NO_LABEL in a file without any."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts and the name of their relation (NLI, PA), NO_LABEL in a file without any."""

    first: str
    second: str
    label: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer span: `context[start : start + len(text)] == text` always holds."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a context. Training uses the first of `answers`, which is empty only in a file
    without any."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]


Example = TaggedSentence | TextPair | Question


@dataclass
class ReadResult:
    """The examples of one file (one TLP and split), and everything noteworthy that was counted.

    `counts["read"]` is the number of examples; other keys say what was repaired or left out
    (e.g. `answers_repaired`, `answers_empty`, `questions_dropped`), and are absent when zero.
    `counts["unlabelled"]` is the number of examples, or absent: a file has labels or has none.
    """

    examples: list[Example]
    counts: Counter[str] = field(default_factory=Counter)


class Source(Protocol):
    """Where examples come from: an XTREME folder, the hub, or files of one's own."""

    def describe(self) -> str:
        """One phrase for the log, e.g. `XTREME folder data/xtreme`."""
        ...

    def tlps(self, split: str) -> list[TLP]:
        """The TLPs for which the split exists, in grid order."""
        ...

    def fingerprint(self, tlp: TLP, split: str) -> str:
        """A string that changes when the split's content changes (for the cache key)."""
        ...

    def read(self, tlp: TLP, split: str) -> ReadResult:
        """All examples of the split; of SCORED_SPLITS, every one that the file has.

        Raises:
            InputError: naming file and line.
        """
        ...

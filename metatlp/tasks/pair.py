"""Classification of pairs of texts: natural language inference and paraphrase (NLI, PA).

Knows no file and no model. Shapes: B batch, T tokens, C labels, n pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from metatlp.data.encoded import Column, EncodedSplit
from metatlp.data.records import NO_LABEL, Example, TextPair
from metatlp.grid import TLP
from metatlp.tasks.metrics import Terms, accuracy_terms, label_numbers, macro_f1_terms
from metatlp.tasks.pieces import Layout, encode_texts
from metatlp.tasks.task import (
    IGNORED,
    Batch,
    Encoded,
    Limits,
    Padding,
    check_number,
    collate_flat,
    collate_inputs,
)


@dataclass(frozen=True)
class PairClassification:
    """One label per pair of texts."""

    code: str
    labels: tuple[str, ...]
    auto_class: type = AutoModelForSequenceClassification
    metric: str = "accuracy"
    limit_names: tuple[str, ...] = field(default=("max_length", "long_inputs"), repr=False)

    def encode(self, examples: Sequence[Example], tokenizer: Any, limits: Limits) -> Encoded:
        """Pairs -> rows with a label. Long pairs are truncated, or left out under `cut`."""
        counts: Counter[str] = Counter()
        pairs = [_pair(example) for example in examples]
        layout = Layout.pair(tokenizer)
        room = limits.max_length - layout.num_special
        first = encode_texts(tokenizer, [pair.first for pair in pairs])
        second = encode_texts(tokenizer, [pair.second for pair in pairs])
        kept = np.arange(len(pairs))
        too_long = first.lengths + second.lengths > room
        if limits.long_inputs == "keep":
            counts["pairs_truncated"] = int(too_long.sum())
            kept_first, kept_second = truncated(first.lengths, second.lengths, room)
            first, second = first.heads(kept_first), second.heads(kept_second)
        else:
            counts["pairs_dropped"] = int(too_long.sum())
            kept = np.flatnonzero(~too_long)
            first, second = first.take(kept), second.take(kept)
        number = {NO_LABEL: IGNORED} | {label: i for i, label in enumerate(self.labels)}
        labels = np.array([number[pair.label] for pair in pairs], dtype=np.int16)
        columns: dict[str, Column] = {
            **layout.around(first, second),
            "labels": labels[kept],
            "example": kept.astype(np.int32),
        }
        return Encoded(columns, +counts)

    def collate(self, split: EncodedSplit, rows: np.ndarray, padding: Padding) -> Batch:
        """Adds `labels` (B,)."""
        return {**collate_inputs(split, rows, padding), **collate_flat(split, rows, "labels")}

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """mean over the batch of -log p(label)."""
        return F.cross_entropy(outputs.logits.float(), batch["labels"])

    def predict(self, outputs: Any, batch: Batch) -> list:
        """Per row, the number of the likeliest label."""
        return list(outputs.logits.argmax(-1).cpu().numpy().astype(np.int16))

    def decode(
        self, split: EncodedSplit, predictions: Sequence, examples: Sequence[Example]
    ) -> list[str | None]:
        """A label per pair, None for one that was left out."""
        labels: list[str | None] = [None] * len(examples)
        for example, number in zip(split.flat("example"), predictions, strict=True):
            labels[example] = self.labels[number]
        return labels

    def terms(
        self,
        tlp: TLP,
        split: EncodedSplit,
        predictions: Sequence,
        examples: Sequence[Example],
    ) -> Terms:
        """Of accuracy and macro F1."""
        check_number(tlp, split, examples, split.counts.get("pairs_dropped", 0))
        decoded = self.decode(split, predictions, examples)
        return self.compare(tlp, decoded, [_pair(example).label for example in examples])

    def compare(self, tlp: TLP, found: Sequence[str | None], gold: Sequence[str]) -> Terms:
        """The terms of plain labels; None for a pair that was left out."""
        scored = np.array([i for i, label in enumerate(found) if label is not None], dtype=np.int64)
        numbers = label_numbers(tlp, (label for label in found if label is not None), self.labels)
        right = label_numbers(tlp, gold, self.labels)[scored]
        return {
            "accuracy": accuracy_terms(scored, numbers, right, len(gold)),
            "macro_f1": macro_f1_terms(scored, numbers, right, len(gold), len(self.labels)),
        }


def _pair(example: Example) -> TextPair:
    assert isinstance(example, TextPair)
    return example


def truncated(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after taking one piece after the other from the longer text until both fit.

    XTREME's `longest_first`: of two equally long texts the second loses a piece. So the shorter
    text stays whole if it is at most half of the room, and else both get half.

    Args:
        first, second: (n,) pieces of each text.
        room: pieces for both.
    """
    half_up, half_down = room - room // 2, room // 2
    new_first = np.minimum(first, np.maximum(half_up, room - second))
    new_second = np.minimum(second, np.maximum(half_down, room - first))
    return new_first, new_second

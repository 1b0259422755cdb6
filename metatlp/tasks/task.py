"""What every task is: encode, collate, loss, predict, decode, terms of the scores.

Knows no particular task, no file and no rank. Shapes: B batch, T tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from metatlp.data.encoded import Column, EncodedSplit
from metatlp.data.records import Example
from metatlp.errors import InputError
from metatlp.grid import TLP

LONG_INPUTS = ("keep", "cut")
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
IGNORED = -100  # the label of positions that take no part in the loss

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Limits:
    """Lengths in word pieces, special tokens included.

    Args:
        max_length: of a row of tagging or of a pair.
        qa_max_length: of a window of question and context.
        qa_stride: distance between the starts of two windows (`doc_stride` of BERT's run_squad).
        qa_query_length: of the question, special tokens not included.
        qa_answer_length: of the longest predicted answer.
        long_inputs: `keep` splits long sentences and truncates long pairs; `cut` does what the
            authors' code does: sentences end at the limit, long pairs are left out. All is counted.
    """

    max_length: int = 128
    qa_max_length: int = 384
    qa_stride: int = 128
    qa_query_length: int = 64
    qa_answer_length: int = 30
    long_inputs: str = "keep"

    def __post_init__(self) -> None:
        if self.long_inputs not in LONG_INPUTS:
            raise InputError(
                f"--long-inputs {self.long_inputs}: choose from {', '.join(LONG_INPUTS)}"
            )
        if self.max_length < 8:
            raise InputError(f"--max-length {self.max_length}: at least 8")
        if min(self.qa_stride, self.qa_query_length, self.qa_answer_length) < 1:
            raise InputError(
                "--qa-stride, --qa-query-length, --qa-answer-length: at least 1, not "
                f"{self.qa_stride}, {self.qa_query_length}, {self.qa_answer_length}"
            )
        # Windows further apart than they are wide would leave text between them unseen.
        if self.qa_stride + self.qa_query_length + 8 > self.qa_max_length:
            raise InputError(
                f"--qa-max-length {self.qa_max_length}: at least --qa-stride + --qa-query-length "
                f"+ 8 = {self.qa_stride + self.qa_query_length + 8}"
            )


@dataclass
class Encoded:
    """What `encode` returns: columns of equal numbers of rows, and what was counted."""

    columns: dict[str, Column]
    counts: Counter[str]


@dataclass(frozen=True)
class Padding:
    """The ids that fill up a batch."""

    input_id: int
    type_id: int

    @classmethod
    def of(cls, tokenizer: Any) -> Padding:
        if tokenizer.pad_token_id is None:
            raise InputError("--model: its tokenizer has no padding token")
        return cls(tokenizer.pad_token_id, tokenizer.pad_token_type_id or 0)


class Task(Protocol):
    """A kind of task. To add one, see docs/tasks.md."""

    @property
    def code(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's outputs, in their order."""
        ...

    @property
    def auto_class(self) -> type:
        """The transformers AutoModelFor... that brings the head."""
        ...

    @property
    def metric(self) -> str:
        """The key of `terms` that stands for the task: `accuracy` or `f1`."""
        ...

    @property
    def limit_names(self) -> tuple[str, ...]:
        """The fields of Limits that `encode` depends on."""
        ...

    def encode(self, examples: Sequence[Example], tokenizer: Any, limits: Limits) -> Encoded:
        """Examples -> rows of word pieces with targets."""
        ...

    def collate(self, split: EncodedSplit, rows: np.ndarray, padding: Padding) -> Batch:
        """Rows -> a padded batch: MODEL_INPUTS, the targets, and what `predict` needs."""
        ...

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """() fp32 in nats; `outputs` is what the model returned without labels."""
        ...

    def predict(self, outputs: Any, batch: Batch) -> list:
        """One small numpy object per row of the batch."""
        ...

    def decode(
        self, split: EncodedSplit, predictions: Sequence, examples: Sequence[Example]
    ) -> list:
        """One answer per example (tags, a label, a text), None for an example without rows."""
        ...

    def terms(
        self,
        tlp: TLP,
        split: EncodedSplit,
        predictions: Sequence,
        examples: Sequence[Example],
    ) -> dict[str, np.ndarray]:
        """Metric -> (N, L, 2) float64: numerator and denominator per example and label.

        `metrics.scores` makes scores of them, for any choice of rows. The first key is `metric`;
        an example without a prediction has 0/0.

        Args:
            tlp: answers are normalised by language.
            predictions: of all rows of the split, in row order.
            examples: those the split was encoded from; N of them.

        Raises:
            InputError: not as many examples as were encoded.
        """
        ...


def model_inputs(batch: Mapping[str, Tensor]) -> Batch:
    """The part of a batch that is passed to the model; the rest is for `loss` and `predict`."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def collate_inputs(split: EncodedSplit, rows: np.ndarray, padding: Padding) -> Batch:
    """`input_ids`, `attention_mask` and, where the split has them, `token_type_ids`: (B, T)."""
    ids = split.ragged("input_ids")
    arrays = {
        "input_ids": ids.pad(rows, padding.input_id),
        "attention_mask": ids.inside(rows).astype(np.int64),
    }
    if "token_type_ids" in split.names:
        arrays["token_type_ids"] = split.ragged("token_type_ids").pad(rows, padding.type_id)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def collate_flat(split: EncodedSplit, rows: np.ndarray, *names: str) -> Batch:
    """The (n,) columns of those names as (B,) int64."""
    return {name: torch.from_numpy(split.flat(name)[rows].astype(np.int64)) for name in names}


def check_number(tlp: TLP, split: EncodedSplit, examples: Sequence, left_out: int = 0) -> None:
    """Every example has rows in the split, or is one of those that are known to have none.

    Args:
        left_out: how many those are.

    Raises:
        InputError: the file no longer holds what was encoded.
    """
    if split.num_examples + left_out != len(examples):
        raise InputError(
            f"{tlp}: {len(examples)} examples to score, but {split.num_examples} were encoded and "
            f"{left_out} left out; if the file has changed, start again"
        )

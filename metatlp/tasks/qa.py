"""Extractive question answering: windows over the context, and the best span over them.

Knows no file and no model. Shapes: B batch, T tokens, n windows, k spans kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

from metatlp.data.encoded import EncodedSplit, Ragged
from metatlp.data.records import Example, Question
from metatlp.grid import TLP
from metatlp.tasks.metrics import Terms, answer_terms
from metatlp.tasks.pieces import Layout, encode_texts, encode_with_offsets
from metatlp.tasks.spans import Span, nbest, window_spans
from metatlp.tasks.task import (
    Batch,
    Encoded,
    Limits,
    Padding,
    check_number,
    collate_flat,
    collate_inputs,
)

TARGETS = ("start_positions", "end_positions")
CONTEXT = ("context_start", "context_end", "answer_length")


@dataclass(frozen=True)
class QuestionAnswering:
    """Start and end of the answer in the context."""

    code: str = "qa"
    labels: tuple[str, ...] = ("start", "end")
    auto_class: type = AutoModelForQuestionAnswering
    metric: str = "f1"
    limit_names: tuple[str, ...] = field(
        default=("qa_max_length", "qa_stride", "qa_query_length", "qa_answer_length"), repr=False
    )

    def encode(self, examples: Sequence[Example], tokenizer: Any, limits: Limits) -> Encoded:
        """Questions -> windows [CLS] question [SEP] part of the context [SEP].

        Windows of one question begin `qa_stride` pieces of context apart. (Hugging Face's
        tokenizers call `stride` the overlap of two windows; that is the width less our stride.)
        The target of a window is the first answer's first and last piece, both inclusive, or
        position 0 twice where the window does not hold all of it.
        """
        questions = [_question(example) for example in examples]
        layout = Layout.pair(tokenizer)
        queries = encode_texts(tokenizer, [question.question for question in questions])
        long_query = queries.lengths > limits.qa_query_length
        queries = queries.heads(np.minimum(queries.lengths, limits.qa_query_length))
        contexts = _Contexts(tokenizer, questions)
        counts = Counter(queries_cut=int(long_query.sum()))
        rows = _windows(questions, queries.lengths, contexts, layout, limits, counts)
        example, begin, length, start, end = rows.T
        pieces_at = contexts.first_piece[contexts.of_question[example]] + begin
        columns = layout.around(
            queries.take(example), Ragged.gather(contexts.ids.values, pieces_at, length)
        )
        context_start = len(layout.prefix) + len(layout.middle) + queries.lengths[example]
        inside = start >= 0
        return Encoded(
            {
                **columns,
                "char_starts": Ragged.gather(contexts.char_starts.values, pieces_at, length),
                "char_ends": Ragged.gather(contexts.char_ends.values, pieces_at, length),
                "start_positions": np.where(inside, context_start + start, 0).astype(np.int32),
                "end_positions": np.where(inside, context_start + end, 0).astype(np.int32),
                "context_start": context_start.astype(np.int32),
                "context_end": (context_start + length).astype(np.int32),
                "answer_length": np.full(len(rows), limits.qa_answer_length, dtype=np.int32),
                "example": example.astype(np.int32),
            },
            +counts,
        )

    def collate(self, split: EncodedSplit, rows: np.ndarray, padding: Padding) -> Batch:
        """Adds `start_positions`, `end_positions`, and where the context stands; all (B,)."""
        inputs = collate_inputs(split, rows, padding)
        return {**inputs, **collate_flat(split, rows, *TARGETS, *CONTEXT)}

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """(-log p(start) - log p(end)) / 2, mean over the batch.

        A row's probabilities are over its own positions: how far a batch is padded changes nothing.
        """
        padded = batch["attention_mask"] == 0
        logits = (outputs.start_logits, outputs.end_logits)
        start, end = (part.float().masked_fill(padded, float("-inf")) for part in logits)
        return (
            F.cross_entropy(start, batch["start_positions"])
            + F.cross_entropy(end, batch["end_positions"])
        ) / 2

    def predict(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        """Per window, its best spans: (k, 3) float32 of start, end (inclusive), start + end logit.

        Spans lie inside the context and have at most `answer_length` pieces. Those that do not
        exist are -inf.
        """
        position = torch.arange(outputs.start_logits.shape[1], device=outputs.start_logits.device)
        begin, end = batch["context_start"][:, None], batch["context_end"][:, None]
        inside = (position >= begin) & (position < end)
        longest = int(batch["answer_length"].max())
        spans = window_spans(outputs.start_logits, outputs.end_logits, inside, longest)
        return list(spans.detach().cpu().numpy())

    def decode(
        self, split: EncodedSplit, predictions: Sequence, examples: Sequence[Example]
    ) -> list[str | None]:
        """The answer of each question: the best span of all windows, empty if all are blank."""
        asked = np.zeros(len(examples), dtype=bool)
        asked[split.flat("example")] = True
        best = self.nbest(split, predictions, examples, 1)
        return [
            (spans[0].text if spans else "") if there else None
            for spans, there in zip(best, asked, strict=True)
        ]

    def nbest(
        self, split: EncodedSplit, predictions: Sequence, examples: Sequence[Example], n: int
    ) -> list[list[Span]]:
        """Per question its `n` best distinct spans, at most SPANS; see `spans.nbest`."""
        contexts = [_question(example).context for example in examples]
        return nbest(split, predictions, contexts, n)

    def terms(
        self,
        tlp: TLP,
        split: EncodedSplit,
        predictions: Sequence,
        examples: Sequence[Example],
    ) -> Terms:
        """Of F1 and exact match with MLQA's normalisation, and with SQuAD's beside them."""
        check_number(tlp, split, examples)
        decoded = self.decode(split, predictions, examples)
        gold = [[answer.text for answer in _question(example).answers] for example in examples]
        return self.compare(tlp, decoded, gold)

    def compare(
        self, tlp: TLP, found: Sequence[str | None], gold: Sequence[Sequence[str]]
    ) -> Terms:
        """The terms of plain answers; every question with its right answers."""
        return answer_terms(tlp, found, gold)


class _Contexts:
    """The pieces of the contexts, each context once: many questions share one."""

    def __init__(self, tokenizer: Any, questions: Sequence[Question]) -> None:
        number: dict[str, int] = {}
        self.of_question = np.array(
            [number.setdefault(question.context, len(number)) for question in questions],
            dtype=np.int64,
        )
        self.ids, self.char_starts, self.char_ends = encode_with_offsets(tokenizer, list(number))
        self.first_piece = self.ids.offsets[:-1]


def _question(example: Example) -> Question:
    assert isinstance(example, Question)
    return example


def window_starts(num_pieces: int, room: int, stride: int) -> list[int]:
    """First piece of each window; the last one reaches the end of the context."""
    starts = [0]
    while starts[-1] + room < num_pieces:
        starts.append(starts[-1] + min(stride, room))
    return starts


def span_of(begins: np.ndarray, ends: np.ndarray, start: int, stop: int) -> tuple[int, int] | None:
    """First and last piece that touch characters start..stop (exclusive); None if none does."""
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(begins, stop, side="left")) - 1
    return (first, last) if first <= last else None


def _windows(
    questions: Sequence[Question],
    query_lengths: np.ndarray,
    contexts: _Contexts,
    layout: Layout,
    limits: Limits,
    counts: Counter[str],
) -> np.ndarray:
    """(n, 5) int64: question, first piece, pieces, answer's first and last piece in it or -1."""
    rows: list[tuple[int, int, int, int, int]] = []
    for i, question in enumerate(questions):
        context = contexts.of_question[i]
        begins, ends = contexts.char_starts.row(context), contexts.char_ends.row(context)
        span = _answer_span(question, begins, ends, counts)
        room = limits.qa_max_length - layout.num_special - int(query_lengths[i])
        found = False
        for at in window_starts(len(begins), room, limits.qa_stride):
            length = min(room, len(begins) - at)
            holds = span is not None and at <= span[0] and span[1] < at + length
            first, last = (span[0] - at, span[1] - at) if span and holds else (-1, -1)
            rows.append((i, at, length, first, last))
            found |= holds
        counts["answers_in_no_window"] += span is not None and not found
    counts["windows"] = len(rows)
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def _answer_span(
    question: Question, begins: np.ndarray, ends: np.ndarray, counts: Counter[str]
) -> tuple[int, int] | None:
    """The first answer's pieces; counts those that are wider than the answer, and those without."""
    if not question.answers:
        return None
    answer = question.answers[0]
    span = span_of(begins, ends, answer.start, answer.start + len(answer.text))
    if span is None:
        counts["answers_unaligned"] += 1
    elif question.context[begins[span[0]] : ends[span[1]]].strip() != answer.text.strip():
        counts["answers_wider"] += 1
    return span

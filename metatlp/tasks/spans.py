"""Answers out of start and end logits: the best spans of a window, and the best of all windows.

Knows no tokenizer, no model and no task. Shapes: B batch, T tokens, L longest answer, R windows,
k spans kept per window, K spans of all windows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatlp.data.encoded import EncodedSplit

# Spans kept per window, so as many are known of a question; BERT's run_squad keeps 20 too.
SPANS = 20


class Span(NamedTuple):
    """A possible answer: `text == context[start:end]`, without blanks around it."""

    text: str
    start: int
    end: int
    score: float  # start logit + end logit


def window_spans(start: Tensor, end: Tensor, inside: Tensor, longest: int) -> Tensor:
    """The best spans of each window.

    All spans of at most `longest` tokens are compared, which contains what run_squad finds among
    its 20 best starts and 20 best ends.

    Args:
        start, end: (B, T) logits.
        inside: (B, T) bool, where the context stands.
        longest: of a span, in tokens; at least 1.

    Returns:
        (B, k, 3) fp32, best first: start, end (inclusive), start + end logit; -inf where there is
        no further span.
    """
    none = float("-inf")
    start, end = start.float().masked_fill(~inside, none), end.float().masked_fill(~inside, none)
    ends = F.pad(end, (0, longest - 1), value=none).unfold(1, longest, 1)  # (B, T, L)
    sums = (start[:, :, None] + ends).flatten(1)
    # A diverged model's NaN must not win over every span that exists.
    sums = sums.nan_to_num(nan=none, posinf=none, neginf=none)
    score, index = sums.topk(min(SPANS, sums.shape[1]))
    first = index // longest
    return torch.stack([first, first + index % longest, score], dim=-1)


def nbest(
    split: EncodedSplit, predictions: Sequence[np.ndarray], contexts: Sequence[str], n: int
) -> list[list[Span]]:
    """The `n` best spans of each question over all its windows, best first.

    Spans with the same characters are one, with the larger score; of equal scores the earlier
    window's comes first. Blank ones are left out, so there may be fewer than `n`, or none.

    Args:
        split: encoded questions.
        predictions: of each of the R windows, (k, 3) as from `window_spans`.
        contexts: of each question.
        n: at most SPANS, of which every window knows its best.
    """
    assert len(predictions) == split.num_rows and 1 <= n <= SPANS
    question, starts, ends, scores = _candidates(split, predictions)
    edges = np.searchsorted(question, np.arange(len(contexts) + 1)).tolist()
    candidates = list(zip(starts.tolist(), ends.tolist(), scores.tolist(), strict=True))
    return [
        _best(candidates[edges[i] : edges[i + 1]], context, n) for i, context in enumerate(contexts)
    ]


def _candidates(
    split: EncodedSplit, predictions: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(K,) question, first character, last (exclusive), score; by question, best first."""
    row = np.repeat(np.arange(split.num_rows), [len(spans) for spans in predictions])
    spans = np.concatenate(predictions) if len(predictions) else np.zeros((0, 3), np.float32)
    there = spans[:, 2] > -np.inf
    row, spans = row[there], spans[there]
    question = split.flat("example")[row]
    order = np.lexsort((-spans[:, 2], question))
    row, spans, question = row[order], spans[order], question[order]
    # Positions are whole numbers far below 2^24, which float32 holds.
    pieces = spans[:, :2].astype(np.int64) - split.flat("context_start")[row, None]
    begins, ends = split.ragged("char_starts"), split.ragged("char_ends")
    at = begins.offsets[row, None] + pieces
    return question, begins.values[at[:, 0]], ends.values[at[:, 1]], spans[:, 2]


def _best(candidates: list[tuple[int, int, float]], context: str, n: int) -> list[Span]:
    found: dict[tuple[int, int], Span] = {}
    for start, end, score in candidates:
        text = context[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        span = Span(text, start, start + len(text), score)
        if text:
            found.setdefault(span[1:3], span)
        if len(found) == n:
            break
    return list(found.values())

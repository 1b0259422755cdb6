"""Tagging of words (POS, NER): the label stands on the first piece of each word.

Knows no file and no model. Shapes: B batch, T tokens, C labels, W words, P pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForTokenClassification

from metatlp.data.encoded import Column, EncodedSplit, Ragged, join, offsets_of
from metatlp.data.records import NO_LABEL, Example, TaggedSentence
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks.metrics import (
    Terms,
    accuracy_terms,
    entity_f1_terms,
    label_numbers,
    macro_f1_terms,
)
from metatlp.tasks.pieces import Layout, encode_words
from metatlp.tasks.task import (
    IGNORED,
    Batch,
    Encoded,
    Limits,
    Padding,
    check_number,
    collate_inputs,
)


@dataclass(frozen=True)
class Tagging:
    """One label per word.

    Args:
        code: task code.
        labels: of the words.
        entities: whether the labels are B-/I- spans, so that F1 is over entities.
    """

    code: str
    labels: tuple[str, ...]
    entities: bool = False
    auto_class: type = AutoModelForTokenClassification
    metric: str = "accuracy"
    limit_names: tuple[str, ...] = field(default=("max_length", "long_inputs"), repr=False)

    def encode(self, examples: Sequence[Example], tokenizer: Any, limits: Limits) -> Encoded:
        """Sentences -> rows with a label on each word's first piece, IGNORED elsewhere."""
        counts: Counter[str] = Counter()
        sentences = [_tagged(example) for example in examples]
        layout = Layout.single(tokenizer)
        room = limits.max_length - layout.num_special
        ids, per_word = encode_words(tokenizer, [sentence.words for sentence in sentences])
        ids, per_word = _without_gaps(ids, per_word, tokenizer.unk_token_id, counts)
        labels = self._piece_labels(sentences, per_word)
        words_in = np.array([len(sentence.words) for sentence in sentences], dtype=np.int64)
        if limits.long_inputs == "keep":
            keep = _inside_room(per_word, room)
            counts["words_cut"] = int(np.count_nonzero(per_word > room))
            ids, labels, per_word = ids[keep], labels[keep], np.minimum(per_word, room)
            rows = _split_rows(per_word, words_in, room, counts)
        else:
            rows = _cut_rows(per_word, words_in, room, counts)
        begins, lengths, example = rows
        columns: dict[str, Column] = {
            **layout.around(Ragged.gather(ids, begins, lengths)),
            "labels": _framed(layout, Ragged.gather(labels, begins, lengths)),
            "example": example,
        }
        return Encoded(columns, +counts)

    def collate(self, split: EncodedSplit, rows: np.ndarray, padding: Padding) -> Batch:
        """Adds `labels` (B, T)."""
        labels = torch.from_numpy(split.ragged("labels").pad(rows, IGNORED))
        return {**collate_inputs(split, rows, padding), "labels": labels}

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """mean over rows of (mean over the row's labelled tokens of -log p(label))."""
        labels = batch["labels"]
        nats = F.cross_entropy(
            outputs.logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        return (nats.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)).mean()

    def predict(self, outputs: Any, batch: Batch) -> list[np.ndarray]:
        """Per row, the label numbers of its words (int16)."""
        labelled = (batch["labels"] != IGNORED).cpu().numpy()
        best = outputs.logits.argmax(-1).to(torch.int16).cpu().numpy()
        return np.split(best[labelled], np.cumsum(labelled.sum(1))[:-1])

    def decode(
        self, split: EncodedSplit, predictions: Sequence, examples: Sequence[Example]
    ) -> list[list[str] | None]:
        """Tags per sentence; its rows are put together again."""
        tags: list[list[str] | None] = [None] * len(examples)
        for example, numbers in zip(split.flat("example"), predictions, strict=True):
            tags[example] = (tags[example] or []) + [self.labels[n] for n in numbers]
        return tags

    def terms(
        self,
        tlp: TLP,
        split: EncodedSplit,
        predictions: Sequence,
        examples: Sequence[Example],
    ) -> Terms:
        """Of accuracy over words (O included), and of F1 over entities (NER) or labels (POS)."""
        gold = [_tagged(example).tags for example in examples]
        # Not `sentences_empty`: a reader counts those there that it left out of the examples.
        check_number(tlp, split, examples, sum(not tags for tags in gold))
        found = [tags or [] for tags in self.decode(split, predictions, examples)]
        missing = sum(map(len, gold)) - sum(map(len, found))
        if missing != split.counts.get("words_dropped", 0):
            raise InputError(f"{tlp}: {missing} words to score were not encoded")
        # Under `cut` words behind the limit were dropped and counted: they are not scored.
        pairs = zip(found, gold, strict=True)
        return self.compare(tlp, found, [right[: len(tags)] for tags, right in pairs])

    def compare(
        self, tlp: TLP, found: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
    ) -> Terms:
        """The terms of plain tags.

        Raises:
            InputError: an unknown tag, or a sentence with another number of tags.
        """
        words_in = np.array([len(tags) for tags in gold], dtype=np.int64)
        given = np.array([len(tags) for tags in found], dtype=np.int64)
        for i in np.flatnonzero(words_in != given)[:1]:
            raise InputError(f"{tlp}: sentence {i + 1}: {given[i]} tags for {words_in[i]} words")
        units = (
            np.repeat(np.arange(len(gold)), words_in),
            label_numbers(tlp, chain.from_iterable(found), self.labels),
            label_numbers(tlp, chain.from_iterable(gold), self.labels),
            len(gold),
        )
        if self.entities:
            f1 = {"entity_f1": entity_f1_terms(*units, self.labels)}
        else:
            f1 = {"macro_f1": macro_f1_terms(*units, len(self.labels))}
        return {"accuracy": accuracy_terms(*units), **f1}

    def _piece_labels(
        self, sentences: Sequence[TaggedSentence], per_word: np.ndarray
    ) -> np.ndarray:
        # A word without a tag gets any: its number says where the word begins, and is never scored.
        number = {NO_LABEL: 0} | {label: i for i, label in enumerate(self.labels)}
        labels = np.full(per_word.sum(), IGNORED, dtype=np.int16)
        first = offsets_of(per_word)[:-1]
        labels[first] = [number[tag] for sentence in sentences for tag in sentence.tags]
        return labels


def _tagged(example: Example) -> TaggedSentence:
    assert isinstance(example, TaggedSentence)
    return example


def _without_gaps(
    ids: np.ndarray, per_word: np.ndarray, unknown: int | None, counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Give every word without a piece (invisible characters, say) the unknown token."""
    missing = per_word == 0
    if not missing.any():
        return ids, per_word
    if unknown is None:
        raise InputError("--model: a word has no piece, and the tokenizer has no unknown token")
    counts["words_unk"] = int(missing.sum())
    filled = np.maximum(per_word, 1)
    out = np.full(filled.sum(), unknown, dtype=ids.dtype)
    out[np.repeat(~missing, filled)] = ids
    return out, filled


def _inside_room(per_word: np.ndarray, room: int) -> np.ndarray:
    """(P,) bool: the first `room` pieces of each word."""
    begins = np.repeat(offsets_of(per_word)[:-1], per_word)
    return np.arange(len(begins)) - begins < room


def _split_rows(
    per_word: np.ndarray, words_in: np.ndarray, room: int, counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first piece, number of pieces, sentence) of each row; long sentences give several."""
    piece_at = offsets_of(per_word)
    word_at = offsets_of(words_in)
    edges: list[int] = []  # the word each row begins with
    example: list[int] = []
    pieces_in = piece_at[word_at[1:]] - piece_at[word_at[:-1]]
    for i in np.flatnonzero(words_in):
        first = int(word_at[i])
        starts = [0] if pieces_in[i] <= room else split(per_word[first : word_at[i + 1]], room)
        edges += [first + start for start in starts]
        example += [int(i)] * len(starts)
    counts["sentences_split"] = int(np.count_nonzero(pieces_in > room))
    counts["sentences_empty"] = int(np.count_nonzero(words_in == 0))
    begins = piece_at[np.array([*edges, len(per_word)], dtype=np.int64)]
    return begins[:-1], np.diff(begins), np.array(example, dtype=np.int32)


def split(per_word: np.ndarray, room: int) -> list[int]:
    """The first word of each part of a sentence, in as few parts of at most `room` pieces as fit.

    Filling one part after the other would leave a last part of a word or two without context;
    therefore the smallest room is taken that needs no more parts.

    Args:
        per_word: (W,) pieces per word, each at most `room`.
    """
    ends = np.cumsum(per_word)
    fewest = _filled(ends, room)
    low, high = max(int(per_word.max()), -(-int(ends[-1]) // len(fewest))), room
    while low < high:
        middle = (low + high) // 2
        if len(_filled(ends, middle)) <= len(fewest):
            high = middle
        else:
            low = middle + 1
    return _filled(ends, low)


def _filled(ends: np.ndarray, room: int) -> list[int]:
    starts = [0]
    while True:
        used = ends[starts[-1] - 1] if starts[-1] else 0
        after = int(np.searchsorted(ends, used + room, side="right"))
        if after >= len(ends):
            return starts
        starts.append(after)


def _cut_rows(
    per_word: np.ndarray, words_in: np.ndarray, room: int, counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row per sentence, ending at the limit even inside a word, as the authors' code does."""
    piece_at = offsets_of(per_word)
    word_at = offsets_of(words_in)
    begins, ends = piece_at[word_at[:-1]], piece_at[word_at[1:]]
    sentence = np.repeat(np.arange(len(words_in)), words_in)
    counts["sentences_cut"] = int(np.count_nonzero(ends - begins > room))
    counts["sentences_empty"] = int(np.count_nonzero(words_in == 0))
    counts["words_dropped"] = int(np.count_nonzero(piece_at[:-1] - begins[sentence] >= room))
    filled = np.flatnonzero(words_in)
    return begins[filled], np.minimum(ends - begins, room)[filled], filled.astype(np.int32)


def _framed(layout: Layout, labels: Ragged) -> Ragged:
    around = [
        Ragged.repeated([IGNORED] * len(part), len(labels), np.int16)
        for part in (layout.prefix, layout.suffix)
    ]
    return join([around[0], labels, around[1]])

"""Text -> word pieces, by the batch calls of the tokenizer's backend, without special tokens.

The special tokens are learned from what the tokenizer puts around a probe, so WordPiece, Unigram
and byte-level BPE tokenizers are treated alike. Knows no task. P pieces of all rows together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from metatlp.data.encoded import Ragged, join
from metatlp.errors import InputError

CHUNK = 4096  # texts per call of the backend; bounds the memory of its results


@dataclass(frozen=True)
class Layout:
    """The special tokens a tokenizer puts around one text, or around and between two.

    Every part is (ids, type id of each); `type_ids` are those of the text itself.
    """

    prefix: tuple[tuple[int, int], ...]
    middle: tuple[tuple[int, int], ...]
    suffix: tuple[tuple[int, int], ...]
    type_ids: tuple[int, ...]
    has_types: bool

    @classmethod
    def single(cls, tokenizer: Any) -> Layout:
        return cls._of(tokenizer, 1)

    @classmethod
    def pair(cls, tokenizer: Any) -> Layout:
        return cls._of(tokenizer, 2)

    @classmethod
    def _of(cls, tokenizer: Any, num_texts: int) -> Layout:
        encoding = _probe(tokenizer, num_texts)
        tokens = list(zip(encoding.ids, encoding.type_ids, strict=True))
        owners = encoding.sequence_ids
        first = owners.index(0)
        end_first = len(owners) - owners[::-1].index(0)
        begin_last = owners.index(num_texts - 1)
        end_last = len(owners) - owners[::-1].index(num_texts - 1)
        return cls(
            prefix=tuple(tokens[:first]),
            middle=tuple(tokens[end_first:begin_last]),
            suffix=tuple(tokens[end_last:]),
            type_ids=tuple(encoding.type_ids[owners.index(i)] for i in range(num_texts)),
            has_types="token_type_ids" in tokenizer.model_input_names,
        )

    @property
    def num_special(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def around(self, *texts: Ragged) -> dict[str, Ragged]:
        """Columns `input_ids` and, where the model takes them, `token_type_ids`."""
        num_rows = len(texts[0])
        middle = [self.middle] if len(texts) == 2 else []
        around = [self.prefix, *middle, self.suffix]
        ids = [Ragged.repeated([i for i, _ in part], num_rows) for part in around]
        columns = {"input_ids": join(_interleave(ids, texts))}
        if self.has_types:
            types = [Ragged.repeated([t for _, t in part], num_rows, np.int8) for part in around]
            filled = [text.like(t) for text, t in zip(texts, self.type_ids, strict=True)]
            columns["token_type_ids"] = join(_interleave(types, filled))
        return columns


def prepared(tokenizer: Any) -> Any:
    """The tokenizer's backend, with truncation and padding switched off.

    A call of a Hugging Face tokenizer sets both anew, so nothing has to be restored.

    Raises:
        InputError: the tokenizer has no fast version.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"--model: {type(tokenizer).__name__} has no fast version (tokenizer.json)"
        )
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> Ragged:
    """(n texts) -> n rows of piece ids (int32)."""
    backend = prepared(tokenizer)
    ids: list[np.ndarray] = []
    lengths: list[int] = []
    for chunk in _chunks(texts):
        rows = [e.ids for e in backend.encode_batch_fast(chunk, add_special_tokens=False)]
        lengths += map(len, rows)
        ids.append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
    return Ragged.from_lengths(_concatenate(ids), np.asarray(lengths, dtype=np.int64))


def encode_with_offsets(tokenizer: Any, texts: Sequence[str]) -> tuple[Ragged, Ragged, Ragged]:
    """Rows of piece ids, and of the first and last (exclusive) character of each piece."""
    backend = prepared(tokenizer)
    ids: list[np.ndarray] = []
    spans: list[np.ndarray] = []
    lengths: list[int] = []
    for chunk in _chunks(texts):
        encodings = backend.encode_batch(chunk, add_special_tokens=False)
        rows = [e.ids for e in encodings]
        lengths += map(len, rows)
        ids.append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
        flat = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
        spans.append(np.fromiter(flat, dtype=np.int32))
    pieces = Ragged.from_lengths(_concatenate(ids), np.asarray(lengths, dtype=np.int64))
    chars = _concatenate(spans).reshape(-1, 2)
    begins = Ragged(np.ascontiguousarray(chars[:, 0]), pieces.offsets)
    return pieces, begins, Ragged(np.ascontiguousarray(chars[:, 1]), pieces.offsets)


def encode_words(
    tokenizer: Any, sentences: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of sentences that are already split into words.

    A word is encoded as it would be inside a running sentence: where a blank before it changes its
    pieces (byte-level BPE without prefix space), it gets one.

    Returns:
        (P,) int32 ids of all sentences, and (W,) int64 pieces of each word, which may be 0.
    """
    backend = prepared(tokenizer)
    before = " " if _blank_matters(backend) else ""
    ids: list[np.ndarray] = []
    per_word: list[np.ndarray] = []
    for chunk in _chunks(sentences):
        words = [[before + word for word in sentence] for sentence in chunk]
        encodings = backend.encode_batch(words, is_pretokenized=True, add_special_tokens=False)
        first = np.cumsum([0] + [len(sentence) for sentence in words])
        lengths = [len(e.ids) for e in encodings]
        owner = np.fromiter(chain.from_iterable(e.word_ids for e in encodings), dtype=np.int64)
        owner += np.repeat(first[:-1], lengths)
        per_word.append(np.bincount(owner, minlength=first[-1]))
        ids.append(np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32))
    return _concatenate(ids), _concatenate(per_word)


def _blank_matters(backend: Any) -> bool:
    def pieces(word: str) -> list[int]:
        return backend.encode([word], is_pretokenized=True, add_special_tokens=False).ids

    return pieces(" a") != pieces("a")


def _probe(tokenizer: Any, num_texts: int) -> Any:
    backend = prepared(tokenizer)
    for text in ("a", "1", "."):
        encoding = backend.encode(*[text] * num_texts)
        if 0 in encoding.sequence_ids:
            return encoding
    raise InputError("--model: its tokenizer makes no piece of 'a', '1' or '.'")


def _interleave(around: Sequence[Ragged], texts: Sequence[Ragged]) -> list[Ragged]:
    parts = [around[0]]
    for text, special in zip(texts, around[1:], strict=True):
        parts += [text, special]
    return parts


def _chunks(items: Sequence) -> Iterator[list]:
    for begin in range(0, len(items), CHUNK):
        yield list(items[begin : begin + CHUNK])


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)

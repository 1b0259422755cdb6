"""Endless streams of batches: which rows form batch number i, for any i and in any order of asking.

A batch is a function of (seed, TLP, index). Lengths are bucketed. Knows no tensor, no task and no
rank. Shapes: n rows, B rows of a batch.
"""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache

import numpy as np

from metatlp.data.encoded import EncodedSplit
from metatlp.data.gathered import Concatenation
from metatlp.errors import InputError
from metatlp.grid import TLP

ORDERS = ("epochs", "reshuffle")
BATCHES_PER_CHUNK = 50  # rows are sorted by length within so many batches, or up to twice as many


class BatchStream:
    """Batches of row numbers.

    Args:
        split: what is drawn from; only its lengths are used here.
        tlp: its name takes part in the random state, so TLPs of equal size differ.
        batch_size: rows per batch; an epoch's remainder forms one smaller batch.
        seed: of the run.
        order: `epochs`: every row exactly once per epoch, epoch after epoch. `reshuffle`: one such
            epoch, and then every batch is the first batch of a new shuffle (the authors' code).
    """

    def __init__(
        self,
        split: EncodedSplit | Concatenation,
        tlp: TLP,
        batch_size: int,
        seed: int,
        order: str = "epochs",
    ) -> None:
        if order not in ORDERS:
            raise InputError(f"order of batches '{order}': choose from {', '.join(ORDERS)}")
        if batch_size < 1:
            raise InputError(f"batch size of {tlp}: at least 1, not {batch_size}")
        self.split, self.tlp, self.seed = split, tlp, seed
        self.batch_size, self.order = batch_size, order
        self._tokens = split.tokens
        # Two epochs: an episode may reach over the end of one.
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self._tokens) // self.batch_size)

    @cached_property
    def expected_tokens(self) -> float:
        """Mean B * T of a batch after padding, over the first epoch."""
        batches = self._make_epoch(0)
        return float(np.mean([len(rows) * self._tokens[rows].max() for rows in batches]))

    def rows(self, batch_index: int) -> np.ndarray:
        """(B,) int64 rows of a batch of the endless sequence; batch_index >= 0."""
        epoch, within = divmod(batch_index, self.batches_per_epoch)
        if epoch == 0 or self.order == "epochs":
            return self._epoch(epoch)[within]
        return self._first_of_shuffle(batch_index)

    def episode(self, index: int, k: int) -> list[np.ndarray]:
        """Batches index * k .. index * k + k - 1."""
        return [self.rows(index * k + j) for j in range(k)]

    def _make_epoch(self, epoch: int) -> list[np.ndarray]:
        """All rows: shuffled, sorted by length within chunks, cut, and the batches shuffled."""
        bits = _bits(self.seed, self.tlp, "epoch", epoch)
        shuffled = _permutation(bits, len(self._tokens))
        # Even chunks: a short last one would be sorted, and so filled, worse than the others.
        num_chunks = max(1, self.batches_per_epoch // BATCHES_PER_CHUNK)
        chunk = -(-self.batches_per_epoch // num_chunks) * self.batch_size
        batches = [
            batch
            for begin in range(0, len(shuffled), chunk)
            for batch in self._cut(shuffled[begin : begin + chunk])
        ]
        return [batches[i] for i in _permutation(bits, len(batches))]

    def _first_of_shuffle(self, batch_index: int) -> np.ndarray:
        """A full batch out of one chunk of a new shuffle, without shuffling all rows."""
        bits = _bits(self.seed, self.tlp, "shuffle", batch_index)
        batches = self._cut(_sample(bits, len(self._tokens), BATCHES_PER_CHUNK * self.batch_size))
        full = max(1, sum(len(batch) == self.batch_size for batch in batches))
        return batches[int(_permutation(bits, full)[0])]

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        rows = rows[np.argsort(self._tokens[rows], kind="stable")]
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]


def _bits(seed: int, tlp: TLP, *purpose: str | int) -> np.random.PCG64:
    """A bit generator for (seed, TLP, purpose); numpy keeps its raw output across versions."""
    digest = hashlib.sha256("/".join(map(str, (seed, tlp, *purpose))).encode()).digest()
    return np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest[:16], "big")))


def _permutation(bits: np.random.PCG64, n: int) -> np.ndarray:
    return np.argsort(bits.random_raw(n), kind="stable")


def _sample(bits: np.random.PCG64, n: int, size: int) -> np.ndarray:
    """`size` different numbers out of 0..n-1 in random order; all of them where n is smaller."""
    if n <= 4 * size:
        return _permutation(bits, n)[:size]
    drawn = np.zeros(0, dtype=np.int64)
    while len(drawn) < size:
        more = (bits.random_raw(size) % np.uint64(n)).astype(np.int64)
        drawn = np.concatenate((drawn, more))
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:size]

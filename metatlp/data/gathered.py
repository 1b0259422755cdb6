"""Rows of several splits of one task as one split: mixed batches, and a few examples of many.

Knows no task, no tensor and no rank. Shapes: n rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from metatlp.data.encoded import Column, EncodedSplit, Ragged, offsets_of
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.seeds import derive_seed


class Concatenation:
    """Several splits of one task, one behind the other, of which nothing is copied before `take`.

    Args:
        splits: at least one; the order numbers the rows.
    """

    def __init__(self, splits: Mapping[TLP, EncodedSplit]) -> None:
        self._splits = list(splits.values())
        self._begins = offsets_of(np.array([split.num_rows for split in self._splits]))
        self.tokens = np.concatenate([split.tokens for split in self._splits])
        self.num_rows = len(self.tokens)

    def take(self, rows: np.ndarray) -> EncodedSplit:
        """The rows of these numbers, grouped by the split they come from."""
        owner = np.searchsorted(self._begins, rows, side="right") - 1
        parts = [(self._splits[i], rows[owner == i] - self._begins[i]) for i in np.unique(owner)]
        return gathered(parts)


def gathered(parts: Sequence[tuple[EncodedSplit, np.ndarray]]) -> EncodedSplit:
    """A split of the given rows of each part, in their order; their `example` stays as it was."""
    names = parts[0][0].names
    columns = {
        name: _joined([(split.column(name), rows) for split, rows in parts]) for name in names
    }
    return EncodedSplit(columns, {})


def _joined(parts: Sequence[tuple[Column, np.ndarray]]) -> Column:
    if isinstance(parts[0][0], Ragged):
        ragged = [column.take(rows) for column, rows in parts if isinstance(column, Ragged)]
        lengths = np.concatenate([part.lengths for part in ragged])
        return Ragged.from_lengths(np.concatenate([part.values for part in ragged]), lengths)
    return np.concatenate(
        [column[rows] for column, rows in parts if isinstance(column, np.ndarray)]
    )


def few_shots(split: EncodedSplit, tlp: TLP, num_examples: int, seed: int) -> EncodedSplit:
    """A random choice of a split's examples, with all their rows.

    A function of (seed, TLP): a smaller choice is part of every larger one.

    Raises:
        InputError: there are not so many.
    """
    example = split.flat("example")
    there = np.unique(example)
    if num_examples > len(there):
        raise InputError(f"--shots {num_examples}: {tlp} has {len(there)} training examples")
    bits = np.random.PCG64(derive_seed(seed, "shots", str(tlp)))
    chosen = there[np.argsort(bits.random_raw(len(there)), kind="stable")[:num_examples]]
    few = gathered([(split, np.flatnonzero(np.isin(example, chosen)))])
    few.fingerprint = hashlib.sha256(
        f"{split.fingerprint}/{num_examples}/{seed}".encode()
    ).hexdigest()
    return few

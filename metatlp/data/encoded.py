"""Encoded splits in memory: ragged columns, and the split that holds them.

Knows no task, no tokenizer and no file. Shapes: n rows, P pieces of all rows together, B batch,
T tokens of the longest row of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one vector: row i is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: (P,) numbers of all rows.
        offsets: (n + 1,) int64, from 0 to P.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> Ragged:
        return cls(values, offsets_of(lengths))

    @classmethod
    def repeated(cls, row: Sequence[int], num_rows: int, dtype: type = np.int32) -> Ragged:
        """The same row `num_rows` times."""
        values: np.ndarray = np.tile(np.asarray(row, dtype=dtype), num_rows)
        return cls(values, np.arange(num_rows + 1, dtype=np.int64) * len(row))

    @classmethod
    def gather(cls, values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Rows `values[starts[i] : starts[i] + lengths[i]]`; they may overlap."""
        offsets = offsets_of(lengths)
        index = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return cls(values[index], offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def heads(self, lengths: np.ndarray) -> Ragged:
        """The first `lengths[i]` values of each row."""
        return Ragged.gather(self.values, self.offsets[:-1], lengths)

    def take(self, rows: np.ndarray) -> Ragged:
        return Ragged.gather(self.values, self.offsets[rows], self.lengths[rows])

    def like(self, value: int) -> Ragged:
        """The same shape, filled with one small number (|value| <= 127)."""
        return Ragged(np.full(len(self.values), value, dtype=np.int8), self.offsets)

    def pad(self, rows: np.ndarray, fill: int) -> np.ndarray:
        """(B, T) int64: the given rows, `fill` behind the shorter ones."""
        inside = self.inside(rows)
        out = np.full(inside.shape, fill, dtype=np.int64)
        index = self.offsets[rows][:, None] + np.arange(inside.shape[1])
        out[inside] = self.values[index[inside]]
        return out

    def inside(self, rows: np.ndarray) -> np.ndarray:
        """(B, T) bool: where `pad` puts values of the rows."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return np.arange(lengths.max(initial=0)) < lengths[:, None]


Column = Ragged | np.ndarray


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """(n + 1,) int64: 0 and the running sums of (n,) lengths."""
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def join(parts: Sequence[Ragged]) -> Ragged:
    """Row by row, the rows of all parts one behind the other. The first part's dtype is kept."""
    offsets = np.stack([part.offsets for part in parts]).sum(axis=0)
    out = np.empty(offsets[-1], dtype=parts[0].values.dtype)
    begin = offsets[:-1]
    for part in parts:
        out[np.repeat(begin - part.offsets[:-1], part.lengths) + np.arange(len(part.values))] = (
            part.values
        )
        begin = begin + part.lengths
    return Ragged(out, offsets)


class EncodedSplit:
    """One split of one TLP, encoded: columns of equal numbers of rows.

    Every split has the columns `input_ids` (ragged) and `example` (n,), the index of the example a
    row is made from; an example may have several rows, which stand together and in order.

    Args:
        columns: name -> column.
        counts: what was counted while reading and encoding.
        fingerprint: changes when anything the rows depend on changes.
    """

    def __init__(
        self, columns: Mapping[str, Column], counts: Mapping[str, int], fingerprint: str = ""
    ) -> None:
        self._columns = dict(columns)
        self.counts = dict(counts)
        self.fingerprint = fingerprint
        self.tokens = self.ragged("input_ids").lengths
        self.num_rows = len(self.tokens)
        self.num_examples = int(np.count_nonzero(np.diff(self.flat("example"), prepend=-1)))
        assert all(len(column) == self.num_rows for column in self._columns.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def column(self, name: str) -> Column:
        return self._columns[name]

    def flat(self, name: str) -> np.ndarray:
        """The (n,) column of that name."""
        column = self._columns[name]
        assert isinstance(column, np.ndarray), name
        return column

    def ragged(self, name: str) -> Ragged:
        """The ragged column of that name."""
        column = self._columns[name]
        assert isinstance(column, Ragged), name
        return column

"""Encoded splits on disk: one memory-mapped Arrow file each, encoded once for all processes.

The file's name holds a hash of everything its rows depend on, so a cache never has to be emptied
by hand. Knows no rank: whoever comes first encodes, the others wait at a file lock (which a shared
file system has to support, as NFS 4 and Lustre with `flock` do).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from metatlp.data.encoded import Column, EncodedSplit, Ragged
from metatlp.data.records import Source
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Encoded, Limits
from metatlp.tasks.pieces import prepared

__all__ = ["EncodedSplit", "Ragged", "encode_split"]

# Raise it when `encode` of any task gives other rows than before (tests/test_cache.py notices), or
# a reader gives other examples of the same file.
ENCODING_VERSION = 2

Log = Callable[[str], None]
_log: Log = logging.getLogger(__name__).info


def encode_split(
    source: Source,
    tlp: TLP,
    split: str,
    tokenizer: Any,
    limits: Limits,
    cache_dir: str | os.PathLike[str],
    max_examples: int | None = None,
    log: Log = _log,
) -> EncodedSplit:
    """The encoded split, from the cache where it is there and whole, else read and encoded.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        max_examples: only the first so many examples are encoded; None: all.
        log: takes one line about each damaged file.

    Raises:
        InputError: no row is left, the cache cannot be written, or the split cannot be read.
    """
    key = _key(source.fingerprint(tlp, split), tlp, split, tokenizer, limits, max_examples)
    entry = _Entry(Path(cache_dir), f"{tlp}-{split}-{key[:16]}", key)
    with entry.locked(fcntl.LOCK_SH):
        found = entry.load(log)
    if found is not None:
        return found
    with entry.locked(fcntl.LOCK_EX):
        # Another process may have encoded it meanwhile; damage has been reported above.
        found = entry.load(log=_silent)
        if found is None:
            entry.store(_encode(source, tlp, split, tokenizer, limits, max_examples))
            found = entry.load(log)
    assert found is not None
    return found


def _encode(
    source: Source,
    tlp: TLP,
    split: str,
    tokenizer: Any,
    limits: Limits,
    max_examples: int | None,
) -> Encoded:
    read = source.read(tlp, split)
    examples = read.examples[:max_examples]
    counts = Counter(read.counts)
    counts["examples_over_max"] = len(read.examples) - len(examples)
    encoded = TASKS[tlp.task].encode(examples, tokenizer, limits)
    encoded.counts.update(+counts)
    if not len(encoded.columns["example"]):
        raise InputError(f"{tlp} {split}: nothing is left of {len(examples)} examples to encode")
    return encoded


def _key(
    fingerprint: str,
    tlp: TLP,
    split: str,
    tokenizer: Any,
    limits: Limits,
    max_examples: int | None,
) -> str:
    """A hash of everything the rows depend on."""
    relevant = {name: getattr(limits, name) for name in TASKS[tlp.task].limit_names}
    parts = [
        ENCODING_VERSION,
        fingerprint,
        str(tlp),
        TASKS[tlp.task].labels,
        split,
        relevant,
        max_examples,
        # `prepared` first: padding and truncation are part of the backend's text.
        prepared(tokenizer).to_str(),
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        [tokenizer.pad_token_id, tokenizer.pad_token_type_id],
        list(tokenizer.model_input_names),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Entry:
    """One split in the cache: NAME.arrow, NAME.json with its digest, and NAME.lock."""

    folder: Path
    name: str
    key: str

    def path(self, kind: str) -> Path:
        return self.folder / f"{self.name}.{kind}"

    @contextmanager
    def locked(self, kind: int) -> Iterator[None]:
        with ExitStack() as stack:
            with self._errors_named():
                self.folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(self.path("lock"), "a"))
                fcntl.flock(file, kind)
            yield

    def load(self, log: Log) -> EncodedSplit | None:
        """The split if file and note are there and agree, else None."""
        with self._errors_named():
            if not self.path("arrow").exists() or not self.path("json").exists():
                return None
            counts = self._verified_counts()
            if counts is None:
                log(f"cache: {self.path('arrow')} is damaged and is made anew")
                return None
            batch = pa.ipc.open_file(pa.memory_map(str(self.path("arrow")))).get_batch(0)
        columns = {name: _to_numpy(batch.column(name)) for name in batch.schema.names}
        return EncodedSplit(columns, counts, fingerprint=self.key)

    def store(self, encoded: Encoded) -> None:
        """Write beside, then rename; the note comes last, and without it nothing is read."""
        arrays = {name: _to_arrow(column) for name, column in encoded.columns.items()}
        batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
        beside = self.path("tmp")
        with self._errors_named():
            with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
                out.write_batch(batch)
            note = {"key": self.key, "sha256": _digest(beside), "counts": dict(encoded.counts)}
            _publish(beside, self.path("arrow"))
            beside.write_text(json.dumps(note, indent=1, sort_keys=True))
            _publish(beside, self.path("json"))

    def _verified_counts(self) -> dict[str, int] | None:
        try:
            note = json.loads(self.path("json").read_text())
            if note["key"] != self.key or note["sha256"] != _digest(self.path("arrow")):
                return None
            return {str(name): int(n) for name, n in note["counts"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"--cache-dir {self.folder}: cannot be used: {error}") from error


def _publish(beside: Path, path: Path) -> None:
    # Without the flush a power cut can leave the new name on an empty file.
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


def _to_arrow(column: Column) -> pa.Array:
    if isinstance(column, Ragged):
        offsets = pa.array(column.offsets, type=pa.int64())
        return pa.LargeListArray.from_arrays(offsets, pa.array(column.values))
    return pa.array(column)


def _to_numpy(array: pa.Array) -> Column:
    """Views of the mapped file, without a copy."""
    if isinstance(array, pa.LargeListArray):
        return Ragged(_view(array.values), _view(array.offsets))
    return _view(array)


def _view(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _silent(line: str) -> None:
    pass

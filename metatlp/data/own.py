"""The source for `--own-data`: a folder of CSV and JSONL files, alone or beside another source.

Knows file names, CSV and JSONL; what a row means is in `own_rows`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metatlp.data.own_rows import ROW_FORMATS, RowFormat
from metatlp.data.plaintext import ContentHashes, read_text, shown
from metatlp.data.records import SPLITS, Question, ReadResult, Source
from metatlp.errors import InputError
from metatlp.grid import TLP, task_codes

_NAME = re.compile(
    r"(?P<task>[a-z0-9]+)_(?P<lang>[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)"
    r"\.(?P<split>[a-z]+)\.(?P<kind>csv|jsonl)"
)
_BESIDE = (".md", ".py")  # what may lie beside the data


class OwnFolder:
    """A folder of `TASK_LANG.SPLIT.csv` and `.jsonl`. The files are found once, at the start.

    Raises:
        InputError: no such folder, no file in it, one whose name is of another form, or two of
            the same TLP and split.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = Path(root)
        self._files: dict[tuple[str, TLP], Path] = {}
        for split, tlp, path in _named_files(self.root):
            other = self._files.setdefault((split, tlp), path)
            if other != path:
                raise InputError(f"{path}: {other.name} beside it has the same TLP and split")
        if not self._files:
            raise InputError(f"--own-data {self.root}: no file in it; {_expected()}")
        self._hashes = ContentHashes()

    def describe(self) -> str:
        """One phrase for the log."""
        return f"own data in {self.root}"

    def tlps(self, split: str) -> list[TLP]:
        """The TLPs for which the split exists, in grid order."""
        found = (tlp for kind, tlp in self._files if kind == split)
        return sorted(found, key=lambda tlp: tlp.order)

    def path(self, tlp: TLP, split: str) -> Path:
        """The file of a split. Raises InputError if there is none."""
        if (split, tlp) not in self._files:
            raise InputError(f"{self.root / f'{tlp}.{split}.csv'} (or .jsonl): no such file")
        return self._files[split, tlp]

    def fingerprint(self, tlp: TLP, split: str) -> str:
        """sha256 of the file's bytes, with the version of the task's row format."""
        version = ROW_FORMATS[tlp.task].version
        return self._hashes.of(self.path(tlp, split)) + (f"+{version}" if version else "")

    def read(self, tlp: TLP, split: str) -> ReadResult:
        """All examples of the split. Raises InputError naming file and line."""
        return read_own(self.path(tlp, split), ROW_FORMATS[tlp.task])


class WithOwn:
    """A source to which the TLPs of one's own folder are added, or this folder alone.

    Raises:
        InputError: both have the same TLP and split.
    """

    def __init__(self, base: Source | None, own: OwnFolder):
        self.base, self.own = base, own
        for split in SPLITS:
            both = set(base.tlps(split)) & set(own.tlps(split)) if base else set()
            for tlp in sorted(both, key=lambda tlp: tlp.order):
                assert base is not None
                raise InputError(
                    f"{own.path(tlp, split)}: {base.describe()} has {split} data for {tlp} too"
                )

    def describe(self) -> str:
        """One phrase for the log."""
        own = self.own.describe()
        return f"{self.base.describe()}, and {own}" if self.base else own

    def tlps(self, split: str) -> list[TLP]:
        """The TLPs for which the split exists, in grid order."""
        found = [*(self.base.tlps(split) if self.base else ()), *self.own.tlps(split)]
        return sorted(found, key=lambda tlp: tlp.order)

    def fingerprint(self, tlp: TLP, split: str) -> str:
        """That of the source which has the split."""
        return self._having(tlp, split).fingerprint(tlp, split)

    def read(self, tlp: TLP, split: str) -> ReadResult:
        """All examples of the split, from the source which has it."""
        return self._having(tlp, split).read(tlp, split)

    def _having(self, tlp: TLP, split: str) -> Source:
        if self.base is None or tlp in self.own.tlps(split):
            return self.own
        if tlp not in self.base.tlps(split):
            raise InputError(f"no {split} data for {tlp} in {self.describe()}")
        return self.base


def own_tlps(source: Source, split: str) -> list[TLP]:
    """The TLPs of the source that the user brought."""
    return source.own.tlps(split) if isinstance(source, WithOwn) else []


def read_own(path: Path, rows: RowFormat) -> ReadResult:
    """Read a CSV or JSONL file.

    Args:
        path: its name ends in `.csv` or `.jsonl`.
        rows: what a row means.

    Returns:
        One example per row. Counts: those of `rows.read`, `byte_order_mark`.

    Raises:
        InputError: naming the file and the line of the first thing that is wrong.
    """
    text, counts = read_text(path)
    reader = _csv_rows if path.suffix == ".csv" else _json_rows
    examples: list[Any] = []
    line_of: dict[str, int] = {}  # id of a question -> where it stands
    line = 1
    for line, row in reader(path, text, rows):
        try:
            example = rows.read(row, counts)
        except ValueError as error:
            raise InputError(f"{path}:{line}: {error}") from None
        if isinstance(example, Question) and line_of.setdefault(example.id, line) != line:
            first = line_of[example.id]
            raise InputError(
                f"{path}:{line}: the id {shown(example.id)} stands in line {first} too"
            )
        examples.append(example)
    if not examples:
        raise InputError(f"{path}:{line}: no row below the header")
    counts["read"] = len(examples)
    return ReadResult(examples, +counts)


def _csv_rows(path: Path, text: str, rows: RowFormat) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and row, by the header. A row may have several lines, inside quotes."""
    records = csv.reader(io.StringIO(text.rstrip("\n"), newline=""), strict=True)
    header: list[str] = []
    while True:
        line = records.line_num + 1
        try:
            fields = next(records, None)
        except csv.Error as error:
            raise InputError(
                f"{path}:{line}: quotes are not as CSV has them ({error}); a field with a quote, "
                "comma or line end stands in quotes, each quote in it doubled"
            ) from None
        if fields is None:
            return
        if not header:
            header = _header(path, fields, rows.columns)
        elif not fields:
            raise InputError(f"{path}:{line}: an empty line between rows")
        elif len(fields) != len(header):
            raise InputError(
                f"{path}:{line}: {len(fields)} fields, but the header has {len(header)}"
            )
        else:
            yield line, dict(zip(header, fields, strict=True))


def _header(path: Path, fields: list[str], columns: tuple[str, ...]) -> list[str]:
    for column in columns:
        if column not in fields:
            raise InputError(
                f"{path}:1: no column '{column}'; the first line names the columns "
                f"{','.join(columns)}, found {shown(','.join(fields))}"
            )
    if len(set(fields)) < len(fields):
        raise InputError(f"{path}:1: two columns have the same name: {shown(','.join(fields))}")
    return fields


def _json_rows(path: Path, text: str, rows: RowFormat) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and object."""
    for line, written in enumerate(text.rstrip("\n").split("\n"), 1):
        if not written.strip():
            raise InputError(f"{path}:{line}: an empty line between rows")
        try:
            row = json.loads(written)
            # Half a surrogate pair can be escaped in JSON, but is no character.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{line}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: no object but {shown(written)}")
        for key in rows.json_keys:
            if key not in row:
                raise InputError(
                    f"{path}:{line}: no key '{key}'; expected {', '.join(rows.json_keys)}"
                )
        yield line, row


def _named_files(root: Path) -> Iterator[tuple[str, TLP, Path]]:
    try:
        paths = sorted(root.iterdir())
    except OSError as error:
        raise InputError(f"--own-data {root}: cannot be listed ({error.strerror})") from None
    for path in paths:
        if path.is_dir() or path.name.startswith(".") or path.suffix in _BESIDE:
            continue
        match = _NAME.fullmatch(path.name)
        if match is None or match["task"] not in task_codes():
            raise InputError(f"{path}: {_expected()}")
        if match["split"] not in SPLITS or (match["split"] == "xquad" and match["task"] != "qa"):
            raise InputError(f"{path}: '{match['split']}' is no split; {_expected()}")
        yield match["split"], TLP(match["task"], match["lang"]), path


def _expected() -> str:
    return (
        "files are named TASK_LANG.SPLIT.csv or .jsonl, e.g. nli_sw.train.csv, with TASK one of "
        f"{', '.join(task_codes())} (or added by add_task) and SPLIT train, dev or test"
    )

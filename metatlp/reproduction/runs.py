"""A run: one call of a script, its key, its folder and its command.

Knows no table. A run's key is a hash of the script and of the flags that decide its result, in
which the runs that it starts from stand with their keys; so equal runs are one run, and a changed
flag changes the keys of what depends on it and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metatlp.reproduction.values import canonical

KINDS = ("data", "baseline", "mtl", "meta", "finetune", "evaluate")
DATA_SCRIPT, CUT_SCRIPT = "-m metatlp.reproduction data", "-m metatlp.reproduction cut"
# What a run has written when it has ended well, by its script.
RESULTS = {
    DATA_SCRIPT: "data.json",
    CUT_SCRIPT: "cut.json",
    "train_meta.py": "models",
    "train_mtl.py": "models",
    "finetune.py": "results.json",
    "evaluate_zeroshot.py": "scores.json",
}
# Where things lie decides no result.
PLACES = ("cache-dir",)


@dataclass(frozen=True)
class Models:
    """The value of a flag that names what another run wrote: a folder in that run's folder.

    Attributes:
        name: before `=`, as evaluate_zeroshot.py takes it; empty: the folder alone.
    """

    run: Run
    inside: str = ""
    name: str = ""

    def text(self, folder: str) -> str:
        """The value. folder: what stands for the run's folder."""
        path = f"{folder}/{self.inside}" if self.inside else folder
        return f"{self.name}={path}" if self.name else path


@dataclass(frozen=True)
class Best:
    """The value of a flag that dev chooses: the one whose runs have the best mean dev score."""

    candidates: Mapping[str, tuple[Run, ...]]

    def text(self) -> str:
        return f"<best of {','.join(self.candidates)}>"


Value = str | Best | tuple[Models, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """One call of a script.

    Attributes:
        kind: of KINDS.
        slug: first part of the folder's name.
        label: one line for a reader.
        flags: without dashes in front; not --output-dir and --resume.
        after: a run that must have ended before, which does not decide the result.
        one_process: whatever the protocol's launch line says.
    """

    kind: str
    script: str
    slug: str
    label: str
    flags: Mapping[str, Value]
    one_process: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        flags = {name: _hashed(v) for name, v in self.flags.items() if name not in PLACES}
        text = json.dumps([self.script, flags], sort_keys=True)
        object.__setattr__(self, "key", hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def folder(self) -> str:
        """In OUT."""
        return f"runs/{self.slug}-{self.key[:8]}"

    def models(self) -> Iterator[tuple[str, Models]]:
        """Flag and value, for all that other runs wrote."""
        for name, value in self.flags.items():
            if isinstance(value, tuple):
                yield from ((name, each) for each in value)

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs it starts from, each once."""
        found = [each.run for _, each in self.models()]
        for value in self.flags.values():
            if isinstance(value, Best):
                found += [run for runs in value.candidates.values() for run in runs]
        return tuple({run.key: run for run in found}.values())

    @property
    def choices(self) -> dict[str, dict[str, list[str]]]:
        """Flag -> candidate -> keys of the runs that speak for it."""
        return {
            name: {c: [run.key for run in runs] for c, runs in value.candidates.items()}
            for name, value in self.flags.items()
            if isinstance(value, Best)
        }

    def words(self, out: Path) -> dict[str, str]:
        """Flag -> value, as a command line has them. out: OUT, where it is started from."""
        return {name: _text(value, out) for name, value in self.flags.items()}

    def command(self, launch: tuple[str, ...], out: Path) -> list[str]:
        """What starts it."""
        own = launch if launch and self.kind != "data" and not self.one_process else ("python",)
        words = [*own, *self.script.split()]
        for name, value in (self.words(out) | {"output-dir": str(out / self.folder)}).items():
            words += [f"--{name}", value]
        return words


def _hashed(value: Value) -> object:
    if isinstance(value, Best):
        return {c: [run.key for run in runs] for c, runs in value.candidates.items()}
    if isinstance(value, tuple):
        return [each.text(f"@{each.run.key}") for each in value]
    return canonical(value)


def _text(value: Value, out: Path) -> str:
    if isinstance(value, Best):
        return value.text()
    if isinstance(value, tuple):
        return ",".join(each.text(str(out / each.run.folder)) for each in value)
    return value

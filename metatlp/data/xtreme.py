"""The source for `--data-dir`: a folder laid out as XTREME's download.

Knows which file holds which task, language and split; the readers know what is in the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from metatlp.data.plaintext import ContentHashes
from metatlp.data.records import SCORED_SPLITS, SPLITS, ReadResult
from metatlp.data.squad import read_squad
from metatlp.data.submission import SUBMITTED
from metatlp.data.tsv import LABELS, read_pairs, read_tagged
from metatlp.errors import InputError
from metatlp.grid import TLP

# One line per place a file can have: task, folder, file name, and the split unless the name has it.
# A name without a language is English. If a task, language and split has several files, the first
# line that matches counts.
_LANG = r"(?P<lang>[a-z]{2,3}(?:-[A-Za-z]+)?)"
_SPLIT = r"(?P<split>train|dev|test)"
_TRANSLATED = rf"en-{_LANG}-translated\.tsv"  # XTREME's translations of English train data
_MLQA_TRAIN = rf"{_LANG}_squad-translate-train-train-v1\.1\.json"  # MLQA's translations of SQuAD
_LAYOUT = (
    ("pos", "udpos", rf"{_SPLIT}-{_LANG}\.tsv", None),
    ("ner", "panx", rf"{_SPLIT}-{_LANG}\.tsv", None),
    ("nli", "xnli", rf"{_SPLIT}-{_LANG}\.tsv", None),
    ("nli", "xnli/translate-train", _TRANSLATED, "train"),
    ("nli", "xnli/XNLI-Translated", _TRANSLATED, "train"),
    ("pa", "pawsx", rf"{_SPLIT}-{_LANG}\.tsv", None),
    ("pa", "pawsx/translate-train", _TRANSLATED, "train"),
    ("pa", "pawsx/translated", _TRANSLATED, "train"),
    ("qa", "squad", r"train-v1\.1\.json", "train"),
    ("qa", "squad", _MLQA_TRAIN, "train"),
    ("qa", "mlqa/mlqa-translate-train", _MLQA_TRAIN, "train"),
    ("qa", "squad/translate-train", rf"squad\.translate\.train\.en-{_LANG}\.json", "train"),
    ("qa", "mlqa/MLQA_V1/dev", rf"dev-context-{_LANG}-question-(?P=lang)\.json", "dev"),
    ("qa", "mlqa/MLQA_V1/test", rf"test-context-{_LANG}-question-(?P=lang)\.json", "test"),
    ("qa", "squad", r"dev-v1\.1\.json", "dev"),
    ("qa", "xquad", rf"xquad\.{_LANG}\.json", "xquad"),
)
_EXPECTED = (
    "udpos/, panx/, xnli/, pawsx/ with train-en.tsv, dev-en.tsv ...; squad/train-v1.1.json; "
    "mlqa/MLQA_V1/dev/; xquad/xquad.en.json"
)


class XtremeFolder:
    """A folder laid out as XTREME's download. The files are found once, at the start.

    Args:
        root: the folder that holds `udpos`, `panx`, ...
        unlabelled: test files may be as XTREME leaves them, without any label.

    Raises:
        InputError: no such folder, or no known file in it.
    """

    def __init__(self, root: str | os.PathLike[str], unlabelled: bool = False):
        self.root, self.unlabelled = Path(root), unlabelled
        self._files: dict[tuple[str, TLP], Path] = {}
        for split, tlp, path in _known_files(self.root):
            self._files.setdefault((split, tlp), path)
        if not self._files:
            raise InputError(f"{self.root}: no file of XTREME's layout found; expected {_EXPECTED}")
        self._hashes = ContentHashes()

    def describe(self) -> str:
        """One phrase for the log."""
        return f"XTREME folder {self.root}"

    def tlps(self, split: str) -> list[TLP]:
        """The TLPs for which the split exists, in grid order."""
        _check_split(split)
        found = (tlp for kind, tlp in self._files if kind == split)
        return sorted(found, key=lambda tlp: tlp.order)

    def path(self, tlp: TLP, split: str) -> Path:
        """The file of a split. Raises InputError, naming the languages there are, if missing."""
        _check_split(split)
        path = self._files.get((split, tlp))
        if path is None:
            there = [other.lang for other in self.tlps(split) if other.task == tlp.task]
            raise InputError(
                f"{_usual_place(self.root, tlp, split)}: no such file, so no {split} data for "
                f"{tlp}; {tlp.task} has {split} data in: {', '.join(there) or 'no language'}"
            )
        return path

    def fingerprint(self, tlp: TLP, split: str) -> str:
        """sha256 of the file's bytes; computed again when its time or size changes.

        Raises:
            InputError: the file is missing or cannot be read.
        """
        # Else what was encoded for a submission would be found by those who need labels.
        mark = "+unlabelled" if self._may_lack_labels(split) else ""
        return self._hashes.of(self.path(tlp, split)) + mark

    def read(self, tlp: TLP, split: str) -> ReadResult:
        """All examples of the split. Raises InputError naming file and line."""
        path = self.path(tlp, split)
        scored, unlabelled = split in SCORED_SPLITS, self._may_lack_labels(split)
        if tlp.task == "qa":
            return read_squad(path, scored, unlabelled)
        if tlp.task in ("pos", "ner"):
            return read_tagged(path, LABELS[tlp.task], unlabelled)
        return read_pairs(path, LABELS[tlp.task], scored, unlabelled)

    def _may_lack_labels(self, split: str) -> bool:
        return self.unlabelled and split in SUBMITTED


def _known_files(root: Path) -> Iterator[tuple[str, TLP, Path]]:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one that holds {_EXPECTED}")
    for task, folder, pattern, fixed_split in _LAYOUT:
        for name in _names(root / folder):
            match = re.fullmatch(pattern, name)
            if match:
                groups = match.groupdict()
                split = fixed_split or groups["split"]
                yield split, TLP(task, groups.get("lang", "en")), root / folder / name


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror or error})") from None


def _usual_place(root: Path, tlp: TLP, split: str) -> Path:
    if tlp.task != "qa":
        folders = {"pos": "udpos", "ner": "panx", "nli": "xnli", "pa": "pawsx"}
        return root / folders.get(tlp.task, tlp.task) / f"{split}-{tlp.lang}.tsv"
    if split == "xquad":
        return root / "xquad" / f"xquad.{tlp.lang}.json"
    if split == "train" and tlp.lang == "en":
        return root / "squad" / "train-v1.1.json"
    if split == "train":
        return root / "squad" / f"{tlp.lang}_squad-translate-train-train-v1.1.json"
    name = f"{split}-context-{tlp.lang}-question-{tlp.lang}.json"
    return root / "mlqa" / "MLQA_V1" / split / name


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}'; one of {', '.join(SPLITS)}")

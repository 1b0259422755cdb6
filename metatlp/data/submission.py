"""Answers in the layout that XTREME's evaluation script reads.

    udpos, panx     test-LANG.tsv: one tag per line, an empty line after each sentence
    xnli, pawsx     test-LANG.tsv: one label per line
    mlqa, xquad     test-LANG.json: object of question id -> answer

Lines stand where those of the test file stand. Knows files; knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from metatlp.data.records import Example, Question, TaggedSentence
from metatlp.data.whole_folder import whole_folder
from metatlp.errors import InputError
from metatlp.grid import TLP

SUBMITTED = ("test", "xquad")  # the splits that XTREME scores
_FOLDERS = {"pos": "udpos", "ner": "panx", "nli": "xnli", "pa": "pawsx"}
# What a reader counts where it makes no example of a line of the file, or of a question.
_NOT_EXAMPLES = ("blank_lines", "pairs_empty", "rows_without_label", "questions_dropped")


def file_of(tlp: TLP, split: str) -> str | None:
    """The place in the submission's folder, with `/` on every machine; None: XTREME has none."""
    if tlp.task == "qa":
        return f"{'xquad' if split == 'xquad' else 'mlqa'}/test-{tlp.lang}.json"
    folder = _FOLDERS.get(tlp.task)
    return folder and f"{folder}/test-{tlp.lang}.tsv"


def text_of(examples: Sequence[Example], answers: Sequence) -> str:
    """The file.

    Args:
        examples: of one test file, in its order.
        answers: for each, its tags, its label, or the answer's text.
    """
    if isinstance(examples[0], Question):
        ids = [example.id for example in examples if isinstance(example, Question)]
        by_id = dict(zip(ids, answers, strict=True))
        if len(by_id) != len(examples):
            raise InputError("--submission: two questions of a file have the same id")
        return json.dumps(by_id, ensure_ascii=False, indent=0) + "\n"
    if isinstance(examples[0], TaggedSentence):
        return "".join("".join(f"{tag}\n" for tag in tags) + "\n" for tags in answers)
    return "".join(f"{label}\n" for label in answers)


def check_aligned(tlp: TLP, split: str, counts: Mapping[str, int]) -> None:
    """Whether the file's lines are its examples.

    Args:
        counts: what was counted while reading it.

    Raises:
        InputError: lines or questions were left out, so that the submission's would be too few.
    """
    left_out = [f"{name} {counts[name]}" for name in _NOT_EXAMPLES if counts.get(name)]
    if left_out:
        raise InputError(
            f"--submission: lines or questions of {tlp}'s {split} file were left out "
            f"({', '.join(left_out)}), so the submission's would not stand where the file's do"
        )


def check_folder(folder: Path) -> None:
    """Before hours of work. Raises InputError: it holds something already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"--submission {folder}: is there already; name another folder")


def write_submission(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files, or none.

    Args:
        files: place in the folder -> text.

    Raises:
        InputError: the folder cannot be written, or has come to hold something.
    """
    try:
        with whole_folder(folder) as unfinished:
            for name, text in files.items():
                path = unfinished / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"--submission {folder}: {error.strerror or error}") from error

"""The tasks, by code. To add one: a file, and a line here (docs/tasks.md); or, from a script of
one's own, `add_task` (docs/own_task.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from pathlib import Path
from typing import Any

from torch import nn

from metatlp.data.own_rows import ROW_FORMATS, RowFormat
from metatlp.data.plaintext import read_bytes
from metatlp.data.tsv import LABELS
from metatlp.errors import InputError
from metatlp.grid import add_task_code, task_codes
from metatlp.tasks.pair import PairClassification
from metatlp.tasks.qa import QuestionAnswering
from metatlp.tasks.tagging import Tagging
from metatlp.tasks.task import (
    MODEL_INPUTS,
    Encoded,
    Limits,
    Padding,
    Task,
    model_inputs,
)

# In the order of grid.task_codes().
TASKS: dict[str, Task] = {
    "qa": QuestionAnswering(),
    "nli": PairClassification("nli", LABELS["nli"]),
    "pa": PairClassification("pa", LABELS["pa"]),
    "pos": Tagging("pos", LABELS["pos"]),
    "ner": Tagging("ner", LABELS["ner"], entities=True),
}
# Examples per batch (b), unless --batch-size says otherwise.
BATCH_SIZES = {"qa": 8, "nli": 32, "pa": 8, "pos": 32, "ner": 32}


def add_task(task: Task, rows: RowFormat, batch_size: int = 32) -> None:
    """Make a task known to everything that this process runs afterwards.

    To be called before the command line is read, in every process of a run, always with the same.

    Args:
        task: the task; its code is a lower-case letter and at most 15 more letters or digits.
        rows: how the rows of the CSV and JSONL files in `--own-data` become its examples.
        batch_size: examples per batch, unless --batch-size says otherwise.

    Raises:
        InputError: a code that is taken or malformed, no or equal labels, no columns, a batch size
            below 1, or code that is not in a file.
    """
    if batch_size < 1:
        raise InputError(f"add_task: the batch size is {batch_size}, must be at least 1")
    if not task.labels or len(set(task.labels)) < len(task.labels):
        raise InputError(f"add_task: the labels are to be different names, not {task.labels}")
    if not rows.columns:
        raise InputError("add_task: the row format names no column")
    # The heads of a model stand in a ModuleDict, whose own attributes are no keys.
    if hasattr(nn.ModuleDict(), task.code):
        raise InputError(f"task code '{task.code}' is taken by torch's ModuleDict")
    version = _digest(type(task), rows.read)
    add_task_code(task.code)
    TASKS[task.code] = task
    BATCH_SIZES[task.code] = batch_size
    ROW_FORMATS[task.code] = dataclasses.replace(rows, version=version)
    assert tuple(TASKS) == task_codes()


def _digest(*parts: Any) -> str:
    """sha256 of the files that define these classes and functions, but for our own.

    With it a change of `encode` or of the reading makes cached rows invalid, as ENCODING_VERSION
    does for the project's tasks.
    """
    digest = hashlib.sha256()
    for part in parts:
        if (getattr(part, "__module__", None) or "").startswith("metatlp."):
            continue
        try:
            digest.update(read_bytes(Path(inspect.getfile(part))))
        except (TypeError, OSError, InputError) as error:
            raise InputError(f"add_task: {part} has to be defined in a file: {error}") from None
    return digest.hexdigest()


__all__ = [
    "BATCH_SIZES",
    "MODEL_INPUTS",
    "TASKS",
    "Encoded",
    "Limits",
    "Padding",
    "RowFormat",
    "Task",
    "add_task",
    "model_inputs",
]

"""The flags of the data: what is read, what is selected, and how it is cut into batches.

Knows no file: every rule here is checked before any is opened.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from metatlp.engine.flags import at_least, flag
from metatlp.errors import InputError
from metatlp.grid import TASK_CODES
from metatlp.tasks.task import Limits

DEFAULT_BATCH_SIZES = {"qa": 8, "nli": 32, "pa": 8, "pos": 32, "ner": 32}


@dataclass(frozen=True)
class DataArguments:
    """What is read, what is selected, and how it is cut into batches."""

    _argument_group_name: ClassVar[str] = "data"

    data: Literal["folder", "hub"] = flag(
        "where examples come from: a folder in XTREME's layout, or the Hugging Face hub", "folder"
    )
    data_dir: str | None = flag("folder in XTREME's layout (with --data folder)")
    selection: str = flag(
        "TLPs to train on (D_train): all, task:pos,ner (Task-Limited), lang:hi (Lang-Limited), or "
        "a list like qa_en,ner_hi",
        "all",
    )
    train_languages: str = flag(
        "which TLPs are in the grid: paper (Table 1), all that have training data, or those in the "
        "languages listed, e.g. en,hi,zh",
        "paper",
    )
    batch_size: str | None = flag(
        "examples per inner batch (b): one number, or per task as in qa=16,ner=8, where the other "
        "tasks keep theirs [default: qa=8,nli=32,pa=8,pos=32,ner=32]"
    )
    batch_order: Literal["epochs", "reshuffle"] = flag(
        "epochs: every example once per epoch; reshuffle: after the first pass every batch is the "
        "first of a new shuffle, as in the published code",
        "epochs",
    )
    max_length: int = flag("longest tagging or pair input, in word pieces", 128)
    qa_max_length: int = flag("longest QA window, in word pieces", 384)
    qa_stride: int = flag("distance between the starts of two QA windows, in word pieces", 128)
    qa_query_length: int = flag("longest question, in word pieces", 64)
    qa_answer_length: int = flag("longest predicted answer, in word pieces", 30)
    long_inputs: Literal["keep", "cut"] = flag(
        "keep: split long tagging inputs, truncate long pairs; cut: cut the former and drop the "
        "latter, as the published code does. Both are counted",
        "keep",
    )
    max_examples: int | None = flag(
        "use only so many examples of every training file, the first ones"
    )
    cache_dir: str | None = flag(
        "folder for encoded examples [default: $XDG_CACHE_HOME/metatlp, or ~/.cache/metatlp]"
    )

    def __post_init__(self) -> None:
        if self.data == "folder" and not self.data_dir:
            raise InputError("--data-dir: name a folder in XTREME's layout, or use --data hub")
        if self.data == "hub" and self.data_dir:
            raise InputError("--data-dir belongs to --data folder")
        at_least(1, self, "max_examples")
        self.batch_sizes()
        self.limits()

    def limits(self) -> Limits:
        """The lengths that encoding keeps to."""
        names = [field.name for field in dataclasses.fields(Limits)]
        return Limits(**{name: getattr(self, name) for name in names})

    def batch_sizes(self) -> dict[str, int]:
        """Task code -> examples per batch."""
        given: dict[str, int] = {}
        for entry in (self.batch_size or "").split(",") if self.batch_size else ():
            task, equals, number = entry.strip().rpartition("=")
            tasks = (task,) if equals else TASK_CODES
            if not (number.isascii() and number.isdecimal() and int(number)):
                raise _bad_batch_size(entry)
            if not set(tasks) <= set(TASK_CODES) or given.keys() & set(tasks):
                raise _bad_batch_size(entry)
            given.update({task: int(number) for task in tasks})
        return DEFAULT_BATCH_SIZES | given


def _bad_batch_size(entry: str) -> InputError:
    return InputError(
        f"--batch-size: cannot read '{entry}'; write one number, or qa=8,nli=32 with each of "
        f"{', '.join(TASK_CODES)} at most once"
    )

"""The flags of the data: what is read, what is selected, and how it is cut into batches.

Knows no file: every rule here is checked before any is opened.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from metatlp.data.demo_source import DemoGrid
from metatlp.engine.arguments.flags import at_least, flag, flag_name
from metatlp.errors import InputError
from metatlp.grid import task_codes
from metatlp.tasks import BATCH_SIZES, Limits

_DEMO_FIELDS = dataclasses.fields(DemoGrid)


@dataclass(frozen=True)
class SourceArguments:
    """What is read, and where encoded examples are kept."""

    _argument_group_name: ClassVar[str] = "data"

    data: Literal["folder", "hub", "demo", "own"] | None = flag(
        "where examples come from: a folder in XTREME's layout, the Hugging Face hub, the demo, a "
        "grid of artificial languages, or --own-data alone [default: folder with --data-dir, own "
        "with --own-data, otherwise demo]"
    )
    data_dir: str | None = flag("folder in XTREME's layout (with --data folder)")
    own_data: str | None = flag(
        "folder of files named like nli_sw.train.csv or nli_sw.dev.jsonl, whose TLPs are added to "
        "those of --data"
    )
    demo_seed: int | None = flag("seed of the demo's languages and examples [default: 0]")
    demo_scale: float | None = flag(
        f"the demo's size, as a factor on Table 1's examples [default: {DemoGrid.scale:g}]"
    )
    demo_label_noise: float | None = flag(
        "share of wrong labels in the demo's training examples, 0 to 1 [default: 0]"
    )
    cache_dir: str | None = flag(
        "folder for encoded examples [default: $XDG_CACHE_HOME/metatlp, or ~/.cache/metatlp]"
    )

    def __post_init__(self) -> None:
        if self.source == "folder" and not self.data_dir:
            raise InputError("--data-dir: name a folder in XTREME's layout, or use --data hub")
        if self.source != "folder" and self.data_dir:
            raise InputError("--data-dir belongs to --data folder")
        if self.source == "own" and not self.own_data:
            raise InputError("--data own needs --own-data")
        self._check_demo()

    @property
    def source(self) -> str:
        """--data, or what it is without the flag."""
        return self.data or default_source(self.data_dir is not None, self.own_data is not None)

    @property
    def demo(self) -> DemoGrid:
        """The grid of --data demo."""
        values = {field.name: getattr(self, f"demo_{field.name}") for field in _DEMO_FIELDS}
        return DemoGrid(**{name: value for name, value in values.items() if value is not None})

    @property
    def cache_folder(self) -> Path:
        """--cache-dir, or `$XDG_CACHE_HOME/metatlp`, or `~/.cache/metatlp`."""
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return Path(self.cache_dir or os.path.join(base, "metatlp"))

    def _check_demo(self) -> None:
        for name in (f"demo_{field.name}" for field in _DEMO_FIELDS):
            if getattr(self, name) is not None and self.source != "demo":
                raise InputError(f"{flag_name(name)} belongs to --data demo")
        grid = self.demo
        if not 0 <= grid.seed < 2**32:
            raise InputError(f"--demo-seed {grid.seed}: must be at least 0 and below 2^32")
        if not 0 < grid.scale <= 1:
            raise InputError(
                f"--demo-scale {grid.scale}: must be above 0, and at most 1 for Table 1's sizes"
            )
        if not 0 <= grid.label_noise <= 1:
            raise InputError(f"--demo-label-noise {grid.label_noise}: must be from 0 to 1")


@dataclass(frozen=True)
class EncodingArguments(SourceArguments):
    """How examples are encoded and cut into batches."""

    batch_size: str | None = flag(
        "examples per batch (b): one number, or per task as in qa=16,ner=8, where the other "
        "tasks keep theirs [default: qa=8,nli=32,pa=8,pos=32,ner=32]"
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

    def __post_init__(self) -> None:
        super().__post_init__()
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
            tasks = (task,) if equals else task_codes()
            if equals and re.fullmatch("[a-z0-9]+", task) and task not in task_codes():
                raise InputError(
                    f"--batch-size: unknown task '{task}'; there are {', '.join(task_codes())}; "
                    "one of your own is known to the script that adds it (docs/own_task.md)"
                )
            if not (number.isascii() and number.isdecimal() and int(number)):
                raise _bad_batch_size(entry)
            if not set(tasks) <= set(task_codes()) or given.keys() & set(tasks):
                raise _bad_batch_size(entry)
            given.update({task: int(number) for task in tasks})
        return BATCH_SIZES | given


@dataclass(frozen=True)
class DataArguments(EncodingArguments):
    """What is selected to train on, and in which order."""

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
    batch_order: Literal["epochs", "reshuffle"] = flag(
        "epochs: every example once per epoch; reshuffle: after the first pass every batch is the "
        "first of a new shuffle, as in the published code",
        "epochs",
    )


def default_source(data_dir: bool, own_data: bool) -> str:
    """The --data of a command line without it.

    Args:
        data_dir, own_data: whether --data-dir and --own-data are given.
    """
    return "folder" if data_dir else "own" if own_data else "demo"


def _bad_batch_size(entry: str) -> InputError:
    return InputError(
        f"--batch-size: cannot read '{entry}'; write one number, or qa=8,nli=32 with each of "
        f"{', '.join(task_codes())} at most once"
    )

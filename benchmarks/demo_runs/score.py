"""Scores of a finished run: dev from its log, test from the models that it exported.

Knows the project's tasks and readers; knows no table.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_runs.report import headline
from metatlp.data.cache import encode_split
from metatlp.data.demo.languages import EXTERNAL
from metatlp.data.demo_source import DemoSource
from metatlp.data.records import Example
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.placement import Placement
from metatlp.engine.run_log import timed
from metatlp.engine.scoring.evaluation import EvalSplit, Evaluator, Scores
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import MultiTaskModel, load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.task import Padding

# Percent, mean over a task's TLPs. Other numbers of threads round otherwise, which may turn over a
# label or two in a hundred examples.
TOLERANCE = 1.0


@dataclass(frozen=True)
class FinishedRun:
    """What a run left in its folder.

    Attributes:
        trained: the TLPs that it trained on.
        dev: TLP -> metrics at its end, fractions.
        source: the grid it read.
    """

    folder: Path
    data: DataArguments
    source: DemoSource
    trained: tuple[TLP, ...]
    dev: dict[TLP, Scores]
    num_steps: int
    eval_examples: int | None
    eval_batch_size: int
    placement: dict[str, Any]
    commit: str | None

    @classmethod
    def open(cls, folder: Path) -> FinishedRun:
        """Raises InputError where a file is missing or says something else than expected."""
        record = _json(folder / "args.json")
        last = _last_dev(folder / "metrics.jsonl")
        try:
            arguments = record["arguments"]
            names = [field.name for field in dataclasses.fields(DataArguments)]
            data = DataArguments(**{name: arguments[name] for name in names})
            trained = _json(folder / "data.json")["splits"]["train"]
            return cls(
                folder=folder,
                data=data,
                source=_source(data),
                trained=tuple(TLP.parse(name) for name in trained),
                dev={TLP.parse(name): values for name, values in last["dev"].items()},
                num_steps=last["step"],
                eval_examples=arguments["eval_examples"],
                eval_batch_size=arguments["eval_batch_size"],
                placement=record["placement"],
                commit=record["commit"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder}: not a run of train_meta.py ({error!r})") from error

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task in TASKS if any(tlp.task == task for tlp in self.trained))

    def test_tlps(self) -> list[TLP]:
        """Those trained, and the run's tasks in every external language."""
        external = {TLP(task, lang) for task in self.tasks for lang in EXTERNAL}
        wanted = external | set(self.trained)
        missing = wanted - set(self.source.tlps("test"))
        if missing:
            names = ", ".join(sorted(map(str, missing)))
            raise InputError(f"{self.source.root}: no test data of {names}")
        return sorted(wanted, key=lambda tlp: tlp.order)

    def examples(self, tlp: TLP, split: str, at_most: int | None = None) -> list[Example]:
        """The first examples of a split."""
        return self.source.read(tlp, split).examples[:at_most]


def score_test(run: FinishedRun, placement: Placement) -> tuple[dict[TLP, Scores], float]:
    """TLP -> metrics of its test split, and the seconds it took, encoding included.

    Raises:
        InputError: a model or a split cannot be read, or the models are not those that the run
            scored at its end.
    """
    elapsed = timed()
    model = load_models(run).to(placement.device)
    check_dev(run, score(run, model, list(run.dev), "dev", run.eval_examples, placement))
    scores = score(run, model, run.test_tlps(), "test", None, placement)
    return scores, elapsed()


def score(
    run: FinishedRun,
    model: MultiTaskModel,
    tlps: Sequence[TLP],
    split: str,
    at_most: int | None,
    placement: Placement,
) -> dict[TLP, Scores]:
    """TLP -> metrics of the first `at_most` examples of a split."""
    # All models have the same tokenizer.
    tokenizer = load_tokenizer(str(run.folder / "models" / run.tasks[0]))
    limits, cache = run.data.limits(), run.data.cache_folder
    splits = {
        tlp: EvalSplit(
            encode_split(run.source, tlp, split, tokenizer, limits, cache, at_most),
            functools.partial(run.examples, tlp, split, at_most),
        )
        for tlp in tlps
    }
    padding = Padding.of(tokenizer)
    return Evaluator(model, splits, padding, run.eval_batch_size, placement).scores()


def check_dev(run: FinishedRun, found: dict[TLP, Scores]) -> None:
    """The exported models must score on dev what the run said at its end."""
    told, now = headline(run.dev), headline(found)
    for task in run.tasks:
        off = [now[tlp] - told[tlp] for tlp in told if tlp.task == task]
        if off and abs(sum(off) / len(off)) > TOLERANCE:
            raise InputError(
                f"{run.folder}/models/{task}: its dev scores are not those at the end of the run; "
                f"mean difference {sum(off) / len(off):.2f} percent"
            )


def load_models(run: FinishedRun) -> MultiTaskModel:
    """The exported folders, as any user of transformers loads them."""
    models = {}
    for task in run.tasks:
        folder = run.folder / "models" / task
        auto: Any = TASKS[task].auto_class
        try:
            models[task] = auto.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be loaded: {str(error)[:300]}") from error
    return MultiTaskModel(models)


def _source(data: DataArguments) -> DemoSource:
    if data.source != "demo":
        raise InputError(f"--data {data.source}: only runs on the demo can be scored here")
    folder = data.demo.folder(data.cache_folder)
    # Not made anew: it would be another grid than the one that the run has seen.
    if not folder.is_dir():
        raise InputError(f"{folder}: not there; were the demo's sources changed during the run?")
    return DemoSource(data.demo, folder)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _last_dev(path: Path) -> dict[str, Any]:
    """The last record with dev scores."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    for record in reversed(records):
        if "dev" in record:
            return record
    raise InputError(f"{path}: no dev scores in it")

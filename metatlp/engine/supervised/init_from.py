"""What finetuning starts from: a plain encoder, or an exported model with its history."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from metatlp.engine.arguments.flags import flag_name
from metatlp.engine.arguments.presets import finetune_defaults
from metatlp.engine.arguments.supervised import FinetuneArguments
from metatlp.engine.build import model_of
from metatlp.engine.models import find_models, load_task_model
from metatlp.engine.provenance import Provenance, read
from metatlp.errors import InputError
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks.task import Limits

# Of Limits; what is left out of training data is every call's own choice.
_LENGTHS = [item.name for item in dataclasses.fields(Limits) if item.name != "long_inputs"]
# Whose encoder is taken for a task without a model of its own: first those with a pooler.
_DONORS = ("nli", "pa", "qa", "pos", "ner")


@dataclass(frozen=True)
class StartingPoint:
    """Where the parameters come from.

    Attributes:
        encoder: --model, or --init-from.
        models: task -> folder of its model; empty for a plain encoder.
    """

    encoder: str
    models: Mapping[str, Path]

    @property
    def kind(self) -> str:
        """For the model card, where there is no history."""
        return "a model of unknown history" if self.models else "the encoder"

    def history(self, task: str) -> Provenance | None:
        """Of the model whose encoder the task takes; None of a plain encoder, or if unknown."""
        return read(self.models[self.donor(task)]) if self.models else None

    def known(self, task: str) -> bool:
        """Whether everything is known that trained or chose what the task starts from."""
        history = self.history(task)
        return not self.models or (history is not None and history.complete)

    def digest(self, task: str) -> str:
        """sha256 of the weights that the task starts from; of a hub id the id."""
        return _digest(self.folder(task))

    def donor(self, task: str) -> str:
        """The task whose model gives the encoder; only with `models`."""
        donors = [task, *(name for name in _DONORS if name in self.models), *self.models]
        return next(name for name in donors if name in self.models)

    def folder(self, task: str) -> str:
        """The hub id or folder that the task's encoder is loaded from."""
        return str(self.models[self.donor(task)]) if self.models else self.encoder

    def line(self, task: str) -> str:
        """What a task starts from, for people."""
        if not self.models:
            return f"{task}: from the encoder {self.encoder}, with a new head"
        head = "its own head" if task in self.models else "a new head"
        return f"{task}: from {self.folder(task)}, with {head}"

    def build(self, task: str, arguments: FinetuneArguments, seed: int) -> MultiTaskModel:
        """The model of one task; a new head is a function of the seed.

        Raises:
            InputError: it cannot be had.
        """
        foreign = bool(self.models) and task not in self.models
        random = arguments.from_config or foreign
        model = model_of(arguments, [task], seed, self.folder(task), from_config=random)
        if foreign:
            _give_encoder(self.models[self.donor(task)], self.donor(task), model)
        return model


@lru_cache
def _digest(name: str) -> str:
    whole, files = hashlib.sha256(), sorted(Path(name).glob("*.safetensors"))
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest() if files else name


def _give_encoder(folder: Path, task: str, model: MultiTaskModel) -> None:
    """Copy what both models have of the encoder (BERT's has a pooler for pairs alone)."""
    donor = load_task_model(folder, task, torch.device("cpu")).named_uses()
    for name, (parameter, _) in model.named_uses().items():
        if name in donor and name.startswith("encoder."):
            parameter.data.copy_(donor[name][0].data)


def starting_point(arguments: FinetuneArguments) -> StartingPoint:
    """Of the flags, with the demo's encoder as --model if it is that.

    Raises:
        InputError: --init-from names no models.
    """
    if arguments.init_from is None:
        assert arguments.model is not None
        return StartingPoint(arguments.model, {})
    return StartingPoint(arguments.init_from, _models(arguments.init_from))


def init_folder(arguments: FinetuneArguments) -> str | None:
    """One of the folders of --init-from, whose tokenizer and configuration stand for all."""
    if arguments.init_from is None:
        return None
    return str(next(iter(_models(arguments.init_from).values())))


def init_defaults(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of finetune.py: the lengths and the tokenizer are those of --init-from.

    Args:
        explicit: field name -> value of the flags that the user gave.

    Raises:
        InputError: --init-from names no models.
    """
    values = finetune_defaults(explicit)
    if explicit.get("init_from"):
        models = _models(explicit["init_from"])
        values["tokenizer"] = str(next(iter(models.values())))
        known = [history.limits for history in map(read, models.values()) if history]
        lengths = {name: {getattr(limits, name) for limits in known} for name in _LENGTHS}
        for name in (name for name in _LENGTHS if name not in explicit and lengths[name]):
            if len(lengths[name]) > 1:
                raise InputError(
                    f"--init-from {explicit['init_from']}: its models were trained with different "
                    f"{flag_name(name)}; name it, or one TASK folder"
                )
            values[name] = next(iter(lengths[name]))
    return values


def _models(path: str) -> dict[str, Path]:
    try:
        return find_models(path)
    except InputError as error:
        raise InputError(str(error).replace("--model", "--init-from", 1)) from error

"""One encoder shared by one ordinary `AutoModelFor...` per task.

Knows transformers' models; knows neither the arena nor any task beyond its head.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from metatlp.errors import InputError
from metatlp.seeds import derive_seed

# Its reports of missing heads and its progress bars say nothing that our first lines do not.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
# Where DeepSpeed is installed, transformers imports it in order to save a model. Without a GPU it
# would take the CPU all the same, and say so on standard output.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

_MESSAGE = 300  # characters kept of an error of transformers


@dataclass(frozen=True)
class HeadSpec:
    """What a task asks of its model: the auto class and the names of its labels (none for QA)."""

    auto_class: type
    labels: tuple[str, ...]


class MultiTaskModel(nn.Module):
    """A model per task; all of them hold the same encoder modules."""

    def __init__(self, models: Mapping[str, PreTrainedModel]):
        super().__init__()
        self.models = nn.ModuleDict(models)
        self._task_models = dict(models)

    def forward(self, task: str, inputs: Mapping[str, Tensor]) -> Any:
        """The task's model applied to (B, T) tensors input_ids, attention_mask, token_type_ids."""
        return self._task_models[task](**inputs)

    def named_uses(self) -> dict[str, tuple[nn.Parameter, frozenset[str]]]:
        """Canonical name -> (parameter, the tasks that use it), each parameter once.

        Names are `encoder.<name in the base model>` and `head.<task>.<name in the task's model>`.
        """
        found: dict[int, tuple[str, nn.Parameter, set[str]]] = {}
        for task, model in self._task_models.items():
            prefix = model.base_model_prefix + "."
            for name, parameter in model.named_parameters():
                shared = name.startswith(prefix)
                own = f"encoder.{name.removeprefix(prefix)}" if shared else f"head.{task}.{name}"
                found.setdefault(id(parameter), (own, parameter, set()))[2].add(task)
        uses = {name: (parameter, frozenset(tasks)) for name, parameter, tasks in found.values()}
        assert len(uses) == len(found), "an encoder parameter is not shared between the tasks"
        return uses

    @property
    def revision(self) -> str | None:
        """The commit of the hub's repository that the encoder came from; None of a folder."""
        configs = (model.config for model in self._task_models.values())
        return next((getattr(config, "_commit_hash", None) for config in configs), None)

    def export(self, task: str, folder: str | os.PathLike[str]) -> None:
        """Save the task's model so that its `AutoModelFor....from_pretrained` loads it."""
        self._task_models[task].save_pretrained(folder)


def empty_copy(model: MultiTaskModel, auto_classes: Mapping[str, type]) -> MultiTaskModel:
    """A model of the same configurations on the CPU, in float32, whose weights say nothing.

    Args:
        auto_classes: task -> that of its model.
    """
    models: dict[str, PreTrainedModel] = {}
    shared: dict[str, nn.Module] = {}
    with torch.random.fork_rng(devices=[]):
        for task, own in model.models.items():
            auto: Any = auto_classes[task]
            config = copy.deepcopy(own.config)
            models[task] = auto.from_config(config, trust_remote_code=False, dtype=torch.float32)
            _share_encoder(models[task], shared)
    return MultiTaskModel(models)


def _share_encoder(model: PreTrainedModel, shared: dict[str, nn.Module]) -> None:
    """Make the model's base hold the children in `shared`; those it is the first to have go there.

    Children, not the base itself: BERT's base has a pooler for sentence pairs and none for tagging.
    """
    base = model.base_model
    own = [name for name, _ in base.named_parameters(recurse=False)]
    if own:
        raise InputError(
            f"--model: {type(base).__name__} has parameters of its own ({', '.join(own)}), "
            "which the tasks' models cannot share"
        )
    for name, child in list(base.named_children()):
        setattr(base, name, shared.setdefault(name, child))


def load_config(name: str, dropout: float | None) -> Any:
    """The encoder's configuration, with every dropout probability set to `dropout` unless None.

    Raises:
        InputError: no such folder or hub id, or no configuration in it.
    """
    if name.startswith(("/", ".", "~")) and not os.path.isdir(name):
        raise InputError(f"--model {name}: no such folder")
    with errors_named(f"--model {name}"):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if dropout is not None:
        for key in config.to_dict():
            if key.endswith(("dropout", "dropout_prob")) and "layer" not in key:
                setattr(config, key, dropout)
    return config


def build_model(
    name: str,
    heads: Mapping[str, HeadSpec],
    *,
    seed: int,
    dropout: float | None = None,
    attention: str = "sdpa",
    from_config: bool = False,
    gradient_checkpointing: bool = False,
) -> MultiTaskModel:
    """Build the shared encoder with one head per task, in float32.

    Args:
        name: hub id or folder.
        heads: task code -> head.
        seed: a new head is a function of (seed, task); with `from_config` the encoder is the one
            drawn with the first task.
        dropout: probability for every dropout of the model; None keeps the configuration's.
        attention: transformers' attention implementation, `sdpa` or `eager`.
        from_config: random weights from the configuration in `name` instead of pretrained ones.
        gradient_checkpointing: recompute activations in the backward pass.

    Raises:
        InputError: the model cannot be had, or its architecture lacks a head that a task needs.
    """
    config = load_config(name, dropout)
    models: dict[str, PreTrainedModel] = {}
    shared: dict[str, nn.Module] = {}
    with torch.random.fork_rng(devices=[]):
        for task, head in heads.items():
            torch.manual_seed(derive_seed(seed, "head", task))
            models[task] = _task_model(name, copy.deepcopy(config), head, attention, from_config)
            # At once, so that there are never more than two encoders in memory.
            _share_encoder(models[task], shared)
    model = MultiTaskModel(models)
    if gradient_checkpointing:
        for task_model in models.values():
            task_model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def count_parameters(name: str, heads: Mapping[str, HeadSpec], attention: str = "sdpa") -> int:
    """Parameters of `build_model`'s result, without making them.

    Raises:
        InputError: as build_model.
    """
    with torch.device("meta"):
        model = build_model(name, heads, seed=0, attention=attention, from_config=True)
    return sum(parameter.numel() for parameter, _ in model.named_uses().values())


def load_tokenizer(name: str) -> Any:
    """The fast tokenizer in folder or hub id `name`.

    Raises:
        InputError: it cannot be had, or there is only a slow one.
    """
    with errors_named(f"--tokenizer {name}"):
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise InputError(f"--tokenizer {name}: a fast tokenizer is needed (a tokenizer.json)")
    # transformers builds a tokenizer of special tokens only where it finds no file of one.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(f"--tokenizer {name}: no vocabulary found")
    return tokenizer


def _task_model(
    name: str, config: Any, head: HeadSpec, attention: str, from_config: bool
) -> PreTrainedModel:
    if head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: i for i, label in enumerate(head.labels)}
    options: dict[str, Any] = {"attn_implementation": attention, "dtype": torch.float32}
    auto: Any = head.auto_class
    with errors_named(f"--model {name}"):
        if from_config:
            model = auto.from_config(config, trust_remote_code=False, **options)
        else:
            model = auto.from_pretrained(name, config=config, trust_remote_code=False, **options)
    return model


@contextmanager
def errors_named(what: str) -> Iterator[None]:
    """Make whatever transformers raises while loading the user's files an InputError."""
    try:
        yield
    except Exception as error:
        # Its kinds of errors are many, and tokenizers raises plain Exception.
        text = " ".join(str(error).split())
        kind = "" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: "
        raise InputError(f"{what}: {kind}{text[:_MESSAGE]}") from error

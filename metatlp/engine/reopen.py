"""From a checkpoint back to the flags and the model that it was made with.

Knows what a checkpoint holds; trains nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from metatlp.engine.args import MetaArguments
from metatlp.engine.build import head_specs
from metatlp.engine.checkpoint import Checkpoint
from metatlp.engine.data_args import DataArguments
from metatlp.errors import InputError
from metatlp.model.arena import Arena
from metatlp.model.multitask import MultiTaskModel, build_model

Arguments = TypeVar("Arguments")


def saved_arguments(
    saved: Checkpoint, replaced: Mapping[str, Any]
) -> tuple[DataArguments, MetaArguments]:
    """The flags of the run that wrote a checkpoint.

    Args:
        replaced: field name -> value that takes the saved one's place, such as `data_dir`, for data
            may lie elsewhere now.
    """
    values = {**saved.state["arguments"], **replaced}
    # Of the sampler nothing is needed, and one of the user's own may not be known here.
    values |= {"sampler": "uniform", "tau": None, "size_unit": None, "weights_file": None}
    if values["model"] == "demo":
        # What `args.resolved` wrote for the demo's own encoder.
        values |= {"model": None, "tokenizer": None}
    return _of(DataArguments, values), _of(MetaArguments, values)


def _of(kind: type[Arguments], values: Mapping[str, Any]) -> Arguments:
    assert dataclasses.is_dataclass(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name in values]
    chosen = {name: math.inf if values[name] == "inf" else values[name] for name in names}
    return kind(**chosen)


def load_theta(
    saved: Checkpoint, meta: MetaArguments, device: torch.device
) -> tuple[MultiTaskModel, Arena]:
    """The model of a checkpoint, at its theta.

    Args:
        meta: the run's flags, with --model a folder or a hub id.

    Raises:
        InputError: --model is not the encoder that was trained.
    """
    theta = saved.tensors["theta"]
    tasks = {name.split(".")[1] for name in theta if name.startswith("head.")}
    assert meta.model is not None
    model = build_model(
        meta.model,
        head_specs(tasks),
        seed=meta.seed,
        dropout=meta.dropout,
        attention=meta.attention,
        from_config=True,
        gradient_checkpointing=meta.gradient_checkpointing,
    ).to(device)
    arena = Arena(model.named_uses())
    views = arena.views(arena.live)
    shapes = {name: tuple(view.shape) for name, view in views.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in theta.items()}:
        raise InputError(f"{saved.path} does not hold the parameters of --model {meta.model}")
    for name, view in views.items():
        view.copy_(theta[name])
    return model, arena

"""From a checkpoint back to the flags and the model that it was made with.

Knows what a checkpoint holds; trains nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch

from metatlp.engine.arguments.data import DataArguments, SourceArguments
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.build import head_specs
from metatlp.engine.checkpoint import Checkpoint
from metatlp.engine.demo import build_demo_encoder
from metatlp.engine.provenance import Provenance, of_meta_run
from metatlp.errors import InputError
from metatlp.model.arena import Arena
from metatlp.model.multitask import MultiTaskModel, build_model, load_tokenizer

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
    """The model of a checkpoint of train_meta.py, at its theta.

    Args:
        meta: the run's flags, with --model a folder or a hub id.

    Raises:
        InputError: --model is not the encoder that was trained.
    """
    assert meta.model is not None
    return _at_theta(
        saved,
        meta.model,
        device,
        dropout=meta.dropout,
        attention=meta.attention,
        gradient_checkpointing=meta.gradient_checkpointing,
    )


def reopen(
    saved: Checkpoint,
    log: Callable[[str], None],
    encoder: str | None = None,
    tokenizer: str | None = None,
) -> tuple[MultiTaskModel, Any]:
    """The model of any script's checkpoint at its theta, on the CPU, and its tokenizer.

    Needs of the checkpoint the tensors `theta` and the resolved flags `arguments`, of these `model`
    and, where they are there, `tokenizer`, `dropout` and `attention`; for the demo's own encoder
    `demo_seed`, `pretrain_steps` and `cache_dir` too.

    Args:
        encoder, tokenizer: where they lie now; None: where they were.

    Raises:
        InputError: they cannot be had, or are not those that were trained.
    """
    flags = saved.state["arguments"]
    where = {flags["model"]: encoder or flags["model"]}
    if where[flags["model"]] == "demo":
        cache = SourceArguments(cache_dir=flags["cache_dir"]).cache_folder
        steps = flags["pretrain_steps"]
        where["demo"] = str(build_demo_encoder(cache, flags["demo_seed"], steps, log))
    own = flags.get("tokenizer") or flags["model"]
    loaded = load_tokenizer(tokenizer or where.get(own, own))
    model, _ = _at_theta(
        saved,
        where[flags["model"]],
        torch.device("cpu"),
        dropout=flags.get("dropout"),
        attention=flags.get("attention") or "sdpa",
    )
    return model.eval(), loaded


def saved_provenance(
    saved: Checkpoint, scores: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> Provenance:
    """Where the model of a checkpoint comes from: what its state says under `provenance`
    (Provenance.as_json), or, without that, of train_meta.py's flags.

    Args:
        scores: at its step; they take the place of any that it holds.

    Raises:
        InputError: the checkpoint does not say it.
    """
    state = saved.state
    try:
        found = state.get("provenance")
        own = of_meta_run(state, scores) if found is None else Provenance.of_json(found)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{saved.path}: does not say what it was made with ({error})") from error
    return replace(own, scores=scores or own.scores)


def _at_theta(
    saved: Checkpoint,
    encoder: str,
    device: torch.device,
    *,
    dropout: float | None,
    attention: str,
    gradient_checkpointing: bool = False,
) -> tuple[MultiTaskModel, Arena]:
    theta = saved.tensors["theta"]
    tasks = {name.split(".")[1] for name in theta if name.startswith("head.")}
    model = build_model(
        encoder,
        head_specs(tasks),
        seed=0,  # of weights that theta's take the place of
        dropout=dropout,
        attention=attention,
        from_config=True,
        gradient_checkpointing=gradient_checkpointing,
    ).to(device)
    arena = Arena(model.named_uses())
    views = arena.views(arena.live)
    shapes = {name: tuple(view.shape) for name, view in views.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in theta.items()}:
        raise InputError(f"{saved.path} does not hold the parameters of --model {encoder}")
    for name, view in views.items():
        view.copy_(theta[name])
    return model, arena

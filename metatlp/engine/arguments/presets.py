"""Presets: named groups of defaults that explicit flags override.

Knows the names of flags and when a preset's value has no place; parses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metatlp.engine.arguments.data import default_source
from metatlp.errors import InputError
from metatlp.sampling import SAMPLERS

# `paper` is the flags' own defaults. `authors-code` is the published code where it differs from
# them. `debug` is a run of seconds. `demo` fits the demo's short sentences and small encoder.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "authors-code": {
        "inner_lr": 5e-5,
        "epochs": 3.0,
        "dropout": 0.0,
        "inner_state": "carry",
        "idle_heads": "momentum",
        "size_unit": "batches",
        "batch_order": "reshuffle",
        "long_inputs": "cut",
    },
    "debug": {
        "meta_batch_size": 2,
        "inner_steps": 2,
        "max_meta_steps": 3,
        "max_examples": 64,
        "batch_size": "4",
        "eval_examples": 32,
    },
    "demo": {
        "meta_batch_size": 4,
        "inner_lr": 4e-3,
        "epochs": 2.5,
        "dropout": 0.0,
        "batch_size": "16",
        "max_length": 64,
        "qa_max_length": 160,
        "qa_stride": 64,
        "qa_query_length": 32,
        "eval_examples": 100,
    },
}
# What authors-code adds with --sampler multidds.
AUTHORS_MULTIDDS = {"epochs": 5.0, "reward": "adam-delta", "reward_batches": 1}
# What debug adds with a sampler that learns: it has but three meta steps.
DEBUG_LEARNING = {"dds_every": 1}
# What --debug adds on the demo: grid and encoder are made in seconds, and pretraining is tried out,
# although the encoder's default has none.
TINY_DEMO = {"demo_scale": 0.0005}
TINY_PRETRAINING = {"pretrain_steps": 10}


# Of the demo's preset, what any script that trains on it takes.
DEMO_DATA = {
    name: PRESETS["demo"][name]
    for name in (
        *("dropout", "batch_size", "max_length", "qa_max_length", "qa_stride", "qa_query_length"),
        "eval_examples",
    )
}
DEMO_MTL = {**DEMO_DATA, "lr": 1e-3, "epochs": 2.5}
DEMO_FINETUNE = {**DEMO_DATA, "lr": "1e-3"}


def preset_values(preset: str, *parts: object) -> dict[str, Any]:
    """Field name -> value, of the fields that the demo's preset sets; none of another preset."""
    return values_of(PRESETS["demo"], *parts) if preset == "demo" else {}


def values_of(names: Iterable[str], *parts: object) -> dict[str, Any]:
    """Field name -> value, of the fields of those names."""
    values = {name: value for part in parts for name, value in vars(part).items()}
    return {name: values[name] for name in names}


def is_demo(explicit: Mapping[str, Any]) -> bool:
    """SourceArguments.source == "demo", of which only the explicit flags are known here."""
    usual = default_source("data_dir" in explicit, "own_data" in explicit)
    return explicit.get("data", usual) == "demo"


def mtl_defaults(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of train_mtl.py, as preset_defaults are those of train_meta.py."""
    if "epochs" in explicit and "match_updates" in explicit:
        raise InputError("--match-updates takes the place of --epochs: give one of them")
    if is_demo(explicit):
        return {**DEMO_MTL, "output_dir": "runs/demo-mtl"}
    _require_model(explicit, "model")
    return {}


def finetune_defaults(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of finetune.py, those of the lengths aside, which --init-from may say."""
    if is_demo(explicit):
        return {**DEMO_FINETUNE, "output_dir": "runs/demo-finetune"}
    _require_model(explicit, "model", "init_from")
    return {}


def _require_model(explicit: Mapping[str, Any], *names: str) -> None:
    if not any(name in explicit for name in names):
        flags = " or ".join(f"--{name.replace('_', '-')}" for name in names)
        raise InputError(f"{flags}: name an encoder (a hub id or a folder); only the demo has one")


def preset_defaults(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that the preset of a command line puts in the place of the flags' own.

    Args:
        explicit: field name -> value of the flags that the user gave.

    Raises:
        InputError: `--debug` together with a preset other than debug; no `--model` although the
            data is not the demo's.
    """
    demo = is_demo(explicit)
    if not demo:
        _require_model(explicit, "model")
    usual = "debug" if explicit.get("debug") else "demo" if demo else "paper"
    preset = explicit.get("preset", usual)
    if explicit.get("debug") and preset != "debug":
        raise InputError(f"--debug is --preset debug; it does not go with --preset {preset}")
    values = {"preset": preset, **PRESETS[preset]}
    if demo:
        values["output_dir"] = "runs/demo"
        if preset == "debug":
            tiny = TINY_DEMO | ({} if "model" in explicit else TINY_PRETRAINING)
            values = {**PRESETS["demo"], **values, **tiny}
    sampler = explicit.get("sampler", "temp")
    if preset == "authors-code" and sampler == "multidds":
        values |= AUTHORS_MULTIDDS
    if sampler in SAMPLERS and not SAMPLERS[sampler].uses_sizes:
        values.pop("size_unit", None)
    if preset == "debug" and sampler in SAMPLERS and SAMPLERS[sampler].learns:
        values |= DEBUG_LEARNING
    return values

"""Presets: named groups of defaults that explicit flags override.

Knows the names of flags and when a preset's value has no place; parses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metatlp.errors import InputError

# `paper` is the flags' own defaults. `authors-code` is the published code where it differs from
# them. `debug` is a run of seconds.
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
}


def preset_defaults(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that the preset of a command line puts in the place of the flags' own.

    Args:
        explicit: field name -> value of the flags that the user gave.

    Raises:
        InputError: `--debug` together with a preset other than debug.
    """
    preset = explicit.get("preset", "debug" if explicit.get("debug") else "paper")
    if explicit.get("debug") and preset != "debug":
        raise InputError(f"--debug is --preset debug; it does not go with --preset {preset}")
    values = {"preset": preset, **PRESETS[preset]}
    if explicit.get("sampler", "temp") != "temp":
        values.pop("size_unit", None)
    return values

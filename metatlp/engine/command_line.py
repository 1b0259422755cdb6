"""From argv to dataclasses: strict flags, presets, and one-line errors with exit code 2.

Knows the form of the command line, not what any flag means.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser

from metatlp.errors import InputError


class FlagParser(HfArgumentParser):
    """HfArgumentParser without abbreviations, whose errors are InputErrors."""

    def __init__(self, dataclass_types: Sequence[type], description: str):
        super().__init__(list(dataclass_types), description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parse_flags(
    dataclass_types: Sequence[type],
    presets: Mapping[str, Mapping[str, Any]],
    description: str,
    argv: Sequence[str],
) -> tuple[Any, ...]:
    """One frozen dataclass per type, with the defaults of `--preset` (or of `--debug`).

    Raises:
        InputError: an unknown flag, a bad value, or a cross-field rule.
    """
    parser = FlagParser(dataclass_types, description)
    known = vars(parser.parse_known_args(list(argv))[0])
    preset = known["preset"]
    if known["debug"]:
        if preset not in ("paper", "debug"):
            raise InputError(f"--debug is --preset debug; it does not go with --preset {preset}")
        preset = "debug"
    parser.set_defaults(**{"preset": preset, **presets[preset]})
    if preset == "debug":
        parser.set_defaults(debug=True)
    return parser.parse_args_into_dataclasses(list(argv), look_for_args_file=False)


def run_script(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a script's main; an InputError is one line on standard error and exit code 2.

    Under a launcher only rank 0 prints it: user errors are the same on every rank.
    """
    try:
        code = main(sys.argv[1:])
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            message = " ".join(str(error).split())
            print(f"{os.path.basename(sys.argv[0])}: error: {message}", file=sys.stderr, flush=True)
        code = 2
    sys.exit(code)

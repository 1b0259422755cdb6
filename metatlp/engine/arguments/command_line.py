"""From argv to dataclasses: strict flags, presets, and one-line errors with exit code 2.

Knows the form of the command line, not what any flag means.
"""

from __future__ import annotations

import difflib
import os
import sys
from argparse import Action, ArgumentDefaultsHelpFormatter, Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser

from metatlp.engine import heartbeat
from metatlp.engine.placement import AgreedError
from metatlp.engine.signals import Stopped
from metatlp.errors import DivergedError, InputError

_NOT_GIVEN = object()


class _HelpFormatter(ArgumentDefaultsHelpFormatter):
    """Shows defaults, except None, which says nothing to a reader."""

    def _get_help_string(self, action: Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class FlagParser(HfArgumentParser):
    """HfArgumentParser without abbreviations, whose errors are InputErrors."""

    def __init__(self, dataclass_types: Sequence[Any], description: str):
        super().__init__(
            list(dataclass_types),
            description=description,
            usage="%(prog)s [flags]",
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def explicit(self, argv: Sequence[str]) -> dict[str, Any]:
        """Field name -> value of the flags that stand in argv.

        Raises:
            InputError: an unknown flag, a stray or empty word, or a value of the wrong kind.
        """
        # argparse leaves attributes alone that are there already.
        marked = {action.dest: _NOT_GIVEN for action in self._actions if action.dest != "help"}
        namespace, unknown = self.parse_known_args(list(argv), Namespace(**marked))
        if unknown:
            self._refuse(unknown[0])
        given = {name: v for name, v in vars(namespace).items() if v is not _NOT_GIVEN}
        for name, value in given.items():
            if isinstance(value, str) and not value.strip():
                raise InputError(f"--{name.replace('_', '-')}: the value is empty")
        return given

    def _refuse(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            raise InputError(f"'{word}' follows no flag")
        flag = word.partition("=")[0]
        known = [option for option in self._option_string_actions if "_" not in option]
        near = difflib.get_close_matches(flag, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "--help lists all flags"
        raise InputError(f"unknown flag {flag}; {hint}")


def parse_flags(
    dataclass_types: Sequence[Any],
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    description: str,
    argv: Sequence[str],
) -> tuple[Any, ...]:
    """One dataclass per type.

    Args:
        defaults: from the explicit flags (field name -> value) to the defaults of the others, where
            they are not the dataclasses' own.

    Raises:
        InputError: an unknown flag, a bad value, or a cross-field rule.
    """
    parser = FlagParser(dataclass_types, description)
    parser.set_defaults(**defaults(parser.explicit(argv)))
    return parser.parse_args_into_dataclasses(list(argv), look_for_args_file=False)


def run_script(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a script's main; an InputError is one line on standard error and exit code 2.

    With several ranks an error that all of them have is printed by rank 0 alone. A run that a
    signal ended is one line on standard output and exit code 0; one that has lost a rank is one
    line on standard error, told by one of the others, and exit code 1.
    """
    try:
        code = main(sys.argv[1:])
        heartbeat.end(finished=True)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    except InputError as error:
        if _speaks(error):
            message = " ".join(str(error).split())
            print(f"{os.path.basename(sys.argv[0])}: error: {message}", file=sys.stderr, flush=True)
        code = 2
    except DivergedError as error:
        # The same on all ranks.
        if os.environ.get("RANK", "0") == "0":
            print(
                f"{os.path.basename(sys.argv[0])}: diverged: {error}", file=sys.stderr, flush=True
            )
        code = 1
    except RuntimeError as error:
        heartbeat.explain(error)
        raise
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print(stopped, flush=True)
        code = 0
    finally:
        heartbeat.end(finished=False)
    sys.exit(code)


def _speaks(error: InputError) -> bool:
    # Before the ranks have met, each of them finds the same fault in the flags or the launch.
    alone = torch.distributed.is_initialized() and not isinstance(error, AgreedError)
    return alone or os.environ.get("RANK", "0") == "0"

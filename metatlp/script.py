"""The command line of a small script: what the user got wrong is one line, and exit code 2.

Needs only the standard library. Knows no flag; the scripts that train have
engine/arguments/command_line.py.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from metatlp.errors import InputError


class ScriptParser(argparse.ArgumentParser):
    """Flags without abbreviations; every fault is an InputError."""

    def __init__(self, program: str, description: str):
        super().__init__(program, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def run_other(argv: Sequence[str]) -> None:
    """Run another script in this process, as python would: `SCRIPT [flags]` or `-m MODULE [flags]`.

    For a script of one's own that adds something before the other begins.
    """
    named = list(argv[1:] if argv[:1] == ["-m"] else argv)
    if not named or named[0].startswith("-"):
        print(f"{sys.argv[0]}: error: name a script, or -m and a module, to run", file=sys.stderr)
        sys.exit(2)
    sys.argv = named
    if len(named) < len(argv):
        runpy.run_module(named[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(named[0], run_name="__main__")


def exit_code(program: str, run: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run a script.

    Args:
        program: its name, before the message.
        run: takes argv; prints what was done.

    Returns:
        0, or 2 after an InputError, which is then on standard error.
    """
    try:
        run(argv)
    except InputError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0

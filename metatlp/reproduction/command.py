"""The commands of `python -m metatlp.reproduction`.

Each imports its own module, for some are heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from metatlp.errors import InputError
from metatlp.script import exit_code

COMMANDS = {
    "plan": "plan PROTOCOL OUT [NAME=VALUE ...]: write OUT/plan.json, and say what it would cost",
    "run": "run OUT KEY [KEY ...]: make runs of OUT/plan.json",
    "data": "data FLAGS: the counts of the data, and the majority baseline",
    "cut": "cut FLAGS: data cut to Table 1's proportions",
    "calibrate": "calibrate FILE PROTOCOL [NAME=VALUE ...]: measure what the estimates need",
    "warm": "warm SOCKET: fork scripts, for `run`",
}


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    if argv and argv[0] == "data":
        from metatlp.reproduction import data

        sys.argv = [f"{sys.argv[0]} data", *argv[1:]]
        data.script()
    return exit_code("metatlp.reproduction", _run, argv)


def _run(argv: Sequence[str]) -> None:
    name, *rest = argv or ("",)
    if name == "run":
        from metatlp.reproduction import run

        run.main(rest)
    elif name == "cut":
        from metatlp.reproduction import cut

        cut.main(rest)
    elif name == "warm" and len(rest) == 1:
        from metatlp.reproduction import warm

        warm.serve(rest[0])
    elif name == "plan" and len(rest) >= 2:
        from pathlib import Path

        from metatlp.reproduction.plan import make_plan

        plan = make_plan(rest[0], settings_of(rest[2:]))
        plan.write(Path(rest[1]))
        for target in plan.targets():
            print(plan.summary(Path(rest[1]), target)[0])
        print("\n".join(plan.summary(Path(rest[1]))))
    elif name == "calibrate" and len(rest) >= 2:
        from metatlp.reproduction.calibrate import calibrate

        calibrate(rest[0], rest[1], settings_of(rest[2:]))
    else:
        raise InputError("write one of: " + "; ".join(COMMANDS.values()))


def settings_of(words: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises InputError for another form."""
    for word in words:
        if "=" not in word:
            raise InputError(f"'{word}': write NAME=VALUE")
    return dict(word.split("=", 1) for word in words)

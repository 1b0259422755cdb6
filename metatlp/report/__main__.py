"""The report of one run: curves, probabilities, rewards, dev scores, time and memory.

    python -m metatlp.report runs/demo

Takes the folder of a run of train_meta.py, train_mtl.py or finetune.py, and writes report.html
into it, which needs no other file.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.report.finetuning_page import finetuning_sections
from metatlp.report.json_file import read_json
from metatlp.report.page import render
from metatlp.report.run_pages import training_sections
from metatlp.script import ScriptParser, exit_code

PROGRAM = "python -m metatlp.report"
NAME = "report.html"


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return exit_code(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> None:
    """Write the page.

    Raises:
        InputError: no such run, or a file of it is damaged.
    """
    parser = ScriptParser(PROGRAM, (__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="folder of a run of train_meta.py, train_mtl.py, finetune.py")
    parser.add_argument("--output", help="the page [RUN/report.html]")
    flags = parser.parse_args(argv)
    folder = Path(flags.run)
    output = Path(flags.output or folder / NAME)
    text = page_of(folder)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}") from error
    print(f"wrote {output}")


def page_of(folder: Path) -> str:
    """The page of a run.

    Raises:
        InputError: it is no run, or damaged.
    """
    args = read_json(folder / "args.json", "the flags of a run")
    arguments, command = args.get("arguments"), args.get("command")
    if not isinstance(arguments, dict) or not isinstance(command, list):
        raise InputError(f"{folder}/args.json: damaged (no arguments or command)")
    if (folder / "results.json").exists():
        kind, (sections, facts) = "finetuning", finetuning_sections(folder)
    elif "tlp" in arguments:
        raise InputError(f"{folder}/results.json: this call of finetune.py has not ended yet")
    else:
        is_meta = "meta_batch_size" in arguments
        kind = "meta-training" if is_meta else "multi-task learning"
        sections, facts = training_sections(folder, is_meta)
    return render(
        "run.html",
        title=f"{folder.resolve().name}: {kind}",
        subtitle=f"started {args.get('started')} on {args.get('machine')}",
        warnings=[],
        facts=facts,
        sections=sections,
        command=shlex.join(map(str, command)),
        versions=[*_about(args)],
        flags=[[name, _text(value)] for name, value in sorted(arguments.items())],
    )


def _about(args: dict[str, Any]) -> list[list[str]]:
    rows = [[name, _text(version)] for name, version in (args.get("versions") or {}).items()]
    rows.append(["commit", _text(args.get("commit"))])
    placement = args.get("placement") or {}
    return rows + [[name, _text(value)] for name, value in placement.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The command line of the generator: python -m metatlp.data.demo --output-dir DIR.

Knows the flags; what they mean is write_demo's affair.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from metatlp.data.demo.folder import DEFAULT_SCALE, write_demo
from metatlp.script import ScriptParser, exit_code

PROGRAM = "python -m metatlp.data.demo"


def main(argv: Sequence[str]) -> int:
    """Write the folder of the flags; the exit code: 0, or 2 for something the user gave."""
    return exit_code(PROGRAM, _run, argv)


def _run(argv: Sequence[str]) -> None:
    given = _parser().parse_args(argv)
    folder = Path(given.output_dir)
    written = write_demo(folder, given.seed, given.scale, given.label_noise)
    print(f"{folder}: {sum(written.values())} examples in {len(written)} files")


def _parser() -> ScriptParser:
    parser = ScriptParser(PROGRAM, "Write the demo grid in XTREME's layout.")
    add = parser.add_argument
    add("--output-dir", required=True, help="a new or empty folder, or an earlier demo's")
    add("--seed", type=int, default=0, help="of languages and examples (%(default)s)")
    add("--scale", type=float, default=DEFAULT_SCALE, help="of Table 1's sizes (%(default)s)")
    add("--label-noise", type=float, default=0.0, help="share of wrong training labels, 0 to 1")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a sampler learned: probabilities, psi and rewards over a run, as in the paper's Figure 3.

    python -m metatlp.report.sampler --run runs/meta

Reads metrics.jsonl, prints the last update and draws all of them.
n: TLPs; u: updates.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TASK_CODES, TLP
from metatlp.report.figure import load_pyplot
from metatlp.script import ScriptParser, exit_code

PROGRAM = "python -m metatlp.report.sampler"
CURVES = {"psi": "psi", "p": "probability", "rewards": "reward"}
STYLES = ("-", "--", ":", "-.")

Update = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return exit_code(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> None:
    """Print, and write the figure.

    Raises:
        InputError: no such run, or one whose sampler does not learn.
    """
    parser = ScriptParser(PROGRAM, (__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="folder of a run with --sampler multidds")
    parser.add_argument("--output", help="the figure, .png or .svg [RUN/sampler.png]")
    flags = parser.parse_args(argv)
    pyplot = load_pyplot()
    updates = read_updates(Path(flags.run) / "metrics.jsonl")
    for line in table(updates):
        print(line)
    output = Path(flags.output or Path(flags.run) / "sampler.png")
    figure = draw(pyplot, updates)
    try:
        figure.savefig(output, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise InputError(f"--output {output}: {error}") from error
    pyplot.close(figure)
    print(f"wrote {output}")


def read_updates(metrics: Path) -> list[Update]:
    """The records of the sampler's updates, in order.

    Raises:
        InputError: the file cannot be read, a line of it is no record, or it has no update.
    """
    found = []
    try:
        with metrics.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise InputError(f"{metrics}:{number}: {error}") from error
                if "rewards" in record:
                    found.append(record)
    except OSError as error:
        raise InputError(f"--run: {metrics}: {error.strerror}") from error
    if not found:
        raise InputError(f"--run: {metrics} has no update of a sampler that learns")
    return found


def table(updates: Sequence[Update]) -> list[str]:
    """The last update: a line per TLP, the likeliest first."""
    last = updates[-1]
    lines = [
        f"{len(updates)} updates, the last after meta step {last['step']}",
        f"{'TLP':<8}{'p':>8}{'psi':>9}{'reward':>9}{'mean reward':>13}",
    ]
    for tlp in sorted(last["p"], key=lambda tlp: -last["p"][tlp]):
        psi = "-" if last["psi"] is None else f"{last['psi'][tlp]:.3f}"
        mean = sum(update["rewards"][tlp] for update in updates) / len(updates)
        lines.append(
            f"{tlp:<8}{last['p'][tlp]:>8.4f}{psi:>9}{last['rewards'][tlp]:>9.3f}{mean:>13.3f}"
        )
    known = [update["reliability"] for update in updates if update["reliability"] is not None]
    if known:
        middle = sorted(known)[len(known) // 2]
        lines.append(f"split-half reliability of an update's rewards: median {middle:.2f}")
    return lines


def draw(pyplot: Any, updates: Sequence[Update]) -> Any:
    """A panel each for psi (if there is one), p and the rewards; a colour per task, a style per
    language."""
    curves = {key: title for key, title in CURVES.items() if updates[0][key] is not None}
    figure, panels = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 4.5))
    steps = [update["step"] for update in updates]
    tlps = [TLP.parse(name) for name in updates[0]["p"]]
    languages = list(dict.fromkeys(tlp.lang for tlp in tlps))
    for axes, (key, title) in zip(panels, curves.items(), strict=True):
        for tlp in tlps:
            axes.plot(
                steps,
                [update[key][str(tlp)] for update in updates],
                color=f"C{TASK_CODES.index(tlp.task)}",
                linestyle=STYLES[languages.index(tlp.lang) % len(STYLES)],
                marker="." if languages.index(tlp.lang) >= len(STYLES) else None,
                linewidth=1,
                label=str(tlp),
            )
        axes.set_title(title)
        axes.set_xlabel("meta step")
    panels[-1].legend(
        fontsize=6, ncols=1 + len(tlps) // 16, bbox_to_anchor=(1.02, 1), loc="upper left"
    )
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

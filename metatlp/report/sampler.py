"""What a sampler learned: probabilities, psi and rewards over a run, as in the paper's Figure 3.

    python -m metatlp.report.sampler --run runs/meta

Reads metrics.jsonl, prints the last update and draws all of them.
Reliabilities are medians over the updates. n: TLPs; u: updates.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TLP, task_codes
from metatlp.report.figure import load_pyplot
from metatlp.script import ScriptParser, exit_code

PROGRAM = "python -m metatlp.report.sampler"
CURVES = {"psi": "psi", "p": "probability", "rewards": "reward"}
STYLES = ("-", "--", ":", "-.")

Record = dict[str, Any]


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
    records = read_records(Path(flags.run) / "metrics.jsonl")
    for line in table([record for record in records if "rewards" in record]):
        print(line)
    output = Path(flags.output or Path(flags.run) / "sampler.png")
    figure = draw(pyplot, records)
    try:
        figure.savefig(output, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise InputError(f"--output {output}: {error}") from error
    pyplot.close(figure)
    print(f"wrote {output}")


def read_records(metrics: Path) -> list[Record]:
    """The records of the sampler's probabilities, in order: at the start, and after each update,
    which has rewards too.

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
                if "p" in record:
                    found.append(record)
    except OSError as error:
        raise InputError(f"--run: {metrics}: {error.strerror}") from error
    if not any("rewards" in record for record in found):
        raise InputError(f"--run: {metrics} has no update of a sampler that learns")
    return found


def table(updates: Sequence[Record]) -> list[str]:
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
    for key, where in (("reliability", ""), ("reliability_within_tasks", " within tasks")):
        known = [u[key] for u in updates if u.get(key) is not None]
        if known:
            middle = statistics.median(known)
            lines.append(f"split-half reliability of an update's rewards{where}: {middle:.2f}")
    return lines


def draw(pyplot: Any, records: Sequence[Record]) -> Any:
    """A panel each for psi (if there is one), p and the rewards; a colour per task, a style per
    language."""
    curves = {key: title for key, title in CURVES.items() if records[-1][key] is not None}
    figure, panels = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 4.5))
    tlps = [TLP.parse(name) for name in records[-1]["p"]]
    languages = list(dict.fromkeys(tlp.lang for tlp in tlps))
    for axes, (key, title) in zip(panels, curves.items(), strict=True):
        shown = [record for record in records if key in record]
        for tlp in tlps:
            axes.plot(
                [record["step"] for record in shown],
                [record[key][str(tlp)] for record in shown],
                color=f"C{task_codes().index(tlp.task)}",
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

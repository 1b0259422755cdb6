"""The report of a reproduction: tables, figures and claims, as pages and as files.

    python -m metatlp.report.reproduction --results results/demo

Reads OUT/plan.json and the files that its cells name; what it writes is a function of these.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.report.building import TITLES, Building
from metatlp.report.claim_pages import KINDS, add_claims, reading
from metatlp.report.collected import Resampler, collect
from metatlp.report.compute import compute_view, read_spent
from metatlp.report.numbers import duration
from metatlp.report.page import render
from metatlp.report.plan_file import read_plan
from metatlp.report.readings import Reader
from metatlp.report.sections import (
    add_figure2,
    add_figure3,
    add_nothing,
    add_scores,
    add_table1,
    read_runs,
)
from metatlp.report.verdicts import Verdict
from metatlp.script import ScriptParser, exit_code

PROGRAM = "python -m metatlp.report.reproduction"
SCORES = ("table2", "table3", "table4", "grid_search", "ablations")
CLAIMED = ("table2", "table3")  # and figure3
FEWEST_RESAMPLES = 100


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return exit_code(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> None:
    """Read everything, then write.

    Raises:
        InputError: a flag is wrong, or a file missing or damaged.
    """
    flags = _parser().parse_args(argv)
    if not 0 < flags.confidence < 1:
        raise InputError(f"--confidence {flags.confidence}: must be above 0 and below 1")
    if flags.bootstrap < FEWEST_RESAMPLES:
        raise InputError(f"--bootstrap {flags.bootstrap}: at least {FEWEST_RESAMPLES}")
    targets = _targets(flags.targets)
    plan = read_plan(Path(flags.results))
    report = Building(
        plan,
        flags.confidence,
        Reader(plan.folder),
        Resampler(flags.bootstrap),
        _paper_folder(flags.paper) if plan.compared else None,
        flags.partial,
    )
    build(report, targets)
    output = Path(flags.output or plan.folder / "report")
    write(report.files, output)
    print(f"wrote {output / 'index.html'} and {len(report.files) - 1} files beside it")


def _parser() -> ScriptParser:
    parser = ScriptParser(PROGRAM, (__doc__ or "").splitlines()[0])
    parser.add_argument("--results", required=True, help="folder with plan.json")
    parser.add_argument(
        "--paper",
        help="folder with the paper's table1.csv to table4.csv, for protocols that are compared "
        "with it [../shared/paper beside the repository, if there]",
    )
    parser.add_argument("--output", help="folder of the report [RESULTS/report]")
    parser.add_argument("--targets", default="all", help="what to report, with commas [all]")
    parser.add_argument(
        "--partial", action="store_true", help="leave out what has not been run, and say so"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of intervals [0.95]")
    parser.add_argument("--bootstrap", type=int, default=10_000, help="resamples [10000]")
    return parser


def _targets(text: str) -> list[str]:
    """Those asked for, in the report's order."""
    wanted = list(TITLES) if text == "all" else [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in TITLES:
            raise InputError(f"--targets: unknown '{name}'; choose from {', '.join(TITLES)}, all")
    return [target for target in TITLES if target in wanted]


def _paper_folder(given: str | None) -> Path | None:
    if given is not None:
        if not Path(given).is_dir():
            raise InputError(f"--paper {given}: no such folder")
        return Path(given)
    usual = Path(__file__).resolve().parents[3] / "shared" / "paper"
    return usual if usual.is_dir() else None


def build(report: Building, targets: Sequence[str]) -> None:
    """All files of the report.

    Raises:
        InputError: a file is missing or damaged.
    """
    plan = report.plan
    there = {cell.target for cell in plan.cells}
    with_claims = "claims" in targets
    tables = {
        target: collect(plan, target, report.reader, report.resampler, report.partial)
        for target in SCORES
        if target in there and (target in targets or (with_claims and target in CLAIMED))
    }
    runs = read_runs(report) if with_claims or "figure3" in targets else {}
    for target in targets:
        if target == "claims":
            continue
        if target not in there:
            add_nothing(report, target)
        elif target in SCORES:
            add_scores(report, tables[target])
        elif target == "figure3":
            add_figure3(report, runs)
        else:
            {"table1": add_table1, "figure2": add_figure2}[target](report)
    judged = add_claims(report, tables, runs) if with_claims else None
    report.warnings += list(_warnings(report))
    _add_index(report, judged)


def _warnings(report: Building) -> list[str]:
    plan, found = report.plan, []
    if not plan.compared:
        found.append(
            f"Protocol {plan.protocol['name']} is not the paper's: other data, models or budgets. "
            "Its numbers are not compared with the paper's, and a verdict is on this protocol only."
        )
    elif report.paper is None:
        found.append("The paper's numbers were not found (--paper): nothing is compared with them.")
    if report.partial:
        found.append("Partial: what has not been run is left out.")
    if report.reader.without_terms:
        first = os.path.relpath(next(iter(report.reader.without_terms)), plan.folder)
        found.append(
            f"{len(report.reader.without_terms)} folders have no terms.npz (the first is {first}): "
            "the intervals of their numbers know of seeds alone."
        )
    return found


def _add_index(report: Building, judged: tuple[list[Verdict], list[dict[str, Any]]] | None) -> None:
    plan, spent = report.plan, read_spent(report.plan)
    verdicts, views = judged if judged else ([], None)
    seconds = [run.seconds for run in spent if run.seconds is not None]
    facts = [
        ("seeds", ", ".join(map(str, plan.protocol.get("seeds", []))) or "-"),
        ("runs recorded, of those planned", f"{len(seconds)} of {len(spent)}"),
        ("run time, all together", duration(sum(seconds))),
    ]
    if judged:
        facts += [
            (f"claims: {kind}", str(sum(v.verdict == kind for v in verdicts))) for kind in KINDS
        ]
    page = render(
        "index.html",
        protocol={"description": "", "budget": ""} | dict(plan.protocol),
        protocol_text=json.dumps(dict(plan.protocol), indent=1, sort_keys=True, ensure_ascii=False),
        links=[
            *([("claims", "Claims")] if judged else []),
            *((each["name"], each["title"].partition(":")[0]) for each in report.sections),
            ("reading", "How to read this"),
            ("compute", "Compute and commands"),
        ],
        warnings=report.warnings,
        facts=facts,
        claims=views,
        sections=report.sections,
        reading=reading(report.confidence, report.resampler.num_resamples),
        compute=compute_view(spent),
    )
    report.add("index.html", page)


def write(files: Mapping[str, bytes], output: Path) -> None:
    """The files, index.html last; that and the claims of an earlier report go first.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "index.html").unlink(missing_ok=True)
        shutil.rmtree(output / "claims", ignore_errors=True)
        for name, data in sorted(files.items(), key=lambda item: item[0] == "index.html"):
            (output / name).parent.mkdir(exist_ok=True)
            (output / name).write_bytes(data)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a run of the demo reaches, over seeds: time, dev and test scores, languages never seen.

    python benchmarks/demo_scores.py --seeds 0,1,2 --processes 2 --output RESULTS.md -- --epochs 2

What stands behind `--` is passed on to train_meta.py.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_runs.chance import chance
from demo_runs.report import (
    headline,
    language_summary,
    markdown,
    trained_summary,
    zero_shot_summary,
)
from demo_runs.score import FinishedRun, score_test
from demo_runs.train import check_passed_on, train, train_command
from results_file import check_output, machine, save

from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.flags import flag
from metatlp.engine.placement import Placement
from metatlp.engine.placement import start as start_process
from metatlp.engine.scoring.evaluation import Scores
from metatlp.errors import InputError
from metatlp.grid import TLP


@dataclass(frozen=True)
class ScoreArguments:
    """Which runs, and where the tables go."""

    seeds: str = flag("--seed of each run, separated by commas", "0,1,2")
    processes: int = flag("of each run: 1, or 2 with accelerate_configs/cpu_2.yaml", 1)
    output: str | None = flag("write this Markdown file, and a JSON file beside it")
    runs_dir: str | None = flag("keep the runs in this folder [default: they are removed]")

    def __post_init__(self) -> None:
        if self.processes not in (1, 2):
            raise InputError(f"--processes {self.processes}: must be 1 or 2")
        self.seed_list()

    def seed_list(self) -> list[int]:
        words = [word.strip() for word in self.seeds.split(",")]
        if not all(word.isascii() and word.isdecimal() for word in words):
            raise InputError(f"--seeds {self.seeds}: write numbers like 0,1,2")
        seeds = [int(word) for word in words]
        if len(set(seeds)) < len(seeds):
            raise InputError(f"--seeds {self.seeds}: each seed once")
        return seeds


@dataclass(frozen=True)
class Measured:
    """A run of one seed. dev, test: TLP -> metrics, fractions."""

    run: FinishedRun
    dev: dict[TLP, Scores]
    test: dict[TLP, Scores]
    run_seconds: float
    scoring_seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "run_seconds": self.run_seconds,
            "scoring_seconds": self.scoring_seconds,
            "meta_steps": self.run.num_steps,
            "dev": {str(tlp): values for tlp, values in self.dev.items()},
            "test": {str(tlp): values for tlp, values in self.test.items()},
        }


def main(argv: Sequence[str]) -> int:
    own, passed_on = split_at_dashes(argv)
    description = (__doc__ or "").splitlines()[0]
    (arguments,) = parse_flags((ScoreArguments,), lambda given: {}, description, own)
    check_passed_on(passed_on)
    output = check_output(arguments.output)
    with tempfile.TemporaryDirectory() as folder:
        runs = run_folders(arguments, folder)
        placement = start_process("none", folder)
        facts = {
            "command": shlex.join(["python", "benchmarks/demo_scores.py", *argv]),
            "train_command": shlex.join(train_command(arguments.processes, passed_on)),
            "machine": machine(placement.device),
        }
        measured: dict[int, Measured] = {}
        guessed: dict[TLP, float] = {}
        for seed, where in runs.items():
            measured[seed] = measure(seed, arguments.processes, passed_on, where, placement)
            # The grid does not depend on the seed of a run.
            guessed = guessed or guess(measured[seed])
            results = summarise(facts, measured, guessed)
            save(output, markdown(results), results)
            print(f"seed {seed} scored", file=sys.stderr, flush=True)
    print(markdown(results), end="")
    return 0


def run_folders(arguments: ScoreArguments, temporary: str) -> dict[int, Path]:
    """Seed -> folder of its run. Raises InputError for one that is there already."""
    runs_dir = Path(arguments.runs_dir or temporary).resolve()
    folders = {seed: runs_dir / f"seed-{seed}" for seed in arguments.seed_list()}
    for folder in folders.values():
        if folder.exists():
            raise InputError(f"--runs-dir: {folder} is there already; name another folder")
    return folders


def split_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before and behind the first `--`."""
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def measure(
    seed: int, processes: int, flags: Sequence[str], folder: Path, placement: Placement
) -> Measured:
    """Train, then score what was exported."""
    run_seconds = train(processes, seed, flags, folder)
    run = FinishedRun.open(folder)
    test, scoring_seconds = score_test(run, placement)
    return Measured(run, run.dev, test, run_seconds, scoring_seconds)


def guess(one: Measured) -> dict[TLP, float]:
    """TLP -> chance on its test split, percent."""
    return {tlp: chance(tlp, one.run.examples(tlp, "test")) for tlp in one.test}


def summarise(
    facts: Mapping[str, Any], measured: Mapping[int, Measured], guessed: Mapping[TLP, float]
) -> dict[str, Any]:
    """Every number, as JSON has it."""
    first = next(iter(measured.values()))
    dev = [headline(one.dev) for one in measured.values()]
    test = [headline(one.test) for one in measured.values()]
    trained = first.run.trained
    return {
        **facts,
        "commit": first.run.commit,
        "placement": first.run.placement,
        "grid": first.run.source.grid.describe(),
        "test_examples": min(int(scores["examples"]) for scores in first.test.values()),
        "trained": [str(tlp) for tlp in trained],
        "chance": {str(tlp): value for tlp, value in guessed.items()},
        "tasks": trained_summary(trained, dev, test, guessed),
        "zero_shot": zero_shot_summary(trained, test, guessed),
        "languages": language_summary(test),
        "seeds": {str(seed): one.as_json() for seed, one in measured.items()},
    }


if __name__ == "__main__":
    run_script(main)

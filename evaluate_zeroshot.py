"""Score models on test data, foremost in languages that they never saw (paper, Table 3).

    python evaluate_zeroshot.py --model runs/meta --languages external --data-dir DATA

Several models in one call are compared on the same resamples of the examples. Read top to bottom:
parse, place, choose, load, score, write.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder holds kernels/, which would shadow the Hugging Face package that transformers imports.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from metatlp.data.records import Source
from metatlp.data.submission import check_folder, file_of, write_submission
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import SourceArguments
from metatlp.engine.arguments.evaluate import EvaluateArguments
from metatlp.engine.grid_data import open_source
from metatlp.engine.placement import Placement, start
from metatlp.engine.run_log import RunLog, timed
from metatlp.engine.scoring.jobs import Job, choose_jobs
from metatlp.engine.scoring.scoring import Scored, load_work, score_work
from metatlp.engine.scoring.systems import System, find_systems
from metatlp.report.evaluation import Report, check_output

ARGUMENTS = (SourceArguments, EvaluateArguments)


def main(argv: Sequence[str]) -> int:
    data, arguments = parse_flags(ARGUMENTS, lambda given: {}, __doc__.splitlines()[0], argv)
    placement = start("none", "")
    log = RunLog(Path(arguments.output_dir), placement)
    systems, source, jobs, notes = choose(data, arguments, placement, log)
    for line in notes:
        log.say(line)
    work = load_work(jobs, systems, source, data.cache_folder, arguments, placement, log.say_here)
    elapsed = timed()
    scored = score_work(work, arguments, placement)
    record = {
        **log.start_record(dataclasses.asdict(data) | dataclasses.asdict(arguments)),
        "source": source.describe(),
        "time": times(scored, elapsed()),
    }
    report = Report(systems, scored, arguments.confidence, notes, record)
    log.say(time_line(record["time"]))
    for line in report.screen():
        log.say(line)
    with placement.together():
        if placement.is_main:
            write(report, arguments, log)
    return 0


def choose(
    data: SourceArguments, arguments: EvaluateArguments, placement: Placement, log: RunLog
) -> tuple[list[System], Source, list[Job], list[str]]:
    """Check everything that can be checked before any file is read. Every rank takes part.

    Returns:
        The systems, the source, what is to be scored, and what a reader has to know.
    """
    with placement.together():
        systems = find_systems(arguments.model or "")
        # Files without labels are of use where their predictions are written.
        source = open_source(data, log.say_here, unlabelled=bool(arguments.submission))
        jobs, notes = choose_jobs(systems, source, arguments)
        # One rank looks and makes, and no other sees what it made.
        if placement.is_main:
            check_output(Path(arguments.output_dir))
        if arguments.submission:
            check_folder(Path(arguments.submission))
    if arguments.eval_examples:
        notes.append(
            f"ONLY THE FIRST {arguments.eval_examples} EXAMPLES of every file are scored "
            "(--eval-examples)"
        )
    return systems, source, jobs, notes


def times(scored: Mapping[Job, Scored], seconds: float) -> dict[str, Any]:
    """What was done in how long, on all ranks together."""
    return {
        "seconds": seconds,
        "examples": sum(one.examples for one in scored.values()),
        "tokens": sum(one.tokens for one in scored.values()),
        "seconds_by_job": {
            f"{job.system} {job.tlp} {job.split}": one.seconds for job, one in scored.items()
        },
    }


def time_line(spent: Mapping[str, Any]) -> str:
    seconds = spent["seconds"]
    return (
        f"predicted {spent['examples']:,} examples of {len(spent['seconds_by_job'])} files in "
        f"{seconds:.1f} s: {spent['examples'] / seconds:,.0f} examples/s, "
        f"{spent['tokens'] / seconds:,.0f} tokens/s"
    )


def write(report: Report, arguments: EvaluateArguments, log: RunLog) -> None:
    """The scores' files, and the submission where one is wanted (main process)."""
    folder = Path(arguments.output_dir)
    report.write(folder)
    log.say(f"wrote scores.json, scores.md and scores.csv in {folder}")
    if arguments.submission:
        files = submission_files(report)
        write_submission(Path(arguments.submission), files)
        log.say(f"wrote {len(files)} files of a submission in {arguments.submission}")


def submission_files(report: Report) -> dict[str, str]:
    """Place -> text; each of several systems has a folder of its own."""
    found = {}
    for job, scored in report.scored.items():
        name = file_of(job.tlp, job.split)
        if name is not None and scored.submission is not None:
            found[f"{job.system}/{name}" if len(report.systems) > 1 else name] = scored.submission
    return found


if __name__ == "__main__":
    run_script(main)

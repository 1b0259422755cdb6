"""Multi-task learning, the paper's baseline: all selected TLPs concatenated and shuffled.

    accelerate launch train_mtl.py --selection lang:hi --data-dir DATA --model ENCODER

Without --data-dir or --data hub it trains the demo's encoder on its grid of artificial languages.

Read top to bottom: parse, place, load, build, train, write.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder holds kernels/, which would shadow the Hugging Face package that transformers imports.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import dataclasses
import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

from metatlp.data.schedule import Member, Schedule, drawn_plan, shuffled_plan
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.meta import resolved_flags
from metatlp.engine.arguments.presets import DEMO_MTL, mtl_defaults, values_of
from metatlp.engine.arguments.supervised import MtlArguments, MtlOutputArguments
from metatlp.engine.build import data_record, model_of
from metatlp.engine.compatibility import check_encoder
from metatlp.engine.demo import demo_lines
from metatlp.engine.grid_data import GridData, load_grid
from metatlp.engine.models import export_models
from metatlp.engine.opening import open_run
from metatlp.engine.overview import count_lines, grid_lines, mtl_line
from metatlp.engine.parameters.whole import whole_model
from metatlp.engine.placement import Placement, start
from metatlp.engine.provenance import Provenance
from metatlp.engine.run_log import RunLog, start_tracker
from metatlp.engine.same_run import FREE_FLAGS
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised.averaging import mean_of_checkpoints
from metatlp.engine.supervised.build import (
    build_supervised,
    inner_steps_of,
    num_parts,
    one_group,
)
from metatlp.engine.supervised.loop import Supervised, TrainSettings, resume, take_result, train
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.sampling import build_sampler
from metatlp.tasks.task import Padding

# What the model card shows of the flags.
SHOWN = ("selection", "sampler", "tau", "lr", "batch_size", "dropout", "weight_decay", "seed")
ARGUMENTS = (DataArguments, MtlArguments, MtlOutputArguments)


def main(argv: Sequence[str]) -> int:
    data, mtl, run = parse_flags(ARGUMENTS, mtl_defaults, __doc__.splitlines()[0], argv)
    with StopRequest("stopped before the first update; there was nothing to save") as stop:
        placement = start(run.report_to, run.output_dir)
        log = RunLog(Path(run.output_dir), placement, unit="update")
        flags = resolved(data, mtl, run, placement)
        lines = demo_lines(data, mtl, values_of(DEMO_MTL, data, mtl, run), "defaults of the demo")
        mtl, tokenizer = open_run(data, mtl, run, placement, log, flags, lines)
        grid_data = load_grid(data, tokenizer, run.eval_examples, placement, log.say_here)
        with placement.together():
            schedule, plan_lines = plan(data, mtl, grid_data)
            check_average(mtl, run, len(schedule))
        for line in (*plan_lines, *count_lines(grid_data.counts())):
            log.say(line)
        if run.dry_run:
            return 0
        training = build(
            data, mtl, run, placement, log, flags, tokenizer, grid_data, schedule, stop
        )
        with closing(training):
            resume(training, run.resume)
            if train(training):
                finish(training, mtl.average_last, tokenizer)
        with placement.together():
            log.close()
    return 0


def resolved(
    data: DataArguments, mtl: MtlArguments, run: MtlOutputArguments, placement: Placement
) -> dict[str, Any]:
    """All flags and the values a run uses, JSON-able."""
    with placement.together():
        values = resolved_flags(data, mtl, run) | {"batch_parts": num_parts(mtl, placement)}
    values["tau"] = "inf" if mtl.temperature == math.inf else mtl.temperature
    return values


def plan(data: DataArguments, mtl: MtlArguments, grid_data: GridData) -> tuple[Schedule, list[str]]:
    """The batch of every update, and lines that show the grid."""
    sizes, splits = data.batch_sizes(), grid_data.train

    def member(tlps: Iterable[TLP], task: str) -> Member:
        own = {tlp: splits[tlp] for tlp in tlps}
        return Member.of(own, sizes[task], mtl.seed, data.batch_order)

    single = {tlp: member([tlp], tlp.task) for tlp in splits}
    members = list(single.values())
    if mtl.sampler == "concat":
        tasks = grid_data.grid.tasks
        members = [member((tlp for tlp in splits if tlp.task == task), task) for task in tasks]
    batches = [one.stream.batches_per_epoch for one in members]
    num_updates = max(1, int(mtl.epochs * sum(batches)))
    if mtl.match_updates is not None:
        num_updates = inner_steps_of(mtl.match_updates)
    num_updates = min(num_updates, mtl.max_updates or num_updates)
    if mtl.sampler == "concat":
        drawn = shuffled_plan(batches, num_updates, mtl.seed)
        rows = [split.num_rows for split in splits.values()]
        probs = [n / sum(rows) for n in rows]
    else:
        examples: list[float] = [split.num_examples for split in splits.values()]
        sampler = build_sampler(mtl.sampler, examples, seed=mtl.seed, tau=mtl.temperature)
        drawn = drawn_plan(sampler, len(members), num_updates)
        probs = list(sampler.probs())
    schedule = Schedule(members, drawn)
    streams = {tlp: one.stream for tlp, one in single.items()}
    return schedule, [*grid_lines(grid_data, streams, probs), mtl_line(mtl, sum(batches), schedule)]


def check_average(mtl: MtlArguments, run: MtlOutputArguments, num_updates: int) -> None:
    """Raises InputError if the run is too short for --average-last."""
    planned = -(-num_updates // run.save_every) if run.save_every else 1
    if mtl.average_last > planned:
        raise InputError(
            f"--average-last {mtl.average_last}: {num_updates} updates give {planned} checkpoints "
            f"with --save-every {run.save_every}"
        )


def build(
    data: DataArguments,
    mtl: MtlArguments,
    run: MtlOutputArguments,
    placement: Placement,
    log: RunLog,
    flags: dict[str, Any],
    tokenizer: Any,
    grid_data: GridData,
    schedule: Schedule,
    stop: StopRequest,
) -> Supervised:
    assert mtl.model is not None
    with placement.together():
        check_encoder(mtl.model, tokenizer, grid_data)
        log.write_json("data.json", data_record(grid_data))
        model = model_of(mtl, grid_data.grid.tasks, mtl.seed)
        start_tracker(placement, run.report_to, flags)
    keep = max(run.keep, mtl.average_last)
    return build_supervised(
        model,
        schedule,
        grid_data.dev,
        Padding.of(tokenizer),
        mtl,
        TrainSettings(mtl.lr, mtl.select, run.eval_every, run.save_every, keep),
        flags=flags,
        data=grid_data.fingerprints() | dev_fingerprints(mtl, grid_data),
        free_flags=free_flags(mtl),
        provenance=Provenance(
            system="mtl",
            encoder=flags["model"],
            trained_on=tuple(str(tlp) for tlp in grid_data.grid.tlps),
            selected_on={},
            limits=data.limits(),
            details={name: flags[name] for name in SHOWN if flags[name] is not None}
            | {"script": "train_mtl.py", "arguments": flags, "updates": len(schedule)},
        ),
        seed=mtl.seed,
        eval_batch_size=run.eval_batch_size,
        folder=Path(run.output_dir),
        placement=placement,
        mesh=one_group(placement),
        log=log,
        stop=stop,
    )


def dev_fingerprints(mtl: MtlArguments, grid_data: GridData) -> dict[str, str]:
    """Of the dev data, if it chooses."""
    splits = grid_data.dev if mtl.select == "best" else {}
    return {f"dev {tlp}": split.encoded.fingerprint for tlp, split in splits.items()}


def free_flags(mtl: MtlArguments) -> frozenset[str]:
    """Flags that may change when the run goes on: not those that choose what comes of it."""
    chooses = {"eval_every", "eval_examples"} if mtl.select == "best" else set()
    return FREE_FLAGS - chooses - ({"save_every"} if mtl.average_last else set())


def finish(training: Supervised, average_last: int, tokenizer: Any) -> None:
    """Write the models: the last or best, and the mean of the last checkpoints."""
    take_result(training)
    folder, log = training.folder / "models", training.log
    chosen = training.best is not None and len(training.curve) > 1
    provenance = dataclasses.replace(
        training.provenance,
        selected_on={"update": tuple(training.dev)} if chosen else {},
        scores={"dev": training.dev} if training.dev else {},
    )
    model = whole_model(training.parameters, training.placement)
    with training.placement.together():
        log.raise_failure()
        if training.placement.is_main:
            export_models(model, tokenizer, folder, provenance)
    log.say(f"finished {training.num_updates} updates; models in {folder}")
    if average_last:
        mean_of_checkpoints(training, average_last, tokenizer)


if __name__ == "__main__":
    run_script(main)

"""Meta-train one multilingual encoder with Reptile on a grid of task-language pairs (Algorithm 1).

    accelerate launch --config_file accelerate_configs/cpu_2.yaml train_meta.py \
        --selection all --sampler temp --tau 2 --data-dir DATA --model ENCODER

Read top to bottom: parse, place, load, build, loop.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder holds kernels/, which would shadow the Hugging Face package that transformers imports.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from metatlp.data.prefetch import EpisodeLoader
from metatlp.data.streams import BatchStream
from metatlp.engine import checkpoint
from metatlp.engine.args import MetaArguments, RunArguments, resolved
from metatlp.engine.build import (
    averaging_config,
    check_encoder,
    choose_sampler,
    count_steps,
    data_record,
    export_models,
    heads,
    inner_config,
    show_overview,
)
from metatlp.engine.checks import check_finite, check_invariants
from metatlp.engine.command_line import parse_flags, run_script
from metatlp.engine.data_args import DataArguments
from metatlp.engine.evaluation import Evaluator
from metatlp.engine.grid_data import GridData, load_grid
from metatlp.engine.inner import InnerLoop, InnerState, SlotReport
from metatlp.engine.meta_step import meta_step
from metatlp.engine.overview import placement_lines, score_lines
from metatlp.engine.placement import AgreedError, Placement, raise_first, start
from metatlp.engine.plan import Slot, assign, build_queue, linear_decay
from metatlp.engine.presets import preset_defaults
from metatlp.engine.replicated import Replicated
from metatlp.engine.run_log import RunLog, start_tracker, timed
from metatlp.engine.run_state import RunState, distance
from metatlp.engine.same_run import (
    RunIdentity,
    check_flags,
    check_same_run,
    checksum,
    moved_line,
    where_it_runs,
)
from metatlp.engine.signals import StopRequest
from metatlp.errors import InputError
from metatlp.model.arena import Arena
from metatlp.model.multitask import (
    MultiTaskModel,
    build_model,
    load_config,
    load_tokenizer,
)
from metatlp.tasks import TASKS
from metatlp.tasks.task import Padding

ARGUMENTS = (DataArguments, MetaArguments, RunArguments)


@dataclass
class Training:
    """The parts of a run: built once, used by the loop."""

    meta: MetaArguments
    run: RunArguments
    placement: Placement
    log: RunLog
    grid_data: GridData
    loader: EpisodeLoader
    state: RunState
    inner_loop: InnerLoop
    evaluator: Evaluator
    model: MultiTaskModel
    tokenizer: Any
    theta_0: Tensor
    num_steps: int
    identity: RunIdentity
    stop: StopRequest

    @property
    def folder(self) -> Path:
        return Path(self.run.output_dir)


def main(argv: Sequence[str]) -> int:
    data, meta, run = parse_flags(ARGUMENTS, preset_defaults, __doc__.splitlines()[0], argv)
    with StopRequest("stopped before the first meta step; there was nothing to save") as stop:
        return run_training(data, meta, run, stop)


def run_training(
    data: DataArguments, meta: MetaArguments, run: RunArguments, stop: StopRequest
) -> int:
    placement = start(meta.reduce == "exact", run.report_to, run.output_dir)
    with placement.together():
        check_placement(meta, run, placement)
    log = RunLog(Path(run.output_dir), placement)
    arguments = resolved(data, meta, run)
    check_flags(arguments, placement)
    for line in placement_lines(placement.describe(), meta.meta_batch_size):
        log.say(line)
    with placement.together():
        load_config(meta.model, meta.dropout)
        tokenizer = load_tokenizer(meta.tokenizer or meta.model)
        padding = Padding.of(tokenizer)
    if not run.dry_run:
        with placement.together():
            log.check_folder(run.resume)
        with placement.together():
            log.open(arguments)
    grid_data = load_grid(data, tokenizer, run.eval_examples, placement, log.say_here)
    with placement.together():
        check_encoder(meta.model, tokenizer, grid_data)
    if not run.dry_run:
        with placement.together():
            log.write_json("data.json", data_record(grid_data))
    streams = {
        tlp: BatchStream(split, tlp, data.batch_sizes()[tlp.task], meta.seed, data.batch_order)
        for tlp, split in grid_data.train.items()
    }
    with placement.together():
        sampler = choose_sampler(meta, grid_data, streams)
    num_steps = count_steps(meta, streams)
    averaging = averaging_config(meta)
    show_overview(log, grid_data, streams, sampler, meta, averaging, num_steps)
    if run.dry_run:
        return 0
    with placement.together():
        model = build_model(
            meta.model,
            heads(grid_data),
            seed=meta.seed,
            dropout=meta.dropout,
            attention=meta.attention,
            from_config=meta.from_config,
            gradient_checkpointing=meta.gradient_checkpointing,
        ).to(placement.device)
    arena = Arena(model.named_uses())
    inner = inner_config(meta)
    state = InnerState.zeros(arena)
    autocast = placement.accelerator.autocast
    inner_loop = InnerLoop(model, arena, state, inner, meta.seed, autocast, placement.rank)
    cost = {tlp: stream.expected_tokens for tlp, stream in streams.items()}
    strategy = Replicated(
        arena, state, inner_loop.stepped, averaging, inner, cost, placement.rank, placement.world
    )
    pin_memory = placement.device.type == "cuda"
    identity = RunIdentity(
        arguments,
        grid_data.fingerprints(),
        num_steps,
        placement.accelerator.mixed_precision,
        checksum(arena.live),
    )
    check_same_run(identity, placement)
    with placement.together():
        start_tracker(placement, run.report_to, arguments)
    # This step's queue and the next one's, with room for draws that a learning sampler changed.
    waiting = 4 * meta.meta_batch_size
    with EpisodeLoader(streams, padding, meta.inner_steps, waiting, pin_memory) as loader:
        training = Training(
            meta,
            run,
            placement,
            log,
            grid_data,
            loader,
            RunState(strategy, sampler),
            inner_loop,
            Evaluator(model, grid_data.dev, padding, run.eval_batch_size, placement),
            model,
            tokenizer,
            arena.live.clone(),
            num_steps,
            identity,
            stop,
        )
        resume(training)
        finished = train(training)
        if finished:
            finish(training)
    with placement.together():
        log.close()
    return 0


def train(training: Training) -> bool:
    """The outer loop of Algorithm 1. False if a signal stopped it after one of its steps."""
    state, run = training.state, training.run
    training.stop.after_step()
    while state.step < training.num_steps:
        # After the save, so that a run that goes on from there makes it up.
        if run.eval_every and state.step and state.step % run.eval_every == 0:
            evaluate(training)
        queue = draw_queue(training)
        elapsed = timed()
        lr = linear_decay(training.meta.inner_lr, state.step, training.num_steps)
        reports = meta_step(
            state.strategy,
            queue,
            lambda slot, lr=lr: run_slot(training, slot, lr),
            lr,
            training.meta.meta_lr,
        )
        state.step += 1
        stopped = record_step(training, reports, lr, elapsed, training.stop.received)
        last = state.step == training.num_steps
        if last or stopped or (run.save_every and state.step % run.save_every == 0):
            save(training)
        if stopped:
            say_stopped(training, stopped)
            return False
    return True


def draw_queue(training: Training) -> list[Slot]:
    """Draw the m TLPs of this step; have this rank's episodes of the next one built meanwhile."""
    state, m = training.state, training.meta.meta_batch_size
    arms = training.grid_data.grid.tlps
    queue = build_queue([arms[i] for i in state.sampler.draw(state.step, m)], state.cursors)
    # A hint only: drawn from copies, and wrong at worst if the sampler learns in between.
    upcoming = copy.deepcopy(state.sampler).draw(state.step + 1, m)
    hint = build_queue([arms[i] for i in upcoming], Counter(state.cursors))
    for slots in (queue, hint):
        for slot in assign(slots, state.strategy.cost, training.placement.world)[
            training.placement.rank
        ]:
            training.loader.schedule(slot.tlp, slot.episode)
    return queue


def run_slot(training: Training, slot: Slot, lr: float) -> SlotReport:
    """The inner loop of one slot: U_k of Algorithm 1, line 6."""
    device = training.placement.device
    batches = [
        {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        for batch in training.loader.take(slot.tlp, slot.episode)
    ]
    return training.inner_loop.run(slot, batches, lr, training.state.step)


def record_step(
    training: Training,
    reports: list[SlotReport],
    lr: float,
    elapsed: Callable[[], float],
    signal_name: str | None,
) -> str | None:
    """Write the step's metrics; return the signal that any rank received. All ranks take part."""
    state = training.state
    own = [asdict(report) | {"loss": report.loss} for report in reports]
    entry = {"reports": own, "signal": signal_name, "failure": state.strategy.failure}
    gathered = training.placement.gather([entry | {"log": training.log.failure}])
    raise_first(e["log"] for e in gathered)
    slots = sorted((r for e in gathered for r in e["reports"]), key=lambda r: r["slot"])
    tokens, seconds = sum(r["tokens"] for r in slots), elapsed()
    loss = sum(r["loss"] for r in slots) / len(slots)
    moved = distance(state.strategy.theta.start, training.theta_0)
    check_finite(slots, [e["failure"] for e in gathered], moved, state.step)
    if training.run.debug:
        check_invariants(state.strategy, training.model)
    training.log.record(
        {
            "step": state.step,
            "loss": loss,
            "lr": lr,
            "tokens": tokens,
            "seconds": seconds,
            "distance": moved,
            "slots": slots,
        }
    )
    numbers = {"loss": loss, "lr": lr, "tokens_per_second": tokens / seconds, "distance": moved}
    training.log.track(state.step, numbers)
    training.log.progress(state.step, training.num_steps, loss, tokens / seconds)
    return next((e["signal"] for e in gathered if e["signal"]), None)


def evaluate(training: Training) -> None:
    """Score the dev splits at theta. All ranks take part."""
    elapsed = timed()
    scores = training.evaluator.scores()
    training.log.record(
        {
            "step": training.state.step,
            "seconds": elapsed(),
            "dev": {str(tlp): values for tlp, values in scores.items()},
        }
    )
    headline = {str(tlp): values[TASKS[tlp.task].metric] for tlp, values in scores.items()}
    training.log.track(training.state.step, {f"dev/{k}": v for k, v in headline.items()})
    for line in score_lines(training.state.step, scores):
        training.log.say(line)


def save(training: Training) -> None:
    """Write a checkpoint (main process). All ranks take part, so that an error ends them all."""
    state, log = training.state, training.log
    with training.placement.together():
        log.raise_failure()
        if training.placement.is_main:
            here = where_it_runs(training.placement)
            as_json = state.as_json(training.identity, here, log.num_records())
            folder, tensors = training.folder / "checkpoints", state.tensors()
            path = checkpoint.save(folder, state.step, as_json, tensors, training.run.keep)
            log.say(f"saved {path}")


def resume(training: Training) -> None:
    """Take up the checkpoint that --resume asks for, if there is one. All ranks take part."""
    asked, state, log = training.run.resume, training.state, training.log
    if asked is None:
        return
    folder = training.folder / "checkpoints"
    with training.placement.together():
        saved = checkpoint.find(folder, asked, log.say)
        if saved is not None:
            state.restore(saved, training.identity)
    if len(set(training.placement.gather([state.step]))) > 1:
        raise AgreedError(f"--resume: not all processes find the same checkpoints in {folder}")
    with training.placement.together():
        if training.placement.is_main:
            for later in checkpoint.set_aside(folder, state.step):
                log.say(f"set aside, being of a later step: {later}")
            log.take_up(saved.state["num_records"] if saved else 0)
    if saved is None:
        log.say(f"--resume auto: no checkpoint in {folder}; starting at step 0")
    else:
        log.say(f"resumed {saved.path} after {state.step} meta steps")
        moved = moved_line(saved.state.get("placement", {}), where_it_runs(training.placement))
        if moved:
            log.say(moved)


def finish(training: Training) -> None:
    """Score the last theta and export one ordinary model per task. All ranks take part."""
    training.stop.at_once(
        "stopped after the last meta step, which is saved, but before the last evaluation and the "
        "models were complete; for these give the same command with --resume auto"
    )
    evaluate(training)
    folder = training.folder / "models"
    with training.placement.together():
        training.log.raise_failure()
        if training.placement.is_main:
            export_models(training.model, training.tokenizer, folder)
    training.log.say(f"finished {training.num_steps} meta steps; models in {folder}")


def say_stopped(training: Training, signal_name: str) -> None:
    training.log.say(
        f"{signal_name}: stopped after meta step {training.state.step} of {training.num_steps} and "
        "saved; go on with the same command and --resume auto"
    )


def check_placement(meta: MetaArguments, run: RunArguments, placement: Placement) -> None:
    """Rules between flags and the world that the launcher made."""
    if meta.inner_state == "carry" and placement.world > 1:
        raise InputError(
            f"--inner-state carry is sequential: it needs one process, not {placement.world}; "
            "or use --inner-state average"
        )
    if run.debug:
        if placement.world > 1:
            raise InputError(f"--debug runs in one process, not {placement.world}")
        torch.autograd.set_detect_anomaly(True)


if __name__ == "__main__":
    run_script(main)

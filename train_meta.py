"""Meta-train one multilingual encoder with Reptile on a grid of task-language pairs (Algorithm 1).

    accelerate launch train_meta.py --selection all --sampler temp --tau 2

Without --data-dir or --data hub it trains the demo's encoder on its grid of artificial languages.

Read top to bottom: parse, place, load, build, loop.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder holds kernels/, which would shadow the Hugging Face package that transformers imports.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import copy
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext
from typing import Any

from metatlp.data.parts import moved
from metatlp.data.prefetch import EpisodeLoader
from metatlp.data.streams import BatchStream
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.meta import MetaArguments, RunArguments, resolved
from metatlp.engine.arguments.presets import preset_defaults, preset_values
from metatlp.engine.arguments.rewards import RewardArguments
from metatlp.engine.build import (
    build_rewards,
    build_strategy,
    choose_sampler,
    count_steps,
    data_record,
    show_overview,
)
from metatlp.engine.compatibility import check_encoder, lay_out
from metatlp.engine.demo import demo_lines, next_line
from metatlp.engine.grid_data import load_grid
from metatlp.engine.inner import SlotReport
from metatlp.engine.mesh import Mesh
from metatlp.engine.meta_step import meta_step
from metatlp.engine.opening import open_run
from metatlp.engine.outputs import (
    evaluate,
    finish,
    record_probabilities,
    record_step,
    record_update,
    resume,
    save,
    say_stopped,
)
from metatlp.engine.placement import Placement, start
from metatlp.engine.plan import Slot, assign, build_queue, linear_decay
from metatlp.engine.run_log import RunLog, start_tracker, timed
from metatlp.engine.run_state import RunState
from metatlp.engine.same_run import RunIdentity, check_same_run
from metatlp.engine.scoring.evaluation import Evaluator
from metatlp.engine.signals import StopRequest
from metatlp.engine.training import Training
from metatlp.tasks.task import Padding

ARGUMENTS = (DataArguments, MetaArguments, RewardArguments, RunArguments)


def main(argv: Sequence[str]) -> int:
    data, meta, rewards, run = parse_flags(
        ARGUMENTS, preset_defaults, __doc__.splitlines()[0], argv
    )
    rewards.check_sampler(meta.sampler)
    with StopRequest("stopped before the first meta step; there was nothing to save") as stop:
        placement = start(run.report_to, run.output_dir)
        log = RunLog(Path(run.output_dir), placement)
        mesh, meta = lay_out(meta, run, placement)
        arguments = resolved(data, meta, rewards, run)
        chosen = preset_values(meta.preset, data, meta, run)
        lines = demo_lines(data, meta, chosen, "preset demo, the default on this data")
        meta, tokenizer = open_run(
            data, meta, run, placement, log, arguments, lines, (mesh, meta.meta_batch_size)
        )
        training = build(data, meta, rewards, run, placement, mesh, log, tokenizer, stop, arguments)
        if training is None:
            return 0
        with training.loader, closing(training.rewards) if training.rewards else nullcontext():
            resume(training)
            if train(training):
                finish(training)
                if data.source == "demo":
                    log.say(next_line(training.folder / "models"))
        with placement.together():
            log.close()
    return 0


def build(
    data: DataArguments,
    meta: MetaArguments,
    rewards: RewardArguments,
    run: RunArguments,
    placement: Placement,
    mesh: Mesh,
    log: RunLog,
    tokenizer: Any,
    stop: StopRequest,
    arguments: dict[str, Any],
) -> Training | None:
    """Load the data and build the model; None after a dry run's first lines."""
    grid_data = load_grid(
        data, tokenizer, run.eval_examples, placement, log.say_here, rewards.dev_tlps
    )
    with placement.together():
        check_encoder(meta.model, tokenizer, grid_data)
        if not run.dry_run:
            log.write_json("data.json", data_record(grid_data))
    sizes = data.batch_sizes()
    streams = {
        tlp: BatchStream(split, tlp, sizes[tlp.task], meta.seed, data.batch_order)
        for tlp, split in grid_data.train.items()
    }
    with placement.together():
        sampler = choose_sampler(meta, rewards, grid_data, streams)
    num_steps = count_steps(meta, streams)
    cost = show_overview(log, grid_data, streams, sampler, meta, rewards, num_steps, mesh)
    if run.dry_run:
        return None
    with placement.together():
        log.write_json("cost.json", cost.as_json())
    theta_0, inner_loop, strategy = build_strategy(meta, grid_data, streams, placement, mesh)
    parameters = strategy.parameters
    identity = RunIdentity(
        arguments=arguments,
        data=grid_data.fingerprints(),
        num_steps=num_steps,
        mixed_precision=placement.accelerator.mixed_precision,
        theta_0=theta_0,
    )
    check_same_run(identity, placement)
    with placement.together():
        start_tracker(placement, run.report_to, identity.arguments)
    padding = Padding.of(tokenizer)
    loader = EpisodeLoader(
        streams,
        padding,
        meta.inner_steps,
        # This step's queue and the next one's, and room for draws that a learning sampler changed.
        max_waiting=4 * meta.meta_batch_size,
        pin_memory=placement.device.type == "cuda",
        num_parts=meta.num_parts,
        own=range(meta.num_parts)[mesh.member :: mesh.ranks_per_tlp],
    )
    return Training(
        meta=meta,
        run=run,
        placement=placement,
        log=log,
        grid_data=grid_data,
        loader=loader,
        state=RunState(strategy, sampler),
        inner_loop=inner_loop,
        rewards=build_rewards(
            meta,
            data,
            rewards.rewards(meta.sampler),
            grid_data,
            strategy,
            padding,
            placement,
        ),
        evaluator=Evaluator(
            parameters.model,
            grid_data.dev,
            padding,
            run.eval_batch_size,
            placement,
            mesh if parameters.lockstep else None,
        ),
        tokenizer=tokenizer,
        theta_0=strategy.theta.start.clone(),
        num_steps=num_steps,
        identity=identity,
        stop=stop,
    )


def train(training: Training) -> bool:
    """The outer loop of Algorithm 1. False if a signal stopped it after one of its steps."""
    state, run = training.state, training.run
    training.stop.after_step(training.placement.gather)
    while state.step < training.num_steps:
        lr = linear_decay(training.meta.inner_lr, state.step, training.num_steps)
        # After the save, so that a run that goes on from there makes them up.
        if run.eval_every and state.step and state.step % run.eval_every == 0:
            evaluate(training)
        update_sampler(training, lr)
        queue = draw_queue(training)
        elapsed = timed()
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
        mesh = state.strategy.mesh
        for slot in assign(slots, state.strategy.cost, mesh.groups)[mesh.group]:
            training.loader.schedule(slot.tlp, slot.episode)
    return queue


def update_sampler(training: Training, lr: float) -> None:
    """Lines 9 to 15 of Algorithm 1: rewards at the new theta, and probabilities to follow them."""
    state, rewards = training.state, training.rewards
    if rewards is None or state.step % rewards.config.every:
        return
    if state.step == 0:
        record_probabilities(training)
        return
    elapsed = timed()
    report = rewards.measure(state.step // rewards.config.every, lr)
    state.sampler.update(report.rewards)
    record_update(training, report, elapsed())


def run_slot(training: Training, slot: Slot, lr: float) -> SlotReport:
    """The inner loop of one slot: U_k of Algorithm 1, line 6."""
    device = training.placement.device
    batches = [moved(parts, device) for parts in training.loader.take(slot.tlp, slot.episode)]
    return training.inner_loop.run(slot, batches, lr, training.state.step)


if __name__ == "__main__":
    run_script(main)

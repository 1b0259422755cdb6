"""From flags to the parts of a run: sampler, configurations, heads, and the first lines."""

from __future__ import annotations

from pathlib import Path

from metatlp.data.streams import BatchStream
from metatlp.engine.args import MetaArguments
from metatlp.engine.grid_data import GridData
from metatlp.engine.inner import InnerConfig
from metatlp.engine.overview import Cost, grid_lines, run_lines
from metatlp.engine.plan import num_meta_steps
from metatlp.engine.replicated import AveragingConfig
from metatlp.engine.run_log import RunLog
from metatlp.engine.weights import read_weights
from metatlp.grid import TLP
from metatlp.model.multitask import HeadSpec, count_parameters
from metatlp.sampling import Sampler, build_sampler
from metatlp.tasks import TASKS


def choose_sampler(
    meta: MetaArguments, grid_data: GridData, streams: dict[TLP, BatchStream]
) -> Sampler:
    """The sampler of the flags over the grid's arms."""
    sizes: list[float] = [split.num_examples for split in grid_data.train.values()]
    if meta.size_unit == "batches":
        sizes = [stream.batches_per_epoch for stream in streams.values()]
    if meta.sampler == "fixed":
        assert meta.weights_file is not None
        names = [str(tlp) for tlp in grid_data.grid.tlps]
        weights = read_weights(Path(meta.weights_file), names)
        return build_sampler("fixed", sizes, seed=meta.seed, draw=meta.draw, weights=weights)
    tau = (1.0 if meta.tau is None else meta.tau) if meta.sampler == "temp" else None
    return build_sampler(meta.sampler, sizes, seed=meta.seed, draw=meta.draw, tau=tau)


def count_steps(meta: MetaArguments, streams: dict[TLP, BatchStream]) -> int:
    batches = [stream.batches_per_epoch for stream in streams.values()]
    num_steps = num_meta_steps(meta.epochs, batches, meta.meta_batch_size, meta.inner_steps)
    return min(num_steps, meta.max_meta_steps or num_steps)


def averaging_config(meta: MetaArguments) -> AveragingConfig:
    return AveragingConfig(
        inner_steps=meta.inner_steps,
        inner_state=meta.inner_state,
        head_average=meta.head_average,
        reduce=meta.reduce,
        momentum=meta.outer_momentum,
        nesterov=meta.outer_nesterov,
    )


def inner_config(meta: MetaArguments) -> InnerConfig:
    return InnerConfig(
        weight_decay=meta.weight_decay, grad_clip=meta.grad_clip, idle_heads=meta.idle_heads
    )


def heads(grid_data: GridData) -> dict[str, HeadSpec]:
    return {
        task: HeadSpec(TASKS[task].auto_class, TASKS[task].labels) for task in grid_data.grid.tasks
    }


def show_overview(
    log: RunLog,
    grid_data: GridData,
    streams: dict[TLP, BatchStream],
    sampler: Sampler,
    meta: MetaArguments,
    averaging: AveragingConfig,
    num_steps: int,
) -> None:
    """The first lines of a run."""
    cost = Cost(count_parameters(meta.model, heads(grid_data)), averaging)
    placement = log.placement.describe()
    lines = grid_lines(grid_data, streams, sampler.probs())
    lines += run_lines(placement, cost, num_steps, meta.meta_batch_size, meta.inner_steps)
    for line in lines:
        log.say(line)

"""From flags to the parts of a run: sampler, steps, model, strategy, and the first lines."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from metatlp.data.encoded import EncodedSplit
from metatlp.data.streams import BatchStream
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.encoder import EncoderArguments
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.rewards import RewardArguments, RewardConfig
from metatlp.engine.arguments.weights import read_weights
from metatlp.engine.averaging import Averaging, AveragingConfig
from metatlp.engine.cost import Cost
from metatlp.engine.grid_data import GridData
from metatlp.engine.inner import InnerLoop
from metatlp.engine.mesh import Mesh
from metatlp.engine.overview import (
    choice_lines,
    cost_lines,
    count_lines,
    grid_lines,
    reward_lines,
    step_line,
)
from metatlp.engine.parameters.build import build_parameters
from metatlp.engine.placement import Placement
from metatlp.engine.plan import num_meta_steps
from metatlp.engine.rewards import Rewards
from metatlp.engine.run_log import RunLog
from metatlp.engine.same_run import checksum
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import HeadSpec, MultiTaskModel, build_model, count_parameters
from metatlp.sampling import Sampler, build_sampler
from metatlp.seeds import derive_seed
from metatlp.tasks import TASKS
from metatlp.tasks.task import Padding


def choose_sampler(
    meta: MetaArguments,
    rewards: RewardArguments,
    grid_data: GridData,
    streams: dict[TLP, BatchStream],
) -> Sampler:
    """The sampler of the flags over the grid's arms.

    Raises:
        InputError: a file of weights, or a floor, that does not fit the grid.
    """
    sizes: list[float] = [split.num_examples for split in grid_data.train.values()]
    if meta.unit == "batches":
        sizes = [stream.batches_per_epoch for stream in streams.values()]
    weights = None
    if meta.weights_file is not None:
        names = [str(tlp) for tlp in grid_data.grid.tlps]
        weights = read_weights(Path(meta.weights_file), names)
    multidds = rewards.multidds(meta.sampler)
    if multidds is not None and multidds.floor * len(sizes) > 1:
        raise InputError(
            f"--dds-floor {multidds.floor:g}: {len(sizes)} TLPs train, so at most "
            f"1/{len(sizes)} = {1 / len(sizes):.4g}"
        )
    return build_sampler(
        meta.sampler,
        sizes,
        seed=meta.seed,
        draw=meta.draw,
        tau=meta.temperature,
        weights=weights,
        multidds=multidds,
    )


def build_rewards(
    meta: MetaArguments,
    data: DataArguments,
    config: RewardConfig | None,
    grid_data: GridData,
    strategy: Averaging,
    padding: Padding,
    placement: Placement,
) -> Rewards | None:
    """What measures the rewards of a sampler that learns, on batches of its own."""
    if config is None:
        return None
    sizes = data.batch_sizes()

    def streams(splits: dict[TLP, EncodedSplit], name: str) -> dict[TLP, BatchStream]:
        seed = derive_seed(meta.seed, name)
        return {t: BatchStream(s, t, sizes[t.task], seed) for t, s in splits.items()}

    return Rewards(
        strategy.parameters,
        strategy.theta.start,
        streams(grid_data.train, "reward train"),
        streams(grid_data.reward_dev, "reward dev"),
        padding,
        config,
        exact=meta.reduce == "exact",
        placement=placement,
        seed=meta.seed,
        num_parts=meta.num_parts,
    )


def count_steps(meta: MetaArguments, streams: dict[TLP, BatchStream]) -> int:
    """The number of meta steps: that of --epochs, or --max-meta-steps if that is less."""
    num_steps = _steps_of_epochs(meta, streams)
    return min(num_steps, meta.max_meta_steps or num_steps)


def _steps_of_epochs(meta: MetaArguments, streams: dict[TLP, BatchStream]) -> int:
    batches = [stream.batches_per_epoch for stream in streams.values()]
    return num_meta_steps(meta.epochs, batches, meta.meta_batch_size, meta.inner_steps)


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


def build_strategy(
    meta: MetaArguments,
    grid_data: GridData,
    streams: dict[TLP, BatchStream],
    placement: Placement,
    mesh: Mesh,
) -> tuple[str, InnerLoop, Averaging]:
    """The checksum of the initial parameters, the inner loop, and the strategy of the meta step.

    Raises:
        InputError: the model cannot be had.
    """
    with placement.together():
        model = model_of(meta, grid_data.grid.tasks, meta.seed)
    theta_0 = checksum(model)
    exact, parts = meta.reduce == "exact", meta.num_parts
    parameters = build_parameters(model, inner_config(meta), placement, mesh, parts, exact)
    last_only = meta.outer_update == "first-order-maml"
    inner_loop = InnerLoop(parameters, meta.seed, parts, placement.rank, last_only)
    cost = {tlp: stream.expected_tokens for tlp, stream in streams.items()}
    return theta_0, inner_loop, Averaging(parameters, averaging_config(meta), cost)


def heads(grid_data: GridData) -> dict[str, HeadSpec]:
    return head_specs(grid_data.grid.tasks)


def model_of(
    arguments: EncoderArguments,
    tasks: Collection[str],
    seed: int,
    begins_with: str | None = None,
    from_config: bool | None = None,
) -> MultiTaskModel:
    """The model that the flags of the encoder ask for.

    Args:
        tasks: whose heads it has.
        seed: of new heads.
        begins_with, from_config: in the place of --model and --from-config.

    Raises:
        InputError: it cannot be had.
    """
    name = begins_with or arguments.model
    assert name is not None
    return build_model(
        name,
        head_specs(tasks),
        seed=seed,
        dropout=arguments.dropout,
        attention=arguments.attention,
        from_config=arguments.from_config if from_config is None else from_config,
        gradient_checkpointing=arguments.gradient_checkpointing,
    )


def head_specs(tasks: Collection[str]) -> dict[str, HeadSpec]:
    """The heads of these tasks, in the order of TASKS.

    Raises:
        InputError: one of them is not known.
    """
    unknown = sorted(set(tasks) - TASKS.keys())
    if unknown:
        raise InputError(
            f"task '{unknown[0]}' is not known here; run this through the script that adds it "
            "(docs/own_task.md)"
        )
    return {
        code: HeadSpec(task.auto_class, task.labels)
        for code, task in TASKS.items()
        if code in tasks
    }


def data_record(grid_data: GridData) -> dict[str, Any]:
    """What data.json holds: per TLP and split the sizes, the fingerprint and all counts."""
    splits = {
        "train": grid_data.train,
        "dev": {tlp: split.encoded for tlp, split in grid_data.dev.items()},
    }
    if grid_data.reward_dev:
        splits["D_dev"] = grid_data.reward_dev
    return {
        "source": grid_data.source.describe(),
        "splits": {
            name: {
                str(tlp): {
                    "examples": split.num_examples,
                    "rows": split.num_rows,
                    "tokens": int(split.tokens.sum()),
                    "fingerprint": split.fingerprint,
                    "counts": split.counts,
                }
                for tlp, split in encoded.items()
            }
            for name, encoded in splits.items()
        },
    }


def show_overview(
    log: RunLog,
    grid_data: GridData,
    streams: dict[TLP, BatchStream],
    sampler: Sampler,
    meta: MetaArguments,
    rewards: RewardArguments,
    num_steps: int,
    mesh: Mesh,
) -> Cost:
    """The first lines of a run, after those on the processes. Every rank takes part.

    Returns:
        What it holds and sends.

    Raises:
        InputError: the model cannot be had, or has not the heads that the tasks need.
    """
    assert meta.model is not None
    placement = log.placement
    num_parameters = 0
    with placement.together():
        num_parameters = count_parameters(meta.model, heads(grid_data), meta.attention)
    num_batches = sum(stream.batches_per_epoch for stream in streams.values())
    unlimited = _steps_of_epochs(meta, streams)
    cost = Cost(
        num_parameters,
        averaging_config(meta),
        mesh,
        meta.num_parts,
        rewards.rewards(meta.sampler),
        placement.sharding.placed,
        2 if placement.accelerator.mixed_precision == "bf16" else 4,
    )
    for line in (
        *grid_lines(grid_data, streams, list(sampler.probs())),
        *count_lines(grid_data.counts()),
        *choice_lines(meta, placement.device.type == "cuda"),
        *reward_lines(meta, rewards, grid_data),
        step_line(meta, num_batches, unlimited, num_steps),
        *cost_lines(cost),
    ):
        log.say(line)
    return cost

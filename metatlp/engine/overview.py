"""The first lines of a run: processes, grid, probabilities, choices, steps, cost.

Whatever was chosen without the user saying so stands in them. Knows words only: nothing here acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metatlp.data.schedule import Schedule
from metatlp.data.streams import BatchStream
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.rewards import RewardArguments
from metatlp.engine.arguments.supervised import MtlArguments
from metatlp.engine.cost import Cost
from metatlp.engine.grid_data import GridData
from metatlp.engine.mesh import Mesh
from metatlp.grid import TLP
from metatlp.tasks import TASKS

_NAMED = 4  # TLPs named per count before the rest is left to data.json
# Plain sizes, and what --max-examples and --eval-examples left out: told elsewhere, or once.
_NOT_TOLD = ("read", "windows", "examples_over_max")


def placement_lines(
    placement: Mapping[str, Any], mesh: Mesh | None = None, slots: int | None = None
) -> list[str]:
    """How many processes, on what; said before anything that takes time.

    Args:
        placement: Placement.describe().
        mesh, slots: the TLP groups and m, where there are slots.
    """
    world, threads = placement["processes"], placement["threads_per_process"]
    each = ", each" if world > 1 else ""
    cut = f"{placement['sharding']}; " if placement.get("sharding") else ""
    lines = [
        f"{_number(world, 'process', 'processes')}{each} on {placement['device']} with "
        f"{_number(threads, 'thread')}; {cut}mixed precision {placement['mixed_precision']}; "
        f"kernels {placement['kernels']}"
        + (f"; backend {placement['backend']}" if placement["backend"] else "")
    ]
    if unused := placement.get("unused_gpus"):
        lines.append(f"note: {_number(unused, 'GPU')} of this machine not used; --num_processes")
    if mesh is None or slots is None:
        return lines
    if world > 1:
        lines.append(mesh.describe("shard" if placement.get("sharding") else "rank"))
    if mesh.groups > slots:
        one = "processes" if mesh.ranks_per_tlp == 1 else "TLP groups"
        lines.append(
            f"note: {mesh.groups - slots} of the {mesh.groups} {one} stay idle in every meta step, "
            f"for --meta-batch-size is {slots}"
        )
    return lines


def grid_lines(
    data: GridData, streams: Mapping[TLP, BatchStream], probs: Sequence[float]
) -> list[str]:
    """A table of the TLPs that train, and what is missing from it."""
    lines = [
        f"{_number(len(data.grid.tlps), 'TLP')} from {data.source.describe()}; encoded files in "
        f"{data.cache_dir}",
        f"{'TLP':<8}{'examples':>9}{'rows':>8}{'batch':>6}{'tokens/batch':>13}{'share':>8}"
        f"{'p':>8}{'dev':>7}",
    ]
    total = sum(split.num_examples for split in data.train.values())
    for tlp, p in zip(data.grid.tlps, probs, strict=True):
        split, stream = data.train[tlp], streams[tlp]
        dev = data.dev[tlp].encoded.num_examples if tlp in data.dev else 0
        lines.append(
            f"{tlp!s:<8}{split.num_examples:>9}{split.num_rows:>8}{stream.batch_size:>6}"
            f"{stream.expected_tokens:>13.0f}{split.num_examples / total:>8.4f}{p:>8.4f}{dev:>7}"
        )
    if data.missing.tlps:
        names = ", ".join(map(str, data.missing.tlps))
        lines.append(f"not in this data, of the paper's grid: {names}")
    without = [str(tlp) for tlp in data.grid.tlps if tlp not in data.dev]
    if without:
        lines.append(f"no dev data, so not evaluated: {', '.join(without)}")
    return lines


def count_lines(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """What was repaired, split, truncated or left out: one line per split and kind.

    Args:
        counts: GridData.counts(): split -> TLP -> kind -> number.
    """
    lines, left_out = [], []
    for split, per_tlp in counts.items():
        by_kind = _by_kind(per_tlp)
        if over := by_kind.get("examples_over_max"):
            left_out.append(f"{sum(over.values()):,} {split} examples")
        for kind in sorted(by_kind.keys() - set(_NOT_TOLD)):
            lines.append(f"  {split:<6}{kind}: {_largest(by_kind[kind])}")
    if lines:
        lines.insert(0, "counted while reading and encoding (all counts go to data.json):")
    if left_out:
        lines.append(f"left out by --max-examples and --eval-examples: {', '.join(left_out)}")
    return lines


def choice_lines(meta: MetaArguments, cuda: bool) -> list[str]:
    """The preset and what it and the other flags come to."""
    sampler: str = meta.sampler
    if meta.sampler == "temp":
        chosen = "default" if meta.tau is None else "as given"
        sampler = f"temp, tau {meta.temperature:g} ({chosen}), sizes in {meta.unit}"
    elif meta.unit is not None:
        sampler = f"{meta.sampler}, from the TLPs' shares in {meta.unit}"
    clip = f"{meta.grad_clip:g}" if meta.grad_clip else "off"
    deterministic = "; CUDA operations are deterministic" if cuda else ""
    return [
        f"preset {meta.preset}; seed {meta.seed}",
        f"sampler: {sampler}; {meta.draw} draws",
        f"inner steps: AdamW from {meta.inner_lr:g} linearly to 0, weight decay "
        f"{meta.weight_decay:g}, clip {clip}, dropout {meta.dropout:g}; state "
        f"{meta.inner_state}, idle heads {meta.idle_heads}",
        f"meta step: beta {meta.meta_lr:g}, momentum {meta.outer_momentum:g}, heads averaged by "
        f"{meta.head_average}, reduce {meta.reduce}{deterministic}",
    ]


def reward_lines(meta: MetaArguments, rewards: RewardArguments, data: GridData) -> list[str]:
    """What a sampler that learns is rewarded for, and how; nothing for others."""
    config, multidds = rewards.rewards(meta.sampler), rewards.multidds(meta.sampler)
    if config is None:
        return []
    passes = config.num_passes(len(data.train), len(data.reward_dev))
    inner = config.every * meta.meta_batch_size * meta.inner_steps
    names = ", ".join(map(str, data.reward_dev))
    batches = _number(config.batches, "batch", "batches")
    lines = [
        f"rewards: {config.reward} on D_dev = {names}; {batches} per gradient, "
        f"{config.parameters} parameters, dropout {'on' if config.dropout else 'off'}",
        f"update every {_number(config.every, 'meta step')}: {passes} backward passes beside the "
        f"{inner} of the inner steps",
    ]
    if multidds is not None:
        lines.append(
            f"psi: lr {multidds.lr:g}, update {multidds.update}, floor {multidds.floor:g}, "
            f"baseline {multidds.baseline}, smoothing {multidds.smoothing:g}"
        )
    return lines


def step_line(meta: MetaArguments, num_batches: int, unlimited: int, num_steps: int) -> str:
    """The number of meta steps, and why.

    Args:
        num_batches: sum over TLPs of batches per epoch. unlimited: steps without --max-meta-steps.
    """
    formula = (
        f"{meta.epochs:g} epochs * {num_batches:,} batches // ({meta.meta_batch_size} slots * "
        f"{meta.inner_steps} inner steps)"
    )
    if num_steps < unlimited:
        return f"meta steps: {num_steps:,} (--max-meta-steps; {formula} = {unlimited:,})"
    return f"meta steps: {num_steps:,} = {formula}"


def cost_lines(cost: Cost) -> list[str]:
    """Model size, memory by parts, and communication."""
    parts = ", ".join(f"{part} {_size(n)}" for part, n in cost.memory().items())
    per_parameter = sum(cost.bytes_per_parameter().values())
    update = f"; {_size(cost.reward_communication)} into that of an update of the sampler"
    within = f"; inside a TLP group {_size(cost.communication_within)} for each slot"
    return [
        f"memory per process: {_size(sum(cost.memory().values()))} + activations = "
        f"{cost.num_parameters:,} parameters * {per_parameter:g} bytes ({parts})",
        f"communication: {_size(cost.communication)} per process into the all-reduces of a meta "
        f"step{within if cost.communication_within else ''}{update if cost.rewards else ''}",
    ]


def mtl_line(mtl: MtlArguments, num_batches: int, schedule: Schedule) -> str:
    """How many updates there are, and of what."""
    how = {
        "concat": "of the TLPs of a task concatenated, the batches of all tasks shuffled",
        "temp": f"each of a TLP drawn with tau {mtl.temperature:g}" if mtl.temperature else "",
        "uniform": "each of a TLP drawn evenly",
    }[mtl.sampler]
    number = f"{len(schedule):,} updates"
    if mtl.match_updates is not None:
        number += f", the inner steps of {mtl.match_updates},"
    return (
        f"{number} = {len(schedule) / num_batches:.3g} epochs of {num_batches:,} batches, {how}; "
        f"learning rate {mtl.lr:g}, decaying linearly to 0"
    )


def score_lines(
    step: int, scores: Mapping[TLP, Mapping[str, float]], unit: str = "meta step"
) -> list[str]:
    """Dev scores by task and language, and each task's mean (percent)."""
    lines = [f"dev after {unit} {step}:"]
    width = 1 + max(map(len, TASKS))
    for code, task in TASKS.items():
        own = {tlp.lang: values[task.metric] for tlp, values in scores.items() if tlp.task == code}
        if own:
            cells = "  ".join(f"{lang} {100 * value:.2f}" for lang, value in own.items())
            mean = 100 * sum(own.values()) / len(own)
            lines.append(f"  {code:<{width}}{task.metric:<9} mean {mean:.2f}   {cells}")
    return lines


def _by_kind(per_tlp: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Kind -> TLP -> number, without zeros."""
    found: dict[str, dict[str, int]] = {}
    for tlp, counts in per_tlp.items():
        for kind, number in counts.items():
            if number:
                found.setdefault(kind, {})[tlp] = number
    return found


def _largest(numbers: Mapping[str, int]) -> str:
    """The sum and the TLPs with most of it."""
    ordered = sorted(numbers.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{tlp} {n:,}" for tlp, n in ordered[:_NAMED])
    more = f" and {len(ordered) - _NAMED} more TLPs" if len(ordered) > _NAMED else ""
    return f"{sum(numbers.values()):,} ({shown}{more})"


def _number(n: int, one: str, several: str | None = None) -> str:
    return f"{n} {one if n == 1 else several or one + 's'}"


def _size(num_bytes: int) -> str:
    """Bytes in MiB below 1 GiB, else in GiB."""
    if num_bytes < 2**30:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / 2**30:.2f} GiB"

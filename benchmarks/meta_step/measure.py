"""Clocks: interleaved rounds, the parts of a step, peak memory, two ranks.

Knows variants only through their interface, except where the parts of ours are timed one by one.
"""

from __future__ import annotations

import resource
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from meta_step.clock import PARTS_STEPS, Clock
from meta_step.kernel_share import kernels_watched
from meta_step.variants import Floor, Ours, Settings, Variant, builders
from meta_step.workload import Workload

PERCENTILES = (20, 50, 80)
# What a meta step of ours is made of: method -> what it is called in the table.
INNER_PARTS = {
    "gradient": "forward, backward, zeroing",
    "step": "norm, AdamW",
}
OUTER_PARTS = {
    "begin": "begin: scales of the fixed point",
    "enter": "enter: moments to zero (reset)",
    "leave": "leave: write_delta_, accumulate_delta_",
    "reduce": "all-reduce",
    "apply": "apply_delta_",
}


def interleaved(
    variants: list[Variant], num_rounds: int, warmup: int, device: torch.device
) -> dict[str, list[float]]:
    """Variant -> seconds of each measured step; every round runs all variants on one queue.

    The order is turned by one place from round to round, so that none always follows the same.
    """
    clock, seconds = Clock(device), defaultdict(list)
    for step in range(warmup + num_rounds):
        turn = step % len(variants)
        for variant in variants[turn:] + variants[:turn]:
            variant.prepare(step)
            begun = clock.now()
            run_once(variant, step)
            took = clock.now() - begun
            print(f"round {step}: {variant.name} {took:.3f} s", file=sys.stderr, flush=True)
            if step >= warmup:
                seconds[variant.name].append(took)
    return dict(seconds)


def run_once(variant: Variant, step: int) -> None:
    """On CUDA, ours is measured with the deterministic operations that the script turns on."""
    torch.use_deterministic_algorithms(isinstance(variant, Ours) and torch.cuda.is_available())
    variant.run(step)
    torch.use_deterministic_algorithms(False)


def quantiles(values: list[float]) -> list[float]:
    return np.percentile(values, PERCENTILES).tolist()


def paired_ratio(ours: list[float], other: list[float]) -> list[float]:
    """Quantiles of the ratio within a round: what disturbs a round disturbs both."""
    return quantiles([a / b for a, b in zip(ours, other, strict=True)])


def breakdown(
    work: Workload, settings: list[tuple[str, str]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Setting -> part of a meta step -> (ours, floor) in seconds, the quickest of the steps.

    Behind the whole step stand the kernels by vector, which `leave` and `apply_delta_` hold.

    The first step is not counted. Quickest, because the parts are short and a busy machine only
    ever adds to them.

    Args:
        settings: pairs of `--reduce` and `--inner-state`.
    """
    usual = Settings()
    variants = {f"{r}, {s}": Ours(work, r, s, usual) for r, s in settings}
    floor = Floor(work, usual)
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {
        name: defaultdict(list) for name in variants
    }
    for step in range(min(PARTS_STEPS, len(work.queues))):
        theirs = _floor_in_parts(floor, step)
        for name, ours in variants.items():
            for part, mine in _ours_in_parts(ours, step).items():
                rows[name][part].append((mine, theirs.get(part, 0.0)))
    for ours in variants.values():
        ours.loader.close()
    return {
        name: {
            part: (min(a for a, _ in found[1:]), min(b for _, b in found[1:]))
            for part, found in parts.items()
        }
        for name, parts in rows.items()
    }


def cost_of_exact(parts: dict[str, dict[str, tuple[float, float]]]) -> dict[str, float]:
    """What `exact` adds to a meta step under `average`, from the parts that differ.

    The passes are the same code under both, so their scatter is left out.

    Args:
        parts: from `breakdown`, with both settings.

    Returns:
        Seconds of those parts under each, seconds of the whole step under fp32, and the share.
    """
    exact, fp32 = (
        sum(parts[f"{reduce}, average"][part][0] for part in OUTER_PARTS.values())
        for reduce in ("exact", "fp32")
    )
    whole = parts["fp32, average"]["whole step"][0]
    return {"exact": exact, "fp32": fp32, "whole step": whole, "share": (exact - fp32) / whole}


def _ours_in_parts(ours: Ours, step: int) -> dict[str, float]:
    clock, kernels = Clock(ours.work.device), Clock(ours.work.device)
    watched = (ours.parameters, ours.strategy, ours)
    originals = [dict(vars(owner)) for owner in watched]
    clock.watch(ours.parameters, INNER_PARTS)
    clock.watch(ours.strategy, OUTER_PARTS)
    clock.watch(ours, {"take": "waiting for batches", "measure_distance": "distance"})
    ours.prepare(step)
    with kernels_watched(ours, kernels):
        clock.timed("whole step", ours.run)(step)
    for owner, original in zip(watched, originals, strict=True):
        for method in vars(owner).keys() - original.keys():
            delattr(owner, method)
    parts = dict(clock.seconds)
    whole = parts.pop("whole step")
    return {**parts, "other": whole - sum(parts.values()), "whole step": whole, **kernels.seconds}


def _floor_in_parts(floor: Floor, step: int) -> dict[str, float]:
    clock = Clock(floor.work.device)
    floor.prepare(step)
    gradient = clock.timed(INNER_PARTS["gradient"], floor.gradient)
    update = clock.timed(INNER_PARTS["step"], floor.update)
    begun = clock.now()
    for slot, batches in zip(floor.work.queues[step], floor.batches, strict=True):
        for batch in batches:
            gradient(slot.tlp.task, batch)
            update()
    return {**clock.seconds, "whole step": clock.now() - begun}


def memory(work: Workload, name: str) -> dict[str, int]:
    """Bytes before the variant is built, and the high-water mark after its steps."""
    cuda = work.device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else resident("VmRSS")
    variant = builders(work)[name]()
    for step in range(len(work.queues)):
        variant.prepare(step)
        run_once(variant, step)
    return {"before": before, "peak": torch.cuda.max_memory_allocated() if cuda else peak_rss()}


def resident(field: str) -> int:
    """A field of /proc/self/status in bytes; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith(field + ":")), 0)


def peak_rss() -> int:
    # Not ru_maxrss where it can be avoided: a child starts with its parent's.
    return resident("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def over_ranks(work: Workload, num_rounds: int, warmup: int) -> dict[str, dict[str, list[float]]]:
    """Variant -> seconds of whole steps and of their all-reduces. Every rank takes part."""
    seconds: dict[str, dict[str, list[float]]] = {}
    variants = [Ours(work, reduce, "average", Settings()) for reduce in ("exact", "fp32")]
    clock = Clock(work.device)
    for variant in variants:
        seconds[variant.name] = {"step": [], "all-reduce": []}
        variant.strategy.reduce = _meeting_first(clock, variant)  # type: ignore[method-assign]
    for step in range(warmup + num_rounds):
        for variant in variants if step % 2 else variants[::-1]:
            variant.prepare(step)
            clock.seconds.clear()
            torch.distributed.barrier()
            clock.timed("step", lambda step, variant=variant: run_once(variant, step))(step)
            if step >= warmup:
                for part, values in seconds[variant.name].items():
                    values.append(clock.seconds[part])
    return seconds


def _meeting_first(clock: Clock, variant: Ours) -> Callable[[], None]:
    """The all-reduce without the wait for a rank that still computes. Every rank takes part."""
    reduce = clock.timed("all-reduce", variant.strategy.reduce)

    def meet_and_reduce() -> None:
        torch.distributed.barrier()
        reduce()

    return meet_and_reduce

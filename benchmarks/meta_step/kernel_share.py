"""What the operations on flat vectors take of a whole meta step and of a whole reward update.

n: training pairs; d: dev pairs; P: elements of the arena.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from meta_step.clock import PARTS_STEPS, Clock
from meta_step.variants import Ours, Settings
from meta_step.workload import Workload
from metatlp.engine import replicated
from metatlp.kernels import cosine_terms

KERNELS = ("accumulate_delta_", "write_delta_", "apply_delta_")
PASSES, DEV_PASSES = "n passes, forward and backward", "d passes, forward and backward"
COSINE, WHOLE = "cosine_terms", "whole reward update"


@contextmanager
def kernels_watched(ours: Ours, clock: Clock) -> Iterator[None]:
    """Time the kernels that the strategy calls, by the vector that they work on."""
    state = ours.strategy.moments
    names = ["theta", "first moment", "second moment"]
    vectors = zip(names, [ours.strategy.theta, *state], strict=False)
    names_by_storage = {v.live.untyped_storage().data_ptr(): name for name, v in vectors}

    def watched(kernel: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            live = args[1]  # of both
            vector = names_by_storage[live.untyped_storage().data_ptr()]
            clock.timed(f"{kernel}, {vector}", function)(*args)

        return call

    originals = {kernel: getattr(replicated, kernel) for kernel in KERNELS}
    for kernel, function in originals.items():
        setattr(replicated, kernel, watched(kernel, function))
    try:
        yield
    finally:
        for kernel, function in originals.items():
            setattr(replicated, kernel, function)


def reward_update(work: Workload) -> dict[str, float]:
    """Part -> seconds of a MultiDDS update (Algorithm 1, lines 10-13), the quickest of a few.

    n gradients at theta and d of dev pairs, no inner steps, and the cosine of each of the n with
    the sum of the d. The dev pairs are the training pairs on other batches.
    """
    ours = Ours(work, "fp32", "reset", Settings())
    found: dict[str, list[float]] = {}
    for step in range(min(PARTS_STEPS, len(work.queues))):
        ours.prepare(step)
        batches = {slot.tlp: ours.take(slot) for slot in work.queues[step]}
        clock = Clock(work.device)
        clock.timed(WHOLE, _update)(ours, batches, clock)
        if step:
            for part, seconds in clock.seconds.items():
                found.setdefault(part, []).append(seconds)
    ours.loader.close()
    return {part: min(seconds) for part, seconds in found.items()}


def _update(ours: Ours, batches: dict[Any, list[Any]], clock: Clock) -> None:
    arena = ours.inner_loop.arena
    gradient = ours.inner_loop._gradient
    dev_pass, train_pass = clock.timed(DEV_PASSES, gradient), clock.timed(PASSES, gradient)
    cosine = clock.timed(COSINE, cosine_terms)
    everything = list(arena.segments)
    for i, (tlp, episode) in enumerate(batches.items()):
        # Zeroed before the first: the gradients add up.
        dev_pass(tlp.task, episode[-1], everything if i == 0 else [])
    dev = clock.timed("copy of the dev gradient", arena.grad.clone)()
    terms = []
    for tlp, episode in batches.items():
        train_pass(tlp.task, episode[0], everything)
        terms.append(cosine(arena.grad, dev))
    torch.stack(terms).cpu()

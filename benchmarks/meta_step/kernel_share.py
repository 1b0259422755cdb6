"""What the operations on flat vectors take of a whole meta step and of a whole reward update.

n: training pairs; d: dev pairs; P: elements of the arena.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from meta_step.clock import PARTS_STEPS, Clock
from meta_step.variants import Ours, Settings
from meta_step.workload import Workload
from metatlp.data.streams import BatchStream
from metatlp.engine import averaging, gradients, rewards
from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.rewards import Rewards

KERNELS = ("accumulate_delta_", "write_delta_", "apply_delta_")
REWARD_KERNELS = {"gram": gradients, "accumulate_delta_": rewards}
PASSES, DEV_PASSES = "n passes, forward and backward", "d passes, forward and backward"
WHOLE = "whole reward update"


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

    originals = {kernel: getattr(averaging, kernel) for kernel in KERNELS}
    for kernel, function in originals.items():
        setattr(averaging, kernel, watched(kernel, function))
    try:
        yield
    finally:
        for kernel, function in originals.items():
            setattr(averaging, kernel, function)


def reward_update(work: Workload) -> dict[str, float]:
    """Part -> seconds of a MultiDDS update's rewards (Algorithm 1, lines 10-12), the quickest of a
    few.

    The dev pairs are the training pairs on other batches; one batch per gradient.
    """
    ours, clock = Ours(work, "fp32", "reset", Settings()), Clock(work.device)
    dev = {t: BatchStream(s.split, t, s.batch_size, seed=1) for t, s in work.streams.items()}
    config = RewardConfig("cos-of-mean", 1, "all", dropout=False, every=1)
    found: dict[str, list[float]] = {}
    theta = ours.strategy.theta.start
    measured = Rewards(
        ours.parameters,
        theta,
        work.streams,
        dev,
        work.padding,
        config,
        False,
        work.placement,
        seed=0,
    )
    with closing(measured):
        clock.watch(measured.train, {"add": PASSES})
        clock.watch(measured.dev, {"add": DEV_PASSES})
        with _reward_kernels_watched(clock):
            for update in range(PARTS_STEPS):
                clock.seconds.clear()
                clock.timed(WHOLE, measured.measure)(update, 0.0)
                for part, seconds in clock.seconds.items():
                    found.setdefault(part, []).append(seconds)
    ours.loader.close()
    return {part: min(seconds) for part, seconds in found.items()}


@contextmanager
def _reward_kernels_watched(clock: Clock) -> Iterator[None]:
    originals = {kernel: getattr(module, kernel) for kernel, module in REWARD_KERNELS.items()}
    for kernel, function in originals.items():
        setattr(REWARD_KERNELS[kernel], kernel, clock.timed(kernel, function))
    try:
        yield
    finally:
        for kernel, function in originals.items():
            setattr(REWARD_KERNELS[kernel], kernel, function)

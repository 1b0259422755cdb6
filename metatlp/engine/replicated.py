"""The replicated strategy: every rank holds all parameters, one TLP per rank at a time.

The only module of the engine that knows how a meta step is spread over ranks. No gradient is ever
communicated; one all-reduce per averaged vector and meta step.
P: elements of the arena; S: segments; m: slots of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from metatlp.engine.bounds import exponent_for, moment_bounds, parameter_bound
from metatlp.engine.inner import InnerConfig, InnerState
from metatlp.engine.plan import Slot, assign
from metatlp.grid import TLP
from metatlp.kernels import accumulate_delta_, apply_delta_, write_delta_
from metatlp.model.arena import Arena, Segment


@dataclass(frozen=True)
class AveragingConfig:
    """How slots are averaged.

    Attributes:
        inner_steps: k.
        inner_state: `average` (every slot starts from the shared AdamW moments, which are averaged
            like the parameters), `reset` (fresh moments per slot), `carry` (the moments run through
            the slots in sequence, as in the published code; one rank only).
        head_average: `grid` divides a head's differences by m, as the paper does; `task` by the
            number of slots of that head's task.
        reduce: `exact` sums 64-bit fixed point, so that the result does not depend on who holds
            which slot; `fp32`, or `bf16` on the wire.
        momentum, nesterov: of the outer step; 0 is the paper's plain SGD.
    """

    inner_steps: int = 3
    inner_state: str = "average"
    head_average: str = "grid"
    reduce: str = "fp32"
    momentum: float = 0.0
    nesterov: bool = False


class Averaged:
    """A flat vector that every slot starts from and that the meta step moves.

    live (P,) float32 is what the inner loop changes, start (P,) what slots begin at, total (P,) the
    weighted sum of differences so far, float32 or int64 fixed point.
    """

    def __init__(self, live: Tensor, exact: bool):
        self.live, self.start = live, live.clone()
        self.total = torch.zeros_like(live, dtype=torch.int64 if exact else torch.float32)
        self.exponent: int | None = None

    def add(self, segment: Segment, weight: float, first: bool) -> None:
        """A slot's weighted difference. first: nothing of the segment is in the total yet."""
        part = segment.span
        add = write_delta_ if first else accumulate_delta_
        add(self.total[part], self.live[part], self.start[part], weight, self.exponent)

    def reduce(self, on_the_wire: torch.dtype | None) -> None:
        """All ranks take part."""
        if on_the_wire is None:
            dist.all_reduce(self.total)
        else:
            wire = self.total.to(on_the_wire)
            dist.all_reduce(wire)
            self.total.copy_(wire)


class Replicated:
    """Implements `meta_step.Strategy` with a full copy of everything on each rank."""

    def __init__(
        self,
        arena: Arena,
        state: InnerState,
        stepped: Callable[[str], list[Segment]],
        config: AveragingConfig,
        inner: InnerConfig,
        cost: Mapping[TLP, float],
        rank: int = 0,
        world: int = 1,
    ):
        """
        Args:
            arena: holds the live parameters, at theta.
            state: AdamW's live state.
            stepped: task code -> the segments that its inner loop moves.
            cost: expected tokens of an episode of each TLP.
            rank, world: of the default process group.
        """
        assert world == 1 or config.inner_state != "carry", "carry is sequential"
        self.arena, self.state, self.stepped = arena, state, stepped
        self.config, self.inner, self.cost = config, inner, cost
        self.rank, self.world = rank, world
        exact = config.reduce == "exact"
        self.theta = Averaged(arena.live, exact)
        self.moments: list[Averaged] = []
        if config.inner_state == "average":
            self.moments = [Averaged(state.exp_avg, exact), Averaged(state.exp_avg_sq, exact)]
        self.start_steps = state.steps.clone()
        self.velocity = torch.zeros_like(arena.live) if config.momentum else None
        self.failure: str | None = None
        self.uses: dict[Segment, int] = {}
        self.written: set[Segment] = set()
        self.num_slots = 0

    def begin(self, queue: Sequence[Slot], inner_lr: float) -> list[Slot]:
        self.num_slots = len(queue)
        self.written = set()
        moved = [self.stepped(slot.tlp.task) for slot in queue]
        self.uses = {s: sum(s in segments for segments in moved) for s in self.arena.segments}
        if self.config.reduce == "exact":
            self._set_exponents(inner_lr)
        return assign(queue, self.cost, self.world)[self.rank]

    def enter(self, slot: Slot) -> None:
        if self.config.inner_state != "reset":
            return
        for segment in self.stepped(slot.tlp.task):
            self.state.exp_avg[segment.span].zero_()
            self.state.exp_avg_sq[segment.span].zero_()
        self.state.steps.zero_()

    def leave(self, slot: Slot) -> None:
        try:
            for segment in self.stepped(slot.tlp.task):
                by_task = self.config.head_average == "task"
                first = segment not in self.written
                self.written.add(segment)
                weight = 1 / (self.uses[segment] if by_task else self.num_slots)
                self.theta.add(segment, weight, first)
                # Moments and their step counts are averaged over the slots that stepped them.
                for moment in self.moments:
                    moment.add(segment, 1 / self.uses[segment], first)
        except OverflowError as error:
            # Raised after the step, on all ranks: here the others would wait in their all-reduce.
            self.failure = f"slot {slot.index} ({slot.tlp}): {error}"
        if self.moments:
            self.state.steps.copy_(self.start_steps)

    def reduce(self) -> None:
        if self.world == 1:
            return
        on_the_wire = torch.bfloat16 if self.config.reduce == "bf16" else None
        for vector in (self.theta, *self.moments):
            vector.reduce(on_the_wire)

    def apply(self, beta: float) -> None:
        theta, config = self.theta, self.config
        apply_delta_(
            theta.start,
            theta.live,
            theta.total,
            beta,
            theta.exponent,
            self.velocity,
            config.momentum,
            config.nesterov,
        )
        for moment in self.moments:
            apply_delta_(moment.start, moment.live, moment.total, 1.0, moment.exponent)
        if self.moments:
            used = [self.uses[segment] > 0 for segment in self.arena.segments]
            self.start_steps += config.inner_steps * torch.tensor(used).to(self.start_steps)
            self.state.steps.copy_(self.start_steps)

    def _set_exponents(self, inner_lr: float) -> None:
        # theta is the same on every rank, so the scales are too.
        largest = max(abs(end.item()) for end in torch.aminmax(self.theta.start))
        k = self.config.inner_steps
        self.theta.exponent = exponent_for(parameter_bound(self.inner, inner_lr, k, largest))
        for moment, bound in zip(self.moments, moment_bounds(self.inner, k), strict=False):
            moment.exponent = exponent_for(bound)

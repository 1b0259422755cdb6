"""The meta step's average: who holds which slot, and the sums of differences over TLP groups.

One slot per TLP group at a time; no gradient crosses from one group to another, and each averaged
vector is all-reduced once per meta step, of which a rank puts P/R elements into it: its shard, or
where the parameters are replicated in a group of R ranks, the share that falls to it.
P_r: elements of this rank's vectors; S: segments; m: slots of the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from metatlp.engine.bounds import exponent_for, moment_bounds, parameter_bound
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.distance import distance
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.plan import Slot, assign
from metatlp.grid import TLP
from metatlp.kernels import accumulate_delta_, apply_delta_, write_delta_
from metatlp.model.arena import ALIGNMENT, Segment


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

    live (P_r,) float32 is what the inner loop changes, start (P_r,) what slots begin at. The
    elements of `share` are this rank's to average: all of a shard; of a replicated vector one of R
    even parts. total (elements of the share,) is the weighted sum of their differences so far,
    float32 or int64 fixed point.
    """

    def __init__(self, live: Tensor, exact: bool, mesh: Mesh, replicated: bool):
        self.live, self.start, self.mesh = live, live.clone(), mesh
        parts = mesh.ranks_per_tlp if replicated else 1
        self.shares = even_parts(len(live), parts)
        self.share = self.shares[mesh.member if replicated else 0]
        size = self.share.stop - self.share.start
        self.total = torch.zeros(
            size, dtype=torch.int64 if exact else torch.float32, device=live.device
        )
        self.exponent: int | None = None

    def add(self, segment: Segment, weight: float, first: bool) -> None:
        """A slot's weighted difference; back to the start. first: nothing of the segment is in the
        total yet."""
        add = write_delta_ if first else accumulate_delta_
        own = intersection(segment.span, self.share)
        begin = self.share.start
        total = self.total[own.start - begin : own.stop - begin]
        add(total, self.live[own], self.start[own], weight, self.exponent)
        for rest in (slice(segment.start, own.start), slice(own.stop, segment.stop)):
            self.live[rest].copy_(self.start[rest])

    def reduce(self, on_the_wire: torch.dtype | None) -> None:
        """The same members of all TLP groups take part."""
        if self.mesh.across is None:
            return
        if on_the_wire is None:
            self.mesh.sum_across(self.total)
        else:
            self.total.copy_(self.mesh.sum_across(self.total.to(on_the_wire)))

    def apply(
        self,
        beta: float,
        velocity: Tensor | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        """start <- start + beta * total, and live with it. The ranks of the TLP group take part.

        Args:
            velocity: (elements of the share,).
        """
        start, live = self.start[self.share], self.live[self.share]
        exponent = self.exponent
        apply_delta_(start, live, self.total, beta, exponent, velocity, momentum, nesterov)
        if len(self.shares) > 1:
            self.share_out(self.start)
            self.live.copy_(self.start)

    def share_out(self, vector: Tensor) -> None:
        """Give (P_r,) a vector's shares to the ranks that have others. The ranks of the TLP group
        take part."""
        if len(self.shares) > 1:
            for member, share in enumerate(self.shares):
                source = self.mesh.rank_of(member)
                dist.broadcast(vector[share], source, group=self.mesh.within)


class Averaging:
    """Implements `meta_step.Strategy` over any placement of the parameters."""

    def __init__(self, parameters: Parameters, config: AveragingConfig, cost: Mapping[TLP, float]):
        """
        Args:
            parameters: at theta.
            cost: expected tokens of an episode of each TLP.
        """
        mesh = parameters.mesh
        assert mesh.groups == 1 or config.inner_state != "carry", "carry is sequential"
        self.parameters, self.config, self.cost, self.mesh = parameters, config, cost, mesh
        self.state, self.segments = parameters.state, parameters.segments
        exact = config.reduce == "exact"

        def averaged(live: Tensor) -> Averaged:
            return Averaged(live, exact, mesh, parameters.replicated)

        self.theta = averaged(parameters.live)
        self.moments: list[Averaged] = []
        if config.inner_state == "average":
            self.moments = [averaged(self.state.exp_avg), averaged(self.state.exp_avg_sq)]
        self.start_steps = self.state.steps.clone()
        share = parameters.live[self.theta.share]
        self.velocity = torch.zeros_like(share) if config.momentum else None
        self.uses: dict[Segment, int] = {}
        self.written: set[Segment] = set()
        self.num_slots = 0
        self._overflow: str | None = None
        self._published = True

    @property
    def failure(self) -> str | None:
        """What this rank met that makes the step worthless."""
        return self._overflow or self.parameters.failure

    def begin(self, queue: Sequence[Slot], inner_lr: float) -> list[Slot]:
        self.num_slots = len(queue)
        self.written = set()
        moved = [self.parameters.stepped(slot.tlp.task) for slot in queue]
        self.uses = {s: sum(s in segments for segments in moved) for s in self.segments}
        if self.config.reduce == "exact":
            self._set_exponents(inner_lr)
        return assign(queue, self.cost, self.mesh.groups)[self.mesh.group]

    def enter(self, slot: Slot) -> None:
        if not self._published:
            self.parameters.publish()
            self._published = True
        if self.config.inner_state != "reset":
            return
        for segment in self.parameters.stepped(slot.tlp.task):
            self.state.exp_avg[segment.span].zero_()
            self.state.exp_avg_sq[segment.span].zero_()
        self.state.steps.zero_()

    def leave(self, slot: Slot) -> None:
        try:
            for segment in self.parameters.stepped(slot.tlp.task):
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
            self._overflow = f"slot {slot.index} ({slot.tlp}): {error}"
        if self.moments:
            self.state.steps.copy_(self.start_steps)
        self._published = False

    def reduce(self) -> None:
        on_the_wire = torch.bfloat16 if self.config.reduce == "bf16" else None
        for vector in (self.theta, *self.moments):
            vector.reduce(on_the_wire)

    def apply(self, beta: float) -> None:
        config = self.config
        self.theta.apply(beta, self.velocity, config.momentum, config.nesterov)
        for moment in self.moments:
            moment.apply(1.0)
        if self.moments:
            used = [self.uses[segment] > 0 for segment in self.segments]
            self.start_steps += config.inner_steps * torch.tensor(used).to(self.start_steps)
            self.state.steps.copy_(self.start_steps)
        self.parameters.publish()
        self._published = True

    def whole_velocity(self) -> Tensor:
        """(P_r,) the outer velocity, a copy. The ranks of the TLP group take part."""
        assert self.velocity is not None
        whole = torch.zeros_like(self.theta.start)
        whole[self.theta.share] = self.velocity
        self.theta.share_out(whole)
        return whole

    def take_velocity(self, whole: Tensor) -> None:
        """Go on with this outer velocity (P_r,)."""
        assert self.velocity is not None
        self.velocity.copy_(whole[self.theta.share])

    def distance(self, theta_0: Tensor) -> float:
        """|theta - theta_0|. The ranks of the TLP group take part.

        Args:
            theta_0: (P_r,).
        """
        return distance(self.parameters, self.theta.start, theta_0)

    def _set_exponents(self, inner_lr: float) -> None:
        # theta is the same in every TLP group, so the scales are too.
        ends = torch.stack(torch.aminmax(self.theta.start)).abs().amax()
        if not self.parameters.replicated:
            ends = self.mesh.max_within(ends)
        largest = ends.item()
        k, inner = self.config.inner_steps, self.parameters.config
        self.theta.exponent = exponent_for(parameter_bound(inner, inner_lr, k, largest))
        for moment, bound in zip(self.moments, moment_bounds(inner, k), strict=False):
            moment.exponent = exponent_for(bound)


def even_parts(size: int, number: int) -> list[slice]:
    """0 to size in so many parts, whose lengths differ by ALIGNMENT at most but for the last."""
    blocks = -(-size // ALIGNMENT)
    bounds = [min(size, ALIGNMENT * (blocks * i // number)) for i in range(number + 1)]
    return [slice(begin, end) for begin, end in zip(bounds, bounds[1:], strict=False)]


def intersection(a: slice, b: slice) -> slice:
    """What two spans have in common; where that is nothing, an empty span within `a`."""
    start = min(max(a.start, b.start), a.stop)
    return slice(start, max(start, min(a.stop, b.stop)))

"""What more ranks would give, from what episodes cost on one: pure functions of measured seconds.

A meta step takes as long as its most loaded rank, then what it adds to its slots whatever their
number, then the all-reduce. Knows neither files nor processes, and no rank that waits for data.
W: ranks, one per TLP group; m: slots; arms: numbers of TLPs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metatlp.engine.plan import spread
from scaling.counted import sent

WORLDS = (1, 2, 4, 8, 16, 32, 64)
SLOTS = (8, 16, 32, 64, 128, 256)  # the paper's m, and more
SLOTS_PER_RANK = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
AIM = 0.9
TOKENS, SECONDS, IN_TURN = "balanced", "balanced by seconds", "round robin"
WAYS = (TOKENS, SECONDS, IN_TURN)

Draw = Callable[[int], Sequence[Sequence[int]]]  # m -> the arms of each of many meta steps


@dataclass(frozen=True)
class Costs:
    """What was measured on one process, and the wire.

    Attributes:
        seconds, tokens: of an episode of each arm; the tokens are what slots are spread by.
        rest: seconds that a meta step adds to its slots.
        payload: bytes that each rank puts into the all-reduces of a meta step.
        bandwidth: bytes per second that a rank sends.
    """

    seconds: Sequence[float]
    tokens: Sequence[float]
    rest: float
    payload: int
    bandwidth: float

    def all_reduce(self, world: int) -> float:
        """Seconds of a ring: 2 (W-1)/W of the payload."""
        return sent("allreduce_", self.payload, world) / self.bandwidth


class Enough(NamedTuple):
    """The fewest slots that were tried and reach the aim."""

    slots: int
    efficiency: float


def round_robin(num_slots: int, world: int) -> list[list[int]]:
    """For each rank the positions of its slots: every W-th."""
    return [list(range(rank, num_slots, world)) for rank in range(world)]


def spread_by(way: str, queue: Sequence[int], costs: Costs, world: int) -> list[list[int]]:
    """For each rank the positions of its slots in the queue.

    `balanced` is the project's way: the costliest by expected tokens first, each to the least
    loaded rank. By seconds it would know what an episode takes.
    """
    if way == IN_TURN:
        return round_robin(len(queue), world)
    of_arms = costs.tokens if way == TOKENS else costs.seconds
    return spread([of_arms[arm] for arm in queue], world)


def longest(parts: Sequence[Sequence[int]], seconds: Sequence[float]) -> float:
    """Seconds of the most loaded rank."""
    return max(sum(seconds[i] for i in part) for part in parts)


def efficiency(way: str, queues: Sequence[Sequence[int]], costs: Costs, world: int) -> float:
    """Speed-up over W: seconds of all these meta steps on one rank, over W times those on W."""
    alone = together = 0.0
    for queue in queues:
        seconds = [costs.seconds[arm] for arm in queue]
        parts = spread_by(way, queue, costs, world)
        alone += sum(seconds) + costs.rest
        together += longest(parts, seconds) + costs.rest + costs.all_reduce(world)
    return alone / (world * together)


def enough_slots(way: str, draw: Draw, costs: Costs, world: int) -> Enough | None:
    """The fewest slots, a multiple of W, that reach the aim; None if none does."""
    for each in SLOTS_PER_RANK:
        slots = each * world
        reached = efficiency(way, draw(slots), costs, world)
        if reached >= AIM:
            return Enough(slots, reached)
    return None


def simulate(draw: Draw, costs: Costs) -> list[dict]:
    """One entry per W: way -> m -> efficiency, and way -> the fewest slots that reach the aim."""
    return [
        {
            "world": world,
            "all_reduce": costs.all_reduce(world),
            "efficiency": {
                way: {m: efficiency(way, draw(m), costs, world) for m in SLOTS} for way in WAYS
            },
            "enough": {way: enough_slots(way, draw, costs, world) for way in WAYS},
        }
        for world in WORLDS
    ]

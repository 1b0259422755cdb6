"""What a meta step will do: which TLPs, which episodes, on which rank, at which learning rate.

Every rank computes the same plan from the same state; nothing is communicated.
m: slots of a queue; n: TLPs of the grid.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metatlp.grid import TLP


@dataclass(frozen=True)
class Slot:
    """A place in the queue of a meta step: episode `episode` of `tlp`."""

    index: int
    tlp: TLP
    episode: int


def build_queue(drawn: Sequence[TLP], cursors: Counter[TLP]) -> list[Slot]:
    """The m slots of a meta step (Algorithm 1, line 4). Advances the cursors of the drawn TLPs.

    Args:
        drawn: the TLPs drawn, in order.
        cursors: episodes of each TLP used so far; a TLP drawn twice gets two successive episodes.
    """
    queue = []
    for index, tlp in enumerate(drawn):
        queue.append(Slot(index, tlp, cursors[tlp]))
        cursors[tlp] += 1
    return queue


def assign(queue: Sequence[Slot], cost: Mapping[TLP, float], world: int) -> list[list[Slot]]:
    """Spread slots over ranks: the costliest first, each to the least loaded rank.

    Args:
        queue: the slots.
        cost: expected tokens of an episode of each TLP.
        world: number of ranks; with more ranks than slots some stay idle.

    Returns:
        For each rank its slots, in queue order.
    """
    parts = spread([cost[slot.tlp] for slot in queue], world)
    return [[queue[i] for i in part] for part in parts]


def spread(costs: Sequence[float], world: int) -> list[list[int]]:
    """Spread work over ranks: the costliest first, each to the least loaded rank.

    Returns:
        For each rank the positions of its pieces in `costs`, in order.
    """
    loads = [(0.0, rank) for rank in range(world)]
    parts: list[list[int]] = [[] for _ in range(world)]
    for position in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, rank = heapq.heappop(loads)
        parts[rank].append(position)
        heapq.heappush(loads, (load + costs[position], rank))
    return [sorted(part) for part in parts]


def num_meta_steps(
    epochs: float, batches_per_epoch: Sequence[int], num_slots: int, inner_steps: int
) -> int:
    """`epochs * sum_i ceil(N_i / b_i) / (m * k)`, rounded down, at least 1."""
    return max(1, int(epochs * sum(batches_per_epoch)) // (num_slots * inner_steps))


def linear_decay(lr: float, step: int, num_steps: int) -> float:
    """Inner learning rate of meta step `step` (from 0): linear to 0, no warm-up."""
    return lr * (1.0 - step / num_steps)

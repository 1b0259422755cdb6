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
    loads = [(0.0, rank) for rank in range(world)]
    slots: list[list[Slot]] = [[] for _ in range(world)]
    for slot in sorted(queue, key=lambda slot: (-cost[slot.tlp], slot.index)):
        load, rank = heapq.heappop(loads)
        slots[rank].append(slot)
        heapq.heappush(loads, (load + cost[slot.tlp], rank))
    return [sorted(part, key=lambda slot: slot.index) for part in slots]


def num_meta_steps(
    epochs: float, batches_per_epoch: Sequence[int], num_slots: int, inner_steps: int
) -> int:
    """`epochs * sum_i ceil(N_i / b_i) / (m * k)`, rounded down, at least 1."""
    return max(1, int(epochs * sum(batches_per_epoch)) // (num_slots * inner_steps))


def linear_decay(lr: float, step: int, num_steps: int) -> float:
    """Inner learning rate of meta step `step` (from 0): linear to 0, no warm-up."""
    return lr * (1.0 - step / num_steps)

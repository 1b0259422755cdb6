"""The meta step: lines 5 to 8 of Algorithm 1, whole.

Knows no model and no rank: the inner loop is passed in, and a strategy says where the vectors lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from metatlp.engine.plan import Slot

Report = TypeVar("Report")


class Strategy(Protocol):
    """Where the parameters lie and how ranks share a meta step; the only part that knows ranks."""

    def begin(self, queue: Sequence[Slot], inner_lr: float) -> list[Slot]:
        """Fix the weights of the average; return this rank's slots."""
        ...

    def enter(self, slot: Slot) -> None:
        """Give the slot the inner optimizer state it starts from. The parameters are at theta."""
        ...

    def leave(self, slot: Slot) -> None:
        """Add the slot's weighted difference to the total and go back to theta."""
        ...

    def reduce(self) -> None:
        """Sum the totals over the ranks. Every rank takes part, with or without slots."""
        ...

    def apply(self, beta: float) -> None:
        """Move theta by beta times the total."""
        ...


def meta_step(
    strategy: Strategy,
    queue: Sequence[Slot],
    inner_loop: Callable[[Slot], Report],
    inner_lr: float,
    beta: float,
) -> list[Report]:
    """theta <- theta + beta * sum_i w_i (theta_i^(k) - theta), with w_i = 1/m (paper, equation 2).

    Args:
        strategy: holds theta and the inner optimizer state.
        queue: the m slots drawn for this step.
        inner_loop: k gradient steps in place on the parameters that the strategy holds.
        inner_lr: learning rate that the inner loop uses (a bound on how far it can go).
        beta: meta learning rate.

    Returns:
        The reports of this rank's slots.
    """
    reports = []
    for slot in strategy.begin(queue, inner_lr):
        strategy.enter(slot)
        reports.append(inner_loop(slot))
        strategy.leave(slot)
    strategy.reduce()
    strategy.apply(beta)
    return reports

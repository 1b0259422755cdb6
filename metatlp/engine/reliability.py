"""How far rewards can be trusted: two disjoint halves of the batches, and how well they agree.

Knows numbers by TLP only. n: TLPs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metatlp.grid import TLP

Halves = Mapping[TLP, tuple[float, float]]


def split_half(halves: Halves) -> float | None:
    """Split-half reliability: the correlation r over TLPs of the rewards from the two halves,
    stepped up to the whole by Spearman and Brown's 2r / (1 + r).

    For negative r it is 2r / (1 + |r|), which stays above -1.

    Args:
        halves: TLP -> its reward from either half; those without a usable gradient are left out.

    Returns:
        None for fewer than three TLPs, or halves that are constant.
    """
    return _stepped_up(np.array(list(halves.values())).reshape(-1, 2), len(halves) - 1)


def split_half_within_tasks(halves: Halves) -> float | None:
    """The same of what is left when each task's mean is taken away: whether the rewards tell the
    languages of a task apart. None for fewer than two degrees of freedom.
    """
    tasks = list(dict.fromkeys(tlp.task for tlp in halves))  # in order: sums depend on it
    centred = [np.zeros((0, 2))]
    for task in tasks:
        own = np.array([pair for tlp, pair in halves.items() if tlp.task == task])
        centred.append(own - own.mean(axis=0))
    return _stepped_up(np.concatenate(centred), len(halves) - len(tasks))


def _stepped_up(pairs: np.ndarray, freedom: int) -> float | None:
    """pairs: (n, 2). freedom: what is left of n by the means that were taken away."""
    if freedom < 2:
        return None
    first, second = (pairs - pairs.mean(axis=0)).T
    scale = np.sqrt((first @ first) * (second @ second))
    if not scale > 0:
        return None
    r = float(first @ second / scale)
    return 2 * r / (1 + abs(r))

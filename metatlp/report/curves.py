"""What a learning sampler did over a run, out of metrics.jsonl, and numbers about it.

Knows the records of train_meta.py; draws nothing.
n TLPs, u updates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report.json_file import number_at, read_lines

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Curves:
    """A run's sampler.

    Attributes:
        steps: (u + 1,) meta steps after which there are probabilities, from 0.
        p: TLP -> (u + 1,). psi: likewise; empty where the sampler has none.
        rewards: TLP -> (u,), of the updates.
    """

    steps: Sequence[int]
    p: Mapping[TLP, Sequence[float]]
    psi: Mapping[TLP, Sequence[float]]
    rewards: Mapping[TLP, Sequence[float]]

    def share(self, task: str, at: int) -> float:
        """Probability of a task's TLPs together, at a place of `steps`."""
        return math.fsum(values[at] for tlp, values in self.p.items() if tlp.task == task)

    def has(self, *tasks: str) -> bool:
        """Whether it has TLPs of these tasks, and of others."""
        present = {tlp.task for tlp in self.p}
        return present >= set(tasks) and present != set(tasks)


Runs = Mapping[tuple[str, TLP], Mapping[int, Curves]]  # row and target TLP -> seed -> curves


def read_curves(path: Path) -> Curves:
    """Of a run with --sampler multidds.

    Raises:
        InputError: missing, damaged, or of a sampler that did not learn.
    """
    shown = [r for r in read_lines(path, "the curves of a sampler") if "p" in r]
    updates = [record for record in shown if "rewards" in record]
    if len(shown) != len(updates) + 1 or not updates:
        raise InputError(f"{path}: no updates of a sampler that learns, after one start")
    if not isinstance(shown[0]["p"], dict):
        raise InputError(f"{path}: damaged (no probabilities)")
    names = {name: TLP.parse(name) for name in shown[0]["p"]}

    def series(records: Sequence[Record], key: str) -> dict[TLP, list[float]]:
        return {
            tlp: [number_at(record, key, name, path=path) for record in records]
            for name, tlp in names.items()
        }

    psi = series(shown, "psi") if shown[-1].get("psi") else {}
    steps = [int(number_at(record, "step", path=path)) for record in shown]
    return Curves(steps, series(shown, "p"), psi, series(updates, "rewards"))


def nli_share_lost(curves: Curves) -> float | None:
    """How much less likely NLI is at the end than at the start."""
    return curves.share("nli", 0) - curves.share("nli", -1) if curves.has("nli") else None


def entropy_gained(curves: Curves) -> float | None:
    """Entropy of the probabilities at the end less at the start, in units of that of tau = inf."""
    if len(curves.p) < 2:
        return None
    first, last = (_entropy([values[at] for values in curves.p.values()]) for at in (0, -1))
    return (last - first) / math.log(len(curves.p))


def rewards_of_qa_and_nli(curves: Curves) -> float | None:
    """Mean reward of QA and NLI over the run, less that of the other tasks' TLPs."""
    if not curves.has("qa", "nli"):
        return None
    means = {tlp: statistics.fmean(values) for tlp, values in curves.rewards.items()}
    deep = [mean for tlp, mean in means.items() if tlp.task in ("qa", "nli")]
    rest = [mean for tlp, mean in means.items() if tlp.task not in ("qa", "nli")]
    return statistics.fmean(deep) - statistics.fmean(rest)


def spread_gained(curves: Curves) -> float | None:
    """Standard deviation of the last update's rewards over the TLPs, less that of the first's."""
    if len(curves.rewards) < 2:
        return None
    first, last = (
        statistics.pstdev(values[at] for values in curves.rewards.values()) for at in (0, -1)
    )
    return last - first


def qa_less_nli(curves: Curves) -> float | None:
    """Probability of QA less that of NLI, at the end."""
    if not curves.has("qa", "nli"):
        return None
    return curves.share("qa", -1) - curves.share("nli", -1)


def _entropy(p: Sequence[float]) -> float:
    return -math.fsum(each * math.log(each) for each in p if each > 0)


# Name of a quantity -> what it means, and the function.
QUANTITIES: dict[str, tuple[str, Callable[[Curves], float | None]]] = {
    "nli_share_lost": ("NLI's share of the draws, start less end", nli_share_lost),
    "entropy_gained": ("entropy of p, end less start, in units of log n", entropy_gained),
    "rewards_of_qa_and_nli": (
        "mean reward of QA and NLI less that of the other tasks",
        rewards_of_qa_and_nli,
    ),
    "spread_gained": ("sd of the rewards over TLPs, last update less first", spread_gained),
    "qa_less_nli": ("share of QA less share of NLI at the end", qa_less_nli),
}

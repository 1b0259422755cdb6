"""Rewards for a sampler that learns: R_i = cos(g_dev, g_i) at theta (Algorithm 1, lines 10-12).

All rewards of an update take K (n + d) backward passes, spread over the ranks: g_dev is the same
for every training TLP, so it is made once, and mean_j cos(g_i, g_j) = g_i . u / |g_i| with
u = mean_j g_j / |g_j|. Knows gradients and ranks; knows nothing of psi.
P: elements of the arena; n: training TLPs; d: dev TLPs; K: batches per gradient; h: halves of the K
batches that are kept apart, 2, or 1 if they are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from metatlp.data.streams import BatchStream
from metatlp.engine.adam_delta import AdamDelta
from metatlp.engine.gradients import Gradients, compared_spans
from metatlp.engine.inner import InnerLoop
from metatlp.engine.placement import Placement
from metatlp.engine.plan import Slot, assign
from metatlp.engine.reward_args import RewardConfig
from metatlp.grid import TLP
from metatlp.kernels import accumulate_delta_, gram
from metatlp.tasks.task import Padding

# Norms of gradients that count; others are taken for zero, or for not finite. Sums of these fit in
# the fixed point, and their inverses in float32.
SMALLEST_NORM, LARGEST_NORM = 2.0**-60, 2.0**20
_EXPONENT = 42
_PIECE = 2**24  # elements added at once


@dataclass(frozen=True)
class RewardReport:
    """One update's rewards.

    Attributes:
        rewards: (n,) float64, finite.
        reliability: `split_half` of the rewards; None where there are no halves.
        norms: training TLP -> 2-norm of its gradient (of its step, for adam-delta).
        dev_norms: dev TLP -> the same; empty for adam-delta.
        unusable: TLPs whose gradient was zero or not finite, with how often: their cosines are 0.
        passes: backward passes of all ranks.
        tokens: real tokens in them.
    """

    rewards: np.ndarray
    reliability: float | None
    norms: dict[str, float]
    dev_norms: dict[str, float]
    unusable: dict[str, int]
    passes: int
    tokens: int


class _Found(NamedTuple):
    """What a rank found of a training TLP. halves: rewards from either half of the batches."""

    reward: float
    norm: float
    halves: tuple[float, float] | None = None


class Rewards:
    """Measures rewards at theta, where it leaves the parameters."""

    def __init__(
        self,
        inner_loop: InnerLoop,
        theta: Tensor,
        train: Mapping[TLP, BatchStream],
        dev: Mapping[TLP, BatchStream],
        padding: Padding,
        config: RewardConfig,
        exact: bool,
        placement: Placement,
    ):
        """
        Args:
            inner_loop: for its model, its arena, its precision and its seed.
            theta: (P,) where the arena stands between meta steps.
            train, dev: streams of their own, whose episode u serves update u.
            exact: sum the dev gradients in fixed point: the same bits on any number of ranks.
        """
        self.config, self.exact, self.placement = config, exact, placement
        self.arena, self.inner_loop, self.theta = inner_loop.arena, inner_loop, theta
        self.spans = compared_spans(self.arena, config.parameters)
        self.train, self.dev = (
            Gradients(
                name,
                inner_loop.model,
                self.arena,
                streams,
                padding,
                config.batches,
                config.dropout,
                inner_loop.seed,
                inner_loop.autocast,
            )
            for name, streams in (("reward train", train), ("reward dev", dev))
        )
        halves = config.batches // 2
        self.parts = [slice(0, halves), slice(halves, None)] if config.halves else [slice(None)]
        self._unusable: list[str] = []

    def close(self) -> None:
        """Stop the threads that build batches."""
        self.train.close()
        self.dev.close()

    def __enter__(self) -> Rewards:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def measure(self, update: int, lr: float) -> RewardReport:
        """The rewards of all training TLPs, the same on every rank. Every rank takes part.

        Args:
            update: number of the update; with the seed it fixes batches and dropout masks.
            lr: inner learning rate, with which adam-delta steps.
        """
        before = self.train.passes + self.dev.passes, self.train.tokens + self.dev.tokens
        self._unusable = []
        own = self._own(self.train.costs)
        self.train.schedule(own, update)
        norms: dict[str, float] = {}
        if self.config.reward == "adam-delta":
            found = self._adam_deltas(own, update, lr)
        else:
            rows = torch.empty(2 * len(self.parts), len(self.arena), device=self.theta.device)
            norms = self._dev_direction(rows, update)
            found = {str(tlp): self._reward(rows, tlp, update) for tlp in own}
        passes = self.train.passes + self.dev.passes - before[0]
        tokens = self.train.tokens + self.dev.tokens - before[1]
        gathered = self.placement.gather([(found, norms, self._unusable, passes, tokens)])
        everything = {name: one for part in gathered for name, one in part[0].items()}
        in_order = [everything[str(tlp)] for tlp in self.train.costs]
        dev_norms = {name: norm for part in gathered for name, norm in part[1].items()}
        unusable = [name for part in gathered for name in part[2]]
        return RewardReport(
            rewards=np.array([one.reward for one in in_order]),
            reliability=split_half([one.halves for one in in_order if one.halves is not None]),
            norms={str(tlp): everything[str(tlp)].norm for tlp in self.train.costs},
            dev_norms={str(t): dev_norms[str(t)] for t in self.dev.costs if str(t) in dev_norms},
            unusable={name: unusable.count(name) for name in sorted(set(unusable))},
            passes=sum(part[3] for part in gathered),
            tokens=sum(part[4] for part in gathered),
        )

    def _own(self, costs: Mapping[TLP, float]) -> list[TLP]:
        queue = [Slot(i, tlp, 0) for i, tlp in enumerate(costs)]
        slots = assign(queue, costs, self.placement.world)[self.placement.rank]
        return [slot.tlp for slot in slots]

    def _dev_direction(self, rows: Tensor, update: int) -> dict[str, float]:
        """Leave g_dev (cos-of-mean) or u (mean-of-cos), from each half of the batches, in the first
        h of the rows; return the norms of this rank's dev gradients.

        Args:
            rows: (2h, P); the last h are scratch.
        """
        h, d, norms = len(self.parts), len(self.dev.costs), {}
        sums = torch.zeros_like(rows[:h], dtype=torch.int64) if self.exact else rows[:h].zero_()
        own = self._own(self.dev.costs)
        self.dev.schedule(own, update)
        for tlp in own:
            self._halves(rows, self.dev, tlp, update)
            norm = _root(self._products(rows[h:]).sum())
            norms[str(tlp)] = norm / self.config.batches
            if self._usable(norm, f"dev {tlp}"):
                each = norm if self.config.reward == "mean-of-cos" else self.config.batches
                for half in range(h):
                    self._add(sums[half], rows[h + half], 1 / (d * each))
        if self.placement.world > 1:
            dist.all_reduce(sums)
        if self.exact:
            for half in range(h):
                for piece in _pieces([slice(0, len(self.arena))]):
                    rows[half, piece] = sums[half, piece].double().mul_(2.0**-_EXPONENT)
        return norms

    def _reward(self, rows: Tensor, tlp: TLP, update: int) -> _Found:
        """The reward of a training TLP.

        Args:
            rows: (2h, P) of _dev_direction.
        """
        h, batches = len(self.parts), self.config.batches
        self._halves(rows, self.train, tlp, update)
        products = self._products(rows)
        own = _root(products[h:, h:].sum())
        if not self._usable(own, str(tlp)):
            return _Found(0.0, own / batches, (0.0, 0.0) if h > 1 else None)
        dev = _root(products[:h, :h].sum())
        # u is a mean of unit vectors: the mean of the cosines is not divided by its norm.
        scale = own if self.config.reward == "mean-of-cos" else own * dev
        reward = products[:h, h:].sum() / scale if dev else 0.0
        halves = [_cosine(products, half, h + half) for half in range(h)]
        return _Found(reward, own / batches, (halves[0], halves[1]) if h > 1 else None)

    def _halves(self, rows: Tensor, gradients: Gradients, tlp: TLP, update: int) -> None:
        """Leave the sum of the gradients of each half of the batches in the last h rows."""
        h = len(self.parts)
        for half, part in enumerate(self.parts):
            self.arena.grad.zero_()
            gradients.add(tlp, update, part)
            rows[h + half].copy_(self.arena.grad)

    def _products(self, rows: Tensor) -> np.ndarray:
        """Inner products of rows, of the parameters that count; float64."""
        products = [gram(rows[:, span]) for span in self.spans]
        found: np.ndarray = torch.stack(products).sum(0).cpu().numpy()
        return found

    def _usable(self, norm: float, name: str) -> bool:
        usable = SMALLEST_NORM < norm < LARGEST_NORM
        if not usable:
            self._unusable.append(name)
        return usable

    def _add(self, total: Tensor, row: Tensor, weight: float) -> None:
        zeros = torch.zeros(min(len(row), _PIECE), device=row.device)
        for piece in _pieces(self.spans):
            start = zeros[: piece.stop - piece.start]
            exponent = _EXPONENT if self.exact else None
            accumulate_delta_(total[piece], row[piece], start, weight, exponent)

    def _adam_deltas(self, own: list[TLP], update: int, lr: float) -> dict[str, _Found]:
        adam = AdamDelta(self.inner_loop, self.theta, self.spans)
        dev = list(self.dev.costs)
        found = {}
        for tlp in own:
            self.dev.schedule(dev, update)
            terms = adam.cosines(
                partial(self.train.add, tlp, update),
                [partial(self.dev.add, other, update) for other in dev],
                lr,
            )
            # dot, |step on the training TLP|^2, |step on the dev TLP|^2
            values = [term.tolist() for term in terms]
            cosines = [self._delta_cosine(value, str(tlp)) for value in values]
            found[str(tlp)] = _Found(sum(cosines) / len(dev), math.sqrt(values[0][1]))
        return found

    def _delta_cosine(self, terms: list[float], name: str) -> float:
        dot, first, second = terms
        scale = math.sqrt(first) * math.sqrt(second)
        if not (scale > 0 and math.isfinite(scale)):
            self._unusable.append(name)
            return 0.0
        return dot / scale


def split_half(halves: Sequence[tuple[float, float]]) -> float | None:
    """Split-half reliability of rewards: the correlation r of the TLPs' rewards from two disjoint
    halves of the batches, stepped up to the whole by Spearman and Brown's 2r / (1 + r).

    For negative r the formula is 2r / (1 + |r|), which stays above -1.

    Args:
        halves: (n, 2).

    Returns:
        None for fewer than three TLPs, or halves that are constant.
    """
    if len(halves) < 3:
        return None
    first, second = np.array(halves).T
    if not (first.std() > 0 and second.std() > 0):
        return None
    r = float(np.corrcoef(first, second)[0, 1])
    return 2 * r / (1 + abs(r))


def _cosine(products: np.ndarray, i: int, j: int) -> float:
    scale = math.sqrt(products[i, i]) * math.sqrt(products[j, j])
    return float(products[i, j] / scale) if 0 < scale < math.inf else 0.0


def _root(square: float) -> float:
    # A sum of products of parts may come out a little below zero.
    return 0.0 if square < 0 else math.sqrt(square)


def _pieces(spans: Sequence[slice]) -> list[slice]:
    return [
        slice(start, min(start + _PIECE, span.stop))
        for span in spans
        for start in range(span.start, span.stop, _PIECE)
    ]

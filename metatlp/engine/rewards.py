"""Rewards for a sampler that learns: R_i = cos(g_dev, g_i) at theta (Algorithm 1, lines 10-12).

All rewards of an update take K (n + d) backward passes, spread over the ranks: g_dev is the same
for every training TLP, so it is made once, and mean_j cos(g_i, g_j) = g_i . u / |g_i| with
u = mean_j g_j / |g_j|. Knows gradients and ranks; knows nothing of psi.
P_r: elements of this rank's vectors; n: training TLPs; d: dev TLPs; K: batches per gradient; h:
halves of the K batches that are kept apart, 2, or 1 if they are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metatlp.data.streams import BatchStream
from metatlp.engine.adam_delta import AdamDelta
from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.gradients import Gradients, compared_spans, cosines, inner_products
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.placement import Placement
from metatlp.engine.plan import Slot, assign
from metatlp.engine.reliability import split_half, split_half_within_tasks
from metatlp.grid import TLP
from metatlp.kernels import accumulate_delta_
from metatlp.tasks.task import Padding

# Norms of the sum over K batches that count; others are taken for zero, or for not finite. In
# between, squares and inverses fit in float32, and sums of gradients in the fixed point.
SMALLEST_NORM, LARGEST_NORM = 2.0**-40, 2.0**14
_EXPONENT = 48
# The fixed point is off by 2**-49 in every element at most. A norm that is this many times
# sqrt(P) * 2**-48, P being the number of parameters, leaves the direction right to 3e-5.
_MARGIN = 2.0**14
_PIECE = 2**24  # elements added at once


@dataclass(frozen=True)
class RewardReport:
    """One update's rewards.

    Attributes:
        rewards: (n,) float64, finite.
        reliability, reliability_within_tasks: `split_half` and `split_half_within_tasks` of the
            rewards; None where there are no halves.
        norms: training TLP -> 2-norm of its gradient (of its step, for adam-delta).
        dev_norms: dev TLP -> the same; empty for adam-delta.
        unusable: TLPs whose gradient was zero or not finite, with how often: their cosines are 0.
        passes: backward passes of each rank.
        tokens: real tokens in all of them.
    """

    rewards: np.ndarray
    reliability: float | None
    reliability_within_tasks: float | None
    norms: dict[str, float]
    dev_norms: dict[str, float]
    unusable: dict[str, int]
    passes: list[int]
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
        parameters: Parameters,
        theta: Tensor,
        train: Mapping[TLP, BatchStream],
        dev: Mapping[TLP, BatchStream],
        padding: Padding,
        config: RewardConfig,
        exact: bool,
        placement: Placement,
        seed: int,
        num_parts: int = 1,
    ):
        """
        Args:
            parameters: where gradients are made.
            theta: (P_r,) where they stand between meta steps.
            train, dev: streams of their own, whose episode u serves update u.
            exact: sum the dev gradients in fixed point: the same bits on any number of ranks.
            seed: of the dropout masks.
            num_parts: in which every batch is cut.
        """
        self.config, self.exact, self.placement = config, exact, placement
        self.parameters, self.theta = parameters, theta
        # Who makes a gradient: a rank that holds all parameters, or a TLP group together.
        mesh = parameters.mesh
        self._worker, self._workers = mesh.group, mesh.groups
        if parameters.replicated:
            self._worker, self._workers = placement.rank, placement.world
        self.spans = compared_spans(parameters.pieces, len(theta), config.parameters)
        self._num_parameters = parameters.pieces.num_parameters
        self.train, self.dev = (
            Gradients(
                name,
                parameters,
                streams,
                padding,
                config.batches,
                config.dropout,
                seed,
                num_parts,
            )
            for name, streams in (("reward train", train), ("reward dev", dev))
        )
        half = config.batches // 2
        self.parts = [slice(0, half), slice(half, None)] if config.halves else [slice(None)]
        self._unusable: list[str] = []

    def close(self) -> None:
        """Stop the threads that build batches."""
        self.train.close()
        self.dev.close()

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
            rows = torch.empty(2 * len(self.parts), len(self.theta), device=self.theta.device)
            norms = self._dev_direction(rows, update)
            found = {str(tlp): self._reward(rows, tlp, update) for tlp in own}
        passes = self.train.passes + self.dev.passes - before[0]
        if not (self.parameters.replicated or self.parameters.mesh.leads):
            # Counted and told by the first rank of the TLP group.
            passes, self._unusable = 0, []
        tokens = self.train.tokens + self.dev.tokens - before[1]
        gathered = self.placement.gather([(found, norms, self._unusable, passes, tokens)])
        everything = {name: one for part in gathered for name, one in part[0].items()}
        of_tlp = {tlp: everything[str(tlp)] for tlp in self.train.costs}
        halves = {tlp: one.halves for tlp, one in of_tlp.items() if one.halves is not None}
        dev_norms = {name: norm for part in gathered for name, norm in part[1].items()}
        unusable = [name for part in gathered for name in part[2]]
        return RewardReport(
            rewards=np.array([one.reward for one in of_tlp.values()]),
            reliability=split_half(halves),
            reliability_within_tasks=split_half_within_tasks(halves),
            norms={str(tlp): one.norm for tlp, one in of_tlp.items()},
            dev_norms={str(t): dev_norms[str(t)] for t in self.dev.costs if str(t) in dev_norms},
            unusable={name: unusable.count(name) for name in sorted(set(unusable))},
            passes=[part[3] for part in gathered],
            tokens=sum(part[4] for part in gathered),
        )

    def _own(self, costs: Mapping[TLP, float]) -> list[TLP]:
        queue = [Slot(i, tlp, 0) for i, tlp in enumerate(costs)]
        slots = assign(queue, costs, self._workers)[self._worker]
        return [slot.tlp for slot in slots]

    def _dev_direction(self, rows: Tensor, update: int) -> dict[str, float]:
        """Leave g_dev (cos-of-mean) or u (mean-of-cos), from each half of the batches, in the first
        h of the rows; return the norms of this rank's dev gradients.

        Args:
            rows: (2h, P_r); the last h are scratch.
        """
        h, d, norms = len(self.parts), len(self.dev.costs), {}
        sums = torch.zeros_like(rows[:h], dtype=torch.int64) if self.exact else rows[:h].zero_()
        own = self._own(self.dev.costs)
        self.dev.schedule(own, update)
        for tlp in own:
            self.dev.fill(rows[h:], tlp, update, self.parts)
            products = inner_products(rows[h:], self.spans, self.parameters)
            norm = _root(products.sum())
            norms[str(tlp)] = norm / self.config.batches
            if not self._usable(products, self._smallest_dev(), f"dev {tlp}"):
                continue
            if self.config.reward == "mean-of-cos":
                rows[h:].mul_(1 / norm)
            share = d if self.config.reward == "mean-of-cos" else d * self.config.batches
            for half in range(h):
                self._add(sums[half], rows[h + half], 1 / share)
        self._sum(sums)
        if self.exact:
            for half in range(h):
                for piece in _pieces([slice(0, len(self.theta))]):
                    rows[half, piece] = sums[half, piece].double().mul_(2.0**-_EXPONENT)
        return norms

    def _reward(self, rows: Tensor, tlp: TLP, update: int) -> _Found:
        """The reward of a training TLP.

        Args:
            rows: (2h, P_r) of _dev_direction.
        """
        h, batches = len(self.parts), self.config.batches
        self.train.fill(rows[h:], tlp, update, self.parts)
        products = inner_products(rows, self.spans, self.parameters)
        own, dev = _root(products[h:, h:].sum()), _root(products[:h, :h].sum())
        if not self._usable(products[h:, h:], SMALLEST_NORM, str(tlp)) or not dev:
            return _Found(0.0, own / batches)
        # u is a mean of unit vectors: the mean of the cosines is not divided by its norm.
        scale = own if self.config.reward == "mean-of-cos" else own * dev
        reward = products[:h, h:].sum() / scale
        of_halves = np.nan_to_num(np.diag(cosines(products)[:h, h:]))
        return _Found(reward, own / batches, tuple(of_halves) if h > 1 else None)

    def _usable(self, products: np.ndarray, smallest: float, name: str) -> bool:
        """Whether a gradient counts, by the (h, h) inner products of its parts."""
        norm, parts = _root(products.sum()), np.sqrt(np.diag(products))
        # Parts that all but cancel are too large for the fixed point once the norm is 1.
        limit = LARGEST_NORM * min(1.0, norm)
        usable = smallest < norm and bool(np.all(parts < limit))
        if not usable:
            self._unusable.append(name)
        return usable

    def _smallest_dev(self) -> float:
        """Under mean-of-cos gradients have norm 1 before they are rounded to the fixed point."""
        if not self.exact or self.config.reward == "mean-of-cos":
            return SMALLEST_NORM
        share = len(self.dev.costs) * self.config.batches
        return _MARGIN * math.sqrt(self._num_parameters) * 2.0**-_EXPONENT * share

    def _sum(self, sums: Tensor) -> None:
        """Over all who made gradients. Every rank takes part."""
        mesh = self.parameters.mesh
        mesh.sum_across(sums)
        if self.parameters.replicated:
            mesh.sum_within(sums)

    def _add(self, total: Tensor, row: Tensor, weight: float) -> None:
        zeros = torch.zeros(min(len(row), _PIECE), device=row.device)
        for piece in _pieces(self.spans):
            start = zeros[: piece.stop - piece.start]
            exponent = _EXPONENT if self.exact else None
            accumulate_delta_(total[piece], row[piece], start, weight, exponent)

    def _adam_deltas(self, own: list[TLP], update: int, lr: float) -> dict[str, _Found]:
        adam = AdamDelta(self.parameters, self.theta, self.spans)
        dev = list(self.dev.costs)
        found = {}
        self.dev.schedule(dev, update)
        for tlp in own:
            terms = adam.cosines(
                partial(self.train.add, tlp, update),
                [partial(self.dev.add, other, update) for other in dev],
                lr,
            )
            sums = 0.0
            for other, term in zip(dev, terms, strict=True):
                # The norms are those of the steps on the training TLP and on the dev TLP.
                dot, first, second = term.tolist()
                if 0 < first * second < math.inf:
                    sums += dot / math.sqrt(first * second)
                else:
                    trained = 0 < first < math.inf
                    self._unusable.append(f"dev {other}" if trained else str(tlp))
            found[str(tlp)] = _Found(sums / len(dev), math.sqrt(first))
        return found


def _root(square: float) -> float:
    # A sum of products of parts may come out a little below zero.
    return 0.0 if square < 0 else math.sqrt(square)


def _pieces(spans: Sequence[slice]) -> list[slice]:
    return [
        slice(start, min(start + _PIECE, span.stop))
        for span in spans
        for start in range(span.start, span.stop, _PIECE)
    ]

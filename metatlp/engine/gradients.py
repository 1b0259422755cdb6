"""Gradients of TLPs at the parameters as they are: for rewards and affinities, which take no step.

Knows a model, its arena and streams of batches; knows no rank and nothing of psi.
P: elements of the arena; K: batches per gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from metatlp.data.prefetch import EpisodeLoader
from metatlp.data.streams import BatchStream
from metatlp.engine.inner import backward
from metatlp.grid import TLP
from metatlp.kernels import gram
from metatlp.model.arena import ALIGNMENT, Arena
from metatlp.model.multitask import MultiTaskModel
from metatlp.seeds import derive_seed
from metatlp.tasks.task import Padding


class Gradients:
    """Sums over K batches of the gradient of the mean loss.

    Attributes:
        passes, tokens: backward passes so far, and the real tokens in them.
    """

    def __init__(
        self,
        name: str,
        model: MultiTaskModel,
        arena: Arena,
        streams: Mapping[TLP, BatchStream],
        padding: Padding,
        num_batches: int,
        dropout: bool,
        seed: int,
        autocast: Callable[[], AbstractContextManager],
    ):
        """
        Args:
            name: takes part in the dropout masks, so that two sets of streams differ.
            arena: of the model.
            streams: episode u of a stream has the K batches of draw u.
            num_batches: K.
            dropout: whether dropout is on.
            seed: of the dropout masks.
            autocast: precision of the forward pass.
        """
        self.name, self.model, self.arena = name, model, arena
        self.num_batches, self.dropout = num_batches, dropout
        self.seed, self.autocast = seed, autocast
        self.costs = {tlp: stream.expected_tokens for tlp, stream in streams.items()}
        self._device = arena.live.device
        pin = self._device.type == "cuda"
        self._loader = EpisodeLoader(streams, padding, num_batches, len(streams) + 1, pin)
        self._draw = -1
        self._batches: dict[TLP, list[dict[str, Tensor]]] = {}
        self.passes = self.tokens = 0

    def schedule(self, tlps: list[TLP], draw: int) -> None:
        """Have the batches of a draw built meanwhile."""
        for tlp in tlps:
            self._loader.schedule(tlp, draw)

    def add(self, tlp: TLP, draw: int, part: slice = slice(None)) -> None:
        """Add the gradients of these of the K batches to those in the arena, for all parameters.

        With dropout, its masks depend on the seed, the TLP, the draw and the batch alone.
        """
        batches = self._taken(tlp, draw)
        self._set_mode()
        for k in range(self.num_batches)[part]:
            batch = batches[k]
            there = {n: t.to(self._device, non_blocking=True) for n, t in batch.items()}
            torch.manual_seed(derive_seed(self.seed, self.name, draw, str(tlp), k))
            backward(self.model, tlp.task, there, self.autocast)
            self.passes += 1
            self.tokens += int(batch["attention_mask"].sum())

    def fill(self, rows: Tensor, tlp: TLP, draw: int, parts: Sequence[slice]) -> None:
        """Leave the sum of the gradients of each part of the K batches in a row of `rows`."""
        for row, part in zip(rows, parts, strict=True):
            self.arena.grad.zero_()
            self.add(tlp, draw, part)
            row.copy_(self.arena.grad)

    def _taken(self, tlp: TLP, draw: int) -> list[dict[str, Tensor]]:
        """The K batches, which are kept until the next draw."""
        if self._draw != draw:
            self._draw = draw
            self._batches.clear()
        if tlp not in self._batches:
            self._batches[tlp] = self._loader.take(tlp, draw)
        return self._batches[tlp]

    def _set_mode(self) -> None:
        self.model.train(self.dropout)
        # Layers whose activations are recomputed do so in training mode alone; of dropout they
        # have none but their children's.
        for module in self.model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True

    def close(self) -> None:
        """Stop the thread that builds batches."""
        self._loader.close()


def compared_spans(arena: Arena, parameters: str) -> list[slice]:
    """The parts of the arena whose gradients count.

    Args:
        parameters: `all` (one span), or `encoder`: what the heads are not.
    """
    if parameters == "all":
        return [slice(0, len(arena))]
    spans: list[slice] = []
    for name, place in arena.places.items():
        if not name.startswith("encoder."):
            continue
        # What lies between is padding, whose gradient is zero.
        if spans and place.start - spans[-1].stop < ALIGNMENT:
            spans[-1] = slice(spans[-1].start, place.stop)
        else:
            spans.append(slice(place.start, place.stop))
    return spans


def inner_products(rows: Tensor, spans: Sequence[slice]) -> np.ndarray:
    """(n, n) float64 inner products of n rows (n, P), of what the spans hold."""
    found: np.ndarray = torch.stack([gram(rows[:, span]) for span in spans]).sum(0).cpu().numpy()
    return found


def cosines(products: np.ndarray) -> np.ndarray:
    """(n, n) from inner products; NaN where a vector is zero or not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = np.sqrt(np.diag(products))
        found: np.ndarray = products / norms[:, None] / norms[None, :]
    return found

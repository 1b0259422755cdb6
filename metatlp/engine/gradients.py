"""Gradients of TLPs at the parameters as they are: for rewards and affinities, which take no step.

Knows a placement of the parameters and streams of batches; knows nothing of psi.
P_r: elements of this rank's vectors; K: batches per gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metatlp.data.parts import Part, moved
from metatlp.data.prefetch import EpisodeLoader
from metatlp.data.streams import BatchStream
from metatlp.engine.inner import part_seed
from metatlp.engine.parameters.pieces import Pieces
from metatlp.engine.parameters.protocol import Parameters
from metatlp.grid import TLP
from metatlp.kernels import gram
from metatlp.tasks.task import Padding


class Gradients:
    """Sums over K batches of the gradient of the mean loss.

    Attributes:
        passes, tokens: batches that this rank had a part in so far, and the real tokens in its
            parts of them.
    """

    def __init__(
        self,
        name: str,
        parameters: Parameters,
        streams: Mapping[TLP, BatchStream],
        padding: Padding,
        num_batches: int,
        dropout: bool,
        seed: int,
        num_parts: int = 1,
    ):
        """
        Args:
            name: takes part in the dropout masks, so that two sets of streams differ.
            streams: episode u of a stream has the K batches of draw u.
            num_batches: K.
            dropout: whether dropout is on.
            seed: of the dropout masks.
            num_parts: in which every batch is cut.
        """
        self.name, self.parameters, self.num_batches = name, parameters, num_batches
        self.dropout, self.seed, self.num_parts = dropout, seed, num_parts
        self.costs = {tlp: stream.expected_tokens for tlp, stream in streams.items()}
        mesh, pin = parameters.mesh, parameters.device.type == "cuda"
        own = range(num_parts)
        if not parameters.replicated:
            own = own[mesh.member :: mesh.ranks_per_tlp]
        self._loader = EpisodeLoader(
            streams, padding, num_batches, len(streams) + 1, pin, num_parts, own
        )
        self._draw = -1
        self._batches: dict[TLP, list[list[Part]]] = {}
        self.passes = self.tokens = 0

    def schedule(self, tlps: list[TLP], draw: int) -> None:
        """Have the batches of a draw built meanwhile."""
        for tlp in tlps:
            self._loader.schedule(tlp, draw)

    def add(self, tlp: TLP, draw: int, row: Tensor, part: slice = slice(None)) -> None:
        """Add the gradients of these of the K batches to (P_r,) row, for all parameters.

        With dropout, its masks depend on the seed, the TLP, the draw and the batch alone.
        """
        batches = self._taken(tlp, draw)
        self._set_mode()
        for k in range(self.num_batches)[part]:
            seed = partial(part_seed, self.num_parts, self.seed, self.name, draw, str(tlp), k)
            parts = moved(batches[k], self.parameters.device)
            self.parameters.add_gradient(row, tlp.task, parts, seed)
            self.passes += 1
            self.tokens += sum(part.tokens for part in batches[k])

    def fill(self, rows: Tensor, tlp: TLP, draw: int, parts: Sequence[slice]) -> None:
        """Leave the sum of the gradients of each part of the K batches in a row of `rows`."""
        for row, part in zip(rows, parts, strict=True):
            self.add(tlp, draw, row.zero_(), part)

    def _taken(self, tlp: TLP, draw: int) -> list[list[Part]]:
        """The K batches, which are kept until the next draw."""
        if self._draw != draw:
            self._draw = draw
            self._batches.clear()
        if tlp not in self._batches:
            self._batches[tlp] = self._loader.take(tlp, draw)
        return self._batches[tlp]

    def _set_mode(self) -> None:
        model = self.parameters.model
        model.train(self.dropout)
        # Layers whose activations are recomputed do so in training mode alone; of dropout they
        # have none but their children's.
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True

    def close(self) -> None:
        """Stop the thread that builds batches."""
        self._loader.close()


def compared_spans(pieces: Pieces, length: int, parameters: str) -> list[slice]:
    """The parts of a rank's vectors whose gradients count.

    Args:
        length: P_r.
        parameters: `all` (one span), or `encoder`: what the heads are not.
    """
    if parameters == "all":
        return [slice(0, length)]
    spans: list[slice] = []
    follows = False
    for piece in sorted(pieces.own, key=lambda piece: piece.offset):
        wanted = piece.name.startswith("encoder.")
        # What lies between two pieces is padding, whose gradient is zero.
        if wanted and follows:
            spans[-1] = slice(spans[-1].start, piece.span.stop)
        elif wanted:
            spans.append(piece.span)
        follows = wanted
    return spans


def inner_products(
    rows: Tensor, spans: Sequence[slice], parameters: Parameters | None = None
) -> np.ndarray:
    """(n, n) float64 inner products of n rows (n, P_r), of what the spans hold.

    Args:
        parameters: where the rows are shards, whose products are summed over the TLP group, all of
            whose ranks take part; None: whole vectors.
    """
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for span in spans:
        total += gram(rows[:, span])
    if parameters is not None and not parameters.replicated:
        parameters.mesh.sum_within(total)
    found: np.ndarray = total.cpu().numpy()
    return found


def cosines(products: np.ndarray) -> np.ndarray:
    """(n, n) from inner products; NaN where a vector is zero or not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = np.sqrt(np.diag(products))
        found: np.ndarray = products / norms[:, None] / norms[None, :]
    return found

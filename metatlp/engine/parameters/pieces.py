"""Which elements of which parameters a rank's flat vectors hold.

Knows names and numbers; knows no model, and not why the parameters are cut as they are.
P_r: elements of this rank's vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """Elements `begin` to `end` of a parameter, flattened, at `offset` of a (P_r,) vector.

    Attributes:
        name: the parameter's canonical name (MultiTaskModel.named_uses). shape: of all of it.
    """

    name: str
    shape: torch.Size
    begin: int
    end: int
    offset: int

    @property
    def span(self) -> slice:
        """Of a (P_r,) vector."""
        return slice(self.offset, self.offset + self.end - self.begin)

    @property
    def whole(self) -> bool:
        return self.end - self.begin == self.shape.numel()


@dataclass(frozen=True)
class Pieces:
    """Those of one rank, and the shapes of all parameters, whether or not it holds any of them.

    Attributes:
        shapes: canonical name -> shape, in one order on every rank.
        own: what this rank holds; of a parameter at most one piece.
    """

    shapes: dict[str, torch.Size]
    own: Sequence[Piece]

    @property
    def num_parameters(self) -> int:
        """Elements of all parameters, wherever they are."""
        return sum(shape.numel() for shape in self.shapes.values())

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Name -> view of (P_r,) `flat` with the parameter's shape; every piece is whole."""
        assert all(piece.whole for piece in self.own)
        return {piece.name: flat[piece.span].view(piece.shape) for piece in self.own}

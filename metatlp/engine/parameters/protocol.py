"""What the inner loop, the meta step and the rewards ask of a placement of the parameters.

A TLP group of R ranks holds the parameters once (sharded) or R times (replicated). Either way a
rank sees its own as flat float32 vectors, all laid out alike, and a model that computes with them.
P_r: elements of this rank's vectors; S: segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from metatlp.data.parts import Part
from metatlp.engine.adamw import InnerConfig, InnerState
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.pieces import Pieces
from metatlp.model.arena import Segment
from metatlp.model.multitask import MultiTaskModel


class Parameters(Protocol):
    """The parameters of a TLP group, and this rank's share of them.

    In the methods that take parts every rank of the TLP group takes part, each with its own parts
    of the same batch, and as many of them as the others.

    Attributes:
        model: computes with the working weights; in a lockstep placement only when all ranks of
            the TLP group call it at once.
        config: AdamW's settings.
        mesh: the TLP groups. device: where the model computes.
        segments: which tasks the spans of the vectors serve; in order, covering all of them.
        pieces: which elements of which parameters the vectors hold; the rest of them is padding,
            which stays zero.
        live: (P_r,) float32 masters of the parameters, which AdamW steps.
        state: AdamW's moments (P_r,), and its step counts (S,).
        replicated: whether all ranks of the TLP group hold the same elements.
        lockstep: whether a forward pass needs all ranks of the TLP group.
        failure: what made a gradient unusable, if that was found; on the rank that found it.
    """

    model: MultiTaskModel
    config: InnerConfig
    mesh: Mesh
    device: torch.device
    segments: tuple[Segment, ...]
    pieces: Pieces
    live: Tensor
    state: InnerState
    replicated: bool
    lockstep: bool
    failure: str | None

    def stepped(self, task: str) -> list[Segment]:
        """The segments that a step on `task` moves."""
        ...

    def gradient(
        self, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> list[Tensor]:
        """Make the gradient of the batch's mean loss, for `step`; with dropout on.

        Args:
            parts: this rank's, their tensors on the device. A part's weight is its share of the
                batch's rows; the weights of all parts of the group sum to 1.
            seed: number of a part -> seed of its dropout masks.

        Returns:
            Per part () its weight times its mean loss (nats), on the device.
        """
        ...

    def finite(self, task: str) -> bool:
        """Whether that gradient is finite, the same on every rank. The host waits for it."""
        ...

    def step(self, task: str, lr: float) -> Tensor:
        """One AdamW step on that gradient, clipped by the norm over the TLP group's shards; the
        working weights follow. Returns () 1 if it was clipped, else 0."""
        ...

    def publish(self) -> None:
        """Make the working weights follow `live`, which something else than `step` has changed."""
        ...

    def add_gradient(
        self, row: Tensor, task: str, parts: Sequence[Part], seed: Callable[[int], int]
    ) -> None:
        """Add the gradient of the batch's mean loss, of all parameters, to row (P_r,): without a
        step, without a trace, and in the mode (dropout or none) that the model is in.

        Args:
            parts: this rank's; in a replicated placement all of the batch, for there a rank makes
                the gradient by itself.
        """
        ...

    def close(self) -> None:
        """Let go of what a library holds besides; nothing else may be called afterwards."""
        ...

"""The inner loop: k AdamW steps on the batches of one task-language pair (Algorithm 1, line 6).

Knows a placement of the parameters; knows nothing of averaging. k: inner steps of an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from metatlp.data.parts import Part
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.plan import Slot
from metatlp.seeds import derive_seed


@dataclass(frozen=True)
class SlotReport:
    """What one slot's inner loop did.

    Attributes:
        slot, tlp, episode: which slot of the queue.
        losses: mean loss (nats) of each of the k batches, before the step on it.
        clipped: share of the k steps whose gradient was clipped.
        tokens: real tokens (padding left out) of the k batches.
        examples: rows of the k batches.
        rank: the rank that held the slot, the first of its TLP group.
    """

    slot: int
    tlp: str
    episode: int
    losses: list[float]
    clipped: float
    tokens: int
    examples: int
    rank: int

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


class InnerLoop:
    """Runs an episode's k steps in place on the parameters."""

    def __init__(
        self,
        parameters: Parameters,
        seed: int,
        num_parts: int = 1,
        rank: int = 0,
        last_step_only: bool = False,
    ):
        """
        Args:
            seed: of the dropout masks.
            num_parts: in which every batch is cut.
            rank: of this process.
            last_step_only: first-order MAML: what remains of the k steps is the last one.
        """
        self.parameters, self.seed = parameters, seed
        self.num_parts, self.rank, self.last_step_only = num_parts, rank, last_step_only

    def run(
        self, slot: Slot, batches: Sequence[Sequence[Part]], lr: float, step: int
    ) -> SlotReport:
        """k AdamW steps from the current parameters. All ranks of the TLP group take part.

        Args:
            slot: place in the queue; with (seed, step) it fixes the dropout masks.
            batches: k batches, of each this rank's parts, on the device.
            lr: learning rate of this meta step.
            step: meta step.

        With `last_step_only` the parameters end at theta + (theta_k - theta_(k-1)), so that a meta
        step moves theta by beta times the mean of the last steps: first-order MAML with k - 1 steps
        of adaptation and a batch of its own for the last gradient, which passes through AdamW
        (Nichol et al. 2018, section 5.1, whose published code does the same).
        """
        task = slot.tlp.task
        losses, clips = [], []
        live = self.parameters.live
        begin = live.clone() if self.last_step_only else None
        for j, parts in enumerate(batches):
            if begin is not None and j == len(batches) - 1:
                # theta + (theta_k - theta_(k-1)) below: the steps before only say where the last
                # gradient is taken.
                begin -= live
            losses.append(self.parameters.gradient(task, parts, self.mask_seed(step, slot, j)))
            clips.append(self.parameters.step(task, lr))
        if begin is not None:
            live += begin
        of_batches, tokens, examples = self._shared(batches, losses)
        mesh = self.parameters.mesh
        return SlotReport(
            slot=slot.index,
            tlp=str(slot.tlp),
            episode=slot.episode,
            losses=of_batches,
            clipped=torch.stack(clips).mean().item(),
            tokens=tokens,
            examples=examples,
            rank=self.rank - mesh.member,
        )

    def mask_seed(self, step: int, slot: Slot, j: int) -> partial[int]:
        """Number of a part of batch j -> seed of its dropout masks."""
        return partial(part_seed, self.num_parts, self.seed, "dropout", step, slot.index, j)

    def _shared(
        self, batches: Sequence[Sequence[Part]], losses: Sequence[Sequence[Tensor]]
    ) -> tuple[list[float], int, int]:
        """The batches' losses, tokens and rows. The ranks of the TLP group take part."""
        mesh = self.parameters.mesh
        table = torch.zeros(len(batches), self.num_parts + 2, dtype=torch.float64)
        for row, parts, of_parts in zip(table, batches, losses, strict=True):
            for part, loss in zip(parts, of_parts, strict=True):
                row[part.index] = loss
            row[-2] = sum(part.tokens for part in parts)
            row[-1] = sum(part.rows for part in parts)
        if mesh.within is not None:
            table = mesh.sum_within(table.to(losses[0][0].device))
        # Summed in the order of the parts, so that who held which changes no bit.
        of_batches = [sum(row) for row in table[:, : self.num_parts].tolist()]
        tokens, examples = table[:, self.num_parts :].sum(0).tolist()
        return of_batches, int(tokens), int(examples)


def part_seed(num_parts: int, seed: int, *purpose_and_part: str | int) -> int:
    """Seed of the dropout masks of a part of a batch; the last number is the part's."""
    purpose, part = purpose_and_part[:-1], purpose_and_part[-1]
    # A batch that is not cut has no parts to tell apart.
    return derive_seed(seed, *purpose, *((part,) if num_parts > 1 else ()))

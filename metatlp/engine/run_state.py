"""What a run must remember to continue bit for bit, as a checkpoint and back.

State is (theta, inner optimizer state, outer velocity, sampler, stream cursors, step): everything
random is derived from the seed, so no generator is saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metatlp.engine.averaging import Averaging
from metatlp.engine.checkpoint import Checkpoint
from metatlp.engine.parameters.pieces import Pieces
from metatlp.engine.same_run import FREE_FLAGS, RunIdentity
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.arena import Segment
from metatlp.sampling import Sampler


@dataclass
class RunState:
    """The mutable state of a meta-training run, the same on every rank.

    Attributes:
        step: finished meta steps.
        cursors: episodes of each TLP used so far.
    """

    strategy: Averaging
    sampler: Sampler
    step: int = 0
    cursors: Counter[TLP] = field(default_factory=Counter)

    def small_tensors(self) -> dict[str, dict[str, Tensor]]:
        """Kind -> name -> tensor, the same on every rank."""
        if not self._keeps_moments():
            return {}
        return {"inner_steps": {"steps": self.strategy.state.steps}}

    def as_json(
        self, identity: RunIdentity, placement: Mapping[str, Any], num_records: int
    ) -> dict[str, Any]:
        """The rest of a checkpoint.

        Args:
            placement: where_it_runs(). num_records: lines of metrics.jsonl at this moment.
        """
        return {
            "step": self.step,
            "cursors": {str(tlp): n for tlp, n in self.cursors.items()},
            "sampler": self.sampler.state_dict(),
            **identity.as_json(),
            "placement": dict(placement),
            "num_records": num_records,
            "segments": [segment.name for segment in self.strategy.segments],
        }

    def restore(self, saved: Checkpoint, identity: RunIdentity) -> None:
        """Continue from a checkpoint; the working weights are still to be published.

        Raises:
            InputError: it belongs to other flags, data or precision, or another model.
        """
        state, where = saved.state, saved.path
        strategy = self.strategy
        check_restorable(saved, identity, strategy.segments)
        for kind, flat in self._own_vectors().items():
            copy_pieces(saved, kind, flat, strategy.parameters.pieces)
        if strategy.velocity is not None:
            velocity = torch.zeros_like(strategy.theta.start)
            copy_pieces(saved, "velocity", velocity, strategy.parameters.pieces)
            strategy.take_velocity(velocity)
        strategy.parameters.live.copy_(strategy.theta.start)
        if self._keeps_moments():
            self._restore_moments(saved.tensors["inner_steps"]["steps"])
        try:
            self.sampler.load_state_dict(state["sampler"])
        except ValueError as error:
            raise InputError(f"--resume: {where}: {error}") from error
        self.step = state["step"]
        self.cursors = Counter({TLP.parse(name): n for name, n in state["cursors"].items()})

    def _keeps_moments(self) -> bool:
        # With `reset` every slot starts afresh: moments and step counts are left over, not state.
        return self.strategy.config.inner_state != "reset"

    def vectors(self) -> dict[str, Tensor]:
        """Kind -> (P_r,). The ranks of the TLP group take part."""
        vectors = self._own_vectors()
        if self.strategy.velocity is not None:
            vectors["velocity"] = self.strategy.whole_velocity()
        return vectors

    def _own_vectors(self) -> dict[str, Tensor]:
        strategy = self.strategy
        vectors = {"theta": strategy.theta.start}
        if self._keeps_moments():
            vectors["exp_avg"] = strategy.state.exp_avg
            vectors["exp_avg_sq"] = strategy.state.exp_avg_sq
        return vectors

    def _restore_moments(self, steps: Tensor) -> None:
        strategy = self.strategy
        strategy.state.steps.copy_(steps)
        strategy.start_steps.copy_(steps)
        for moment in strategy.moments:
            moment.start.copy_(moment.live)


def check_restorable(
    saved: Checkpoint,
    identity: RunIdentity,
    segments: Sequence[Segment],
    free: frozenset[str] = FREE_FLAGS,
) -> None:
    """Before anything is changed.

    Args:
        free: flags that may differ.

    Raises:
        InputError: the checkpoint belongs to other flags, data or precision, or another model.
    """
    difference = RunIdentity.of_checkpoint(saved.state).difference(identity, free)
    if difference:
        raise InputError(f"--resume: {saved.path} was made with {difference}")
    # The step counts of AdamW are in their order.
    if saved.state["segments"] != [segment.name for segment in segments]:
        raise InputError(f"--resume: {saved.path} does not hold this model's parameters")


def copy_pieces(saved: Checkpoint, kind: str, flat: Tensor, pieces: Pieces) -> None:
    """Copy what a rank holds of a checkpoint's named tensors of a kind into its (P_r,) vector.

    No more than that comes into memory, and padding is left as it is.

    Raises:
        InputError: they are not this model's.
    """
    named = saved.tensors.get(kind, {})
    if pieces.shapes != {name: tensor.shape for name, tensor in named.items()}:
        raise InputError(f"--resume: {saved.path}: {kind} does not hold this model's parameters")
    for piece in pieces.own:
        flat[piece.span].copy_(named[piece.name].flatten()[piece.begin : piece.end])

"""What a run must remember to continue bit for bit, as a checkpoint and back.

State is (theta, inner optimizer state, outer velocity, sampler, stream cursors, step): everything
random is derived from the seed, so no generator is saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metatlp.engine.checkpoint import Checkpoint
from metatlp.engine.parameters.pieces import Pieces
from metatlp.engine.replicated import Replicated
from metatlp.engine.same_run import FREE_FLAGS, RunIdentity
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.arena import Arena
from metatlp.sampling import Sampler


@dataclass
class RunState:
    """The mutable state of a meta-training run, the same on every rank.

    Attributes:
        step: finished meta steps.
        cursors: episodes of each TLP used so far.
    """

    strategy: Replicated
    sampler: Sampler
    step: int = 0
    cursors: Counter[TLP] = field(default_factory=Counter)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Kind -> name -> tensor; padding is left out."""
        views = self.strategy.arena.views
        tensors = {kind: views(flat) for kind, flat in self._vectors().items()}
        if self._keeps_moments():
            tensors["inner_steps"] = {"steps": self.strategy.state.steps}
        return tensors

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
            "segments": [segment.name for segment in self.strategy.arena.segments],
        }

    def restore(self, saved: Checkpoint, identity: RunIdentity) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: it belongs to other flags, data or precision, or another model.
        """
        state, where = saved.state, saved.path
        check_restorable(saved, identity, self.strategy.arena)
        vectors = self._vectors()
        for kind, flat in vectors.items():
            copy_in(self.strategy.arena, saved, kind, flat)
        self.strategy.arena.live.copy_(self.strategy.theta.start)
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

    def _vectors(self) -> dict[str, Tensor]:
        strategy = self.strategy
        vectors = {"theta": strategy.theta.start}
        if self._keeps_moments():
            vectors["exp_avg"] = strategy.state.exp_avg
            vectors["exp_avg_sq"] = strategy.state.exp_avg_sq
        if strategy.velocity is not None:
            vectors["velocity"] = strategy.velocity
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
    arena: Arena,
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
    if saved.state["segments"] != [segment.name for segment in arena.segments]:
        raise InputError(f"--resume: {saved.path} does not hold this model's parameters")


def copy_in(arena: Arena, saved: Checkpoint, kind: str, flat: Tensor) -> None:
    """Copy a checkpoint's named tensors of a kind into a (P,) vector laid out as the arena.

    Raises:
        InputError: they are not this model's.
    """
    views = arena.views(flat)
    named = _of_this_model(saved, kind, {name: view.shape for name, view in views.items()})
    for name, view in views.items():
        view.copy_(named[name])


def copy_pieces(saved: Checkpoint, kind: str, flat: Tensor, pieces: Pieces) -> None:
    """Copy what a rank holds of a checkpoint's named tensors of a kind into its (P_r,) vector.

    No more than that comes into memory, and padding is left as it is.

    Raises:
        InputError: they are not this model's.
    """
    named = _of_this_model(saved, kind, pieces.shapes)
    for piece in pieces.own:
        flat[piece.span].copy_(named[piece.name].flatten()[piece.begin : piece.end])


def _of_this_model(
    saved: Checkpoint, kind: str, shapes: Mapping[str, torch.Size]
) -> Mapping[str, Tensor]:
    named = saved.tensors.get(kind, {})
    if shapes != {name: tensor.shape for name, tensor in named.items()}:
        raise InputError(f"--resume: {saved.path}: {kind} does not hold this model's parameters")
    return named


def distance(a: Tensor, b: Tensor) -> float:
    """2-norm of a - b for (P,) vectors: of parts in float32, of the parts' norms in float64."""
    # On a CPU the scratch has to stay in the cache; an accelerator wants few launches.
    size = 2**18 if a.device.type == "cpu" else 2**24
    scratch = torch.empty_like(a[:size])
    norms = [
        torch.linalg.vector_norm(torch.sub(x, y, out=scratch[: len(x)]))
        for x, y in zip(a.split(size), b.split(size), strict=True)
    ]
    return torch.stack(norms).double().norm().item()

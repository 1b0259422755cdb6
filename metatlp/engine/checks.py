"""What must hold after every meta step: finite numbers always, and under `--debug` much more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from metatlp.engine.replicated import Replicated
from metatlp.errors import DivergedError
from metatlp.model.multitask import MultiTaskModel


def check_invariants(strategy: Replicated, model: MultiTaskModel) -> None:
    """Assert that the model is at theta, in the arena, and finite."""
    arena, theta = strategy.arena, strategy.theta
    views, grads = arena.views(arena.live), arena.views(arena.grad)
    for name, (parameter, _) in model.named_uses().items():
        assert parameter.data_ptr() == views[name].data_ptr(), f"{name} has left the arena"
        assert parameter.grad is not None, f"{name} has lost its gradient"
        assert parameter.grad.data_ptr() == grads[name].data_ptr(), f"{name}: gradient has left"
    assert torch.equal(theta.live, theta.start), "the parameters are not at theta"
    assert not theta.total.any(), "a difference was left over"
    assert bool(theta.start.isfinite().all()), "theta is not finite"
    for moment in strategy.moments:
        assert torch.equal(moment.live, moment.start), "the moments are not at their start"
        assert bool(moment.start.isfinite().all()), "a moment is not finite"


def check_finite(
    slots: Sequence[Mapping[str, Any]], failures: Sequence[str | None], moved: float, step: int
) -> None:
    """Raise before anything of a diverged step is recorded or saved.

    Args:
        slots: the reports of all ranks' slots, in queue order.
        failures: what the strategy of each rank met, if anything.
        moved: |theta - theta_0|.
        step: finished meta steps.

    Raises:
        DivergedError: the same on every rank, as its arguments are.
    """
    advice = "a lower --inner-lr may help; the last checkpoint is as it was"
    for slot in slots:
        if not math.isfinite(slot["loss"]):
            losses = ", ".join(f"{loss:g}" for loss in slot["losses"])
            raise DivergedError(f"meta step {step}: losses of {slot['tlp']} are {losses}; {advice}")
    for failure in failures:
        if failure is not None:
            raise DivergedError(f"meta step {step}: {failure}; {advice}")
    if not math.isfinite(moved):
        raise DivergedError(f"meta step {step}: theta is no longer finite; {advice}")

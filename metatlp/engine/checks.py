"""What must hold after every meta step: finite numbers always, and under `--debug` much more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from metatlp.engine.averaging import Averaging
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.errors import DivergedError


def check_invariants(strategy: Averaging) -> None:
    """Assert that the parameters are at theta and finite, and in the arena where there is one."""
    theta = strategy.theta
    if isinstance(strategy.parameters, ReplicatedParameters):
        _check_arena(strategy.parameters)
    assert torch.equal(theta.live, theta.start), "the parameters are not at theta"
    assert not theta.total.any(), "a difference was left over"
    assert bool(theta.start.isfinite().all()), "theta is not finite"
    for moment in strategy.moments:
        assert torch.equal(moment.live, moment.start), "the moments are not at their start"
        assert bool(moment.start.isfinite().all()), "a moment is not finite"


def _check_arena(parameters: ReplicatedParameters) -> None:
    arena = parameters.arena
    views, grads = arena.views(arena.live), arena.views(arena.grad)
    for name, (parameter, _) in parameters.model.named_uses().items():
        assert parameter.data_ptr() == views[name].data_ptr(), f"{name} has left the arena"
        assert parameter.grad is not None, f"{name} has lost its gradient"
        assert parameter.grad.data_ptr() == grads[name].data_ptr(), f"{name}: gradient has left"


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

"""The checks of `--debug`: what must hold after every meta step, and is too slow to ask always."""

from __future__ import annotations

import torch

from metatlp.engine.placement import Placement
from metatlp.engine.replicated import Replicated
from metatlp.model.multitask import MultiTaskModel


def check_invariants(strategy: Replicated, model: MultiTaskModel, placement: Placement) -> None:
    """Assert that the model is at theta, in the arena, finite, and the same on every rank."""
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
    sums = placement.gather([theta.start.double().sum().item()])
    assert len(set(sums)) == 1, f"the ranks have different parameters: sums {sums}"

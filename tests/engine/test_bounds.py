"""The scales of `--reduce exact`: no gradients, however chosen, leave the bounds."""

from __future__ import annotations

import math
from contextlib import nullcontext

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.optim.adamw import adamw

from metatlp.engine.adamw import InnerConfig
from metatlp.engine.averaging import Averaging, AveragingConfig
from metatlp.engine.bounds import (
    LARGEST_EXACT_CLIP,
    adamw_ratio,
    exponent_for,
    moment_bounds,
    parameter_bound,
)
from metatlp.engine.meta_step import meta_step
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.plan import Slot
from metatlp.grid import TLP
from metatlp.model.arena import Arena

K = 3
LR = 1e-2
# The bound must not be so loose that it costs precision: k steps of 7.27 lr, and the decay.
FAR = K * (7.3 * LR + 4.0 * (LR * 0.1 + 1e-6))
# Sizes from far below eps to the clip; signs and order are hypothesis's choice.
GRADIENTS = st.lists(
    st.one_of(
        st.sampled_from([0.0, 5.0, -5.0, 1e-12, -1e-12]),
        st.floats(-5.0, 5.0, width=32),
    ),
    min_size=K,
    max_size=K,
)
HISTORIES = st.lists(st.lists(st.floats(-5.0, 5.0, width=32), max_size=12), min_size=1, max_size=4)


class Scalar:
    """One parameter and its AdamW state, stepped by the function the inner loop uses."""

    def __init__(self, x: float, config: InnerConfig, state: tuple[float, float, int] = (0, 0, 0)):
        self.x, self.config = torch.tensor([x]), config
        self.m, self.v = torch.tensor([float(state[0])]), torch.tensor([float(state[1])])
        self.steps = torch.tensor(float(state[2]))

    def step(self, gradient: float) -> None:
        c = self.config
        adamw(
            [self.x],
            [torch.tensor([gradient])],
            [self.m],
            [self.v],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=LR,
            beta1=c.beta1,
            beta2=c.beta2,
            eps=c.eps,
            weight_decay=c.weight_decay,
        )


def averaged_state(histories, config) -> tuple[float, float, int]:
    """The mean of the states after several histories; all count the steps of the longest."""
    ends = []
    for history in histories:
        scalar = Scalar(0.0, config)
        for gradient in history:
            scalar.step(gradient)
        ends.append((scalar.m.item(), scalar.v.item()))
    m, v = (sum(values) / len(ends) for values in zip(*ends, strict=True))
    return m, v, max(len(history) for history in histories)


def test_ratio_by_hand():
    # (0.1)^2 / 0.001 / (1 - 0.81 / 0.999) = 10 / 0.189189... = 52.857
    assert adamw_ratio(0.9, 0.999) == pytest.approx(math.sqrt(52.857142857), rel=1e-9)
    assert adamw_ratio(0.0, 0.5) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.81), (0.9, 0.5)])
def test_without_a_bound_there_is_an_error(beta1, beta2):
    with pytest.raises(ValueError, match="no bound"):
        adamw_ratio(beta1, beta2)


def test_the_ratio_is_reached_by_the_worst_gradients():
    """g_t growing by b2 / b1 per step turns Cauchy-Schwarz into an equality."""
    m = v = 0.0
    for t in range(400):
        g = (0.999 / 0.9) ** (t - 400)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    assert m / math.sqrt(v) == pytest.approx(adamw_ratio(0.9, 0.999), rel=1e-6)


def test_a_long_rise_of_the_gradient_nearly_reaches_the_bound_of_a_step():
    config = InnerConfig()
    scalar = Scalar(0.0, config, (0.0, 0.0, 10_000))
    for t in range(100):
        before = scalar.x.item()
        scalar.step(5.0 * (0.999 / 0.9) ** (t - 99))
    moved = abs(scalar.x.item() - before)
    assert moved <= parameter_bound(config, LR, 1, abs(before))
    assert moved == pytest.approx(LR * adamw_ratio(0.9, 0.999), rel=1e-3)


@settings(max_examples=150, deadline=None)
@given(HISTORIES, GRADIENTS, st.floats(-3.0, 3.0, width=32), st.sampled_from([0.0, 0.1]))
def test_no_gradients_move_a_parameter_further_than_its_bound(histories, gradients, x, decay):
    config = InnerConfig(weight_decay=decay)
    scalar = Scalar(x, config, averaged_state(histories, config))
    for gradient in gradients:
        scalar.step(gradient)
    bound = parameter_bound(config, LR, K, abs(x))
    assert abs(scalar.x.item() - x) <= bound
    assert bound <= FAR


@settings(max_examples=150, deadline=None)
@given(HISTORIES, GRADIENTS)
def test_no_gradients_move_the_moments_further_than_their_bounds(histories, gradients):
    config = InnerConfig()
    state = averaged_state(histories, config)
    scalar = Scalar(0.0, config, state)
    for gradient in gradients:
        scalar.step(gradient)
    first, second = moment_bounds(config, K)
    assert abs(scalar.m.item() - state[0]) <= first
    assert abs(scalar.v.item() - state[1]) <= second


def test_the_moment_bounds_are_nearly_reached():
    config = InnerConfig()
    scalar = Scalar(0.0, config, (-5.0, 0.0, 1000))
    for _ in range(K):
        scalar.step(5.0)
    first, second = moment_bounds(config, K)
    assert scalar.m.item() + 5.0 == pytest.approx(first, rel=1e-5)
    assert scalar.v.item() == pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("bound", [1e-6, 0.5, 1.0, 1.5, 2.0, 75.0, 1e4])
def test_the_exponent_uses_the_room_there_is(bound):
    scaled = bound * 2.0 ** exponent_for(bound)
    assert 2.0**60 < scaled <= 2.0**61


def drift(reduce: str, clip: float, gradient: float) -> float:
    """How far one parameter gets in 20 meta steps of 8 slots with a constant gradient."""
    x = torch.nn.Parameter(torch.zeros(1))
    tlp = TLP("pos", "en")
    arena = Arena({"x": (x, frozenset({"pos"}))})
    parameters = ReplicatedParameters(None, arena, InnerConfig(grad_clip=clip), nullcontext)
    averaging = AveragingConfig(inner_steps=3, inner_state="average", reduce=reduce)
    strategy = Averaging(parameters, averaging, {tlp: 1.0})

    def steps(slot: Slot) -> None:
        for _ in range(3):
            arena.grad[0] = gradient
            parameters.step_segments(arena.segments, 1e-3, shrink=torch.ones(()))

    for _ in range(20):
        meta_step(strategy, [Slot(i, tlp, 0) for i in range(8)], steps, 1e-3, 1.0)
    return arena.live[0].item()


@pytest.mark.parametrize("clip", [5.0, LARGEST_EXACT_CLIP])
@pytest.mark.parametrize("gradient", [1e-7, 1e-5, 1e-2])
def test_small_second_moments_survive_the_fixed_point(clip, gradient):
    exact, fp32 = (drift(reduce, clip, gradient) for reduce in ("exact", "fp32"))
    # At 1e-7 the quantum is a hundredth of the second moment's first change.
    assert exact == pytest.approx(fp32, rel=0.02 if gradient < 1e-6 else 1e-4)


def test_why_a_large_clip_is_refused():
    assert abs(drift("exact", 1000.0, 1e-7)) > 2 * abs(drift("fp32", 1000.0, 1e-7))

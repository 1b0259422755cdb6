"""The meta step by hand: a scalar, plain SGD inside, numbers that fit on paper."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from metatlp.engine.adamw import InnerConfig
from metatlp.engine.averaging import Averaging, AveragingConfig
from metatlp.engine.inner import InnerLoop
from metatlp.engine.meta_step import meta_step
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.plan import Slot, assign, build_queue, linear_decay, num_meta_steps
from metatlp.grid import TLP
from metatlp.model.arena import Arena

TARGETS = (0.0, 8.0, 2.0, -2.0)


def scalar(start: float, reduce: str = "exact", **config) -> Averaging:
    """One parameter `x` of one task, at `start`."""
    x = nn.Parameter(torch.tensor([start]))
    arena = Arena({"x": (x, frozenset({"pos"}))})
    averaging = AveragingConfig(reduce=reduce, **{"inner_state": "reset", **config})
    cost = dict.fromkeys((TLP("pos", "en"),), 1.0)
    parameters = ReplicatedParameters(None, arena, InnerConfig(), nullcontext)
    return Averaging(parameters, averaging, cost)


def queue(number: int) -> list[Slot]:
    return [Slot(i, TLP("pos", "en"), i) for i in range(number)]


def sgd(strategy: Averaging, targets, rate: float, steps: int, ends: list[float]):
    """Gradient descent on f_c(x) = (x - c)^2 / 2."""
    x = strategy.parameters.live[:1]

    def inner_loop(slot: Slot) -> None:
        for _ in range(steps):
            x.sub_(rate * (x - targets[slot.index]))
        ends.append(x.item())

    return inner_loop


# The bound of the fixed point is AdamW's; a rate of 100 makes room for SGD's steps of up to 4.
ROOM = 100.0


@pytest.mark.parametrize("reduce", ["exact", "fp32"])
@pytest.mark.parametrize(("beta", "result"), [(1.0, 2.5), (0.5, 3.25), (0.0, 4.0)])
def test_hand_worked_trajectory(reduce, beta, result):
    strategy, ends = scalar(4.0, reduce), []
    meta_step(strategy, queue(4), sgd(strategy, TARGETS, 0.5, 2, ends), ROOM, beta)
    assert ends == [1.0, 7.0, 2.5, -0.5]
    assert strategy.parameters.live[0].item() == result
    assert strategy.theta.start[0].item() == result


class Descent(ReplicatedParameters):
    """SGD at rate 0.5 on f_c, c the target of the part."""

    def gradient(self, task, parts, seed):
        self.error = self.live[0] - parts[0].target
        return [self.error**2 / 2]

    def step(self, task, lr):
        self.live[0] -= 0.5 * self.error
        return torch.zeros(())


@pytest.mark.parametrize(("last_only", "result"), [(False, 2.5), (True, 3.5)])
def test_first_order_maml_moves_by_the_last_inner_steps(last_only, result):
    """From 4 to targets 0, 8, 2, -2: 2, 6, 3, 1 after a step, 1, 7, 2.5, -0.5 after two. The last
    steps are -1, 1, -0.5, -1.5, in the mean -0.5."""
    strategy = scalar(4.0)
    old = strategy.parameters
    strategy.parameters = Descent(None, old.arena, old.config, nullcontext)
    loop = InnerLoop(strategy.parameters, seed=0, last_step_only=last_only)

    def inner_loop(slot):
        part = SimpleNamespace(index=0, tokens=1, rows=1, target=TARGETS[slot.index])
        return loop.run(slot, [[part]] * 2, 0.5, 0)

    reports = meta_step(strategy, queue(4), inner_loop, ROOM, 1.0)
    assert strategy.parameters.live[0].item() == strategy.theta.start[0].item() == result
    # The losses are those of the whole path: (4 - 0)^2 / 2 and (2 - 0)^2 / 2.
    assert reports[0].losses == [8.0, 2.0]


def test_one_slot_one_step_and_beta_one_is_plain_sgd():
    strategy = scalar(4.0)
    plain = nn.Parameter(torch.tensor([4.0]))
    optimizer = torch.optim.SGD([plain], lr=0.3)
    for target in (1.0, -2.0, 5.0, 0.5):
        meta_step(strategy, queue(1), sgd(strategy, [target], 0.3, 1, []), ROOM, 1.0)
        optimizer.zero_grad()
        ((plain - target) ** 2 / 2).backward()
        optimizer.step()
    assert strategy.parameters.live[0].item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_outer_momentum_is_that_of_torch_sgd(nesterov):
    strategy = scalar(4.0, momentum=0.9, nesterov=nesterov)
    outer = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([outer], lr=0.5, momentum=0.9, nesterov=nesterov)
    for _ in range(4):
        # With f_c the mean end of two SGD steps at 0.5 is x/4 + 3/4 mean(c): the pseudogradient.
        outer.grad = outer.detach() - (outer.detach() / 4 + 0.75 * 2.0)
        optimizer.step()
        meta_step(strategy, queue(4), sgd(strategy, TARGETS, 0.5, 2, []), ROOM, 0.5)
    assert strategy.parameters.live[0].item() == pytest.approx(outer.item(), rel=1e-6)


def two_heads(head_average: str) -> Averaging:
    """An encoder `e` and heads of POS and NER, one number each."""
    numbers = {name: nn.Parameter(torch.zeros(1)) for name in ("e", "pos", "ner")}
    both = frozenset({"pos", "ner"})
    arena = Arena(
        {
            "e": (numbers["e"], both),
            "pos": (numbers["pos"], frozenset({"pos"})),
            "ner": (numbers["ner"], frozenset({"ner"})),
        }
    )
    config = AveragingConfig(inner_state="average", head_average=head_average, inner_steps=3)
    cost = {TLP("pos", "en"): 1.0, TLP("ner", "en"): 1.0}
    parameters = ReplicatedParameters(None, arena, InnerConfig(), nullcontext)
    return Averaging(parameters, config, cost)


@pytest.mark.parametrize(("head_average", "heads"), [("grid", (0.75, 0.25)), ("task", (1.0, 1.0))])
def test_heads_are_averaged_over_the_grid_or_over_their_task(head_average, heads):
    strategy = two_heads(head_average)
    slots = [Slot(i, TLP(task, "en"), 0) for i, task in enumerate(("pos", "pos", "ner", "pos"))]

    def add_one(slot: Slot) -> None:
        for segment in strategy.parameters.stepped(slot.tlp.task):
            strategy.parameters.live[segment.start] += 1.0
            strategy.state.exp_avg[segment.start] += 2.0
        for i, segment in enumerate(strategy.segments):
            strategy.state.steps[i] += 3 * (slot.tlp.task in segment.tasks)

    meta_step(strategy, slots, add_one, ROOM, 1.0)
    found = {s.tasks: strategy.parameters.live[s.start].item() for s in strategy.segments}
    pos, ner = frozenset({"pos"}), frozenset({"ner"})
    assert (found[pos | ner], found[pos], found[ner]) == (1.0, *heads)
    # The moments of a head are those of the slots that stepped it, and so are the step counts.
    for segment in strategy.segments:
        assert strategy.state.exp_avg[segment.start].item() == 2.0
    assert strategy.state.steps.tolist() == [3.0, 3.0, 3.0]


def test_a_head_that_is_not_trained_does_not_move():
    strategy = two_heads("grid")
    slots = [Slot(i, TLP("pos", "en"), 0) for i in range(2)]

    def add_one(slot: Slot) -> None:
        for segment in strategy.parameters.stepped(slot.tlp.task):
            strategy.parameters.live[segment.start] += 1.0

    meta_step(strategy, slots, add_one, ROOM, 1.0)
    ner = next(s for s in strategy.segments if s.tasks == frozenset({"ner"}))
    assert strategy.parameters.live[ner.span].eq(0).all()
    assert strategy.state.steps[strategy.segments.index(ner)] == 0


def test_queue_gives_successive_episodes_to_a_tlp_drawn_twice():
    from collections import Counter

    en, hi = TLP("pos", "en"), TLP("pos", "hi")
    cursors = Counter({en: 4})
    slots = build_queue([en, hi, en], cursors)
    assert [(s.index, s.tlp, s.episode) for s in slots] == [(0, en, 4), (1, hi, 0), (2, en, 5)]
    assert cursors == {en: 6, hi: 1}


def test_slots_are_balanced_by_cost_and_all_are_there():
    cost = {TLP("qa", "en"): 6.0, TLP("pos", "en"): 2.0, TLP("ner", "en"): 1.0}
    names = ("pos", "qa", "ner", "pos", "ner")
    slots = [Slot(i, TLP(task, "en"), 0) for i, task in enumerate(names)]
    first, second = assign(slots, cost, 2)
    assert [s.index for s in first] == [1]
    assert [s.index for s in second] == [0, 2, 3, 4]
    spread = assign(slots, cost, 8)
    assert [len(part) for part in spread].count(0) == 3
    assert sorted(slot.index for part in spread for slot in part) == [0, 1, 2, 3, 4]


def test_number_of_steps_and_decay():
    # 5 epochs of ceil(100/32) + ceil(20/8) = 4 + 3 batches, 2 slots of 3 inner steps: 35 // 6.
    assert num_meta_steps(5, [4, 3], 2, 3) == 5
    assert num_meta_steps(0.1, [4], 8, 3) == 1
    assert [linear_decay(1e-3, t, 4) for t in range(4)] == [1e-3, 7.5e-4, 5e-4, 2.5e-4]

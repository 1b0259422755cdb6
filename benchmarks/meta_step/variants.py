"""The three ways to make a meta step that are compared: ours, the floor, and the naive one.

Knows no clock. P: number of parameters; m slots of k inner steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from meta_step.workload import Workload
from metatlp.data.parts import Part, moved
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.averaging import Averaging, AveragingConfig
from metatlp.engine.inner import InnerLoop, SlotReport
from metatlp.engine.mesh import build_mesh
from metatlp.engine.meta_step import meta_step
from metatlp.engine.parameters.build import build_parameters
from metatlp.engine.plan import Slot, assign
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks import TASKS
from metatlp.tasks.task import Batch, model_inputs


@dataclass(frozen=True)
class Settings:
    """What a comparison may change; the defaults are the training script's."""

    lr: float = 3e-5
    inner: InnerConfig = InnerConfig()
    dropout: float | None = None


class Variant(Protocol):
    """Makes the meta steps of a workload, one after another."""

    name: str

    def prepare(self, step: int) -> None:
        """What is not timed: have the step's batches at hand."""
        ...

    def run(self, step: int) -> None: ...


class Ours:
    """The training script's step: loader, meta step, distance from the first theta."""

    def __init__(self, work: Workload, reduce: str, inner_state: str, settings: Settings):
        self.name = f"ours, {reduce}, {inner_state}"
        self.work, self.settings = work, settings
        placement = work.placement
        mesh = build_mesh(placement.rank, placement.world, 1, placement.device)
        self.parameters = build_parameters(
            work.model(settings.dropout), settings.inner, placement, mesh
        )
        self.inner_loop = InnerLoop(self.parameters, 0, rank=placement.rank)
        self.averaging = AveragingConfig(work.inner_steps, inner_state, reduce=reduce)
        self.strategy = Averaging(self.parameters, self.averaging, work.cost)
        self.theta_0 = self.parameters.live.clone()
        self.loader = work.loader()
        self.moved = 0.0

    def prepare(self, step: int) -> None:
        # The first step's episodes have to be built by someone; later ones are built in the
        # background of the step before, inside the measured time.
        self._schedule(step)

    def run(self, step: int) -> None:
        if step + 1 < len(self.work.queues):
            self._schedule(step + 1)
        lr = self.settings.lr
        meta_step(
            self.strategy, self.work.queues[step], lambda slot: self._slot(slot, step), lr, 1.0
        )
        self.measure_distance()

    def measure_distance(self) -> None:
        self.moved = self.strategy.distance(self.theta_0)

    def theta(self) -> Tensor:
        return self.strategy.theta.start

    def take(self, slot: Slot) -> list[list[Part]]:
        device = self.work.device
        return [moved(parts, device) for parts in self.loader.take(slot.tlp, slot.episode)]

    def _slot(self, slot: Slot, step: int) -> SlotReport:
        return self.inner_loop.run(slot, self.take(slot), self.settings.lr, step)

    def _schedule(self, step: int) -> None:
        world, rank = self.work.placement.world, self.work.placement.rank
        for slot in assign(self.work.queues[step], self.work.cost, world)[rank]:
            self.loader.schedule(slot.tlp, slot.episode)


class Floor:
    """The same forward and backward passes under one fused AdamW, and nothing else."""

    name = "floor"

    def __init__(self, work: Workload, settings: Settings):
        self.work = work
        self.model = work.model(settings.dropout)
        self.optimizer = build_adamw(self.model, settings, fused=True)
        self.batches: list[list[Batch]] = []

    def prepare(self, step: int) -> None:
        self.batches = self.work.batches(step)

    def run(self, step: int) -> None:
        for slot, batches in zip(self.work.queues[step], self.batches, strict=True):
            for batch in batches:
                self.gradient(slot.tlp.task, batch)
                self.update()

    def gradient(self, task: str, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        backward(self.model, task, batch)

    def update(self) -> None:
        self.optimizer.step()


class Naive:
    """As usually published: tensor by tensor, unfused, every batch padded to the limit.

    Args:
        fresh: a new AdamW per slot, instead of one that runs through all of them.
        longest: pad to the limit.
    """

    name = "naive"

    def __init__(
        self, work: Workload, settings: Settings, fresh: bool = False, longest: bool = True
    ):
        self.work, self.settings = work, settings
        self.fresh, self.longest = fresh, longest
        self.model = work.model(settings.dropout)
        self.optimizer = build_adamw(self.model, settings, fused=False)
        self.batches: list[list[Batch]] = []

    def prepare(self, step: int) -> None:
        self.batches = self.work.batches(step, self.longest)

    def run(self, step: int) -> None:
        queue = self.work.queues[step]
        total = {name: torch.zeros_like(p) for name, p in self.model.named_parameters()}
        start: dict[str, Tensor] = {}
        for slot, batches in zip(queue, self.batches, strict=True):
            start = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            self._inner_steps(slot.tlp.task, batches)
            for name, p in self.model.named_parameters():
                total[name] += p.detach() - start[name]
                p.data = start[name]
        for name, p in self.model.named_parameters():
            p.data = start[name] + total[name] / len(queue)

    def _inner_steps(self, task: str, batches: list[Batch]) -> None:
        if self.fresh:
            self.optimizer = build_adamw(self.model, self.settings, fused=False)
        for batch in batches:
            self.optimizer.zero_grad()
            backward(self.model, task, batch)
            if self.settings.inner.grad_clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.inner.grad_clip)
            self.optimizer.step()


def build_adamw(model: nn.Module, settings: Settings, fused: bool) -> torch.optim.AdamW:
    inner = settings.inner
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.lr,
        betas=(inner.beta1, inner.beta2),
        eps=inner.eps,
        weight_decay=inner.weight_decay,
        fused=fused,
        foreach=False,
    )


def backward(model: MultiTaskModel, task: str, batch: Batch) -> None:
    model.train()
    TASKS[task].loss(model(task, model_inputs(batch)), batch).backward()


def builders(work: Workload) -> dict[str, Callable[[], Variant]]:
    """Name -> a function that builds the variant."""
    usual = Settings()
    return {
        "floor": lambda: Floor(work, usual),
        "ours, exact, average": lambda: Ours(work, "exact", "average", usual),
        "ours, fp32, average": lambda: Ours(work, "fp32", "average", usual),
        "ours, exact, reset": lambda: Ours(work, "exact", "reset", usual),
        "ours, fp32, reset": lambda: Ours(work, "fp32", "reset", usual),
        "naive": lambda: Naive(work, usual),
    }


def agreement(work: Workload) -> dict[str, float]:
    """Ours against the naive way after one step, where both mean the same.

    Fresh AdamW per slot, no clip, no dropout, the same padding. eps is large enough that gradients
    that are zero in theory (an attention key's bias) are not blown up to full steps, and the rate
    large enough that the rounding of theta is small beside a step.

    Returns:
        Variant -> RMS of the difference of the two thetas over the RMS of the step.
    """
    settings = Settings(1e-3, replace(InnerConfig(), grad_clip=0.0, eps=1e-3), dropout=0.0)
    naive = Naive(work, settings, fresh=True, longest=False)
    naive.prepare(0)
    naive.run(0)
    found = {}
    for reduce in ("exact", "fp32"):
        ours = Ours(work, reduce, "reset", settings)
        ours.run(0)
        views = ours.parameters.pieces.views(ours.theta())
        names = naive.model.named_uses()
        error = torch.cat([(views[n] - p.detach()).flatten() for n, (p, _) in names.items()])
        found[ours.name] = (error.double().norm() / ours.moved).item()
        ours.loader.close()
    return found

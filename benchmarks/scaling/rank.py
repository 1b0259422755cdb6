"""What a rank of a measured world does: the training script's meta steps, timed, then counted.

Knows the project's parts through a workload; knows no launcher. T TLP groups of R ranks; m slots of
k inner steps; P parameters.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from dataclasses import replace
from statistics import median
from typing import Any

import torch.distributed as dist
from meta_step.clock import Clock
from meta_step.workload import Workload

from metatlp.data.parts import moved
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.averaging import Averaging, AveragingConfig
from metatlp.engine.cost import Cost
from metatlp.engine.inner import InnerLoop, SlotReport
from metatlp.engine.mesh import Mesh, build_mesh
from metatlp.engine.meta_step import meta_step
from metatlp.engine.parameters.build import build_parameters
from metatlp.engine.placement import Placement
from metatlp.engine.plan import Slot, assign
from scaling.counted import Counted
from scaling.memory import Memory

LR = 3e-5  # the training script's
_ZERO = ("zero.stage3", "zero.stage_1_and_2", "zero.muon.muon_optimizer")


class Run:
    """Meta steps as in a run: loader with its thread, meta step, distance from the first theta.

    Without dropout, whose masks depend on the parts of a batch: so all worlds do the same.
    """

    def __init__(self, work: Workload, reduce: str, ranks_per_tlp: int):
        self.work, placement = work, work.placement
        mesh = build_mesh(placement.rank, placement.world, ranks_per_tlp, placement.device)
        model = work.model(dropout=0.0)
        # Now, for ZeRO 3 takes them away.
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        exact, parts = reduce == "exact", mesh.ranks_per_tlp
        parameters = build_parameters(model, InnerConfig(), placement, mesh, parts, exact)
        self.inner_loop = InnerLoop(parameters, 0, parts, placement.rank)
        config = AveragingConfig(work.inner_steps, reduce=reduce)
        bf16 = placement.accelerator.mixed_precision == "bf16"
        placed, width = placement.sharding.placed, 2 if bf16 else 4
        self.cost = Cost(num_parameters, config, mesh, parts, placed=placed, working=width)
        self.strategy = Averaging(parameters, config, work.cost)
        self.theta_0 = self.strategy.theta.start.clone()
        self.loader = work.loader(parts, range(parts)[mesh.member :: parts])
        self.clock = Clock(work.device)

    def own(self, step: int) -> list[Slot]:
        mesh = self.strategy.mesh
        return assign(self.work.queues[step], self.work.cost, mesh.groups)[mesh.group]

    def schedule(self, step: int) -> None:
        for slot in self.own(step) if step < len(self.work.queues) else []:
            self.loader.schedule(slot.tlp, slot.episode)

    def step(self, step: int) -> list[SlotReport]:
        """Every rank takes part."""
        self.schedule(step + 1)
        queue = self.work.queues[step]
        reports = meta_step(self.strategy, queue, lambda slot: self.slot(slot, step), LR, 1.0)
        self.strategy.distance(self.theta_0)
        return reports

    def slot(self, slot: Slot, step: int) -> SlotReport:
        return self.clock.timed(str(slot.tlp), self._slot)(slot, step)

    def _slot(self, slot: Slot, step: int) -> SlotReport:
        episode = self.loader.take(slot.tlp, slot.episode)
        batches = [moved(parts, self.work.device) for parts in episode]
        return self.inner_loop.run(slot, batches, LR, step)


def import_all(placement: Placement) -> None:
    """What a placement imports when it is built: it would count as memory of the parameters."""
    if placement.sharding.kind == "deepspeed":
        for name in _ZERO:
            importlib.import_module(f"deepspeed.runtime.{name}")


def measure_world(
    work: Workload, reduce: str, ranks_per_tlp: int, warmup: int
) -> list[dict[str, Any]]:
    """Of every rank: seconds, bytes, memory, losses. The last queue is counted and not timed.

    Every rank takes part.
    """
    import_all(work.placement)
    memory = Memory(work.device)
    run = Run(work, reduce, ranks_per_tlp)
    built, peak = memory.grown(), memory.peak()
    memory.forget()
    seconds = timed_steps(run, warmup)
    stepped, peak = memory.grown(), max(peak, memory.peak())
    counted, last = Counted(ranks_per_tlp), len(work.queues) - 1
    with counted:
        reports = run.step(last)
    run.loader.close()
    found = {
        "seconds": seconds,
        "peak": peak,
        "grown": {"building": built, "stepping": stepped, "between": memory.held()},
        "formula_memory": sum(run.cost.memory().values()),
        "num_parameters": run.cost.num_parameters,
        "inner_steps": len(reports) * work.inner_steps,
        "losses": {report.slot: report.loss for report in reports},
    }
    return work.placement.gather([found | traffic(run, counted, len(reports))])


def timed_steps(run: Run, warmup: int) -> list[float]:
    """Seconds of the meta steps but the first few and the last. Every rank takes part."""
    seconds = []
    run.schedule(0)
    for step in range(len(run.work.queues) - 1):
        if dist.is_initialized():
            dist.barrier()
        begun = run.clock.now()
        run.step(step)
        seconds.append(run.clock.now() - begun)
    return seconds[warmup:]


def traffic(run: Run, counted: Counted, slots: int) -> dict[str, Any]:
    """Bytes of the counted step: sent, and put into all-reduces, the formulas' beside them."""
    cost = run.cost
    within = cost.communication_within * slots if run.strategy.parameters.replicated else None
    return {
        "sent": {
            where: counted.total(where, lambda traffic: traffic.sent)
            for where in ("within", "across", "both")
        },
        "put_in": {
            where: counted.total(where, lambda traffic: traffic.whole, "allreduce")
            for where in ("within", "across")
        },
        "formula": {"within": within, "across": cost.communication},
        "collectives": counted.rows(),
    }


def measure_costs(work: Workload, reduce: str, warmup: int) -> dict[str, Any]:
    """On one process: seconds of an episode of each TLP, and of what a meta step adds to its slots.

    The medians over the rounds; a round is a meta step with one slot of every TLP. With them go the
    expected tokens, by which slots are spread, and the bytes that a rank puts into all-reduces.
    """
    run = Run(work, reduce, 1)
    clock, found, rest = run.clock, defaultdict(list), []
    clock.watch(run.strategy, {"enter": "around", "leave": "around"})
    run.schedule(0)
    for step in range(len(work.queues)):
        clock.seconds.clear()
        begun = clock.now()
        run.step(step)
        whole = clock.now() - begun
        around = clock.seconds.pop("around") / len(work.queues[step])
        for name, seconds in clock.seconds.items():
            found[name].append(seconds + around)
        rest.append(whole - sum(seconds + around for seconds in clock.seconds.values()))
    run.loader.close()
    return {
        "seconds": {name: median(values[warmup:]) for name, values in found.items()},
        "tokens": {str(tlp): tokens for tlp, tokens in work.cost.items()},
        "rest": max(0.0, median(rest[warmup:])),
        "payload": replace(run.cost, mesh=Mesh(groups=2)).communication,
    }

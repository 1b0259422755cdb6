"""FsdpParameters beside an arena in one process; a rank of a world over gloo, or one by itself.

fsdp_checks.py ENCODER ALBERT RANKS_PER_TLP OUTPUT
    ENCODER, ALBERT  folders of a model and of a configuration
    OUTPUT           folder; every rank writes RANK.json there: what it measured
"""

import copy
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist

from metatlp.data.parts import cut
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.build import head_specs
from metatlp.engine.mesh import Mesh, build_mesh
from metatlp.engine.parameters.fsdp import build_fsdp
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.model.arena import Arena
from metatlp.model.multitask import build_model
from metatlp.tasks import TASKS
from metatlp.tasks.task import model_inputs

CPU = torch.device("cpu")
# Task and number of steps of the slots of two TLP groups: unlike in task and number.
SLOTS = [[("pos", 3), ("nli", 1)], [("qa", 2)]]
# The clip fires, and weight decay makes a difference. With AdamW's own eps of 1e-8 the gradients
# that are zero in theory (of an attention key's bias) would become steps in random directions.
CONFIG = {"grad_clip": 1.0, "weight_decay": 0.01, "eps": 1e-5}
LR = 1e-3


def tensors(task, rows, seed, length=12):
    """A batch of that many rows, made up from the seed."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, length + 1, (rows, 1), generator=draw)
    mask = (torch.arange(length) < lengths).long()
    inputs = {
        "input_ids": torch.randint(5, 40, (rows, length), generator=draw) * mask,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(mask),
    }
    if task == "qa":
        ends = ("start_positions", "end_positions")
        return inputs | {end: torch.randint(0, 5, (rows,), generator=draw) for end in ends}
    shape = (rows, length) if task == "pos" else (rows,)
    labels = torch.randint(0, len(TASKS[task].labels), shape, generator=draw)
    return inputs | {"labels": labels}


class Side:
    """One of the two that are compared: parameters, and which parts of a batch it computes."""

    def __init__(self, parameters, num_parts, own):
        self.parameters, self.num_parts, self.own = parameters, num_parts, own
        state = parameters.state
        self.vectors = [parameters.live, state.exp_avg, state.exp_avg_sq, state.steps]

    def parts(self, task, rows, seed):
        whole = tensors(task, rows, seed)
        numbers = torch.arange(rows).numpy()
        return cut(
            numbers, self.num_parts, self.own, lambda i: {k: t[i] for k, t in whole.items()}, False
        )

    def gradient(self, task, rows, seed):
        self.parameters.gradient(task, self.parts(task, rows, seed), lambda part: seed * 100 + part)

    def step(self, task, rows, seed):
        self.gradient(task, rows, seed)
        return self.parameters.step(task, LR).item()

    def add_gradient(self, row, task, rows, seed):
        parts = self.parts(task, rows, seed)
        self.parameters.add_gradient(row, task, parts, lambda part: seed * 100 + part)

    def meta_step(self, slots, number):
        """The mean of all slots' differences, of parameters and of AdamW's state."""
        starts = [vector.clone() for vector in self.vectors]
        totals = [torch.zeros_like(vector) for vector in self.vectors]
        clipped = 0.0
        for task, steps in slots:
            for j in range(steps):
                # In the last step rows are fewer than parts, so that some have weight 0.
                rows = 2 if j == steps - 1 else 5
                clipped += self.step(task, rows, seed=number * 10 + j)
            for vector, start, total in zip(self.vectors, starts, totals, strict=True):
                total += (vector - start) / sum(map(len, SLOTS))
            self.write(starts)
        for total in totals:
            self.parameters.mesh.sum_across(total)
        self.write([start + total for start, total in zip(starts, totals, strict=True)])
        return clipped

    def write(self, values):
        for vector, value in zip(self.vectors, values, strict=True):
            vector.copy_(value)
        self.parameters.publish()

    def logits(self, task):
        model = self.parameters.model.eval()
        with torch.no_grad():
            output = model(task, model_inputs(tensors(task, 3, 77)))
        assert output.logits.dtype == torch.float32
        return output.logits.clone()

    def whole(self, vector):
        """Name -> all elements, put together from the pieces of the TLP group's ranks."""
        pieces = self.parameters.pieces
        own = [(piece.name, piece.begin, vector[piece.span].clone()) for piece in pieces.own]
        found = {
            name: torch.full((shape.numel(),), torch.nan) for name, shape in pieces.shapes.items()
        }
        ranks = [own] if self.parameters.replicated else self.parameters.mesh.gather_within(own)
        for name, begin, values in (piece for rank in ranks for piece in rank):
            assert found[name][begin : begin + len(values)].isnan().all()
            found[name][begin : begin + len(values)] = values
        assert not any(values.isnan().any() for values in found.values())
        return found


class World:
    """Builds the two sides on this rank's mesh, from the same parameters."""

    def __init__(self, encoder, mesh, **options):
        heads = head_specs(["pos", "nli", "qa"])
        self.model = build_model(str(encoder), heads, seed=1, **options)
        self.mesh, self.num_parts = mesh, 2 * mesh.ranks_per_tlp

    def sharded(self, precision="no", **config):
        model, inner = copy.deepcopy(self.model), InnerConfig(**CONFIG | config)
        parameters = build_fsdp(model, self.mesh, inner, precision, CPU)
        own = range(self.mesh.member, self.num_parts, self.mesh.ranks_per_tlp)
        return Side(parameters, self.num_parts, list(own))

    def plain(self, **config):
        model = copy.deepcopy(self.model)
        arena = Arena(model.named_uses())
        inner = InnerConfig(**CONFIG | config)
        parameters = ReplicatedParameters(model, arena, inner, nullcontext, Mesh(), self.num_parts)
        return Side(parameters, self.num_parts, list(range(self.num_parts)))


def error(found, expected, origin=None):
    """|found - expected| / |expected - origin| over all elements."""
    names = sorted(expected)
    found, expected = (torch.cat([each[n] for n in names]) for each in (found, expected))
    start = 0 if origin is None else torch.cat([origin[n] for n in names])
    return ((found - expected).double().norm() / (expected - start).double().norm()).item()


def check_slots(world):
    """Two meta steps whose slots the groups share, and all slots on an arena."""
    mesh, measured = world.mesh, {}
    sharded, plain = world.sharded(), world.plain()
    origin = sharded.whole(sharded.parameters.live)
    assert error(origin, plain.whole(plain.parameters.live)) == 0.0
    own = SLOTS[mesh.group] if mesh.groups > 1 else sum(SLOTS, [])
    measured["clipped"] = 0.0
    for number in range(2):
        sharded.meta_step(own, number)
        measured["clipped"] += plain.meta_step(sum(SLOTS, []), number)
    for i, name in enumerate(("theta", "exp_avg", "exp_avg_sq")):
        found = sharded.whole(sharded.vectors[i])
        expected = plain.whole(plain.vectors[i])
        measured[name] = error(found, expected)
        if name == "theta":
            measured["moved"] = error(found, expected, origin)
    measured["steps"] = error({"": sharded.vectors[3]}, {"": plain.vectors[3]})
    held = torch.zeros_like(sharded.parameters.live)
    for piece in sharded.parameters.pieces.own:
        held[piece.span] = 1.0
    padding = [vector[held == 0.0].abs().sum().item() for vector in sharded.vectors[:3]]
    return measured | {"padding": sum(padding)}


def check_back(world, precision):
    """Logits back at the start, after training and evaluations in between and just before."""
    side = world.sharded(precision)
    start = [vector.clone() for vector in side.vectors]
    before = side.logits("nli")
    side.step("nli", 5, 1)
    moved = [side.logits("nli")]
    side.step("pos", 5, 2)
    moved.append(side.logits("nli"))
    side.write(start)
    after = side.logits("nli")
    assert not torch.equal(*moved)
    moves = [not torch.equal(before, each) for each in moved]
    return {"moved": all(moves), "back": torch.equal(before, after)}


def check_idle(world):
    """Heads of other tasks: still, or moved by their momentum alone."""
    measured = {}
    side = world.sharded()
    origin = [side.whole(vector) for vector in side.vectors[:3]]
    for seed in range(2):
        side.step("pos", 5, seed)
    ends = [side.whole(vector) for vector in side.vectors[:3]]
    idle = [name for name in ends[0] if name.startswith("head.") and ".pos." not in name]
    measured["heads"] = len(idle)
    pairs = zip(origin, ends, strict=True)
    measured["still"] = all(torch.equal(a[name], b[name]) for a, b in pairs for name in idle)
    counts = zip(side.parameters.segments, side.parameters.state.steps.tolist(), strict=True)
    measured["steps"] = all(steps == (2 if "pos" in s.tasks else 0) for s, steps in counts)
    sides = world.sharded(idle_heads="momentum"), world.plain(idle_heads="momentum")
    for each in sides:
        each.step("nli", 5, 3)
        each.step("pos", 5, 4)
    found, expected = (each.whole(each.parameters.live) for each in sides)
    nli = [name for name in expected if name.startswith("head.nli.")]
    measured["momentum"] = error({n: found[n] for n in nli}, {n: expected[n] for n in nli})
    return measured


def check_added(world):
    """Gradients that are added to a row, with and without dropout, and what they leave behind."""
    measured = {}
    sides = world.sharded(), world.plain()
    for dropout in (False, True):
        rows = []
        for side in sides:
            side.parameters.model.train(dropout)
            row = torch.zeros_like(side.parameters.live)
            side.add_gradient(row, "qa", 5, 5)
            side.add_gradient(row, "pos", 2, 6)
            rows.append(side.whole(row))
        measured[f"dropout {dropout}"] = error(*rows)
    ends = []
    for disturbed in (False, True):
        side = world.sharded()
        side.step("pos", 5, 1)
        side.gradient("nli", 5, 2)
        if disturbed:
            side.add_gradient(torch.zeros_like(side.parameters.live), "qa", 5, 3)
        side.parameters.step("nli", LR)
        side.step("nli", 5, 4)
        ends.append([vector.clone() for vector in side.vectors])
    return measured | {"trace": not all(map(torch.equal, *ends))}


def check_recomputed(encoder, world):
    """The gradient with activations recomputed in the backward pass."""
    found = []
    for each in (world, World(encoder, world.mesh, gradient_checkpointing=True)):
        side = each.sharded()
        side.gradient("pos", 5, 1)
        found.append(side.whole(side.parameters.grad))
    return {"error": error(*found)}


def check_reused(albert, mesh):
    """A layer that a pass uses several times."""
    world = World(albert, mesh, from_config=True)
    rows = []
    for side in (world.sharded(), world.plain()):
        side.parameters.model.train()
        row = torch.zeros_like(side.parameters.live)
        side.add_gradient(row, "pos", 5, 1)
        rows.append(side.whole(row))
    return {"error": error(*rows)}


def check_bf16(world):
    """The gradient in bf16 beside that in float32, and the masters, which stay what they were."""
    side, plain = world.sharded("bf16"), world.plain()
    rows = []
    for each in (side, plain):
        each.parameters.model.eval()
        row = torch.zeros_like(each.parameters.live)
        each.add_gradient(row, "pos", 5, 1)
        rows.append(each.whole(row))
    masters = [each.whole(each.parameters.live) for each in (side, plain)]
    return {"error": error(*rows), "masters": error(*masters)}


def main():
    torch.set_num_threads(1)
    encoder, albert, ranks_per_tlp, output = sys.argv[1:]
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        dist.init_process_group("gloo")
    mesh = build_mesh(rank, size, int(ranks_per_tlp), CPU) if size > 1 else Mesh()
    world = World(encoder, mesh)
    measured = {
        "slots": check_slots(world),
        "back no": check_back(world, "no"),
        "back bf16": check_back(world, "bf16"),
        "idle": check_idle(world),
        "added": check_added(world),
        "recomputed": check_recomputed(encoder, world),
        "reused": check_reused(albert, mesh),
        "bf16": check_bf16(world),
    }
    (Path(output) / f"{rank}.json").write_text(json.dumps(measured))
    dist.destroy_process_group()


main()

"""Slots under ZeRO beside the same slots on an arena in one process, in worlds of ranks over gloo.

zero_steps.py ENCODER WORLDS OUTPUT
    WORLDS  JSON list of [number of ranks, cases]; two ranks per TLP, and cases as
            {"name": ..., "zero": {...}}, with mixed_precision and idle_heads or not
    OUTPUT  folder; every rank writes WORLD-RANK.json there: name of the case -> what it measured

The ranks are forks of this process.
"""

import gc
import json
import os
import sys
import traceback
import weakref
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist

from metatlp.data.parts import Part
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.build import head_specs
from metatlp.engine.mesh import build_mesh
from metatlp.engine.parameters import deepspeed_internals
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.parameters.zero_build import build_zero
from metatlp.model.arena import Arena
from metatlp.model.multitask import build_model
from metatlp.tasks import TASKS
from metatlp.tasks.task import model_inputs

TASK_CODES = ("pos", "nli", "pa")
# Task and number of steps of each slot, per TLP group: unlike in order and in number.
SLOTS = [[("pos", 2), ("nli", 2), ("pos", 1)], [("pa", 2), ("pos", 1), ("nli", 1), ("pa", 2)]]
ROWS, LENGTH, PARTS = 7, 12, 2  # PARTS of a batch per rank
LR = 1e-3


def batch(task, number):
    """A batch of ROWS rows, a function of its number."""
    draw = torch.Generator().manual_seed(number)
    lengths = torch.randint(4, LENGTH + 1, (ROWS,), generator=draw)
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    ids = torch.randint(5, 40, (ROWS, LENGTH), generator=draw) * mask
    tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    if task == "pos":
        labels = torch.randint(0, 17, (ROWS, LENGTH), generator=draw)
        return tensors | {"labels": labels.masked_fill(mask == 0, -100)}
    labels = torch.randint(0, 3 if task == "nli" else 2, (ROWS,), generator=draw)
    return tensors | {"labels": labels}


def parts_of(task, number, total):
    """The batch cut in `total` parts of unlike sizes; some batches have too few rows for all."""
    rows = total - 1 if number % 3 == 1 else ROWS
    whole = {name: tensor[:rows] for name, tensor in batch(task, number).items()}
    cut = [{name: tensor[i::total] for name, tensor in whole.items()} for i in range(total)]
    sizes = [len(part["input_ids"]) for part in cut]
    # A part without rows takes those of another, for its rank has to keep step, and weighs nothing.
    return [Part(i, size / rows, cut[i if size else 0]) for i, size in enumerate(sizes)]


def seeds(number):
    return lambda part: 1000 * number + part


class Oracle:
    """Plain fused AdamW on an arena, all parts in this process."""

    def __init__(self, model, config):
        self.model, self.arena = model, Arena(model.named_uses())
        self.parameters = ReplicatedParameters(model, self.arena, config, nullcontext)
        self.state = self.parameters.state

    def gradient(self, task, parts, seed):
        self.arena.grad.zero_()
        for part in filter(lambda part: part.weight, parts):
            torch.manual_seed(seed(part.index))
            outputs = self.model(task, model_inputs(part.tensors))
            (part.weight * TASKS[task].loss(outputs, part.tensors)).backward()

    def step(self, task, parts, seed):
        self.model.train()
        self.gradient(task, parts, seed)
        norm = self.parameters.norm(task)
        shrink = self.parameters.config.shrink(norm)
        self.parameters.step_segments(self.parameters.stepped(task), LR, shrink)


def whole(parameters, flat):
    """Name -> what `flat` (P_r,) of all ranks of the TLP group holds of the parameter."""
    found = {}
    own = {piece.name: piece for piece in parameters.pieces.own}
    for name, shape in parameters.pieces.shapes.items():
        tensor = torch.zeros(shape.numel())
        if name in own:
            tensor[own[name].begin : own[name].end] = flat[own[name].span]
        found[name] = parameters.mesh.sum_within(tensor).view(shape)
    return found


def distance(found, expected, but=()):
    """RMS of the differences over RMS of what is expected, over all names but those ending so."""
    names = [name for name in expected if not name.endswith(but)]
    one = torch.cat([found[name].flatten().double() for name in names])
    other = torch.cat([expected[name].flatten().double() for name in names])
    return ((one - other).norm() / other.norm()).item()


def logits(model):
    model.eval()
    with torch.no_grad():
        return {task: model(task, model_inputs(batch(task, 99))).logits for task in TASK_CODES}


def train(parameters, oracle, numbers):
    """These slots on both; whether each step was clipped."""
    mesh, clips = parameters.mesh, []
    total = PARTS * mesh.ranks_per_tlp
    for i in numbers:
        task, steps = SLOTS[mesh.group][i]
        for j in range(steps):
            parts, seed = parts_of(task, 10 * i + j, total), seeds(10 * i + j)
            parameters.gradient(task, parts[mesh.member :: mesh.ranks_per_tlp], seed)
            clips.append(parameters.step(task, LR).item())
            oracle.step(task, parts, seed)
        between(parameters.state, i)
        between(oracle.state, i)
    return clips


def between(state, slot):
    """What the meta step does to AdamW's state between slots: it writes over it."""
    state.exp_avg.mul_(0.5)
    state.steps.copy_(state.steps.mul(0.5).floor())
    if slot == 0:
        state.exp_avg_sq.zero_()
        state.exp_avg.zero_()
        state.steps.zero_()


def gradient_error(parameters, oracle, task):
    """add_gradient beside the arena's gradient, at the same parameters and with dropout."""
    mesh = parameters.mesh
    parts = parts_of(task, 60, PARTS * mesh.ranks_per_tlp)
    row = torch.zeros_like(parameters.live)
    parameters.model.train()
    parameters.add_gradient(row, task, parts[mesh.member :: mesh.ranks_per_tlp], seeds(77))
    oracle.model.train()
    oracle.gradient(task, parts, seeds(77))
    return distance(whole(parameters, row), oracle.arena.views(oracle.arena.grad))


def built(encoder, mesh, case):
    idle_heads = case.get("idle_heads", "still")
    config = InnerConfig(grad_clip=0.6, weight_decay=0.01, idle_heads=idle_heads)
    heads = {task: spec for task, spec in head_specs(TASKS).items() if task in TASK_CODES}
    precision = case.get("mixed_precision", "no")
    # In bfloat16 other masks are drawn than in float32.
    dropout = 0.1 if precision == "no" else 0.0
    oracle = Oracle(build_model(encoder, heads, seed=1, dropout=dropout), config)
    model = build_model(encoder, heads, seed=1, dropout=dropout)
    given = {"zero_optimization": case["zero"]}
    return build_zero(model, mesh, config, given, mixed_precision=precision), oracle


def beside(parameters, oracle, theta_0):
    """How far parameters and moments are from the oracle's."""
    live, expected = whole(parameters, parameters.live), oracle.arena.views(oracle.arena.live)
    moved = {name: tensor - theta_0[name] for name, tensor in live.items()}
    expected = {name: tensor - theta_0[name] for name, tensor in expected.items()}
    # The bias of an attention key has no gradient in theory: AdamW makes steps of its noise.
    found = {"moved": distance(moved, expected, ("key.bias",))}
    for name in ("exp_avg", "exp_avg_sq"):
        vectors = (getattr(parameters.state, name), getattr(oracle.state, name))
        found[name] = distance(whole(parameters, vectors[0]), oracle.arena.views(vectors[1]))
    found["steps"] = [parameters.state.steps.tolist(), oracle.state.steps.tolist()]
    return found


def padding(parameters):
    """The largest number where the vectors hold nothing of the model."""
    outside = torch.ones_like(parameters.live)
    for piece in parameters.pieces.own:
        outside[piece.span] = 0.0
    vectors = (parameters.live, parameters.state.exp_avg, parameters.state.exp_avg_sq)
    return max((outside * vector).abs().max().item() for vector in vectors)


def run(encoder, mesh, case):
    """What the case measured, and whether all memory is given back at its end."""
    parameters, oracle = built(encoder, mesh, case)
    found = measure(mesh, parameters, oracle)
    engine = weakref.ref(parameters.engine)
    parameters.close()
    del parameters
    gc.collect()
    return found | {"released": engine() is None}


def measure(mesh, parameters, oracle):
    theta_0 = oracle.arena.views(oracle.arena.live.clone())
    found = {"start": distance(whole(parameters, parameters.live), theta_0)}
    start, before = parameters.live.clone(), logits(parameters.model)
    slots = SLOTS[mesh.group]
    # Of a task that is not trained next: it must leave no trace in the steps that follow.
    found["gradient"] = gradient_error(parameters, oracle, "nli")
    clips = train(parameters, oracle, [0])
    # One task has been trained: the heads of the others are where they were.
    idle = [segment for segment in parameters.segments if slots[0][0] not in segment.tasks]
    found["idle"] = [(parameters.live - start)[segment.span].any().item() for segment in idle]
    found["clips"] = clips + train(parameters, oracle, range(1, len(slots)))
    found |= beside(parameters, oracle, theta_0) | {"padding": padding(parameters)}
    parameters.live.copy_(start)
    parameters.publish()
    after = logits(parameters.model)
    found["bitwise"] = all(torch.equal(before[task], after[task]) for task in TASK_CODES)
    return found | {"failure": parameters.failure}


def rank_of_a_world(rank, world, encoder, cases, output):
    """In a fork; never returns."""
    code = 1
    try:
        os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(world))
        meeting = f"file://{Path(output, f'{world}-meeting').resolve()}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
        mesh = build_mesh(rank, world, 2, torch.device("cpu"))
        found = {case["name"]: run(encoder, mesh, case) for case in cases}
        Path(output, f"{world}-{rank}.json").write_text(json.dumps(found))
        dist.barrier()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(encoder, worlds, output):
    torch.set_num_threads(1)
    deepspeed_internals.before_process_group()
    for world, cases in json.loads(worlds):
        ranks = []
        for rank in range(world):
            ranks.append(os.fork())
            if not ranks[-1]:
                rank_of_a_world(rank, world, encoder, cases, output)
        codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
        assert not any(codes), codes


if __name__ == "__main__":
    main(*sys.argv[1:])

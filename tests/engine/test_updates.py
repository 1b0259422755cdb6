"""One update of ordinary training, and what the processes that share it may not change."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from metatlp.data.encoded import EncodedSplit
from metatlp.data.schedule import Member, PartLoader, Schedule, shuffled_plan
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.build import head_specs
from metatlp.engine.parameters.passes import backward
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.placement import start as start_process
from metatlp.engine.supervised.data_parallel import DataParallel
from metatlp.errors import DivergedError
from metatlp.grid import TLP
from metatlp.model.arena import Arena
from metatlp.model.multitask import build_model, load_tokenizer
from metatlp.tasks import TASKS, Limits, Padding

LIMITS = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)
TLPS = [TLP(task, "en") for task in TASKS]


@pytest.fixture(scope="module")
def placement(tmp_path_factory):
    return start_process("none", str(tmp_path_factory.mktemp("process")))


@pytest.fixture(scope="module")
def schedule(grid_dir, encoder_dir):
    """Batches of 7 rows of every task, which no number of parts here divides."""
    tokenizer, source = load_tokenizer(str(encoder_dir)), XtremeFolder(grid_dir)
    members = []
    for tlp in TLPS:
        encoded = TASKS[tlp.task].encode(source.read(tlp, "train").examples, tokenizer, LIMITS)
        members.append(Member.of({tlp: EncodedSplit(encoded.columns, {})}, 7, seed=4))
    plan = shuffled_plan([member.stream.batches_per_epoch for member in members], 40, seed=4)
    return Schedule(members, plan)


def parallel(encoder_dir, placement, num_parts, exact=True, dropout=0.0, clip=1.0):
    model = build_model(str(encoder_dir), head_specs(TASKS), seed=1, dropout=dropout)
    arena = Arena(model.named_uses())
    parameters = ReplicatedParameters(
        model,
        arena,
        InnerConfig(grad_clip=clip, weight_decay=0.01),
        placement.accelerator.autocast,
        num_parts=num_parts,
        exact=exact,
    )
    return DataParallel(parameters, 9, num_parts, placement)


def rms_ratio(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("task", TASKS)
def test_the_gradient_is_that_of_the_whole_batch(task, num_parts, encoder_dir, placement, schedule):
    """Against float64 on the batch as one piece."""
    update = next(
        i
        for i in range(len(schedule))
        if schedule.member(i).task == task and len(schedule.rows(i)) == 7
    )
    own = parallel(encoder_dir, placement, num_parts, clip=0.0)
    oracle = copy.deepcopy(own.parameters.model).double()
    whole = PartLoader(schedule, Padding(0, 0), 1, [0])
    (batch,) = whole.take(update)
    oracle.zero_grad()
    loss = backward(oracle, task, batch.tensors, placement.accelerator.autocast)
    with PartLoader(schedule, Padding(0, 0), num_parts, range(num_parts)) as loader:
        parts = loader.take(update)
        assert len(parts) == num_parts
        report, stopped = own.step(task, parts, 0.0, update, False)
    whole.close()
    assert not stopped and sum(value for _, value in report.losses()) == pytest.approx(loss.item())
    views = own.parameters.arena.views(own.parameters.arena.grad)
    found, expected = [], []
    for name, (parameter, tasks) in oracle.named_uses().items():
        if task in tasks:
            found.append(views[name].flatten())
            expected.append(parameter.grad.flatten())
        else:
            assert not views[name].any()
    assert rms_ratio(torch.cat(found), torch.cat(expected)) < 1e-5


def test_steps_are_those_of_torch(encoder_dir, placement, schedule):
    """Ten updates of all tasks against torch.optim.AdamW and clip_grad_norm_, one part."""
    own = parallel(encoder_dir, placement, 1, clip=0.5)
    model = build_model(str(encoder_dir), head_specs(TASKS), seed=1, dropout=0.0)
    optimizers = {
        task: torch.optim.AdamW(m.parameters(), lr=0.0, weight_decay=0.01, fused=True)
        for task, m in model.models.items()
    }
    clipped = []
    with PartLoader(schedule, Padding(0, 0), 1, [0]) as loader:
        # One task, for what its heads share with the others has moments of its own here.
        updates = [i for i in range(len(schedule)) if schedule.member(i).task == "nli"]
        for i, lr in zip(updates, np.linspace(1e-3, 1e-4, len(updates)), strict=True):
            parts = loader.take(i)
            report, _ = own.step("nli", parts, float(lr), i, False)
            clipped.append(report.clipped.item())
            optimizer = optimizers["nli"]
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = float(lr)
            backward(model, "nli", parts[0].tensors, placement.accelerator.autocast)
            torch.nn.utils.clip_grad_norm_(model.models["nli"].parameters(), 0.5)
            optimizer.step()
    assert any(clipped) and len(updates) >= 5
    theta_0 = parallel(encoder_dir, placement, 1).parameters.arena
    views, before = (
        own.parameters.arena.views(own.parameters.arena.live),
        theta_0.views(theta_0.live),
    )
    names = [name for name, (_, tasks) in model.named_uses().items() if "nli" in tasks]
    # The bias of an attention key has no gradient in theory: AdamW makes steps of its noise.
    names = [name for name in names if not name.endswith("key.bias")]
    found = torch.cat([(views[name] - before[name]).flatten() for name in names])
    expected = torch.cat([(model.named_uses()[n][0] - before[n]).flatten().double() for n in names])
    assert rms_ratio(found, expected) < 1e-4  # ten AdamW steps amplify the last bits


def test_dropout_masks_belong_to_the_parts(encoder_dir, placement, schedule):
    """The same again for the same update; others in another update, and in another part."""
    own = parallel(encoder_dir, placement, 3, dropout=0.3)
    update = next(i for i in range(len(schedule)) if schedule.member(i).task == "pa")
    with PartLoader(schedule, Padding(0, 0), 3, [0, 1, 2]) as loader:
        parts = loader.take(update)

        def losses(number):
            return [value for _, value in own.step("pa", parts, 0.0, number, False)[0].losses()]

        assert losses(4) == losses(4) and losses(4) != losses(5)
        first = own.step("pa", [parts[0]], 0.0, 4, False)[0].losses()
        assert first == [(0, losses(4)[0])]


@pytest.mark.parametrize("num_parts", [1, 2])
def test_what_is_not_finite_stops_before_the_parameters_move(
    num_parts, encoder_dir, placement, schedule
):
    own = parallel(encoder_dir, placement, num_parts)
    head = next(
        p for n, (p, _) in own.parameters.model.named_uses().items() if n.startswith("head.pos")
    )
    head.data.view(-1)[0] = float("nan")
    before = own.parameters.arena.live.clone()
    update = next(i for i in range(len(schedule)) if schedule.member(i).task == "pos")
    with (
        PartLoader(schedule, Padding(0, 0), num_parts, range(num_parts)) as loader,
        pytest.raises(DivergedError, match=f"update {update + 1}: the loss or its gradient"),
    ):
        own.step("pos", loader.take(update), 1e-3, update, False)
    assert torch.equal(own.parameters.arena.live.nan_to_num(7.0), before.nan_to_num(7.0))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, fork_world, supervised_flags):
    """Runs of train_mtl.py on 1, 2 and 3 processes, of finetune.py on 1 and 2; dropout on."""
    folder = tmp_path_factory.mktemp("worlds")
    shared = [*supervised_flags, "--batch-parts", "3", "--reduce", "exact", "--dropout", "0.1"]
    for world in (1, 2, 3):
        mtl = ["--max-updates", "12", "--lr", "1e-3", "--select", "best", "--eval-every", "4"]
        fork_world([*shared, *mtl, "--output-dir", str(folder / f"mtl{world}")], world,
                   "train_mtl.py")  # fmt: skip
    for world in (1, 2):
        tune = ["--tlp", "pa_en", "--lr", "1e-3,1e-4", "--updates", "6", "--eval-every", "2"]
        fork_world([*shared, *tune, "--output-dir", str(folder / f"tune{world}")], world,
                   "finetune.py")  # fmt: skip
    return folder


def records(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("world", [2, 3])
def test_the_number_of_processes_changes_no_bit(worlds, world):
    one, other = worlds / "mtl1", worlds / f"mtl{world}"
    for kind in ("theta", "exp_avg", "exp_avg_sq", "best", "inner_steps"):
        a, b = (load_file(f / f"checkpoints/step_000012/{kind}.safetensors") for f in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), kind
    assert records(one / "metrics.jsonl") == records(other / "metrics.jsonl")
    for task in ("pos", "qa"):
        a, b = (f / "models" / task / "model.safetensors" for f in (one, other))
        assert a.read_bytes() == b.read_bytes()


def test_finetuning_on_two_processes_changes_no_bit(worlds):
    one, other = worlds / "tune1", worlds / "tune2"
    assert (one / "results.csv").read_text() == (other / "results.csv").read_text()
    model = "pa_en/seed_0/models/pa/model.safetensors"
    assert (one / model).read_bytes() == (other / model).read_bytes()
    (result,) = json.loads((one / "results.json").read_text())["results"]
    assert [trial["lr"] for trial in result["trials"]] == [1e-3, 1e-4]
    for trial in result["trials"]:
        metrics = records(one / f"pa_en/seed_0/lr_{trial['lr']:g}/metrics.jsonl")
        dev = {line["step"]: line["dev"]["pa_en"]["accuracy"] for line in metrics if "dev" in line}
        assert list(dev) == [2, 4, 6] and max(dev.values()) == trial["dev"]["accuracy"]
        assert trial["curve"] == [[step, score] for step, score in dev.items()]
    best = max(result["trials"], key=lambda trial: trial["dev"]["accuracy"])
    assert result["lr"] == best["lr"] and result["scores"]["dev"] == best["dev"]
    assert result["scores"]["test"]["examples"] == 6


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("exact", [True, False])
def test_a_gradient_that_is_not_finite_stops_before_the_parameters_move(
    exact, num_parts, clip, encoder_dir, placement, schedule
):
    own = parallel(encoder_dir, placement, num_parts, exact=exact, clip=clip)
    head = next(
        p for n, (p, _) in own.parameters.model.named_uses().items() if n.startswith("head.pos")
    )
    head.register_hook(lambda gradient: gradient * float("inf"))
    before = own.parameters.arena.live.clone()
    update = next(i for i in range(len(schedule)) if schedule.member(i).task == "pos")
    with (
        PartLoader(schedule, Padding(0, 0), num_parts, range(num_parts)) as loader,
        pytest.raises(DivergedError, match=f"update {update + 1}: "),
    ):
        own.step("pos", loader.take(update), 1e-3, update, False)
    assert torch.equal(own.parameters.arena.live, before)

"""Every placement of the parameters is one algorithm: four processes as 2 x 2 beside one process.

Real processes over gloo, dropout on, heads of different tasks in different TLP groups. What one
placement saved, every other one takes up.
"""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from metatlp.data.parts import Part
from metatlp.engine import checkpoint
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.build import head_specs
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.model.arena import Arena
from metatlp.model.multitask import build_model
from metatlp.tasks.task import model_inputs

# Some forty runs, before the first of these tests.
pytestmark = pytest.mark.timeout(900)

STEPS = 4
# Of a checkpoint that another placement goes on with; from `one` a step earlier, so that rewards
# are measured on the way.
SAVED, SAVED_BY_ONE = 3, 2

PLACEMENTS = ("replicated", "zero1", "zero2", "zero3", "fsdp2")
# At the paper's rate: at a higher one AdamW makes full steps of the noise of gradients that are
# zero in theory (an attention key's bias).
SHARED = [
    *("--batch-parts", "2", "--inner-lr", "3e-5", "--max-meta-steps", str(STEPS), "--keep", "9"),
    # A TLP of every kind of head; three slots for two TLP groups.
    *("--selection", "qa_es,nli_fr,pos_en,ner_en", "--meta-batch-size", "3"),
    *("--save-every", "1", "--eval-examples", "1"),
]
LEARNS = [
    *("--sampler", "multidds", "--dev-tlps", "qa_en,pos_en", "--dds-every", "2"),
    *("--dds-lr", "0.01", "--reward-dropout", "on", "--reward", "mean-of-cos"),
]
# name -> flags besides.
RUNS = {
    "average": ["--inner-state", "average", *LEARNS],
    "reset": [
        *("--sampler", "temp", "--tau", "5", "--inner-state", "reset", "--outer-momentum", "0.5"),
        *("--head-average", "task", "--idle-heads", "momentum"),
    ],
}
KINDS = {"average": ("theta", "exp_avg", "exp_avg_sq"), "reset": ("theta", "velocity")}
# In theory a shift of all logits changes no loss of QA and no attention, so these have no gradient,
# or none in one direction. A slot's fresh AdamW makes full steps of the noise, which in theta are
# small beside the parameters, but not in what they moved by.
NOISE = ("qa_outputs.bias", "layer.1.output.LayerNorm.bias", "key.bias")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fork_world, grid_flags, launcher_sets):
    """Of all runs: RUN-PLACEMENT, and those that others went on with, average-WRITER-READER."""
    folder = tmp_path_factory.mktemp("placements")

    def run(name: str, output: str, *more: str) -> list[str]:
        flags = [*grid_flags, *SHARED, *RUNS[name], *more, "--output-dir", str(folder / output)]
        return flags

    def start(runs: list, world: int) -> None:
        (folder / f"{world}.json").write_text(json.dumps(runs))
        several = "tests/engine/workers/several_runs.py"
        fork_world([str(folder / f"{world}.json")], world, several, seconds=600.0)

    start([run(name, f"{name}-one") for name in RUNS], 1)
    two = ("--ranks-per-tlp", "2")
    runs = [
        {"environment": launcher_sets[p], "arguments": run(name, f"{name}-{p}", *two)}
        for name in RUNS
        for p in PLACEMENTS
    ]
    start(runs, 4)
    runs = []
    for reader, environment in launcher_sets.items():
        for writer in ["one", *PLACEMENTS]:
            if writer != reader:
                step = SAVED_BY_ONE if writer == "one" else SAVED
                there = folder / f"average-{writer}" / "checkpoints" / f"step_{step:06d}"
                flags = run("average", f"average-{writer}-{reader}", *two, "--resume", str(there))
                runs.append({"environment": environment, "arguments": flags})
    # Two processes, so that the number of TLP groups changes too.
    start(runs, 2)
    return folder


def saved(folder, name: str, step: int = STEPS) -> checkpoint.Checkpoint:
    return checkpoint.load(folder / name / "checkpoints" / f"step_{step:06d}")


def difference(one, other, kind: str, but: tuple[str, ...] = ()) -> float:
    """RMS of the difference over RMS, of all parameters together but those ending so."""
    a, b = one.tensors[kind], other.tensors[kind]
    assert list(sorted(a)) == list(sorted(b))
    names = [name for name in sorted(a) if not (but and name.endswith(but))]
    first, second = (torch.cat([t[n].flatten().double() for n in names]) for t in (a, b))
    return ((first - second).norm() / first.norm()).item()


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", RUNS)
def test_all_placements_come_to_what_one_process_does(folder, name, placement):
    one, other = saved(folder, f"{name}-one"), saved(folder, f"{name}-{placement}")
    for kind in KINDS[name]:
        but = NOISE if kind == "velocity" else ()
        assert difference(one, other, kind, but) < 1e-5, kind
    steps = [c.tensors.get("inner_steps", {}).get("steps") for c in (one, other)]
    assert (steps[0] is None) == (name == "reset")
    assert steps[0] is None or torch.equal(*steps)


def records(folder, name: str) -> list[dict]:
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_losses_rewards_and_scores_are_those_of_one_process(folder, placement):
    one, other = (records(folder, f"average-{p}") for p in ("one", placement))
    assert [record["step"] for record in one] == [record["step"] for record in other]
    for a, b in zip(one, other, strict=True):
        for key in ("rewards", "psi", "p", "norms", "dev_norms"):
            if a.get(key):
                assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-5), key
        if "loss" in a:
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
            assert (b["tokens"], len(b["slots"])) == (a["tokens"], len(a["slots"]))
        if "passes" in a:
            assert b["passes"] == a["passes"]
        assert a.get("dev") == b.get("dev")


def test_groups_train_different_tasks_at_once(folder):
    slots = [record["slots"] for record in records(folder, "average-zero3") if "slots" in record]
    tasks = [
        {rank: {s["tlp"].split("_")[0] for s in step if s["rank"] == rank} for rank in (0, 2)}
        for step in slots
    ]
    assert all(sum(len(t) for t in step.values()) for step in tasks)
    assert any(step[0] != step[2] for step in tasks)


@pytest.mark.parametrize("reader", PLACEMENTS)
@pytest.mark.parametrize("writer", ["one", *PLACEMENTS])
def test_every_placement_goes_on_with_what_another_saved(folder, writer, reader):
    if writer == reader:
        return
    whole, moved = saved(folder, "average-one"), saved(folder, f"average-{writer}-{reader}")
    for kind in KINDS["average"]:
        assert difference(whole, moved, kind) < 1e-5, kind


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_going_back_to_the_start_is_exact_where_all_is_replicated(encoder_dir, precision):
    """Of ZeRO and FSDP2: test_zero.py and test_fsdp.py."""
    model = build_model(str(encoder_dir), head_specs(["pos"]), seed=1, dropout=0.1)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=precision == "bfloat16")
    parameters = ReplicatedParameters(model, Arena(model.named_uses()), InnerConfig(), autocast)
    ids = torch.randint(5, 40, (4, 9), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids % 17}

    def logits():
        model.eval()
        with torch.no_grad(), autocast():
            return model("pos", model_inputs(batch)).logits

    start, before = parameters.live.clone(), logits()
    parameters.gradient("pos", [Part(0, 1.0, batch)], lambda part: part)
    parameters.step("pos", 1e-2)
    assert not torch.equal(logits(), before)
    parameters.live.copy_(start)
    parameters.publish()
    assert torch.equal(logits(), before)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_checkpoints_hold_whole_tensors_and_models_are_exported(folder, placement):
    names = {path.name for path in saved(folder, f"average-{placement}").path.iterdir()}
    assert ("theta.index.json" in names) == (placement != "replicated")
    models = folder / f"average-{placement}" / "models"
    assert {path.name for path in models.iterdir()} == {"qa", "nli", "pos", "ner"}

"""What test_placements.py leaves out: rewards, precisions, idle groups and refusals in placements.

Two meta steps each, of one process and of real processes over gloo.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from metatlp.engine import checkpoint

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]
STEPS = 2
# As in test_placements.py, at the paper's rate.
SHARED = [
    *("--selection", "qa_es,nli_fr,pos_en", "--batch-parts", "2", "--inner-lr", "3e-5"),
    *("--max-meta-steps", str(STEPS), "--eval-examples", "1"),
]
LEARNS = ["--sampler", "multidds", "--dev-tlps", "qa_en,pos_en", "--dds-every", "1"]
DELTA = [
    *(*LEARNS, "--reward", "adam-delta", "--reward-batches", "1", "--meta-batch-size", "1"),
    *("--save-every", "1"),
]
DRAWS = ["--sampler", "temp", "--tau", "5", "--meta-batch-size", "3"]
BF16 = {"ACCELERATE_MIXED_PRECISION": "bf16"}
# name -> flags, and what the launcher sets besides.
RUNS = {
    "delta": (DELTA, {}),
    "cos": ([*LEARNS, "--reward", "cos-of-mean", "--meta-batch-size", "3"], {}),
    "exact": ([*DRAWS, "--reduce", "exact"], {}),
    "wire": ([*DRAWS, "--reduce", "bf16"], {}),
    "half": (DELTA, BF16),
}
PLACEMENTS = ("replicated", "zero1", "zero2", "zero3", "fsdp2")
# Processes, two per TLP group -> run -> placements. With one slot, one of two groups is idle.
WORLDS = {
    4: {
        "delta": PLACEMENTS,
        "exact": ("zero2", "zero3", "fsdp2"),
        "wire": ("replicated", "zero2", "zero3", "fsdp2"),
        "half": ("replicated", "zero3"),
    },
    2: {
        "cos": ("zero3", "fsdp2", "zero2 offload", "zero3 offload"),
        "exact": ("zero2", "zero3", "fsdp2"),
        "half": ("zero1", "zero2", "fsdp2"),
    },
}
ALL = [(world, run, p) for world, runs in WORLDS.items() for run in runs for p in runs[run]]


def of(*runs: str) -> pytest.MarkDecorator:
    """Every world and placement in which one of them was made."""
    cases = [case for case in ALL if case[1] in runs]
    ids = ["-".join(map(str, case)).replace(" ", "_") for case in cases]
    return pytest.mark.parametrize(("world", "run", "placement"), cases, ids=ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fork_world, grid_flags, launcher_sets):
    """Of all runs: RUN-one, RUN-WORLD-PLACEMENT."""
    folder = tmp_path_factory.mktemp("combinations")
    sets = dict(launcher_sets)
    for stage, part in (("2", "OPTIMIZER"), ("3", "OPTIMIZER"), ("3", "PARAM")):
        name = f"zero{stage} offload"
        more = {f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE": "cpu"}
        sets[name] = sets.get(name, launcher_sets[f"zero{stage}"]) | more

    def order(run: str, output: str, environment: dict[str, str], *more: str) -> dict:
        flags, precision = RUNS[run]
        output = str(folder / output)
        arguments = [*grid_flags, *SHARED, *flags, *more, "--output-dir", output]
        return {"arguments": arguments, "environment": environment | precision}

    def start(orders: list[dict], world: int) -> None:
        (folder / f"{world}.json").write_text(json.dumps(orders))
        fork_world([str(folder / f"{world}.json")], world, "tests/engine/workers/several_runs.py")

    start([order(run, f"{run}-one", {}) for run in RUNS], 1)
    for world, runs in WORLDS.items():
        # What recomputed activations change is memory.
        more = {"cos": ["--gradient-checkpointing"]}
        start(
            [
                order(
                    *(run, f"{run}-{world}-{placement}", sets[placement], "--ranks-per-tlp", "2"),
                    *more.get(run, []),
                )
                for run in runs
                for placement in runs[run]
            ],
            world,
        )
    return folder


def saved(folder, name: str) -> checkpoint.Checkpoint:
    return checkpoint.load(folder / name / "checkpoints" / f"step_{STEPS:06d}")


def records(folder, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").open()]


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensors[name].flatten().double() for name in sorted(tensors)])


def difference(one, other, kind: str) -> float:
    """RMS of the difference over RMS, of all parameters together."""
    a, b = flat(one.tensors[kind]), flat(other.tensors[kind])
    return ((a - b).norm() / a.norm()).item()


def rewards(folder, name: str) -> dict[str, float]:
    (found,) = [record["rewards"] for record in records(folder, name) if "rewards" in record]
    return found


@of("delta", "cos", "exact")
def test_in_float32_all_come_to_what_one_process_does(folder, world, run, placement):
    """Measured: parameters 1e-7 at most, moments 2e-7, rewards 8e-7."""
    one, other = saved(folder, f"{run}-one"), saved(folder, f"{run}-{world}-{placement}")
    for kind in ("theta", "exp_avg", "exp_avg_sq"):
        assert difference(one, other, kind) < 1e-5, kind
    if run != "exact":
        expected = pytest.approx(rewards(folder, f"{run}-one"), abs=1e-5)
        assert rewards(folder, f"{run}-{world}-{placement}") == expected
    check_losses(folder, f"{run}-one", f"{run}-{world}-{placement}", 1e-5)


@of("half")
def test_in_bf16_all_are_near_what_one_process_does(folder, world, run, placement):
    """Replicated, weights are float32 and autocast rounds them; DeepSpeed's and FSDP2's are bf16.

    Measured: parameters 2e-5, moments 9e-3, rewards 4e-4, losses 8e-5. Masters that were rounded
    would be off by 1e-3.
    """
    one, other = saved(folder, "half-one"), saved(folder, f"half-{world}-{placement}")
    assert other.state["mixed_precision"] == "bf16"
    assert difference(saved(folder, "delta-one"), other, "exp_avg") > 1e-3, "was it in bf16?"
    assert difference(one, other, "theta") < 1e-4
    for kind in ("exp_avg", "exp_avg_sq"):
        assert difference(one, other, kind) < 2e-2, kind
    found = rewards(folder, f"half-{world}-{placement}")
    assert found == pytest.approx(rewards(folder, "half-one"), abs=2e-3)
    check_losses(folder, "half-one", f"half-{world}-{placement}", 1e-3)


@of("wire")
def test_bf16_on_the_wire_rounds_what_is_averaged(folder, world, run, placement):
    """To 2^-9 of an element, on both sides of the sum. One process sends and rounds nothing.

    Measured: 2e-3 of the moments; of the parameters, which move little, 8e-7.
    """
    one, other = saved(folder, "wire-one"), saved(folder, f"wire-{world}-{placement}")
    assert difference(one, other, "theta") < 1e-5
    for kind in ("exp_avg", "exp_avg_sq"):
        assert 2**-11 < difference(one, other, kind) < 2**-8, kind


@pytest.mark.parametrize("placement", WORLDS[2]["exact"])
def test_exact_has_the_same_bits_on_any_number_of_groups(folder, placement):
    """What --reduce exact promises where DeepSpeed or FSDP2 sums gradients in a group."""
    one, two = (saved(folder, f"exact-{world}-{placement}") for world in (2, 4))
    for kind in ("theta", "exp_avg", "exp_avg_sq"):
        assert torch.equal(flat(one.tensors[kind]), flat(two.tensors[kind])), kind


@of("delta", "half")
def test_one_slot_leaves_a_group_idle(folder, world, run, placement):
    found = [r for r in records(folder, f"{run}-{world}-{placement}") if "slots" in r]
    assert [len(record["slots"]) for record in found] == [1] * STEPS


def check_losses(folder, one: str, other: str, within: float) -> None:
    first, second = (
        [record["loss"] for record in records(folder, name) if "loss" in record]
        for name in (one, other)
    )
    assert len(first) == STEPS and second == pytest.approx(first, rel=within)


REFUSALS = {
    "a damaged shard": "--resume: not all processes find the same checkpoints in ",
    "other flags": "process 1 differs from process 0: --seed 1, not 0; ",
}


@pytest.mark.parametrize("placement", ["replicated", "zero3", "fsdp2"])
@pytest.mark.parametrize("reason", REFUSALS)
def test_what_one_rank_of_a_group_refuses_ends_all(
    folder, tmp_path, fork_world, grid_flags, launcher_sets, placement, reason
):
    """Each rank with an output folder of its own, as on machines that share none."""
    for rank in range(2):
        shutil.copytree(folder / f"delta-4-{placement}", tmp_path / f"run{rank}")
    if reason == "a damaged shard":
        path = sorted((tmp_path / "run1/checkpoints/step_000002").glob("exp_avg*.safetensors"))[-1]
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    second = ["--seed", "1"] if reason == "other flags" else []
    script = tmp_path / "own_folder.py"
    script.write_text(
        "import os, runpy, sys\n"
        f"os.environ.update({launcher_sets[placement]!r})\n"
        "sys.argv[-1] += os.environ['RANK']\n"
        f"sys.argv += {second!r} if os.environ['RANK'] == '1' else []\n"
        f"runpy.run_path({str(ROOT / 'train_meta.py')!r}, run_name='__main__')\n"
    )
    flags = [*grid_flags, *SHARED, *DELTA, "--ranks-per-tlp", "2", "--resume", "auto"]
    ranks = fork_world(
        [*flags, "--output-dir", str(tmp_path / "run")], 2, script, codes=[2], seconds=60.0
    )
    errors = "".join(rank.err for rank in ranks)
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("train_meta.py: error: ")]
    assert REFUSALS[reason] in line

"""On a CUDA device: a run repeats itself bit for bit, and agrees with the CPU."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture
def trained(launch, grid_flags, tmp_path, monkeypatch):
    """theta, and the rewards of the update before the last step."""

    def run(name: str, devices: str | None = None) -> tuple[dict[str, torch.Tensor], dict]:
        if devices is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        flags = [*grid_flags, "--max-meta-steps", "3", "--inner-lr", "3e-5", "--dropout", "0"]
        flags += ["--sampler", "multidds", "--dev-tlps", "lang:en", "--dds-every", "2"]
        done = launch("train_meta.py", [*flags, "--output-dir", str(tmp_path / name)])
        assert done.returncode == 0, done.stderr[-4000:]
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        (update,) = [record for record in map(json.loads, lines) if "rewards" in record]
        theta = tmp_path / name / "checkpoints" / "step_000003" / "theta.safetensors"
        return load_file(theta), update["rewards"]

    return run


def test_a_run_repeats_itself_bit_for_bit(trained):
    (first, rewards), (again, others) = trained("first"), trained("again")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert rewards == others


def test_a_gpu_and_the_cpu_agree(trained):
    on_gpu, rewards = trained("gpu", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    on_cpu, others = trained("cpu", "")
    assert rewards == pytest.approx(others, abs=1e-3)
    error = sum((on_gpu[n] - on_cpu[n]).double().square().sum() for n in on_cpu)
    norm = sum(on_cpu[n].double().square().sum() for n in on_cpu)
    # Other kernels, so other rounding, which AdamW turns into steps where a gradient is zero in
    # theory: 18 steps of at most 3e-5 in a few biases.
    assert (error / norm).sqrt() < 1e-4


def test_ordinary_training_repeats_itself_and_is_evaluated(
    launch, supervised_flags, grid_dir, tmp_path
):
    """train_mtl.py twice, finetune.py from it, and both scored."""
    trained = []
    for name in ("first", "again"):
        flags = ["--max-updates", "6", "--lr", "1e-3", "--batch-parts", "2", "--reduce", "exact"]
        flags += ["--output-dir", str(tmp_path / name), "--select", "best"]
        done = launch("train_mtl.py", [*supervised_flags, *flags])
        assert done.returncode == 0, done.stderr[-4000:]
        trained.append(load_file(tmp_path / name / "models" / "pos" / "model.safetensors"))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    start = supervised_flags.index("--model")
    flags = [*supervised_flags[:start], *supervised_flags[start + 2 :]]
    flags += ["--init-from", str(tmp_path / "first"), "--tlp", "qa_en", "--updates", "4"]
    done = launch("finetune.py", [*flags, "--lr", "1e-3", "--output-dir", str(tmp_path / "tuned")])
    assert done.returncode == 0, done.stderr[-4000:]
    models = f"mtl={tmp_path / 'first'},tuned={tmp_path / 'tuned/qa_en/seed_0'}"
    flags = ["--data-dir", str(grid_dir), "--model", models, "--languages", "all"]
    done = launch("evaluate_zeroshot.py", [*flags, "--output-dir", str(tmp_path / "scores")])
    assert done.returncode == 0, done.stderr[-4000:]
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())["scores"]
    assert len(scores["mtl"]["test"]) == 10 and len(scores["tuned"]["test"]) == 2

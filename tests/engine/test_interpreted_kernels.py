"""A run whose kernels Triton interprets ends at the same bits as one in plain torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


def test_exact_averages_have_the_same_bits(fork, launch, grid_flags, tmp_path, monkeypatch):
    """And the rewards after them are the same but for the order of sums.

    Betas 1 and 1/2 and a momentum of 7/8: the interpreter knows float32 scalars only.
    """

    flags = [*grid_flags, "--reduce", "exact", "--max-meta-steps", "2"]
    flags += ["--sampler", "multidds", "--dev-tlps", "pos_en", "--dds-every", "1"]
    flags += ["--reward-batches", "1", "--outer-momentum", "0.875", "--outer-nesterov"]

    def theta(name: str, kernels: str) -> dict[str, torch.Tensor]:
        assert who_ran_them(tmp_path / name).startswith(kernels)
        return load_file(tmp_path / name / "checkpoints" / "step_000002" / "theta.safetensors")

    one = fork([*flags, "--output-dir", str(tmp_path / "plain")], CUDA_VISIBLE_DEVICES="")
    assert one.wait() == 0, one.err[-4000:]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    # Triton reads this when it is imported.
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    other = launch("train_meta.py", [*flags, "--output-dir", str(tmp_path / "triton")])
    assert other.returncode == 0, other.stderr[-4000:]
    plain, interpreted = theta("plain", "plain torch"), theta("triton", "Triton 3.")
    assert plain.keys() == interpreted.keys()
    assert all(torch.equal(plain[name], interpreted[name]) for name in plain)
    expected = rewards(tmp_path / "plain")
    assert len(expected) == 10 and rewards(tmp_path / "triton") == pytest.approx(expected, abs=1e-6)


def rewards(output: Path) -> dict[str, float]:
    """Of the only update."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    (update,) = [record for record in map(json.loads, lines) if "rewards" in record]
    return update["rewards"]


def who_ran_them(output: Path) -> str:
    return json.loads((output / "args.json").read_text())["placement"]["kernels"]

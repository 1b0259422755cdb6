"""A run whose kernels Triton interprets ends at the same bits as one in plain torch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def test_exact_averages_have_the_same_bits(launch, meta_flags, tmp_path, monkeypatch):
    """Betas 1 and 1/2 and a momentum of 7/8: the interpreter knows float32 scalars only."""

    def theta(name: str) -> dict[str, torch.Tensor]:
        output = tmp_path / name
        flags = [*meta_flags, "--reduce", "exact", "--max-meta-steps", "2"]
        flags += ["--outer-momentum", "0.875", "--outer-nesterov", "--output-dir", str(output)]
        done = launch("train_meta.py", flags)
        assert done.returncode == 0, done.stderr[-4000:]
        assert who_ran_them(output).startswith("Triton 3." if name == "triton" else "plain torch")
        return load_file(output / "checkpoints" / "step_000002" / "theta.safetensors")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    plain = theta("plain")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    interpreted = theta("triton")
    assert plain.keys() == interpreted.keys()
    assert all(torch.equal(plain[name], interpreted[name]) for name in plain)


def who_ran_them(output: Path) -> str:
    return json.loads((output / "args.json").read_text())["placement"]["kernels"]

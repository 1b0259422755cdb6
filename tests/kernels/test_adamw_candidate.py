"""The AdamW steps that bench_kernels times beside torch's, against torch.optim.AdamW.

The Triton kernel runs where Triton does: on a CUDA device, and under TRITON_INTERPRET=1.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
INTERPRETED = "TRITON_INTERPRET" in os.environ
ROLES = ("live", "grad", "exp_avg", "exp_avg_sq")
# As large as the values, so that a wrong step shows.
LR, BETAS, EPS, WEIGHT_DECAY = 0.1, (0.9, 0.999), 1e-8, 0.01
DIVISOR, STEPS, AROUND = 3.0, 3, 7.0
SAME, UNLIKE = (7, 7, 7, 7), (1, 0, 7, 16)


@pytest.fixture(params=["adamw_triton.adamw_", "adamw.one_pass_"])
def step_(request, monkeypatch, device):
    """A candidate, in plain torch not compiled."""
    triton = request.param.startswith("adamw_triton")
    if triton and device.type == "cpu" and not INTERPRETED:
        pytest.skip("needs a CUDA device or TRITON_INTERPRET=1")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module, name = request.param.split(".")
    function = getattr(importlib.import_module(f"kernel_ops.{module}"), name)
    numbers = {"lr": LR, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS}
    numbers |= {"weight_decay": WEIGHT_DECAY} | ({} if triton else {"compiled": False})
    return lambda *tensors: function(*tensors, **numbers)


def gradients(length: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(length)
    return [torch.randn(length, generator=random) for _ in range(STEPS)]


def theirs(length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """torch's AdamW from zero: the moments after STEPS, and the parameters."""
    live = torch.nn.Parameter(torch.zeros(length, dtype=dtype, device=device))
    optimizer = torch.optim.AdamW(
        [live], lr=LR, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    for grad in gradients(length):
        live.grad = grad.to(device, dtype) / DIVISOR
        optimizer.step()
    return {"live": live.data, **optimizer.state[live]}


def close(got: Tensor, expected: Tensor) -> bool:
    error = (got.double() - expected.double()).norm()
    return bool(error <= 1e-6 * expected.double().norm())


@pytest.mark.parametrize("length", [1, 63, 4097, 500_003 if INTERPRETED else 1_000_003])
@pytest.mark.parametrize("offsets", [SAME, UNLIKE], ids=["same", "unlike"])
def test_steps_as_torch_does(step_, offsets, length, device):
    buffers = {role: torch.full((length + 32,), AROUND, device=device) for role in ROLES}
    places = {role: slice(n, n + length) for role, n in zip(ROLES, offsets, strict=True)}
    views = {role: buffer[places[role]].zero_() for role, buffer in buffers.items()}
    step, divisor = torch.zeros((), device=device), torch.tensor(DIVISOR, device=device)
    for grad in gradients(length):
        views["grad"].copy_(grad)
        step_(*views.values(), step, divisor)
        assert torch.equal(views["grad"].cpu(), grad)
    assert step == STEPS
    for dtype in (torch.float64, torch.float32):
        expected = theirs(length, dtype, device)
        for role in ("live", "exp_avg", "exp_avg_sq"):
            assert close(views[role], expected[role]), (role, dtype)
    for role, buffer in buffers.items():
        buffer[places[role]] = AROUND
        assert bool((buffer == AROUND).all()), role

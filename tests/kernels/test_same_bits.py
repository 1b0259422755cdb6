"""What the kernels and plain torch must agree on to the bit.

Runs where there are both: on a CUDA device, and on the CPU under TRITON_INTERPRET=1.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from metatlp.kernels import cosine_terms, gram, implementation, reference

LENGTHS = (63, 4097, 300_001)
EXPONENT = 50


@pytest.fixture(autouse=True)
def _both(device):
    if device.type == "cpu" and "TRITON_INTERPRET" not in os.environ:
        pytest.skip("needs a CUDA device or TRITON_INTERPRET=1")
    assert implementation(device).startswith("Triton 3.")


def launch():
    """Imported only where it can be used: what TRITON_INTERPRET says is read on import."""
    from metatlp.kernels import launch

    return launch


def normal(length: int, device: torch.device, *scales: float) -> list[Tensor]:
    random = torch.Generator().manual_seed(length)
    return [scale * torch.randn(length, generator=random).to(device) for scale in scales]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("add", [True, False])
def test_fixed_point_totals(add, dtype, length, device):
    live, start = normal(length, device, 1.0, 1e-2)
    held = torch.arange(length, device=device) * 2**30
    totals = []
    for module in (reference, launch()):
        totals.append(held.clone())
        module.move_delta_(
            totals[-1], live.to(dtype, copy=True), start.clone(), 1 / 3, EXPONENT, None, add=add
        )
    assert torch.equal(*totals)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("exponent", [None, EXPONENT])
@pytest.mark.parametrize("outer", ["plain", "momentum", "nesterov"])
def test_apply(outer, exponent, length, device):
    """beta and momentum are float32 numbers: the interpreter knows no other."""
    start, live, total, velocity = normal(length, device, 1.0, 1.0, 1e-2, 1e-2)
    if exponent is not None:
        total = (total.double() * 2.0**exponent).long()
    ends = []
    for module in (reference, launch()):
        vectors = [vector.clone() for vector in (start, live, total, velocity)]
        u, momentum = (None, 0.0) if outer == "plain" else (vectors[3], 0.875)
        module.apply_delta_(
            *(*vectors[:3], 0.625, exponent, u, momentum, outer == "nesterov", None)
        )
        ends.append(vectors)
    for ours, theirs in zip(*ends, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reductions_repeat_themselves(dtype, device):
    rows = torch.stack(normal(300_001, device, 1.0, 2.0, 3.0)).to(dtype)
    for reduction in (lambda: cosine_terms(rows, rows[1]), lambda: gram(rows)):
        assert torch.equal(reduction(), reduction())

"""Correctness at the measured size, against float64.

Every vector repeats one random block, so that the truth of an elementwise operation is that of one
block, and every element of the result is compared with it. P: elements of a vector.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernel_ops.cases import COMPILED, EAGER, EXPONENT, FOREACH, PUBLISHED, Case, Vectors
from kernel_ops.models import Shapes

# Odd, so that no power of two is a multiple of it; small, so that what is compared is in a cache.
BLOCK = 100_003
# RMS(error) / RMS(truth). The usual ways do the same work, not with the same care: their products
# of bfloat16 vectors are bfloat16.
TOLERANCES = {torch.float32: 1e-6, torch.int64: 1e-6, torch.bfloat16: 5e-3}
REDUCTION_TOLERANCE = 1e-5
OTHERS_TOLERANCE = 1e-2
SIZES = {"start": 0.05, "total": 1e-3, "velocity": 1e-3, "exp_avg": 0.1, "exp_avg_sq": 0.1}


def build_vectors(case: Case, num_elements: int, device: torch.device) -> Vectors:
    """Unfilled: `rows` (n, P), others (P,)."""
    return {
        role: torch.empty(
            (case.rows, num_elements) if role == "rows" else num_elements,
            dtype=dtype,
            device=device,
        )
        for role, dtype in case.roles.items()
    }


def build_block(case: Case, num_elements: int, device: torch.device) -> Vectors:
    """What every vector repeats, in its own precision."""
    generator = torch.Generator().manual_seed(0)
    length = min(BLOCK, num_elements)
    block: Vectors = {}
    for role, dtype in case.roles.items():
        size = (case.rows, length) if role == "rows" else (length,)
        values = SIZES.get(role, 1.0) * torch.randn(size, generator=generator)
        if role == "live" and "start" in block:
            values = block["start"].cpu() + 0.01 * values
        if role == "exp_avg_sq":
            values.abs_()
        if role == "rows":
            values += 0.5 * values[0]  # tasks have something in common
        if dtype == torch.int64:
            values = values.double().mul_(2.0**EXPONENT).round_()
        block[role] = values.to(device, dtype)
    return block


def fill(vectors: Vectors, block: Vectors) -> None:
    for role, vector in vectors.items():
        for part in vector.split(block[role].shape[-1], dim=-1):
            part.copy_(block[role][..., : part.shape[-1]])


def errors(case: Case, way: str, vectors: Vectors, block: Vectors, shapes: Shapes) -> list[str]:
    """What is off in the result of one way; fills the vectors first."""
    fill(vectors, block)
    run = case.ways[way](vectors, shapes)
    result = run.call()
    run.settle()
    if result is not None:
        ratios = {"out": _reduction_error(case, result, vectors, block)}
        tolerances = {"out": REDUCTION_TOLERANCE}
    else:
        assert case.expected is not None
        truth = case.expected({role: _real(values) for role, values in block.items()})
        ratios = {role: _error(vectors[role], values) for role, values in truth.items()}
        tolerances = {role: TOLERANCES[case.roles[role]] for role in truth}
    if way in (EAGER, FOREACH, PUBLISHED, COMPILED):
        tolerances = dict.fromkeys(tolerances, OTHERS_TOLERANCE)
    # NaN compares false, so it is refused too.
    return [
        f"{case.name}, {way}: {role} off by {ratio:.1e} (RMS ratio; {tolerances[role]:g} allowed)"
        for role, ratio in ratios.items()
        if not ratio <= tolerances[role]
    ]


def _error(vector: Tensor, truth: Tensor) -> float:
    """RMS(vector - truth) / RMS(truth); where the truth is zero, 0 or infinite."""
    off = torch.zeros((), dtype=torch.float64, device=vector.device)
    for part in vector.split(len(truth)):
        off += (_real(part) - truth[: len(part)]).square().sum()
    whole, left = divmod(len(vector), len(truth))
    squares = truth.square()
    size = whole * squares.sum() + squares[:left].sum()
    # 0 / 0 is NaN, which would say that a vector of zeros is wrong.
    return float((off / size).sqrt()) if off else 0.0


def _reduction_error(case: Case, result: Tensor, vectors: Vectors, block: Vectors) -> float:
    """The largest error of a product a . b over |a| |b|."""
    rows = products(vectors["rows"], vectors.get("b"), block)
    n = case.rows
    norms = rows.diagonal().sqrt()
    scale = norms[:, None] * norms
    if "b" in vectors:
        truth = torch.stack([rows[:n, n], rows.diagonal()[:n], rows[n, n].expand(n)], dim=1)
        scale = torch.stack([scale[:n, n], truth[:, 1], truth[:, 2]], dim=1)
    else:
        truth = rows
    return ((result.double() - truth).abs() / scale).max().item()


def products(rows: Tensor, other: Tensor | None, block: Vectors) -> Tensor:
    """Inner products in float64 of all rows and the other vector, from those of the block."""
    values = block["rows"] if other is None else torch.cat([block["rows"], block["b"][None]])
    values = values.double()
    whole, left = divmod(rows.shape[1], values.shape[1])
    part = values[:, :left]
    return whole * (values @ values.T) + part @ part.T


def _real(values: Tensor) -> Tensor:
    real = values.double()
    return real * 2.0**-EXPONENT if values.dtype == torch.int64 else real

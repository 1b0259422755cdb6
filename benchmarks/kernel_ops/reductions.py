"""cosine_terms and gram beside the usual ways to do the same, and the sum they must give.

P: elements of a vector; n: rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kernel_ops.cases import (
    COMPILED,
    EAGER,
    FOREACH,
    OURS,
    PUBLISHED,
    Case,
    Run,
    Vectors,
    compile_way,
)
from kernel_ops.models import Shapes, split
from metatlp import kernels

ROWS = 8  # training gradients against one dev gradient, or tasks


def cosine_case(rows: int, dtype: torch.dtype) -> Case:
    """(a . b, |a|^2, |b|^2) of `rows` vectors against one."""
    return _case(
        op="cosine_terms",
        form="pair" if rows == 1 else f"{rows} rows",
        dtype=dtype,
        rows=rows,
        roles={"rows": dtype, "b": dtype},
        ours=lambda v: kernels.cosine_terms(v["rows"], v["b"]),
        formula=lambda v: eager_cosine(v["rows"], v["b"]),
        lists=lambda v, inner: _cosine_of_lists(v["rows"], v["b"], inner),
    )


def gram_case(rows: int, dtype: torch.dtype) -> Case:
    """Inner products of `rows` vectors with each other."""
    return _case(
        op="gram",
        form=f"{rows} rows",
        dtype=dtype,
        rows=rows,
        roles={"rows": dtype},
        ours=lambda v: kernels.gram(v["rows"]),
        formula=lambda v: eager_gram(v["rows"]),
        lists=lambda v, inner: _gram_of_lists(v["rows"], inner),
    )


def _case(
    op: str,
    form: str,
    dtype: torch.dtype,
    rows: int,
    roles: dict[str, torch.dtype],
    ours: Callable[[Vectors], Tensor],
    formula: Callable[[Vectors], Tensor],
    lists: Callable[..., Tensor],
) -> Case:
    def over_lists(inner: Callable[[list[Tensor], list[Tensor]], Tensor]) -> Callable[..., Run]:
        def way(v: Vectors, shapes: Shapes) -> Run:
            parts: dict[str, list[Any]] = {"rows": [split(row, shapes) for row in v["rows"]]}
            parts |= {"b": split(v["b"], shapes)} if "b" in v else {}
            return Run(lambda: lists(parts, inner))

        return way

    width = dtype.itemsize
    return Case(
        op=op,
        form=form,
        dtype=dtype,
        roles=roles,
        reads=tuple(roles),
        writes=(),
        ways={
            OURS: lambda v, shapes: Run(lambda: ours(v)),
            EAGER: lambda v, shapes: Run(lambda: formula(v)),
            FOREACH: over_lists(foreach_dot),
            PUBLISHED: over_lists(published_dot),
            COMPILED: lambda v, shapes: Run(lambda: compile_way(formula)(v)),
        },
        scratch={OURS: 0, EAGER: width, FOREACH: width, PUBLISHED: width, COMPILED: width},
        rows=rows,
    )


def eager_cosine(rows: Tensor, b: Tensor) -> Tensor:
    if len(rows) == 1:
        a = rows[0]
        return torch.stack([a @ b, a @ a, b @ b]).unsqueeze(0)
    squares = torch.linalg.vector_norm(rows, dim=1).square()
    return torch.stack([rows @ b, squares, (b @ b).expand(len(rows))], dim=1)


def eager_gram(rows: Tensor) -> Tensor:
    return rows @ rows.T


def foreach_dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    if a is b:
        return torch.stack(torch._foreach_norm(a)).float().square().sum()
    products = torch._foreach_mul(a, b)
    return torch.stack([product.sum(dtype=torch.float32) for product in products]).sum()


def published_dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    total = torch.zeros((), device=a[0].device)
    for one, other in zip(a, b, strict=True):
        total = total + (one * other).sum()
    return total


Dot = Callable[[list[Tensor], list[Tensor]], Tensor]


def _cosine_of_lists(rows: list[list[Tensor]], b: list[Tensor], dot: Dot) -> Tensor:
    square = dot(b, b)
    return torch.stack([torch.stack([dot(a, b), dot(a, a), square]) for a in rows])


def _gram_of_lists(rows: list[list[Tensor]], dot: Dot) -> Tensor:
    out = torch.zeros(len(rows), len(rows), device=rows[0][0].device)
    for i, j in _pairs(len(rows)):
        out[i, j] = out[j, i] = dot(rows[i], rows[j])
    return out


def _pairs(n: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(n) for j in range(i + 1))

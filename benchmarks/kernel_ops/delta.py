"""accumulate_delta_ and write_delta_ beside the usual ways to do the same.

The formulas stand in `metatlp/kernels/dispatch.py`. The model may be in bfloat16; what slots start
from is a float32 master copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernel_ops.cases import (
    COMPILED,
    EAGER,
    EXPONENT,
    FOREACH,
    OURS,
    PUBLISHED,
    Case,
    Run,
    Vectors,
    compile_way,
    named,
    scratch,
    short,
)
from kernel_ops.models import Shapes, split
from metatlp import kernels

WEIGHT = 1 / 8
_LIMIT = kernels.FIXED_POINT_LIMIT * 2.0**-EXPONENT
FP32, INT64 = torch.float32, torch.int64


def delta_case(op: str, total: torch.dtype, dtype: torch.dtype) -> Case:
    """accumulate_delta_ or write_delta_ into a total of that precision."""
    add, fixed = op == "accumulate_delta_", total == INT64
    exponent = EXPONENT if fixed else None

    def ours(v: Vectors, shapes: Shapes) -> Run:
        # Looked up here, so that a test may break it.
        function = getattr(kernels, op)
        return Run(lambda: function(v["total"], v["live"], v["start"], WEIGHT, exponent))

    def eager(v: Vectors, shapes: Shapes) -> Run:
        return Run(lambda: eager_delta(v["total"], v["live"], v["start"], fixed, add))

    def compiled(v: Vectors, shapes: Shapes) -> Run:
        function = compile_way(eager_delta)
        return Run(lambda: function(v["total"], v["live"], v["start"], fixed, add))

    def foreach(v: Vectors, shapes: Shapes) -> Run:
        total, live, start = (split(v[role], shapes) for role in ("total", "live", "start"))
        return Run(lambda: foreach_delta(total, live, start, fixed, add))

    def published(v: Vectors, shapes: Shapes) -> Run:
        loop = PublishedDelta(v, shapes, fixed, add)
        return Run(loop, loop.settle)

    def expected(x: Vectors) -> Vectors:
        difference = WEIGHT * (x["live"] - x["start"])
        return {"total": difference + x["total"] * add, "live": x["start"]}

    return Case(
        op=op,
        form=f"{short(total)} {'total' if add else 'buffer'}",
        dtype=dtype,
        roles={"total": total, "live": dtype, "start": FP32},
        reads=("live", "start", "total") if add else ("live", "start"),
        writes=("total", "live"),
        ways={
            OURS: ours,
            EAGER: eager,
            FOREACH: foreach,
            PUBLISHED: published,
            COMPILED: compiled,
        },
        expected=expected,
        scratch=scratch(16 if fixed else 8, 20 if fixed else 16),
        renewed="live",
    )


def eager_delta(total: Tensor, live: Tensor, start: Tensor, fixed: bool, add: bool) -> None:
    delta = live - start
    if fixed:
        change = torch.round(delta * (WEIGHT * 2.0**EXPONENT)).long()
        total.add_(change) if add else total.copy_(change)
    elif add:
        total.add_(delta, alpha=WEIGHT)
    else:
        total.copy_(WEIGHT * delta)
    live.copy_(start)
    if fixed and not delta.abs().max() <= _LIMIT:
        raise OverflowError


def foreach_delta(
    total: list[Tensor], live: list[Tensor], start: list[Tensor], fixed: bool, add: bool
) -> None:
    delta = torch._foreach_sub(live, start)
    largest = torch.stack(torch._foreach_norm(delta, float("inf"))).max() if fixed else None
    if fixed:
        torch._foreach_mul_(delta, WEIGHT * 2.0**EXPONENT)
        torch._foreach_round_(delta)
        change = [torch.empty_like(t) for t in total] if add else total
        torch._foreach_copy_(change, delta)
        if add:
            torch._foreach_add_(total, change)
    elif add:
        torch._foreach_add_(total, delta, alpha=WEIGHT)
    else:
        torch._foreach_mul_(delta, WEIGHT)
        torch._foreach_copy_(total, delta)
    torch._foreach_copy_(live, start)
    if largest is not None and not largest <= _LIMIT:
        raise OverflowError


class PublishedDelta:
    """Tensor by tensor over dicts; parameters are given back through `.data`, and so have to be
    cloned for the next slot."""

    def __init__(self, v: Vectors, shapes: Shapes, fixed: bool, add: bool):
        self.fixed, self.add = fixed, add
        self.live = split(v["live"], shapes)
        self.params = named([nn.Parameter(p, requires_grad=False) for p in self.live])
        self.total = named(split(v["total"], shapes))
        # The clones of the slot that ends. A model in bfloat16 has its masters beside it.
        masters = split(v["start"], shapes)
        self.start = named([p.clone() for p in masters] if (v["live"].dtype == FP32) else masters)
        self.own = v["live"].dtype == FP32

    def __call__(self) -> None:
        for name, p in self.params.items():
            change = WEIGHT * (p.data - self.start[name])
            if self.fixed:
                change = torch.round(change * 2.0**EXPONENT).long()
            if self.add:
                self.total[name] += change
            else:
                self.total[name].copy_(change)
            p.data = self.start[name] if self.own else self.start[name].to(p.dtype)
        if self.own:
            self.start = {name: p.data.clone() for name, p in self.params.items()}

    def settle(self) -> None:
        for view, p in zip(self.live, self.params.values(), strict=True):
            view.copy_(p.data)

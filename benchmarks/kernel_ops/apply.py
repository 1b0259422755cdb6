"""apply_delta_ beside the usual ways to do the same.

The formula stands in `metatlp/kernels/dispatch.py`. The model may be in bfloat16; what slots start
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
)
from kernel_ops.models import Shapes, split
from metatlp import kernels

BETA, MOMENTUM = 0.5, 0.9
FP32, BF16, INT64 = torch.float32, torch.bfloat16, torch.int64


def apply_case(form: str, dtype: torch.dtype) -> Case:
    """apply_delta_: `plain`, `momentum`, `int64` or `bf16 working copy`."""
    fixed = form == "int64"
    roles = {"start": FP32, "live": dtype, "total": INT64 if fixed else FP32}
    if form == "momentum":
        roles["velocity"] = FP32
    if form == "bf16 working copy":
        roles["working"] = BF16
    state = ("velocity",) if "velocity" in roles else ()
    copies = ("working",) if "working" in roles else ()

    def ours(v: Vectors, shapes: Shapes) -> Run:
        return Run(
            lambda: kernels.apply_delta_(
                v["start"],
                v["live"],
                v["total"],
                BETA,
                EXPONENT if fixed else None,
                v.get("velocity"),
                MOMENTUM if state else 0.0,
                working=v.get("working"),
            )
        )

    def eager(v: Vectors, shapes: Shapes) -> Run:
        return Run(lambda: eager_apply(v, fixed))

    def compiled(v: Vectors, shapes: Shapes) -> Run:
        return Run(lambda: compile_way(eager_apply)(v, fixed))

    def foreach(v: Vectors, shapes: Shapes) -> Run:
        parts = {role: split(vector, shapes) for role, vector in v.items()}
        return Run(lambda: foreach_apply(parts, fixed))

    def published(v: Vectors, shapes: Shapes) -> Run:
        loop = PublishedApply(v, shapes, fixed)
        return Run(loop, loop.settle)

    def expected(x: Vectors) -> Vectors:
        step = x["total"] + (MOMENTUM * x["velocity"] if state else 0)
        moved = x["start"] + BETA * step
        found = {"start": moved, "live": moved, "total": torch.zeros_like(moved)}
        found |= {role: moved for role in copies}
        return {**found, "velocity": step} if state else found

    return Case(
        op="apply_delta_",
        form=form,
        dtype=dtype,
        roles=roles,
        reads=("start", "total", *state),
        writes=("start", "live", "total", *state, *copies),
        ways={
            OURS: ours,
            EAGER: eager,
            FOREACH: foreach,
            PUBLISHED: published,
            COMPILED: compiled,
        },
        expected=expected,
        scratch=scratch(16 if fixed else 4, 24 if fixed or state else 16),
        renewed="total",
    )


def eager_apply(v: Vectors, fixed: bool) -> None:
    start, total = v["start"], v["total"]
    step = total * 2.0**-EXPONENT if fixed else total
    if "velocity" in v:
        step = v["velocity"].mul_(MOMENTUM).add_(step)
    start.add_(step, alpha=BETA)
    v["live"].copy_(start)
    if "working" in v:
        v["working"].copy_(start)
    total.zero_()


def foreach_apply(v: dict[str, list[Tensor]], fixed: bool) -> None:
    start, step = v["start"], v["total"]
    if fixed:
        step = [torch.empty_like(t, dtype=FP32) for t in step]
        torch._foreach_copy_(step, v["total"])
        torch._foreach_mul_(step, 2.0**-EXPONENT)
    if "velocity" in v:
        torch._foreach_mul_(v["velocity"], MOMENTUM)
        torch._foreach_add_(v["velocity"], step)
        step = v["velocity"]
    torch._foreach_add_(start, step, alpha=BETA)
    torch._foreach_copy_(v["live"], start)
    if "working" in v:
        torch._foreach_copy_(v["working"], start)
    torch._foreach_zero_(v["total"])


class PublishedApply:
    """Tensor by tensor over dicts: new parameters through `.data`, cloned for the next step."""

    def __init__(self, v: Vectors, shapes: Shapes, fixed: bool):
        self.fixed, self.own = fixed, (v["live"].dtype == FP32)
        self.flat = {role: split(vector, shapes) for role, vector in v.items()}
        parts = {role: named(list(views)) for role, views in self.flat.items()}
        self.params = {
            name: nn.Parameter(p, requires_grad=False) for name, p in parts["live"].items()
        }
        self.start, self.total = parts["start"], parts["total"]
        self.velocity, self.working = parts.get("velocity"), parts.get("working")

    def __call__(self) -> None:
        for name, p in self.params.items():
            step = self.total[name]
            if self.fixed:
                step = step * 2.0**-EXPONENT
            if self.velocity is not None:
                step = self.velocity[name] = MOMENTUM * self.velocity[name] + step
            new = self.start[name] + BETA * step
            p.data = new if self.own else new.to(p.dtype)
            self.start[name] = new.clone() if self.own else new
            if self.working is not None:
                self.working[name] = new.to(BF16)
            self.total[name] = torch.zeros_like(self.total[name])

    def settle(self) -> None:
        params = {name: p.data for name, p in self.params.items()}
        found: dict[str, dict[str, Tensor] | None] = {
            "live": params,
            "start": self.start,
            "total": self.total,
            "velocity": self.velocity,
            "working": self.working,
        }
        for role, views in self.flat.items():
            values = found[role]
            assert values is not None
            for view, value in zip(views, values.values(), strict=True):
                view.copy_(value)

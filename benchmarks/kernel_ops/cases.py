"""What is measured: an operation on vectors of given precisions, and the ways to do it.

Knows no clock. P: elements of a vector; n: rows of a matrix of vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernel_ops.models import Shapes

OURS, EAGER, FOREACH, PUBLISHED, COMPILED = "ours", "eager", "foreach", "published", "compiled"
# Of int64 fixed point: differences up to 2**22 fit.
EXPONENT = 40

Vectors = dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """One way, ready to be timed.

    Attributes:
        call: what is timed; a reduction returns its result.
        settle: leaves the result in the flat vectors, where the way keeps it elsewhere.
    """

    call: Callable[[], Tensor | None]
    settle: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Case:
    """One line of the tables.

    Attributes:
        op, form: which operation, in which form.
        dtype: the precision of the model or of its gradients.
        roles: vector -> its precision.
        reads, writes: the roles that the operation must read and write, once each.
        ways: name -> from the vectors and the list of parameters to a Run.
        expected: from the inputs to the results, float64: name of a role, or `out` -> values. Only
            for elementwise operations; the reductions have theirs from `products`.
        scratch: way -> bytes per element that it holds at once beside the vectors.
        renewed: the role that is given a value before every call, so that no call finds zeros.
        rows: how many vectors the role `rows` has.
    """

    op: str
    form: str
    dtype: torch.dtype
    roles: Mapping[str, torch.dtype]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    ways: Mapping[str, Callable[[Vectors, Shapes], Run]]
    expected: Callable[[Vectors], Vectors] | None = None
    scratch: Mapping[str, int] = field(default_factory=dict)
    renewed: str | None = None
    rows: int = 1

    @property
    def name(self) -> str:
        return f"{self.op}, {self.form}"

    def bytes_per_element(self) -> int:
        """What must pass to and from memory at least, per element of P."""
        return sum(self._width(role) for role in (*self.reads, *self.writes))

    def traffic(self) -> str:
        """Which bytes these are."""
        parts = []
        for verb, roles in (("reads", self.reads), ("writes", self.writes)):
            if roles:
                parts.append(f"{verb} " + " ".join(f"{r} {self._width(r)}" for r in roles))
        return ", ".join(parts)

    def held(self) -> int:
        """Bytes per element of P of all its vectors."""
        return sum(self._width(role) for role in self.roles)

    def _width(self, role: str) -> int:
        return self.roles[role].itemsize * (self.rows if role == "rows" else 1)


def short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int64: "int64"}[dtype]


@cache
def compile_way(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False)
    return compiled


def named(tensors: list[Tensor]) -> dict[str, Tensor]:
    """A dict as published loops have it."""
    return {f"parameter {i}": tensor for i, tensor in enumerate(tensors)}


def scratch(flat: int, published: int) -> dict[str, int]:
    """Bytes per element of the ways of an elementwise operation."""
    return {OURS: 0, EAGER: flat, FOREACH: flat, COMPILED: flat, PUBLISHED: published}

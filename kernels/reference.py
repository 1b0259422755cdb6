"""Plain torch versions of the flat-vector operations: the truth for tests, and the path on CPU.

Arguments are checked by `dispatch`, which says what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .fixed_point import largest_allowed, overflow

# Elements per pass: the scratch of one pass must stay in the cache. It is made once per call:
# giving it back to the allocator after every pass costs more than the arithmetic.
_CHUNK = 2**19
# Elements that are summed in float32, before the sums are added in float64: torch.dot of 22M is off
# by 1e-3, of 2**17 by 4e-7. A matrix product is worse: over 2**15, cosines of real gradients were
# off by 5e-6.
_DOT = 2**17
_MATRIX = 2**13
_HELD = 2**22  # elements of all rows in one call


def move_delta_(
    total: Tensor,
    live: Tensor,
    start: Tensor,
    weight: float,
    exponent: int | None,
    working: Tensor | None,
    add: bool,
) -> None:
    """accumulate_delta_, or write_delta_ unless `add`."""
    scratch = torch.empty(min(len(live), _CHUNK), dtype=torch.float32, device=live.device)
    fixed = scratch if exponent is None else torch.empty_like(scratch, dtype=torch.int64)
    for part in _chunks(len(live)):
        length = part.stop - part.start
        delta = _difference(live[part], start[part], out=scratch[:length])
        if exponent is not None:
            change = _to_fixed_point(delta, weight, exponent, out=fixed[:length])
            total[part].add_(change) if add else total[part].copy_(change)
        elif add:
            total[part].add_(delta, alpha=weight)
        else:
            total[part].copy_(delta.mul_(weight))
        for copy in (live, working):
            if copy is not None:
                copy[part].copy_(start[part])


def apply_delta_(
    start: Tensor,
    live: Tensor,
    total: Tensor,
    beta: float,
    exponent: int | None,
    velocity: Tensor | None,
    momentum: float,
    nesterov: bool,
    working: Tensor | None,
) -> None:
    scratch = torch.empty(min(len(live), _CHUNK), dtype=torch.float64, device=live.device)
    for part in _chunks(len(live)):
        step = scratch[: part.stop - part.start].copy_(total[part])
        if exponent is not None:
            step.mul_(2.0**-exponent)
        if velocity is not None:
            u = velocity[part].copy_(velocity[part].double().mul_(momentum).add_(step))
            step = step.add_(u, alpha=momentum) if nesterov else step.copy_(u)
        start[part].copy_(step.mul_(beta).add_(start[part]))
        for copy in (live, working):
            if copy is not None:
                copy[part].copy_(start[part])
        total[part].zero_()


def cosine_terms(rows: Tensor, other: Tensor) -> Tensor:
    """(n, 3) for rows (n, P)."""
    terms = torch.zeros(len(rows), 3, dtype=torch.float64, device=rows.device)
    for part in _chunks(len(other), _DOT):
        b = other[part].float()
        square = torch.dot(b, b)
        for row, sums in zip(rows[:, part].float(), terms, strict=True):
            sums += torch.stack([torch.dot(row, b), torch.dot(row, row), square])
    return terms


def gram(rows: Tensor) -> Tensor:
    count, length = rows.shape
    out = torch.zeros(count, count, dtype=torch.float64, device=rows.device)
    # Several pieces in one call: a product of few rows takes less time than its call.
    for part in _chunks(length, _MATRIX * max(1, _HELD // (count * _MATRIX))):
        a = rows[:, part].float()
        whole = a.shape[1] // _MATRIX * _MATRIX
        pieces = a[:, :whole].reshape(count, -1, _MATRIX).transpose(0, 1)
        out += torch.bmm(pieces, pieces.mT).sum(0, dtype=torch.float64)
        rest = a[:, whole:]
        out += rest @ rest.T
    # Symmetric to the bit, whatever the matrix product does.
    return out.tril() + out.tril(-1).T


def _difference(live: Tensor, start: Tensor, out: Tensor) -> Tensor:
    if live.dtype == torch.float32:
        return torch.sub(live, start, out=out)
    # Two low-precision vectors would be subtracted in their precision.
    return out.copy_(live).sub_(start)


def _to_fixed_point(delta: Tensor, weight: float, exponent: int, out: Tensor) -> Tensor:
    """`round(weight * delta * 2**exponent)` in `out`; `delta` is overwritten."""
    low, high = torch.stack(torch.aminmax(delta)).tolist()
    limit = largest_allowed(exponent)
    # NaN compares false, so it is refused here too.
    if not (-limit <= low and high <= limit):
        raise overflow(max(-low, high), exponent)
    # float32 holds weight * delta; scaling by a power of two and rounding above 2**24 are exact.
    return out.copy_(delta.mul_(weight * 2.0**exponent).round_())


def _chunks(length: int, size: int = _CHUNK) -> list[slice]:
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]

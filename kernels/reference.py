"""Plain torch versions of the flat-vector operations: the truth for tests, and the path on CPU.

Fixed point: a value x is held as round(x * 2**exponent) in int64 (round half to even). Integer sums
do not depend on their order, so any grouping of the contributions gives the same bits.

P: number of elements. Every vector is 1-D, contiguous and of the same length.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Contributions are held to 2**62, so that a sum with weights that add to at most 1 cannot wrap.
FIXED_POINT_LIMIT = 2.0**62

# Elements per pass. On CPU the scratch of one pass must stay in the cache; on an accelerator a pass
# should be long but its scratch small. Scratch is made once per call: giving it back to the
# allocator after every pass costs more than the arithmetic.
_CPU_CHUNK = 2**19
_DEVICE_CHUNK = 2**24


def accumulate_delta_(
    total: Tensor, live: Tensor, start: Tensor, weight: float, exponent: int | None = None
) -> None:
    """`total += weight * (live - start)`, then `live <- start` (one slot of Algorithm 1, line 8).

    Args:
        total: (P,) float32, or int64 fixed point with `exponent`.
        live: (P,) float32, the parameters after the slot's inner steps; reset to `start`.
        start: (P,) float32, the parameters that every slot starts from.
        weight: share of this slot in the average, e.g. 1/m. The weights of all contributions to one
            int64 total must add to at most 1.
        exponent: power of two of the fixed point; required if and only if `total` is int64.

    Raises:
        ValueError: shapes, dtypes or layouts that do not fit.
        OverflowError: in fixed point, a difference that is not finite or over 2**(62 - exponent).
            In float32 nothing is checked.
    """
    _check(total, live, start, exponent=exponent)
    parts = _chunks(live)
    scratch = torch.empty_like(live[parts[0]]) if parts else live
    fixed = scratch if exponent is None else torch.empty_like(scratch, dtype=torch.int64)
    for part in parts:
        length = part.stop - part.start
        delta = torch.sub(live[part], start[part], out=scratch[:length])
        if exponent is None:
            total[part].add_(delta, alpha=weight)
        else:
            total[part].add_(_to_fixed_point(delta, weight, exponent, out=fixed[:length]))
        live[part].copy_(start[part])


def apply_delta_(
    start: Tensor,
    live: Tensor,
    total: Tensor,
    beta: float,
    exponent: int | None = None,
    velocity: Tensor | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """`start += beta * total; live <- start; total <- 0` (Algorithm 1, line 8).

    With `velocity` u the outer step has momentum: `u <- momentum * u + total`, and the step is u,
    or `total + momentum * u` with `nesterov` (torch.optim.SGD's formulas, signs as in Reptile).

    Args:
        start, live: (P,) float32.
        total: (P,) float32, or int64 fixed point with `exponent`; zero on return.
        beta: meta learning rate.
        exponent: as in accumulate_delta_.
        velocity: (P,) float32, updated in place.

    Raises:
        ValueError: shapes, dtypes or layouts that do not fit.
    """
    _check(total, live, start, *([] if velocity is None else [velocity]), exponent=exponent)
    parts = _chunks(live)
    # Float64, so that the total is rounded once, when it is stored.
    scratch = torch.empty_like(live[parts[0]], dtype=torch.float64) if parts else live
    for part in parts:
        step = scratch[: part.stop - part.start].copy_(total[part])
        if exponent is not None:
            step.mul_(2.0**-exponent)
        if velocity is not None:
            u = velocity[part].mul_(momentum).add_(step)
            step = step.add_(u, alpha=momentum) if nesterov else step.copy_(u)
        start[part].copy_(step.mul_(beta).add_(start[part]))
        live[part].copy_(start[part])
        total[part].zero_()


def _to_fixed_point(delta: Tensor, weight: float, exponent: int, out: Tensor) -> Tensor:
    """`round(weight * delta * 2**exponent)` in `out`; `delta` is overwritten."""
    low, high = torch.stack(torch.aminmax(delta)).tolist()
    limit = FIXED_POINT_LIMIT * 2.0**-exponent
    # NaN compares false, so it is refused here too.
    if not (-limit <= low and high <= limit):
        raise OverflowError(
            f"a difference of {max(-low, high):g} does not fit 64-bit fixed point "
            f"with {exponent} fractional bits (limit {limit:g})"
        )
    # float32 holds weight * delta; scaling by a power of two and rounding above 2**24 are exact.
    return out.copy_(delta.mul_(weight * 2.0**exponent).round_())


def _chunks(vector: Tensor) -> list[slice]:
    size = _CPU_CHUNK if vector.device.type == "cpu" else _DEVICE_CHUNK
    return [slice(i, min(i + size, len(vector))) for i in range(0, len(vector), size)]


def _check(total: Tensor, *vectors: Tensor, exponent: int | None) -> None:
    wanted = torch.float32 if exponent is None else torch.int64
    if total.dtype != wanted:
        raise ValueError(f"total must be {wanted} with exponent={exponent}, not {total.dtype}")
    for vector in (total, *vectors):
        if vector.dim() != 1 or not vector.is_contiguous():
            raise ValueError(f"expected a contiguous 1-D vector, not shape {tuple(vector.shape)}")
        if vector.shape != total.shape or vector.device != total.device:
            raise ValueError(
                f"vectors of one length on one device expected, not {len(vector)} on "
                f"{vector.device} and {len(total)} on {total.device}"
            )
        if vector is not total and vector.dtype != torch.float32:
            raise ValueError(f"expected float32, not {vector.dtype}")

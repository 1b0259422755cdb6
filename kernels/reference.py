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

# Elements per pass. On CPU the temporaries of one pass must stay in the cache; on an accelerator a
# pass should be long but its temporaries small.
_CPU_CHUNK = 2**18
_DEVICE_CHUNK = 2**26


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
        OverflowError: a difference that is not finite, or over 2**(62 - exponent) in fixed point.
    """
    _check(total, live, start, exponent=exponent)
    for part in _chunks(live):
        delta = live[part] - start[part]
        if exponent is None:
            total[part].add_(delta, alpha=weight)
        else:
            total[part].add_(_to_fixed_point(delta, weight, exponent))
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
    for part in _chunks(live):
        step = total[part] if exponent is None else total[part].double().mul_(2.0**-exponent)
        if velocity is not None:
            u = velocity[part].mul_(momentum).add_(step.float())
            step = step + momentum * u if nesterov else u
        # Float64 here, so that the fixed-point total is rounded once, when it is stored.
        start[part].copy_(start[part] + beta * step)
        live[part].copy_(start[part])
        total[part].zero_()


def _to_fixed_point(delta: Tensor, weight: float, exponent: int) -> Tensor:
    # NaN and inf compare false, so they are refused here too.
    if delta.numel() and not bool(delta.abs().amax() * 2.0**exponent <= FIXED_POINT_LIMIT):
        raise OverflowError(
            f"a difference of {delta.abs().amax().item():g} does not fit 64-bit fixed point "
            f"with {exponent} fractional bits (limit {FIXED_POINT_LIMIT * 2.0**-exponent:g})"
        )
    # float32 holds weight * delta; scaling by a power of two and rounding above 2**24 are exact.
    return delta.mul_(weight).mul_(2.0**exponent).round_().to(torch.int64)


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

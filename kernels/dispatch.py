"""The public operations: checks the arguments, and decides who does the work.

CUDA tensors: Triton. CPU tensors: plain torch, or Triton's interpreter with TRITON_INTERPRET=1.
P: elements of a vector; n: rows of a matrix of vectors. Every vector is 1-D and contiguous.
"""

from __future__ import annotations

import os
from types import ModuleType

import torch
from torch import Tensor

from . import reference

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def implementation(device: torch.device) -> str:
    """Who does the work on a device, for a log: `Triton 3.9.0` or `plain torch`."""
    module = _module(device)
    return "plain torch" if module is reference else f"Triton {module.triton.__version__}"


def accumulate_delta_(
    total: Tensor,
    live: Tensor,
    start: Tensor,
    weight: float,
    exponent: int | None = None,
    working: Tensor | None = None,
) -> None:
    """`total += weight * (live - start)`, then `live <- start` (one slot of Algorithm 1, line 8).

    Args:
        total: (P,) float32, or int64 fixed point with `exponent`.
        live: (P,) the parameters after the slot's inner steps; reset to `start`. float32, bfloat16
            or float16.
        start: (P,) the parameters that every slot starts from: float32, or as `live`.
        weight: share of this slot in the average, e.g. 1/m. The weights of all contributions to one
            int64 total must add to at most 1.
        exponent: power of two of the fixed point; required if and only if `total` is int64.
        working: (P,) a copy of `live` in another precision, which is reset too.

    Raises:
        ValueError: shapes, dtypes or layouts that do not fit.
        OverflowError: in fixed point, a difference that is not finite or over 2**(62 - exponent);
            `total` is then of no use. In floating point nothing is checked.
    """
    _check_total(total, exponent, torch.float32)
    _check_parameters(start, live, total, working)
    _module(live.device).move_delta_(total, live, start, weight, exponent, working, add=True)


def write_delta_(
    total: Tensor,
    live: Tensor,
    start: Tensor,
    weight: float,
    exponent: int | None = None,
    working: Tensor | None = None,
) -> None:
    """`total <- weight * (live - start)`, then `live <- start`: for the first slot.

    As accumulate_delta_, but reads no total, and so writes straight into a buffer for
    communication, whatever is in it.

    Args:
        total: (P,) float32, bfloat16 or float16, or int64 fixed point with `exponent`.
        live, start, weight, exponent, working: as in accumulate_delta_.

    Raises:
        ValueError, OverflowError: as accumulate_delta_.
    """
    _check_total(total, exponent, *_FLOATS)
    _check_parameters(start, live, total, working)
    _module(live.device).move_delta_(total, live, start, weight, exponent, working, add=False)


def apply_delta_(
    start: Tensor,
    live: Tensor,
    total: Tensor,
    beta: float,
    exponent: int | None = None,
    velocity: Tensor | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    working: Tensor | None = None,
) -> None:
    """`start += beta * total; live <- start; total <- 0` (Algorithm 1, line 8).

    With `velocity` u the outer step has momentum: `u <- momentum * u + total`, and the step is u,
    or `total + momentum * u` with `nesterov` (torch.optim.SGD's formulas, signs as in Reptile).
    Computed in float64, so that start is rounded once.

    Args:
        start: (P,) float32, or as `live`.
        live: (P,) float32, bfloat16 or float16.
        total: (P,) float32, bfloat16 or float16, or int64 fixed point with `exponent`; zero on
            return.
        beta: meta learning rate.
        exponent: as in accumulate_delta_.
        velocity: (P,) float32, updated in place.
        momentum: factor on the velocity.
        nesterov: whether the step looks ahead.
        working: (P,) a copy of `live` in another precision, to be updated too.

    Raises:
        ValueError: shapes, dtypes or layouts that do not fit.
    """
    _check_total(total, exponent, *_FLOATS)
    _check_parameters(start, live, total, working)
    if velocity is not None:
        _check("velocity", velocity, live, torch.float32)
    _module(live.device).apply_delta_(
        start, live, total, beta, exponent, velocity, momentum, nesterov, working
    )


def cosine_terms(a: Tensor, b: Tensor) -> Tensor:
    """`(a . b, |a|^2, |b|^2)`: what a cosine is made of. Reads a and b once.

    The same bits on every run on the same machine. Accumulates in float32 at least.

    Args:
        a: (P,), or (n, P) for n vectors against one b: rows with unit stride.
        b: (P,) of the same dtype: float32, bfloat16 or float16.

    Returns:
        (3,), or (n, 3), float64 on the device of b.

    Raises:
        ValueError: shapes, dtypes or layouts that do not fit.
    """
    rows = a.unsqueeze(0) if a.dim() == 1 else a
    _check_rows("a", rows)
    _check("b", b, rows[0], a.dtype)
    terms: Tensor = _module(b.device).cosine_terms(rows, b)
    return terms[0] if a.dim() == 1 else terms


def gram(rows: Tensor) -> Tensor:
    """Inner products of n vectors with each other. Reads each once, for up to 64 of them.

    The same bits on every run on the same machine, symmetric to the bit.

    Args:
        rows: (n, P) float32, bfloat16 or float16, rows with unit stride; n of at least 1.

    Returns:
        (n, n) float64 on the device of `rows`.

    Raises:
        ValueError: shapes, dtypes or layouts that do not fit.
    """
    _check_rows("rows", rows)
    products: Tensor = _module(rows.device).gram(rows)
    return products


def _module(device: torch.device) -> ModuleType:
    """`launch` or `reference`. Triton is imported only where it is used."""
    if device.type == "cuda" or (device.type == "cpu" and _interpreted()):
        from . import launch

        return launch
    return reference


def _interpreted() -> bool:
    if "TRITON_INTERPRET" not in os.environ:
        return False
    import triton

    return bool(triton.knobs.runtime.interpret)


def _check_total(total: Tensor, exponent: int | None, *floats: torch.dtype) -> None:
    wanted = floats if exponent is None else (torch.int64,)
    if total.dtype not in wanted:
        raise ValueError(
            f"total must be {_either(wanted)} with exponent={exponent}, not {total.dtype}"
        )
    # Beyond these 2**exponent and 2**-exponent are no normal float32.
    if exponent is not None and not -126 <= exponent <= 126:
        raise ValueError(f"exponent must be between -126 and 126, not {exponent}")


def _check_parameters(start: Tensor, live: Tensor, total: Tensor, working: Tensor | None) -> None:
    _check("live", live, live, *_FLOATS)
    _check("start", start, live, torch.float32, live.dtype)
    _check("total", total, live, total.dtype)
    if working is not None:
        _check("working", working, live, *_FLOATS)


def _check_rows(name: str, rows: Tensor) -> None:
    if rows.dim() != 2 or not len(rows) or (rows.shape[1] > 1 and rows.stride(1) != 1):
        raise ValueError(
            f"{name} must be rows with unit stride, at least one, not of shape "
            f"{tuple(rows.shape)} and strides {rows.stride()}"
        )
    _check(name, rows[0], rows[0], *_FLOATS)


def _check(name: str, vector: Tensor, like: Tensor, *dtypes: torch.dtype) -> None:
    if vector.dim() != 1 or not vector.is_contiguous():
        raise ValueError(
            f"{name} must be a contiguous 1-D vector, not of shape {tuple(vector.shape)} and "
            f"strides {vector.stride()}"
        )
    if vector.shape != like.shape or vector.device != like.device:
        raise ValueError(
            f"vectors of one length on one device expected: {name} has {len(vector)} elements on "
            f"{vector.device}, not {len(like)} on {like.device}"
        )
    if vector.dtype not in dtypes:
        raise ValueError(f"{name} must be {_either(dtypes)}, not {vector.dtype}")


def _either(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes))

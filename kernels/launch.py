"""Launches the Triton kernels: alignment, size of blocks, number of programs.

The functions have the names and arguments of `reference`'s, checked as there. They run on CUDA
tensors, and on CPU tensors where Triton interprets (TRITON_INTERPRET=1).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from . import triton_kernels
from .fixed_point import largest_allowed, overflow

# 8 elements per thread: two 16-byte accesses of each float32 vector.
_BLOCK = 2048
_REDUCTION_BLOCK = 4096  # all rows together
_COSINE_ROWS = 32  # at once
_GRAM_BLOCK = 2048  # all rows together: 16 bytes per thread in 16-bit precisions
_GRAM_ROWS = 64  # at once
_WARPS = 8
# A thread's, all it can have, where vectors are not aligned alike: values pass between threads,
# and without a limit ptxas spills some of apply_kernel's so that more programs run at once.
_UNLIKE_REGISTERS = 255
_PROGRAMS_PER_MULTIPROCESSOR = 8  # all its threads hold; a kernel's registers allow 2 to 6

# The interpreter takes its time per block: longer blocks for long vectors. Three programs: each has
# several blocks.
_INTERPRETED_LONGER = 64
_INTERPRETED_PROGRAMS = 3

# Elements: 16 bytes or more in every precision.
_ALIGNMENT = 16


def move_delta_(
    total: Tensor,
    live: Tensor,
    start: Tensor,
    weight: float,
    exponent: int | None,
    working: Tensor | None,
    add: bool,
) -> None:
    if not len(live):
        return
    block, programs = _grid(len(live), live.device, _BLOCK)
    first, vectors = _aligned(total, live, start, working)
    fixed = exponent is not None
    largest = torch.empty(programs, dtype=torch.float32, device=live.device) if fixed else None
    with _on(live.device):
        triton_kernels.delta_kernel[(programs,)](
            *vectors,
            largest,
            weight if exponent is None else weight * 2.0**exponent,
            first,
            first + len(live),
            ADD=add,
            FIXED=fixed,
            BLOCK=block,
            num_warps=_WARPS,
            enable_fp_fusion=False,
        )
    if largest is not None and exponent is not None:
        seen = largest.max().item()
        if seen > largest_allowed(exponent):
            raise overflow(seen, exponent)


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
    if not len(live):
        return
    alike = _shift(start, live, total, velocity, working) is not None
    block, programs = _grid(len(live), live.device, _BLOCK)
    first, vectors = _aligned(start, live, total, velocity, working)
    with _on(live.device):
        triton_kernels.apply_kernel[(programs,)](
            *vectors,
            beta,
            momentum,
            1.0 if exponent is None else 2.0**-exponent,
            first,
            first + len(live),
            NESTEROV=nesterov,
            BLOCK=block,
            num_warps=_WARPS,
            maxnreg=None if alike else _UNLIKE_REGISTERS,
            enable_fp_fusion=False,
        )


def cosine_terms(rows: Tensor, other: Tensor) -> Tensor:
    return torch.cat([_cosine_terms(group, other) for group in rows.split(_COSINE_ROWS)])


def _cosine_terms(rows: Tensor, other: Tensor) -> Tensor:
    count = len(rows)
    height = triton.next_power_of_2(count)
    out = torch.zeros(2 * height + 1, dtype=torch.float64, device=other.device)
    if len(other):
        block, programs = _grid(len(other), other.device, _REDUCTION_BLOCK // height)
        first, (rows_from, other_from) = _aligned(rows, other)
        partial = torch.empty(programs, len(out), dtype=torch.float32, device=other.device)
        with _on(other.device):
            triton_kernels.cosine_kernel[(programs,)](
                rows_from,
                other_from,
                partial,
                rows.stride(0),
                count,
                first,
                first + len(other),
                ROWS=height,
                BLOCK=block,
                num_warps=_WARPS,
            )
        torch.sum(partial, 0, dtype=torch.float64, out=out)  # the same order every time
    return torch.stack([out[:count], out[height : height + count], out[-1].expand(count)], dim=1)


def gram(rows: Tensor) -> Tensor:
    if triton.knobs.runtime.interpret and rows.dtype == torch.bfloat16:
        rows = rows.float()  # the interpreter takes bfloat16 for integers in a matrix product
    out = torch.empty(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    spans = [slice(i, i + _GRAM_ROWS) for i in range(0, len(rows), _GRAM_ROWS)]
    for i, span in enumerate(spans):
        for other in spans[: i + 1]:
            out[span, other] = _products(rows[span], None if other == span else rows[other])
    # Which of the two of a pair is taken must not show.
    return out.tril() + out.tril(-1).T


def _products(rows: Tensor, others: Tensor | None) -> Tensor:
    """(n, n') inner products; others: None for those among the rows."""
    counts = len(rows), len(rows if others is None else others)
    height = max(16, triton.next_power_of_2(max(counts)))  # tl.dot takes 16 rows or more
    out = torch.zeros(height, height, dtype=torch.float64, device=rows.device)
    length = rows.shape[1]
    if length:
        block, programs = _grid(length, rows.device, _GRAM_BLOCK // height)
        first, (rows_from, others_from) = _aligned(rows, others)
        partial = torch.empty(programs, out.numel(), dtype=torch.float64, device=rows.device)
        with _on(rows.device):
            triton_kernels.gram_kernel[(programs,)](
                rows_from,
                others_from,
                partial,
                rows.stride(0),
                *counts,
                first,
                first + length,
                ROWS=height,
                BLOCK=block,
                num_warps=_WARPS,
            )
        torch.sum(partial, 0, out=out.view(-1))  # the same order every time
    return out[: counts[0], : counts[1]]


def _grid(length: int, device: torch.device, block: int) -> tuple[int, int]:
    """Elements per block, and programs: no more than there is room or work for."""
    if device.type == "cuda":
        room = torch.cuda.get_device_properties(device).multi_processor_count
        room *= _PROGRAMS_PER_MULTIPROCESSOR
    else:
        longer = triton.next_power_of_2(1 + length // (8 * block))
        block, room = block * min(longer, _INTERPRETED_LONGER), _INTERPRETED_PROGRAMS
    return block, min(room, triton.cdiv(length + _ALIGNMENT, block))


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _aligned(*vectors: Tensor | None) -> tuple[int, list[Tensor | None]]:
    """The vectors (or rows) from an aligned address on, and how many elements that is before their
    first: 0 and the vectors as they are if they are not aligned alike.
    """
    shift = _shift(*vectors) or 0
    return shift, [None if vector is None else _earlier(vector, shift) for vector in vectors]


def _shift(*vectors: Tensor | None) -> int | None:
    """How many elements before its first each begins at an aligned address, in its own storage;
    None unless the number is the same for all.
    """
    present = [vector for vector in vectors if vector is not None]
    before = {vector.data_ptr() // vector.element_size() % _ALIGNMENT for vector in present}
    if len(before) > 1 or any(vector.storage_offset() < max(before) for vector in present):
        return None
    return before.pop()


def _earlier(vector: Tensor, elements: int) -> Tensor:
    """The same with so many elements before it. Rows overlap then; the kernels skip these."""
    if not elements:
        return vector
    size = (*vector.shape[:-1], vector.shape[-1] + elements)
    # A vector of one element may have any stride.
    stride = (*vector.stride()[:-1], 1)
    return vector.as_strided(size, stride, vector.storage_offset() - elements)

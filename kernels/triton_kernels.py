"""The flat-vector operations as Triton kernels. Knows pointers and lengths; `launch` calls them.

A program takes every num_programs-th block. The vectors are the elements `first` to `end` of their
pointers, which may begin a few elements before them, where they are aligned. A block that lies
whole inside is read and written without a mask: only then does the compiler use 16-byte accesses.
The first and the last block may be partial.

A load and a store of the same elements may be spread over the threads in different ways, so a
barrier stands between a block's loads and its stores: no thread overwrites what another has yet to
read.

Offsets are int64. No atomics: the order of a reduction depends on the number of programs and on
where the blocks begin, not on chance.
"""

import triton
import triton.language as tl

# Adding and taking away this rounds to whole numbers, halves to even: from here on float32 holds
# no fractions.
_WHOLE = tl.constexpr(8388608.0)  # 2**23


@triton.jit(do_not_specialize=["first", "end"])
def delta_kernel(
    total,
    live,
    start,
    working,
    largest,
    weight: "fp32",
    first: "i64",
    end: "i64",
    ADD: tl.constexpr,
    FIXED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """total (+)= weight * (live - start), live <- start, working <- start.

    working: None, or a copy of live in another precision. FIXED: total is int64, `weight` has its
    scale in it, and largest[program] becomes max |live - start|, with inf for NaN.
    """
    lanes = tl.arange(0, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    seen = tl.zeros((BLOCK,), tl.float32)
    for base in range(program * BLOCK, end, tl.num_programs(0).to(tl.int64) * BLOCK):
        copy = None if working is None else working + base
        if (base >= first) & (base + BLOCK <= end):
            size = _delta_block(
                total + base, live + base, start + base, copy, lanes, None, weight, ADD, FIXED
            )
        else:
            mask = (base + lanes >= first) & (base + lanes < end)
            size = _delta_block(
                total + base, live + base, start + base, copy, lanes, mask, weight, ADD, FIXED
            )
            size = tl.where(mask, size, 0.0)
        if FIXED:
            seen = tl.maximum(seen, size)
    if FIXED:
        tl.store(largest + program, tl.max(seen, 0))


@triton.jit
def _delta_block(
    total, live, start, working, lanes, mask, weight, ADD: tl.constexpr, FIXED: tl.constexpr
):
    """One block of delta_kernel; returns |live - start|, which only FIXED needs."""
    origin = tl.load(start + lanes, mask=mask)
    delta = tl.load(live + lanes, mask=mask).to(tl.float32) - origin.to(tl.float32)
    change = delta * weight
    if FIXED:
        size = tl.abs(change)
        size = tl.where(size < _WHOLE, (size + _WHOLE) - _WHOLE, size)
        change = tl.where(change < 0, -size, size).to(tl.int64)
    if ADD:
        change += tl.load(total + lanes, mask=mask)
    tl.debug_barrier()
    tl.store(total + lanes, change.to(total.dtype.element_ty), mask=mask)
    tl.store(live + lanes, origin.to(live.dtype.element_ty), mask=mask)
    if working is not None:
        tl.store(working + lanes, origin.to(working.dtype.element_ty), mask=mask)
    return tl.where(delta == delta, tl.abs(delta), float("inf"))


@triton.jit(do_not_specialize=["first", "end"])
def apply_kernel(
    start,
    live,
    total,
    velocity,
    working,
    beta: "fp64",
    momentum: "fp64",
    scale: "fp64",
    first: "i64",
    end: "i64",
    NESTEROV: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """start += beta * step, live <- start, working <- start, total <- 0.

    step: total * scale; with a velocity u <- momentum * u + that, then u, or with NESTEROV
    that + momentum * u.
    In float64, so that start is rounded once.
    """
    lanes = tl.arange(0, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    for base in range(program * BLOCK, end, tl.num_programs(0).to(tl.int64) * BLOCK):
        copy = None if working is None else working + base
        u = None if velocity is None else velocity + base
        if (base >= first) & (base + BLOCK <= end):
            _apply_block(
                start + base, live + base, total + base, u, copy, lanes, None,
                beta, momentum, scale, NESTEROV,
            )  # fmt: skip
        else:
            mask = (base + lanes >= first) & (base + lanes < end)
            _apply_block(
                start + base, live + base, total + base, u, copy, lanes, mask,
                beta, momentum, scale, NESTEROV,
            )  # fmt: skip


@triton.jit
def _apply_block(
    start, live, total, velocity, working, lanes, mask,
    beta, momentum, scale, NESTEROV: tl.constexpr,
):  # fmt: skip
    step = tl.load(total + lanes, mask=mask).to(tl.float64) * scale
    origin = tl.load(start + lanes, mask=mask).to(tl.float64)
    if velocity is not None:
        u = tl.load(velocity + lanes, mask=mask).to(tl.float64) * momentum + step
        u = u.to(velocity.dtype.element_ty)
        tl.debug_barrier()
        tl.store(velocity + lanes, u, mask=mask)
        u = u.to(tl.float64)
        step = step + momentum * u if NESTEROV else u
    else:
        tl.debug_barrier()
    moved = origin + beta * step
    moved = moved.to(tl.float32).to(start.dtype.element_ty)  # in two steps, as torch does it
    tl.store(start + lanes, moved, mask=mask)
    tl.store(live + lanes, moved.to(live.dtype.element_ty), mask=mask)
    if working is not None:
        tl.store(working + lanes, moved.to(working.dtype.element_ty), mask=mask)
    zeros = tl.zeros(lanes.shape, total.dtype.element_ty)
    tl.store(total + lanes, zeros, mask=mask)


@triton.jit(do_not_specialize=["num_rows", "first", "end"])
def cosine_kernel(
    rows,
    other,
    partial,
    row_stride,
    num_rows,
    first: "i64",
    end: "i64",
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """partial[program] = (row . other for each row, |row|^2 for each row, |other|^2).

    rows: num_rows vectors, row_stride apart; ROWS: num_rows rounded up to a power of two.
    """
    program = tl.program_id(0).to(tl.int64)
    dots = tl.zeros((ROWS, BLOCK), tl.float32)
    squares = tl.zeros((ROWS, BLOCK), tl.float32)
    other_squares = tl.zeros((BLOCK,), tl.float32)
    for base in range(program * BLOCK, end, tl.num_programs(0).to(tl.int64) * BLOCK):
        a = _tile(rows, row_stride, num_rows, base, first, end, ROWS, BLOCK).to(tl.float32)
        b = _tile(other, row_stride, 1, base, first, end, 1, BLOCK).to(tl.float32)
        dots += a * b
        squares += a * a
        other_squares += tl.reshape(b * b, (BLOCK,))
    lines = tl.arange(0, ROWS)
    out = partial + program * (2 * ROWS + 1)
    tl.store(out + lines, tl.sum(dots, 1))
    tl.store(out + ROWS + lines, tl.sum(squares, 1))
    tl.store(out + 2 * ROWS, tl.sum(other_squares, 0))


@triton.jit(do_not_specialize=["num_rows", "num_others", "first", "end"])
def gram_kernel(
    rows,
    others,
    partial,
    row_stride,
    num_rows,
    num_others,
    first: "i64",
    end: "i64",
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """partial[program, i, j] = row i . other j; others: None if they are the rows."""
    program = tl.program_id(0).to(tl.int64)
    # In float64: tensor cores cut off what does not fit when they add to a sum.
    products = tl.zeros((ROWS, ROWS), tl.float64)
    for base in range(program * BLOCK, end, tl.num_programs(0).to(tl.int64) * BLOCK):
        a = _tile(rows, row_stride, num_rows, base, first, end, ROWS, BLOCK)
        if others is None:
            b = a
        else:
            b = _tile(others, row_stride, num_others, base, first, end, ROWS, BLOCK)
        products += tl.dot(a, tl.trans(b), input_precision="ieee").to(tl.float64)
    lines = tl.arange(0, ROWS)
    out = partial + program * (ROWS * ROWS) + lines[:, None] * ROWS + lines[None, :]
    tl.store(out, products)


@triton.jit
def _tile(rows, row_stride, num_rows, base, first, end, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """(ROWS, BLOCK) from `base` on, zeros outside."""
    lanes = tl.arange(0, BLOCK)
    lines = tl.arange(0, ROWS)
    places = rows + base + lines[:, None].to(tl.int64) * row_stride + lanes[None, :]
    present = (lines < num_rows)[:, None]
    if (base >= first) & (base + BLOCK <= end):
        tile = tl.load(places, mask=present, other=0.0)
    else:
        inside = (base + lanes >= first) & (base + lanes < end)
        tile = tl.load(places, mask=present & inside[None, :], other=0.0)
    return tile

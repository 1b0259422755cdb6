"""Every operation over precisions, lengths and places in longer buffers, against float64.

Errors are RMS ratios, |got - expected| / |expected|.
"""

from __future__ import annotations

import os
from itertools import cycle

import pytest
import torch
from torch import Tensor

from metatlp.kernels import accumulate_delta_, apply_delta_, cosine_terms, gram, write_delta_

F32, BF16, F16, I64 = torch.float32, torch.bfloat16, torch.float16, torch.int64
INTERPRETED = "TRITON_INTERPRET" in os.environ
# Several blocks of a program. The interpreter takes its time, and its three programs have blocks of
# 2**17 elements; in a reduction of one row 2**18, of three 2**16, in `gram` 2**13.
LONG = 500_003 if INTERPRETED else 1_000_003
LONG_ROWS = {1: 1_000_003, 3: 300_007 if INTERPRETED else 1_000_003}
LONG_GRAM = dict.fromkeys(LONG_ROWS, 50_021 if INTERPRETED else 1_000_003)
SHORT = (0, 1, 63, 1024, 4097)
LENGTHS = (*SHORT, LONG)
REDUCED = 1e-5
# Rounding to the nearest is off by up to 2**-8 in bfloat16 and 2**-11 in float16.
TOLERANCE = {F32: 1e-6, BF16: 5e-3, F16: 1e-3, torch.float64: REDUCED}
# live and start
PARAMETERS = [(F32, F32), (BF16, F32), (BF16, BF16), (F16, F32), (F16, F16)]
# What must still be around the views: never what another vector has there.
AROUND = (3.0, 5.0, 7.0, 11.0, 13.0)


def name(value: object) -> str | None:
    """For ids: float32, bfloat16, ..."""
    if isinstance(value, tuple):
        return "-".join(str(dtype).removeprefix("torch.") for dtype in value)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else None


def places(length: int) -> list[tuple[int, ...]]:
    """Offsets of up to five vectors into their buffers.

    In the interpreter, whose launches take long, two of 0, 1, 7 and 16 alike: aligned and not.
    """
    unlike, alike = (1, 0, 7, 16, 3), (0, 7) if INTERPRETED else (0, 1, 7, 16)
    return [(7,) * 5] if length == LONG else [unlike, *((n,) * 5 for n in alike)]


class Views:
    """Vectors of one length that lie in longer buffers, whose other elements must stay."""

    def __init__(self, length: int, offsets: tuple[int, ...], device: torch.device):
        self.length, self.device = length, device
        self.free = iter(zip(offsets, AROUND, strict=True))
        self.made: list[tuple[Tensor, int, float]] = []

    def of(self, values: Tensor) -> Tensor:
        offset, around = next(self.free)
        size = offset + self.length + 5
        buffer = torch.full((size,), around, dtype=values.dtype, device=self.device)
        self.made.append((buffer, offset, around))
        view = buffer[offset : offset + self.length]
        return view.copy_(values)

    def unwritten(self, dtype: torch.dtype) -> Tensor:
        poison = -(2**63) if dtype == I64 else float("nan")
        return self.of(torch.full((self.length,), poison, dtype=dtype))

    def neighbours_are_untouched(self) -> bool:
        return all(
            bool((buffer[:offset] == around).all())
            and bool((buffer[offset + self.length :] == around).all())
            for buffer, offset, around in self.made
        )


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, expected: Tensor) -> bool:
    tolerance = TOLERANCE[got.dtype]
    if INTERPRETED and got.dtype == BF16 and len(got) == 1:
        tolerance = 8e-3  # cut off there, not rounded: off by up to 2**-7
    error = (got.cpu().double() - expected.cpu().double()).norm()
    return bool(error <= tolerance * expected.norm())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtypes", PARAMETERS, ids=name)
@pytest.mark.parametrize(
    ("operation", "kind"),
    [(accumulate_delta_, F32), *((write_delta_, kind) for kind in (F32, BF16, F16))],
    ids=["accumulate", "write-float32", "write-bfloat16", "write-float16"],
)
def test_delta(operation, kind, dtypes, length, device):
    for number, offsets in enumerate(places(length)):
        views, weight = Views(length, offsets, device), 1 / 3
        live, start = (views.of(normal(i, length).to(d)) for i, d in enumerate(dtypes))
        before = start.clone()
        expected = weight * (live.double() - start.double()).cpu()
        if operation is accumulate_delta_:
            total = views.of(normal(2, length))
            expected += total.cpu().double()
        else:
            total = views.unwritten(kind)
        working = None if number % 2 else views.unwritten(BF16)
        operation(total, live, start, weight, working=working)
        assert close(total, expected)
        assert torch.equal(start, before)
        assert close(live, before)
        assert working is None or close(working, before)
        assert views.neighbours_are_untouched()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtypes", PARAMETERS, ids=name)
@pytest.mark.parametrize("exponent", [6, 40])
@pytest.mark.parametrize("operation", [accumulate_delta_, write_delta_])
def test_delta_in_fixed_point_is_exact(operation, exponent, dtypes, length, device):
    """Parameters are multiples of 1/64, the weight is 1/4: integers tell what the total must be."""
    random = torch.Generator().manual_seed(length)
    ends, starts = torch.randint(-127, 128, (2, length), generator=random)
    change = divided(ends - starts, 4) if exponent == 6 else (ends - starts) << (exponent - 8)
    for offsets in places(length):
        views = Views(length, offsets, device)
        live, start = ((x / 64).to(d) for x, d in zip((ends, starts), dtypes, strict=True))
        live, start = views.of(live), views.of(start)
        if operation is accumulate_delta_:
            held = torch.randint(-(2**61), 2**61, (length,), generator=random)
        else:
            held = torch.zeros(length, dtype=I64)
        total = views.of(held) if operation is accumulate_delta_ else views.unwritten(I64)
        operation(total, live, start, 0.25, exponent)
        assert torch.equal(total.cpu(), held + change)
        assert torch.equal(live.double(), start.double())
        assert views.neighbours_are_untouched()


def divided(numbers: Tensor, by: int) -> Tensor:
    """Integers divided by an even one, halves to the even neighbour."""
    quotient, rest = numbers // by, numbers % by
    return quotient + ((2 * rest > by) | ((2 * rest == by) & (quotient % 2 == 1)))


OUTER = [("nesterov", 0.9), ("plain", 0.0), ("momentum", 0.9)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtypes", PARAMETERS, ids=name)
@pytest.mark.parametrize("kind", [F32, BF16, F16, I64], ids=name)
def test_apply(kind, dtypes, length, device):
    beta, exponent = 0.7, 40 if kind == I64 else None
    for offsets, (outer, momentum) in zip(places(length), cycle(OUTER), strict=False):
        views = Views(length, offsets, device)
        start = views.of(normal(0, length).to(dtypes[1]))
        live = views.unwritten(dtypes[0])
        held = normal(1, length) if exponent is None else normal(1, length) * 2.0**exponent
        total = views.of(held.to(kind))
        velocity = None if outer == "plain" else views.of(normal(2, length))
        working = None if outer == "momentum" else views.unwritten(BF16)

        step = total.cpu().double() * 2.0 ** -(exponent or 0)
        moved = step
        if velocity is not None:
            u = momentum * velocity.cpu().double() + step
            moved = step + momentum * u if outer == "nesterov" else u
        expected = start.cpu().double() + beta * moved
        apply_delta_(
            *(start, live, total, beta, exponent, velocity, momentum, outer == "nesterov", working)
        )
        assert close(start, expected)
        assert close(live, start)
        assert working is None or close(working, start)
        assert velocity is None or close(velocity, u)
        assert not total.any()
        assert views.neighbours_are_untouched()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("exponent", [None, 60])
def test_momentum_is_that_of_torch_sgd(exponent, nesterov, device):
    beta, momentum, kind = 0.8, 0.9, F32 if exponent is None else I64
    start = normal(0, 500).to(device)
    live, velocity = start.clone(), torch.zeros(500, device=device)
    total = torch.zeros(500, dtype=kind, device=device)
    theirs = torch.nn.Parameter(start.double())
    sgd = torch.optim.SGD([theirs], lr=beta, momentum=momentum, nesterov=nesterov)
    for seed in range(1, 6):
        live.copy_(start + normal(seed, 500).to(device) / 8)
        theirs.grad = -(live - start).double()
        accumulate_delta_(total, live, start, 1.0, exponent)
        apply_delta_(start, live, total, beta, exponent, velocity, momentum, nesterov)
        sgd.step()
    # Five steps of float32 roundings of numbers near 1.
    torch.testing.assert_close(start.double(), theirs.detach(), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("exponent", [None, 60])
def test_beta_zero_leaves_start_as_it_is(exponent, device):
    live, start = normal(0, 4097).to(device), normal(1, 4097).to(device) / 8
    before = start.clone()
    total = torch.zeros(4097, dtype=F32 if exponent is None else I64, device=device)
    live.mul_(1 / 8)
    accumulate_delta_(total, live, start, 1.0, exponent)
    apply_delta_(start, live, total, 0.0, exponent)
    assert torch.equal(start, before)
    assert torch.equal(live, before)
    assert not total.any()


def layouts(number: int, length: int) -> list[tuple[int, int, int]]:
    """Offset of the rows in a matrix, elements between them, offset of the one vector."""
    few = [(7, 6, 7), (1, 0, 0)]
    if number > 10 or length > max(SHORT):
        return few[: 1 if number > 10 else 2]
    more = [(0, -length % 16, 0), (0, 1, 0), (3, 5, 1)]
    return [*few, *more, *([] if INTERPRETED else [(1, 31, 1), (16, 3, 16)])]


def rows_in(values: Tensor, offset: int, gap: int, device: torch.device) -> Tensor:
    """Rows in a longer matrix that holds NaN around them."""
    number, length = values.shape
    matrix = values.new_full((number, offset + length + gap), float("nan"), device=device)
    return matrix[:, offset : offset + length].copy_(values)


def sizes(many: int, long: dict[int, int]) -> list[tuple[int, int]]:
    """Numbers of rows with lengths; many rows are not long."""
    return [
        *((n, length) for n in long for length in (*SHORT, long[n])),
        (many, 0),
        (many, 63),
        (many, 4097),
    ]


@pytest.mark.parametrize(("number", "length"), sizes(33, LONG_ROWS))
@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=name)
def test_cosine_terms(dtype, number, length, device):
    # Related to the one vector, so that a dot product is a sum and not only noise.
    b = normal(0, length)
    a = (normal(1, number, length) + b).to(dtype)
    b = b.to(dtype)
    exact, other = a.double(), b.double()
    for offset, gap, other_offset in layouts(number, length):
        rows = rows_in(a, offset, gap, device)
        vector = rows_in(b.unsqueeze(0), other_offset, 0, device)[0]
        terms = cosine_terms(rows, vector).cpu()
        assert terms.shape == (number, 3)
        lengths = exact.norm(dim=1) * other.norm()
        assert ((terms[:, 0] - exact @ other).abs() <= REDUCED * lengths).all()
        assert close(terms[:, 1], exact.square().sum(1))
        assert close(terms[:, 2], (other @ other).expand(number))
    assert torch.equal(cosine_terms(rows[0], vector).cpu(), cosine_terms(rows[:1], vector)[0].cpu())


@pytest.mark.parametrize(("number", "length"), sizes(66, LONG_GRAM))
@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=name)
def test_gram(dtype, number, length, device):
    values = (normal(0, number, length) + normal(1, length)).to(dtype)
    exact = values.double()
    norms = exact.norm(dim=1)
    for offset, gap, _ in layouts(number, length):
        products = gram(rows_in(values, offset, gap, device)).cpu()
        assert products.shape == (number, number)
        assert torch.equal(products, products.T)
        allowed = REDUCED * norms.unsqueeze(1) * norms
        assert ((products - exact @ exact.T).abs() <= allowed).all()

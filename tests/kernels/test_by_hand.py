"""The operations on numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metatlp.kernels import accumulate_delta_, apply_delta_, cosine_terms, gram, write_delta_

Make = Callable[..., Tensor]


@pytest.fixture(scope="session")
def floats(device) -> Make:
    return lambda *values: torch.tensor(values, dtype=torch.float32, device=device)


@pytest.fixture(scope="session")
def integers(device) -> Make:
    return lambda *values: torch.tensor(values, dtype=torch.int64, device=device)


def test_torch_empty_is_poisoned(device):
    """Without this the tests below would say less."""
    assert torch.empty(3, device=device).isnan().all()


def test_accumulate(floats):
    total, live, start = floats(1, 1, 1), floats(5, 2, -4), floats(1, 2, 4)
    accumulate_delta_(total, live, start, 0.25)
    assert total.tolist() == [2.0, 1.0, -1.0]
    assert live.tolist() == start.tolist() == [1.0, 2.0, 4.0]


def test_accumulate_in_fixed_point(floats, integers):
    total, live, start = integers(1, 1, 1), floats(5, 2, -4), floats(1, 2, 4)
    accumulate_delta_(total, live, start, 0.25, exponent=4)
    assert total.tolist() == [1 + 16, 1, 1 - 32]
    assert live.tolist() == [1.0, 2.0, 4.0]


def test_write_takes_no_notice_of_what_was_there(floats, integers):
    nan = float("nan")
    total, live, start = floats(nan, nan, nan), floats(5, 2, -4), floats(1, 2, 4)
    write_delta_(total, live, start, 0.25)
    assert total.tolist() == [1.0, 0.0, -2.0]
    assert live.tolist() == [1.0, 2.0, 4.0]
    total, live = integers(7, 7, 7), floats(5, 2, -4)
    write_delta_(total, live, start, 0.25, exponent=4)
    assert total.tolist() == [16, 0, -32]


def test_a_working_copy_follows(floats):
    live, working = floats(5, 2), floats(9, 9).bfloat16()
    start, total = floats(1, 2), floats(0, 0)
    accumulate_delta_(total, live, start, 1.0, working=working)
    assert working.tolist() == [1.0, 2.0]
    apply_delta_(start, live, total, 0.5, working=working)
    assert working.tolist() == live.tolist() == start.tolist() == [3.0, 2.0]


def test_low_precision_parameters_around_float32_starts(floats):
    total, live, start = floats(0, 0), floats(2, 4).bfloat16(), floats(1, 1 + 2**-12)
    accumulate_delta_(total, live, start, 1.0)
    assert total.tolist() == [1.0, 3 - 2**-12]
    assert live.tolist() == [1.0, 1.0]
    assert start.tolist() == [1.0, 1 + 2**-12]


@pytest.mark.parametrize("operation", [accumulate_delta_, write_delta_])
def test_halves_are_rounded_to_even(operation, floats, integers):
    live = floats(0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 0.75)
    total = integers(*[0] * 8)
    operation(total, live, floats(*[0] * 8), 1.0, exponent=0)
    assert total.tolist() == [0, 2, 2, 4, 0, -2, -2, 1]


def test_apply(floats):
    start, live, total = floats(1, 2), floats(9, 9), floats(4, -2)
    apply_delta_(start, live, total, 0.5)
    assert start.tolist() == live.tolist() == [3.0, 1.0]
    assert total.tolist() == [0.0, 0.0]


def test_apply_in_fixed_point(floats, integers):
    start, live, total = floats(1, 2), floats(9, 9), integers(64, -32)
    apply_delta_(start, live, total, 0.5, exponent=4)
    assert start.tolist() == live.tolist() == [3.0, 1.0]
    assert total.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("nesterov", "expected"),
    # Deltas 1 and 2, momentum 1/2, beta 1: u = 1, then 2.5; with nesterov the steps are
    # 1 + 1/2 and 2 + 1.25.
    [(False, [(1.0, 1.0), (3.5, 2.5)]), (True, [(1.5, 1.0), (4.75, 2.5)])],
)
def test_momentum(nesterov, expected, floats):
    start, live, velocity = floats(0), floats(0), floats(0)
    seen = []
    for step in (1.0, 2.0):
        outer = {"velocity": velocity, "momentum": 0.5, "nesterov": nesterov}
        apply_delta_(start, live, floats(step), 1.0, **outer)
        seen.append((start.item(), velocity.item()))
    assert seen == expected


def test_cosine_terms(floats):
    b = floats(1, 0, -1)
    assert cosine_terms(floats(1, 2, 3), b).tolist() == [-2.0, 14.0, 2.0]
    several = cosine_terms(floats([1, 2, 3], [0, 0, 0]), b)
    assert several.tolist() == [[-2.0, 14.0, 2.0], [0.0, 0.0, 2.0]]
    assert several.dtype == torch.float64
    assert several.device == b.device


def test_gram(floats):
    products = gram(floats([1, 2, 3], [1, 0, -1]))
    assert products.tolist() == [[14.0, -2.0], [-2.0, 2.0]]
    assert products.dtype == torch.float64
    assert gram(floats([3.0])).tolist() == [[9.0]]

"""64-bit fixed point: exact, in any order and grouping, and what does not fit is an error."""

from __future__ import annotations

import math
import os

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

from metatlp.kernels import FIXED_POINT_LIMIT, accumulate_delta_, apply_delta_, write_delta_

EXPONENT = 60  # differences of up to 4 fit
# Several blocks of every implementation: of 2**17 elements for three programs in the interpreter,
# which takes its time, and of 2**19 on the CPU.
LONG = 500_000 if "TRITON_INTERPRET" in os.environ else 1_200_000


def normal(length: int, seed: int, device: torch.device) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)).to(device)


def zeros(length: int, device: torch.device) -> Tensor:
    return torch.zeros(length, dtype=torch.int64, device=device)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    order=st.permutations(range(6)),
    groups=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    length=st.sampled_from([1, 5, 300]),
)
def test_sums_do_not_depend_on_order_or_grouping(device, seed, order, groups, length):
    start = normal(length, seed, device)
    ends = [start + normal(length, seed + i + 1, device) * 10.0 ** (-i) / 8 for i in range(6)]

    def add(total: Tensor, slot: int) -> None:
        accumulate_delta_(total, ends[slot].clone(), start, 1 / 6, EXPONENT)

    in_order, ranks = zeros(length, device), [zeros(length, device) for _ in range(3)]
    for slot in range(6):
        add(in_order, slot)
    for slot in order:
        add(ranks[groups[slot]], slot)
    assert torch.equal(in_order, ranks[2] + ranks[0] + ranks[1])


def test_float32_sums_do_depend_on_the_order(device):
    """Without this the test above would say nothing."""
    start = normal(300, 5, device)
    ends = [start + normal(300, i, device) * 10.0 ** (-i) / 4 for i in range(6)]
    totals = []
    for order in (range(6), reversed(range(6))):
        totals.append(torch.zeros(300, device=device))
        for slot in order:
            accumulate_delta_(totals[-1], ends[slot].clone(), start, 1 / 6)
    assert not torch.equal(*totals)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 4.1, -4.1])
@pytest.mark.parametrize("place", [0, LONG // 2, LONG - 1])
@pytest.mark.parametrize("operation", [accumulate_delta_, write_delta_])
def test_what_does_not_fit_is_an_error(operation, bad, place, device):
    live, start = torch.zeros(2, LONG, device=device)
    live[place] = bad
    with pytest.raises(OverflowError, match="does not fit 64-bit fixed point"):
        operation(zeros(LONG, device), live, start, 1e-3, EXPONENT)


def test_neighbours_that_do_not_fit_are_no_error(device):
    live, start = torch.zeros(2, 100, device=device)
    live[:3], live[97:] = math.nan, math.inf
    accumulate_delta_(zeros(94, device), live[3:97], start[3:97], 1.0, EXPONENT)


def test_in_floating_point_nothing_is_checked(device):
    live = torch.tensor([math.inf], device=device)
    total, start = torch.zeros(2, 1, device=device)
    accumulate_delta_(total, live, start, 1.0)
    assert total.tolist() == [math.inf]


def test_the_limit_itself_fits(device):
    limit = FIXED_POINT_LIMIT * 2.0**-EXPONENT
    total, live = zeros(2, device), torch.tensor([limit, -limit], device=device)
    accumulate_delta_(total, live, torch.zeros(2, device=device), 1.0, EXPONENT)
    assert total.tolist() == [2**62, -(2**62)]


@pytest.mark.parametrize("exponent", [-126, 126])
def test_the_widest_exponents(exponent, device):
    step = 2.0**-exponent  # one unit
    total, live = zeros(1, device), torch.tensor([3 * step], device=device)
    start = torch.zeros(1, device=device)
    accumulate_delta_(total, live, start, 1.0, exponent)
    assert total.tolist() == [3]
    apply_delta_(start, live, total, 1.0, exponent)
    assert start.tolist() == [3 * step]


@settings(max_examples=15, deadline=None)
@given(
    start_value=st.floats(-3.0, 3.0, width=32),
    step=st.floats(-0.5, 0.5, width=32),
)
@example(start_value=1.0, step=2.0**-24)
def test_one_slot_and_beta_one_end_where_the_slot_ended(device, start_value, step):
    start = torch.tensor([start_value], device=device)
    live = start + step
    end, total = live.clone(), zeros(1, device)
    accumulate_delta_(total, live, start, 1.0, EXPONENT)
    apply_delta_(start, live, total, 1.0, EXPONENT)
    # The difference is rounded to float32 once, and the sum once.
    torch.testing.assert_close(start, end, rtol=1.2e-7, atol=6e-8)

"""accumulate_delta_ and apply_delta_ against numbers worked out by hand and against float64."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings

from metatlp.kernels import FIXED_POINT_LIMIT, accumulate_delta_, apply_delta_

LENGTHS = (0, 1, 63, 1024, 4097, 1_000_003)
EXPONENT = 60  # differences of up to 4 fit


def floats(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def integers(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def vectors(length: int, seed: int = 0, offset: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """live and start, `offset` elements inside longer vectors."""
    random = torch.Generator().manual_seed(seed)
    start = torch.randn(offset + length, generator=random)
    live = start + 1e-3 * torch.randn(offset + length, generator=random)
    return live[offset:], start[offset:]


def zeros(length: int, exponent: int | None) -> torch.Tensor:
    return torch.zeros(length, dtype=torch.float32 if exponent is None else torch.int64)


def value(total: torch.Tensor, exponent: int | None) -> torch.Tensor:
    return total.double() * 2.0 ** -(exponent or 0)


def test_accumulate_by_hand():
    total, live, start = floats(1, 1, 1), floats(5, 2, -4), floats(1, 2, 4)
    accumulate_delta_(total, live, start, 0.25)
    assert total.tolist() == [2.0, 1.0, -1.0]
    assert live.tolist() == start.tolist() == [1.0, 2.0, 4.0]


def test_accumulate_in_fixed_point_by_hand():
    total, live, start = integers(1, 1, 1), floats(5, 2, -4), floats(1, 2, 4)
    accumulate_delta_(total, live, start, 0.25, exponent=4)
    assert total.tolist() == [1 + 16, 1, 1 - 32]
    assert live.tolist() == [1.0, 2.0, 4.0]


def test_halves_are_rounded_to_even():
    live = floats(0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 0.75)
    total = torch.zeros(8, dtype=torch.int64)
    accumulate_delta_(total, live, torch.zeros(8), 1.0, exponent=0)
    assert total.tolist() == [0, 2, 2, 4, 0, -2, -2, 1]


def test_apply_by_hand():
    start, live, total = floats(1, 2), floats(9, 9), floats(4, -2)
    apply_delta_(start, live, total, 0.5)
    assert start.tolist() == live.tolist() == [3.0, 1.0]
    assert total.tolist() == [0.0, 0.0]


def test_apply_in_fixed_point_by_hand():
    start, live, total = floats(1, 2), floats(9, 9), integers(64, -32)
    apply_delta_(start, live, total, 0.5, exponent=4)
    assert start.tolist() == live.tolist() == [3.0, 1.0]
    assert total.tolist() == [0, 0]


def test_momentum_by_hand():
    start, live, velocity = floats(0), floats(0), floats(0)
    seen = []
    for step in (1.0, 2.0):
        apply_delta_(start, live, floats(step), 1.0, velocity=velocity, momentum=0.5)
        seen.append((start.item(), velocity.item()))
    assert seen == [(1.0, 1.0), (3.5, 2.5)]


@pytest.mark.parametrize("offset", [0, 1, 7])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("exponent", [None, EXPONENT])
def test_slots_then_apply_against_float64(length, offset, exponent):
    total = zeros(length, exponent)
    expected = torch.zeros(length, dtype=torch.float64)
    _, start = vectors(length, offset=offset)
    for seed in (1, 2, 3):
        live = start + (vectors(length, seed)[0] - vectors(length, seed)[1])
        expected += (live - start).double() / 3
        accumulate_delta_(total, live, start, 1 / 3, exponent)
        assert torch.equal(live, start)
    # 1e-6 of the largest term: three float32 sums of terms that may cancel.
    largest = max(expected.abs().max().item(), 4e-3) if length else 1.0
    torch.testing.assert_close(value(total, exponent), expected, rtol=0, atol=1e-6 * largest)
    moved = start.double() + 0.7 * value(total, exponent)
    apply_delta_(start, live, total, 0.7, exponent)
    torch.testing.assert_close(start.double(), moved, rtol=1e-6, atol=1e-12)
    assert torch.equal(live, start)
    assert not total.any()


@pytest.mark.parametrize("exponent", [None, EXPONENT])
def test_neighbours_of_a_view_stay(exponent):
    total, live, start = zeros(10, exponent), torch.ones(10), torch.zeros(10)
    accumulate_delta_(total[3:7], live[3:7], start[3:7], 1.0, exponent)
    assert live.tolist() == [1.0] * 3 + [0.0] * 4 + [1.0] * 3
    assert value(total, exponent).tolist() == [0.0] * 3 + [1.0] * 4 + [0.0] * 3
    apply_delta_(start[4:6], live[4:6], total[4:6], 2.0, exponent)
    assert start.tolist() == [0.0] * 4 + [2.0] * 2 + [0.0] * 4


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    order=st.permutations(range(6)),
    groups=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    length=st.sampled_from([1, 5, 300]),
)
def test_fixed_point_does_not_depend_on_order_or_grouping(seed, order, groups, length):
    _, start = vectors(length, seed)
    ends = [start + vectors(length, seed + i + 1)[1] * 10.0 ** (-i) / 4 for i in range(6)]

    def add(total: torch.Tensor, slot: int) -> None:
        accumulate_delta_(total, ends[slot].clone(), start, 1 / 6, EXPONENT)

    in_order, ranks = zeros(length, EXPONENT), [zeros(length, EXPONENT) for _ in range(3)]
    for slot in range(6):
        add(in_order, slot)
    for slot in order:
        add(ranks[groups[slot]], slot)
    assert torch.equal(in_order, ranks[2] + ranks[0] + ranks[1])


def test_float32_sums_do_depend_on_the_order():
    """Without this the test above would say nothing."""
    _, start = vectors(300, 5)
    ends = [start + vectors(300, i)[1] * 10.0 ** (-i) / 4 for i in range(6)]
    totals = []
    for order in (range(6), reversed(range(6))):
        totals.append(torch.zeros(300))
        for slot in order:
            accumulate_delta_(totals[-1], ends[slot].clone(), start, 1 / 6)
    assert not torch.equal(*totals)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 4.1, -4.1])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_what_does_not_fit_is_an_error(bad, place):
    live = torch.zeros(1000)
    live[place] = bad
    with pytest.raises(OverflowError, match="does not fit 64-bit fixed point"):
        accumulate_delta_(zeros(1000, EXPONENT), live, torch.zeros(1000), 1e-3, EXPONENT)


def test_the_limit_itself_fits():
    limit = FIXED_POINT_LIMIT * 2.0**-EXPONENT
    total, live = zeros(2, EXPONENT), floats(limit, -limit)
    accumulate_delta_(total, live, torch.zeros(2), 1.0, EXPONENT)
    assert total.tolist() == [2**62, -(2**62)]


GOOD = {
    "total": torch.zeros(4),
    "live": torch.zeros(4),
    "start": torch.zeros(4),
    "exponent": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"exponent": 4},
        {"total": torch.zeros(4, dtype=torch.int64)},
        {"total": torch.zeros(4, dtype=torch.float64)},
        {"total": torch.zeros(4, dtype=torch.int32), "exponent": 4},
        {"live": torch.zeros(4, dtype=torch.bfloat16)},
        {"start": torch.zeros(4, dtype=torch.float64)},
        {"live": torch.zeros(5)},
        {"start": torch.zeros(1)},
        {"live": torch.zeros(2, 2)},
        {"total": torch.zeros(8)[::2]},
        {"start": torch.zeros(8)[::2]},
        {"live": torch.zeros(4, device="meta")},
    ],
    ids=lambda change: " ".join(f"{k}={getattr(v, 'dtype', v)}" for k, v in change.items()),
)
def test_vectors_that_do_not_fit_are_refused(change):
    wrong = GOOD | change
    total, live, start = wrong["total"], wrong["live"], wrong["start"]
    with pytest.raises(ValueError):
        accumulate_delta_(total, live, start, 1.0, wrong["exponent"])
    with pytest.raises(ValueError):
        apply_delta_(start, live, total, 1.0, wrong["exponent"])


def test_a_velocity_that_does_not_fit_is_refused():
    four = [torch.zeros(4) for _ in range(3)]
    with pytest.raises(ValueError):
        apply_delta_(*four, 1.0, velocity=torch.zeros(3), momentum=0.9)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("exponent", [None, EXPONENT])
def test_momentum_is_that_of_torch_sgd(exponent, nesterov):
    beta, momentum = 0.8, 0.9
    _, start = vectors(500)
    live, velocity, total = start.clone(), torch.zeros(500), zeros(500, exponent)
    theirs = torch.nn.Parameter(start.double())
    sgd = torch.optim.SGD([theirs], lr=beta, momentum=momentum, nesterov=nesterov)
    for seed in range(1, 6):
        delta = vectors(500, seed)[1] / 8
        live.copy_(start + delta)
        theirs.grad = -(live - start).double()
        accumulate_delta_(total, live, start, 1.0, exponent)
        apply_delta_(start, live, total, beta, exponent, velocity, momentum, nesterov)
        sgd.step()
    # Five steps of float32 roundings of numbers near 1.
    torch.testing.assert_close(start.double(), theirs.detach(), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("exponent", [None, EXPONENT])
def test_beta_zero_leaves_start_as_it_is(exponent):
    live, start = vectors(4097)
    before, total = start.clone(), zeros(4097, exponent)
    accumulate_delta_(total, live, start, 1.0, exponent)
    apply_delta_(start, live, total, 0.0, exponent)
    assert torch.equal(start, before)
    assert torch.equal(live, before)
    assert not total.any()


@settings(max_examples=30, deadline=None)
@given(st.floats(-3.0, 3.0, width=32), st.floats(-0.5, 0.5, width=32))
@example(1.0, 2.0**-24)
def test_one_slot_and_beta_one_end_where_the_slot_ended(start_value, step):
    start = floats(start_value)
    live = start + step
    end, total = live.clone(), zeros(1, EXPONENT)
    accumulate_delta_(total, live, start, 1.0, EXPONENT)
    apply_delta_(start, live, total, 1.0, EXPONENT)
    # The difference is rounded to float32 once, and the sum once.
    torch.testing.assert_close(start, end, rtol=1.2e-7, atol=6e-8)
